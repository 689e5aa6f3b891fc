//! The only door to unsafe code: everything that the platform leaves to the caller's care. It knows
//! signals and nothing else of the crate; functions to call are handed in.
//!
//! * `borrowed`: a callback that borrows from the caller of `run`
//! * `flush`: what is buffered is written, in bounded time
//! * `holder`: whose code a handler is
//! * `lock`: a mutex, and waiting with it
//! * `per_process`: a static that a forked child does not share
//! * `status`: how a process ends
//! * `unix`, `windows`: the platform, with the same names on both

#![allow(unsafe_code, reason = "the one place of the crate where it is allowed")]

pub(crate) mod borrowed;
pub(crate) mod exit_thread;
pub(crate) mod flush;
pub(crate) mod holder;
pub(crate) mod lock;
pub(crate) mod per_process;
pub(crate) mod status;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;
