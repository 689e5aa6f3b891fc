//! Functions of the system that no import library is sure to have.

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};

/// The address of a function that a loaded library exports.
pub(super) fn exported(library: &CStr, function: &CStr) -> Option<*const c_void> {
    // SAFETY: a NUL-terminated name. The result is null or the handle of a loaded library; ntdll,
    // kernelbase and kernel32, the only ones that are asked for here, are never unloaded.
    let library = unsafe { GetModuleHandleA(library.as_ptr().cast()) };
    if library.is_null() {
        return None;
    }
    // SAFETY: a loaded library and a NUL-terminated name.
    let address = unsafe { GetProcAddress(library, function.as_ptr().cast()) };
    address.map(|function| function as *const c_void)
}

/// Whether `ExitProcess` has ended all threads but this one.
///
/// Libraries' detach functions, thread-local destructors of the thread that called it, and exit
/// functions of C libraries that run them as late as that, see a process in this state.
pub(super) fn threads_are_gone() -> bool {
    type InProgress = unsafe extern "system" fn() -> u8;
    static IN_PROGRESS: OnceLock<Option<InProgress>> = OnceLock::new();
    let function = IN_PROGRESS.get_or_init(|| {
        let address = exported(c"ntdll.dll", c"RtlDllShutdownInProgress")?;
        // SAFETY: the function of that name takes nothing and returns a BOOLEAN.
        Some(unsafe { std::mem::transmute::<*const c_void, InProgress>(address) })
    });
    // SAFETY: it only reads a flag.
    function.is_some_and(|in_progress| unsafe { in_progress() } != 0)
}
