//! What the guard must survive: every way out, held against an adversary. Each test is a program that broke the
//! first edition, or one that was written to break this one.
//!
//! | file | what happens |
//! |---|---|
//! | `attacked` | what two testers found who attacked the crate: each bug by its name |
//! | `encounters` | two threads in one exit, two guards in one end, two handlers in one signal |
//! | `exits` | a signal at any moment of an exit, whoever began it |
//! | `dropped_in_exit` | a guard is dropped, or made, inside `exit(3)` |
//! | `two_exits` | two threads exit, with and without `/proc`; callbacks that look like it |
//! | `cut_short` | what has begun is to run to its end while the process ends |
//! | `forks` | forks at any moment, and by the exit's own code |
//! | `blocked` | a program that blocks a signal in each of its threads, and reads it by itself |
//! | `masks` | what the program blocks, waits for or keeps a handler from |
//! | `hosts` | plugins that are unloaded, limits, a main thread that has ended |
//! | `reported` | public reports, replayed |
//! | `forgotten` | ends of the process beside other guards and running code |
//! | `hangs` | locks of the C library's and of std's that never come free, and exits within exits |
//! | `last_steps` | who takes the last step of a process, and what may hang beside it |
//! | `workers` | four threads that defer, work and cancel in a loop |

#![allow(missing_docs, reason = "a test binary")]

#[cfg(unix)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(unix)]
mod attacked;
#[cfg(unix)]
mod blocked;
#[cfg(unix)]
mod cut_short;
#[cfg(unix)]
mod dropped_in_exit;
#[cfg(unix)]
mod encounters;
#[cfg(unix)]
mod exits;
#[cfg(unix)]
mod forgotten;
#[cfg(unix)]
mod forks;
#[cfg(unix)]
mod hangs;
#[cfg(unix)]
mod hosts;
#[cfg(unix)]
mod last_steps;
#[cfg(unix)]
mod masks;
#[cfg(unix)]
mod reported;
#[cfg(unix)]
mod two_exits;
#[cfg(unix)]
mod workers;

#[cfg(unix)]
fn main() {
    support::main(&[
        attacked::TESTS,
        blocked::TESTS,
        cut_short::TESTS,
        dropped_in_exit::TESTS,
        encounters::TESTS,
        exits::TESTS,
        forgotten::TESTS,
        forks::TESTS,
        hangs::TESTS,
        hosts::TESTS,
        last_steps::TESTS,
        masks::TESTS,
        reported::TESTS,
        two_exits::TESTS,
        workers::TESTS,
    ]);
}

/// For Unix.
#[cfg(not(unix))]
fn main() {}
