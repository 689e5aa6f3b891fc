//! From the handler to the watcher.
//!
//! Wake-ups may come for nothing: the watcher looks at the facts, never at how often it was woken.

use std::sync::LazyLock;
use std::time::Instant;

use crate::sys::lock::{Condition, Lock};

/// Whether a wake-up is due. Set by the handler and whoever has news, cleared by the watcher.
static DUE: LazyLock<Lock<bool>> = LazyLock::new(Lock::default);
static CHANGED: LazyLock<Condition> = LazyLock::new(Condition::default);

/// Wakes the watcher.
pub(crate) fn post() {
    let mut due = DUE.lock();
    *due = true;
    CHANGED.notify_all();
}

/// Sleeps until woken, at most until `deadline`.
pub(crate) fn wait(deadline: Option<Instant>) {
    let (mut due, mut in_time) = (DUE.lock(), true);
    while !*due && in_time {
        (due, in_time) = CHANGED.wait(due, deadline);
    }
    *due = false;
}
