//! One signal under guard: found, installed, restored.
//!
//! Windows tells nobody who handles an event. So nothing is ever refused here, and the old handler is
//! whoever is registered below the guard's handler: perhaps several, perhaps only the system's own,
//! which ends the process.

use std::io;

use super::process::Process;
use super::siginfo::{Arrival, SigInfo};
use super::{forward, handler, slot};
use crate::signal::Signal;
use crate::sys::holder::Holder;

/// A signal that was looked at, with nothing changed yet.
pub(crate) struct Found {
    pub(crate) guarded: Guarded,
}

impl Found {
    pub(crate) fn query(signal: Signal, _layers: &[Guarded]) -> io::Result<Found> {
        Ok(Found { guarded: Guarded { signal } })
    }

    pub(crate) fn is_buried_too_deep(&self) -> bool {
        false
    }
}

/// Puts the guard's handler in place for one signal after another, until one is refused, always with an error: whether
/// another thread has changed something meanwhile is not to be known.
pub(crate) fn install(
    found: &[Found],
    installed: &mut Vec<Guarded>,
    _late: &mut Vec<Arrival>,
) -> Result<(), (Signal, Option<io::Error>)> {
    for guarded in found.iter().map(|one| one.guarded) {
        handler::register().map_err(|source| (guarded.signal, Some(source)))?;
        slot::arm(guarded.signal);
        installed.push(guarded);
    }
    Ok(())
}

/// Not to be known.
pub(crate) fn holder(address: usize) -> Holder {
    Holder::unknown(address)
}

/// A signal whose handler is the guard's.
#[derive(Clone, Copy)]
pub(crate) struct Guarded {
    signal: Signal,
}

/// The signal was given back.
#[derive(Clone, Copy)]
pub(crate) struct Restored;

impl Guarded {
    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// Whether it is a guard's already. Whether another handler came on top is not to be known.
    pub(crate) fn is_on_top(&self) -> io::Result<bool> {
        Ok(slot::is_armed(self.signal))
    }

    /// Not to be known.
    pub(crate) fn uncovered(&self) -> Option<Guarded> {
        None
    }

    pub(crate) fn is_above(&self, _other: &Guarded) -> bool {
        false
    }

    /// Whether the handlers below hear of the signal after the guard's part is done: not where a host decides.
    pub(crate) fn has_old_handler(&self, is_hosted: bool) -> bool {
        !is_hosted
    }

    /// A host begins or ceases to guard the signal.
    pub(crate) fn set_hosted(&self, is_hosted: bool) {
        slot::set_hosted(self.signal, is_hosted);
    }

    /// Not to be known.
    pub(crate) fn old_handler(&self) -> Option<usize> {
        None
    }

    /// Not to be known. A process that ignores `^C` is not told of it at all: it stays ignored.
    pub(crate) fn was_ignored(&self) -> bool {
        false
    }

    /// Whether the old handler may be the system's own, which ends the process and runs nothing: what
    /// is to run before the end has to run before the old handler then.
    pub(crate) fn old_handler_may_end_process(&self) -> bool {
        true
    }

    pub(crate) fn is_same(&self, other: &Guarded) -> bool {
        self.signal == other.signal
    }

    /// All events go down the same list of handlers.
    pub(crate) fn same_old_handler(&self, _other: &Guarded) -> bool {
        true
    }

    /// From now on events go to the handlers below at once.
    pub(crate) fn give_back(&self) -> Restored {
        // What came, and was not taken, is part of the event that is passed on.
        drop(slot::disarm(self.signal));
        Restored
    }

    /// Passes on what came to the handlers below. Does not wait for them: one of them may be waiting for
    /// this program to end. Without an event there is nothing to run.
    pub(crate) fn run_old_handler(&self, _restored: Restored, info: &SigInfo) {
        forward::pass_on(info);
    }

    /// Passes on what came to the handlers below; the next one is the guard's again.
    pub(crate) fn call_old_handler(&self, info: Option<&SigInfo>) {
        if let Some(info) = info {
            slot::pass_on(self.signal, info.orders());
        }
    }
}

/// There is nothing to make ready.
pub(crate) fn prepare(_process: Process) -> io::Result<()> {
    Ok(())
}
