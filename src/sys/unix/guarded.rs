//! One signal under guard: found, installed, restored.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use nix::libc;

use super::disposition::{self, Action, Disposition};
use super::handler::FUNCTIONS;
use super::process::{self, Process};
use super::siginfo::{Arrival, SigInfo};
use super::slot::{LEVELS, Slot, slot_of};
use super::{forward, mailbox, mask, wake};
use crate::signal::{FAULTS, Signal, SignalSet};
use crate::sys::holder::Holder;
use crate::sys::lock::Lock;
use crate::sys::per_process::PerProcess;
use crate::sys::status::Status;

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
    let mut known = INTERNED.get().lock();
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

/// Why the guard's handler is not in place.
#[derive(Debug)]
pub(crate) enum Refused {
    System(io::Error),
    /// Another thread changed the disposition at that moment. All is as it was, but for the signal that
    /// came to the guard's handler meanwhile.
    Changed(Vec<Arrival>),
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

    /// Whether the old handler is to be run is known from the disposition here.
    pub(crate) fn appending(self, _append: bool) -> Found {
        self
    }

    pub(crate) fn is_ignored(&self) -> bool {
        self.below.action() == Action::Ignore
    }

    /// Whose handler stands there, if one does.
    pub(crate) fn holder(&self) -> Option<Holder> {
        match self.below.action() {
            Action::Handler(address) => Some(disposition::holder(address)),
            Action::Default | Action::Ignore => None,
        }
    }

    /// Whether foreign handlers have buried every level there is.
    pub(crate) fn is_buried_too_deep(&self) -> bool {
        self.level >= LEVELS
    }

    /// Puts the guard's handler in place, then compares: all is as it was if that is refused.
    fn install(&self, is_go_here: bool) -> Result<(), Refused> {
        let slot = slot_of(self.signal);
        // While the handler runs, no foreign handler may interrupt it, for that might leave by
        // `siglongjmp`. The faults cannot be held back, and the handler causes none.
        let mut ours = Disposition::handler(FUNCTIONS[self.level], mask::all_but(FAULTS));
        if self.top.is_on_alternate_stack() || is_go_here {
            ours = ours.on_alternate_stack();
        }
        slot.arm(self.level, self.below);
        let replaced = ours.replace(self.signal.as_raw()).map_err(|error| {
            slot.disarm();
            Refused::System(error)
        })?;
        if replaced != self.top {
            let _ = replaced.replace(self.signal.as_raw());
            slot.disarm();
            return Err(Refused::Changed(take_late(SignalSet::of(&[self.signal]))));
        }
        // Whatever is below this level can lead to none from here up.
        slot.set_buried(self.level);
        Ok(())
    }
}

/// Puts the guard's handler in place for one signal after another, until one is refused. Not for one
/// that is buried too deep.
pub(crate) fn install(
    found: &[Found],
    installed: &mut Vec<Guarded>,
) -> Result<(), (Signal, Refused)> {
    let is_go_here = is_go_runtime_here();
    for one in found {
        one.install(is_go_here).map_err(|refused| (one.signal, refused))?;
        installed.push(Guarded { signal: one.signal, below: one.below, level: one.level });
    }
    Ok(())
}

/// Whether the process has Go code, whose threads have stacks too small for signal handlers: every
/// handler has to run on the alternate stack then. (Otherwise none should: std unmaps that of the main
/// thread in `process::exit`, rust-lang/rust#161018.) In every build mode Go handles SIGURG that way.
fn is_go_runtime_here() -> bool {
    Disposition::query(libc::SIGURG)
        .is_ok_and(|urg| urg.is_handler() && urg.is_on_alternate_stack())
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guarded").field(&self.signal).finish()
    }
}

/// A signal whose handler is the guard's.
#[derive(Clone, Copy)]
pub(crate) struct Guarded {
    signal: Signal,
    below: &'static Disposition,
    level: usize,
}

impl Guarded {
    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// Whether a handler stood there before.
    pub(crate) fn has_old_handler(&self) -> bool {
        self.below.is_handler()
    }

    /// Whether what stood there before may be no handler after all, but end the process.
    pub(crate) fn old_handler_may_end_process(&self) -> bool {
        false
    }

    /// Whether two signals had the same handler before.
    pub(crate) fn same_old_handler(&self, other: &Guarded) -> bool {
        self.below.action() == other.below.action()
    }

    /// The signal is the old handler's own from now on: the old disposition is put back, if the
    /// guard's handler is still on top. Whether it was.
    pub(crate) fn give_back(&self) -> bool {
        let is_restored = restore(self.signal, self.level, self.below, Pin::Code);
        self.slot().disarm();
        // Repeats that came before are part of the one delivery.
        self.slot().mailbox.empty();
        is_restored
    }

    /// Runs the old handler of a signal that was given back, on this thread: as a real delivery, if the
    /// old disposition `is_restored`.
    pub(crate) fn run_old_handler(&self, is_restored: bool, info: Option<&SigInfo>) {
        if is_restored {
            forward::deliver(self.signal, self.below, info);
        } else {
            forward::call_directly(self.signal, self.below, info);
        }
    }

    /// Calls the old handler, on this thread, and leaves the guard's in place.
    pub(crate) fn call_old_handler(&self, info: &SigInfo) {
        forward::call_directly(self.signal, self.below, Some(info));
    }

    fn slot(&self) -> &'static Slot {
        slot_of(self.signal)
    }

    #[cfg(all(test, handle_exit_loom))]
    pub(crate) fn for_model(signal: Signal, has_old_handler: bool) -> Guarded {
        let handler = Disposition::handler(FUNCTIONS[0], mask::all_but(FAULTS));
        let below = if has_old_handler { Box::leak(Box::new(handler)) } else { &DEFAULT };
        Guarded { signal, below, level: 0 }
    }
}

/// Puts everything back and returns the signals that came too late for the guard, in order.
#[inline(never)]
pub(crate) fn restore_all(guarded: &[Guarded]) -> Vec<Arrival> {
    for one in guarded {
        restore(one.signal, one.level, one.below, Pin::Code);
    }
    for one in guarded {
        one.slot().disarm();
    }
    take_late(guarded.iter().map(Guarded::signal).collect())
}

/// What came to the guard's handler and is no guard's, in order. For signals that are disarmed.
#[inline(never)]
fn take_late(signals: SignalSet) -> Vec<Arrival> {
    mailbox::wait_for_handlers();
    let mut late = Vec::new();
    mailbox::take(signals, &mut late);
    late
}

/// As `restore_all`, for a process that exits. A signal that would end it has what it wants: it stays the
/// handler's, and does not change the status any more. Only a second wish to end, from now on, ends the process
/// at once: an exit function that is still to run may hang.
pub(crate) fn restore_in_exit(guarded: &[Guarded]) -> Vec<Arrival> {
    let stays = |one: &Guarded| {
        let is_on_top = Disposition::query(one.signal.as_raw())
            .is_ok_and(|top| level_of(&top) == Some(one.level));
        is_on_top && one.below.action() == Action::Default
    };
    let mut go = Vec::new();
    for one in guarded {
        if stays(one) {
            one.slot().arm(one.level, one.below);
            mailbox::set_cut(one.signal, Some(Status::Signal(one.signal)));
        } else {
            go.push(*one);
        }
    }
    restore_all(&go)
}

/// In a forked child: puts back what the parent's guard left in this process, unless a guard of the
/// child's own has seen to it. Takes no lock.
pub(crate) fn restore_in_child(signals: SignalSet) {
    let is_owned = mailbox::is_owned_by(process::this());
    for signal in signals {
        if is_owned && slot_of(signal).is_any_armed() {
            continue;
        }
        let Ok(top) = Disposition::query(signal.as_raw()) else { continue };
        let Some(level) = level_of(&top) else { continue };
        if let Some(below) = slot_of(signal).below(level) {
            restore(signal, level, below, Pin::Nothing);
        }
    }
}

/// What `bury` does about the code of the handler.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pin {
    Code,
    /// In a forked child the dynamic linker's locks may be held for good.
    Nothing,
}

/// Query, then replace, then compare: a foreign handler that comes in between gets its place back.
/// Whether `below` is the disposition now, put there by this call.
fn restore(signal: Signal, level: usize, below: &Disposition, pin: Pin) -> bool {
    let raw = signal.as_raw();
    let is_ours = |disposition: &Disposition| level_of(disposition) == Some(level);
    match Disposition::query(raw) {
        Ok(top) if is_ours(&top) => {}
        Ok(top) => {
            // It may be `below`, which somebody else has put back.
            if top.is_handler() && top != *below {
                bury(signal, level, pin);
            }
            return false;
        }
        Err(_) => return false,
    }
    match below.replace(raw) {
        Ok(replaced) if is_ours(&replaced) => true,
        Ok(replaced) => {
            let _ = replaced.replace(raw);
            bury(signal, level, pin);
            false
        }
        Err(_) => false,
    }
}

/// A foreign handler stays on top, and may call the guard's forever.
#[cold]
fn bury(signal: Signal, level: usize, pin: Pin) {
    /// Whether the code was pinned. Written and read here.
    static IS_PINNED: AtomicBool = AtomicBool::new(false);
    slot_of(signal).set_buried(level + 1);
    if pin == Pin::Code && !IS_PINNED.swap(true, SeqCst) {
        disposition::pin(FUNCTIONS[level] as usize);
    }
}

/// Which of the guard's functions a disposition's handler is.
#[inline(never)]
fn level_of(disposition: &Disposition) -> Option<usize> {
    let Action::Handler(address) = disposition.action() else { return None };
    FUNCTIONS.iter().position(|function| *function as usize == address)
}

/// Makes wake-up and mailboxes ready for guards of `process`, which is this one. Call before the first
/// `install` in a process, and when the first of several guards is made.
pub(crate) fn prepare(process: Process, abort_wait: Duration) -> io::Result<()> {
    if !mailbox::is_owned_by(process) {
        wake::prepare()?;
    }
    mailbox::claim_process(process, abort_wait);
    Ok(())
}
