//! The C library's exit functions: `process::exit`, and return from `main`.

#[cfg(any(target_os = "linux", target_os = "android"))]
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::libc;

/// Whether the hook is registered. A forked child inherits both the hook and this.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Has `crate::process_exit::at_process_exit` called when the process exits. Called by one thread at a time.
pub(crate) fn register() -> io::Result<()> {
    if REGISTERED.load(SeqCst) {
        return Ok(());
    }
    // SAFETY: a function without arguments that does not unwind.
    if unsafe { libc::atexit(at_exit) } != 0 {
        return Err(io::Error::from(io::ErrorKind::OutOfMemory));
    }
    REGISTERED.store(true, SeqCst);
    Ok(())
}

extern "C" fn at_exit() {
    // Unwinding out of an exit function is undefined; nothing in here panics, but users' code is near.
    let _ = std::panic::catch_unwind(crate::process_exit::at_process_exit);
}

/// Whether a thread of this process sleeps in `pause(2)`. That is where the standard library parks a
/// thread that calls `process::exit` while another thread is already exiting: it never comes back.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_parked_in_pause(tid: i32) -> bool {
    let Ok(call) = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall")) else {
        return false;
    };
    let mut words = call.split_ascii_whitespace();
    let number = words.next().and_then(|word| word.parse::<libc::c_long>().ok());
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
    if number == Some(libc::SYS_pause) {
        return true;
    }
    // Where there is no pause(2), the C library calls ppoll(2) with no descriptors and no time.
    number == Some(libc::SYS_ppoll) && words.take(3).eq(["0x0"; 3])
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_parked_in_pause(_tid: i32) -> bool {
    false
}

/// The calling thread, as `is_parked_in_pause` takes it. Asks the kernel once a thread.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn thread() -> i32 {
    // The forks that had happened when the kernel was asked: the child's thread is another.
    thread_local!(static KNOWN: Cell<(u32, i32)> = const { Cell::new((0, 0)) });
    let forks = super::process::forks();
    match KNOWN.get() {
        (asked, tid) if tid != 0 && asked == forks => tid,
        _ => {
            // SAFETY: no arguments, cannot fail.
            let tid = unsafe { libc::syscall(libc::SYS_gettid) };
            let tid = i32::try_from(tid).unwrap_or(0);
            KNOWN.set((forks, tid));
            tid
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn thread() -> i32 {
    0
}
