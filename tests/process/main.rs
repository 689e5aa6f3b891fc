//! Tests that need a process each: every scenario is run by a victim of its own, which is this binary.
//! `support` says how; `routes` is the place to see it in use.

#![allow(missing_docs, reason = "a test binary")]

use std::process::ExitCode;

#[path = "../support/mod.rs"]
mod support;

#[cfg(unix)]
mod abort;
mod cleanup;
#[cfg(unix)]
mod counted;
mod deferred;
#[cfg(unix)]
mod dispositions;
#[cfg(unix)]
mod exit_with_signal;
#[cfg(unix)]
mod foreign;
#[cfg(unix)]
mod fork;
#[cfg(unix)]
mod lost;
#[cfg(unix)]
mod nesting;
mod observe;
#[cfg(unix)]
mod old_handlers;
#[cfg(unix)]
mod on;
mod outcome;
mod policies;
#[cfg(unix)]
mod recipes;
#[cfg(unix)]
mod repeats;
mod routes;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod surface;
#[cfg(unix)]
mod timeouts;
mod waiting;

const MODULES: &[&[support::Named]] = &[
    routes::TESTS,
    #[cfg(unix)]
    signals::TESTS,
    #[cfg(unix)]
    dispositions::TESTS,
    #[cfg(unix)]
    foreign::TESTS,
    #[cfg(unix)]
    old_handlers::TESTS,
    #[cfg(unix)]
    fork::TESTS,
    #[cfg(unix)]
    nesting::callbacks::TESTS,
    #[cfg(unix)]
    nesting::hosts::TESTS,
    #[cfg(unix)]
    nesting::late::TESTS,
    #[cfg(unix)]
    nesting::on_top::TESTS,
    #[cfg(unix)]
    nesting::deciders::TESTS,
    #[cfg(unix)]
    nesting::parts::TESTS,
    #[cfg(unix)]
    nesting::inside::TESTS,
    #[cfg(unix)]
    nesting::forks::TESTS,
    #[cfg(unix)]
    counted::TESTS,
    #[cfg(unix)]
    lost::TESTS,
    cleanup::TESTS,
    #[cfg(unix)]
    on::TESTS,
    #[cfg(unix)]
    repeats::TESTS,
    #[cfg(unix)]
    surface::TESTS,
    policies::TESTS,
    #[cfg(unix)]
    timeouts::TESTS,
    waiting::TESTS,
    deferred::TESTS,
    outcome::TESTS,
    #[cfg(unix)]
    abort::TESTS,
    #[cfg(unix)]
    exit_with_signal::TESTS,
    observe::TESTS,
    #[cfg(all(unix, feature = "tracing"))]
    observe::traced::TESTS,
    #[cfg(unix)]
    recipes::TESTS,
    #[cfg(unix)]
    recipes::handle_exit::TESTS,
    #[cfg(unix)]
    recipes::signal_exit::TESTS,
];

fn main() -> ExitCode {
    support::main(MODULES);
    cleanup::what_main_returns()
}
