//! What has begun runs to its end: old handlers, callbacks and deferred functions while the process ends
//! on several threads. And what is made while it ends begins.

#![allow(unsafe_code, reason = "exits of the C library and old handlers are the test's subject")]

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::Duration;

use crate::support::*;
use handle_exit::{HandleExit, Signal};
use nix::libc;

fn c_exit(code: i32) -> ! {
    // SAFETY: the exit functions of this process are the guard's and the standard library's.
    unsafe { libc::exit(code) }
}

static OLD_RUNS: AtomicBool = AtomicBool::new(false);

/// Runs until the test says a line.
extern "C" fn slow_old_handler(_: libc::c_int) {
    say_in_handler("old handler begins\n");
    OLD_RUNS.store(true, SeqCst);
    let mut byte = 0u8;
    // SAFETY: reads one byte to where there is one.
    while unsafe { libc::read(0, (&raw mut byte).cast(), 1) } == 1 && byte != b'\n' {}
    say_in_handler("old handler ends\n");
}

// ---------------------------------------------------------------------------------- scenarios

/// Another thread drops the guard, and is to wait for the old handler; then main returns.
fn old_handler_outlives_the_scope() {
    install(Signal::TERM, slow_old_handler);
    let guard = HandleExit::append(|| say("callback")).unwrap();
    say("ready");
    until("the old handler runs", || OLD_RUNS.load(SeqCst));
    static DROPS: AtomicI32 = AtomicI32::new(0);
    std::thread::spawn(|| {
        // SAFETY: no arguments, cannot fail.
        DROPS.store(unsafe { libc::syscall(libc::SYS_gettid) as i32 }, SeqCst);
        drop(guard);
    });
    until("the drop waits", || match DROPS.load(SeqCst) {
        0 => false,
        thread => sleeps(thread),
    });
    say("main ends");
}

/// Main returns, with the guard kept.
fn old_handler_outlives_main() {
    install(Signal::TERM, slow_old_handler);
    HandleExit::append(|| say("callback")).unwrap().keep();
    say("ready");
    until("the old handler runs", || OLD_RUNS.load(SeqCst));
    say("main ends");
}

/// The callback, or a deferred function, is running in one exit of the C library when another thread
/// calls it as well.
fn exit_of_c_twice() {
    let in_callback = told::<String>() == "callback";
    let guard = HandleExit::new(move || match in_callback {
        true => held_callback(),
        false => say("callback"),
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred first")).unwrap();
    if !in_callback {
        guard.defer(held_callback).unwrap();
    }
    guard.keep();
    std::thread::spawn(|| {
        until_held();
        say("second exit");
        c_exit(4);
    });
    c_exit(3);
}

/// The callback, which a signal has begun, calls `exit` of the C library while main is in its own.
fn callback_calls_exit_of_c() {
    let guard = HandleExit::new(|| {
        held_callback();
        c_exit(7);
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred first")).unwrap();
    guard.defer(|| say("deferred last")).unwrap();
    guard.keep();
    say("ready");
    until_held();
    say("main ends");
    std::process::exit(3);
}

extern "C" fn make_a_guard() {
    HandleExit::new(|| say("late callback")).unwrap().keep();
}

/// A guard that is made in an exit function of the C library.
fn made_in_an_exit_function() {
    let when: String = told();
    if when == "registered before" {
        at_exit(make_a_guard);
    }
    if when != "never one before" {
        drop(HandleExit::new(|| say("callback")).unwrap());
    }
    if when != "registered before" {
        at_exit(make_a_guard);
    }
}

extern "C" fn make_and_drop_a_guard() {
    drop(HandleExit::new(|| say("late callback")).unwrap());
    say("dropped");
}

/// A guard is kept, and its callback runs in the exit; one that is made after it is another.
fn made_after_a_kept_one() {
    at_exit(make_and_drop_a_guard);
    HandleExit::new(|| say("callback")).unwrap().keep();
}

// ---------------------------------------------------------------------------------------- tests

const OLD: [&str; 5] = ["ready", "callback", "old handler begins", "main ends", "old handler ends"];

/// Longer than any patience there is with an old handler: under test is that it goes on to run.
fn an_old_handler_is_not_cut(scenario: fn(), time: Duration) {
    let mut victim = Victim::ready(Scenario::named(scenario, "an old handler"));
    victim.send(Signal::TERM);
    victim.expect("main ends");
    std::thread::sleep(time);
    victim.at_rest();
    victim.tell("go on");
    victim.end().said(&OLD).exited(0);
}

fn an_old_handler_is_not_cut_by_a_drop_and_return_from_main() {
    an_old_handler_is_not_cut(old_handler_outlives_the_scope, Duration::from_millis(300));
}

fn an_old_handler_is_not_cut_by_return_from_main() {
    an_old_handler_is_not_cut(old_handler_outlives_main, Duration::from_millis(1500));
}

fn two_exits_of_c(what: &str) -> End {
    let mut victim = Victim::start(exit_of_c_twice.told(what));
    victim.expect("second exit");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    assert!([Some(3), Some(4)].contains(&end.status.code()), "{end:#?}");
    end
}

fn two_exits_of_c_do_not_cut_the_callback() {
    let lines = ["callback begins", "second exit", "callback ends", "deferred first"];
    two_exits_of_c("callback").said(&lines);
}

fn two_exits_of_c_do_not_cut_deferred_functions() {
    let lines = ["callback", "callback begins", "second exit", "callback ends", "deferred first"];
    two_exits_of_c("deferred").said(&lines);
}

fn an_exit_of_c_in_the_callback_does_not_cut_deferred_functions() {
    let mut victim = Victim::ready(callback_calls_exit_of_c);
    victim.send(Signal::TERM);
    victim.expect_both("callback begins", "main ends");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    assert_eq!(end.lines[3..], ["callback ends", "deferred last", "deferred first"], "{end:#?}");
    assert!([Some(3), Some(7)].contains(&end.status.code()), "{end:#?}");
}

fn a_guard_made_in_an_exit_function_runs_its_callback() {
    for (when, lines) in [
        ("registered before", &["callback", "late callback"][..]),
        ("registered after", &["callback", "late callback"]),
        ("never one before", &["late callback"]),
    ] {
        let end = Victim::start(made_in_an_exit_function.told(when)).end();
        end.said(lines).exited(0);
    }
}

fn a_guard_made_after_a_kept_one_has_run_runs_its_callback() {
    let end = Victim::start(made_after_a_kept_one).end();
    end.said(&["callback", "late callback", "dropped"]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    an_old_handler_is_not_cut_by_a_drop_and_return_from_main,
    an_old_handler_is_not_cut_by_return_from_main,
    two_exits_of_c_do_not_cut_the_callback,
    two_exits_of_c_do_not_cut_deferred_functions,
    an_exit_of_c_in_the_callback_does_not_cut_deferred_functions,
    a_guard_made_in_an_exit_function_runs_its_callback,
    a_guard_made_after_a_kept_one_has_run_runs_its_callback,
];
