//! Four workers that defer, work and cancel in a loop: the end comes all the same.

use std::time::Duration;

use crate::support::*;
use handle_exit::{Exit, HandleExit, Signal};

/// One unit of work. A piece of work that takes a time is what is tested.
fn work() {
    std::thread::sleep(Duration::from_millis(1));
}

/// Takes longer than the workers need to defer another one.
fn undo() {
    std::thread::sleep(Duration::from_millis(3));
}

/// Has four threads defer, work and cancel, until they are told that it is over.
fn start_workers(exit: &Exit) {
    for _ in 0..4 {
        let exit = exit.clone();
        std::thread::spawn(move || {
            while let Ok(deferred) = exit.defer(undo) {
                work();
                deferred.cancel();
            }
            park()
        });
    }
}

// ---------------------------------------------------------------------------------- scenarios

fn ended_by_a_signal() {
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    start_workers(&guard);
    ready_for_ever();
}

fn ended_by_return_from_main() {
    let guard = HandleExit::new(|| say("callback")).unwrap();
    start_workers(&guard);
    guard.keep();
}

fn ended_by_drop() {
    let guard = HandleExit::new(|| say("callback")).unwrap();
    start_workers(&guard);
    drop(guard);
    say("behind");
}

// ---------------------------------------------------------------------------------------- tests

fn workers_do_not_keep_off_the_end_by_a_signal() {
    let victim = Victim::ready(ended_by_a_signal);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback"]).died_by(Signal::TERM);
}

fn workers_do_not_keep_off_the_end_by_return_from_main() {
    Victim::start(ended_by_return_from_main).end().said(&["callback"]).exited(0);
}

fn workers_do_not_keep_off_the_end_by_drop() {
    Victim::start(ended_by_drop).end().said(&["callback", "behind"]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    workers_do_not_keep_off_the_end_by_a_signal,
    workers_do_not_keep_off_the_end_by_return_from_main,
    workers_do_not_keep_off_the_end_by_drop,
];
