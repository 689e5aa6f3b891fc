//! Beside other handlers of the process: `ctrlc` stands for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use handle_exit::{ConsoleEvent, HandleExit, Signal};

use super::events::{EVENTS, all, guard, lines_of};
use crate::support::*;

static HEARD: AtomicBool = AtomicBool::new(false);

/// Longer than an event takes from one handler to the next.
const A_WHILE: Duration = Duration::from_millis(200);

fn ctrlc_says() {
    ctrlc::set_handler(|| {
        say("ctrlc");
        HEARD.store(true, SeqCst);
    })
    .unwrap();
}

fn until_ctrlc_has_heard() {
    until("ctrlc has heard", || HEARD.load(SeqCst));
}

fn new_after_ctrlc() {
    ctrlc_says();
    let guard = guard(HandleExit::builder());
    say("ready");
    guard.wait();
    drop(guard);
    // Nor afterwards, where the handler stays with a final event.
    std::thread::sleep(A_WHILE);
    say(if HEARD.load(SeqCst) { "heard" } else { "not heard" });
    exit(3);
}

fn append_after_ctrlc() {
    ctrlc_says();
    let guard = guard(HandleExit::builder().append(true));
    say("ready");
    until_ctrlc_has_heard();
    drop(guard);
    say("behind");
    exit(3);
}

fn guard_before_ctrlc() {
    let guard = guard(HandleExit::builder().append(told()));
    ctrlc_says();
    say("ready");
    until_ctrlc_has_heard();
    drop(guard);
    exit(3);
}

fn new_keeps_an_event_and_append_passes_it_on() {
    for event in EVENTS {
        let victim = Victim::ready(new_after_ctrlc);
        victim.send_event(event);
        let end = victim.end();
        assert_eq!(end.lines, all(&["ready"], &lines_of(event), &["not heard"]), "{end:#?}");
        end.exited(3);

        let victim = Victim::ready(append_after_ctrlc);
        victim.send_event(event);
        let end = victim.end();
        let behind = ["ctrlc", "behind"];
        assert_eq!(end.lines, all(&["ready"], &lines_of(event), &behind), "{end:#?}");
        end.exited(3);
    }
}

/// The last that was registered is asked first, and `ctrlc` keeps every event.
fn a_handler_that_comes_later_is_asked_first() {
    for event in EVENTS {
        for append in [false, true] {
            let victim = Victim::ready(guard_before_ctrlc.told(append));
            victim.send_event(event);
            let end = victim.end();
            end.said(&["ready", "ctrlc", "callback: the scope ended", "deferred"]).exited(3);
        }
    }
}

/// The event comes while the scope's callback runs: too late for the guard, and not for `ctrlc`.
fn comes_too_late() {
    if told::<u8>() > 0 {
        ctrlc_says();
    }
    let guard = HandleExit::builder().append(told::<u8>() == 2).install(|| {
        say("ready");
        assert_eq!(hear(), "go on");
    });
    drop(guard.unwrap());
    until_ctrlc_has_heard();
    exit(3);
}

fn an_event_that_comes_too_late_goes_to_the_others() {
    for event in EVENTS {
        for kind in [1, 2] {
            let mut victim = Victim::ready(comes_too_late.told(kind));
            victim.send_event(event);
            victim.tell("go on");
            victim.end().said(&["ready", "ctrlc"]).exited(3);
        }
    }
    let mut victim = Victim::ready(comes_too_late.told(0));
    ctrl_c_for_all();
    victim.at_rest();
    victim.tell("go on");
    victim.end().said(&["ready"]).was_left_to(Signal::INT);
}

/// A host and a guest. It is told whether the guest is older.
fn host_and_guest() {
    static CALLED: AtomicU32 = AtomicU32::new(0);
    fn called(name: &str) {
        say(name);
        count(&CALLED);
    }
    ctrlc_says();
    let host = || HandleExit::new(|| called("host")).unwrap();
    let guest = || HandleExit::append(|| called("guest")).unwrap();
    let (host, guest) = match told::<bool>() {
        true => {
            let guest = guest();
            (host(), guest)
        }
        false => (host(), guest()),
    };
    say("ready");
    until("both are called", || CALLED.load(SeqCst) == 2);
    drop(host);
    say("the host is gone");
    drop(guest);
    std::thread::sleep(A_WHILE);
    exit(3);
}

fn a_host_keeps_the_events_that_guests_have_too() {
    for event in EVENTS {
        for (guest_is_older, [first, second]) in
            [(false, ["guest", "host"]), (true, ["host", "guest"])]
        {
            let victim = Victim::ready(host_and_guest.told(guest_is_older));
            victim.send_event(event);
            victim.end().said(&["ready", first, second, "the host is gone"]).exited(3);
        }
    }
}

/// The handler waits with the guest's event, and is let go by the host.
fn host_comes_while_a_callback_runs() {
    ctrlc_says();
    let guest = HandleExit::append(held_callback).unwrap();
    guest.defer(|| say("guest")).unwrap();
    host_comes(guest);
}

/// The last moment: the event would be passed on next.
fn host_comes_while_a_deferred_function_runs() {
    ctrlc_says();
    let guest = HandleExit::append(|| say("guest")).unwrap();
    guest.defer(held_callback).unwrap();
    host_comes(guest);
}

fn host_comes(guest: HandleExit) {
    say("ready");
    until_held();
    let host = HandleExit::new(|| say("host")).unwrap();
    assert!(host.is_exiting());
    if !told::<bool>() {
        // Needs the lock that the system holds while a handler waits.
        hear_no_ctrl_c();
    }
    say("host is there");
    until_let_go();
    host.wait();
    drop(host);
    drop(guest);
    std::thread::sleep(A_WHILE);
    exit(3);
}

fn a_host_that_joins_decides() {
    let held = ["callback begins", "host is there", "callback ends"];
    for event in EVENTS {
        let is_final = !matches!(event, ConsoleEvent::CtrlC | ConsoleEvent::CtrlBreak);
        for (scenario, lines) in [
            (
                Scenario::of(host_comes_while_a_callback_runs),
                [&["ready"], held.as_slice(), &["host", "guest"]].concat(),
            ),
            (
                Scenario::of(host_comes_while_a_deferred_function_runs),
                [&["ready", "guest"], held.as_slice(), &["host"]].concat(),
            ),
        ] {
            let mut victim = Victim::ready(scenario.told(is_final));
            victim.send_event(event);
            victim.expect("host is there");
            victim.tell("go on");
            victim.end().said(&lines).exited(3);
        }
    }
}

/// The event is kept while the host is there, but not for it any more.
fn event_at_the_end_of_a_host() {
    ctrlc_says();
    let guest = HandleExit::append(|| say("guest")).unwrap();
    guest.defer(|| say("guest's deferred")).unwrap();
    let host = HandleExit::new(|| {
        say("ready");
        assert_eq!(hear(), "go on");
    });
    drop(host.unwrap());
    until_ctrlc_has_heard();
    drop(guest);
    exit(3);
}

fn an_event_that_comes_too_late_for_a_host_is_the_guests() {
    for event in EVENTS {
        let mut victim = Victim::ready(event_at_the_end_of_a_host);
        victim.send_event(event);
        victim.tell("go on");
        victim.end().said(&["ready", "guest", "guest's deferred", "ctrlc"]).exited(3);
    }
}

/// After an event that a host has answered, the guest that lives on has the next one.
fn guest_behind_a_host() {
    ctrlc_says();
    let host = HandleExit::new(|| say("host")).unwrap();
    let guest = HandleExit::append(|| say("guest")).unwrap();
    say("ready");
    host.wait();
    drop(host);
    std::thread::sleep(Duration::from_millis(told()));
    say("ready");
    if told::<u64>() > 500 {
        until_ctrlc_has_heard();
    } else {
        std::thread::sleep(Duration::from_secs(1));
    }
    drop(guest);
    // Needs the lock that the system holds while a handler waits.
    hear_no_ctrl_c();
    exit(3);
}

fn what_comes_after_a_host_is_passed_on_unless_it_is_the_same_event() {
    for (pause, lines) in [
        (0, ["ready", "guest", "host", "ready"].as_slice()),
        (700, &["ready", "guest", "host", "ready", "ctrlc"]),
    ] {
        let mut victim = Victim::ready(guest_behind_a_host.told(pause));
        victim.send_event(ConsoleEvent::CtrlBreak);
        victim.expect("ready");
        victim.send_event(ConsoleEvent::CtrlBreak);
        victim.end().said(lines).exited(3);
    }
}

/// The system holds repeats back until the first event is passed on, and then nobody else wants them.
fn guest_cleans_up() {
    ctrlc_says();
    let guest = HandleExit::append(held_callback).unwrap();
    say("ready");
    until_ctrlc_has_heard();
    std::thread::sleep(A_WHILE);
    drop(guest);
    exit(3);
}

fn repeats_are_passed_on_after_the_first_event() {
    let mut victim = Victim::ready(guest_cleans_up);
    victim.send_event(ConsoleEvent::CtrlC);
    victim.expect("callback begins");
    victim.send_event(ConsoleEvent::CtrlC);
    std::thread::sleep(Duration::from_millis(600));
    victim.send_event(ConsoleEvent::CtrlC);
    victim.tell("go on");
    let end = victim.end();
    let lines = ["ready", "callback begins", "callback ends", "ctrlc"];
    assert_eq!(end.lines[..lines.len()], lines, "{end:#?}");
    assert!(end.lines[lines.len()..].iter().all(|line| line == "ctrlc"), "{end:#?}");
    end.exited(3);
}

/// What one guest passed on, the next one has for itself again.
fn guest_after_guest() {
    ctrlc_says();
    let old = HandleExit::append(|| say("old")).unwrap();
    for name in ["second", "third"] {
        HEARD.store(false, SeqCst);
        let guest = HandleExit::append(move || say(name)).unwrap();
        say("ready");
        until_ctrlc_has_heard();
        assert!(guest.is_exiting());
    }
    drop(old);
    exit(3);
}

fn a_guest_that_is_made_after_an_event_hears_of_the_next() {
    let mut victim = Victim::ready(guest_after_guest);
    victim.send_event(ConsoleEvent::CtrlC);
    victim.expect("ready");
    victim.send_event(ConsoleEvent::CtrlC);
    let lines = ["ready", "second", "old", "ctrlc", "ready", "third", "ctrlc"];
    victim.end().said(&lines).exited(3);
}

/// A signal of `Builder::on` alone.
fn listens() {
    ctrlc_says();
    let builder = HandleExit::builder().signals([Signal::INT]).append(told());
    let guard = builder.on(Signal::TERM, |_| say("on")).install(|| say("callback")).unwrap();
    for _ in 0..2 {
        HEARD.store(false, SeqCst);
        say("ready");
        if told() {
            until_ctrlc_has_heard();
        } else {
            assert_eq!(hear(), "go on");
        }
    }
    drop(guard);
    exit(3);
}

fn a_host_keeps_what_it_listens_to_and_a_guest_passes_it_on() {
    let twice = |is_guest: bool| {
        let mut victim = Victim::ready(listens.told(is_guest));
        for is_last in [false, true] {
            victim.send_event(ConsoleEvent::CtrlBreak);
            victim.expect("on");
            if !is_guest {
                std::thread::sleep(A_WHILE);
                victim.tell("go on");
            }
            if !is_last {
                victim.expect("ready");
            }
        }
        victim.end()
    };
    let lines = ["ready", "on", "ctrlc", "ready", "on", "ctrlc", "callback"];
    twice(true).said(&lines).exited(3);
    twice(false).said(&["ready", "on", "ready", "on", "callback"]).exited(3);
}

fn count(counter: &AtomicU32) {
    counter.fetch_add(1, SeqCst);
}

/// Guards come and go while events do: each callback is run once, and nothing hangs.
fn storm() {
    let heard = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&heard);
    ctrlc::set_handler(move || count(&counted)).unwrap();
    let sender = std::thread::spawn(|| {
        for n in 0..300 {
            send_event_to(std::process::id(), EVENTS[usize::from(n % 3 == 0)]);
            std::thread::sleep(Duration::from_micros(900));
        }
    });
    let (called, mut made) = (Arc::new(AtomicU32::new(0)), 0);
    let begun = Instant::now();
    while !sender.is_finished() && begun.elapsed() < DEADLINE {
        let counted = Arc::clone(&called);
        let guard = HandleExit::builder().append(made % 2 == 0);
        let guard = guard.install(move || count(&counted)).unwrap();
        made += 1;
        if made % 3 == 0 {
            let _ = guard.wait_timeout(Duration::from_millis(2));
        }
        drop(guard);
    }
    sender.join().unwrap();
    assert_eq!(called.load(SeqCst), made);
    assert!(made > 10, "only {made} guards");
    // Whatever came between two guards, or was passed on.
    assert!(heard.load(SeqCst) > 0);
    exit(3);
}

fn guards_come_and_go_in_a_storm() {
    Victim::start(storm).end().said(&[]).exited(3);
}

pub(crate) const TESTS: &[Named] = tests![
    new_keeps_an_event_and_append_passes_it_on,
    a_handler_that_comes_later_is_asked_first,
    an_event_that_comes_too_late_goes_to_the_others,
    a_host_keeps_the_events_that_guests_have_too,
    a_host_that_joins_decides,
    an_event_that_comes_too_late_for_a_host_is_the_guests,
    what_comes_after_a_host_is_passed_on_unless_it_is_the_same_event,
    repeats_are_passed_on_after_the_first_event,
    a_guest_that_is_made_after_an_event_hears_of_the_next,
    a_host_keeps_what_it_listens_to_and_a_guest_passes_it_on,
    guards_come_and_go_in_a_storm,
];
