//! The guard in one process with other owners of signal handlers.

#![allow(missing_docs, reason = "a test binary")]

mod claims;
mod neighbour;
mod pyterminate;
#[path = "../../support/mod.rs"]
mod support;
mod table;

fn main() {
    support::main(&[table::BESIDE, table::TESTS, claims::TESTS, pyterminate::TESTS]);
}
