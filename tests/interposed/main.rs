//! Tests that stand in the place of a function of the C library's, or of the allocator: what happens between two
//! steps of the guard, and what fails. Apart from the others, so that those meet the real ones.

#![allow(missing_docs, reason = "a test binary")]

#[cfg(unix)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(unix)]
mod allocator;
#[cfg(unix)]
mod clock;
#[cfg(unix)]
mod dispositions;
#[cfg(unix)]
mod faults;
#[cfg(unix)]
mod sigaction;
#[cfg(target_os = "linux")]
mod stack;
#[cfg(unix)]
mod start;

#[cfg(unix)]
fn main() {
    support::main(&[
        allocator::TESTS,
        clock::TESTS,
        dispositions::TESTS,
        faults::TESTS,
        #[cfg(target_os = "linux")]
        stack::TESTS,
        start::TESTS,
    ]);
}

/// For Unix.
#[cfg(not(unix))]
fn main() {}
