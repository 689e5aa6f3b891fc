//! `std::process::exit`, and return from `main`, with a guard still alive.

use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::event::Event;
use crate::exit::{self, ProcessExit, tell_guards};
use crate::sys::guarded;
use crate::sys::process;
use crate::sys::thread::{self, Runner};
use crate::sys::{forward, mailbox, wake};

/// How long an exiting process waits for old handlers, which may never return.
const OLD_HANDLER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a lock that an `exit` in a signal handler may hold up forever.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The exit function of the C library: runs on the thread that exits, inside `exit(3)`.
pub(crate) fn at_process_exit() {
    let exit = exit::of(process::this());
    if !is_reachable(exit) || exit.machine.oldest().is_none() {
        return;
    }
    let me = Runner::current();
    let in_exit_code = thread::is_exit_thread();
    let _exit_thread = thread::mark_exit_thread();
    exit.machine.close_all(me, mailbox::take);
    wake::post();
    let failed = exit.end_guards(me, &Cause::ProcessExit, Some(OLD_HANDLER_TIMEOUT));
    if !exit.is_here() {
        return;
    }
    if let Some(status) = exit.machine.decided(me, in_exit_code, failed) {
        tell_guards(&exit.machine.newer_than(0), &Event::ending(status));
        if exit.machine.has_overrun() {
            // Without a flush: what hangs may hang in a stream, with its lock.
            process::end_now(status);
        }
        process::end_inside_exit(status);
    }
    restore(exit);
}

fn is_reachable(exit: &ProcessExit) -> bool {
    let begun = Instant::now();
    while !exit.machine.is_free() {
        if begun.elapsed() > LOCK_TIMEOUT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn restore(exit: &ProcessExit) {
    let guards = exit.machine.newer_than(0);
    let setup = exit.setup();
    let guarded = exit.machine.clear();
    let late = guarded::restore_all(&guarded);
    drop(setup);
    for guard in guards {
        guard.work.waiters.release();
    }
    mailbox::release_abort();
    // A signal that would have ended the process has what it wants, and the rest of the exit
    // functions still run. One with a handler goes there.
    for arrival in late {
        let has_handler =
            |one: &guarded::Guarded| one.signal() == arrival.signal && one.has_old_handler();
        if guarded.iter().any(has_handler) {
            forward::hand_over(&arrival);
        }
    }
}
