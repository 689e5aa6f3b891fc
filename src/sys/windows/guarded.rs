//! One signal under guard: found, installed, restored.
//!
//! Windows tells nobody who handles an event. So nothing is ever refused here, and the old handler is
//! whoever is registered below the guard's handler: perhaps several, perhaps only the system's own,
//! which ends the process.

use std::io;
use std::time::Duration;

use super::process::Process;
use super::siginfo::{Arrival, SigInfo};
use super::{handler, mailbox};
use crate::signal::{Signal, SignalSet};
use crate::sys::holder::Holder;

/// A signal that was looked at, with nothing changed yet.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    signal: Signal,
    is_passed_on: bool,
}

/// Why a handler was not put in place.
#[derive(Debug)]
pub(crate) enum Refused {
    System(io::Error),
    /// Another thread changed the disposition at that moment: on Windows nobody can know.
    #[allow(dead_code, reason = "a refusal of other platforms")]
    Changed(Vec<Arrival>),
}

impl Found {
    pub(crate) fn query(signal: Signal) -> io::Result<Found> {
        Ok(Found { signal, is_passed_on: false })
    }

    /// The same, to be passed on to the handlers below after the guard's part, or not.
    pub(crate) fn appending(self, append: bool) -> Found {
        Found { is_passed_on: append, ..self }
    }

    /// Not to be known. A process that ignores `^C` is not told of it at all: it stays ignored.
    pub(crate) fn is_ignored(&self) -> bool {
        false
    }

    /// Not to be known.
    pub(crate) fn holder(&self) -> Option<Holder> {
        None
    }

    pub(crate) fn is_buried_too_deep(&self) -> bool {
        false
    }
}

/// Puts the guard's handler in place for one signal after another, until one is refused.
pub(crate) fn install(
    found: &[Found],
    installed: &mut Vec<Guarded>,
) -> Result<(), (Signal, Refused)> {
    for one in found {
        handler::register().map_err(|source| (one.signal, Refused::System(source)))?;
        mailbox::arm(one.signal, one.is_passed_on);
        installed.push(Guarded { signal: one.signal, is_passed_on: one.is_passed_on });
    }
    Ok(())
}

/// A signal whose handler is the guard's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guarded {
    signal: Signal,
    is_passed_on: bool,
}

impl Guarded {
    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// Whether the handlers below hear of the signal after the guard's part is done.
    pub(crate) fn has_old_handler(&self) -> bool {
        self.is_passed_on
    }

    /// Whether the old handler may be the system's own, which ends the process and runs nothing: what
    /// is to run before the end has to run before the old handler then.
    pub(crate) fn old_handler_may_end_process(&self) -> bool {
        self.is_passed_on
    }

    /// All events go down the same list of handlers.
    pub(crate) fn same_old_handler(&self, _other: &Guarded) -> bool {
        true
    }

    /// From now on events go to the handlers below at once.
    pub(crate) fn give_back(&self) -> bool {
        mailbox::give_back(self.signal);
        true
    }

    /// Passes on what came to the handlers below. Does not wait for them: one of them may be waiting for
    /// this program to end. Without an event there is nothing to run.
    pub(crate) fn run_old_handler(&self, _is_restored: bool, _info: Option<&SigInfo>) {
        mailbox::release(self.signal);
    }

    /// Passes on what came to the handlers below; the next one is the guard's again.
    pub(crate) fn call_old_handler(&self, _info: &SigInfo) {
        mailbox::release(self.signal);
    }

    #[cfg(all(test, handle_exit_loom))]
    pub(crate) fn for_model(signal: Signal, has_old_handler: bool) -> Guarded {
        Guarded { signal, is_passed_on: has_old_handler }
    }
}

/// From now on events go past the guard's handler. Returns those that came too late for the guard.
pub(crate) fn restore_all(guarded: &[Guarded]) -> Vec<Arrival> {
    guarded.iter().filter_map(|one| mailbox::disarm(one.signal)).collect()
}

/// As `restore_all`: no event changes how a process ends that exits.
pub(crate) fn restore_in_exit(guarded: &[Guarded]) -> Vec<Arrival> {
    restore_all(guarded)
}

/// Windows has no forked children.
pub(crate) fn restore_in_child(_signals: SignalSet) {}

/// Call before the first `install`.
pub(crate) fn prepare(process: Process, abort_wait: Duration) -> io::Result<()> {
    mailbox::claim_process(process, abort_wait);
    Ok(())
}
