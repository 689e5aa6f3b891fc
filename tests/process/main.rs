//! Tests that need a process each: every scenario is run by a victim of its own, which is this binary.
//! `support` says how; `routes` is the place to see it in use.

#![allow(missing_docs, reason = "a test binary")]

#[path = "../support/mod.rs"]
mod support;

mod abort;
mod deferred;
mod dispositions;
mod foreign;
mod fork;
mod observe;
mod old_handlers;
mod outcome;
mod policies;
mod routes;
mod signals;
mod waiting;

fn main() {
    support::main(&[
        routes::TESTS,
        signals::TESTS,
        dispositions::TESTS,
        foreign::TESTS,
        old_handlers::TESTS,
        fork::TESTS,
        policies::TESTS,
        waiting::TESTS,
        deferred::TESTS,
        outcome::TESTS,
        abort::TESTS,
        observe::TESTS,
        #[cfg(feature = "tracing")]
        observe::traced::TESTS,
    ]);
}
