//! The examples, built as a new user builds them, signalled and judged by their ending.

#![allow(missing_docs, reason = "a test binary")]

#[path = "../support/http.rs"]
mod http;
#[path = "../support/mod.rs"]
mod support;

mod light;
mod serve;

fn main() {
    support::main(&[light::TESTS, serve::TESTS]);
}
