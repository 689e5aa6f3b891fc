//! Console events, and what else the tests ask of Windows. The names are those that the Unix files have.

use std::ffi::c_void;
use std::os::windows::io::AsRawHandle;
use std::os::windows::process::CommandExt;
use std::time::Duration;

use handle_exit::{ConsoleEvent, Signal};
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, TRUE};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT,
    GenerateConsoleCtrlEvent, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, CreateRemoteThread, GetCurrentProcess, LPTHREAD_START_ROUTINE,
    OpenProcess, PROCESS_ALL_ACCESS, WaitForSingleObject,
};

use super::{Play, Start, Victim};

/// How a process ends whose console event was handled by nobody: what the system's own handler does.
pub const STATUS_CONTROL_C_EXIT: i32 = 0xC000_013A_u32 as i32;

/// How long a test waits for an event's thread. It ends at once where the guard keeps the event; where it
/// is passed on, or final, it stays in the guard's handler.
const DELIVERED: u32 = 200;

/// The address of a function that a library of every process exports.
fn exported(library: &std::ffi::CStr, name: &std::ffi::CStr) -> Option<*const c_void> {
    // SAFETY: NUL-terminated names, and a library that is never unloaded.
    unsafe {
        let library = GetModuleHandleA(library.as_ptr().cast());
        GetProcAddress(library, name.as_ptr().cast()).map(|function| function as *const c_void)
    }
}

/// Whether this is wine, whose own handler ends a process with 0.
pub fn is_wine() -> bool {
    exported(c"ntdll.dll", c"wine_get_version").is_some()
}

fn raw(event: ConsoleEvent) -> u32 {
    match event {
        ConsoleEvent::CtrlC => CTRL_C_EVENT,
        ConsoleEvent::CtrlBreak => CTRL_BREAK_EVENT,
        ConsoleEvent::Close => CTRL_CLOSE_EVENT,
        ConsoleEvent::Logoff => CTRL_LOGOFF_EVENT,
        ConsoleEvent::Shutdown => CTRL_SHUTDOWN_EVENT,
        other => panic!("{other}"),
    }
}

/// Delivers an event as the system does: by a thread that begins in `CtrlRoutine`. Other processes of
/// the console do not hear of it, so that tests can run side by side.
fn deliver(process: HANDLE, event: ConsoleEvent) {
    let routine = exported(c"kernelbase.dll", c"CtrlRoutine").expect("Windows 10 has it");
    // SAFETY: the function of that name is the start of a thread; system libraries have the same address in
    // every process. The handle of the thread is closed once.
    unsafe {
        let routine = std::mem::transmute::<*const c_void, LPTHREAD_START_ROUTINE>(routine);
        let event = std::ptr::without_provenance(raw(event) as usize);
        let null = std::ptr::null();
        let thread = CreateRemoteThread(process, null, 0, routine, event, 0, std::ptr::null_mut());
        assert!(!thread.is_null(), "no thread: {}", std::io::Error::last_os_error());
        WaitForSingleObject(thread, DELIVERED);
        CloseHandle(thread);
    }
}

/// What stands for a signal where any event of it will do.
fn event_of(signal: Signal) -> ConsoleEvent {
    if signal == Signal::INT { ConsoleEvent::CtrlC } else { ConsoleEvent::CtrlBreak }
}

impl Victim {
    /// Sends an event, from this process.
    pub fn send_event(&self, event: ConsoleEvent) {
        deliver(self.child.as_raw_handle(), event);
    }

    /// Sends a signal, from this process.
    pub fn send(&self, signal: Signal) {
        self.send_event(event_of(signal));
    }

    /// Never: an event has its thread at once.
    pub fn has_pending(&self, _signal: Signal) -> bool {
        false
    }

    /// Nobody can tell. Whoever has to wait does after this time, or the test shows less than it could.
    pub fn at_rest(&mut self) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sends an event to this process alone.
pub fn raise_event(event: ConsoleEvent) {
    // SAFETY: the pseudo handle of this process is always valid.
    deliver(unsafe { GetCurrentProcess() }, event);
}

/// Sends a signal to this process alone; it has been through the guard's handler when this returns.
pub fn raise(signal: Signal) {
    raise_event(event_of(signal));
}

/// Sends an event to another process, by its id.
pub fn send_event_to(pid: u32, event: ConsoleEvent) {
    // SAFETY: no memory is involved; the handle is closed once.
    unsafe {
        let process = OpenProcess(PROCESS_ALL_ACCESS, 0, pid);
        assert!(!process.is_null(), "{}", std::io::Error::last_os_error());
        deliver(process, event);
        CloseHandle(process);
    }
}

/// Sends `^C` to every process of this console, as the keyboard does. This process ignores it if it has
/// said so with `hear_no_ctrl_c`.
pub fn ctrl_c_for_all() {
    // SAFETY: no memory is involved.
    let sent = unsafe { GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) };
    assert_eq!(sent, TRUE, "{}", std::io::Error::last_os_error());
}

/// C's `exit`, which runs what is registered with `at_exit`.
pub fn c_exit(code: i32) -> ! {
    unsafe extern "C" {
        fn exit(code: std::ffi::c_int) -> !;
    }
    // SAFETY: ends the process, by what was registered for that.
    unsafe { exit(code) }
}

/// From here on this process does nothing on `^C`. Those that it starts are not concerned.
pub fn hear_no_ctrl_c() {
    unsafe extern "system" fn keeps(_: u32) -> i32 {
        TRUE
    }
    // SAFETY: a handler that stays loaded.
    assert_eq!(unsafe { SetConsoleCtrlHandler(Some(keeps), TRUE) }, TRUE);
}

/// From here on the system does not tell this process of `^C`, nor those that it starts.
pub fn ignore_ctrl_c() {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { SetConsoleCtrlHandler(None, TRUE) }, TRUE);
}

/// In a process group of its own, which ignores `^C`.
pub fn in_a_group(victim: impl Play) -> Start {
    let mut start = victim.start();
    start.command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    start
}

/// Nobody can ask who handles an event: what the guard left is shown by what an event then does.
pub fn is_default(_signal: Signal) -> bool {
    true
}

/// Nobody can ask. The thread does after this time, or the test shows less than it could.
pub fn sleeps(_thread: i32) -> bool {
    std::thread::sleep(Duration::from_millis(50));
    true
}

/// The calling thread's name.
pub fn thread_name() -> String {
    std::thread::current().name().unwrap_or("without a name").to_owned()
}

/// There are none.
pub(super) fn no_core_file() {}

/// A test starts with nobody's handlers.
pub(super) fn reset_signals() {}

pub(super) fn describe_threads(_pid: i32) -> String {
    "not known here".into()
}

/// Writes a line to standard output.
pub fn say_in_handler(line: &'static str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(line.as_bytes());
}
