//! The alternate signal stack, on which the guard's handler runs (`SA_ONSTACK`): the standard library
//! gives every thread one, to report stack overflows.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use nix::libc;

/// Address and size of the stack that is to be populated. Written by the first guard's thread, read
/// by its watcher.
static STACK: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static NOTED: AtomicBool = AtomicBool::new(false);

/// Notes the alternate stack of the main thread, if that is what makes the guard: it is the one that
/// the kernel prefers for a signal to the process.
pub(super) fn note() {
    // Of no other: it may be gone, and its place another's, when the watcher comes to it.
    let is_main = u32::try_from(super::exit_hook::thread()) == Ok(std::process::id());
    if !is_main || NOTED.swap(true, SeqCst) {
        return;
    }
    // SAFETY: all zeroes is a valid stack_t.
    let mut stack = unsafe { std::mem::zeroed::<libc::stack_t>() };
    // SAFETY: a null new stack makes it a query; `stack` is valid for a write.
    let known = unsafe { libc::sigaltstack(ptr::null(), &raw mut stack) } == 0;
    if known && stack.ss_flags & libc::SS_DISABLE == 0 {
        STACK[1].store(stack.ss_size, SeqCst);
        STACK[0].store(stack.ss_sp as usize, SeqCst);
    }
}

/// On the watcher: has the kernel map the pages of the noted stack, which nobody has touched yet, so
/// that the first signal does not wait for several page faults.
pub(super) fn populate() {
    let address = STACK[0].swap(0, SeqCst);
    if address == 0 {
        return;
    }
    // SAFETY: MADV_POPULATE_WRITE (Linux 5.14) maps pages as a write to them would and leaves their
    // contents alone; on a range that is gone, or an older kernel, it fails and does nothing.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::madvise(address as *mut _, STACK[1].load(SeqCst), libc::MADV_POPULATE_WRITE);
    }
}
