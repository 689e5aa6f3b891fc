//! The nine tests of the Python recipe `handle_exit`, as it documents itself. Where a test of the
//! recipe's runs the old handler before the new function, this one holds it to its own words: new
//! first, then old.

#![allow(unsafe_code, reason = "old handlers are the test's subject")]

mod support;

use handle_exit::{Cause, Error, Exit, HandleExit, Signal};
use nix::libc;
use support::*;

fn callback() {
    say("callback");
}

extern "C" fn old(_: libc::c_int) {
    say_in_handler("old\n");
}

// ------------------------------------------------------------------------------------ scenarios

/// The recipe's function is optional; here an empty closure stands for none.
fn no_callback() {
    HandleExit::run(|| {}, |_| say("body")).unwrap();
    say("behind");
}

fn with_callback() {
    HandleExit::run(callback, |_| say("body")).unwrap();
    say("behind");
}

/// A panic stands for `KeyboardInterrupt`: what unwinds through the scope.
fn interrupt() {
    let unwound = std::panic::catch_unwind(|| {
        HandleExit::run(callback, |_| {
            say("body");
            panic!("KeyboardInterrupt");
        })
    });
    let payload = unwound.unwrap_err();
    say(payload.downcast::<&str>().unwrap());
}

/// The signal comes inside, and the code behind the scope is reached all the same.
fn raised_inside(signal: Signal) {
    let cause = HandleExit::run(callback, |exit| {
        say("body");
        raise(signal);
        exit.wait()
    });
    match cause.unwrap() {
        Cause::Signal(received) => say(format!("behind {}", received.signal())),
        other => panic!("{other}"),
    }
}

fn term_inside() {
    raised_inside(Signal::TERM);
}

fn int_inside() {
    raised_inside(Signal::INT);
}

/// With a handler registered before.
fn appended(signal: Signal) {
    install(signal, old);
    let before = disposition(signal);
    HandleExit::builder()
        .append(true)
        .run(callback, |exit| {
            say("body");
            raise(signal);
            exit.wait();
        })
        .unwrap();
    assert_eq!(disposition(signal), before, "handed back");
    say("behind");
    raise(signal);
}

fn old_term() {
    appended(Signal::TERM);
}

fn old_int() {
    appended(Signal::INT);
}

fn refusal() {
    for signal in [Signal::TERM, Signal::INT] {
        install(signal, old);
        let before = disposition(signal);
        let refused = HandleExit::run(callback, |_| say("never"));
        let Err(Error::HandlerExists { signal: taken, .. }) = refused else {
            panic!("not refused")
        };
        assert_eq!(taken, signal);
        assert_eq!(disposition(signal), before, "refused before it is replaced");
        install_exactly(signal, libc::SIG_DFL, 0, &[]);
    }
    say("behind");
}

fn nested() {
    HandleExit::run(callback, |_| {
        let inner = HandleExit::run(|| say("never"), |_| say("never"));
        assert!(matches!(inner, Err(Error::Nested)));
        // What is to be cleaned up inside goes to the guard that lives.
        Exit::current().unwrap().defer(|| say("inner")).unwrap();
        say("body");
    })
    .unwrap();
    say("behind");
}

// ---------------------------------------------------------------------------------------- tests

#[track_caller]
fn ends_well(scenario: &str, lines: &[&str]) {
    Victim::start(scenario).end().said(lines).exited(0);
}

fn test_no_callback() {
    ends_well("no_callback", &["body", "behind"]);
}

fn test_callback() {
    ends_well("with_callback", &["body", "callback", "behind"]);
}

fn test_interrupt_unwinding() {
    ends_well("interrupt", &["body", "callback", "KeyboardInterrupt"]);
}

fn test_sigterm_inside() {
    ends_well("term_inside", &["body", "callback", "behind SIGTERM"]);
}

fn test_sigint_inside() {
    ends_well("int_inside", &["body", "callback", "behind SIGINT"]);
}

fn test_old_sigterm_handler() {
    ends_well("old_term", &["body", "callback", "old", "behind", "old"]);
}

fn test_old_sigint_handler() {
    ends_well("old_int", &["body", "callback", "old", "behind", "old"]);
}

fn test_refusal_without_append() {
    ends_well("refusal", &["behind"]);
}

fn test_nested() {
    ends_well("nested", &["body", "callback", "inner", "behind"]);
}

fn main() {
    support::main(
        all![
            no_callback,
            with_callback,
            interrupt,
            term_inside,
            int_inside,
            old_term,
            old_int,
            refusal,
            nested,
        ],
        all![
            test_no_callback,
            test_callback,
            test_interrupt_unwinding,
            test_sigterm_inside,
            test_sigint_inside,
            test_old_sigterm_handler,
            test_old_sigint_handler,
            test_refusal_without_append,
            test_nested,
        ],
    );
}
