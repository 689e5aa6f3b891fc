//! The least that the operating system asks for, without any library.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nix::libc::{self, c_int, c_void};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

pub(crate) type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Handles `signal` with `handler`, with the flags and the mask that a guard's handler has, and
/// returns what was there.
pub(crate) fn handle(signal: Signal, handler: Handler) -> SigAction {
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    let mask = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect::<SigSet>();
    put(signal, &SigAction::new(SigHandler::SigAction(handler), flags, mask))
}

pub(crate) fn put(signal: Signal, action: &SigAction) -> SigAction {
    // SAFETY: the handlers of this program only store to atomics and make system calls.
    unsafe { sigaction(signal, action) }.expect("a signal that may be handled")
}

/// What [`wait`] sleeps on: set by [`wake`].
static WOKEN: AtomicU32 = AtomicU32::new(0);

/// A handler that wakes the thread in [`wait`], and does nothing else.
pub(crate) extern "C" fn wake(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    WOKEN.store(1, SeqCst);
    // SAFETY: FUTEX_WAKE takes the address of a word that lives for ever, and how many to wake.
    unsafe {
        libc::syscall(libc::SYS_futex, WOKEN.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1)
    };
}

/// Sleeps until the handler has run.
pub(crate) fn wait() {
    while WOKEN.load(SeqCst) == 0 {
        // SAFETY: FUTEX_WAIT takes the address of a word that lives for ever, the value to sleep
        // at, and no timeout.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                WOKEN.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                0,
                ptr::null::<libc::timespec>(),
            )
        };
    }
}

/// Signals counted by [`count`].
pub(crate) static COUNTED: AtomicU32 = AtomicU32::new(0);

/// A handler that only counts.
pub(crate) extern "C" fn count(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    COUNTED.fetch_add(1, SeqCst);
}
