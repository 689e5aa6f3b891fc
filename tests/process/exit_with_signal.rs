//! `exit_with_signal`: without a guard, with one, and in a worker that its process forked.

#![allow(unsafe_code, reason = "a handler that exits, and fork")]

use std::time::Duration;

use handle_exit::{Builder, HandleExit, Signal, exit_with_signal};
use nix::libc;

use crate::support::*;

const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::ABRT];

fn builder() -> Builder {
    HandleExit::builder().signals(SIGNALS).grace(Duration::ZERO)
}

fn signal_told() -> Signal {
    told()
}

extern "C" fn ends_with_66(_: libc::c_int) {
    say_in_handler("old handler\n");
    // SAFETY: async-signal-safe, ends the process.
    unsafe { libc::_exit(66) };
}

fn by_signal() {
    exit_with_signal(signal_told(), || say("body"));
}

fn by_signal_panicking() {
    exit_with_signal(signal_told(), || {
        say("body");
        panic!("of the body");
    });
}

fn guarded_by_signal() {
    let guard = builder().install_with(|cause| say(format!("callback: {cause}"))).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    exit_with_signal(signal_told(), || say("body"));
}

fn guarded_by_signal_panicking() {
    let guard = builder()
        .grace(Duration::MAX)
        .install_with(|cause| say(format!("callback: {cause}")))
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    exit_with_signal(signal_told(), || {
        say("body");
        panic!("of the body");
    });
}

fn guarded_by_signal_with_66() {
    install(signal_told(), ends_with_66);
    let builder = builder().signals([signal_told()]).append(true);
    let _guard = builder.install(|| say("callback")).unwrap();
    exit_with_signal(signal_told(), || say("body"));
}

fn guarded_by_signal_failing() {
    let guard = builder().install(|| panic!("of the callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    exit_with_signal(signal_told(), || say("body"));
}

fn it_ends_by_the_signal_normal_and_panicking() {
    for signal in SIGNALS {
        let end = Victim::start(by_signal.told(signal)).end();
        end.said(&["body"]).died_by(signal);
        let end = Victim::start(by_signal_panicking.told(signal)).end();
        end.said(&["body"]).died_by(signal);
        assert!(end.stderr.contains("of the body"), "{end:#?}");
    }
    // Also one that nobody can catch.
    Victim::start(by_signal.told(Signal::KILL)).end().said(&["body"]).died_by(Signal::KILL);
}

fn it_runs_the_living_guard_as_the_signal_would() {
    for scenario in scenarios![guarded_by_signal, guarded_by_signal_panicking] {
        for signal in SIGNALS {
            let victim = Victim::start(scenario.told(signal));
            let callback = format!(
                "callback: {signal} from process {} of user {}",
                victim.pid(),
                nix::unistd::getuid()
            );
            victim.end().said(&["body", &callback, "deferred"]).died_by(signal);
        }
    }
    // A signal that the guard does not have: it runs all the same, and the process dies of that.
    let end = Victim::start(guarded_by_signal.told(Signal::USR1)).end();
    assert_eq!((end.lines.len(), &*end.lines[2]), (3, "deferred"), "{end:#?}");
    end.died_by(Signal::USR1);
}

fn it_leaves_the_word_to_a_handler_from_before() {
    for signal in SIGNALS {
        let end = Victim::start(guarded_by_signal_with_66.told(signal)).end();
        end.said(&["body", "callback", "old handler"]).exited(66);
    }
}

fn it_does_not_hide_a_callback_that_failed() {
    for signal in SIGNALS {
        let end = Victim::start(guarded_by_signal_failing.told(signal)).end();
        end.said(&["body", "deferred"]).exited(101);
    }
}

extern "C" fn held_exit_function() {
    say("exit function");
    hear();
}

/// While main is in `exit`, and what comes after the guard's part of that is held.
fn while_the_process_exits() {
    at_exit(held_exit_function);
    let guard = builder().install(|| say("callback")).unwrap();
    guard.defer(held_callback).unwrap();
    guard.keep();
    std::thread::spawn(|| {
        until_held();
        exit_with_signal(signal_told(), || say("body"));
    });
    std::process::exit(3);
}

fn it_leaves_a_process_that_exits_its_code() {
    let mut victim = Victim::start(while_the_process_exits.told(Signal::TERM));
    victim.expect("body");
    victim.at_rest();
    victim.tell("go on");
    victim.expect("exit function");
    victim.at_rest();
    victim.tell("go on");
    let lines = ["callback", "callback begins", "body", "callback ends", "exit function"];
    victim.end().said(&lines).exited(3);
}

/// A pre-forked worker: its way out is `_exit`, past every exit hook.
fn forks_a_worker() {
    let _guard = builder().install(|| say("callback of the master")).unwrap();
    // SAFETY: the child runs on with one thread, which uses nothing another thread may have locked.
    let worker = unsafe { libc::fork() };
    if worker == 0 {
        exit_with_signal(signal_told(), || say("worker"));
    }
    let mut status = 0;
    // SAFETY: waits for the child; `status` is valid for a write.
    assert_eq!(unsafe { libc::waitpid(worker, &raw mut status, 0) }, worker);
    assert!(libc::WIFSIGNALED(status), "{status:#x}");
    say(Signal::from_raw(libc::WTERMSIG(status)).unwrap());
}

fn it_ends_a_forked_worker_without_the_masters_callback() {
    for signal in SIGNALS {
        let name = signal.to_string();
        let end = Victim::start(forks_a_worker.told(signal)).end();
        end.said(&["worker", &name, "callback of the master"]).exited(0);
    }
}

pub(crate) const TESTS: &[Named] = tests![
    it_ends_by_the_signal_normal_and_panicking,
    it_runs_the_living_guard_as_the_signal_would,
    it_leaves_the_word_to_a_handler_from_before,
    it_does_not_hide_a_callback_that_failed,
    it_leaves_a_process_that_exits_its_code,
    it_ends_a_forked_worker_without_the_masters_callback,
];
