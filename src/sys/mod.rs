//! The only door to unsafe code: everything that POSIX leaves to the caller's care.
//!
//! * `handler`: the function the kernel calls, its statics, and what it may do
//! * `siginfo`: what the kernel says of a signal that came
//! * `wake`: from the handler to the watcher
//! * `disposition`: query, replace and compare what a signal does; who holds it
//! * `guarded`: one signal under guard: found, installed, restored
//! * `forward`: act as an old disposition would have; die by a signal
//! * `alternate_stack`: what the handler runs on
//! * `mask`: the watcher's signal mask
//! * `exit_hook`: the C library's exit functions
//! * `process`: which process this is
//! * `per_process`: a static that a forked child does not share
//! * `borrowed`: a callback that borrows from the caller of `run`

#![allow(unsafe_code, reason = "the one place of the crate where it is allowed")]

mod alternate_stack;
pub(crate) mod borrowed;
pub(crate) mod disposition;
pub(crate) mod exit_hook;
pub(crate) mod forward;
pub(crate) mod guarded;
pub(crate) mod handler;
pub(crate) mod mask;
pub(crate) mod per_process;
pub(crate) mod process;
pub(crate) mod siginfo;
pub(crate) mod wake;
