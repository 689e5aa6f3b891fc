//! This process, and how it ends.

use std::ffi::c_void;
use std::io;
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::STATUS_CONTROL_C_EXIT;
use windows_sys::Win32::System::Threading::{ExitProcess, GetCurrentProcess, TerminateProcess};

use super::dll;
use crate::sys::status::Status;

/// Windows has no fork: a process sees no other in its memory.
pub(crate) type Process = u64;

/// This process.
pub(crate) fn this() -> Process {
    1
}

/// There are none to count.
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
        unsafe extern "C" {
            fn fflush(stream: *mut c_void) -> i32;
        }
        // SAFETY: a null stream flushes all of them.
        unsafe { fflush(std::ptr::null_mut()) };
    }
    exit_process(status)
}

/// Ends the process at once: nothing is flushed, and no library hears of it.
pub(crate) fn end_now(status: Status) -> ! {
    // SAFETY: the pseudo handle of this process is always valid.
    unsafe { TerminateProcess(GetCurrentProcess(), exit_code(status)) };
    // The call only begins the end: it may return on a thread that is going to be ended.
    loop {
        std::thread::park();
    }
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

/// Whether `ExitProcess` has ended all threads but this one. What they held is locked for ever then,
/// so there is nothing left to do but to return.
///
/// Libraries' detach functions, thread-local destructors of the thread that called it, and exit
/// functions of C libraries that run them as late as that, see a process in this state.
pub(crate) fn threads_are_gone() -> bool {
    type InProgress = unsafe extern "system" fn() -> u8;
    static IN_PROGRESS: OnceLock<Option<InProgress>> = OnceLock::new();
    let function = IN_PROGRESS.get_or_init(|| {
        let address = dll::exported(c"ntdll.dll", c"RtlDllShutdownInProgress")?;
        // SAFETY: the function of that name takes nothing and returns a BOOLEAN.
        Some(unsafe { std::mem::transmute::<*const c_void, InProgress>(address) })
    });
    // SAFETY: it only reads a flag.
    function.is_some_and(|in_progress| unsafe { in_progress() } != 0)
}
