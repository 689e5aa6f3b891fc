//! An event for whoever handles it now.

use std::ffi::c_void;
use std::ptr;

use windows_sys::Win32::Foundation::CloseHandle;
use windows_sys::Win32::System::Threading::CreateThread;

use super::siginfo::{Arrival, SigInfo};
use super::{dll, handler, process, slot};
use crate::signal::ConsoleEvent;
use crate::sys::status::Status;

/// Hands over an event that came too late for the guard.
pub(crate) fn hand_over(arrival: &Arrival) {
    pass_on(&arrival.info);
}

/// Has the handlers below hear of an event of a signal that is no guard's any more. Final ones that came after it, and
/// that no guard has answered, go the same way.
pub(super) fn pass_on(info: &SigInfo) {
    // The system's thread may be waiting in the handler with it; it is not where a host had the signal.
    if !slot::pass_on(info.event.signal(), info.order..=u64::MAX) {
        deliver(info.event);
    }
}

/// Does what the system does: starts a thread in the function that calls the handlers.
/// `GenerateConsoleCtrlEvent` would tell every process of the console.
fn deliver(event: ConsoleEvent) {
    // In kernelbase.dll since Windows 10, in kernel32.dll before. Not documented, but used by many:
    // it is how MSYS2's `kill` ends a Windows program.
    let routine = dll::exported(c"kernelbase.dll", c"CtrlRoutine")
        .or_else(|| dll::exported(c"kernel32.dll", c"CtrlRoutine"));
    let thread = routine.map_or(ptr::null_mut(), |routine| {
        type Routine = unsafe extern "system" fn(*mut c_void) -> u32;
        // SAFETY: the function of that name is the start of a thread; its argument is the event.
        let routine = unsafe { std::mem::transmute::<*const c_void, Routine>(routine) };
        let event = ptr::without_provenance(handler::raw(event) as usize);
        // SAFETY: no attributes, the default stack, a thread's function with its argument, no id wanted.
        unsafe { CreateThread(ptr::null(), 0, Some(routine), event, 0, ptr::null_mut()) }
    });
    if thread.is_null() {
        // Where no other handler is there, this is what would have happened.
        process::end(Status::Signal(event.signal()));
    }
    // SAFETY: the handle is this function's, which does not need it any more; the thread goes on.
    unsafe { CloseHandle(thread) };
}
