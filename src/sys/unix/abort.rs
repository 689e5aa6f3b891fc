//! A thread that waits in `abort(3)`, inside the handler of SIGABRT: all that is left for it to do is to
//! be killed, and that happens when the exit is done, or after a bounded time for each callback.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::clock::Moment;
use super::process;
use crate::signal::Signal;
use crate::sys::exit_thread;

/// What `abort` raises, where that can be caught.
pub(crate) const ABORT: Option<Signal> = Some(Signal::ABRT);

/// No guard has the signal any more. Written by those who restore it and by those who arm it; read by
/// the aborting thread.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Since when a thread that is in `abort` has its time: since it called `abort`, or since user code began or ended that
/// gave it more than was left. Zero if no thread is. Written by the handler and by the threads that run callbacks.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

/// How long that time is, in milliseconds. Written by the threads that run callbacks.
static LIMIT: AtomicUsize = AtomicUsize::new(USUAL_LIMIT);

/// How long an aborting thread waits for the callback if no `callback_timeout` is set.
pub(crate) const WAIT: Duration = Duration::from_secs(5);
const USUAL_LIMIT: usize = WAIT.as_millis() as usize;

/// The signal is about to be armed.
pub(super) fn hold() {
    RELEASED.store(false, SeqCst);
}

/// In a forked child: no thread of this process aborts.
pub(super) fn reset() {
    hold();
    BEGUN.store(0, SeqCst);
    LIMIT.store(USUAL_LIMIT, SeqCst);
}

/// User code begins that an aborting thread waits for, at most this long; or it has ended, and what follows has as long.
/// Once a thread is in `abort`, what another thread runs keeps the time that it has left.
pub(crate) fn allow(limit: Duration) {
    let limit = usize::try_from(limit.as_millis()).unwrap_or(usize::MAX);
    if a_thread_aborts() {
        if time_left() >= limit {
            return;
        }
        BEGUN.store(now(), SeqCst);
    }
    // Last, and the aborting thread reads it first: it never has this limit for what ran before.
    LIMIT.store(limit, SeqCst);
}

/// How long an aborting thread still waits, in milliseconds.
fn time_left() -> usize {
    let limit = LIMIT.load(SeqCst);
    let waited = Moment::now().saturating_duration_since(Moment(BEGUN.load(SeqCst)));
    limit.saturating_sub(usize::try_from(waited.as_millis()).unwrap_or(usize::MAX))
}

/// Whether a thread of this process waits in `abort`.
pub(crate) fn a_thread_aborts() -> bool {
    BEGUN.load(SeqCst) != 0
}

/// Lets an aborting thread continue, to be killed.
pub(crate) fn release() {
    RELEASED.store(true, SeqCst);
}

/// In the handler: this thread is in `abort`.
pub(super) fn note() {
    // Another thread may abort too, and be waited for already.
    let _ = BEGUN.compare_exchange(0, now(), SeqCst, SeqCst);
}

fn now() -> usize {
    Moment::now().0.max(1)
}

/// In the handler of a thread that is in `abort`. Async-signal-safe: see `handler`.
#[cold]
#[inline(never)]
pub(super) fn wait_and_die() -> ! {
    if !exit_thread::is_marked() {
        while !RELEASED.load(SeqCst) && time_left() > 0 {
            process::sleep_a_millisecond();
        }
    }
    process::die_by(Signal::ABRT)
}
