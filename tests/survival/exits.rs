//! A signal at any moment of an exit, also of one that somebody else than main began: the standard
//! library has unmapped the alternate stack of main by then.

#![allow(unsafe_code, reason = "the test itself makes system calls")]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crate::support::*;
use handle_exit::{AfterScope, Cause, Ending, HandleExit, Repeat, Signal};
use nix::libc;

/// The exit takes its time, in code that is not the guard's.
fn is_slow() {
    say("exit is slow");
    hear();
    say("exit goes on");
}

struct Slow;

impl Drop for Slow {
    fn drop(&mut self) {
        is_slow();
    }
}

thread_local!(static SLOW: Slow = const { Slow });

extern "C" fn slow_exit_function() {
    is_slow();
}

extern "C" fn old_handler_exits(_: libc::c_int) {
    slow_destructor();
    std::process::exit(7);
}

/// What the scenario is told: who brings the exit about, and what in it is slow.
fn told_who_and_what() -> (String, String) {
    let told: String = told();
    let (who, what) = told.split_once(' ').unwrap();
    (who.into(), what.into())
}

/// Has a destructor of this thread be slow, if that is what the scenario is told.
fn slow_destructor() {
    if told_who_and_what().1 == "destructor" {
        SLOW.with(|_| ());
    }
}

/// A guard whose callback brings the exit about if `who` is its: on TERM, with 7, or 101.
fn guard_that_exits(who: &str) -> HandleExit {
    if who == "handler" {
        install(Signal::TERM, old_handler_exits);
    }
    let by_code = who == "ending";
    let (grace, ending) = match by_code {
        true => (Duration::ZERO, Ending::Code(7)),
        false => (Duration::MAX, Ending::Signal),
    };
    let (exits, panics) = (who == "callback", who == "panic");
    let guard = HandleExit::builder().append(true).grace(grace).ending(ending);
    // In a storm a second signal may come half a second after the first, and would end a slow exit.
    let repeat = if told_who_and_what().1 == "storm" { Repeat::Absorb } else { Repeat::Finish };
    let guard = guard.after_scope(AfterScope::Continue).repeat(repeat);
    let guard = guard.install_with(move |cause| {
        say(format!("callback: {}", if let Cause::Signal(_) = cause { "signal" } else { "exit" }));
        if exits {
            slow_destructor();
            std::process::exit(7);
        }
        assert!(!panics, "on purpose");
    });
    guard.unwrap()
}

// ---------------------------------------------------------------------------------- scenarios

fn exits() {
    let (who, what) = told_who_and_what();
    let guard = guard_that_exits(&who);
    guard.defer(|| say("deferred")).unwrap();
    if what == "function" {
        at_exit(slow_exit_function);
    }
    if who == "thread" {
        let exits = || {
            slow_destructor();
            std::process::exit(7);
        };
        std::thread::spawn(exits).join().unwrap();
    }
    ready_for_ever();
}

/// On one core: what the handler wakes may get it at once, with the handler half done.
fn exits_on_one_core() {
    let mut one = nix::sched::CpuSet::new();
    one.set(0).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &one).unwrap();
    let (who, _) = told_who_and_what();
    let _guard = guard_that_exits(&who);
    ready_for_ever();
}

static CALLBACK_RUNS: AtomicBool = AtomicBool::new(false);
static FOREIGN_RUNS: AtomicBool = AtomicBool::new(false);
static EXIT_IS_SLOW: AtomicBool = AtomicBool::new(false);

/// A foreign handler, on top of the guard's if that lets itself be interrupted. It takes its time.
extern "C" fn foreign_handler(_: libc::c_int) {
    FOREIGN_RUNS.store(true, SeqCst);
    while !EXIT_IS_SLOW.load(SeqCst) {
        // SAFETY: async-signal-safe, and no memory is involved.
        unsafe { libc::poll(std::ptr::null_mut(), 0, 1) };
    }
}

extern "C" fn exit_waits_for_main() {
    say("exit is slow");
    EXIT_IS_SLOW.store(true, SeqCst);
    hear();
}

/// Main is in a foreign handler, which came when the guard's had just been entered, while the exit goes
/// on elsewhere.
fn exits_with_main_in_a_handler() {
    let (who, _) = told_who_and_what();
    install(Signal::URG, foreign_handler);
    if who == "handler" {
        install(Signal::TERM, old_handler_exits);
    }
    let (ending, panics, exits) = (who == "ending", who == "panic", who == "callback");
    let grace = if ending { Duration::ZERO } else { Duration::MAX };
    let guard = HandleExit::builder().append(true).grace(grace).ending(Ending::Code(7));
    let guard = guard.after_scope(AfterScope::Continue);
    let guard = guard.install(move || {
        CALLBACK_RUNS.store(true, SeqCst);
        until("main is in the foreign handler", || FOREIGN_RUNS.load(SeqCst));
        if exits {
            std::process::exit(7);
        }
        assert!(!panics, "on purpose");
    });
    let _guard = guard.unwrap();
    at_exit(exit_waits_for_main);
    // Both are delivered at once: the second interrupts the first handler before its first step.
    let both = [Signal::INT, Signal::URG];
    for signal in both {
        block(signal);
        raise(signal);
    }
    say("ready");
    until("the callback runs", || CALLBACK_RUNS.load(SeqCst));
    unblock(both);
    say("main goes on");
    park()
}

/// Unblocks both at once.
fn unblock(signals: [Signal; 2]) {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        for signal in signals {
            libc::sigaddset(&raw mut set, signal.as_raw());
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

// ---------------------------------------------------------------------------------------- tests

fn a_signal_while_another_thread_exits(what: &str) {
    let mut victim = Victim::start(exits.told(format!("thread {what}")));
    victim.expect("exit is slow");
    victim.send(Signal::TERM);
    victim.expect("callback: signal");
    victim.at_rest();
    victim.tell("go on");
    let lines = ["exit is slow", "callback: signal", "exit goes on", "deferred"];
    victim.end().said(&lines).exited(7);
}

fn a_signal_while_a_destructor_of_an_exiting_thread_is_slow() {
    a_signal_while_another_thread_exits("destructor");
}

fn a_signal_while_an_exit_function_is_slow_on_another_thread() {
    a_signal_while_another_thread_exits("function");
}

/// TERM makes the guard end the process; INT comes while that is slow.
fn a_signal_while_the_guard_exits(who: &str, what: &str) {
    let told = format!("{who} {what}");
    let mut victim = Victim::ready(exits.told(&told));
    victim.send(Signal::TERM);
    victim.expect("exit is slow");
    victim.send(Signal::INT);
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    assert_eq!((end.count("callback: signal"), end.count("deferred")), (1, 1), "{end:#?}");
    end.exited(7);
}

fn a_signal_while_a_destructor_is_slow_in_an_exit_of_the_callback() {
    a_signal_while_the_guard_exits("callback", "destructor");
}

fn a_signal_while_an_exit_function_is_slow_in_an_exit_of_the_callback() {
    a_signal_while_the_guard_exits("callback", "function");
}

fn a_signal_while_a_destructor_is_slow_in_an_exit_of_an_old_handler() {
    a_signal_while_the_guard_exits("handler", "destructor");
}

fn a_signal_while_an_exit_function_is_slow_in_an_exit_of_an_old_handler() {
    a_signal_while_the_guard_exits("handler", "function");
}

fn a_signal_while_an_exit_function_is_slow_in_the_ending() {
    a_signal_while_the_guard_exits("ending", "function");
}

fn a_signal_while_an_exit_function_is_slow_after_a_panic() {
    let mut victim = Victim::ready(exits.told("panic function"));
    victim.send(Signal::TERM);
    // Whether a callback that panicked has exit functions run is open.
    while let Some(line) = victim.next_line() {
        if line == "exit is slow" {
            victim.send(Signal::INT);
            victim.at_rest();
            victim.tell("go on");
        }
    }
    let end = victim.end();
    assert_eq!((end.count("callback: signal"), end.count("deferred")), (1, 1), "{end:#?}");
    end.exited(101);
}

fn main_is_in_a_handler(who: &str, code: i32) {
    let told = format!("{who} nothing");
    let mut victim = Victim::ready(exits_with_main_in_a_handler.told(&told));
    victim.send(Signal::TERM);
    // Whether a callback that panicked has exit functions run is open.
    while let Some(line) = victim.next_line() {
        if line == "main goes on" {
            victim.tell("go on");
        }
    }
    victim.end().exited(code);
}

fn main_is_in_a_handler_when_the_callback_exits() {
    main_is_in_a_handler("callback", 7);
}

fn main_is_in_a_handler_when_an_old_handler_exits() {
    main_is_in_a_handler("handler", 7);
}

fn main_is_in_a_handler_when_the_ending_exits() {
    main_is_in_a_handler("ending", 7);
}

fn main_is_in_a_handler_after_a_panic() {
    main_is_in_a_handler("panic", 101);
}

/// So often the exit is brought about in a storm of signals.
const STORMS: usize = 100;

fn storms(who: &str, code: i32) {
    let mut broken = Vec::new();
    for _ in 0..STORMS {
        let told = format!("{who} storm");
        let victim = Victim::ready(exits_on_one_core.told(&told));
        let stat = format!("/proc/{}/stat", victim.pid());
        // A zombie takes signals, too, and nobody else has its id.
        until("the storm is over", || {
            (0..20).for_each(|_| victim.send(Signal::TERM));
            std::fs::read_to_string(&stat).unwrap().contains(") Z ")
        });
        let end = victim.end();
        if end.status.code() != Some(code) || end.count("callback: signal") != 1 {
            broken.push((end.status, end.lines));
        }
    }
    assert!(broken.is_empty(), "{} of {STORMS}, such as {:#?}", broken.len(), broken[0]);
}

fn a_storm_while_the_callback_exits() {
    storms("callback", 7);
}

fn a_storm_while_an_old_handler_exits() {
    storms("handler", 7);
}

fn a_storm_while_the_ending_exits() {
    storms("ending", 7);
}

fn a_storm_after_a_panic() {
    storms("panic", 101);
}

pub(crate) const TESTS: &[Named] = tests![
    a_signal_while_a_destructor_of_an_exiting_thread_is_slow,
    a_signal_while_an_exit_function_is_slow_on_another_thread,
    a_signal_while_a_destructor_is_slow_in_an_exit_of_the_callback,
    a_signal_while_an_exit_function_is_slow_in_an_exit_of_the_callback,
    a_signal_while_a_destructor_is_slow_in_an_exit_of_an_old_handler,
    a_signal_while_an_exit_function_is_slow_in_an_exit_of_an_old_handler,
    a_signal_while_an_exit_function_is_slow_in_the_ending,
    a_signal_while_an_exit_function_is_slow_after_a_panic,
    main_is_in_a_handler_when_the_callback_exits,
    main_is_in_a_handler_when_an_old_handler_exits,
    main_is_in_a_handler_when_the_ending_exits,
    main_is_in_a_handler_after_a_panic,
    a_storm_while_the_callback_exits,
    a_storm_while_an_old_handler_exits,
    a_storm_while_the_ending_exits,
    a_storm_after_a_panic,
];
