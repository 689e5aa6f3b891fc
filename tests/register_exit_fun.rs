//! What the tests of Python's `register_exit_fun` check, as scenarios of this crate: functions that
//! are registered and unregistered, run in order, once, and honestly reported.

mod support;

use std::time::Duration;

use handle_exit::{AfterScope, Ending, Exit, HandleExit, Signal};
use support::*;

/// How a scenario is to end, once it is ready.
fn end_as_told(guard: HandleExit) {
    say("ready");
    match told::<String>().as_str() {
        "clean end" => drop(guard),
        "exit" => std::process::exit(0),
        "TERM" => loop {
            std::thread::park();
        },
        other => panic!("{other}"),
    }
}

/// Runs a scenario to each end: the lines behind `ready`, and the status.
fn each_end(scenario: &str, lines: &[&str]) {
    for way in ["clean end", "exit", "TERM"] {
        let name = format!("{scenario}, {way}");
        let mut victim = Victim::spawn(&name, victim_told(scenario, way));
        victim.expect("ready");
        if way == "TERM" {
            victim.send(Signal::TERM);
        }
        let end = victim.end();
        let behind = end.lines.iter().skip_while(|line| *line != "ready").skip(1);
        assert_eq!(behind.collect::<Vec<_>>(), lines, "{name}: {end:#?}");
        if way == "TERM" {
            end.died_by(Signal::TERM)
        } else {
            end.exited(0)
        };
    }
}

// ----------------------------------------------------------------------------------- in order

fn registered() {
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    // As a library registers that was handed nothing.
    let register = |line: &'static str| {
        Exit::current().unwrap().defer(move || say(line)).unwrap();
    };
    register("first");
    register("second");
    register("third");
    end_as_told(guard);
}

fn functions_run_last_in_first_out_on_a_clean_end_and_on_term() {
    each_end("registered", &["callback", "third", "second", "first"]);
}

// --------------------------------------------------------------------------------- unregistered

fn unregistered_in_order() {
    unregistered([0, 1]);
}

fn unregistered_out_of_order() {
    unregistered([1, 0]);
}

fn unregistered(order: [usize; 2]) {
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    guard.defer(|| say("stays below")).unwrap();
    let mut staged = ["first is freed", "second is freed"].map(|line| {
        let captured = SaysWhenFreed(line);
        let function = move || {
            let _captured = captured;
            say("is not to run");
        };
        Some(guard.defer(function).unwrap())
    });
    guard.defer(|| say("stays above")).unwrap();
    for index in order {
        assert!(staged[index].take().unwrap().cancel());
        say(format!("{index} is unregistered"));
    }
    end_as_told(guard);
}

fn an_unregistered_function_is_not_run_and_what_it_captured_is_freed() {
    for (scenario, before) in [
        (
            "unregistered_in_order",
            ["first is freed", "0 is unregistered", "second is freed", "1 is unregistered"],
        ),
        (
            "unregistered_out_of_order",
            ["second is freed", "1 is unregistered", "first is freed", "0 is unregistered"],
        ),
    ] {
        each_end(scenario, &["callback", "stays above", "stays below"]);
        let end = Victim::spawn(scenario, victim_told(scenario, "clean end")).end();
        assert_eq!(end.lines[..4], before, "{end:#?}");
    }
}

fn unregistered_callback() {
    let captured = SaysWhenFreed("freed");
    let guard = HandleExit::cleanup(move || {
        let _captured = captured;
        say("is not to run");
    })
    .unwrap();
    assert!(guard.disarm());
    say("disarmed");
    assert_eq!(disposition(Signal::TERM).0, nix::libc::SIG_DFL);
    raise(Signal::TERM);
}

fn an_unregistered_callback_is_not_run_and_what_it_captured_is_freed() {
    let end = Victim::start("unregistered_callback").end();
    end.said(&["freed", "disarmed"]).died_by(Signal::TERM);
}

// ------------------------------------------------------------------------------------------ once

fn signalled_again_and_again() {
    let guard = HandleExit::cleanup(|| {
        say("callback begins");
        for _ in 0..10 {
            raise(Signal::TERM);
            raise(Signal::INT);
        }
        say("callback ends");
    })
    .unwrap();
    guard
        .defer(|| {
            raise(Signal::TERM);
            say("deferred");
        })
        .unwrap();
    say("ready");
    loop {
        std::thread::park();
    }
}

fn a_function_is_not_entered_again_by_signals_that_come_while_it_runs() {
    let victim = Victim::ready("signalled_again_and_again");
    victim.send(Signal::TERM);
    victim
        .end()
        .said(&["ready", "callback begins", "callback ends", "deferred"])
        .died_by(Signal::TERM);
}

// ------------------------------------------------------------------------------------- honestly

fn fails() {
    let guard = HandleExit::builder()
        .ending(Ending::Code(0))
        .after_scope(AfterScope::End)
        .grace(Duration::MAX)
        .install(|| panic!("the clean-up failed"))
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    say("ready");
    match told::<String>().as_str() {
        "clean end" => drop(guard),
        "exit" => std::process::exit(0),
        "return from main" => guard.keep(),
        "TERM" => loop {
            std::thread::park();
        },
        "TERM, in time" => {
            guard.wait();
            drop(guard);
        }
        other => panic!("{other}"),
    }
}

fn a_failing_function_is_not_reported_as_a_clean_stop() {
    for way in ["clean end", "exit", "return from main", "TERM", "TERM, in time"] {
        let mut victim = Victim::spawn(way, victim_told("fails", way));
        victim.expect("ready");
        if way.starts_with("TERM") {
            victim.send(Signal::TERM);
        }
        let end = victim.end();
        end.said(&["ready", "deferred"]).exited(101);
        assert!(end.stderr.contains("the clean-up failed"), "{way}: {end:#?}");
    }
}

// -------------------------------------------------------------------------------- as a decorator

fn decorated() {
    fn answer(_: &Exit) -> i32 {
        say("body");
        42
    }
    // Without arguments, and with.
    assert_eq!(HandleExit::run(|| say("callback"), answer).unwrap(), 42);
    let with_arguments = HandleExit::builder().signals([Signal::HUP]);
    assert_eq!(with_arguments.run(|| say("callback"), answer).unwrap(), 42);
}

fn a_decorated_function_registers_with_and_without_arguments() {
    let end = Victim::start("decorated").end();
    end.said(&["body", "callback", "body", "callback"]).exited(0);
}

fn main() {
    support::main(
        all![
            registered,
            unregistered_in_order,
            unregistered_out_of_order,
            unregistered_callback,
            signalled_again_and_again,
            fails,
            decorated,
        ],
        all![
            functions_run_last_in_first_out_on_a_clean_end_and_on_term,
            an_unregistered_function_is_not_run_and_what_it_captured_is_freed,
            an_unregistered_callback_is_not_run_and_what_it_captured_is_freed,
            a_function_is_not_entered_again_by_signals_that_come_while_it_runs,
            a_failing_function_is_not_reported_as_a_clean_stop,
            a_decorated_function_registers_with_and_without_arguments,
        ],
    );
}
