//! From the handler to the watcher: which signals came, each with its siginfo.
//!
//! # A mailbox
//! As the kernel does for pending standard signals, a mailbox holds one signal of a kind; those that
//! come while it is full are merged into it.
//!
//! ```text
//! EMPTY ──handler──> WRITING ──handler──> FULL ──take──> EMPTY
//! ```
//!
//! Several threads may be in the handler for one signal at once: the step to WRITING picks the one
//! that writes. A handler that never ends leaves its mailbox in WRITING: in a child that was forked
//! at that moment, or where a foreign handler that called it was left by `siglongjmp`. So whoever
//! makes a guard empties the mailbox whatever state it is in.
//!
//! # Repeats
//! A mailbox notes the first of its signal since it was armed. A later one is a second wish to end
//! when it comes at least [`SAME_EVENT`] after that, or when the kernel sent both it and an earlier
//! one: those are two key presses. Quicker ones are the same event: a shell and a parent both deliver
//! it. Once noted, the wish stays.
//!
//! # Orderings
//! Sequentially consistent throughout `unix`: `IN_HANDLER` against `armed`, and `state` against
//! `repeats`, are store-then-load pairs that need it, and the rest is not worth a second kind.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::libc::{self, c_void};

pub(crate) use super::abort::{a_thread_aborts, release_abort, set_abort_wait};
use super::process::{AtomicProcess, Process};
use super::siginfo::{self, Arrival, SigInfo};
use super::slot::slot_of;
use super::{abort, clock, cut, slot, wake};
use crate::signal::{Signal, SignalSet};
use crate::sys::status::Status;

/// What `abort(3)` raises, where that can be caught.
pub(crate) const ABORT: Option<Signal> = Some(Signal::ABRT);

/// A repeat that comes sooner belongs to the same event.
const SAME_EVENT: usize = 500;

/// How long handlers in flight are waited for. They are counted for less than a microsecond, unless
/// their thread loses the processor meanwhile, or never comes back to them.
const IN_FLIGHT: Duration = Duration::from_secs(1);

/// The process whose guards are armed. Written when one is made, read by the handler: a forked child
/// has the handler but no watcher, and must not act for its parent.
static OWNER: AtomicProcess = AtomicProcess::new();

/// Handlers that may be about to fill a mailbox. Written by the handler, awaited by those who disarm.
static IN_HANDLER: AtomicU32 = AtomicU32::new(0);

/// How many of those were waited for in vain, and are waited for no more. Written and read by those
/// who disarm.
static GIVEN_UP: AtomicU32 = AtomicU32::new(0);

/// Counts what is put into mailboxes, to know the order of arrival. Written by the handler.
static ORDER: AtomicUsize = AtomicUsize::new(0);

const EMPTY: u8 = 0;
const WRITING: u8 = 1;
const FULL: u8 = 2;

/// A siginfo in words: copied one by one, so that a handler that comes a second too late spoils what
/// is written, and nothing else.
const WORDS: usize = size_of::<libc::siginfo_t>() / size_of::<usize>();

const _: () = assert!(
    size_of::<libc::siginfo_t>() % size_of::<usize>() == 0
        && align_of::<libc::siginfo_t>() == align_of::<usize>()
);

/// Written by the handler, but for `cut` and what `reset` and `take` do.
pub(super) struct Mailbox {
    state: AtomicU8,
    /// Whether one of this signal came from the kernel since the mailbox was armed.
    from_kernel: AtomicBool,
    repeats: AtomicBool,
    /// Whether the first one has come since the mailbox was last taken.
    is_first: AtomicBool,
    /// What came so far has been answered: one that is no part of that event is a first one again.
    /// Written by the threads of the exit.
    answered: AtomicBool,
    /// How a repeat ends the process, see `cut`. Written by the threads of the exit.
    cut: AtomicU32,
    /// When the first one came since the mailbox was armed (see `clock`), 0 for not yet.
    first: AtomicUsize,
    order: AtomicUsize,
    info: [AtomicUsize; WORDS],
}

/// What the handler does once the signal is in the mailbox.
#[derive(Clone, Copy)]
pub(super) enum Recorded {
    Kept,
    /// This thread is in `abort`: it waits for the callback, then dies.
    Abort,
    /// A repeat ends the process.
    Cut(Status),
}

impl Mailbox {
    pub(super) const fn new() -> Mailbox {
        Mailbox {
            state: AtomicU8::new(EMPTY),
            from_kernel: AtomicBool::new(false),
            repeats: AtomicBool::new(false),
            is_first: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            cut: AtomicU32::new(cut::NONE),
            first: AtomicUsize::new(0),
            order: AtomicUsize::new(0),
            info: [const { AtomicUsize::new(0) }; WORDS],
        }
    }

    /// In the handler: keeps the signal. `info` is null where a foreign handler that has none calls.
    pub(super) fn record(&self, info: *const libc::siginfo_t, context: *const c_void) -> Recorded {
        // SAFETY: non-null siginfo is the kernel's, valid while the handler runs.
        let known = unsafe { info.as_ref() };
        if self.is_repeat(known.is_some_and(siginfo::is_from_the_kernel)) {
            self.repeats.store(true, SeqCst);
            if let Some(status) = cut::decode(self.cut.load(SeqCst)) {
                return Recorded::Cut(status);
            }
        }
        // Before the mailbox: the siginfo in there may be that of an earlier SIGABRT.
        let aborts = known.is_some_and(|info| siginfo::is_abort(info, context));
        if aborts {
            abort::note();
        }
        if self.state.compare_exchange(EMPTY, WRITING, SeqCst, SeqCst).is_ok() {
            // SAFETY: as above; it is as long and aligned as the words, and the kernel has written all of it.
            match unsafe { info.cast::<[usize; WORDS]>().as_ref() } {
                Some(info) => self.write(info),
                None => self.write_unknown(),
            }
            self.order.store(ORDER.fetch_add(1, SeqCst), SeqCst);
            self.state.store(FULL, SeqCst);
            wake::post();
        }
        if aborts { Recorded::Abort } else { Recorded::Kept }
    }

    /// Whether this one is a second wish to end.
    fn is_repeat(&self, from_kernel: bool) -> bool {
        let now = clock::now();
        let second_from_kernel = from_kernel && self.from_kernel.swap(true, SeqCst);
        match self.first.compare_exchange(0, now, SeqCst, SeqCst) {
            Ok(_) => {
                self.is_first.store(true, SeqCst);
                false
            }
            Err(first) => {
                let is_another = second_from_kernel || clock::since(first, now) >= SAME_EVENT;
                let begins_anew = is_another && self.answered.swap(false, SeqCst);
                if begins_anew {
                    self.first.store(now, SeqCst);
                    self.repeats.store(false, SeqCst);
                    self.from_kernel.store(from_kernel, SeqCst);
                    self.is_first.store(true, SeqCst);
                }
                is_another && !begins_anew
            }
        }
    }

    fn write(&self, info: &[usize; WORDS]) {
        for (kept, word) in self.info.iter().zip(info) {
            kept.store(*word, SeqCst);
        }
    }

    #[cold]
    fn write_unknown(&self) {
        let mut info = [0; WORDS];
        // SAFETY: a siginfo_t is as long as this and aligned like it; all zeroes is a valid one.
        siginfo::set_unknown(unsafe { &mut *(&raw mut info).cast() });
        self.write(&info);
    }

    fn take(&self, signal: Signal) -> Option<Arrival> {
        if self.state.load(SeqCst) != FULL {
            return None;
        }
        let words = self.info.each_ref().map(|word| word.load(SeqCst));
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: `info` is valid for a write of as many words as it is long (see `WORDS`).
        unsafe { info.as_mut_ptr().cast::<[usize; WORDS]>().write(words) };
        // SAFETY: any bytes are a valid siginfo_t: it is numbers and raw pointers.
        let info = SigInfo(unsafe { info.assume_init() });
        let order = self.order.load(SeqCst);
        // From here a handler may fill it again. `repeats` is read after that, so a signal that was
        // merged because the mailbox was still full is seen.
        self.state.store(EMPTY, SeqCst);
        let repeats = self.repeats.load(SeqCst);
        let is_first = self.is_first.swap(false, SeqCst);
        let aborts = signal == Signal::ABRT && a_thread_aborts();
        Some(Arrival { signal, info, order, is_first, repeats, aborts })
    }

    /// Forgets what is in the mailbox.
    #[inline(never)]
    pub(super) fn empty(&self) {
        self.state.store(EMPTY, SeqCst);
    }

    /// Forgets all that ever came.
    pub(super) fn reset(&self) {
        self.cut.store(cut::NONE, SeqCst);
        self.first.store(0, SeqCst);
        self.from_kernel.store(false, SeqCst);
        self.repeats.store(false, SeqCst);
        self.is_first.store(false, SeqCst);
        self.answered.store(false, SeqCst);
        self.empty();
    }
}

/// Runs the part of the handler that may fill a mailbox.
pub(super) fn in_handler<R>(run: impl FnOnce() -> R) -> R {
    IN_HANDLER.fetch_add(1, SeqCst);
    let result = run();
    IN_HANDLER.fetch_sub(1, SeqCst);
    result
}

/// Waits until no handler can still be filling a mailbox that was disarmed before, for a second at
/// most.
pub(super) fn wait_for_handlers() {
    // One that was given up may have ended after all.
    let in_flight = || {
        let count = IN_HANDLER.load(SeqCst);
        count > GIVEN_UP.fetch_min(count, SeqCst)
    };
    if !in_flight() {
        return;
    }
    let begun = Instant::now();
    let mut tries = 0u32;
    while in_flight() {
        if begun.elapsed() > IN_FLIGHT {
            GIVEN_UP.store(IN_HANDLER.load(SeqCst), SeqCst);
            return;
        }
        // To yield helps only threads of the same priority.
        if tries < 16 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
        tries += 1;
    }
}

/// Takes the signals of `process`, which is this one, into the handler's care. Call before arming any
/// slot.
pub(crate) fn claim_process(process: Process, abort_wait: Duration) {
    if OWNER.is_set() && !OWNER.is(process) {
        // In a forked child all this is the parent's, as it was at the moment of the fork. Nothing is
        // kept or counted here before OWNER is set.
        slot::reset_all();
        IN_HANDLER.store(0, SeqCst);
        GIVEN_UP.store(0, SeqCst);
    }
    abort::reset(abort_wait);
    OWNER.set(process);
}

/// Whether `process` was the last to make a guard, and not one that it was forked from.
pub(super) fn is_owned_by(process: Process) -> bool {
    OWNER.is(process)
}

/// Takes the signals that came, in the order they came.
pub(crate) fn take(signals: SignalSet, into: &mut Vec<Arrival>) {
    let before = into.len();
    for signal in signals {
        let Some(arrival) = slot_of(signal).mailbox.take(signal) else { continue };
        let earlier = |other: &Arrival| other.order.wrapping_sub(arrival.order) as isize <= 0;
        let place = into[before..].iter().rposition(earlier).map_or(before, |at| before + at + 1);
        into.insert(place, arrival);
    }
}

/// The guard that decided about this signal has ended its scope in time, and the program goes on: the
/// next one is no second wish to end.
pub(crate) fn set_answered(signal: Signal) {
    slot_of(signal).mailbox.answered.store(true, SeqCst);
}

/// How a second wish to end ends the process from now on, in the handler and with nothing else run; or
/// that it does not.
pub(crate) fn set_cut(signal: Signal, status: Option<Status>) {
    slot_of(signal).mailbox.cut.store(cut::encode(status), SeqCst);
}

#[cfg(test)]
mod tests;
