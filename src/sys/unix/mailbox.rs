//! From the handler to the watcher: the signal that came, and when it did.
//!
//! As the kernel does for pending standard signals, a mailbox holds one signal of a kind; those that
//! come while it is full are merged into it: their number from the kernel and the time of the last one
//! are kept. What that means is not for the handler to say.
//!
//! ```text
//! EMPTY ──handler──> WRITING ──handler──> FULL ──take──> EMPTY
//! ```
//!
//! Several threads may be in the handler for one signal at once: the step to WRITING picks the one
//! that writes. In a child that was forked at that moment the mailbox stays in WRITING, so a thread that arms
//! the signal empties it whatever its state is.
//!
//! # Orderings
//! Sequentially consistent throughout `unix`: the count of handlers against `armed` (see `slot`), and `state`
//! against `last`, are store-then-load pairs that need it, and the rest is not worth a second kind.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering::SeqCst};

use nix::libc;

use super::clock::Moment;
use super::siginfo::{self, Arrival, Delivery, SigInfo};
use super::{abort, wake};
use crate::signal::Signal;

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

/// Written by the handler; emptied by the threads of the exit.
pub(super) struct Mailbox {
    state: AtomicU8,
    /// How many of those that came since it was taken are from the kernel.
    from_kernel: AtomicU32,
    /// When the one that is kept came, and when the last one did.
    first: AtomicUsize,
    last: AtomicUsize,
    order: AtomicUsize,
    info: [AtomicUsize; WORDS],
}

impl Mailbox {
    pub(super) const fn new() -> Mailbox {
        Mailbox {
            state: AtomicU8::new(EMPTY),
            from_kernel: AtomicU32::new(0),
            first: AtomicUsize::new(0),
            last: AtomicUsize::new(0),
            order: AtomicUsize::new(0),
            info: [const { AtomicUsize::new(0) }; WORDS],
        }
    }

    /// In the handler: keeps the signal, and says whether this thread is in `abort`.
    pub(super) fn record(&self, delivery: &Delivery) -> bool {
        // SAFETY: non-null siginfo is the kernel's, valid while the handler runs.
        let known = unsafe { delivery.info.as_ref() };
        let now = Moment::now().0;
        self.last.store(now, SeqCst);
        if known.is_some_and(siginfo::is_from_the_kernel) {
            self.from_kernel.fetch_add(1, SeqCst);
        }
        // Before the mailbox: the siginfo in there may be that of an earlier SIGABRT.
        let aborts = known.is_some_and(|info| siginfo::is_abort(info, delivery.context));
        if aborts {
            abort::note();
        }
        if self.state.compare_exchange(EMPTY, WRITING, SeqCst, SeqCst).is_ok() {
            // SAFETY: as above; it is as long and aligned as the words, and the kernel has written all of it.
            match unsafe { delivery.info.cast::<[usize; WORDS]>().as_ref() } {
                Some(info) => self.write(info),
                None => self.write_unknown(),
            }
            self.first.store(now, SeqCst);
            self.order.store(ORDER.fetch_add(1, SeqCst), SeqCst);
            self.state.store(FULL, SeqCst);
            wake::post();
        }
        aborts
    }

    fn write(&self, info: &[usize; WORDS]) {
        for (kept, word) in self.info.iter().zip(info) {
            kept.store(*word, SeqCst);
        }
    }

    fn write_unknown(&self) {
        let mut info = [0; WORDS];
        // SAFETY: a siginfo_t is as long as this and aligned like it; all zeroes is a valid one.
        siginfo::set_unknown(unsafe { &mut *(&raw mut info).cast() });
        self.write(&info);
    }

    /// Where what is in it stands in the order of arrival.
    pub(super) fn order(&self) -> Option<usize> {
        (self.state.load(SeqCst) == FULL).then(|| self.order.load(SeqCst))
    }

    pub(super) fn take(&self, signal: Signal) -> Option<Arrival> {
        if self.state.load(SeqCst) != FULL {
            return None;
        }
        let words = self.info.each_ref().map(|word| word.load(SeqCst));
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: `info` is valid for a write of as many words as it is long (see `WORDS`).
        unsafe { info.as_mut_ptr().cast::<[usize; WORDS]>().write(words) };
        // SAFETY: any bytes are a valid siginfo_t: it is numbers and raw pointers.
        let info = SigInfo(unsafe { info.assume_init() });
        let first = Moment(self.first.load(SeqCst));
        // From here a handler may fill it again. The rest is read after that, so that a signal that was
        // merged because the mailbox was still full is seen; one that fills it again may be seen twice.
        self.state.store(EMPTY, SeqCst);
        let is_from_kernel = siginfo::is_from_the_kernel(&info.0);
        let from_kernel = self.from_kernel.swap(0, SeqCst);
        Some(Arrival {
            signal,
            info,
            first,
            last: Moment(self.last.load(SeqCst)),
            is_from_kernel,
            has_more_from_kernel: from_kernel > u32::from(is_from_kernel),
            aborts: signal == Signal::ABRT && abort::a_thread_aborts(),
        })
    }

    /// Discards the signal that is in it.
    pub(super) fn empty(&self) {
        self.from_kernel.store(0, SeqCst);
        self.state.store(EMPTY, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes(mailbox: &Mailbox) {
        let (info, context) = (std::ptr::null_mut(), std::ptr::null_mut());
        mailbox.record(&Delivery { raw: libc::SIGTERM, info, context });
    }

    #[test]
    fn what_comes_to_a_full_mailbox_is_merged() {
        let mailbox = Mailbox::new();
        assert!(mailbox.take(Signal::TERM).is_none());
        comes(&mailbox);
        mailbox.first.store(1, SeqCst);
        comes(&mailbox);
        let arrival = mailbox.take(Signal::TERM).unwrap();
        assert_eq!(arrival.first, Moment(1));
        assert_ne!(arrival.last, Moment(1));
        assert!(!arrival.is_from_kernel && !arrival.has_more_from_kernel);
        assert!(mailbox.take(Signal::TERM).is_none());
    }

    #[test]
    fn those_from_the_kernel_are_counted_until_it_is_taken_or_emptied() {
        let mailbox = Mailbox::new();
        comes(&mailbox);
        mailbox.from_kernel.store(1, SeqCst);
        assert!(mailbox.take(Signal::TERM).unwrap().has_more_from_kernel);
        comes(&mailbox);
        assert!(!mailbox.take(Signal::TERM).unwrap().has_more_from_kernel);
        comes(&mailbox);
        mailbox.from_kernel.store(1, SeqCst);
        mailbox.empty();
        assert!(mailbox.take(Signal::TERM).is_none());
        comes(&mailbox);
        assert!(!mailbox.take(Signal::TERM).unwrap().has_more_from_kernel);
    }
}
