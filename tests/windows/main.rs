//! What only Windows has: console events of every kind, handlers that cannot be asked for, and ends of a process
//! that no signal knows. What is the same on both is in `tests/process`.
//!
//! One test at a time: some press ^C, which every process of the console hears.

#![allow(missing_docs, reason = "a test binary")]

#[cfg(windows)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(windows)]
mod beside;
#[cfg(windows)]
mod ends;
#[cfg(windows)]
mod events;
#[cfg(windows)]
mod examples;
#[cfg(windows)]
mod guards;

#[cfg(windows)]
fn main() {
    support::main_one_by_one(&[
        events::TESTS,
        ends::TESTS,
        beside::TESTS,
        guards::TESTS,
        examples::TESTS,
    ]);
}

#[cfg(not(windows))]
fn main() {}
