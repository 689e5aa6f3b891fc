//! One signal under guard: found, installed, restored.

use std::io;

use nix::libc;

pub(crate) use super::disposition::holder;
use super::disposition::{Action, Disposition};
use super::handler::FUNCTIONS;
use super::process::{self, Process};
use super::siginfo::{Arrival, SigInfo};
use super::slot::{self, LEVELS, slot_of};
use super::{abort, forward, mask, wake};
use crate::signal::{FAULTS, Signal, SignalSet};
use crate::sys::lock::Lock;
use crate::sys::per_process::PerProcess;

/// Dispositions that the handler may still read, each kept once and forever: a signal that was on
/// its way when a guard was dropped comes when nobody can know any more. Written by those who make a
/// guard; the handler follows pointers to the entries.
static INTERNED: PerProcess<Lock<Vec<&'static Disposition>>> = PerProcess::new(|_| Lock::default());

/// What nearly every signal has. Never written.
static DEFAULT: Disposition = Disposition::DEFAULT;

fn intern(disposition: Disposition) -> &'static Disposition {
    if disposition == DEFAULT {
        return &DEFAULT;
    }
    let mut known = INTERNED.get(process::this()).lock();
    if let Some(same) = known.iter().find(|known| ***known == disposition) {
        return same;
    }
    let new: &'static Disposition = Box::leak(Box::new(disposition));
    known.push(new);
    new
}

/// A signal whose disposition was looked at, with nothing changed yet.
pub(crate) struct Found {
    /// What is there now.
    top: Disposition,
    /// What the guard's handler would be. `below` is `top`, or what the guard's own handler stands in for where a
    /// forked child or a foreign handler left that on top.
    pub(crate) guarded: Guarded,
}

impl Found {
    /// Looks at the signal's disposition. `layers` are the guard's handlers of this signal that are in use.
    pub(crate) fn query(signal: Signal, layers: &[Guarded]) -> io::Result<Found> {
        let slot = slot_of(signal);
        let top = Disposition::query(signal.as_raw())?;
        let ours = level_of(&top).and_then(|level| Some((level, slot.below(level)?)));
        let above = layers.iter().map(|layer| layer.level + 1).max().unwrap_or(0);
        let (level, below) = match (ours, top.action()) {
            (Some((level, below)), _) => (level, below),
            // A foreign handler may pass signals on to a level that it buried earlier.
            (None, Action::Handler(_)) => {
                let is_free = |level: &usize| layers.iter().all(|layer| layer.level != *level);
                let known = slot.level_over(&top).filter(is_free);
                (known.unwrap_or(above.max(slot.free_level())), intern(top))
            }
            (None, Action::Default | Action::Ignore) => (above, intern(top)),
        };
        Ok(Found { top, guarded: Guarded { signal, below, level } })
    }

    /// Whether foreign handlers have buried every level there is.
    pub(crate) fn is_buried_too_deep(&self) -> bool {
        self.guarded.level >= LEVELS
    }
}

/// Puts the guard's handler in place for one signal after another, and compares what it replaces with what was found,
/// until one is refused: for that one all is as it was. Without an error, another thread changed the disposition at that
/// moment; `late` gets the signals that the guard's handler took meanwhile. Not for one that is buried too deep.
pub(crate) fn install(
    found: &[Found],
    installed: &mut Vec<Guarded>,
    late: &mut Vec<Arrival>,
) -> Result<(), (Signal, Option<io::Error>)> {
    let is_go_here = !found.is_empty() && is_go_runtime_here();
    for Found { top, guarded } in found {
        let Guarded { signal, below, level } = *guarded;
        let slot = slot_of(signal);
        // While the handler runs, no foreign handler may interrupt it. The faults cannot be held back, and
        // the handler causes none.
        let mut ours = Disposition::handler(FUNCTIONS[level], mask::all_but(FAULTS));
        if top.is_on_alternate_stack() || is_go_here {
            ours = ours.on_alternate_stack();
        }
        if signal == Signal::CHLD {
            ours = ours.with_children_as(top);
        }
        if Some(signal) == abort::ABORT && !slot.is_any_armed() {
            abort::hold();
        }
        let armed_before = slot.arm(level, below);
        let replaced = ours.replace(signal.as_raw()).map_err(|error| {
            slot.disarm_to(armed_before);
            (signal, Some(error))
        })?;
        if replaced != *top {
            let _ = replaced.replace(signal.as_raw());
            slot.disarm_to(armed_before);
            if !slot.is_any_armed() {
                slot::wait_for_handlers();
                late.extend(slot::take_first(SignalSet::of(&[signal])));
            }
            return Err((signal, None));
        }
        // Whatever is below this level can lead to none from here up.
        slot.set_buried(level);
        installed.push(*guarded);
    }
    Ok(())
}

/// Whether the process has Go code, whose threads have stacks too small for signal handlers: every
/// handler has to run on the alternate stack then. (Otherwise none should: std unmaps that of the main
/// thread in `process::exit`, rust-lang/rust#161018.) In every build mode Go handles SIGURG that way.
fn is_go_runtime_here() -> bool {
    Disposition::query(libc::SIGURG)
        .is_ok_and(|urg| urg.handler_address().is_some() && urg.is_on_alternate_stack())
}

/// A signal whose handler is the guard's.
#[derive(Clone, Copy)]
pub(crate) struct Guarded {
    pub(super) signal: Signal,
    pub(super) below: &'static Disposition,
    pub(super) level: usize,
}

impl Guarded {
    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// Whether this layer's handler is what the kernel calls now.
    pub(crate) fn is_on_top(&self) -> io::Result<bool> {
        Disposition::query(self.signal.as_raw()).map(|top| level_of(&top) == Some(self.level))
    }

    /// The layer that is on top now, and takes the signal from now on, where a foreign handler has gone that was below
    /// this one.
    pub(crate) fn uncovered(&self) -> Option<Guarded> {
        if self.level == 0 {
            return None;
        }
        let top = Disposition::query(self.signal.as_raw()).ok()?;
        let level = level_of(&top).filter(|level| *level != self.level)?;
        let slot = slot_of(self.signal);
        let below = slot.below(level)?;
        slot.arm(level, below);
        // The handler that has gone may come again, and call this one's.
        slot.bury(self.level);
        Some(Guarded { signal: self.signal, below, level })
    }

    pub(crate) fn is_above(&self, other: &Guarded) -> bool {
        self.level > other.level
    }

    /// Whether an old handler decides about the signal, also if a host guards it.
    pub(crate) fn has_old_handler(&self, _is_hosted: bool) -> bool {
        self.below.handler_address().is_some()
    }

    /// A host begins or ceases to guard the signal. Nothing to do: the old handler is known.
    pub(crate) fn set_hosted(&self, _is_hosted: bool) {}

    /// The address of the old handler: see [`holder`].
    pub(crate) fn old_handler(&self) -> Option<usize> {
        self.below.handler_address()
    }

    pub(crate) fn was_ignored(&self) -> bool {
        self.below.action() == Action::Ignore
    }

    /// Whether the old handler may be no handler after all, but end the process.
    pub(crate) fn old_handler_may_end_process(&self) -> bool {
        false
    }

    /// Whether it is the same layer of the same signal's handler.
    pub(crate) fn is_same(&self, other: &Guarded) -> bool {
        (self.signal, self.level) == (other.signal, other.level)
    }

    /// Whether two signals had the same handler before.
    pub(crate) fn same_old_handler(&self, other: &Guarded) -> bool {
        self.below.action() == other.below.action()
    }

    /// Calls the old handler, on this thread, and leaves the guard's in place.
    pub(crate) fn call_old_handler(&self, info: Option<&SigInfo>) {
        forward::call_directly(self.signal, self.below, info);
    }

    #[cfg(all(test, handle_exit_loom))]
    pub(crate) fn for_model(signal: Signal, has_old_handler: bool) -> Guarded {
        let handler = Disposition::handler(FUNCTIONS[0], mask::all_but(FAULTS));
        let below = if has_old_handler { Box::leak(Box::new(handler)) } else { &DEFAULT };
        slot_of(signal).arm(0, below);
        Guarded { signal, below, level: 0 }
    }
}

/// Which of the guard's functions a disposition's handler is.
#[inline(never)]
pub(super) fn level_of(disposition: &Disposition) -> Option<usize> {
    let Action::Handler(address) = disposition.action() else { return None };
    FUNCTIONS.iter().position(|function| *function as usize == address)
}

/// Makes wake-up and mailboxes ready for guards of `process`, which is this one. Call before the first
/// `install` in a process, and when the first of several guards is made.
pub(crate) fn prepare(process: Process) -> io::Result<()> {
    if !slot::is_owned_by(process) {
        wake::prepare()?;
    }
    slot::claim_process(process);
    Ok(())
}
