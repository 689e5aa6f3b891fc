//! The guard's handlers go: what stood there before is restored.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::abort;
use super::disposition::{self, Action, Disposition};
use super::guarded::{GivenBack, Guarded, level_of};
use super::handler::FUNCTIONS;
use super::process;
use super::siginfo::Arrival;
use super::slot::{self, slot_of};
use crate::signal::{Signal, SignalSet};

impl Guarded {
    /// The signal is the old handler's own from now on: the old disposition is restored, if the
    /// guard's handler is still on top. Repeats that came before are part of the one delivery.
    pub(crate) fn give_back(&self) -> GivenBack {
        let restored = restore(self.signal, self.level, self.below);
        self.slot().disarm();
        self.slot().empty();
        GivenBack { is_restored: restored == Restored::Yes, buries: restored == Restored::Buried }
    }
}
/// What is to be done once no lock is held.
#[derive(Default)]
pub(crate) struct Late {
    /// Signals that came too late for the guard, in order.
    pub(crate) arrivals: Vec<Arrival>,
    /// Foreign handlers stay on top of the guard's: see [`pin`].
    pub(crate) buries: bool,
}

/// Restores everything. A signal that has an older layer of the guard's handlers below, under a foreign one, is
/// that layer's again.
pub(crate) fn restore_all(guarded: &[Guarded], layers: &[Guarded]) -> Late {
    let mut late = Late::default();
    let mut gone = SignalSet::default();
    for one in guarded {
        let mut others = layers.iter().filter(|other| other.signal == one.signal);
        if others.clone().any(|other| other.level > one.level) {
            continue;
        }
        match others.next_back() {
            Some(older) => drop(one.slot().arm(older.level, older.below)),
            None => {
                gone.insert(one.signal);
            }
        }
        late.buries |= restore(one.signal, one.level, one.below) == Restored::Buried;
    }
    for signal in gone {
        slot_of(signal).disarm();
        if Some(signal) == abort::ABORT {
            abort::release();
        }
    }
    if !gone.is_empty() {
        slot::wait_for_handlers();
        late.arrivals.extend(std::iter::from_fn(|| slot::take_first(gone)));
    }
    late
}

/// Whether the signal's handler is on top and what stood there before ends the process.
pub(crate) fn ends_process(guarded: &Guarded) -> bool {
    guarded.is_on_top().unwrap_or(false) && guarded.below.action() == Action::Default
}

/// In a forked child: restores what the parent's guard left in this process, unless a guard of the
/// child's own has seen to it. Takes no lock.
pub(crate) fn restore_in_child(signals: SignalSet) {
    let is_owned = slot::is_owned_by(process::this());
    for signal in signals {
        if is_owned && slot_of(signal).is_any_armed() {
            continue;
        }
        let Ok(top) = Disposition::query(signal.as_raw()) else { continue };
        let Some(level) = level_of(&top) else { continue };
        if let Some(below) = slot_of(signal).below(level) {
            restore(signal, level, below);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Restored {
    Yes,
    /// A foreign handler stays on top, and may call the guard's forever.
    Buried,
    No,
}

/// Query, then replace, then compare: a foreign handler that comes in between gets its place back.
fn restore(signal: Signal, level: usize, below: &Disposition) -> Restored {
    let raw = signal.as_raw();
    let is_ours = |disposition: &Disposition| level_of(disposition) == Some(level);
    let bury = || {
        let slot = slot_of(signal);
        slot.set_buried((level + 1).max(slot.free_level()));
        Restored::Buried
    };
    match Disposition::query(raw) {
        Ok(top) if is_ours(&top) => {}
        // It may be `below`, which somebody else has restored.
        Ok(top) if top.is_handler() && top != *below => return bury(),
        _ => return Restored::No,
    }
    match below.replace(raw) {
        Ok(replaced) if is_ours(&replaced) => Restored::Yes,
        Ok(replaced) => {
            let _ = replaced.replace(raw);
            bury()
        }
        Err(_) => Restored::No,
    }
}

/// Keeps the code of the handlers loaded forever: a foreign handler may call them. Takes locks of the dynamic
/// linker, so call it with none of the crate's held, and not in a forked child.
pub(crate) fn pin() {
    /// Whether the code was pinned. Written and read here.
    static IS_PINNED: AtomicBool = AtomicBool::new(false);
    if !IS_PINNED.swap(true, SeqCst) {
        disposition::pin(FUNCTIONS[0] as usize);
    }
}
