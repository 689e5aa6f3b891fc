//! Beside other handlers of the process: `ctrlc` stands for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use handle_exit::{HandleExit, Signal};

use super::events::{EVENTS, all, guard, lines_of};
use crate::support::*;

static HEARD: AtomicBool = AtomicBool::new(false);

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
    guards_come_and_go_in_a_storm,
];
