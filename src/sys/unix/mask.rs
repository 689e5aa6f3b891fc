//! Sets of signals as the C library has them, and the calling thread's signal mask.

use std::ptr;

use nix::libc::{self, c_int};
use nix::sys::signal::{SigSet, SigmaskHow};

use crate::signal::SignalSet;

/// The set of these signals. nix's own constructors know no real-time signals.
#[inline(never)]
pub(super) fn set_of(signals: SignalSet) -> SigSet {
    let mut set = raw(SigSet::empty());
    for signal in signals {
        // SAFETY: an initialised set; a number that it does not know changes nothing.
        unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
    }
    // SAFETY: an initialised set, of signals that exist.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

/// Every signal but these.
#[inline(never)]
pub(super) fn all_but(signals: SignalSet) -> SigSet {
    let mut set = raw(SigSet::all());
    for signal in signals {
        // SAFETY: as in `set_of`.
        unsafe { libc::sigdelset(&raw mut set, signal.as_raw()) };
    }
    // SAFETY: as in `set_of`.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

/// The C library's own form.
pub(super) fn raw(set: SigSet) -> libc::sigset_t {
    *set.as_ref()
}

/// Changes the mask as `how` says and returns what it was, or an empty set if the kernel refuses: nix's own wrapper
/// takes that for a success, with a set that nobody wrote. Async-signal-safe: `pthread_sigmask` (signal-safety(7)).
#[inline(never)]
pub(super) fn change(how: SigmaskHow, set: Option<&SigSet>) -> SigSet {
    let mut before = raw(SigSet::empty());
    let set = set.map_or(ptr::null(), |set| ptr::from_ref(set.as_ref()));
    // SAFETY: `set` is null or valid, and `before` is valid for a write.
    let mut change = || unsafe { libc::pthread_sigmask(how as c_int, set, &raw mut before) == 0 };
    // A refusal leaves the thread deaf, or hearing what it must not: once more.
    let _ = change() || change();
    // SAFETY: an initialised set, of signals that exist.
    unsafe { SigSet::from_sigset_t_unchecked(before) }
}

pub(super) fn replace(set: &SigSet) -> SigSet {
    change(SigmaskHow::SIG_SETMASK, Some(set))
}

pub(super) fn unblock(signals: SignalSet) -> SigSet {
    change(SigmaskHow::SIG_UNBLOCK, Some(&set_of(signals)))
}

/// The mask as it is.
pub(super) fn current() -> SigSet {
    change(SigmaskHow::SIG_SETMASK, None)
}

pub(super) fn contains(set: &libc::sigset_t, raw: c_int) -> bool {
    // SAFETY: a reference is valid, and every set of this crate was initialised.
    unsafe { libc::sigismember(set, raw) == 1 }
}
