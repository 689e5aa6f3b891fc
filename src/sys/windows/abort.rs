//! `abort` cannot be caught on Windows: no thread waits in it.

use std::time::Duration;

use crate::signal::Signal;

pub(crate) const ABORT: Option<Signal> = None;

/// Nobody does.
pub(crate) const WAIT: Duration = Duration::ZERO;

pub(crate) fn allow(_limit: Duration) {}

pub(crate) fn release() {}

pub(crate) fn a_thread_aborts() -> bool {
    false
}
