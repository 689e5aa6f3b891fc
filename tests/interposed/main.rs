//! Tests that stand in the place of a function of the C library's, or of the allocator: what happens between two
//! steps of the guard, and what fails. Apart from the others, so that those meet the real ones.

#![allow(missing_docs, reason = "a test binary")]

#[path = "../support/mod.rs"]
mod support;

mod allocator;
mod clock;
mod dispositions;
mod faults;
#[cfg(target_env = "gnu")]
mod jumps;
mod sigaction;

fn main() {
    support::main(&[
        allocator::TESTS,
        clock::TESTS,
        dispositions::TESTS,
        faults::TESTS,
        #[cfg(target_env = "gnu")]
        jumps::TESTS,
    ]);
}
