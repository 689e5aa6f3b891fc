//! Writes what the standard library and the C library have buffered, in bounded time.

use std::ffi::{c_int, c_void};
use std::io::{self, Write};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::thread;

/// How long a flush may take: another thread may hold the lock of a stream forever, while it reads or writes.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the flush is done. Written by the thread that flushes, read by the one that waits for it.
static IS_DONE: AtomicBool = AtomicBool::new(false);

/// On a thread of its own: neither library can be told to leave out a stream that another thread has locked.
#[cold]
pub(crate) fn flush() {
    #[cfg(handle_exit_loom)]
    return;
    IS_DONE.store(false, SeqCst);
    if !thread::spawn_bare(flush_all) {
        flush_all(ptr::null_mut());
    }
    let begun = Instant::now();
    while !IS_DONE.load(SeqCst) && begun.elapsed() < TIMEOUT {
        std::thread::sleep(Duration::from_micros(100));
    }
}

extern "C" fn flush_all(_: *mut c_void) -> *mut c_void {
    unsafe extern "C" {
        fn fflush(stream: *mut c_void) -> c_int;
    }
    let _ = io::stdout().flush();
    // SAFETY: a null stream flushes all of them.
    unsafe { fflush(ptr::null_mut()) };
    IS_DONE.store(true, SeqCst);
    ptr::null_mut()
}
