//! Writes what the standard library and the C library have buffered, in bounded time.

use std::ffi::{c_int, c_void};
use std::io::{self, Write};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lock::{Condition, Lock};
use super::thread;

/// How long a flush may take: another thread may hold the lock of a stream forever, while it reads or writes.
const TIMEOUT: Duration = Duration::from_secs(1);

/// On a thread of its own: neither library can be told to leave out a stream that another thread has locked.
#[cold]
#[inline(never)]
pub(crate) fn flush() {
    #[cfg(handle_exit_loom)]
    return;
    let done = Arc::new((Lock::new(false), Condition::default()));
    let theirs = Arc::clone(&done);
    let flush_and_tell = move || {
        flush_all();
        *theirs.0.lock() = true;
        theirs.1.notify_all();
    };
    if thread::spawn("exit-flush", Box::new(flush_and_tell)).is_err() {
        return flush_all();
    }
    let deadline = Some(Instant::now() + TIMEOUT);
    let (mut is_done, mut in_time) = (done.0.lock(), true);
    while !*is_done && in_time {
        (is_done, in_time) = done.1.wait(is_done, deadline);
    }
}

fn flush_all() {
    unsafe extern "C" {
        fn fflush(stream: *mut c_void) -> c_int;
    }
    let _ = io::stdout().flush();
    // SAFETY: a null stream flushes all of them.
    unsafe { fflush(ptr::null_mut()) };
}
