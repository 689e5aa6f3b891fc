//! What a second signal means: whether two signals are one event or two wishes, what a key press says after a signal
//! of another kind, and what each `Repeat` lets it cut.
//!
//! Time is the thing under test: a test sleeps where a repeat is to be late, and tries again where it was to
//! be quick and the machine was not.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{AfterScope, Builder, Ending, Event, HandleExit, Repeat, Signal};

/// Below this a repeat was quick, with room for what happens between two looks at the clock.
const QUICK: Duration = Duration::from_millis(450);

/// Settings that limit nothing, with an observer that tells of repeats.
fn tells_of_repeats(repeat: Repeat) -> Builder {
    let observe = |event: &Event| match event {
        Event::RepeatAbsorbed(signal) => say(format!("{signal} absorbed")),
        Event::RepeatForces(signal) => say(format!("{signal} forces")),
        _ => {}
    };
    let builder = HandleExit::builder().also([Signal::QUIT]).grace(Duration::MAX);
    builder.repeat(repeat).observe(observe)
}

/// Nothing limits the scope, which ends when the test says so, once the callback is done.
fn under(repeat: Repeat) {
    let guard = tells_of_repeats(repeat).install(held_callback).unwrap();
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

#[derive(Debug, Clone, Copy)]
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

fn a_kill_within_half_a_second_is_the_same_event() {
    for early in [false, true] {
        for first in [By::Key, By::Kill] {
            let verdict = verdict(first, By::Kill, early);
            assert_eq!(verdict, "absorbed", "first: {first:?}, early: {early}");
        }
    }
}

/// Someone who presses a key after a `kill` means it.
fn a_key_after_a_kill_is_a_wish_of_its_own_however_quick() {
    for early in [false, true] {
        assert_eq!(verdict(By::Kill, By::Key, early), "forces", "early: {early}");
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

// ----------------------------------------------------------------------- a key after a signal of another kind

const HELD: [&str; 3] = ["ready", "callback begins", "callback ends"];

/// TERM by `kill`, with the callback done.
fn killed(scenario: impl Play) -> Victim {
    let mut victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    let_callback_end(&mut victim);
    victim
}

/// Presses a key under this terminal.
type Press = fn(&mut Terminal);

/// What the keyboard sends that asks for an end, and by which key.
const KEYS: [(Signal, Press); 2] =
    [(Signal::INT, Terminal::press_ctrl_c), (Signal::QUIT, Terminal::press_ctrl_backslash)];

fn forced(signal: Signal) -> String {
    format!("{signal} forces")
}

fn a_key_after_a_kill_ends_the_wait_at_once() {
    for (signal, press) in KEYS {
        let mut terminal = Terminal::open();
        let victim = killed(terminal.control(finishes));
        press(&mut terminal);
        // The exit is that of TERM, and what was deferred runs.
        let end = victim.end();
        end.said(&[&HELD[..], &[&forced(signal), "deferred"]].concat()).died_by(Signal::TERM);
    }
}

/// The keys begin no exit of their own here.
fn hears_keys() {
    let builder = tells_of_repeats(Repeat::Finish).signals([Signal::TERM]);
    let builder = builder.on(Signal::INT, |_| say("on")).on(Signal::QUIT, |_| say("on"));
    let guard = builder.install(held_callback).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn a_key_that_begins_no_exit_ends_the_wait_too() {
    for (signal, press) in KEYS {
        let mut terminal = Terminal::open();
        let mut victim = killed(terminal.control(hears_keys));
        press(&mut terminal);
        victim.expect(&forced(signal));
        victim.end().ended_with("deferred").died_by(Signal::TERM);
    }
}

fn another_key_after_a_key_ends_the_wait_at_once() {
    for [(began, first), (signal, second)] in [KEYS, [KEYS[1], KEYS[0]]] {
        let mut terminal = Terminal::open();
        let mut victim = Victim::ready(terminal.control(finishes));
        first(&mut terminal);
        victim.expect("callback begins");
        let_callback_end(&mut victim);
        second(&mut terminal);
        let end = victim.end();
        end.said(&[&HELD[..], &[&forced(signal), "deferred"]].concat()).died_by(began);
    }
}

/// It cuts nothing: it counts when the callback is done.
fn a_key_while_the_callback_runs_counts_when_that_is_done() {
    for (signal, press) in KEYS {
        let mut terminal = Terminal::open();
        let mut victim = Victim::ready(terminal.control(finishes));
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        press(&mut terminal);
        terminal.has_sent();
        victim.at_rest();
        victim.tell("go on");
        let end = victim.end();
        let forces = forced(signal);
        assert_eq!(end.lines[..2], HELD[..2], "{end:#?}");
        // Whether the observer hears of it before or after the callback is open.
        for line in ["callback ends", &forces, "deferred"] {
            assert_eq!(end.count(line), 1, "{line}: {end:#?}");
        }
        end.ended_with("deferred").died_by(Signal::TERM);
    }
}

/// Nor does a deferred function that runs already.
fn defers_a_held_one() {
    let guard = tells_of_repeats(Repeat::Finish).cleanup().install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred first")).unwrap();
    guard.defer(held_callback).unwrap();
    ready_for_ever();
}

fn no_key_cuts_a_deferred_function_by_default() {
    let mut terminal = Terminal::open();
    let mut victim = Victim::ready(terminal.control(defers_a_held_one));
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    for (_, press) in [KEYS, KEYS].concat() {
        press(&mut terminal);
        terminal.has_sent();
        victim.at_rest();
    }
    victim.tell("go on");
    let end = victim.end();
    let lines = ["ready", "callback", "callback begins", "callback ends", "deferred first"];
    let said = lines.map(|line| end.count(line));
    assert_eq!(said, [1; 5], "{end:#?}");
    end.ended_with("deferred first").died_by(Signal::TERM);
}

/// It says nothing of who sent it: a program that stops another one may send several signals.
fn another_signal_of_a_process_does_not_end_the_wait() {
    for signal in [Signal::INT, Signal::QUIT] {
        for wait in [Duration::ZERO, SECOND_WISH] {
            let victim = killed(finishes);
            sleep(wait);
            victim.send(signal);
            ends_when_told(victim);
        }
    }
}

/// As a process manager does it that sends TERM and INT, again and again.
fn a_quick_mixture_of_processes_is_one_event() {
    let begun = Instant::now();
    loop {
        let first = Instant::now();
        let mut victim = killed(finishes);
        for signal in [Signal::INT, Signal::TERM, Signal::INT, Signal::TERM] {
            victim.send(signal);
        }
        // The trial counts if it was quick; one that was not may have ended the process.
        if victim.rests() && first.elapsed() < QUICK {
            victim.tell("go on");
            let end = victim.end();
            assert_eq!(end.count("SIGTERM forces") + end.count("SIGINT forces"), 0, "{end:#?}");
            // Nobody is left in the dark: it is told at least once.
            assert!(end.count("SIGTERM absorbed") > 0, "{end:#?}");
            end.ended_with("behind").exited(0);
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "this machine is too slow for a repeat within 500 ms");
    }
}

fn absorb_holds_for_a_key_after_a_kill() {
    let mut terminal = Terminal::open();
    let mut victim = killed(terminal.control(absorbs));
    for (_, press) in KEYS {
        press(&mut terminal);
        terminal.has_sent();
        victim.at_rest();
        sleep(SECOND_WISH);
        press(&mut terminal);
        terminal.has_sent();
        victim.at_rest();
    }
    ends_when_told(victim);
}

// ----------------------------------------------------------------------------------------------- Force

fn forces() {
    under(Repeat::Force);
}

/// Where the callback is cut, nothing else runs.
fn force_lets_a_key_after_a_kill_cut_the_callback() {
    for (_, press) in KEYS {
        let mut terminal = Terminal::open();
        let mut victim = Victim::ready(terminal.control(forces));
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        press(&mut terminal);
        let end = victim.end();
        assert_eq!((end.count("callback ends"), end.count("deferred")), (0, 0), "{end:#?}");
        end.died_by(Signal::TERM);
    }
}

/// A deferred function that hangs, in each place where one runs.
fn deferred_is_held() {
    let told: String = told();
    let (place, ending) = told.split_once(' ').unwrap();
    let ending = if ending == "code" { Ending::Code(9) } else { Ending::Signal };
    let builder = tells_of_repeats(Repeat::Force).ending(ending);
    let builder = match place {
        "watcher" => builder.cleanup(),
        "scope" => builder.after_scope(AfterScope::Continue),
        _ => builder,
    };
    let guard = builder.install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred first")).unwrap();
    guard.defer(held_callback).unwrap();
    say("ready");
    match place {
        "watcher" => park(),
        "scope" => {
            guard.wait();
            drop(guard);
            say("behind");
        }
        "exit" => {
            guard.wait();
            std::process::exit(3);
        }
        other => panic!("{other}"),
    }
}

fn force_cuts_a_deferred_function_wherever_it_runs() {
    for place in ["watcher", "scope", "exit"] {
        for (ending, how) in [("signal", Ends::By(Signal::TERM)), ("code", Ends::With(9))] {
            let told = format!("{place} {ending}");
            let mut victim = Victim::ready(deferred_is_held.told(&told));
            victim.send(Signal::TERM);
            victim.expect("callback begins");
            // From a moment at which the first has been handled, so it is never less than the rule says.
            sleep(SECOND_WISH);
            victim.send(Signal::TERM);
            let end = victim.end();
            let cut = ["callback ends", "deferred first", "behind"].map(|line| end.count(line));
            assert_eq!(cut, [0; 3], "{end:#?}");
            end.ended(how);
        }
    }
}

fn force_lets_a_key_cut_a_deferred_function() {
    for (_, press) in KEYS {
        for place in ["watcher signal", "scope signal", "exit signal"] {
            let mut terminal = Terminal::open();
            let mut victim = Victim::ready(terminal.control(deferred_is_held.told(place)));
            victim.send(Signal::TERM);
            victim.expect("callback begins");
            press(&mut terminal);
            let end = victim.end();
            assert_eq!(end.count("callback ends"), 0, "{place}: {end:#?}");
            end.died_by(Signal::TERM);
        }
    }
}

fn scope_ends_with_a_held_deferred_function() {
    let builder = tells_of_repeats(Repeat::Finish).after_scope(AfterScope::Continue);
    let guard = builder.install(|| say("callback")).unwrap();
    guard.defer(held_callback).unwrap();
    say("ready");
    guard.wait();
    drop(guard);
    say("behind");
}

/// It is for the restored disposition, so nobody is told that it is ignored.
fn a_repeat_that_kills_after_the_scope_is_not_told_as_absorbed() {
    let mut victim = Victim::ready(scope_ends_with_a_held_deferred_function);
    wish_twice(&mut victim);
    let lines = ["ready", "callback", "callback begins", "callback ends"];
    victim.end().said(&lines).died_by(Signal::TERM);
}

/// The deferred functions of all guards are the exit's.
fn deferred_of_a_guest_is_held() {
    let guest = HandleExit::append(|| say("guest")).unwrap();
    guest.defer(held_callback).unwrap();
    let _host = tells_of_repeats(Repeat::Force).cleanup().install(|| say("callback")).unwrap();
    ready_for_ever();
}

fn force_cuts_a_deferred_function_of_a_guest() {
    let mut victim = Victim::ready(deferred_of_a_guest_is_held);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    let end = victim.end();
    assert_eq!(end.count("callback ends"), 0, "{end:#?}");
    end.died_by(Signal::TERM);
}

/// One `^C` that is delivered twice is no second wish.
fn force_cuts_nothing_where_a_process_passes_the_key_on() {
    let begun = Instant::now();
    loop {
        let mut terminal = Terminal::open();
        let mut victim = Victim::ready(terminal.control(deferred_is_held.told("watcher signal")));
        let first = Instant::now();
        terminal.press_ctrl_c();
        victim.expect("callback begins");
        victim.send(Signal::INT);
        // The trial counts if it was quick; one that was not may have cut the function.
        if victim.rests() && first.elapsed() < QUICK {
            victim.tell("go on");
            let end = victim.end();
            end.ended_with("deferred first").died_by(Signal::INT);
            assert_eq!(end.count("callback ends"), 1, "{end:#?}");
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
    a_kill_within_half_a_second_is_the_same_event,
    a_key_after_a_kill_is_a_wish_of_its_own_however_quick,
    two_keys_end_the_process_with_what_was_deferred,
    a_key_that_a_parent_passes_on_is_one_event_and_the_next_key_another,
    a_key_after_a_kill_ends_the_wait_at_once,
    a_key_that_begins_no_exit_ends_the_wait_too,
    another_key_after_a_key_ends_the_wait_at_once,
    a_key_while_the_callback_runs_counts_when_that_is_done,
    no_key_cuts_a_deferred_function_by_default,
    another_signal_of_a_process_does_not_end_the_wait,
    a_quick_mixture_of_processes_is_one_event,
    absorb_holds_for_a_key_after_a_kill,
    force_lets_a_key_after_a_kill_cut_the_callback,
    force_cuts_a_deferred_function_wherever_it_runs,
    force_lets_a_key_cut_a_deferred_function,
    a_repeat_that_kills_after_the_scope_is_not_told_as_absorbed,
    force_cuts_a_deferred_function_of_a_guest,
    force_cuts_nothing_where_a_process_passes_the_key_on,
];
