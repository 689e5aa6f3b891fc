//! What is known of each signal number: who stands below the handler, and what came.
//!
//! # Levels
//! A foreign handler that was installed over the guard's may go on calling the guard's forever. A
//! later guard must then not use the same function again, or its "handler below" would lead in a
//! circle. So there is one function for each level, each with dispositions of its own below it.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering::SeqCst};

use nix::libc::{self, c_int, c_void};

use super::disposition::Disposition;
use super::mailbox::{self, Mailbox, Recorded};
use super::process::{self, Process};
use crate::signal::{COUNT, Signal};

/// How often a foreign handler may bury the guard's before a new guard is refused.
pub(super) const LEVELS: usize = 4;

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
    pub(super) mailbox: Mailbox,
}

pub(super) fn slot(raw: c_int) -> Option<&'static Slot> {
    SLOTS.0.get(usize::try_from(raw).ok()?)
}

/// `slot` of a signal that exists.
pub(super) fn slot_of(signal: Signal) -> &'static Slot {
    slot(signal.as_raw()).expect("a Signal is a signal number of this platform")
}

/// In a forked child, before its first guard: what is armed here was armed by the parent.
pub(super) fn reset_all() {
    for slot in &SLOTS.0 {
        slot.disarm();
        slot.mailbox.empty();
    }
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

    /// In the handler: keeps the signal if it is the guard's.
    pub(super) fn arrive(
        &self,
        level: usize,
        info: *const libc::siginfo_t,
        context: *const c_void,
    ) -> Option<Recorded> {
        let process = process::this();
        if !self.is_armed(level, process) {
            return None;
        }
        // Count first, look again: whoever waits for the count has disarmed before.
        mailbox::in_handler(|| {
            self.is_armed(level, process).then(|| self.mailbox.record(info, context))
        })
    }

    fn is_armed(&self, level: usize, process: Process) -> bool {
        usize::from(self.armed.load(SeqCst)) == level + 1 && mailbox::is_owned_by(process)
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

    /// The level that was installed over exactly this disposition, if a foreign handler buried it:
    /// what was below it then can lead to no level from here up.
    pub(super) fn level_over(&self, disposition: &Disposition) -> Option<usize> {
        (0..self.free_level()).find(|level| self.below(*level) == Some(disposition))
    }

    /// Remembers how many levels are buried.
    pub(super) fn set_buried(&self, levels: usize) {
        self.buried.store(level_count(levels), SeqCst);
    }

    /// From now on the function of `level` keeps the signal in the (emptied) mailbox.
    pub(super) fn arm(&self, level: usize, below: &'static Disposition) {
        self.below[level].store(ptr::from_ref(below).cast_mut(), SeqCst);
        self.mailbox.reset();
        self.armed.store(level_count(level + 1), SeqCst);
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
