//! This process, and how it ends.

use std::io;

use windows_sys::Win32::Foundation::STATUS_CONTROL_C_EXIT;
use windows_sys::Win32::System::Threading::{ExitProcess, GetCurrentProcess, TerminateProcess};

use super::dll;
use crate::sys::status::Status;
use crate::sys::{flush, lock};

/// A process as it is while its threads live, or as it is after `ExitProcess` has ended all but one.
///
/// That one is as alone as a forked child: what the others held is locked forever. So it is taken for
/// another process, which has no part in the exit of the first.
pub(crate) type Process = usize;

const ALIVE: Process = 1;
const ALONE: Process = 2;

/// This process.
pub(crate) fn this() -> Process {
    if dll::threads_are_gone() { ALONE } else { ALIVE }
}

/// Whether this is another process than `process`, which was this one.
pub(crate) fn has_forked_from(process: Process) -> bool {
    this() != process
}

/// There are none.
pub(crate) fn count_forks() -> io::Result<()> {
    Ok(())
}

/// Ends the process. By a signal means as the system's own handler does: with the exit code
/// `STATUS_CONTROL_C_EXIT`.
pub(crate) fn end(status: Status) -> ! {
    match status {
        Status::Signal(_) => exit_process(status),
        Status::Code(_) | Status::Failed => std::process::exit(status.code()),
    }
}

/// As `end`, in a function that the C library's `exit` calls.
pub(crate) fn end_inside_exit(status: Status) -> ! {
    if !matches!(status, Status::Signal(_)) {
        flush::flush();
    }
    exit_process(status)
}

/// Ends the process at once: nothing is flushed, and no library hears of it.
pub(crate) fn end_now(status: Status) -> ! {
    // SAFETY: the pseudo handle of this process is always valid.
    unsafe { TerminateProcess(GetCurrentProcess(), exit_code(status)) };
    // The call only begins the end: it may return on a thread that is going to be ended.
    lock::park()
}

fn exit_process(status: Status) -> ! {
    // SAFETY: may be called on any thread at any time; it ends all others first.
    unsafe { ExitProcess(exit_code(status)) }
}

fn exit_code(status: Status) -> u32 {
    match status {
        Status::Signal(_) => u32::from_ne_bytes(STATUS_CONTROL_C_EXIT.to_ne_bytes()),
        Status::Code(_) | Status::Failed => u32::from_ne_bytes(status.code().to_ne_bytes()),
    }
}
