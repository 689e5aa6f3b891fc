//! A thread that waits in `abort(3)`, inside the handler of SIGABRT: nothing is left for it to do but
//! to die, and it does so when the callback is done, or after a bounded time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::{clock, process, thread};
use crate::signal::Signal;

/// Whether everything that an aborting thread waits for is done. Set by whoever ends the exit, cleared
/// when a guard is made; read by the aborting thread.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Whether a thread waits in `abort`. Set by the handler, cleared when a guard is made; read by the
/// threads of the exit.
static WAITS: AtomicBool = AtomicBool::new(false);

/// The longest wait, in milliseconds. Written when a guard is made, read by the aborting thread.
static LONGEST_WAIT: AtomicUsize = AtomicUsize::new(0);

/// No thread aborts. Before the first handler of an exit is in place.
pub(super) fn reset(longest_wait: Duration) {
    set_abort_wait(longest_wait);
    RELEASED.store(false, SeqCst);
    WAITS.store(false, SeqCst);
}

pub(crate) fn set_abort_wait(longest: Duration) {
    LONGEST_WAIT.store(usize::try_from(longest.as_millis()).unwrap_or(usize::MAX), SeqCst);
}

/// Whether a thread of this process waits in `abort`.
pub(crate) fn a_thread_aborts() -> bool {
    WAITS.load(SeqCst)
}

/// Lets an aborting thread go on to die.
pub(crate) fn release_abort() {
    RELEASED.store(true, SeqCst);
}

/// In the handler: this thread is in `abort`.
pub(super) fn note() {
    WAITS.store(true, SeqCst);
}

/// In the handler of a thread that is in `abort`. Async-signal-safe: see `handler`.
pub(super) fn wait_and_die() -> ! {
    if !thread::is_exit_thread() {
        let begun = clock::now();
        while !RELEASED.load(SeqCst)
            && clock::since(begun, clock::now()) < LONGEST_WAIT.load(SeqCst)
        {
            process::sleep_a_millisecond();
        }
    }
    process::die_by(Signal::ABRT)
}
