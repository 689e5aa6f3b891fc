//! Sets of signals as the C library has them, and the calling thread's signal mask.

use std::mem::MaybeUninit;
use std::ptr;

use nix::libc::{self, c_int};

use crate::signal::SignalSet;

/// The set of these signals.
#[inline(never)]
pub(super) fn set_of(signals: SignalSet) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is valid for a write.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set was initialised above. A number it does not know changes nothing.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal.as_raw()) };
    }
    // SAFETY: all zeroes is a valid set.
    unsafe { set.assume_init() }
}

/// Every signal but these.
#[inline(never)]
pub(super) fn all_but(signals: SignalSet) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is valid for a write.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: as in `set_of`.
        unsafe { libc::sigdelset(set.as_mut_ptr(), signal.as_raw()) };
    }
    // SAFETY: all zeroes is a valid set.
    unsafe { set.assume_init() }
}

/// Changes the mask as `how` says and returns what it was. Async-signal-safe (signal-safety(7)).
/// `pthread_sigmask` fails only for a `how` that it does not know.
#[inline(never)]
pub(super) fn change(how: c_int, set: &libc::sigset_t) -> libc::sigset_t {
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both sets are valid for the call.
    unsafe { libc::pthread_sigmask(how, set, before.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid set.
    unsafe { before.assume_init() }
}

pub(super) fn replace(set: &libc::sigset_t) -> libc::sigset_t {
    change(libc::SIG_SETMASK, set)
}

pub(super) fn unblock(signals: SignalSet) -> libc::sigset_t {
    change(libc::SIG_UNBLOCK, &set_of(signals))
}

/// The mask as it is.
pub(super) fn current() -> libc::sigset_t {
    let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a null set makes this a query; `mask` is valid for a write.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid set.
    unsafe { mask.assume_init() }
}

pub(super) fn contains(set: &libc::sigset_t, raw: c_int) -> bool {
    // SAFETY: a reference is valid, and every set of this crate was initialised.
    unsafe { libc::sigismember(set, raw) == 1 }
}
