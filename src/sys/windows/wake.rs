//! From the handler to the watcher.
//!
//! Wake-ups may come for nothing: the watcher looks at the facts, never at how often it was woken.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Whether a wake-up is due. Set by the handler and whoever has news, cleared by the watcher.
static DUE: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();

fn due() -> MutexGuard<'static, bool> {
    DUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the watcher.
pub(crate) fn post() {
    *due() = true;
    CHANGED.notify_all();
}

/// Sleeps until woken, at most until `deadline`.
pub(crate) fn wait(deadline: Option<Instant>) {
    let mut due = due();
    while !*due {
        due = match deadline {
            None => CHANGED.wait(due).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                CHANGED.wait_timeout(due, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
    *due = false;
}
