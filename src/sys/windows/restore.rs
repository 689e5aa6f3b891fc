//! The guard's handler is passed by again.

use super::guarded::Guarded;
use super::siginfo::Arrival;
use super::{forward, slot};
use crate::signal::SignalSet;

/// What is to be done once no lock is held.
#[derive(Default)]
pub(crate) struct Late {
    /// Events that came too late for the guard.
    pub(crate) arrivals: Vec<Arrival>,
}

impl Late {
    /// Hands each event to whatever handles it now.
    pub(crate) fn hand_over(&self) {
        self.arrivals.iter().for_each(forward::hand_over);
    }
}

/// From now on events go past the guard's handler.
pub(crate) fn restore_all(guarded: &[Guarded], _all: &[Guarded], _aborts: bool) -> Late {
    let arrivals = guarded.iter().filter_map(|one| slot::disarm(one.signal())).collect();
    Late { arrivals }
}

/// Always taken to be so: the handlers below may be the system's own alone, which would end a process that exits with
/// another code.
pub(crate) fn ends_process(_guarded: &Guarded) -> bool {
    true
}

/// Windows has no forked children.
pub(crate) fn restore_in_child(_signals: SignalSet) {}
