//! The least that the operating system asks for, without any library.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nix::libc::{self, c_int};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Handles `signal` with `handler`, and returns what was there.
pub(crate) fn handle(signal: Signal, handler: extern "C" fn(c_int)) -> SigAction {
    let handler = SigHandler::Handler(handler);
    put(signal, &SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty()))
}

pub(crate) fn put(signal: Signal, action: &SigAction) -> SigAction {
    // SAFETY: the handlers of this program only store to atomics and make system calls.
    unsafe { sigaction(signal, action) }.expect("a signal that may be handled")
}

/// Asks for the disposition, and changes nothing.
pub(crate) fn query(signal: Signal) {
    let mut found = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null action changes nothing, and `found` is valid for a write.
    let result = unsafe { libc::sigaction(signal as c_int, ptr::null(), found.as_mut_ptr()) };
    assert_eq!(result, 0);
}

/// What [`wait`] sleeps on: set by [`wake`].
static WOKEN: AtomicU32 = AtomicU32::new(0);

/// A handler that wakes the thread in [`wait`], and does nothing else.
pub(crate) extern "C" fn wake(_: c_int) {
    WOKEN.store(1, SeqCst);
    let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: FUTEX_WAKE takes the address of a word that lives for ever, and how many to wake.
    unsafe { libc::syscall(libc::SYS_futex, WOKEN.as_ptr(), wake, 1) };
}

/// Sleeps until the handler has run.
pub(crate) fn wait() {
    let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let no_timeout = ptr::null::<libc::timespec>();
    // Not a plain look: the first write to the page would be a page fault, and the handler's.
    while WOKEN.compare_exchange(1, 0, SeqCst, SeqCst).is_err() {
        // SAFETY: FUTEX_WAIT takes the address of a word that lives for ever, the value to sleep
        // at, and a timeout or none.
        unsafe { libc::syscall(libc::SYS_futex, WOKEN.as_ptr(), wait, 0, no_timeout) };
    }
}

static COUNTED: AtomicU32 = AtomicU32::new(0);

/// A handler that only counts.
pub(crate) extern "C" fn count(_: c_int) {
    COUNTED.fetch_add(1, SeqCst);
}
