//! When an event came.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(super) Instant);

impl Moment {
    pub(crate) fn now() -> Moment {
        Moment(Instant::now())
    }

    /// How long after `earlier`.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}
