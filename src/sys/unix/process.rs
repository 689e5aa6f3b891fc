//! Which process this is, and how it is ended.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use nix::libc::{self, c_int};
use nix::poll::poll;

use super::clock::Moment;
use super::disposition::Disposition;
use super::{mask, thread};
use crate::signal::{Signal, SignalSet};
use crate::sys::status::Status;
use crate::sys::{exit_thread, flush};

/// How many forks, seen from here, lie between this process and the one that made the first guard.
/// Written in the child of a fork, before `fork` returns there; read by `this`.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Whether forks are counted. Written and read by those who make a guard; a forked child inherits
/// it with the registration.
static COUNTS_FORKS: AtomicBool = AtomicBool::new(false);

/// A process, told apart from those it was forked from. The process id alone does not: a child in a
/// new pid namespace is PID 1 as its parent may be. The count of forks alone does not either: it
/// misses `vfork`, and children made by a bare `clone(2)`.
///
/// One word: below, as many bits as the id of a process has at most (Linux: `PID_MAX_LIMIT`); above, the count. On 32 bits, one
/// in 1,024 generations of forks has the same count. 0 is no process.
pub(crate) type Process = usize;

const ID_BITS: u32 = 22;

/// This process. Async-signal-safe (`getpid`, signal-safety(7)); a system call.
pub(crate) fn this() -> Process {
    FORKS.load(SeqCst) << ID_BITS | std::process::id() as usize & ((1 << ID_BITS) - 1)
}

/// Whether this is a child that `process`, which was this one, has forked with `fork(2)`. No system
/// call.
pub(crate) fn has_forked_from(process: Process) -> bool {
    // A thread of a model that is gone with its process acts like a forked child.
    #[cfg(handle_exit_loom)]
    return super::models::is_over();
    process >> ID_BITS != (FORKS.load(SeqCst) << ID_BITS) >> ID_BITS
}

/// Has forks counted from now on. Call before the first guard is made. Two threads at once may both
/// register: a fork then counts twice, and that is as good.
pub(crate) fn count_forks() -> io::Result<()> {
    // A look that counts as a write: were the first touch of the page a read, the first write would be a page fault too.
    if COUNTS_FORKS.compare_exchange(false, false, SeqCst, SeqCst).is_err() {
        return Ok(());
    }
    // SAFETY: `in_child` touches two atomics and a thread-local, so it may run in the child of a threaded process.
    let error = unsafe { libc::pthread_atfork(Some(thread::wait_started), None, Some(in_child)) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    COUNTS_FORKS.store(true, SeqCst);
    Ok(())
}

unsafe extern "C" fn in_child() {
    FORKS.fetch_add(1, SeqCst);
    exit_thread::forget_marks();
    thread::forget_starting();
}

/// Ends the process. A code goes through `std::process::exit`, so that exit functions run; but not
/// on a thread that is inside `exit(3)` already, where a second call is undefined and std aborts.
pub(crate) fn end(status: Status) -> ! {
    match status {
        Status::Signal(signal) => die_by(signal),
        Status::Code(_) | Status::Failed if thread::is_inside_exit() => end_inside_exit(status),
        #[cfg(handle_exit_loom)]
        Status::Code(_) | Status::Failed => super::models::exit(status.code()),
        #[cfg(not(handle_exit_loom))]
        Status::Code(_) | Status::Failed => std::process::exit(status.code()),
    }
}

/// Ends the process from inside `exit(3)`: what is buffered is written, the exit functions that have not run yet do
/// not run.
pub(crate) fn end_inside_exit(status: Status) -> ! {
    if !matches!(status, Status::Signal(_)) {
        flush::flush();
    }
    end_now(status)
}

/// Ends the process: nothing is flushed, nothing is run. Async-signal-safe.
pub(crate) fn end_now(status: Status) -> ! {
    match status {
        Status::Signal(signal) => die_by(signal),
        Status::Code(_) | Status::Failed => exit_now(status.code()),
    }
}

/// How long a signal to the process may take: another thread may be the one that takes it.
const DELIVERY: Duration = Duration::from_secs(1);

/// Dies by the signal: default disposition, unblocked, raised, so that the parent sees WIFSIGNALED.
/// Async-signal-safe: `sigaction`, `pthread_sigmask`, `pthread_kill`, `kill`, `poll`, `_exit`
/// (signal-safety(7)).
pub(super) fn die_by(signal: Signal) -> ! {
    #[cfg(handle_exit_loom)]
    super::models::dies(Status::Signal(signal));
    let raw = signal.as_raw();
    let _ = Disposition::DEFAULT.replace(raw);
    mask::unblock(SignalSet::of(&[signal]));
    // SAFETY: the calling thread exists.
    let refused = unsafe { libc::pthread_kill(libc::pthread_self(), raw) } != 0;
    if refused {
        // EAGAIN: no room for the siginfo of a real-time signal (RLIMIT_SIGPENDING). `kill` needs none.
        let _ = send_signal(signal);
        let begun = Moment::now();
        while Moment::now().saturating_duration_since(begun) < DELIVERY {
            sleep_a_millisecond();
        }
    }
    // Still here: PID 1 of a namespace, which no default disposition kills (pid_namespaces(7)).
    exit_now(Status::Signal(signal).code())
}

/// Ends the process without running anything. Async-signal-safe.
fn exit_now(code: c_int) -> ! {
    #[cfg(handle_exit_loom)]
    super::models::dies(Status::Code(code));
    // SAFETY: ends the process, touches no memory.
    unsafe { libc::_exit(code) }
}

/// Async-signal-safe, as `poll` is (signal-safety(7)); `nanosleep` is not on that list.
pub(super) fn sleep_a_millisecond() {
    let _ = poll(&mut [], 1u8);
}

/// Sends the signal to this process. Async-signal-safe: `getpid`, `kill` (signal-safety(7)).
pub(crate) fn send_signal(signal: Signal) -> io::Result<()> {
    // Where a sandbox forbids to ask for the id, it is -1: to `kill`, all processes there are.
    let Ok(id) = libc::pid_t::try_from(std::process::id()) else {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    };
    // SAFETY: kill(2) of the own process.
    if unsafe { libc::kill(id, signal.as_raw()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
