//! `std::process::exit`, and return from `main`, with a guard still alive.

use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::event::Event;
use crate::exit::{self, ProcessExit};
use crate::machine::Which;
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
    let is_reachable = in_time(|| exit.machine.is_free().then_some(())).is_some();
    if !is_reachable || exit.machine.oldest().is_none() {
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
        exit.tell(Which::All, &Event::ending(status));
        if exit.machine.has_overrun() {
            // Without a flush: what hangs may hang in a stream, with its lock.
            process::end_now(status);
        }
        process::end_inside_exit(status);
    }
    restore(exit);
    // The exit's own code has chosen the status: an aborting thread that went on to die could still
    // change it.
    if !in_exit_code {
        mailbox::release_abort();
    }
}

/// What becomes of a lock within `LOCK_TIMEOUT`.
fn in_time<T>(try_once: impl Fn() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let got = try_once();
        if got.is_some() || begun.elapsed() > LOCK_TIMEOUT {
            return got;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn restore(exit: &ProcessExit) {
    // Before the lock is taken: wakers are code of a user's.
    exit.each(Which::All, &mut |guard| {
        guard.work.waiters.release();
        true
    });
    let Some(setup) = in_time(|| exit.try_setup()) else { return };
    let guarded = exit.machine.clear();
    let late = guarded::restore_in_exit(&guarded);
    drop(setup);
    // A signal that would end the process has what it wants. One with a handler goes there.
    for arrival in late {
        let has_handler =
            |one: &guarded::Guarded| one.signal() == arrival.signal && one.has_old_handler();
        if guarded.iter().any(has_handler) {
            forward::hand_over(&arrival);
        }
    }
}
