//! A repeat belongs to one exit: it is counted from the signal that began that exit, whatever came for other guards
//! before, and whatever other guards do meanwhile.
//!
//! Time is the thing under test: a test sleeps where a repeat is to be late, and tries again where it was to be quick
//! and the machine was not.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{AfterScope, Builder, Event, HandleExit, Repeat, Signal};

/// Below this a repeat was quick, with room for what happens between two looks at the clock.
const QUICK: Duration = Duration::from_millis(450);

/// A guest that does not end the process by itself.
fn guest() -> Builder {
    HandleExit::builder().append(true).after_scope(AfterScope::Continue).grace(Duration::MAX)
}

fn host() -> Builder {
    HandleExit::builder().grace(Duration::MAX)
}

/// Runs a trial until the machine was quick enough for it.
fn until_quick(trial: impl Fn() -> bool) {
    let begun = Instant::now();
    while !trial() {
        assert!(begun.elapsed() < DEADLINE, "this machine is too slow for a repeat within 500 ms");
    }
}

// ------------------------------------------------------------- Force, and another guard's callback

static HANGS: AtomicBool = AtomicBool::new(false);

/// The callback of the host hangs, and that of another guard with the same signal runs to its end elsewhere.
fn another_callback_ends_elsewhere() {
    let guard = host().repeat(Repeat::Force).install(|| {
        HANGS.store(true, SeqCst);
        park();
    });
    let guard = guard.unwrap();
    match told::<String>().as_str() {
        "request" => guard.request(),
        _ => raise(Signal::TERM),
    }
    until("the callback hangs", || HANGS.load(SeqCst));
    let other = guest().install(|| say("other's callback")).unwrap();
    drop(other);
    say("ready");
    park();
}

fn another_callback_that_ends_elsewhere_does_not_take_force_away() {
    // A request is followed by a first signal, and that by its repeat.
    for (way, signals) in [("request", 2), ("signal", 1)] {
        let mut victim = Victim::start(another_callback_ends_elsewhere.told(way));
        victim.expect("ready");
        for _ in 0..signals {
            // The one before has been handled.
            victim.at_rest();
            sleep(SECOND_WISH);
            victim.send(Signal::TERM);
        }
        victim.end().said(&["other's callback", "ready"]).died_by(Signal::TERM);
    }
}

// -------------------------------------------------------------- a signal that was no exit a while ago

/// HUP has been the host's, for which it is no exit, when a guest guards it.
fn guarded_after_it_was_no_exit() {
    let repeat = match told::<String>().as_str() {
        "force" => Repeat::Force,
        _ => Repeat::Finish,
    };
    let _host = host().on(Signal::HUP, |_| say("reload")).install(|| {}).unwrap();
    say("ready");
    hear();
    let guard = guest().signals([Signal::HUP]).repeat(repeat).install(held_callback).unwrap();
    say("guarded");
    until_let_go();
    hear();
    drop(guard);
    say("behind");
}

/// Delivered twice within 60 ms, HUP is one event: the first of that guard's exit.
fn a_quick_repeat_of_a_signal_that_was_no_exit_before(repeat: &str, early: bool) {
    until_quick(|| {
        let mut victim = Victim::ready(guarded_after_it_was_no_exit.told(repeat));
        victim.send(Signal::HUP);
        victim.expect("reload");
        sleep(SECOND_WISH);
        victim.tell("guard it");
        victim.expect("guarded");
        let first = Instant::now();
        victim.send(Signal::HUP);
        victim.expect("callback begins");
        if !early {
            victim.tell("go on");
            victim.expect("callback ends");
        }
        victim.send(Signal::HUP);
        let lives = victim.rests();
        if first.elapsed() >= QUICK {
            return false;
        }
        assert!(lives, "{repeat}, early {early}: ended by a duplicate: {:#?}", victim.end());
        if early {
            victim.tell("go on");
            victim.expect("callback ends");
        }
        victim.tell("end");
        let end = victim.end();
        assert_eq!((end.count("callback ends"), end.count("behind")), (1, 1), "{end:#?}");
        end.exited(0);
        true
    });
}

fn a_duplicate_is_no_repeat_of_what_was_no_exit_before() {
    a_quick_repeat_of_a_signal_that_was_no_exit_before("finish", true);
    a_quick_repeat_of_a_signal_that_was_no_exit_before("finish", false);
}

fn a_duplicate_cuts_no_callback_because_of_what_was_no_exit_before() {
    a_quick_repeat_of_a_signal_that_was_no_exit_before("force", true);
}

// ---------------------------------------------------------------- the oldest guard has answered

/// The scope of the oldest guard ends, and the program goes on; the younger guard, which is made when the scenario is
/// told, lives.
fn oldest_has_answered() {
    let when: String = told();
    let oldest = host().install(|| {}).unwrap();
    let make = || guest().install(|| {}).unwrap();
    let mut younger = (when == "before").then(make);
    say("ready");
    oldest.wait();
    if when == "meanwhile" {
        younger = Some(make());
    }
    if when == "during the drop" {
        oldest.defer(held_callback).unwrap();
        let drops = std::thread::spawn(move || drop(oldest));
        until_held();
        younger = Some(make());
        say("made");
        drops.join().unwrap();
    } else {
        drop(oldest);
    }
    say("answered");
    park_with(younger);
}

fn park_with(_guard: Option<HandleExit>) -> ! {
    park()
}

/// A later signal either ends the wait of the younger guard, whose exit the first one began; or it is the first that
/// this guard decides about, and then its duplicate is absorbed. A late repeat forces in both cases.
fn a_duplicate_after_an_answered_signal_forces_nothing_and_a_late_repeat_does() {
    for when in ["before", "meanwhile", "during the drop"] {
        until_quick(|| {
            let mut victim = Victim::ready(oldest_has_answered.told(when));
            victim.send(Signal::TERM);
            if when == "during the drop" {
                victim.expect("made");
                victim.tell("go on");
            }
            victim.expect("answered");
            sleep(SECOND_WISH);
            let first = Instant::now();
            victim.send(Signal::TERM);
            if victim.rests() {
                victim.send(Signal::TERM);
                let lives = victim.rests();
                if first.elapsed() >= QUICK {
                    return false;
                }
                assert!(lives, "{when}: ended by a duplicate: {:#?}", victim.end());
                sleep(Duration::from_secs(2));
                victim.send(Signal::TERM);
            }
            victim.end().ended_with("answered").died_by(Signal::TERM);
            true
        });
    }
}

/// The younger guard hears TERM while what the oldest deferred is running: in the Drop that answers an earlier one.
fn signalled_while_the_oldest_answers() {
    let oldest = host().install(|| {}).unwrap();
    let _younger = guest().install(|| {}).unwrap();
    oldest.defer(held_callback).unwrap();
    say("ready");
    oldest.wait();
    drop(oldest);
    say("answered");
    park();
}

/// It is the first one that the younger guard decides about. Its duplicate comes before the oldest has ended, and the
/// real repeat after that.
fn a_duplicate_of_a_signal_that_came_while_the_oldest_answered_forces_nothing() {
    until_quick(|| {
        let mut victim = Victim::ready(signalled_while_the_oldest_answers);
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        sleep(SECOND_WISH);
        let first = Instant::now();
        for _ in 0..2 {
            victim.send(Signal::TERM);
            victim.at_rest();
        }
        if first.elapsed() >= QUICK {
            return false;
        }
        victim.tell("go on");
        victim.expect("answered");
        victim.at_rest();
        sleep(Duration::from_secs(2));
        victim.send(Signal::TERM);
        victim.end().ended_with("answered").died_by(Signal::TERM);
        true
    });
}

fn a_late_repeat_of_a_signal_that_came_while_the_oldest_answered_forces() {
    let mut victim = Victim::ready(signalled_while_the_oldest_answers);
    wish_twice(&mut victim);
    victim.expect("answered");
    victim.at_rest();
    sleep(Duration::from_secs(2));
    victim.send(Signal::TERM);
    victim.end().ended_with("answered").died_by(Signal::TERM);
}

// ---------------------------------------------------------- a guard that is made during another's Drop

/// A deferred function of the previous guard is held while the next one is made.
fn made_during_the_previous_drop() {
    let previous = guest().install(|| {}).unwrap();
    previous.defer(held_callback).unwrap();
    let drops = std::thread::spawn(move || drop(previous));
    until_held();
    let _guard = guest().install(|| say("callback")).unwrap();
    say("made");
    drops.join().unwrap();
    ready_for_ever();
}

fn the_second_signal_of_a_guard_made_during_anothers_drop_ends_the_wait() {
    let mut victim = Victim::start(made_during_the_previous_drop);
    victim.expect("made");
    victim.tell("go on");
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.expect("callback");
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    let lines = ["callback begins", "made", "callback ends", "ready", "callback"];
    victim.end().said(&lines).died_by(Signal::TERM);
}

/// The previous guard has had TERM, and is told of a duplicate while it ends: its observer makes the next guard.
fn made_by_the_observer_of_the_previous() {
    static IS_MADE: AtomicBool = AtomicBool::new(false);
    let observe = |event: &Event| {
        if matches!(event, Event::RepeatAbsorbed(_)) && !IS_MADE.swap(true, SeqCst) {
            guest().install(|| {}).unwrap().keep();
            say("made");
        }
    };
    let previous = host().observe(observe).install(|| {}).unwrap();
    previous.defer(|| raise(Signal::TERM)).unwrap();
    raise(Signal::TERM);
    previous.wait();
    drop(previous);
    ready_for_ever();
}

/// Whether it joins the exit of the previous guard or not, a first signal and a late repeat end the process.
fn the_second_signal_of_a_guard_made_by_the_observer_of_an_answered_one_ends_the_wait() {
    until_quick(|| {
        let mut victim = Victim::start(made_by_the_observer_of_the_previous);
        // A duplicate that was late is a wish of its own.
        if victim.next_line().as_deref() != Some("made") {
            return false;
        }
        victim.expect("ready");
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
        if victim.rests() {
            sleep(Duration::from_secs(2));
            victim.send(Signal::TERM);
        }
        victim.end().said(&["made", "ready"]).died_by(Signal::TERM);
        true
    });
}

pub(crate) const TESTS: &[Named] = tests![
    another_callback_that_ends_elsewhere_does_not_take_force_away,
    a_duplicate_is_no_repeat_of_what_was_no_exit_before,
    a_duplicate_cuts_no_callback_because_of_what_was_no_exit_before,
    a_duplicate_after_an_answered_signal_forces_nothing_and_a_late_repeat_does,
    a_duplicate_of_a_signal_that_came_while_the_oldest_answered_forces_nothing,
    a_late_repeat_of_a_signal_that_came_while_the_oldest_answered_forces,
    the_second_signal_of_a_guard_made_during_anothers_drop_ends_the_wait,
    the_second_signal_of_a_guard_made_by_the_observer_of_an_answered_one_ends_the_wait,
];
