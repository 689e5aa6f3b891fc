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
use std::sync::LazyLock;

use super::dll;
use crate::sys::lock::Lock;

/// What to run, and whether the C library knows of it.
static HOOK: LazyLock<Lock<Hook>> = LazyLock::new(Lock::default);

#[derive(Default, Clone, Copy)]
struct Hook {
    run: Option<fn()>,
    is_registered: bool,
}

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Has `hook` called when `main` returns or C's `exit` is called.
///
/// One registration is enough for a second thread in C's `exit` as well: the C libraries of Windows
/// let one thread at a time into their exit functions, and that one does not return.
pub(crate) fn register(hook: fn()) -> io::Result<()> {
    let mut known = HOOK.lock();
    known.run = Some(hook);
    if !known.is_registered {
        // SAFETY: a function without arguments that does not unwind.
        if unsafe { atexit(at_exit) } != 0 {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        known.is_registered = true;
    }
    Ok(())
}

/// Runs the hook, then ends the process with `code`.
pub(crate) fn exit(code: i32) -> ! {
    let hook = HOOK.lock().run;
    run(hook);
    std::process::exit(code)
}

extern "C" fn at_exit() {
    // Old C libraries, and every one in a DLL, run exit functions when the other threads are gone.
    if dll::threads_are_gone() {
        return;
    }
    let hook = {
        let mut known = HOOK.lock();
        // A guard that is made in an exit function after this one needs the hook once more.
        known.is_registered = false;
        known.run
    };
    run(hook);
}

/// Unwinding out of an exit function is undefined; the hook does not, but users' code is near.
fn run(hook: Option<fn()>) {
    if let Some(hook) = hook {
        let _ = panic::catch_unwind(hook);
    }
}
