//! npm's `signal-exit`: what the function sees is what the parent sees, and two copies live in one process.

use std::process::Command;
use std::time::Duration;

use handle_exit::{Cause, Ending, Event, HandleExit, Ignored, Signal};

use crate::support::*;

/// Every signal that may be guarded on this machine.
fn guardable() -> Vec<Signal> {
    // A process that dies of the first of them, and of nothing after that.
    let mut dead = Command::new("true").spawn().unwrap();
    let can_be_sent = |signal: &Signal| match try_kill(dead.id() as i32, *signal) {
        Ok(()) => true,
        // qemu keeps the last real-time signals for itself.
        Err(error) => {
            println!("skipped: {signal}: {error}");
            false
        }
    };
    let guardable = (1..=64)
        // Those between the standard and the real-time signals are the C library's own.
        .filter(|raw| !reserved_signals().contains(raw))
        .filter_map(Signal::from_raw)
        .filter(|signal| !UNGUARDABLE.contains(signal))
        .filter(can_be_sent)
        .collect();
    dead.wait().unwrap();
    guardable
}

// --------------------------------------------------------------------------- what the function sees

/// Says what the callback sees, and what the observer is told of the end.
fn guard_of(signal: Signal, ending: Ending) -> HandleExit {
    HandleExit::builder()
        .signals([signal])
        // SIGPIPE: Rust programs start with it ignored.
        .ignored(Ignored::Guard)
        .grace(Duration::ZERO)
        .ending(ending)
        .observe(|event| {
            if matches!(event, Event::EndingBySignal(_) | Event::EndingWithCode(_)) {
                say(event);
            }
        })
        .install_with(|cause| match cause {
            Cause::Signal(received) => say(format!(
                "{} from {}",
                received.signal(),
                received.sender().map_or(0, |sender| sender.pid)
            )),
            other => say(other),
        })
        .unwrap()
}

/// By number: not every signal has a name.
fn signal_told() -> Signal {
    Signal::from_raw(told()).unwrap()
}

fn from_outside() {
    let _guard = guard_of(signal_told(), Ending::Signal);
    ready_for_ever();
}

fn self_sent() {
    let _guard = guard_of(signal_told(), Ending::Signal);
    raise(signal_told());
    park();
}

fn every_signal_sent_from_outside_is_seen_as_the_parent_sees_it() {
    for signal in guardable() {
        let mut victim = Victim::start(from_outside.told(signal.as_raw()));
        victim.expect("ready");
        victim.send(signal);
        let seen = format!("{signal} from {}", std::process::id());
        victim.end().said(&["ready", &seen, &format!("process ends by {signal}")]).died_by(signal);
    }
}

fn every_signal_sent_by_the_process_itself_is_seen_as_the_parent_sees_it() {
    for signal in guardable() {
        let victim = Victim::start(self_sent.told(signal.as_raw()));
        let seen = format!("{signal} from {}", victim.pid());
        victim.end().said(&[&seen, &format!("process ends by {signal}")]).died_by(signal);
    }
}

const CODES: [i32; 6] = [0, 1, 2, 3, 5, 54];

fn exits() {
    let _guard = guard_of(Signal::TERM, Ending::Signal);
    std::process::exit(told());
}

fn ends_with_code() {
    let _guard = guard_of(Signal::TERM, Ending::Code(told()));
    raise(Signal::TERM);
    park();
}

fn every_exit_code_is_what_the_parent_sees() {
    for code in CODES {
        let end = Victim::start(exits.told(code)).end();
        end.said(&["the process exits"]).exited(code);

        let victim = Victim::start(ends_with_code.told(code));
        let seen = format!("SIGTERM from {}", victim.pid());
        victim.end().said(&[&seen, &format!("process ends with exit code {code}")]).exited(code);
    }
}

// -------------------------------------------------------------------------- two copies of the crate

/// Both copies guard: the second on top of the first.
fn two_copies() -> (HandleExit, handle_exit_copy::HandleExit) {
    let first = HandleExit::cleanup(|| say("first")).unwrap();
    let second = handle_exit_copy::HandleExit::append(|| say("second")).unwrap();
    (first, second)
}

fn the_second_copy_is_refused() {
    let first = HandleExit::new(|| say("first")).unwrap();
    let before = [disposition(Signal::TERM), disposition(Signal::INT)];
    let error = handle_exit_copy::HandleExit::new(|| unreachable!()).unwrap_err();
    assert_eq!([disposition(Signal::TERM), disposition(Signal::INT)], before);
    let handle_exit_copy::Error::HandlerExists { signal, ref holder, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(signal, handle_exit_copy::Signal::TERM);
    assert_eq!(holder.address(), disposition(Signal::TERM).0);
    // In a static program nobody knows the name of anything.
    let object = (!cfg!(target_feature = "crt-static")).then(|| std::env::current_exe().unwrap());
    assert_eq!(holder.object(), object.as_deref());
    drop(first);
    // Once the first is gone there is room.
    drop(handle_exit_copy::HandleExit::new(|| say("second")).unwrap());
}

fn two_copies_parked() {
    let _guards = two_copies();
    ready_for_ever();
}

fn two_copies_dropped() {
    let before = [disposition(Signal::TERM), disposition(Signal::INT)];
    let (first, second) = two_copies();
    match told::<String>().as_str() {
        "in order" => {
            drop(second);
            drop(first);
            assert_eq!([disposition(Signal::TERM), disposition(Signal::INT)], before);
        }
        "out of order" => {
            drop(first);
            drop(second);
        }
        other => panic!("{other}"),
    }
    say("behind");
    // Whatever stands there now, it acts as the default.
    raise(Signal::TERM);
    say("is not reached");
}

fn two_copies_exit() {
    let _guards = two_copies();
    std::process::exit(3);
}

fn two_copies_in_time() {
    let first = HandleExit::new(|| say("first")).unwrap();
    let second = handle_exit_copy::HandleExit::append(|| say("second")).unwrap();
    first.defer(|| say("deferred to the first")).unwrap();
    second.defer(|| say("deferred to the second")).unwrap();
    say("ready");
    first.wait();
    drop(second);
    drop(first);
    say("behind");
}

fn of_two_copies_the_second_is_refused() {
    Victim::start(the_second_copy_is_refused).end().said(&["first", "second"]).exited(0);
}

fn of_two_copies_both_run_with_append() {
    for signal in [Signal::TERM, Signal::INT] {
        let victim = Victim::ready(two_copies_parked);
        victim.send(signal);
        victim.end().said(&["ready", "second", "first"]).died_by(signal);

        let victim = Victim::ready(two_copies_in_time);
        victim.send(signal);
        let end = victim.end();
        // The rest of the second's exit and the first's callback are on threads of their own.
        let at = |line: &str| end.lines.iter().position(|said| said == line);
        let order =
            ["ready", "second", "deferred to the second", "deferred to the first", "behind"];
        assert!(order.map(at).is_sorted(), "{end:#?}");
        assert!(
            ["ready", "second", "first", "deferred to the first"].map(at).is_sorted(),
            "{end:#?}"
        );
        assert_eq!(end.lines.len(), 6, "{end:#?}");
        end.exited(0);
    }
    // Exit functions run the last one first.
    Victim::start(two_copies_exit).end().said(&["second", "first"]).exited(3);
}

fn two_copies_can_be_dropped_in_any_order() {
    for (order, said) in [
        ("in order", ["second", "first", "behind"]),
        ("out of order", ["first", "second", "behind"]),
    ] {
        let end = Victim::start(two_copies_dropped.told(order)).end();
        end.said(&said).died_by(Signal::TERM);
    }
}

pub(crate) const TESTS: &[Named] = tests![
    every_signal_sent_from_outside_is_seen_as_the_parent_sees_it,
    every_signal_sent_by_the_process_itself_is_seen_as_the_parent_sees_it,
    every_exit_code_is_what_the_parent_sees,
    of_two_copies_the_second_is_refused,
    of_two_copies_both_run_with_append,
    two_copies_can_be_dropped_in_any_order,
];
