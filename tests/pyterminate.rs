//! What the tests of Python's `pyterminate` check, as scenarios of this crate: exit codes, a handler
//! that was there before, `exit_with_signal`, and what children of the clean-up inherit.

#![allow(unsafe_code, reason = "handlers that exit, a command run by the C library, and fork")]

mod support;

use std::time::Duration;

use handle_exit::{Builder, Ending, HandleExit, Signal, exit_with_signal};
use nix::libc;
use support::*;

const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::ABRT];

fn builder() -> Builder {
    HandleExit::builder().signals(SIGNALS).grace(Duration::ZERO)
}

fn signal_told() -> Signal {
    told()
}

/// Starts a scenario that is told a signal.
fn start(scenario: &str, signal: Signal) -> Victim {
    Victim::spawn(&format!("{scenario} {signal}"), victim_told(scenario, signal))
}

// ----------------------------------------------------------------------------------- exit codes

const ENDINGS: [Ending; 4] = [Ending::Signal, Ending::ShellCode, Ending::Code(0), Ending::Code(5)];

fn ends_as_told() {
    let guard = builder().ending(ENDINGS[told::<usize>()]).install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn the_exit_code_after_a_signal_is_what_ending_says() {
    for signal in SIGNALS {
        for (index, ending) in ENDINGS.into_iter().enumerate() {
            let name = format!("{signal} {ending:?}");
            let mut victim = Victim::spawn(&name, victim_told("ends_as_told", index));
            victim.expect("ready");
            victim.send(signal);
            let end = victim.end();
            end.said(&["ready", "callback", "deferred"]);
            match ending {
                Ending::Signal => end.died_by(signal),
                Ending::ShellCode => end.exited(128 + signal.as_raw()),
                Ending::Code(code) => end.exited(code),
                other => panic!("{other:?}"),
            };
        }
    }
}

fn exits_with_the_code_told() {
    let _guard = builder().install(|| say("callback")).unwrap();
    match told::<i32>() {
        0 => {}
        101 => panic!("on purpose"),
        code => std::process::exit(code),
    }
}

fn the_exit_code_without_a_signal_is_the_programs_own() {
    for code in [0, 1, 5, 101] {
        let victim = victim_told("exits_with_the_code_told", code);
        Victim::spawn("exits", victim).end().said(&["callback"]).exited(code);
    }
}

// ------------------------------------------------------------------------- a handler from before

extern "C" fn ends_with_66(_: libc::c_int) {
    say_in_handler("old handler\n");
    // SAFETY: async-signal-safe, ends the process.
    unsafe { libc::_exit(66) };
}

extern "C" fn exits_with_66(_: libc::c_int) {
    say_in_handler("old handler\n");
    // As a Python handler's `sys.exit`: the exit functions run. Not std's exit, which unmaps the main
    // thread's signal stack while that thread may still be in its handler.
    // SAFETY: the guard runs this handler on a thread that is inside nothing of the C library.
    unsafe { libc::exit(66) };
}

fn handler_that_ends_before() {
    install(signal_told(), ends_with_66);
    let _guard =
        builder().signals([signal_told()]).append(true).install(|| say("callback")).unwrap();
    ready_for_ever();
}

fn handler_that_exits_before() {
    install(signal_told(), exits_with_66);
    let guard =
        builder().signals([signal_told()]).append(true).install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn a_handler_registered_before_with_exit_code_66_wins() {
    for signal in SIGNALS {
        let mut victim = start("handler_that_ends_before", signal);
        victim.expect("ready");
        victim.send(signal);
        victim.end().said(&["ready", "callback", "old handler"]).exited(66);

        let mut victim = start("handler_that_exits_before", signal);
        victim.expect("ready");
        victim.send(signal);
        victim.end().said(&["ready", "callback", "old handler", "deferred"]).exited(66);
    }
}

// ---------------------------------------------------------------------------- exit_with_signal

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

fn exit_with_signal_ends_by_the_signal_normal_and_panicking() {
    for signal in SIGNALS {
        let end = start("by_signal", signal).end();
        end.said(&["body"]).died_by(signal);
        let end = start("by_signal_panicking", signal).end();
        end.said(&["body"]).died_by(signal);
        assert!(end.stderr.contains("of the body"), "{end:#?}");
    }
    // Also one that nobody can catch.
    start("by_signal", Signal::KILL).end().said(&["body"]).died_by(Signal::KILL);
}

fn exit_with_signal_runs_the_living_guard_as_the_signal_would() {
    for scenario in ["guarded_by_signal", "guarded_by_signal_panicking"] {
        for signal in SIGNALS {
            let victim = start(scenario, signal);
            let callback = format!(
                "callback: {signal} from process {} of user {}",
                victim.pid(),
                nix::unistd::getuid()
            );
            victim.end().said(&["body", &callback, "deferred"]).died_by(signal);
        }
    }
    // A signal that the guard does not have: it runs all the same, and the process dies of that.
    let end = start("guarded_by_signal", Signal::USR1).end();
    assert_eq!((end.lines.len(), &*end.lines[2]), (3, "deferred"), "{end:#?}");
    end.died_by(Signal::USR1);
}

fn exit_with_signal_leaves_the_word_to_a_handler_from_before() {
    for signal in SIGNALS {
        let end = start("guarded_by_signal_with_66", signal).end();
        end.said(&["body", "callback", "old handler"]).exited(66);
    }
}

fn exit_with_signal_does_not_hide_a_callback_that_failed() {
    for signal in SIGNALS {
        let end = start("guarded_by_signal_failing", signal).end();
        end.said(&["body", "deferred"]).exited(101);
    }
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

fn exit_with_signal_ends_a_forked_worker_without_the_masters_callback() {
    for signal in SIGNALS {
        let name = signal.to_string();
        let end = start("forks_a_worker", signal).end();
        end.said(&["worker", &name, "callback of the master"]).exited(0);
    }
}

// -------------------------------------------------------------------------------------- children

fn starts_a_command() {
    let _guard = HandleExit::cleanup(|| {
        // Rust's own Command would give it a clean mask whatever ours is; the C library does not.
        // SAFETY: a NUL-terminated command.
        unsafe { libc::system(c"grep -E 'Sig(Blk|Ign)' /proc/self/status".as_ptr()) };
    })
    .unwrap();
    ready_for_ever();
}

fn commands_of_the_clean_up_inherit_no_mask_and_no_ignore() {
    let victim = Victim::ready("starts_a_command");
    victim.send(Signal::TERM);
    let end = victim.end();
    let set_of = |name| {
        let line = end.lines.iter().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap_or_else(|| panic!("{name}: {end:#?}")).trim(), 16).unwrap()
    };
    for signal in [Signal::TERM, Signal::INT] {
        let bit = 1 << (signal.as_raw() - 1);
        assert_eq!((set_of("SigBlk:") & bit, set_of("SigIgn:") & bit), (0, 0), "{end:#?}");
    }
    end.died_by(Signal::TERM);
}

fn main() {
    support::main(
        all![
            ends_as_told,
            exits_with_the_code_told,
            handler_that_ends_before,
            handler_that_exits_before,
            by_signal,
            by_signal_panicking,
            guarded_by_signal,
            guarded_by_signal_panicking,
            guarded_by_signal_with_66,
            guarded_by_signal_failing,
            forks_a_worker,
            starts_a_command,
        ],
        all![
            the_exit_code_after_a_signal_is_what_ending_says,
            the_exit_code_without_a_signal_is_the_programs_own,
            a_handler_registered_before_with_exit_code_66_wins,
            exit_with_signal_ends_by_the_signal_normal_and_panicking,
            exit_with_signal_runs_the_living_guard_as_the_signal_would,
            exit_with_signal_leaves_the_word_to_a_handler_from_before,
            exit_with_signal_does_not_hide_a_callback_that_failed,
            exit_with_signal_ends_a_forked_worker_without_the_masters_callback,
            commands_of_the_clean_up_inherit_no_mask_and_no_ignore,
        ],
    );
}
