//! The programs, as their users start and stop them.

#![allow(missing_docs, reason = "a test binary")]

#[path = "../../tests/support/http.rs"]
mod http;
#[path = "../../tests/support/mod.rs"]
mod support;

mod batch;
mod servers;
mod supervised;
mod two_servers;

fn main() {
    support::main(&[batch::TESTS, servers::TESTS, supervised::TESTS, two_servers::TESTS]);
}
