//! An event that came.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::Moment;
use crate::signal::{ConsoleEvent, Received, Signal};

/// What the system says of an event, and when it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SigInfo {
    pub(super) event: ConsoleEvent,
    /// Counts events: the order of arrival.
    pub(super) order: u64,
    /// The last one that was merged into it.
    pub(super) up_to: u64,
    pub(super) at: Moment,
}

impl SigInfo {
    pub(super) fn orders(&self) -> RangeInclusive<u64> {
        self.order..=self.up_to
    }

    /// Takes in a later event. After a final one the time is limited, whatever came before.
    pub(super) fn merge(&mut self, later: SigInfo) {
        if later.event.is_final() && !self.event.is_final() {
            *self = SigInfo { order: self.order, ..later };
        }
    }
}

/// An event taken out of its mailbox.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) signal: Signal,
    pub(crate) info: SigInfo,
    /// When it came, and when the last one that was merged into it did.
    pub(crate) first: Moment,
    pub(crate) last: Moment,
    /// Nothing tells a key press from `GenerateConsoleCtrlEvent`.
    pub(crate) is_from_kernel: bool,
    pub(crate) has_more_from_kernel: bool,
    /// Whether a thread waits in `abort`: never, on Windows.
    pub(crate) aborts: bool,
    /// While anybody has it, a handler that waits with the event may wait for it to be passed on.
    _had: Arc<Had>,
}

/// Somebody has the event.
struct Had {
    info: SigInfo,
    keep: Keep,
}

/// What becomes of a handler that waits, once nobody has the event.
pub(super) type Keep = fn(Signal, RangeInclusive<u64>);

impl Drop for Had {
    fn drop(&mut self) {
        (self.keep)(self.info.event.signal(), self.info.orders());
    }
}

/// How long after an event that ends the process everything has to be done. The system waits for 5 s
/// (`HungAppTimeout`, `WaitToKillTimeout`) unless somebody has set less; to ask it would load `user32.dll`,
/// and a process that has loaded that is not told of a shutdown any more. The rest is for the end itself.
const LEFT_BY_THE_SYSTEM: Duration = Duration::from_secs(4);

impl Arrival {
    pub(super) fn new(signal: Signal, info: SigInfo, last: Moment, keep: Keep) -> Arrival {
        Arrival {
            signal,
            info,
            first: info.at,
            last,
            is_from_kernel: false,
            has_more_from_kernel: false,
            aborts: false,
            _had: Arc::new(Had { info, keep }),
        }
    }

    pub(crate) fn received(&self) -> Received {
        Received(self.info.event)
    }

    /// Takes in a repeat.
    pub(crate) fn merge(&mut self, repeat: &Arrival) {
        self.info.merge(repeat.info);
    }

    /// When the process had better have ended, because the system is going to end it soon after.
    pub(crate) fn last_moment(&self) -> Option<Instant> {
        self.info.event.is_final().then(|| self.info.at + LEFT_BY_THE_SYSTEM)
    }
}
