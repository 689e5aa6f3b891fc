//! The guard's handlers go: the old dispositions are restored.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::disposition::{self, Action, Disposition};
use super::guarded::{Guarded, level_of};
use super::handler::FUNCTIONS;
use super::siginfo::{Arrival, SigInfo};
use super::slot::{self, slot_of};
use super::{abort, forward, process};
use crate::signal::{Signal, SignalSet};

impl Guarded {
    /// The signal is the old handler's own from now on: the old disposition is restored, if the
    /// guard's handler is still on top. Repeats that came before are part of the one delivery.
    pub(crate) fn give_back(&self) -> Restored {
        let restored = restore(self.signal, self.level, self.below);
        slot_of(self.signal).disarm();
        restored
    }

    /// Runs the old handler of a signal that was given back, on this thread: as a real delivery, if the
    /// old disposition was restored. Call it with no lock held.
    pub(crate) fn run_old_handler(&self, restored: Restored, info: &SigInfo) {
        if self.is_called_on(restored) {
            pin();
        }
        if restored == Restored::Yes {
            forward::deliver(self.signal, self.below, Some(info));
        } else {
            forward::call_directly(self.signal, self.below, Some(info));
        }
    }

    /// Whether foreign handlers may go on calling this layer, or the one below it, which has led to its level.
    fn is_called_on(&self, restored: Restored) -> bool {
        restored == Restored::Buried || self.level > 0
    }
}

/// What is to be done once no lock is held.
#[derive(Default)]
pub(crate) struct Late {
    /// Signals that came too late for the guard, in order.
    pub(crate) arrivals: Vec<Arrival>,
    /// Foreign handlers may go on calling the guard's: see [`pin`].
    buries: bool,
}

impl Late {
    /// Hands each signal to whatever handles it now. Call it with no lock held.
    pub(crate) fn hand_over(&self) {
        if self.buries {
            pin();
        }
        self.arrivals.iter().for_each(forward::hand_over);
    }
}

/// Restores these of all layers, which are by age. A signal that has an older one, under a foreign handler, is that
/// one's again. A thread in `abort` is let go, unless the process ends for it: `aborts`.
pub(crate) fn restore_all(guarded: &[Guarded], all: &[Guarded], aborts: bool) -> Late {
    let mut late = Late::default();
    let mut gone = SignalSet::default();
    for one in guarded {
        let at = all.iter().position(|other| other.is_same(one)).unwrap_or(all.len());
        let stays = |other: &&Guarded| {
            other.signal == one.signal && !guarded.iter().any(|gone| gone.is_same(other))
        };
        if all[at..].iter().any(|newer| stays(&newer)) {
            continue;
        }
        match all[..at].iter().rfind(stays) {
            Some(older) => drop(slot_of(one.signal).arm(older.level, older.below)),
            None => {
                gone.insert(one.signal);
            }
        }
        let restored = restore(one.signal, one.level, one.below);
        late.buries |= one.is_called_on(restored);
    }
    for signal in gone {
        slot_of(signal).disarm();
        if Some(signal) == abort::ABORT && !aborts {
            abort::release();
        }
    }
    if !gone.is_empty() {
        slot::wait_for_handlers();
        late.arrivals.extend(std::iter::from_fn(|| slot::take_first(gone)));
    }
    late
}

/// Whether the signal's handler is on top and the old disposition ends the process.
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
        if let Some(level) = level_of(&top) {
            restore_level(signal, level);
        }
    }
}

/// Restores what this level stands in for.
fn restore_level(signal: Signal, level: usize) {
    slot_of(signal).below(level).map(|below| restore(signal, level, below));
}

/// What became of the guard's handler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restored {
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
        slot_of(signal).bury(level);
        Restored::Buried
    };
    match Disposition::query(raw) {
        Ok(top) if is_ours(&top) => {}
        // It may be `below`, which somebody else has restored.
        Ok(top) if top.handler_address().is_some() && top != *below => {
            let Some(older) = level_of(&top) else { return bury() };
            // A foreign handler has gone that was in between: either a living guard has that one, or it goes too.
            if slot_of(signal).armed_level() != older + 1 {
                restore_level(signal, older);
            }
            // It may come again, and call this one's.
            return bury();
        }
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
fn pin() {
    /// Whether the code was pinned. Written and read here.
    static IS_PINNED: AtomicBool = AtomicBool::new(false);
    if !IS_PINNED.swap(true, SeqCst) {
        disposition::pin(FUNCTIONS[0] as usize);
    }
}
