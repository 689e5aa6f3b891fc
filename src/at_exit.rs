//! `std::process::exit`, and return from `main`, with a guard still alive.

use crate::sys::thread::{self, Runner};
use crate::sys::{exit_thread, process};
use crate::{exit, watcher};

/// The exit function of the C library: runs on the thread that exits, inside `exit(3)`.
pub(crate) fn at_process_exit() {
    let exit = exit::of(process::this());
    let state = exit.lock();
    if state.is_empty() && !state.is_last_step_elsewhere() {
        return;
    }
    drop(state);
    let in_own_code = exit_thread::is_marked();
    let _exit_thread = exit_thread::mark();
    let me = Runner::current();
    // In a child that user code has forked there, the rest of its exit is not this crate's.
    if exit.end_inside_exit(me, in_own_code).is_ok() && exit.lock().watchers.is_only(me) {
        thread::spawn_bare(watcher::lead);
    }
}
