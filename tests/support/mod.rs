//! Driving real child processes: every test here watches a process of its own from outside.
//!
//! A test starts its own binary again as a *victim*, which runs one *scenario* in its real `main`, and
//! judges what it says and how it ends. A scenario is any function without arguments: it has no other name
//! than its own. Both sides wait for events, with a deadline that only a hang reaches.
//!
//! | file | what it has |
//! |---|---|
//! | `harness` | the `main` of a test binary, and its list of tests |
//! | `scenario` | how a victim is started with one function; what a scenario says, hears and is told |
//! | `victim` | the process from the test's side, and how it ended |
//! | `signals` | signals and dispositions, as the kernel has them |
//! | `foreign` | handlers that somebody else installs |
//! | `jump` | a jump out of a function that is interrupted |
//! | `proc` | everything that is read in `/proc`: Linux only |
//! | `seccomp` | a filter of system calls: Linux only |
//! | `terminal` | a terminal whose keys the test presses |
//! | `privileges` | what a test may do as root, in a namespace, or as nobody |
//! | `windows` | what stands there for the last five: console events |

#![allow(dead_code, unused_imports, unused_macros, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, missing_docs, unsafe_code, reason = "a module of test binaries")]

#[cfg(unix)]
mod foreign;
mod harness;
// The libc crate has no contexts for arm.
#[cfg(all(target_os = "linux", target_env = "gnu", not(target_arch = "arm")))]
mod jump;
#[cfg(unix)]
mod privileges;
#[cfg(unix)]
mod proc;
mod scenario;
#[cfg(target_os = "linux")]
pub mod seccomp;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod terminal;
mod victim;
#[cfg(windows)]
mod windows;

use std::time::{Duration, Instant};

#[cfg(unix)]
pub use foreign::*;
#[cfg(windows)]
pub use harness::main_one_by_one;
pub(crate) use harness::tests;
pub use harness::{Named, main};
#[cfg(all(target_os = "linux", target_env = "gnu", not(target_arch = "arm")))]
pub use jump::*;
#[cfg(unix)]
pub use privileges::*;
#[cfg(unix)]
pub use proc::*;
pub(crate) use scenario::scenarios;
pub use scenario::*;
#[cfg(unix)]
pub use signals::*;
#[cfg(unix)]
pub use terminal::*;
pub use victim::*;
#[cfg(windows)]
pub use windows::*;

/// No healthy step takes this long, even with both cores busy. `.ci/platforms` gives emulated machines more, when it
/// builds the tests.
pub const DEADLINE: Duration = Duration::from_secs(match option_env!("HANDLE_EXIT_DEADLINE") {
    Some(seconds) => match u64::from_str_radix(seconds, 10) {
        Ok(seconds) => seconds,
        Err(_) => panic!("HANDLE_EXIT_DEADLINE is a number of seconds"),
    },
    None => 60,
});

/// A limit that is to be overrun: soon over, and yet enough for what is run after it, on a machine with so many other
/// threads to run that a new one may wait a second for its turn.
pub const SOON_OVER: Duration = or_longer(1500);

/// So many milliseconds, or more where the deadline is longer too.
pub const fn or_longer(millis: u64) -> Duration {
    Duration::from_millis(millis * DEADLINE.as_secs() / 60)
}

/// A second wish to end, and not a second delivery of the first: the rule says 500 ms. It counts from a moment at which
/// the first signal has been seen to be handled, so it is never less.
pub const SECOND_WISH: Duration = Duration::from_millis(700);

/// Waits until `is_so`, polling; panics at the deadline.
#[track_caller]
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Tests each cell of a table, all of them at once, and names those that failed. For cells whose times are under test:
/// they sleep more than they work.
#[track_caller]
pub fn in_each<C: Copy + Send + Sync + std::fmt::Debug>(cells: &[C], test: impl Fn(C) + Sync) {
    let failed: Vec<C> = std::thread::scope(|threads| {
        let test = &test;
        let running: Vec<_> =
            cells.iter().map(|cell| (*cell, threads.spawn(move || test(*cell)))).collect();
        let failed =
            running.into_iter().filter_map(|(cell, thread)| thread.join().err().map(|_| cell));
        failed.collect()
    });
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// The main thread of this process; elsewhere than on Linux, a number that `sleeps` takes.
pub fn main_thread() -> i32 {
    std::process::id() as i32
}

/// Waits for ever.
pub fn park() -> ! {
    loop {
        std::thread::park();
    }
}
