//! What is known of each signal number: what is below the handler, and which signals came.
//!
//! # Levels
//! A foreign handler that was installed over the guard's may go on calling the guard's forever. A
//! later guard must then not use the same function again, or its "handler below" would lead in a
//! circle. So there is one function for each level, each with dispositions of its own below it.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering::SeqCst};

use nix::libc::c_int;

use super::disposition::Disposition;
use super::mailbox::Mailbox;
use super::process::{self, Process};
use super::siginfo::{Arrival, Delivery};
use super::{abort, clock};
use crate::signal::{COUNT, Signal, SignalSet};

/// How often a foreign handler may bury the guard's before a new guard is refused.
pub(super) const LEVELS: usize = 4;

/// The process whose guards are armed. Written when one is made, read by the handler: a forked child
/// has the handler but no watcher, and must not act for its parent.
static OWNER: AtomicUsize = AtomicUsize::new(0);

/// Handlers that may be about to fill a mailbox. Written by the handler, awaited by those who disarm.
static IN_HANDLER: AtomicU32 = AtomicU32::new(0);

/// One for each signal number, static so that a handler that comes late never meets freed memory. All
/// zeroes at first: it takes no place in the program file.
static SLOTS: Slots = Slots([const { Slot::new() }; COUNT]);

/// Aligned to a page so that the usual signals share the first one: making a guard touches it, and
/// the handler meets no page fault of its own.
#[repr(align(4096))]
struct Slots([Slot; COUNT]);

pub(super) struct Slot {
    /// 1 + the level whose function keeps the signal for the guard, 0 for none. Written by those who
    /// make and end guards, read by the handler; so are the next two.
    armed: AtomicU8,
    /// How many levels foreign handlers have buried.
    buried: AtomicU8,
    /// What each level's function stands in for. Points to interned dispositions, never freed.
    below: [AtomicPtr<Disposition>; LEVELS],
    mailbox: Mailbox,
}

pub(super) fn slot(raw: c_int) -> Option<&'static Slot> {
    SLOTS.0.get(usize::try_from(raw).ok()?)
}

/// `slot` of a signal that exists.
pub(super) fn slot_of(signal: Signal) -> &'static Slot {
    slot(signal.as_raw()).expect("a Signal is a signal number of this platform")
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            armed: AtomicU8::new(0),
            buried: AtomicU8::new(0),
            below: [const { AtomicPtr::new(ptr::null_mut()) }; LEVELS],
            mailbox: Mailbox::new(),
        }
    }

    /// In the handler: keeps the signal if this level does, or any. `Some(true)`: this thread is in `abort`.
    #[inline(never)]
    pub(super) fn arrive(&self, level: Option<usize>, delivery: &Delivery) -> Option<bool> {
        let process = process::this();
        let is_armed = || {
            let armed = usize::from(self.armed.load(SeqCst));
            level.map_or(armed != 0, |level| armed == level + 1) && OWNER.load(SeqCst) == process
        };
        if !is_armed() {
            return None;
        }
        // Count first, look again: whoever waits for the count has disarmed before.
        IN_HANDLER.fetch_add(1, SeqCst);
        let kept = is_armed().then(|| self.mailbox.record(delivery));
        IN_HANDLER.fetch_sub(1, SeqCst);
        kept
    }

    /// What `level` stands in for, if it was ever installed.
    pub(super) fn below(&self, level: usize) -> Option<&'static Disposition> {
        // SAFETY: null, or an interned disposition, which is never freed or changed.
        unsafe { self.below[level].load(SeqCst).as_ref() }
    }

    /// The lowest level that no foreign handler can still be calling.
    pub(super) fn free_level(&self) -> usize {
        usize::from(self.buried.load(SeqCst))
    }

    /// The lowest level above the one that is armed.
    pub(super) fn armed_level(&self) -> usize {
        usize::from(self.armed.load(SeqCst))
    }

    /// The level that was installed over exactly this disposition, if a foreign handler buried it:
    /// what was below it then can lead to no level from here up.
    pub(super) fn level_over(&self, disposition: &Disposition) -> Option<usize> {
        (0..self.free_level()).find(|level| self.below(*level) == Some(disposition))
    }

    /// A foreign handler may call `level` from now on.
    pub(super) fn bury(&self, level: usize) {
        self.set_buried((level + 1).max(self.free_level()));
    }

    /// Remembers how many levels are buried.
    pub(super) fn set_buried(&self, levels: usize) {
        self.buried.store(level_count(levels), SeqCst);
    }

    /// From now on the function of `level` keeps the signal, in a mailbox that is emptied if no level had
    /// it before. Returns what [`disarm_to`](Slot::disarm_to) takes to undo this.
    pub(super) fn arm(&self, level: usize, below: &'static Disposition) -> u8 {
        self.below[level].store(ptr::from_ref(below).cast_mut(), SeqCst);
        let before = self.armed.load(SeqCst);
        if before == 0 {
            self.mailbox.empty();
        }
        self.armed.store(level_count(level + 1), SeqCst);
        before
    }

    /// Undoes [`arm`](Slot::arm).
    pub(super) fn disarm_to(&self, before: u8) {
        self.armed.store(before, SeqCst);
    }

    pub(super) fn is_any_armed(&self) -> bool {
        self.armed.load(SeqCst) != 0
    }

    /// From now on every level passes signals through. What is in the mailbox stays there.
    #[inline(never)]
    pub(super) fn disarm(&self) {
        self.armed.store(0, SeqCst);
    }
}

/// At most `LEVELS`, which fits.
fn level_count(levels: usize) -> u8 {
    levels as u8
}

/// Waits until no handler can still be filling a mailbox that was disarmed before. They are counted for less than a
/// microsecond, unless their thread loses the processor meanwhile.
pub(super) fn wait_for_handlers() {
    clock::wait_for_none(&IN_HANDLER);
}

/// Takes the signals of `process`, which is this one, into the handler's care. Call before arming any
/// slot.
pub(super) fn claim_process(process: Process) {
    let owner = OWNER.load(SeqCst);
    if owner != 0 && owner != process {
        // In a forked child all this is the parent's, as it was at the moment of the fork. Nothing is
        // kept or counted here before OWNER is set.
        for slot in &SLOTS.0 {
            slot.disarm();
        }
        IN_HANDLER.store(0, SeqCst);
        abort::reset();
    }
    // No signal has this number. It is the first touch of the page, and a write: see `process::count_forks`.
    SLOTS.0[0].disarm();
    OWNER.store(process, SeqCst);
}

/// Whether `process` was the last to make a guard, and not one that it was forked from.
pub(super) fn is_owned_by(process: Process) -> bool {
    OWNER.load(SeqCst) == process
}

/// Takes the one of these signals that came first.
pub(crate) fn take_first(signals: SignalSet) -> Option<Arrival> {
    let mut first: Option<(usize, Signal)> = None;
    for signal in signals {
        let Some(order) = slot_of(signal).mailbox.order() else { continue };
        if first.is_none_or(|(other, _)| order.wrapping_sub(other) as isize <= 0) {
            first = Some((order, signal));
        }
    }
    first.and_then(|(_, signal)| slot_of(signal).mailbox.take(signal))
}
