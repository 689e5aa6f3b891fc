//! The table *exit route × what happens*: the callback runs once, whole, and the status is true.

mod support;

use handle_exit::{Error, HandleExit, Signal};
use support::*;

fn callback() {
    say("callback begins");
    say("callback ends");
}

const CALLBACK: [&str; 2] = ["callback begins", "callback ends"];

// ------------------------------------------------------------------------------------ scenarios

fn scope_end() {
    {
        let _guard = HandleExit::new(callback).unwrap();
        say("body");
    }
    say("behind");
}

fn question_mark() {
    fn fails() -> Result<(), Box<dyn std::error::Error>> {
        let _guard = HandleExit::new(callback)?;
        "no number".parse::<u32>()?;
        unreachable!()
    }
    say(format!("error: {}", fails().unwrap_err()));
}

fn panics() {
    let _guard = HandleExit::new(callback).unwrap();
    panic!("on purpose");
}

fn process_exit() {
    let _guard = HandleExit::new(callback).unwrap();
    std::process::exit(3);
}

fn parked_new() {
    let _guard = HandleExit::new(callback).unwrap();
    ready_for_ever();
}

fn parked_cleanup() {
    let _guard = HandleExit::cleanup(callback).unwrap();
    ready_for_ever();
}

fn told_to_stop() {
    let (stop, stopped) = std::sync::mpsc::channel();
    {
        let _guard = HandleExit::new(move || {
            callback();
            stop.send(()).unwrap();
        })
        .unwrap();
        say("ready");
        stopped.recv().unwrap();
    }
    say("behind");
}

fn nested() {
    let _guard = HandleExit::new(callback).unwrap();
    assert!(matches!(HandleExit::new(|| {}), Err(Error::Nested)));
    assert!(matches!(HandleExit::append(|| {}), Err(Error::Nested)));
}

// ---------------------------------------------------------------------------------------- tests

fn scope_end_runs_the_callback() {
    Victim::start("scope_end").end().said(&["body", CALLBACK[0], CALLBACK[1], "behind"]).exited(0);
}

fn question_mark_runs_the_callback() {
    let end = Victim::start("question_mark").end();
    end.said(&[CALLBACK[0], CALLBACK[1], "error: invalid digit found in string"]).exited(0);
}

fn a_panic_runs_the_callback() {
    Victim::start("panics").end().said(&CALLBACK).exited(101);
}

fn process_exit_runs_the_callback() {
    Victim::start("process_exit").end().said(&CALLBACK).exited(3);
}

fn cleanup_dies_by_the_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let victim = Victim::ready("parked_cleanup");
        victim.send(signal);
        victim.end().said(&["ready", CALLBACK[0], CALLBACK[1]]).died_by(signal);
    }
}

fn new_dies_by_the_signal_after_the_grace() {
    let victim = Victim::ready("parked_new");
    victim.send(Signal::TERM);
    victim.end().said(&["ready", CALLBACK[0], CALLBACK[1]]).died_by(Signal::TERM);
}

fn a_scope_that_ends_in_time_goes_on() {
    for signal in [Signal::TERM, Signal::INT] {
        let victim = Victim::ready("told_to_stop");
        victim.send(signal);
        victim.end().said(&["ready", CALLBACK[0], CALLBACK[1], "behind"]).exited(0);
    }
}

fn nesting_is_refused() {
    Victim::start("nested").end().said(&CALLBACK).exited(0);
}

fn main() {
    support::main(
        all![
            scope_end,
            question_mark,
            panics,
            process_exit,
            parked_new,
            parked_cleanup,
            told_to_stop,
            nested
        ],
        all![
            scope_end_runs_the_callback,
            question_mark_runs_the_callback,
            a_panic_runs_the_callback,
            process_exit_runs_the_callback,
            cleanup_dies_by_the_signal,
            new_dies_by_the_signal_after_the_grace,
            a_scope_that_ends_in_time_goes_on,
            nesting_is_refused,
        ],
    );
}
