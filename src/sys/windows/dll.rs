//! Functions of the system that no import library is sure to have.

use std::ffi::{CStr, c_void};

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
