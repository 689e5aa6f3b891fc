//! Signals, threads and processes of POSIX.
//!
//! * `process`: which process this is, and how it is ended
//! * `thread`: which thread this is, threads of the guard's own, and their signal masks
//! * `handler`: the function the kernel calls, and what it may do
//! * `slot`: what is known of each signal number
//! * `mailbox`: from the handler to the watcher: what came
//! * `wake`: from the handler to the watcher: that something came
//! * `siginfo`: what the kernel says of a signal that came
//! * `abort`: a thread that waits in `abort(3)`
//! * `disposition`: query, replace and compare what a signal does; who holds it
//! * `guarded`: one signal under guard: found, installed, restored
//! * `restore`: the old dispositions are restored
//! * `forward`: act as an old disposition would have
//! * `exit_hook`: the C library's exit functions
//! * `exit_frames`: whether a thread is inside `exit(3)`
//! * `readable`: a descriptor to poll
//! * `mask`: sets of signals as the C library has them
//! * `clock`: a clock for the handler

pub(crate) mod abort;
pub(crate) mod clock;
mod disposition;
mod exit_frames;
pub(crate) mod exit_hook;
pub(crate) mod forward;
pub(crate) mod guarded;
mod handler;
mod mailbox;
mod mask;
#[cfg(handle_exit_loom)]
pub(crate) mod models;
pub(crate) mod process;
pub(crate) mod readable;
pub(crate) mod restore;
pub(crate) mod siginfo;
pub(crate) mod slot;
pub(crate) mod thread;
pub(crate) mod wake;
