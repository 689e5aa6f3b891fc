//! Scripts that were drawn at random: signals at any moment, sequences of operations against a model, and a storm.
//! The same ones every time (`seeds`); `.ci/chaos` explores with others.

#![allow(missing_docs, reason = "a test binary")]

#[cfg(unix)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(unix)]
mod chaos;
#[cfg(unix)]
mod crowd;
#[cfg(unix)]
mod guards;
#[cfg(unix)]
mod model;
#[cfg(unix)]
mod seeds;
#[cfg(unix)]
mod storm;

#[cfg(unix)]
fn main() {
    support::main(&[chaos::TESTS, crowd::TESTS, guards::TESTS, model::TESTS, storm::TESTS]);
}

/// For Unix.
#[cfg(not(unix))]
fn main() {}
