//! The C library's exit functions: return from `main`.
//!
//! `std::process::exit` is `ExitProcess` on Windows. That ends all other threads, wherever they are and
//! whatever they have locked, and then tells the libraries, under the loader lock. A callback could
//! be run there (as a library's detach function, or as a thread-local destructor), but only without
//! its watcher, its deadlines and every lock that another thread happened to hold: it would hang in
//! the first `println!` that is unlucky, or be cut there, since Windows ends a process that waits
//! for such a lock. Nothing that a callback is promised holds there. So `std::process::exit` runs no
//! callback on Windows, and the crate has an `exit` of its own, which is `exit` here.

use std::ffi::c_int;
use std::io;
use std::panic;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::dll;

/// What to run. The same function each time.
static HOOK: OnceLock<fn()> = OnceLock::new();

/// Whether the C library is going to call it. Written by the thread that makes a guard, one at a time, and by the
/// exit function.
static IS_REGISTERED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Has `hook` called when `main` returns or C's `exit` is called.
///
/// One registration is enough for a second thread in C's `exit` as well: the C libraries of Windows
/// let one thread at a time into their exit functions, and that one does not return.
pub(crate) fn register(hook: fn()) -> io::Result<()> {
    HOOK.get_or_init(|| hook);
    if IS_REGISTERED.swap(true, SeqCst) {
        return Ok(());
    }
    // SAFETY: a function without arguments that does not unwind.
    if unsafe { atexit(at_exit) } != 0 {
        IS_REGISTERED.store(false, SeqCst);
        return Err(io::Error::from(io::ErrorKind::OutOfMemory));
    }
    Ok(())
}

/// Runs the hook, then ends the process with `code`.
pub(crate) fn exit(code: i32) -> ! {
    run();
    std::process::exit(code)
}

extern "C" fn at_exit() {
    // Old C libraries, and every one in a DLL, run exit functions when the other threads are gone.
    if dll::threads_are_gone() {
        return;
    }
    // A guard that is made in an exit function after this one needs the hook once more.
    IS_REGISTERED.store(false, SeqCst);
    run();
}

/// Unwinding out of an exit function is undefined; the hook does not, but users' code is near.
fn run() {
    if let Some(hook) = HOOK.get() {
        let _ = panic::catch_unwind(hook);
    }
}
