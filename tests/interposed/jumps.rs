//! A foreign handler that interrupts the guard's, and does not return.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use handle_exit::{HandleExit, Signal};
use nix::libc;

use crate::support::*;

/// A foreign handler that does not return, as those of interpreters do.
extern "C" fn jumps(_: libc::c_int) {
    jump_out();
}

fn guard_for(signal: Signal) -> HandleExit {
    let guard = HandleExit::builder().signals([signal]).grace(Duration::MAX);
    guard.install(|| say("callback")).unwrap()
}

/// Both are delivered at once: if the guard's handler lets itself be interrupted, the foreign one does so before its
/// first step.
extern "C" fn take_both() {
    block(Signal::TERM);
    block(Signal::URG);
    raise(Signal::TERM);
    raise(Signal::URG);
    unblock_all();
    unreachable!("the foreign handler jumps");
}

fn jumps_when_both_come() {
    install(Signal::URG, jumps);
    let guard = guard_for(Signal::TERM);
    until_jump(take_both);
    assert!(guard.wait_timeout(DEADLINE).is_some(), "TERM is lost");
    drop(guard);
    say("behind");
}

/// Whether the handler that reads the clock next is to be interrupted.
static INTERRUPTS: AtomicBool = AtomicBool::new(false);

/// Called by the `clock_gettime` of this binary, which the guard's handler calls in the middle of its work.
pub(crate) fn on_clock_gettime() {
    if INTERRUPTS.load(SeqCst) && blocked() & signal_bit(Signal::TERM) != 0 {
        INTERRUPTS.store(false, SeqCst);
        raise(Signal::URG);
    }
}

extern "C" fn take_one() {
    INTERRUPTS.store(true, SeqCst);
    raise(Signal::TERM);
    INTERRUPTS.store(false, SeqCst);
}

fn jumps_when_the_handler_is_half_done() {
    install(Signal::URG, jumps);
    let guard = guard_for(Signal::TERM);
    until_jump(take_one);
    drop(guard);
    say("behind");
}

// ---------------------------------------------------------------------------------------- tests

fn drop_returns_after_a_jump_out_of_the_handler() {
    ends_well(jumps_when_the_handler_is_half_done, &["callback", "behind"]);
}

fn no_signal_is_lost_in_a_jump() {
    ends_well(jumps_when_both_come, &["callback", "behind"]);
}

pub(crate) const TESTS: &[Named] =
    tests![drop_returns_after_a_jump_out_of_the_handler, no_signal_is_lost_in_a_jump];
