//! `std::process::exit`, and return from `main`, with a guard still alive.

use crate::exit;
use crate::sys::thread::Runner;
use crate::sys::{exit_thread, process};

/// The exit function of the C library: runs on the thread that exits, inside `exit(3)`.
pub(crate) fn at_process_exit() {
    let exit = exit::of(process::this());
    if exit.lock().is_empty() {
        return;
    }
    let in_own_code = exit_thread::is_marked();
    let _exit_thread = exit_thread::mark();
    // In a child that user code has forked there, the rest of its exit is not this crate's.
    let _ = exit.end_inside_exit(Runner::current(), in_own_code);
}
