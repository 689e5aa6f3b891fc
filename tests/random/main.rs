//! Scripts that were drawn at random: signals at any moment, sequences of operations against a model, and a storm.
//! The same ones every time (`seeds`); `.ci/chaos` explores with others.

#![allow(missing_docs, reason = "a test binary")]

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod crowd;
mod model;
mod seeds;
mod storm;

fn main() {
    support::main(&[chaos::TESTS, crowd::TESTS, model::TESTS, storm::TESTS]);
}
