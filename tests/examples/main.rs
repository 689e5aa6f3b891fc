//! The examples, built as a new user builds them, signalled and judged by their ending.

#![allow(missing_docs, reason = "a test binary")]

#[cfg(unix)]
#[path = "../support/http.rs"]
mod http;
#[cfg(unix)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(unix)]
mod light;
#[cfg(unix)]
mod serve;

#[cfg(unix)]
fn main() {
    support::main(&[light::TESTS, serve::TESTS]);
}

/// For Unix.
#[cfg(not(unix))]
fn main() {}
