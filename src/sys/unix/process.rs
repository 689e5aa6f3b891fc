//! Which process this is, and how it is ended.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
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
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Whether forks are counted. Written and read by those who make a guard; a forked child inherits
/// it with the registration.
static COUNTS_FORKS: AtomicBool = AtomicBool::new(false);

/// A process, told apart from those it was forked from. The process id alone does not: a child in a
/// new pid namespace is PID 1 as its parent may be. The count of forks alone does not either: it
/// misses `vfork`, and children made by a bare `clone(2)`.
pub(crate) type Process = u64;

/// This process. Async-signal-safe (`getpid`, signal-safety(7)); a system call.
pub(crate) fn this() -> Process {
    u64::from(FORKS.load(SeqCst)) << 32 | u64::from(std::process::id())
}

/// Whether this is a child that `process`, which was this one, has forked with `fork(2)`. No system
/// call.
pub(crate) fn has_forked_from(process: Process) -> bool {
    // A thread of a model that is gone with its process acts like a forked child.
    #[cfg(handle_exit_loom)]
    return super::models::is_over();
    halves(process).0 != FORKS.load(SeqCst)
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

/// Where a `Process` is kept: two halves, for the targets without atomics of 64 bits.
pub(crate) struct AtomicProcess {
    forks: AtomicU32,
    id: AtomicU32,
}

impl AtomicProcess {
    /// Is no process.
    pub(crate) const fn new() -> AtomicProcess {
        AtomicProcess { forks: AtomicU32::new(0), id: AtomicU32::new(0) }
    }

    /// A reader between the two stores finds what is neither process: a child differs from its parent
    /// in the count of forks, or else in nothing but the id.
    pub(crate) fn set(&self, process: Process) {
        let (forks, id) = halves(process);
        self.forks.store(forks, SeqCst);
        self.id.store(id, SeqCst);
    }

    pub(crate) fn is(&self, process: Process) -> bool {
        (self.forks.load(SeqCst), self.id.load(SeqCst)) == halves(process)
    }

    /// Whether it was ever set.
    pub(super) fn is_set(&self) -> bool {
        self.id.load(SeqCst) != 0
    }
}

fn halves(process: Process) -> (u32, u32) {
    ((process >> 32) as u32, process as u32)
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
        while Moment::now().since(begun) < DELIVERY {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_its_neighbours() {
        let kept = AtomicProcess::new();
        assert!(!kept.is_set());
        let process: Process = 3 << 32 | 1;
        kept.set(process);
        assert!(kept.is_set() && kept.is(process));
        for other in [1, 3 << 32, 4 << 32 | 1, 3 << 32 | 2] {
            assert!(!kept.is(other));
        }
    }
}
