//! What a second signal means: `Repeat::Absorb`, and whether two signals are one event or two key presses.
//!
//! Time is the thing under test: a test sleeps where a repeat is to be late, and tries again where it was to
//! be quick and the machine was not.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{Event, HandleExit, Repeat, Signal};

/// A second wish, and not a second delivery of the first: the rule says 500 ms.
const SECOND_WISH: Duration = Duration::from_millis(700);
/// Below this a repeat was quick, with room for what happens between two looks at the clock.
const QUICK: Duration = Duration::from_millis(450);

fn tells_of_repeats(repeat: Repeat) -> HandleExit {
    let observe = |event: &Event| match event {
        Event::RepeatAbsorbed(signal) => say(format!("{signal} absorbed")),
        Event::RepeatForces(signal) => say(format!("{signal} forces")),
        _ => {}
    };
    let builder = HandleExit::builder().grace(Duration::MAX).repeat(repeat).observe(observe);
    builder.install(held_callback).unwrap()
}

/// Nothing limits the scope, which ends when the test says so, once the callback is done.
fn under(repeat: Repeat) {
    let guard = tells_of_repeats(repeat);
    guard.defer(|| say("deferred")).unwrap();
    say("ready");
    until_let_go();
    hear();
    drop(guard);
    say("behind");
}

fn finishes() {
    under(Repeat::Finish);
}

fn absorbs() {
    under(Repeat::Absorb);
}

fn absorbs_in_a_short_grace() {
    let builder = HandleExit::builder().grace(Duration::from_millis(20)).repeat(Repeat::Absorb);
    let _guard = builder.install(|| say("callback")).unwrap();
    ready_for_ever();
}

fn let_callback_end(victim: &mut Victim) {
    victim.tell("go on");
    victim.expect("callback ends");
    victim.at_rest();
}

/// The scope ends because the test says so.
fn ends_when_told(mut victim: Victim) {
    victim.at_rest();
    victim.tell("go on");
    victim.end().ended_with("behind").exited(0);
}

// ---------------------------------------------------------------------------------------------- Absorb

fn absorb_lets_no_repeat_end_the_wait() {
    let mut victim = Victim::ready(absorbs);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    let_callback_end(&mut victim);
    for _ in 0..3 {
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
        victim.expect("SIGTERM absorbed");
    }
    // Another signal and a repeat of that neither.
    victim.send(Signal::INT);
    victim.at_rest();
    sleep(SECOND_WISH);
    victim.send(Signal::INT);
    victim.expect("SIGINT absorbed");
    ends_when_told(victim);
}

fn absorb_lets_no_repeat_cut_the_callback() {
    let mut victim = Victim::ready(absorbs);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    for _ in 0..2 {
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
    }
    let_callback_end(&mut victim);
    ends_when_told(victim);
}

/// The wait has an end of its own, which no repeat brings forward.
fn the_grace_ends_the_wait_under_absorb_too() {
    let victim = Victim::ready(absorbs_in_a_short_grace);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback"]).died_by(Signal::TERM);
}

fn absorb_holds_for_key_presses() {
    let mut terminal = Terminal::open();
    let mut victim = Victim::ready(terminal.control(absorbs));
    terminal.press_ctrl_c();
    victim.expect("callback begins");
    let_callback_end(&mut victim);
    for wait in [Duration::ZERO, SECOND_WISH] {
        sleep(wait);
        terminal.press_ctrl_c();
        victim.expect("SIGINT absorbed");
    }
    ends_when_told(victim);
}

// -------------------------------------------------------------------------------- one event, or two presses

#[derive(Clone, Copy)]
enum By {
    Key,
    Kill,
}

/// Delivers the second signal quickly after the first, with the callback held (`early`) or done; returns what
/// comes of it, and `None` where this machine was not quick enough.
fn quickly(first: By, second: By, early: bool) -> Option<String> {
    let mut terminal = Terminal::open();
    let mut victim = Victim::ready(terminal.control(finishes));
    let mut deliver = |victim: &Victim, by| match by {
        By::Key => terminal.press_ctrl_c(),
        By::Kill => victim.send(Signal::INT),
    };
    let begun = Instant::now();
    deliver(&victim, first);
    victim.expect("callback begins");
    if early {
        deliver(&victim, second);
        // Its handler has run: nothing is pending, and everybody sleeps.
        victim.at_rest();
        let took = begun.elapsed();
        victim.tell("go on");
        victim.expect("callback ends");
        let verdict = victim.expect_prefix("SIGINT ");
        return (took < QUICK).then_some(verdict);
    }
    victim.tell("go on");
    victim.expect("callback ends");
    deliver(&victim, second);
    let verdict = victim.expect_prefix("SIGINT ");
    (begun.elapsed() < QUICK).then_some(verdict)
}

fn verdict(first: By, second: By, early: bool) -> String {
    let begun = Instant::now();
    loop {
        if let Some(verdict) = quickly(first, second, early) {
            return verdict;
        }
        assert!(begun.elapsed() < DEADLINE, "this machine is too slow for a repeat within 500 ms");
    }
}

fn two_keys_pressed_quickly_are_two_wishes() {
    for early in [false, true] {
        assert_eq!(verdict(By::Key, By::Key, early), "forces", "early: {early}");
    }
}

fn a_key_and_a_kill_within_half_a_second_are_one_event() {
    for early in [false, true] {
        for (first, second) in [(By::Key, By::Kill), (By::Kill, By::Key), (By::Kill, By::Kill)] {
            assert_eq!(verdict(first, second, early), "absorbed", "early: {early}");
        }
    }
}

fn two_keys_end_the_process_with_what_was_deferred() {
    let mut terminal = Terminal::open();
    let mut victim = Victim::ready(terminal.control(finishes));
    terminal.press_ctrl_c();
    victim.expect("callback begins");
    let_callback_end(&mut victim);
    terminal.press_ctrl_c();
    let lines = ["ready", "callback begins", "callback ends", "SIGINT forces", "deferred"];
    victim.end().said(&lines).died_by(Signal::INT);
}

/// As npm does: the key reaches the program, and its parent passes it on; then the user presses again.
fn a_key_that_a_parent_passes_on_is_one_event_and_the_next_key_another() {
    let begun = Instant::now();
    loop {
        let mut terminal = Terminal::open();
        let mut victim = Victim::ready(terminal.control(finishes));
        let first = Instant::now();
        terminal.press_ctrl_c();
        victim.expect("callback begins");
        victim.send(Signal::INT);
        victim.tell("go on");
        victim.expect("callback ends");
        let passed_on = victim.expect_prefix("SIGINT ");
        let quick = first.elapsed() < QUICK;
        if quick {
            assert_eq!(passed_on, "absorbed");
            terminal.press_ctrl_c();
            victim.expect("SIGINT forces");
            victim.end().ended_with("deferred").died_by(Signal::INT);
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "this machine is too slow for a repeat within 500 ms");
    }
}

pub(crate) const TESTS: &[Named] = tests![
    absorb_lets_no_repeat_end_the_wait,
    absorb_lets_no_repeat_cut_the_callback,
    the_grace_ends_the_wait_under_absorb_too,
    absorb_holds_for_key_presses,
    two_keys_pressed_quickly_are_two_wishes,
    a_key_and_a_kill_within_half_a_second_are_one_event,
    two_keys_end_the_process_with_what_was_deferred,
    a_key_that_a_parent_passes_on_is_one_event_and_the_next_key_another,
];
