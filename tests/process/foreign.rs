//! Handlers that others install while a guard lives, and take away again: well-behaved ones that chain, and those of
//! signal-hook and ctrlc.

#![allow(unsafe_code, reason = "signal-hook's way to register an action")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use handle_exit::{Error, HandleExit, OldHandler, Signal};
use nix::libc;

use crate::support::*;

fn callback() {
    say("callback");
}

// ---------------------------------------------------------------------------------- scenarios

fn on_top_of_a_default() {
    let guard = HandleExit::new(callback).unwrap();
    put_on_top(0);
    let foreign = disposition(Signal::TERM);
    drop(guard);
    assert_eq!(disposition(Signal::TERM), foreign);
    assert_eq!(disposition(Signal::INT), (libc::SIG_DFL, 0, 0));
    say("ready");
    hear();
    // Nothing but the foreign handler: what it displaced would have done no more than that.
    drop(HandleExit::append(callback).unwrap());
    assert_eq!(disposition(Signal::TERM), foreign);
}

fn on_top_of_an_old_handler() {
    install_old(Signal::TERM);
    let guard = HandleExit::append(callback).unwrap();
    put_on_top(0);
    let foreign = disposition(Signal::TERM);
    say("ready");
    hear();
    drop(guard);
    assert_eq!(disposition(Signal::TERM), foreign);
    say("dropped");
    hear();
}

fn buried_again_and_again() {
    install_old(Signal::TERM);
    for n in 0..4 {
        let guard = HandleExit::append(move || say(format!("callback {n}"))).unwrap();
        put_on_top(n);
        let foreign = disposition(Signal::TERM);
        drop(guard);
        assert_eq!(disposition(Signal::TERM), foreign);
        raise(Signal::TERM);
    }
    let all = all_dispositions();
    let refused = HandleExit::append(callback).unwrap_err();
    assert!(matches!(refused, Error::Busy { signal: Some(Signal::TERM), .. }), "{refused}");
    assert_eq!(all_dispositions(), all);
    raise(Signal::TERM);
}

fn guarded_over_buried_guards() {
    install_old(Signal::TERM);
    for n in 0..3 {
        let guard = HandleExit::append(|| {}).unwrap();
        put_on_top(n);
        drop(guard);
    }
    let foreign = disposition(Signal::TERM);
    let guard = HandleExit::append(callback).unwrap();
    say("ready");
    hear();
    drop(guard);
    assert_eq!(disposition(Signal::TERM), foreign);
    say("dropped");
    raise(Signal::TERM);
}

/// A handler that is gone, or that has its place back, or that was there before the guard, cannot lead to
/// the guard's.
fn many_handlers_one_after_the_other() {
    let install = |handler: InfoHandler| {
        install_exactly(Signal::TERM, handler as usize, libc::SA_SIGINFO, &[]);
        HandleExit::append(|| {}).unwrap()
    };
    for handler in FOREIGN_HANDLERS {
        let guard = install(handler);
        install_exactly(Signal::TERM, libc::SIG_DFL, 0, &[]);
        drop(guard);
        assert_eq!(disposition(Signal::TERM), (libc::SIG_DFL, 0, 0));
    }
    for handler in FOREIGN_HANDLERS {
        let guard = install(handler);
        raise(Signal::TERM);
        guard.wait();
        drop(guard);
    }
    for handler in FOREIGN_HANDLERS {
        let guard = install(handler);
        install_exactly(Signal::TERM, handler as usize, libc::SA_SIGINFO, &[]);
        drop(guard);
    }
    for _ in FOREIGN_HANDLERS {
        install_old(Signal::TERM);
        let guard = HandleExit::append(|| {}).unwrap();
        put_on_top(0);
        drop(guard);
    }
    // A guard over a default has nothing below it, whatever was buried before.
    for (n, handler) in FOREIGN_HANDLERS.into_iter().enumerate() {
        let guard = install(handler);
        put_on_top((n + 1) % FOREIGN);
        drop(guard);
        install_exactly(Signal::TERM, libc::SIG_DFL, 0, &[]);
        drop(HandleExit::new(|| {}).unwrap());
    }
}

/// Ours is on top again, without a guard.
fn on_top_and_away_again() {
    install_old(Signal::TERM);
    let old = disposition(Signal::TERM);
    for n in 0..FOREIGN {
        let guard = HandleExit::append(|| {}).unwrap();
        put_on_top(n);
        drop(guard);
        take_away(n);
        say(format!("round {n}"));
        if n % 2 == 0 {
            raise(Signal::TERM);
        }
        let guard = HandleExit::append(callback).unwrap();
        raise(Signal::TERM);
        guard.wait();
        drop(guard);
        assert_eq!(disposition(Signal::TERM), old);
    }
}

fn away_again_over_a_default() {
    let guard = HandleExit::new(|| {}).unwrap();
    put_on_top(0);
    drop(guard);
    take_away(0);
    // There is no handler but ours, which stands for the default.
    drop(HandleExit::new(callback).unwrap());
    assert_eq!(disposition(Signal::TERM), (libc::SIG_DFL, 0, 0));
    let guard = HandleExit::new(|| {}).unwrap();
    put_on_top(0);
    drop(guard);
    take_away(0);
    ready_for_ever();
}

fn a_default_over_a_chain_to_a_buried_guard() {
    let guard = HandleExit::builder().signals([Signal::TERM]).install(callback).unwrap();
    put_on_top(0);
    drop(guard);
    let guard = HandleExit::builder().signals([Signal::TERM]).append(true);
    let guard = guard.old_handler(OldHandler::Always).install(callback).unwrap();
    install_exactly(Signal::TERM, libc::SIG_DFL, 0, &[]);
    // Runs the foreign handler, which chains to the first guard's. Nobody has sent a signal.
    drop(guard);
    say("goes on");
}

// ----------------------------------------------------------- scenarios: signal-hook and ctrlc

fn register_signal_hook() {
    // SAFETY: the action only writes to a descriptor.
    unsafe {
        let action = || say_in_handler("signal-hook\n");
        signal_hook::low_level::register(Signal::TERM.as_raw(), action).unwrap();
    }
}

/// A guard beside a handler of this signal that was there before.
fn refused_or_appended_to(signal: Signal) {
    let all = all_dispositions();
    let refused = HandleExit::new(callback);
    assert!(matches!(refused, Err(Error::HandlerExists { signal: taken, .. }) if taken == signal));
    assert_eq!(all_dispositions(), all);
    let guard = HandleExit::append(callback).unwrap();
    say("ready");
    hear();
    drop(guard);
    assert_eq!(all_dispositions(), all);
    say("dropped");
    hear();
}

fn signal_hook_before() {
    register_signal_hook();
    refused_or_appended_to(Signal::TERM);
}

fn signal_hook_on_top() {
    install_old(Signal::TERM);
    let guard = HandleExit::append(callback).unwrap();
    register_signal_hook();
    let theirs = disposition(Signal::TERM);
    drop(guard);
    assert_eq!(disposition(Signal::TERM), theirs);
    say("ready");
    hear();
    // It goes on calling the first guard's handler, and another guard comes over it.
    let guard = HandleExit::append(callback).unwrap();
    say("again");
    hear();
    drop(guard);
    assert_eq!(disposition(Signal::TERM), theirs);
}

fn signal_hook_on_top_of_a_default() {
    let stopped = Arc::new(AtomicBool::new(false));
    let guard = HandleExit::builder().grace(Duration::MAX).install(callback).unwrap();
    signal_hook::flag::register(Signal::TERM.as_raw(), Arc::clone(&stopped)).unwrap();
    say("ready");
    guard.wait();
    until("signal-hook hears it too", || stopped.swap(false, SeqCst));
    drop(guard);
    say("dropped");
    until("signal-hook hears it alone", || stopped.load(SeqCst));
}

fn ctrlc_before() {
    ctrlc::set_handler(|| say("ctrlc")).unwrap();
    refused_or_appended_to(Signal::INT);
}

fn ctrlc_on_top() {
    let guard = HandleExit::builder().grace(Duration::MAX).install(callback).unwrap();
    let ours = all_dispositions();
    // It puts back what it finds.
    assert!(ctrlc::try_set_handler(|| say("never")).is_err());
    assert_eq!(all_dispositions(), ours);
    // It overwrites what it finds: INT is its own from then on.
    ctrlc::set_handler(|| say("ctrlc")).unwrap();
    let theirs = disposition(Signal::INT);
    say("ready");
    hear();
    assert!(!guard.is_exiting());
    raise(Signal::TERM);
    guard.wait();
    drop(guard);
    assert_eq!(disposition(Signal::INT), theirs);
    assert_eq!(disposition(Signal::TERM), (libc::SIG_DFL, 0, 0));
    say("dropped");
    hear();
}

// -------------------------------------------------------------------------------------- tests

fn a_foreign_handler_on_top_of_a_default_stays() {
    let mut victim = Victim::ready(on_top_of_a_default);
    victim.send(Signal::TERM);
    victim.expect("foreign 0");
    victim.tell("go");
    victim.end().said(&["callback", "ready", "foreign 0", "callback"]).exited(0);
}

fn a_foreign_handler_on_top_stays_and_the_old_one_is_reached_through_ours() {
    let end = sent_before_and_behind_the_drop(on_top_of_an_old_handler, Signal::TERM, "old");
    end.exited(0);
    let (guarded, after) = end.lines.split_at(5);
    // The foreign handler says its line in the main thread, before it wakes the watcher.
    assert_eq!(guarded, ["ready", "foreign 0", "callback", "old", "dropped"]);
    assert_eq!(after, ["foreign 0", "old"]);
}

fn burying_again_and_again_never_recurses() {
    let mut lines = Vec::new();
    let chain = |n: usize| (0..=n).rev().map(|n| format!("foreign {n}")).chain(["old".into()]);
    for n in 0..4 {
        lines.push(format!("callback {n}"));
        lines.extend(chain(n));
    }
    lines.extend(chain(3));
    let end = Victim::start(buried_again_and_again).end();
    end.exited(0);
    assert_eq!(end.lines, lines, "{end:#?}");
}

fn a_guard_over_buried_guards_runs_each_handler_once() {
    let mut victim = Victim::ready(guarded_over_buried_guards);
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.tell("drop");
    let chain = (0..3).rev().map(|n| format!("foreign {n}")).chain(["old".to_owned()]);
    let mut lines = vec!["ready".to_owned(), "callback".to_owned()];
    lines.extend(chain.clone());
    lines.push("dropped".to_owned());
    lines.extend(chain);
    let end = victim.end();
    end.exited(0);
    assert_eq!(end.lines, lines, "{end:#?}");
}

fn a_handler_that_cannot_lead_to_ours_takes_no_level() {
    let ran: Vec<String> = (0..FOREIGN).map(|n| format!("foreign {n}")).collect();
    let end = Victim::start(many_handlers_one_after_the_other).end();
    end.exited(0);
    assert_eq!(end.lines, ran, "{end:#?}");
}

fn a_foreign_handler_that_goes_away_leaves_a_pass_through() {
    let rounds = (0..FOREIGN).flat_map(|n| {
        let passed_through: &[&str] = if n % 2 == 0 { &["old"] } else { &[] };
        [format!("round {n}")]
            .into_iter()
            .chain(passed_through.iter().copied().chain(["callback", "old"]).map(String::from))
    });
    let end = Victim::start(on_top_and_away_again).end();
    end.exited(0);
    assert_eq!(end.lines, rounds.collect::<Vec<_>>(), "{end:#?}");
}

fn a_foreign_handler_that_goes_away_leaves_the_default() {
    let mut victim = Victim::start(away_again_over_a_default);
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.end().said(&["callback", "ready"]).died_by(Signal::TERM);
}

fn a_chain_to_a_buried_guard_ends_at_a_default() {
    let end = Victim::start(a_default_over_a_chain_to_a_buried_guard).end();
    end.exited(0).said(&["callback", "callback", "foreign 0", "goes on"]);
}

/// Sends a signal to the guard, and to what was there before it when that is on its own again: each time the last to
/// speak says `heard`.
fn sent_before_and_behind_the_drop(scenario: impl Play, signal: Signal, heard: &str) -> End {
    let mut victim = Victim::ready(scenario);
    victim.send(signal);
    victim.expect(heard);
    victim.tell("drop");
    victim.expect("dropped");
    victim.send(signal);
    victim.expect(heard);
    victim.tell("end");
    victim.end()
}

fn signal_hook_registered_before_is_refused_or_appended_and_goes_on() {
    let end = sent_before_and_behind_the_drop(signal_hook_before, Signal::TERM, "signal-hook");
    end.said(&["ready", "callback", "signal-hook", "dropped", "signal-hook"]).exited(0);
}

fn signal_hook_on_top_calls_ours_for_ever() {
    let mut victim = Victim::ready(signal_hook_on_top);
    victim.send(Signal::TERM);
    victim.expect("signal-hook");
    victim.tell("guard");
    victim.expect("again");
    victim.send(Signal::TERM);
    victim.expect("signal-hook");
    victim.tell("end");
    let lines =
        ["callback", "ready", "old", "signal-hook", "again", "callback", "old", "signal-hook"];
    victim.end().said(&lines).exited(0);
}

fn signal_hook_on_top_and_the_guard_both_hear_a_signal() {
    let mut victim = Victim::ready(signal_hook_on_top_of_a_default);
    victim.send(Signal::TERM);
    victim.expect("dropped");
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback", "dropped"]).exited(0);
}

fn ctrlc_registered_before_is_refused_or_appended_and_goes_on() {
    let end = sent_before_and_behind_the_drop(ctrlc_before, Signal::INT, "ctrlc");
    end.said(&["ready", "callback", "ctrlc", "dropped", "ctrlc"]).exited(0);
}

fn ctrlc_on_top_keeps_its_signal() {
    let end = sent_before_and_behind_the_drop(ctrlc_on_top, Signal::INT, "ctrlc");
    end.said(&["ready", "ctrlc", "callback", "dropped", "ctrlc"]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    a_foreign_handler_on_top_of_a_default_stays,
    a_foreign_handler_on_top_stays_and_the_old_one_is_reached_through_ours,
    burying_again_and_again_never_recurses,
    a_guard_over_buried_guards_runs_each_handler_once,
    a_handler_that_cannot_lead_to_ours_takes_no_level,
    a_foreign_handler_that_goes_away_leaves_a_pass_through,
    a_foreign_handler_that_goes_away_leaves_the_default,
    a_chain_to_a_buried_guard_ends_at_a_default,
    signal_hook_registered_before_is_refused_or_appended_and_goes_on,
    signal_hook_on_top_calls_ours_for_ever,
    signal_hook_on_top_and_the_guard_both_hear_a_signal,
    ctrlc_registered_before_is_refused_or_appended_and_goes_on,
    ctrlc_on_top_keeps_its_signal,
];
