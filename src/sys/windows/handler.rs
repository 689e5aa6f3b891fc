//! The function the system calls, on a thread of its own, when an event comes.

use std::io;
use std::ptr;

use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT,
    SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
};
use windows_sys::core::BOOL;

use super::slot::{self, Verdict};
use crate::signal::ConsoleEvent;

const FALSE: BOOL = 0;
const TRUE: BOOL = 1;

unsafe extern "system" fn handle(raw: u32) -> BOOL {
    BOOL::from(event(raw).map(slot::arrive) == Some(Verdict::Keep))
}

fn event(number: u32) -> Option<ConsoleEvent> {
    use ConsoleEvent::{Close, CtrlBreak, CtrlC, Logoff, Shutdown};
    let all = [CtrlC, CtrlBreak, Close, Logoff, Shutdown];
    all.into_iter().find(|event| raw(*event) == number)
}

/// The number the system gives an event.
pub(super) fn raw(event: ConsoleEvent) -> u32 {
    match event {
        ConsoleEvent::CtrlC => CTRL_C_EVENT,
        ConsoleEvent::CtrlBreak => CTRL_BREAK_EVENT,
        ConsoleEvent::Close => CTRL_CLOSE_EVENT,
        ConsoleEvent::Logoff => CTRL_LOGOFF_EVENT,
        ConsoleEvent::Shutdown => CTRL_SHUTDOWN_EVENT,
    }
}

/// Makes the handler the first that the system asks. Call before arming a signal, and with the lock of the exit: one
/// thread at a time changes the guard's place among the handlers.
pub(super) fn register() -> io::Result<()> {
    if !slot::is_movable() {
        return Ok(());
    }
    pin();
    // Where it is no longer, or not yet, in the list, this fails and changes nothing.
    // SAFETY: `handle` is a handler routine, and the code it lies in stays loaded.
    unsafe { SetConsoleCtrlHandler(Some(handle), FALSE) };
    // SAFETY: as above.
    if unsafe { SetConsoleCtrlHandler(Some(handle), TRUE) } == FALSE {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Keeps the library that this code is part of, if it is one, loaded until the process ends: the
/// handler stays registered, and the system may be calling it at any time.
fn pin() {
    let mut library = ptr::null_mut();
    // SAFETY: with this flag the name is an address within the library; `library` is valid for a write.
    // It cannot fail for an address of code that runs.
    unsafe {
        GetModuleHandleExW(
            GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
            handle as *const u16,
            &raw mut library,
        )
    };
}
