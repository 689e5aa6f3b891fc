//! The scenarios of npm's `signal-exit` that have a meaning here: what the function sees is what the
//! parent sees; two copies in one process; many functions; signals nobody can guard.

mod support;

use std::time::Duration;

use handle_exit::{Cause, Ending, Error, Event, HandleExit, Ignored, Signal};
use support::*;

/// Every signal that may be guarded on this machine.
fn guardable() -> impl Iterator<Item = Signal> {
    let refused = [
        Signal::KILL,
        Signal::STOP,
        Signal::SEGV,
        Signal::BUS,
        Signal::FPE,
        Signal::ILL,
        Signal::TRAP,
        Signal::SYS,
        Signal::CHLD,
        Signal::CONT,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
        Signal::URG,
        Signal::WINCH,
    ];
    (1..=64)
        // Those between the standard and the real-time signals are the C library's own.
        .filter(|raw| !(32..nix::libc::SIGRTMIN()).contains(raw))
        .filter_map(Signal::from_raw)
        .filter(move |signal| !refused.contains(signal))
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
    loop {
        std::thread::park();
    }
}

fn every_signal_sent_from_outside_is_seen_as_the_parent_sees_it() {
    for signal in guardable() {
        let mut victim =
            Victim::spawn(&signal.to_string(), victim_told("from_outside", signal.as_raw()));
        victim.expect("ready");
        victim.send(signal);
        let seen = format!("{signal} from {}", std::process::id());
        victim.end().said(&["ready", &seen, &format!("process ends by {signal}")]).died_by(signal);
    }
}

fn every_signal_sent_by_the_process_itself_is_seen_as_the_parent_sees_it() {
    for signal in guardable() {
        let victim = Victim::spawn(&signal.to_string(), victim_told("self_sent", signal.as_raw()));
        let seen = format!("{signal} from {}", victim.pid());
        victim.end().said(&[&seen, &format!("process ends by {signal}")]).died_by(signal);
    }
}

const CODES: [i32; 5] = [0, 1, 2, 3, 54];

fn exits() {
    let _guard = guard_of(Signal::TERM, Ending::Signal);
    std::process::exit(told());
}

fn ends_with_code() {
    let _guard = guard_of(Signal::TERM, Ending::Code(told()));
    raise(Signal::TERM);
    loop {
        std::thread::park();
    }
}

fn every_exit_code_is_what_the_parent_sees() {
    for code in CODES {
        let end = Victim::spawn("exits", victim_told("exits", code)).end();
        end.said(&["the process exits"]).exited(code);

        let victim = Victim::spawn("ends_with_code", victim_told("ends_with_code", code));
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
    assert_eq!(holder.object(), Some(std::env::current_exe().unwrap().as_path()));
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
    Victim::start("the_second_copy_is_refused").end().said(&["first", "second"]).exited(0);
}

fn of_two_copies_both_run_with_append() {
    for signal in [Signal::TERM, Signal::INT] {
        let victim = Victim::ready("two_copies_parked");
        victim.send(signal);
        victim.end().said(&["ready", "second", "first"]).died_by(signal);

        let victim = Victim::ready("two_copies_in_time");
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
    Victim::start("two_copies_exit").end().said(&["second", "first"]).exited(3);
}

fn two_copies_can_be_dropped_in_any_order() {
    for (order, said) in [
        ("in order", ["second", "first", "behind"]),
        ("out of order", ["first", "second", "behind"]),
    ] {
        let end = Victim::spawn(order, victim_told("two_copies_dropped", order)).end();
        end.said(&said).died_by(Signal::TERM);
    }
}

// --------------------------------------------------------------------------------- many functions

fn fifteen() {
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    for number in 1..=15 {
        guard.defer(move || say(number)).unwrap();
    }
    ready_for_ever();
}

fn fifteen_functions_run() {
    let victim = Victim::ready("fifteen");
    victim.send(Signal::INT);
    let end = victim.end();
    let numbers = (1..=15).rev().map(|number| number.to_string());
    assert_eq!(end.lines[2..], numbers.collect::<Vec<_>>(), "{end:#?}");
    end.died_by(Signal::INT);
}

// ------------------------------------------------------------------------------------------ KILL

fn kill_in_the_list() {
    for signal in [Signal::KILL, Signal::STOP] {
        let before = disposition(Signal::TERM);
        let refused = HandleExit::builder().signals([Signal::TERM, signal]).install(|| {});
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Unguardable { signal: named, .. } if named == signal));
        assert!(error.to_string().contains(&signal.to_string()), "{error}");
        assert_eq!(disposition(Signal::TERM), before);
    }
}

fn main() {
    support::main_with_judges(
        all![
            from_outside,
            self_sent,
            exits,
            ends_with_code,
            the_second_copy_is_refused,
            two_copies_parked,
            two_copies_dropped,
            two_copies_exit,
            two_copies_in_time,
            fifteen,
        ],
        all![
            every_signal_sent_from_outside_is_seen_as_the_parent_sees_it,
            every_signal_sent_by_the_process_itself_is_seen_as_the_parent_sees_it,
            every_exit_code_is_what_the_parent_sees,
            of_two_copies_the_second_is_refused,
            of_two_copies_both_run_with_append,
            two_copies_can_be_dropped_in_any_order,
            fifteen_functions_run,
        ],
        all![kill_in_the_list],
    );
}
