//! One signal under guard: found, installed, restored.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::libc;

use super::disposition::{Action, Disposition};
use super::handler::{self, FUNCTIONS, LEVELS, Slot, slot_of};
use super::per_process::PerProcess;
use super::process::Process;
use super::siginfo::{Arrival, SigInfo};
use super::{alternate_stack, forward, wake};
use crate::error::Holder;
use crate::policy::{Policy, Status};
use crate::signal::Signal;

/// Dispositions that the handler may still read, each kept once and for ever: a signal that was on
/// its way when a guard was dropped comes when nobody can know any more.
static INTERNED: PerProcess<Mutex<Vec<&'static Disposition>>> = PerProcess::new();

/// What nearly every signal has.
static DEFAULT: Disposition = Disposition::DEFAULT;

fn intern(disposition: Disposition) -> &'static Disposition {
    if disposition == DEFAULT {
        return &DEFAULT;
    }
    let mut known = INTERNED.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(same) = known.iter().find(|known| ***known == disposition) {
        return same;
    }
    let new: &'static Disposition = Box::leak(Box::new(disposition));
    known.push(new);
    new
}

/// A signal whose disposition was looked at, with nothing changed yet.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    signal: Signal,
    /// What is there now.
    top: Disposition,
    /// What is to be put back: `top`, or what the guard's own handler stands in for where a forked
    /// child or a foreign handler left that on top.
    below: &'static Disposition,
    level: usize,
}

impl Found {
    /// Looks at the signal's disposition.
    pub(crate) fn query(signal: Signal) -> io::Result<Found> {
        let slot = slot_of(signal);
        let top = Disposition::query(signal.as_raw())?;
        let ours = level_of(&top).and_then(|level| Some((level, slot.below(level)?)));
        let (level, below) = match (ours, top.action()) {
            (Some((level, below)), _) => (level, below),
            // A foreign handler may pass signals on to a level that it buried earlier.
            (None, Action::Handler(_)) => {
                (slot.level_over(&top).unwrap_or(slot.free_level()), intern(top))
            }
            (None, Action::Default | Action::Ignore) => (0, intern(top)),
        };
        Ok(Found { signal, top, below, level })
    }

    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    pub(crate) fn is_ignored(&self) -> bool {
        self.below.action() == Action::Ignore
    }

    /// Whose handler stands there, if one does.
    pub(crate) fn holder(&self) -> Option<Holder> {
        holder(self.below)
    }

    /// Whether foreign handlers have buried every level there is.
    pub(crate) fn is_out_of_levels(&self) -> bool {
        self.level >= LEVELS
    }

    /// The signal as it will be once installed.
    pub(crate) fn guarded(&self) -> Guarded {
        Guarded { signal: self.signal, below: self.below, level: self.level }
    }

    /// Puts the guard's handler in place, then compares: all is as it was if that is refused.
    pub(crate) fn install(&self, mask: &Mask, cut: Option<Status>) -> io::Result<()> {
        let slot = slot_of(self.signal);
        slot.arm(self.level, self.below, cut);
        let ours = Disposition::handler(FUNCTIONS[self.level], mask.0);
        let displaced = ours.put(self.signal.as_raw()).inspect_err(|_| slot.disarm())?;
        if displaced != self.top {
            let _ = displaced.put(self.signal.as_raw());
            slot.disarm();
            let changed = "another thread changed the disposition at that moment: try again";
            return Err(io::Error::other(changed));
        }
        // Whatever is below this level can lead to none from here up.
        slot.bury(self.level);
        Ok(())
    }
}

/// The signals that are blocked while the guard's handler runs.
pub(crate) struct Mask(libc::sigset_t);

impl Mask {
    pub(crate) fn of(signals: impl IntoIterator<Item = Signal>) -> Mask {
        Mask(super::disposition::set_of(signals))
    }
}

/// Whose handler a disposition is, if it is one.
fn holder(disposition: &Disposition) -> Option<Holder> {
    match disposition.action() {
        Action::Handler(address) => Some(super::disposition::holder(address)),
        Action::Default | Action::Ignore => None,
    }
}

/// A signal whose handler is the guard's.
#[derive(Clone, Copy)]
pub(crate) struct Guarded {
    pub(crate) signal: Signal,
    below: &'static Disposition,
    level: usize,
}

impl Guarded {
    /// Whether a handler stood there before.
    pub(crate) fn has_old_handler(&self) -> bool {
        self.below.is_handler()
    }

    /// Whether two signals had the same handler before.
    pub(crate) fn same_old_handler(&self, other: &Guarded) -> bool {
        self.below.action() == other.below.action()
    }

    /// Puts back what was there, if the guard's handler is still on top; says whether it was.
    pub(crate) fn restore(&self) -> bool {
        restore(self.signal, self.level, self.below)
    }

    /// Runs the old handler as a real delivery, with the signal its own from then on.
    pub(crate) fn run_old_handler(&self, info: Option<&SigInfo>) {
        let slot = slot_of(self.signal);
        let restored = self.restore();
        slot.disarm();
        forward::run_old(self.signal, self.below, restored, info);
        // Repeats that came before are part of the one delivery.
        slot.empty();
    }

    fn slot(&self) -> &'static Slot {
        slot_of(self.signal)
    }
}

/// Puts everything back and returns the signals that came too late for the guard, in order.
pub(crate) fn restore_all(guarded: &[Guarded]) -> Vec<Arrival> {
    restore_each(guarded);
    disarm(guarded)
}

/// As `restore_all`, in the exit hook: see `quiesce_at_most`.
pub(crate) fn restore_all_at_exit(guarded: &[Guarded], patience: Duration) -> Vec<Arrival> {
    restore_each(guarded);
    disarm_and(guarded, || handler::quiesce_at_most(patience))
}

/// From now on the handler passes these signals through. Returns those that came too late.
pub(crate) fn disarm(guarded: &[Guarded]) -> Vec<Arrival> {
    disarm_and(guarded, handler::quiesce)
}

fn restore_each(guarded: &[Guarded]) {
    for one in guarded {
        one.restore();
    }
}

fn disarm_and(guarded: &[Guarded], quiesce: impl FnOnce()) -> Vec<Arrival> {
    for one in guarded {
        one.slot().disarm();
    }
    quiesce();
    let mut late = Vec::new();
    handler::take(guarded.iter().map(|one| one.signal), &mut late);
    late
}

/// In a forked child: puts back what the parent's guard left in this process, unless a guard of the
/// child's own has seen to it. Takes no lock.
pub(crate) fn restore_in_child(signals: &[Signal]) {
    let is_own = handler::is_own();
    for &signal in signals {
        if is_own && slot_of(signal).is_any_armed() {
            continue;
        }
        let Ok(top) = Disposition::query(signal.as_raw()) else { continue };
        let Some(level) = level_of(&top) else { continue };
        if let Some(below) = slot_of(signal).below(level) {
            restore(signal, level, below);
        }
    }
}

/// Before a process exits, or first thing when it does: from here on the guard's handler runs on the
/// ordinary stack.
///
/// `process::exit` of Rust up to 1.95 unmaps the alternate stack of the main thread, whichever thread
/// calls it (rust-lang/rust#161018); a signal that the main thread then takes with `SA_ONSTACK` has
/// nowhere to go, and the kernel ends the process with SIGSEGV.
pub(crate) fn leave_alternate_stack(guarded: &[Guarded]) {
    for one in guarded {
        let raw = one.signal.as_raw();
        match Disposition::query(raw) {
            Ok(top) if level_of(&top) == Some(one.level) => {
                let _ = top.on_ordinary_stack().put(raw);
            }
            _ => {}
        }
    }
}

/// Query, then put, then compare: a foreign handler that comes in between gets its place back.
fn restore(signal: Signal, level: usize, below: &Disposition) -> bool {
    let raw = signal.as_raw();
    let on_top = |disposition: &Disposition| level_of(disposition) == Some(level);
    match Disposition::query(raw) {
        Ok(top) if on_top(&top) => {}
        Ok(top) => {
            // It may be `below`, put back already when the old handler was run.
            if top.is_handler() && top != *below {
                slot_of(signal).bury(level + 1);
            }
            return false;
        }
        Err(_) => return false,
    }
    match below.put(raw) {
        Ok(displaced) if on_top(&displaced) => true,
        Ok(displaced) => {
            let _ = displaced.put(raw);
            slot_of(signal).bury(level + 1);
            false
        }
        Err(_) => false,
    }
}

/// Which of the guard's functions a disposition's handler is.
fn level_of(disposition: &Disposition) -> Option<usize> {
    let Action::Handler(address) = disposition.action() else { return None };
    FUNCTIONS.iter().position(|function| *function as usize == address)
}

/// Makes handler and wake-up ready for a guard of `process`, which is this one. Call before the first `install`.
pub(crate) fn prepare(policy: &Policy, process: Process) -> io::Result<()> {
    wake::prepare(process)?;
    alternate_stack::note();
    handler::own(policy, process);
    Ok(())
}
