//! Each event, as what it comes, and how long the process has after it.

use std::time::{Duration, Instant};

use handle_exit::{Builder, Cause, ConsoleEvent, Event, HandleExit, OldHandler, Repeat, Signal};

use crate::support::*;

/// Says what began the exit.
pub(crate) fn callback(cause: &Cause) {
    say(format!("callback: {cause}"));
}

/// A guard with a callback and a deferred function that say so.
pub(crate) fn guard(builder: Builder) -> HandleExit {
    let guard = builder.install_with(callback).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    guard
}

/// What the callback and the deferred function of such a guard say.
pub(crate) fn lines_of(event: ConsoleEvent) -> [String; 2] {
    [format!("callback: {} ({event})", event.signal()), "deferred".into()]
}

pub(crate) const EVENTS: [ConsoleEvent; 5] = [
    ConsoleEvent::CtrlC,
    ConsoleEvent::CtrlBreak,
    ConsoleEvent::Close,
    ConsoleEvent::Logoff,
    ConsoleEvent::Shutdown,
];

fn leaves_in_time() {
    let guard = guard(HandleExit::builder());
    say("ready");
    let Cause::Signal(received) = guard.wait() else { panic!() };
    assert_eq!(received.signal(), received.console_event().signal());
    drop(guard);
    say("behind");
    // After a final event the system would end the process if the handler had returned.
    std::thread::sleep(Duration::from_millis(300));
    exit(3);
}

fn stays() {
    let _guard = guard(HandleExit::builder().grace(Duration::from_secs(60)));
    ready_for_ever();
}

fn stays_for_cleanup() {
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

/// After what was said before the event.
pub(crate) fn all(first: &[&str], lines: &[String], behind: &[&str]) -> Vec<String> {
    let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    [own(first), lines.to_vec(), own(behind)].concat()
}

fn every_event_comes_as_its_signal_and_the_program_goes_on_in_time() {
    for event in EVENTS {
        let victim = Victim::ready(leaves_in_time);
        victim.send_event(event);
        let end = victim.end();
        assert_eq!(end.lines, all(&["ready"], &lines_of(event), &["behind"]), "{end:#?}");
        end.exited(3);
    }
}

fn ctrl_c_of_the_console_arrives() {
    let victim = Victim::ready(leaves_in_time);
    ctrl_c_for_all();
    let end = victim.end();
    assert_eq!(end.lines, all(&["ready"], &lines_of(ConsoleEvent::CtrlC), &["behind"]));
    end.exited(3);
}

fn after_a_final_event_the_grace_is_what_the_system_leaves() {
    for event in [ConsoleEvent::Close, ConsoleEvent::Logoff, ConsoleEvent::Shutdown] {
        let victim = Victim::ready(stays);
        let sent = Instant::now();
        victim.send_event(event);
        let end = victim.end();
        assert_eq!(end.lines, all(&["ready"], &lines_of(event), &[]), "{end:#?}");
        end.exited(STATUS_CONTROL_C_EXIT);
        // The system ends it after 5 s.
        let taken = sent.elapsed();
        assert!((Duration::from_secs(3)..Duration::from_secs(5)).contains(&taken), "{taken:?}");
    }
}

fn absorbs_for_long() {
    let _guard = is_told_of_repeats(Repeat::Absorb, 60_000);
    ready_for_ever();
}

fn a_final_event_shortens_the_grace_of_an_earlier_one() {
    let [first, deferred] = &lines_of(ConsoleEvent::CtrlBreak);
    let mut victim = Victim::ready(absorbs_for_long);
    victim.send_event(ConsoleEvent::CtrlBreak);
    victim.expect(first);
    let sent = Instant::now();
    victim.send_event(ConsoleEvent::Close);
    let end = victim.end();
    end.said(&["ready", first, "SIGTERM absorbed", deferred]).exited(STATUS_CONTROL_C_EXIT);
    let taken = sent.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(5)).contains(&taken), "{taken:?}");
}

fn cleanup_ends_as_the_system_does_after_every_event() {
    for event in EVENTS {
        let victim = Victim::ready(stays_for_cleanup);
        victim.send_event(event);
        victim.end().said(&["ready", "callback", "deferred"]).exited(STATUS_CONTROL_C_EXIT);
    }
}

/// A handler that waits with a final event keeps the console's lock: no new guard may need it. Nor may one let
/// the handler go, which would end the process: its event was answered before.
fn guards_after_a_final_event() {
    let first = guard(HandleExit::builder());
    say("ready");
    first.wait();
    drop(first);
    for _ in 0..100 {
        drop(HandleExit::new(|| {}).unwrap());
    }
    drop(HandleExit::append(|| say("another")).unwrap());
    // Time for a handler that was let go.
    std::thread::sleep(Duration::from_millis(300));
    exit(4);
}

fn a_guard_can_be_made_after_a_final_event() {
    let victim = Victim::ready(guards_after_a_final_event);
    victim.send_event(ConsoleEvent::Close);
    let end = victim.end();
    assert_eq!(end.lines, all(&["ready"], &lines_of(ConsoleEvent::Close), &["another"]));
    end.exited(4);
}

fn guarded_twice() {
    for _ in 0..2 {
        let guard = guard(HandleExit::builder());
        say("ready");
        guard.wait();
    }
    exit(3);
}

fn a_second_guard_hears_of_its_own_event() {
    let mut victim = Victim::ready(guarded_twice);
    victim.send_event(ConsoleEvent::CtrlC);
    victim.expect("ready");
    victim.send_event(ConsoleEvent::CtrlC);
    let lines = lines_of(ConsoleEvent::CtrlC);
    let end = victim.end();
    assert_eq!(end.lines, [all(&["ready"], &lines, &[]), all(&["ready"], &lines, &[])].concat());
    end.exited(3);
}

fn reloads_on_break() {
    let (tell, told) = std::sync::mpsc::channel();
    let builder = HandleExit::builder().signals([Signal::INT]).on(Signal::TERM, move |received| {
        say(format!("on {received}"));
        tell.send(()).unwrap();
    });
    let guard = guard(builder);
    for _ in 0..2 {
        say("ready");
        told.recv().unwrap();
    }
    drop(guard);
    exit(3);
}

fn break_can_be_another_wish_than_to_end() {
    let mut victim = Victim::ready(reloads_on_break);
    victim.send_event(ConsoleEvent::CtrlBreak);
    victim.expect("ready");
    victim.send_event(ConsoleEvent::CtrlBreak);
    let on = "on SIGTERM (CTRL_BREAK)";
    victim
        .end()
        .said(&["ready", on, "ready", on, "callback: the scope ended", "deferred"])
        .exited(3);
}

fn is_told_of_repeats(repeat: Repeat, grace: u64) -> HandleExit {
    let builder = HandleExit::builder().repeat(repeat).grace(Duration::from_millis(grace));
    guard(builder.observe(|event| match event {
        Event::RepeatAbsorbed(signal) => say(format!("{signal} absorbed")),
        Event::RepeatForces(signal) => say(format!("{signal} forces")),
        _ => {}
    }))
}

fn absorbs() {
    let _guard = is_told_of_repeats(Repeat::Absorb, 2500);
    ready_for_ever();
}

fn finishes() {
    let _guard = is_told_of_repeats(Repeat::Finish, 60_000);
    ready_for_ever();
}

fn forced() {
    let guard = HandleExit::builder().repeat(Repeat::Force).install_with(|cause| {
        callback(cause);
        park();
    });
    guard.unwrap().keep();
    ready_for_ever();
}

/// No event says who sent it: the 500 ms count for two keys as well. Time is what is tested.
fn repeats_count_after_500_ms_whoever_sends_them() {
    let [first, deferred] = &lines_of(ConsoleEvent::CtrlC);
    let twice = |scenario| {
        let mut victim = Victim::ready(scenario);
        victim.send_event(ConsoleEvent::CtrlC);
        victim.expect(first);
        std::thread::sleep(Duration::from_millis(700));
        victim.send_event(ConsoleEvent::CtrlC);
        victim.end()
    };
    let end = twice(Scenario::of(finishes));
    end.said(&["ready", first, "SIGINT forces", deferred]).exited(STATUS_CONTROL_C_EXIT);
    let end = twice(Scenario::of(absorbs));
    end.said(&["ready", first, "SIGINT absorbed", deferred]).exited(STATUS_CONTROL_C_EXIT);
    twice(Scenario::of(forced)).said(&["ready", first]).exited(STATUS_CONTROL_C_EXIT);
}

fn ignores_ctrl_c() {
    ignore_ctrl_c();
    hears_no_ctrl_c();
}

fn hears_no_ctrl_c() {
    let guard = guard(HandleExit::builder());
    say("ready");
    assert_eq!(hear(), "go on");
    assert!(!guard.is_exiting());
}

/// After `SetConsoleCtrlHandler(NULL, TRUE)`, and in a process group of its own, which begins with that.
fn an_ignored_ctrl_c_stays_ignored() {
    for victim in [ignores_ctrl_c.start(), in_a_group(hears_no_ctrl_c)] {
        let mut victim = Victim::ready(victim);
        ctrl_c_for_all();
        std::thread::sleep(Duration::from_millis(200)); // longer than it takes to arrive
        victim.tell("go on");
        victim.end().said(&["ready", "callback: the scope ended", "deferred"]).exited(0);
    }
}

/// There is no event to run them with.
fn old_handlers_are_run_by_events_alone() {
    let heard = |_: ()| say("ctrlc");
    ctrlc::set_handler(move || heard(())).unwrap();
    let builder = HandleExit::builder().append(true).old_handler(OldHandler::Always);
    drop(guard(builder));
    exit(3);
}

fn without_an_event_no_old_handler_is_run() {
    let end = Victim::start(old_handlers_are_run_by_events_alone).end();
    end.said(&["callback: the scope ended", "deferred"]).exited(3);
}

fn the_signals_are_these_two() {
    assert_eq!(Signal::TERMINATING, [Signal::INT, Signal::TERM]);
    let known: Vec<_> = (0..64).filter_map(Signal::from_raw).collect();
    assert_eq!(known, Signal::TERMINATING);
    assert!("HUP".parse::<Signal>().is_err());
}

pub(crate) const TESTS: &[Named] = tests![
    every_event_comes_as_its_signal_and_the_program_goes_on_in_time,
    ctrl_c_of_the_console_arrives,
    after_a_final_event_the_grace_is_what_the_system_leaves,
    a_final_event_shortens_the_grace_of_an_earlier_one,
    cleanup_ends_as_the_system_does_after_every_event,
    a_guard_can_be_made_after_a_final_event,
    a_second_guard_hears_of_its_own_event,
    break_can_be_another_wish_than_to_end,
    repeats_count_after_500_ms_whoever_sends_them,
    an_ignored_ctrl_c_stays_ignored,
    without_an_event_no_old_handler_is_run,
    the_signals_are_these_two,
];
