//! An embedded CPython, with the SIGINT handler that it installs by itself.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::RawFd;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use libloading::{Library, Symbol};

use super::load;
use crate::support::say;

/// Ends by a KeyboardInterrupt only, wherever that strikes.
const WAITS: &str = "
import time
while True:
    time.sleep(0.001)
";

/// Where the shared library of the `python3` in the PATH is.
const WHERE: &str = "import sysconfig as s; \
    print(s.get_config_var('LIBDIR') + '/' + s.get_config_var('INSTSONAME'))";

/// The Python library: of the interpreter in the PATH, or any that the dynamic linker finds.
pub(crate) fn library() -> Result<&'static Library, String> {
    let own = Command::new("python3").args(["-c", WHERE]).output();
    let own = own.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let others = (9..20).rev().map(|minor| format!("libpython3.{minor}.so.1.0"));
    // An interpreter that is linked statically names an archive.
    let all = own.into_iter().filter(|path| path.contains(".so")).chain(others);
    let mut loaded = all.filter_map(|path| load(path).ok());
    loaded.next().ok_or_else(|| "no shared library of Python 3 here".into())
}

/// Says `neighbour` for each SIGINT.
pub(super) fn start() {
    run_in_python(WAITS.to_owned());
}

/// Is inside a read of this descriptor, and says `neighbour` when a KeyboardInterrupt strikes.
pub(crate) fn start_reading(pipe: RawFd) {
    run_in_python(format!("import os\nwhile True:\n    os.read({pipe}, 1)\n"));
}

/// Runs a program again and again, on a thread that is Python's main thread. Only a KeyboardInterrupt
/// is to end it.
fn run_in_python(program: String) {
    let program = CString::new(program).unwrap();
    let python = library().unwrap();
    let (starts, started) = channel();
    thread::spawn(move || {
        // SAFETY: those are their types in Python.h; this thread alone uses the interpreter.
        unsafe {
            let initialize: Symbol<unsafe extern "C" fn()> = python.get(b"Py_Initialize").unwrap();
            let run: Symbol<unsafe extern "C" fn(*const c_char) -> c_int> =
                python.get(b"PyRun_SimpleString").unwrap();
            initialize();
            starts.send(()).unwrap();
            loop {
                assert_eq!(run(program.as_ptr()), -1, "an exception ended it");
                say("neighbour");
            }
        }
    });
    started.recv().unwrap();
}
