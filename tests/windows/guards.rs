//! Several guards, and `append`, which passes events on where nobody can say to whom.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use handle_exit::{Builder, Cause, ConsoleEvent, Error, HandleExit, Signal};

use super::events::{EVENTS, all, guard, lines_of};
use crate::support::*;

/// A guard that says what it does under a name.
fn named(name: &'static str, builder: Builder) -> HandleExit {
    let guard = builder.install_with(move |cause| say(format!("{name}: {cause}"))).unwrap();
    guard.defer(move || say(format!("{name}'s deferred"))).unwrap();
    guard
}

fn beside() -> Builder {
    HandleExit::builder().append(true)
}

fn append_alone() {
    let _guard = guard(beside());
    ready_for_ever();
}

/// The system's own handler is whom the event is passed on to: everything has run by then.
fn append_with_nobody_below_acts_as_cleanup() {
    for event in [ConsoleEvent::CtrlC, ConsoleEvent::CtrlBreak] {
        let victim = Victim::ready(append_alone);
        victim.send_event(event);
        let end = victim.end();
        assert_eq!(end.lines, all(&["ready"], &lines_of(event), &[]), "{end:#?}");
        end.was_left_to(event.signal());
    }
}

fn append_that_panics() {
    let guard = beside().install(|| panic!("the clean-up failed")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn a_callback_of_append_that_panics_ends_with_101() {
    let victim = Victim::ready(append_that_panics);
    victim.send_event(ConsoleEvent::CtrlC);
    victim.end().said(&["ready", "deferred"]).exited(101);
}

/// The host decides, and keeps the event.
fn guest_in_host() {
    let host = named("host", HandleExit::builder());
    assert!(matches!(HandleExit::new(|| {}), Err(Error::Nested)));
    let inner = named("inner", beside());
    say("ready");
    inner.wait();
    drop(inner);
    drop(host);
    say("behind");
    exit(3);
}

fn an_event_begins_the_exit_of_every_guard_and_the_host_decides() {
    for event in EVENTS {
        let victim = Victim::ready(guest_in_host);
        victim.send_event(event);
        let what = format!("{} ({event})", event.signal());
        let end = victim.end();
        end.ended_with("behind").exited(3);
        // The inner guard's scope may end before the other's callback is run.
        for (name, before) in [("inner", "ready"), ("host", "inner")] {
            let place = |line: String| end.lines.iter().position(|said| *said == line);
            let callback = place(format!("{name}: {what}"));
            assert!(
                callback.is_some() && callback < place(format!("{name}'s deferred")),
                "{end:#?}"
            );
            let before =
                if before == "ready" { before.into() } else { format!("{before}: {what}") };
            assert!(place(before) < callback, "{end:#?}");
        }
        assert_eq!(end.lines.len(), 6, "{end:#?}");
    }
}

/// Everybody's clean-up runs before the event goes where it may end the process.
fn three_that_append() {
    let _guards = (named("first", beside()), named("second", beside()), named("third", beside()));
    ready_for_ever();
}

fn before_an_event_is_passed_on_all_guards_clean_up() {
    let victim = Victim::ready(three_that_append);
    ctrl_c_for_all();
    let end = victim.end();
    let mut lines = end.lines.clone();
    lines[1..].sort_unstable();
    let what = "SIGINT (CTRL_C)";
    let mut expected = vec![];
    for name in ["first", "second", "third"] {
        expected.extend([format!("{name}'s deferred"), format!("{name}: {what}")]);
    }
    expected.sort_unstable();
    assert_eq!(lines[1..], expected, "{end:#?}");
    // Callbacks newest first.
    let callbacks: Vec<_> = end.lines.iter().filter(|line| line.ends_with(what)).collect();
    assert_eq!(
        callbacks,
        [&format!("third: {what}"), &format!("second: {what}"), &format!("first: {what}")]
    );
    end.was_left_to(Signal::INT);
}

/// As tests in one process do: each has a guard of its own, and none notices another.
fn eight_side_by_side() {
    let all_are_made = Barrier::new(8);
    let one = |number: usize| {
        for round in 0..25 {
            let guard = HandleExit::append(|| {}).unwrap();
            let _deferred = guard.defer(|| {}).unwrap();
            if round == 0 {
                all_are_made.wait();
            }
            match (number + round) % 3 {
                0 => drop(guard),
                1 => assert!(guard.disarm()),
                _ => {
                    assert!(!guard.is_exiting());
                    guard.request();
                    assert_eq!(guard.wait(), Cause::Requested);
                }
            }
        }
    };
    thread::scope(|scope| {
        (0..8).for_each(|number| drop(scope.spawn(move || one(number))));
    });
}

fn eight_guards_live_side_by_side() {
    ends_well(eight_side_by_side, &[]);
}

/// A host among them keeps the event, so that they all live on after it.
fn eight_hear_of_an_event() {
    let oldest = HandleExit::builder().grace(Duration::from_secs(60)).install(|| {}).unwrap();
    let all_are_made = Barrier::new(9);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let guard = HandleExit::append(|| say("callback")).unwrap();
                all_are_made.wait();
                assert!(matches!(guard.wait(), Cause::Signal(_)));
            });
        }
        all_are_made.wait();
        say("ready");
    });
    drop(oldest);
    exit(3);
}

fn eight_guards_hear_of_one_event() {
    let victim = Victim::ready(eight_hear_of_an_event);
    victim.send_event(ConsoleEvent::CtrlC);
    let end = victim.end();
    assert_eq!(end.count("callback"), 8, "{end:#?}");
    end.exited(3);
}

pub(crate) const TESTS: &[Named] = tests![
    append_with_nobody_below_acts_as_cleanup,
    a_callback_of_append_that_panics_ends_with_101,
    an_event_begins_the_exit_of_every_guard_and_the_host_decides,
    before_an_event_is_passed_on_all_guards_clean_up,
    eight_guards_live_side_by_side,
    eight_guards_hear_of_one_event,
];
