//! Two signals within half a second: from a terminal they are two key presses, and with a process among
//! the senders they are one event.

use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{HandleExit, Signal};

// ---------------------------------------------------------------------------------- scenarios

/// The scope ends when the test says so, and has all the time it likes.
fn ends_when_told() {
    let guard = HandleExit::builder().grace(Duration::MAX);
    let guard = guard.install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    say("ready");
    hear();
    drop(guard);
    say("behind");
}

// ---------------------------------------------------------------------------------------- tests

fn at_a_terminal(terminal: &Terminal) -> Victim {
    Victim::ready(terminal.control(ends_when_told))
}

/// Within half a second on any machine that is not very busy; on such a one it is no less an end.
fn two_key_presses_end_the_wait() {
    let mut terminal = Terminal::open();
    let mut victim = at_a_terminal(&terminal);
    terminal.press_ctrl_c();
    victim.expect("callback");
    terminal.press_ctrl_c();
    victim.end().said(&["ready", "callback", "deferred"]).died_by(Signal::INT);
}

/// What a repeat is depends on the time between: once more if this machine was too slow to say.
fn a_key_press_and_a_process_are_one_event() {
    for key_first in [true, false] {
        let is_judged = (0..20).any(|_| {
            let mut terminal = Terminal::open();
            let mut victim = at_a_terminal(&terminal);
            let begun = Instant::now();
            if key_first {
                terminal.press_ctrl_c();
                victim.expect("callback");
                victim.send(Signal::INT);
            } else {
                victim.send(Signal::INT);
                victim.expect("callback");
                terminal.press_ctrl_c();
            }
            let rests = victim.rests();
            if begun.elapsed() > Duration::from_millis(400) {
                return false;
            }
            assert!(rests, "a repeat within {:?} has ended the process", begun.elapsed());
            victim.tell("end");
            victim.end().said(&["ready", "callback", "deferred", "behind"]).exited(0);
            true
        });
        assert!(is_judged, "this machine is too slow for half a second");
    }
}

fn two_processes_are_one_event() {
    let is_judged = (0..20).any(|_| {
        let mut victim = Victim::ready(ends_when_told);
        let begun = Instant::now();
        victim.send(Signal::INT);
        victim.expect("callback");
        victim.send(Signal::INT);
        let rests = victim.rests();
        if begun.elapsed() > Duration::from_millis(400) {
            return false;
        }
        assert!(rests, "a repeat within {:?} has ended the process", begun.elapsed());
        victim.tell("end");
        victim.end().said(&["ready", "callback", "deferred", "behind"]).exited(0);
        true
    });
    assert!(is_judged, "this machine is too slow for half a second");
}

pub(crate) const TESTS: &[Named] = tests![
    two_key_presses_end_the_wait,
    a_key_press_and_a_process_are_one_event,
    two_processes_are_one_event,
];
