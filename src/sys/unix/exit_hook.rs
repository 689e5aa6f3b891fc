//! The C library's exit functions: `process::exit`, `exit(3)`, and return from `main`.
//!
//! A function registered with `atexit` is called once, by one thread. Where several threads call
//! `exit(3)`, each of them takes what is left of the list: a second one that finds nothing there would
//! end the process while the first still waits in the hook. So the same function is registered twice,
//! and once again when a thread begins its first: every thread that exits meets the hook. One that has
//! met it adds nothing when it finds the rest, or the list would never end.

use std::cell::Cell;
use std::io;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nix::libc;

/// What is called. Written once, before the first registration; read by the exit functions.
static HOOK: OnceLock<fn()> = OnceLock::new();

/// How often the exit function is registered and has not been called. Written by those who make a
/// guard and by exiting threads. A forked child inherits it with the registrations.
static REGISTERED: AtomicU32 = AtomicU32::new(0);

const SPARE: u32 = 2;

thread_local! {
    /// Whether this thread has met the hook. Without a destructor: the thread's destructors may have
    /// run when it is first used.
    static HAS_MET: Cell<bool> = const { Cell::new(false) };
}

/// Has `hook`, always the same one, called by every thread that exits the process from now on. It may
/// be called several times on one thread, and while it runs on another one. Called by one thread at a
/// time; inside the exit functions too.
pub(crate) fn register(hook: fn()) -> io::Result<()> {
    HOOK.get_or_init(|| hook);
    while REGISTERED.load(SeqCst) < SPARE {
        if !register_once() {
            // `atexit` sets no `errno`.
            return Err(io::Error::other("no memory, or the exit functions have all run"));
        }
    }
    Ok(())
}

fn register_once() -> bool {
    // Counted first: the function may be called before this one returns.
    REGISTERED.fetch_add(1, SeqCst);
    // SAFETY: a function without arguments that does not unwind.
    let registered = unsafe { libc::atexit(at_exit) } == 0;
    if !registered {
        REGISTERED.fetch_sub(1, SeqCst);
    }
    registered
}

/// Ends the process with `code`, after the hook.
pub(crate) fn exit(code: i32) -> ! {
    std::process::exit(code)
}

extern "C" fn at_exit() {
    REGISTERED.fetch_sub(1, SeqCst);
    if !HAS_MET.replace(true) {
        // Where that fails, a third thread ends the process early: nothing can be done about it.
        register_once();
    }
    let Some(hook) = HOOK.get() else { return };
    // Unwinding out of an exit function is undefined. The destructor of a payload is a user's code.
    std::mem::forget(catch_unwind(hook));
}
