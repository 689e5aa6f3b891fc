//! An event that came.

use std::time::{Duration, Instant};

use crate::signal::{ConsoleEvent, Received, Signal};

/// What the system says of an event, and when it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SigInfo {
    pub(super) event: ConsoleEvent,
    /// Counts events: the order of arrival.
    pub(super) order: u64,
    pub(super) at: Instant,
}

/// An event taken out of its mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) signal: Signal,
    pub(crate) info: SigInfo,
    /// Whether it, or one that was merged into it, is the first of its signal since the guard was made,
    /// or since what came before was answered.
    pub(crate) is_first: bool,
    /// Whether a second wish to end has come.
    pub(crate) repeats: bool,
    /// Whether a thread waits in `abort`: never, on Windows.
    pub(crate) aborts: bool,
}

/// How long after an event that ends the process everything has to be done. The system waits for 5 s
/// (`HungAppTimeout`, `WaitToKillTimeout`) unless somebody has set less; to ask it would load `user32.dll`,
/// and a process that has loaded that is not told of a shutdown any more. The rest is for the end itself.
const LEFT_BY_THE_SYSTEM: Duration = Duration::from_secs(4);

impl Arrival {
    pub(crate) fn received(&self) -> Received {
        Received::new(self.info.event)
    }

    /// When the process had better have ended, because the system is going to end it soon after.
    pub(crate) fn last_moment(&self) -> Option<Instant> {
        self.info.event.is_final().then(|| self.info.at + LEFT_BY_THE_SYSTEM)
    }

    #[cfg(all(test, handle_exit_loom))]
    pub(crate) fn for_model(signal: Signal, repeats: bool) -> Arrival {
        let event =
            if signal == Signal::INT { ConsoleEvent::CtrlC } else { ConsoleEvent::CtrlBreak };
        let info = SigInfo { event, order: 0, at: Instant::now() };
        Arrival { signal, info, is_first: !repeats, repeats, aborts: false }
    }
}
