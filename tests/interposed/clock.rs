//! A thread that is held where it reads the clock: a handler, until it is let go; a watcher, for a moment each time.

#![allow(unsafe_code, reason = "it stands in the place of a function of the C library")]

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::Duration;

use handle_exit::{HandleExit, Signal};
use nix::libc;

use crate::support::*;

/// The thread whose handler is held where it reads the clock, until that is let go.
static HELD_THREAD: AtomicI32 = AtomicI32::new(0);
static HANDLER_IS_HELD: AtomicBool = AtomicBool::new(false);
static HANDLER_MAY_GO: AtomicBool = AtomicBool::new(false);

/// To every thread but the main one, a look at the clock takes a moment.
static IS_SLOW: AtomicBool = AtomicBool::new(false);

/// What Rust code of this process calls instead of the C library's.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: no arguments, cannot fail.
    let me = unsafe { libc::gettid() };
    if IS_SLOW.load(SeqCst) && me != main_thread() {
        // SAFETY: as below.
        unsafe { libc::poll(std::ptr::null_mut(), 0, 20) };
    }
    if HELD_THREAD.load(SeqCst) == me {
        HANDLER_IS_HELD.store(true, SeqCst);
        while !HANDLER_MAY_GO.load(SeqCst) {
            // SAFETY: poll(2) of no descriptors only waits.
            unsafe { libc::poll(std::ptr::null_mut(), 0, 1) };
        }
    }
    // SAFETY: the caller's arguments.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int }
}

/// Has a thread of its own take TERM, and returns when its handler is held.
fn hold_a_handler() {
    std::thread::spawn(|| {
        // SAFETY: no arguments, cannot fail.
        HELD_THREAD.store(unsafe { libc::gettid() }, SeqCst);
        raise(Signal::TERM);
        HELD_THREAD.store(0, SeqCst);
    });
    until("a handler is held", || HANDLER_IS_HELD.load(SeqCst));
}

/// Lets the handler go once the guard's disposition is gone, from another thread.
fn let_the_handler_go_when_restored() {
    let ours = disposition(Signal::TERM).0;
    std::thread::spawn(move || {
        until("TERM is put back", || disposition(Signal::TERM).0 != ours);
        HANDLER_MAY_GO.store(true, SeqCst);
    });
}

fn drop_waits_for_a_handler() {
    let guard = HandleExit::new(|| say("callback")).unwrap();
    let_the_handler_go_when_restored();
    hold_a_handler();
    drop(guard);
    say("behind");
}

fn process_exit_waits_for_a_handler() {
    install(Signal::TERM, says_old);
    let guard = HandleExit::append(|| say("callback"));
    guard.unwrap().keep();
    let_the_handler_go_when_restored();
    hold_a_handler();
    std::process::exit(3);
}

fn process_exit_waits_for_a_handler_that_never_returns() {
    HandleExit::new(|| say("callback")).unwrap().keep();
    hold_a_handler();
    std::process::exit(3);
}

/// The callback that runs first takes longer than the other one may.
fn abort_runs_a_slow_callback_and_one_with_a_limit() {
    let guest = || HandleExit::builder().append(true).signals([Signal::ABRT]);
    let limited = guest().callback_timeout(SOON_OVER).install(|| say("limited"));
    let _limited = limited.unwrap();
    let slow = guest().install(|| {
        // Time is under test: a thread in `abort` waits five seconds, and for the other a second more than its limit.
        std::thread::sleep(SOON_OVER + Duration::from_millis(1500));
        IS_SLOW.store(true, SeqCst);
    });
    let _slow = slow.unwrap();
    std::process::abort();
}

// ---------------------------------------------------------------------------------------- tests

/// It is too late for the guard, and is its old disposition's.
fn a_signal_whose_handler_is_slow_is_not_lost() {
    let end = Victim::start(drop_waits_for_a_handler).end();
    end.said(&["callback"]).died_by(Signal::TERM);
    let end = Victim::start(process_exit_waits_for_a_handler).end();
    end.said(&["callback", "old"]).exited(3);
}

fn a_handler_that_never_returns_does_not_hold_up_the_end_of_the_process() {
    let end = Victim::start(process_exit_waits_for_a_handler_that_never_returns).end();
    end.said(&["callback"]).exited(3);
}

/// The thread that runs callbacks says when one begins and how long it may take, and is held in between.
fn an_abort_has_the_limit_of_a_callback_from_its_beginning() {
    let end = Victim::start(abort_runs_a_slow_callback_and_one_with_a_limit).end();
    end.said(&["limited"]).died_by(Signal::ABRT);
}

pub(crate) const TESTS: &[Named] = tests![
    a_signal_whose_handler_is_slow_is_not_lost,
    a_handler_that_never_returns_does_not_hold_up_the_end_of_the_process,
    an_abort_has_the_limit_of_a_callback_from_its_beginning,
];
