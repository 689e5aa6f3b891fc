//! Which process this is.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use nix::libc;

/// How many forks, seen from here, lie between this process and the one that made the first guard.
/// Written in the child of a fork, before `fork` returns there.
static FORKS: AtomicU32 = AtomicU32::new(0);
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// A process, told apart from those it was forked from. The process id alone does not: a child in a
/// new pid namespace is PID 1 as its parent may be. The count of forks alone does not either: it
/// misses `vfork`, and children made by a bare `clone(2)`.
pub(crate) type Process = u64;

/// This process. Async-signal-safe; a system call.
pub(crate) fn this() -> Process {
    u64::from(FORKS.load(SeqCst)) << 32 | u64::from(std::process::id())
}

/// How many forks lie between this process and the one that made the first guard.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn forks() -> u32 {
    FORKS.load(SeqCst)
}

/// Has forks counted from now on. Call before the first guard is made. Two threads at once may both
/// register: a fork then counts twice, and that is as good.
pub(crate) fn count_forks() -> io::Result<()> {
    if REGISTERED.load(SeqCst) {
        return Ok(());
    }
    // SAFETY: the function touches one atomic, so it may run in the child of a threaded process.
    let error = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    REGISTERED.store(true, SeqCst);
    Ok(())
}

unsafe extern "C" fn in_child() {
    FORKS.fetch_add(1, SeqCst);
}
