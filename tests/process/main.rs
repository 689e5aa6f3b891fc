//! Tests that need a process each: every scenario is run by a victim of its own, which is this binary.
//! `support` says how; `routes` is the place to see it in use.

#![allow(missing_docs, reason = "a test binary")]

use std::process::ExitCode;

#[path = "../support/mod.rs"]
mod support;

mod abort;
mod cleanup;
mod deferred;
mod dispositions;
mod exit_with_signal;
mod foreign;
mod fork;
mod nesting;
mod observe;
mod old_handlers;
mod on;
mod outcome;
mod policies;
mod recipes;
mod repeats;
mod routes;
mod signals;
mod surface;
mod waiting;

const MODULES: &[&[support::Named]] = &[
    routes::TESTS,
    signals::TESTS,
    dispositions::TESTS,
    foreign::TESTS,
    old_handlers::TESTS,
    fork::TESTS,
    nesting::callbacks::TESTS,
    nesting::deciders::TESTS,
    nesting::parts::TESTS,
    nesting::inside::TESTS,
    nesting::forks::TESTS,
    cleanup::TESTS,
    on::TESTS,
    repeats::TESTS,
    surface::TESTS,
    policies::TESTS,
    waiting::TESTS,
    deferred::TESTS,
    outcome::TESTS,
    abort::TESTS,
    exit_with_signal::TESTS,
    observe::TESTS,
    #[cfg(feature = "tracing")]
    observe::traced::TESTS,
    recipes::TESTS,
    recipes::handle_exit::TESTS,
    recipes::signal_exit::TESTS,
];

fn main() -> ExitCode {
    support::main(MODULES);
    cleanup::what_main_returns()
}
