//! Signals that are no exit: `Builder::on`.

#![allow(unsafe_code, reason = "reads a constant of the C library")]

use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::*;
use handle_exit::{AfterScope, Builder, Error, Event, Exit, HandleExit, Ignored, Received, Signal};
use nix::libc;

fn reloads(received: &Received) {
    say(format!("reload on {}: {}", thread_name(), received.signal()));
}

const RELOAD: &str = "reload on handle-exit: SIGHUP";

/// HUP reloads; nothing limits the scope.
fn reloading() -> Builder {
    HandleExit::builder().grace(Duration::MAX).on(Signal::HUP, reloads)
}

fn callback() {
    say("callback");
}

/// Ready for signals under this guard, which ends when the test says so.
fn until_told(guard: HandleExit) {
    say("ready");
    hear();
    assert!(!guard.is_exiting());
    assert_eq!(guard.cause(), None);
    drop(guard);
    say("behind");
}

/// Sends HUP, and waits for what it has the victim say.
fn hup(victim: &mut Victim, lines: &[&str]) {
    victim.send(Signal::HUP);
    for line in lines {
        assert_eq!(victim.next_line().as_deref(), Some(*line));
    }
    victim.at_rest();
}

// ------------------------------------------------------------------------------------------ it is no exit

fn reloads_and_ends() {
    let before = all_dispositions();
    until_told(reloading().install(callback).unwrap());
    assert_eq!(all_dispositions(), before);
}

fn reloads_and_is_signalled() {
    let _guard = reloading().grace(Duration::ZERO).install(callback).unwrap();
    ready_for_ever();
}

fn it_runs_on_the_watcher_each_time_and_begins_no_exit() {
    let mut victim = Victim::ready(reloads_and_ends);
    for _ in 0..5 {
        hup(&mut victim, &[RELOAD]);
    }
    victim.tell("go on");
    let lines = ["ready", RELOAD, RELOAD, RELOAD, RELOAD, RELOAD, "callback", "behind"];
    victim.end().said(&lines).exited(0);

    let mut victim = Victim::ready(reloads_and_is_signalled);
    hup(&mut victim, &[RELOAD]);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", RELOAD, "callback"]).died_by(Signal::TERM);
}

fn says_who_sent() {
    let says = |received: &Received| match received.sender() {
        Some(sender) => say(format!("{} {} {}", received.signal(), sender.pid, sender.uid)),
        None => say("nobody"),
    };
    until_told(HandleExit::builder().on(Signal::HUP, says).install(callback).unwrap());
}

fn it_is_told_who_sent_the_signal() {
    let mut victim = Victim::ready(says_who_sent);
    let us = format!("SIGHUP {} {}", std::process::id(), nix::unistd::getuid());
    hup(&mut victim, &[&us]);
    victim.tell("go on");
    victim.end().exited(0);
}

fn held_reload() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let held = |_: &Received| {
        if CALLS.fetch_add(1, SeqCst) == 0 {
            held_callback();
        } else {
            say("again");
        }
    };
    let guard = HandleExit::builder().on(Signal::HUP, held).install(callback).unwrap();
    say("ready");
    // Only one of the two reads what the test says.
    until_let_go();
    hear();
    assert!(!guard.is_exiting());
}

/// As the kernel merges: what comes while the function runs is one more call at least.
fn signals_that_come_while_it_runs_are_merged_and_not_lost() {
    let mut victim = Victim::ready(held_reload);
    victim.send(Signal::HUP);
    victim.expect("callback begins");
    for _ in 0..5 {
        victim.send(Signal::HUP);
    }
    victim.at_rest();
    victim.tell("go on");
    victim.expect("again");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    end.exited(0);
    assert!((1..=5).contains(&end.count("again")), "{end:#?}");
}

/// Not in rapid succession: each one is a call.
fn no_signal_is_lost_after_a_hundred() {
    let mut victim = Victim::ready(reloads_and_ends);
    for _ in 0..100 {
        victim.send(Signal::HUP);
        victim.expect(RELOAD);
    }
    victim.tell("go on");
    let end = victim.end();
    end.exited(0);
    assert_eq!(end.count(RELOAD), 100);
}

fn panics_the_first_time() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let panics = |received: &Received| {
        assert!(CALLS.fetch_add(1, SeqCst) > 0, "on purpose");
        reloads(received);
    };
    until_told(HandleExit::builder().on(Signal::HUP, panics).install(callback).unwrap());
}

fn a_panic_in_it_is_contained() {
    let mut victim = Victim::ready(panics_the_first_time);
    hup(&mut victim, &[]);
    hup(&mut victim, &[RELOAD]);
    victim.tell("go on");
    let end = victim.end();
    end.said(&["ready", RELOAD, "callback", "behind"]).exited(0);
    assert!(end.stderr.contains("on purpose"), "{end:#?}");
}

// ---------------------------------------------------------------------------------------- what stops it

fn waits_when_exiting() {
    let guard = reloading().install(held_callback).unwrap();
    say("ready");
    until_let_go();
    hear();
    drop(guard);
    assert!(is_default(Signal::HUP));
    say("behind");
}

fn an_exit_that_has_begun_stops_it() {
    let mut victim = Victim::ready(waits_when_exiting);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    // Both while the callback runs and after it. It ends nothing either: it is not at its default.
    hup(&mut victim, &[]);
    victim.tell("go on");
    victim.expect("callback ends");
    hup(&mut victim, &[]);
    victim.tell("go on");
    let end = victim.end();
    end.said(&["ready", "callback begins", "callback ends", "behind"]).exited(0);
}

fn requests_an_exit() {
    let (asks, asked) = channel();
    let ask = move |received: &Received| {
        reloads(received);
        asks.send(()).unwrap();
    };
    let guard = HandleExit::builder().on(Signal::HUP, ask).install(callback).unwrap();
    say("ready");
    asked.recv_timeout(DEADLINE).unwrap();
    guard.request();
    guard.wait();
    hear();
    drop(guard);
    say("behind");
}

fn a_request_stops_it() {
    let mut victim = Victim::ready(requests_an_exit);
    hup(&mut victim, &[RELOAD, "callback"]);
    hup(&mut victim, &[]);
    victim.tell("go on");
    victim.end().said(&["ready", RELOAD, "callback", "behind"]).exited(0);
}

/// A pending one, and the end of the scope: it is the disposition's from before, and never lost.
fn comes_while_the_scope_ends() {
    install_old(Signal::HUP);
    let guard = HandleExit::builder().append(true).on(Signal::HUP, reloads);
    let guard = guard.install(callback).unwrap();
    guard.defer(|| raise(Signal::HUP)).unwrap();
    drop(guard);
    say("behind");
}

fn one_that_comes_while_the_scope_ends_is_the_old_handlers() {
    ends_well(comes_while_the_scope_ends, &["callback", "old", "behind"]);
}

/// The watcher is busy with the first until the scope ends.
fn unheard_when_the_scope_ends() {
    let appends = told::<bool>();
    if appends {
        install_old(Signal::HUP);
    }
    let (has_begun, begun) = channel();
    let (ends, may_end) = channel();
    let may_end = Mutex::new(may_end);
    let busy = move |received: &Received| {
        reloads(received);
        has_begun.send(()).unwrap();
        may_end.lock().unwrap().recv().unwrap();
    };
    let builder = HandleExit::builder().append(appends).on(Signal::HUP, busy);
    let guard = builder.on(Signal::USR1, reloads).install(move || {
        callback();
        ends.send(()).unwrap();
    });
    let guard = guard.unwrap();
    raise(Signal::HUP);
    begun.recv().unwrap();
    raise(Signal::HUP);
    raise(Signal::USR1);
    drop(guard);
    say("behind");
}

/// It came while the guard was there: it is no wish to end.
fn one_that_nobody_heard_when_the_scope_ends_does_not_end_the_process() {
    ends_well(unheard_when_the_scope_ends.told(false), &[RELOAD, "callback", "behind"]);
    let lines = [RELOAD, "callback", "old", "old", "behind"];
    ends_well(unheard_when_the_scope_ends.told(true), &lines);
}

// ------------------------------------------------------------------------------------------- who was there

fn over_an_old_handler() {
    install_old(Signal::HUP);
    let before = all_dispositions();
    match reloading().install(callback) {
        Err(Error::HandlerExists { signal, .. }) => say(format!("refused: {signal}")),
        other => panic!("{other:?}"),
    }
    assert_eq!(all_dispositions(), before);
    assert!(Exit::current().is_none());
    until_told(reloading().append(true).install(callback).unwrap());
    assert_eq!(all_dispositions(), before);
}

fn a_handler_that_is_there_is_refused_or_called_after_it_each_time() {
    let mut victim = Victim::start(over_an_old_handler);
    victim.expect("ready");
    for _ in 0..3 {
        hup(&mut victim, &[RELOAD, "old"]);
    }
    victim.tell("go on");
    let calls = [RELOAD, "old"].repeat(3);
    let lines = [&["refused: SIGHUP", "ready"][..], &calls, &["callback", "behind"]].concat();
    victim.end().said(&lines).exited(0);
}

fn ignored_is_kept() {
    install_exactly(Signal::HUP, libc::SIG_IGN, 0, &[Signal::USR1]);
    let before = disposition(Signal::HUP);
    let guard = reloading().install(callback).unwrap();
    assert_eq!(disposition(Signal::HUP), before);
    until_told(guard);
    assert_eq!(disposition(Signal::HUP), before);
}

fn ignored_is_guarded() {
    install_exactly(Signal::HUP, libc::SIG_IGN, 0, &[Signal::USR1]);
    let before = disposition(Signal::HUP);
    until_told(reloading().ignored(Ignored::Guard).install(callback).unwrap());
    assert_eq!(disposition(Signal::HUP), before);
}

fn an_ignored_signal_stays_ignored_unless_it_is_to_be_guarded() {
    let mut victim = Victim::ready(ignored_is_kept);
    hup(&mut victim, &[]);
    victim.tell("go on");
    victim.end().said(&["ready", "callback", "behind"]).exited(0);

    let mut victim = Victim::ready(ignored_is_guarded);
    hup(&mut victim, &[RELOAD]);
    hup(&mut victim, &[RELOAD]);
    victim.tell("go on");
    victim.end().said(&["ready", RELOAD, RELOAD, "callback", "behind"]).exited(0);
}

fn every_end_puts_everything_back() {
    install_exactly(Signal::HUP, libc::SIG_DFL, libc::SA_RESTART, &[Signal::USR1]);
    let (before, threads_before) = (all_dispositions(), threads());
    let ends: [fn(HandleExit); 4] = [
        drop,
        |guard| drop(guard.finish()),
        |guard| assert!(guard.disarm()),
        |guard| {
            let unwinds = AssertUnwindSafe(move || {
                let _guard = guard;
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            std::panic::catch_unwind(unwinds).unwrap_err();
        },
    ];
    for end in ends {
        let captured = std::sync::Arc::new(());
        let held = std::sync::Arc::clone(&captured);
        let builder = HandleExit::builder().on(Signal::HUP, move |_| drop(held.clone()));
        let guard = builder.on(Signal::CHLD, |_| {}).install(|| {}).unwrap();
        assert!(!is_default(Signal::HUP) && !is_default(Signal::CHLD));
        end(guard);
        assert_eq!(all_dispositions(), before);
        // One that was joined may be listed for a moment longer.
        until("the threads are as before", || threads() == threads_before);
        // What the function captured is freed.
        assert_eq!(std::sync::Arc::strong_count(&captured), 1);
    }
}

// ------------------------------------------------------------------------------------ signals that are taken

fn hears_of_children() {
    let builder = HandleExit::builder().on(Signal::CHLD, reloads).on(Signal::WINCH, reloads);
    let guard = builder.install(callback).unwrap();
    Command::new("true").spawn().unwrap().wait().unwrap();
    until_told(guard);
    assert!(is_default(Signal::CHLD) && is_default(Signal::WINCH));
}

fn signals_whose_default_ends_no_process_are_taken() {
    let mut victim = Victim::start(hears_of_children);
    victim.expect_both("reload on handle-exit: SIGCHLD", "ready");
    victim.send(Signal::WINCH);
    victim.expect("reload on handle-exit: SIGWINCH");
    victim.at_rest();
    victim.tell("go on");
    victim.end().exited(0);
}

fn what_nobody_can_take_is_refused() {
    let before = all_dispositions();
    let faults = [Signal::SEGV, Signal::BUS, Signal::FPE, Signal::ILL, Signal::TRAP, Signal::SYS];
    for signal in [Signal::KILL, Signal::STOP].into_iter().chain(faults) {
        match HandleExit::builder().on(signal, |_| {}).install(|| {}) {
            Err(Error::Unguardable { signal: refused, reason, .. }) => {
                assert_eq!(refused, signal);
                assert!(!reason.is_empty());
            }
            other => panic!("{signal}: {other:?}"),
        }
        assert_eq!(all_dispositions(), before);
    }
    // What ends no process is for `on` only.
    for signal in [Signal::CHLD, Signal::WINCH, Signal::URG, Signal::CONT] {
        let guarded = HandleExit::builder().signals([signal]).install(|| {});
        assert!(matches!(guarded, Err(Error::Unguardable { .. })), "{signal}");
        drop(HandleExit::builder().on(signal, |_| {}).install(|| {}).unwrap());
    }
    // Those that end no process may be named among the guarded ones too, if they have a function.
    let also = HandleExit::builder().also([Signal::CHLD]).on(Signal::CHLD, |_| {}).install(|| {});
    drop(also.unwrap());
    let also = HandleExit::builder().also([Signal::CHLD]).on(Signal::WINCH, |_| {}).install(|| {});
    assert!(matches!(also, Err(Error::Unguardable { signal: Signal::CHLD, .. })));
    // No signal has to end the process, but some signal has to be heard.
    drop(HandleExit::builder().signals([]).on(Signal::HUP, |_| {}).install(|| {}).unwrap());
    assert!(matches!(HandleExit::builder().signals([]).install(|| {}), Err(Error::NoSignals)));
    assert_eq!(all_dispositions(), before);
}

fn named_in_both() {
    let all = [Signal::TERM, Signal::HUP];
    until_told(reloading().signals(all).install(callback).unwrap());
}

fn a_signal_that_is_named_in_both_is_no_exit() {
    let mut victim = Victim::ready(named_in_both);
    hup(&mut victim, &[RELOAD]);
    victim.tell("go on");
    victim.end().said(&["ready", RELOAD, "callback", "behind"]).exited(0);
}

/// The only signal is one for a function: the callback is for the end of the scope and of the process.
fn only_signal_has_a_function() {
    let says = |received: &Received| say(format!("function: {}", received.signal()));
    let builder = HandleExit::builder().signals([Signal::TERM]).on(Signal::TERM, says);
    let guard = builder.install(callback).unwrap();
    assert!(is_default(Signal::INT));
    until_told(guard);
    assert!(is_default(Signal::TERM));
}

fn a_guard_whose_only_signal_has_a_function_is_ended_by_none() {
    let mut victim = Victim::ready(only_signal_has_a_function);
    for _ in 0..3 {
        victim.send(Signal::TERM);
        victim.expect("function: SIGTERM");
        victim.at_rest();
    }
    victim.tell("go on");
    let heard = "function: SIGTERM";
    victim.end().said(&["ready", heard, heard, heard, "callback", "behind"]).exited(0);
}

/// What the old disposition of CHLD says of children: stopped ones are not told of, and nobody has to wait for those
/// that have ended.
const OF_CHILDREN: libc::c_int = libc::SA_NOCLDWAIT | libc::SA_NOCLDSTOP;

fn nobody_waits_for_children() {
    let old = if told() { says_old as *const () as usize } else { libc::SIG_DFL };
    install_exactly(Signal::CHLD, old, OF_CHILDREN, &[Signal::USR1]);
    let before = disposition(Signal::CHLD);
    let guard = HandleExit::builder().append(true).on(Signal::CHLD, reloads).install(callback);
    let guard = guard.unwrap();
    assert_eq!(disposition(Signal::CHLD).1 & OF_CHILDREN, OF_CHILDREN, "they are not kept");
    // SAFETY: the child makes one system call.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child and nothing else.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: no status is asked for. It waits until the child is gone, and finds none that it could be told of.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, -1, "it was a zombie");
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ECHILD));
    say("ready");
    hear();
    drop(guard);
    assert_eq!(disposition(Signal::CHLD), before);
}

/// Who guards a signal keeps what its old flags say of children.
fn the_old_flags_that_speak_of_children_are_kept() {
    for has_old_handler in [true, false] {
        let mut victim = Victim::start(nobody_waits_for_children.told(has_old_handler));
        victim.expect_both("reload on handle-exit: SIGCHLD", "ready");
        victim.at_rest();
        victim.tell("go on");
        let end = victim.end();
        end.exited(0).ended_with("callback");
        assert_eq!(end.count("old"), usize::from(has_old_handler), "{end:#?}");
    }
}

// ------------------------------------------------------------------------------------------ several guards

fn two_that_reload() {
    let says = |line: &'static str| move |_: &Received| say(line);
    let builder = || HandleExit::builder().append(true).grace(Duration::MAX);
    let outer = builder().on(Signal::HUP, says("outer")).install(|| {}).unwrap();
    let inner = builder().on(Signal::HUP, says("inner")).install(|| {}).unwrap();
    say("ready");
    hear();
    drop(inner);
    say("one left");
    hear();
    assert!(!outer.is_exiting());
    drop(outer);
    assert!(is_default(Signal::HUP));
}

fn each_guard_has_a_function_of_its_own() {
    let mut victim = Victim::ready(two_that_reload);
    hup(&mut victim, &["inner", "outer"]);
    hup(&mut victim, &["inner", "outer"]);
    victim.tell("go on");
    victim.expect("one left");
    hup(&mut victim, &["outer"]);
    victim.tell("go on");
    victim.end().exited(0);
}

fn one_begins_the_exit_of_the_other() {
    let builder = || HandleExit::builder().append(true).grace(Duration::MAX);
    let outer = builder().on(Signal::HUP, |_| say("never")).install(callback).unwrap();
    let handle = outer.handle();
    let requests = move |_: &Received| {
        handle.request();
        say("requested");
    };
    let inner = builder().on(Signal::HUP, requests).install(|| {}).unwrap();
    say("ready");
    hear();
    assert!(outer.is_exiting() && !inner.is_exiting());
}

/// The newest guard's function comes first, and what it begins stops the function of the other.
fn an_exit_that_another_function_begins_stops_it_too() {
    let mut victim = Victim::ready(one_begins_the_exit_of_the_other);
    hup(&mut victim, &["requested", "callback"]);
    victim.tell("go on");
    victim.end().said(&["ready", "requested", "callback"]).exited(0);
}

/// HUP is an exit to the one, and none to the other; `outer_exits` says to which.
fn an_exit_to_one(outer_exits: bool) {
    let builder = || {
        let guest = HandleExit::builder().append(true).grace(Duration::MAX);
        guest.after_scope(AfterScope::Continue)
    };
    let exits = || builder().signals([Signal::HUP]);
    let hears = || builder().on(Signal::HUP, reloads);
    let callback = |name: &'static str| move || say(format!("{name}'s callback"));
    let outer = if outer_exits { exits() } else { hears() }.install(callback("outer")).unwrap();
    let inner = if outer_exits { hears() } else { exits() }.install(callback("inner")).unwrap();
    say("ready");
    hear();
    assert_eq!((outer.is_exiting(), inner.is_exiting()), (outer_exits, !outer_exits));
    drop(inner);
    drop(outer);
    assert!(is_default(Signal::HUP));
}

fn an_exit_to_the_outer() {
    an_exit_to_one(true);
}

fn an_exit_to_the_inner() {
    an_exit_to_one(false);
}

fn a_signal_may_be_an_exit_to_one_guard_and_none_to_another() {
    for (scenario, exits, hears) in [
        (Scenario::of(an_exit_to_the_outer), "outer's callback", "inner's callback"),
        (Scenario::of(an_exit_to_the_inner), "inner's callback", "outer's callback"),
    ] {
        let mut victim = Victim::ready(scenario);
        victim.send(Signal::HUP);
        victim.expect_both(exits, RELOAD);
        victim.at_rest();
        victim.tell("go on");
        let end = victim.end();
        assert_eq!(end.lines[3..], [hears], "{end:#?}");
        end.exited(0);
    }
}

// ------------------------------------------------------------------------------------------ what it may do

static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);

fn requested_in_it() {
    let ask = |received: &Received| {
        reloads(received);
        Exit::current().unwrap().request();
    };
    let guard = HandleExit::builder().on(Signal::HUP, ask).install(callback).unwrap();
    say("ready");
    guard.wait();
    drop(guard);
    say("behind");
}

fn dropped_in_it() {
    let (says, dropped) = channel();
    let quit = move |received: &Received| {
        reloads(received);
        drop(GUARD.lock().unwrap().take());
        says.send(()).unwrap();
    };
    let guard = HandleExit::builder().on(Signal::HUP, quit).install(callback).unwrap();
    let handle = guard.handle();
    *GUARD.lock().unwrap() = Some(guard);
    say("ready");
    handle.wait();
    dropped.recv_timeout(DEADLINE).unwrap();
    until("everything is put back", || {
        [Signal::TERM, Signal::INT, Signal::HUP].into_iter().all(is_default)
            && Exit::current().is_none()
    });
    say("put back");
}

fn exited_in_it() {
    let quit = |received: &Received| {
        reloads(received);
        std::process::exit(3);
    };
    let _guard = HandleExit::builder().on(Signal::HUP, quit).install(callback).unwrap();
    ready_for_ever();
}

fn it_may_end_the_guard_and_the_process() {
    let victim = Victim::ready(requested_in_it);
    victim.send(Signal::HUP);
    victim.end().said(&["ready", RELOAD, "callback", "behind"]).exited(0);

    let victim = Victim::ready(exited_in_it);
    victim.send(Signal::HUP);
    victim.end().said(&["ready", RELOAD, "callback"]).exited(3);

    let victim = Victim::ready(dropped_in_it);
    victim.send(Signal::HUP);
    victim.end().said(&["ready", RELOAD, "callback", "put back"]).exited(0);
}

fn observed() {
    let observe = |event: &Event| match event {
        Event::SignalReceived(received) => say(format!("received {}", received.signal())),
        Event::OldHandlerRun(signal) => say(format!("old handler of {signal}")),
        other => say(other),
    };
    install_old(Signal::HUP);
    let guard = reloading().append(true).observe(observe).install(|| {}).unwrap();
    say("ready");
    hear();
    assert!(guard.disarm());
}

fn an_observer_hears_of_it() {
    let mut victim = Victim::ready(observed);
    for _ in 0..2 {
        hup(&mut victim, &["received SIGHUP", RELOAD, "old", "old handler of SIGHUP"]);
    }
    victim.tell("go on");
    victim.end().exited(0);
}

fn forks() {
    let guard = reloading().install(callback).unwrap();
    // SAFETY: the child makes one system call and waits for its end.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: no memory is involved; ALRM ends a child that hangs.
        unsafe {
            libc::alarm(60);
            loop {
                libc::pause();
            }
        }
    }
    kill(child, Signal::HUP);
    let mut status = 0;
    // SAFETY: waits for the child of this process; `status` is valid for a write.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(libc::WTERMSIG(status), libc::SIGHUP);
    assert!(!guard.is_exiting());
}

fn a_forked_child_dies_of_it() {
    ends_well(forks, &["callback"]);
}

pub(crate) const TESTS: &[Named] = tests![
    it_runs_on_the_watcher_each_time_and_begins_no_exit,
    it_is_told_who_sent_the_signal,
    signals_that_come_while_it_runs_are_merged_and_not_lost,
    no_signal_is_lost_after_a_hundred,
    a_panic_in_it_is_contained,
    an_exit_that_has_begun_stops_it,
    a_request_stops_it,
    one_that_comes_while_the_scope_ends_is_the_old_handlers,
    one_that_nobody_heard_when_the_scope_ends_does_not_end_the_process,
    a_handler_that_is_there_is_refused_or_called_after_it_each_time,
    an_ignored_signal_stays_ignored_unless_it_is_to_be_guarded,
    signals_whose_default_ends_no_process_are_taken,
    a_signal_that_is_named_in_both_is_no_exit,
    a_guard_whose_only_signal_has_a_function_is_ended_by_none,
    the_old_flags_that_speak_of_children_are_kept,
    each_guard_has_a_function_of_its_own,
    an_exit_that_another_function_begins_stops_it_too,
    a_signal_may_be_an_exit_to_one_guard_and_none_to_another,
    it_may_end_the_guard_and_the_process,
    an_observer_hears_of_it,
    a_forked_child_dies_of_it;
    alone:
    every_end_puts_everything_back,
    what_nobody_can_take_is_refused,
];
