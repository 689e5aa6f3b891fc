//! Guards that are made when a signal has begun an exit: they join it, if they guard that signal.

use std::sync::mpsc::channel;
use std::thread::{self, sleep};
use std::time::Duration;

use super::*;
use handle_exit::Ending;

/// Nothing limits the scope of the first guard, and the program continues after it.
fn patient(first: Builder) -> Builder {
    first.after_scope(AfterScope::Continue).grace(Duration::MAX)
}

/// A late guard that would end the process at once, if it had a say.
fn deadly() -> Builder {
    beside().cleanup().ending(Ending::Code(7))
}

/// Says whether an exit has begun for this guard, and what began it.
fn tells(guard: &HandleExit) {
    let cause = guard.cause().as_ref().map_or("nothing".into(), short);
    say(format!("is exiting: {}, cause: {cause}", guard.is_exiting()));
}

const HAS_BEGUN: &str = "is exiting: true, cause: SIGTERM";
const HAS_NOT_BEGUN: &str = "is exiting: false, cause: nothing";

// -------------------------------------------------------------------------------------- with the signal, and without

/// The late guard is made when the first one's callback has run. The test has both scopes end.
fn made_late(first: Builder, late: Builder) {
    let first = guard("first", patient(first));
    say("ready");
    hear();
    assert!(first.is_exiting());
    let late = guard("late", late);
    tells(&late);
    hear();
    drop(late);
    say("late gone");
    drop(first);
    say("behind");
}

/// From the signal to the moment at which the late guard is there and everybody waits.
fn late_guard_is_made(scenario: impl Play) -> Victim {
    let mut victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    victim.expect(&on_watcher("first", Signal::TERM));
    victim.at_rest();
    victim.tell("go on");
    victim
}

fn a_guard_that_is_made_while_an_exit_is_under_way_joins_it() {
    for scenario in scenarios![
        || made_late(host(), deadly()),
        || made_late(beside(), patient(beside())),
        // A host too, which then decides.
        || made_late(beside(), patient(host())),
    ] {
        let mut victim = late_guard_is_made(scenario);
        // The callback runs on the watcher, beside the thread that has made the guard.
        victim.expect_both(HAS_BEGUN, &on_watcher("late", Signal::TERM));
        victim.at_rest();
        victim.tell("go on");
        let end = victim.end();
        let ends = [deferred("late"), "late gone".into(), deferred("first"), "behind".into()];
        assert_eq!(end.lines[4..], ends, "{end:#?}");
        end.exited(0);
    }
}

fn a_late_guard_that_does_not_guard_the_signal_is_none_of_its_exit() {
    let mut victim = late_guard_is_made(|| made_late(host(), deadly().signals([Signal::INT])));
    victim.expect(HAS_NOT_BEGUN);
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let first = [on_watcher("first", Signal::TERM), HAS_NOT_BEGUN.into()];
    let late = ends_on_main("late");
    let ends = ["late gone".into(), deferred("first"), "behind".into()];
    said(&end, &[&line("ready"), &first, &late, &ends]).exited(0);
}

/// A guard that guards the signal as well as others.
fn a_late_guard_joins_with_one_of_its_signals() {
    let mut victim =
        late_guard_is_made(|| made_late(host(), beside().signals([Signal::HUP, Signal::TERM])));
    victim.expect_both(HAS_BEGUN, &on_watcher("late", Signal::TERM));
    victim.at_rest();
    victim.tell("go on");
    victim.end().ended_with("behind").exited(0);
}

/// As servers do it: one thread starts what is to be stopped when another one has been told to stop.
fn server_starts_late() {
    let program = guard("program", patient(host()));
    say("ready");
    program.wait();
    let (stop, stops) = channel();
    let serves = thread::spawn(move || {
        let stop = move || {
            say("server stops");
            stop.send(()).unwrap();
        };
        let _server = HandleExit::append(stop).unwrap();
        stops.recv().unwrap();
    });
    serves.join().unwrap();
    say("server is gone");
    drop(program);
    say("behind");
}

fn a_server_that_starts_after_the_signal_is_told_to_stop() {
    let victim = Victim::ready(server_starts_late);
    victim.send(Signal::TERM);
    let end = victim.end();
    said_among(&end, &["server stops", "server is gone", "behind"].map(String::from));
    said_among(&end, &[on_watcher("program", Signal::TERM), deferred("program"), "behind".into()]);
    assert_eq!(end.lines.len(), 6, "{end:#?}");
    end.exited(0);
}

/// The server starts when the program's scope is about to end: that waits for it.
fn server_starts_while_the_scope_ends() {
    let program = HandleExit::new(|| {}).unwrap();
    let (start, starts) = channel::<()>();
    let serves = thread::spawn(move || {
        let _ = starts.recv();
        let server = guard("server", beside());
        tells(&server);
        server.wait();
    });
    let ends = move || {
        drop(start);
        serves.join().unwrap();
    };
    program.defer(ends).unwrap();
    say("ready");
    program.wait();
    drop(program);
    say("behind");
}

fn a_server_that_starts_while_the_scope_ends_is_told_to_stop() {
    let victim = Victim::ready(server_starts_while_the_scope_ends);
    victim.send(Signal::TERM);
    let end = victim.end();
    said_among(&end, &["ready", HAS_BEGUN, &deferred("server"), "behind"].map(String::from));
    said_among(&end, &[on_watcher("server", Signal::TERM), deferred("server")]);
    end.exited(0);
}

/// One exit is an old handler's, the other one is the guests' own.
fn made_late_to_two_exits() {
    install_old(Signal::TERM);
    let patient = || patient(beside()).callback_timeout(DEADLINE);
    let older = patient().install(held_callback).unwrap();
    raise(Signal::TERM);
    until_held();
    raise(Signal::INT);
    // Until the exit by INT is under way, as a rule. A signal that is to come yet begins one for both.
    sleep(Duration::from_millis(100));
    let late = patient().install(|| {}).unwrap();
    say("made");
    until_let_go();
    for guard in [late, older] {
        say(format!("code {}", guard.finish().code()));
    }
}

fn a_late_guard_joins_every_exit_that_is_under_way() {
    let mut victim = Victim::start(made_late_to_two_exits);
    victim.expect("made");
    victim.tell("go on");
    let end = victim.end();
    assert_eq!(end.count("code 130"), 2, "{end:#?}");
    end.exited(0);
}

// --------------------------------------------------------------------------------- while a callback is running

/// The late guard is made while the first one's callback runs on the watcher.
fn made_beside_a_callback() {
    let first = host().cleanup().install(held_callback).unwrap();
    first.defer(|| say(deferred("first"))).unwrap();
    say("ready");
    until_held();
    let late = guard("late", beside().grace(Duration::MAX));
    tells(&late);
    assert_eq!(short(&late.wait()), "SIGTERM");
    say("waited");
    park();
}

/// It waits for nothing, and its callback has its turn before the process ends.
fn a_late_guard_is_exiting_before_its_callback_has_its_turn() {
    let mut victim = Victim::ready(made_beside_a_callback);
    victim.send(Signal::TERM);
    victim.expect("waited");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let held = ["ready", "callback begins", HAS_BEGUN, "waited", "callback ends"].map(String::from);
    let late = [on_watcher("late", Signal::TERM), deferred("late"), deferred("first")];
    said(&end, &[&held, &late]).died_by(Signal::TERM);
}

/// The same without the signal: it is not exiting, and runs before the process ends.
fn another_signal_beside_a_callback() {
    let _first = host().cleanup().install(held_callback).unwrap();
    say("ready");
    until_held();
    let late = guard("late", beside().signals([Signal::HUP]));
    tells(&late);
    say("made");
    park();
}

fn a_late_guard_of_another_signal_runs_before_the_process_ends() {
    let mut victim = Victim::ready(another_signal_beside_a_callback);
    victim.send(Signal::TERM);
    victim.expect("made");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let held = ["ready", "callback begins", HAS_NOT_BEGUN, "made", "callback ends"];
    let late = [on_watcher("late", Signal::TERM), deferred("late")];
    said(&end, &[&held.map(String::from), &late]).died_by(Signal::TERM);
}

/// The scope of the late guard ends while the callback of the first still runs.
fn dropped_beside_a_callback() {
    let _first = host().cleanup().install(held_callback).unwrap();
    say("ready");
    until_held();
    for number in 0..2 {
        drop(guard("late", beside()));
        say(format!("late {number} gone"));
    }
    park();
}

fn a_late_guard_may_end_while_the_callback_of_another_runs() {
    let mut victim = Victim::ready(dropped_beside_a_callback);
    victim.send(Signal::TERM);
    // The callback that runs is in nobody's way: this thread runs its own after a moment.
    victim.expect("late 1 gone");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let late =
        |number| ["late on main: SIGTERM".into(), deferred("late"), format!("late {number} gone")];
    let held = ["ready", "callback begins"].map(String::from);
    said(&end, &[&held, &late(0), &late(1), &line("callback ends")]).died_by(Signal::TERM);
}

// ------------------------------------------------------------------------------------------------ it was answered

/// The host's scope has ended in time, and the program goes on beside an older guest.
fn made_after_the_answer() {
    let guest = guard("guest", beside().grace(Duration::MAX));
    let first = guard("first", patient(host()));
    say("ready");
    hear();
    drop(first);
    say("answered");
    assert!(guest.is_exiting());
    // A guest and a host: neither has anything to do with an exit that is over.
    let late = guard("late", beside());
    tells(&late);
    let second = guard("second", patient(host()));
    tells(&second);
    say("made");
    second.wait();
    hear();
    drop(second);
    drop(late);
    drop(guest);
    say("behind");
}

fn a_guard_that_is_made_after_the_answer_hears_the_next_signal() {
    let mut victim = Victim::ready(made_after_the_answer);
    victim.send(Signal::TERM);
    victim.expect(&on_watcher("guest", Signal::TERM));
    victim.at_rest();
    victim.tell("go on");
    victim.expect("made");
    victim.at_rest();
    // No repeat of a signal that has been answered.
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim.expect(&on_watcher("late", Signal::TERM));
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let on_first = ["first", "guest"].map(|name| on_watcher(name, Signal::TERM));
    let made = ["answered", HAS_NOT_BEGUN, HAS_NOT_BEGUN, "made"].map(String::from);
    let on_second = ["second", "late"].map(|name| on_watcher(name, Signal::TERM));
    let ends = ["second", "late", "guest"].map(deferred);
    said(
        &end,
        &[
            &line("ready"),
            &on_first,
            &[deferred("first")],
            &made,
            &on_second,
            &ends,
            &line("behind"),
        ],
    )
    .exited(0);
}

/// A request is one guard's own exit.
fn a_request_is_no_exit_to_join() {
    let first = HandleExit::new(|| {}).unwrap();
    first.request();
    assert_eq!(first.wait(), Cause::Requested);
    let late = HandleExit::append(|| {}).unwrap();
    assert!(!late.is_exiting() && late.cause().is_none());
    assert_eq!(late.wait_timeout(Duration::from_millis(1)), None);
}

pub(crate) const TESTS: &[Named] = tests![
    a_guard_that_is_made_while_an_exit_is_under_way_joins_it,
    a_late_guard_that_does_not_guard_the_signal_is_none_of_its_exit,
    a_late_guard_joins_with_one_of_its_signals,
    a_server_that_starts_after_the_signal_is_told_to_stop,
    a_server_that_starts_while_the_scope_ends_is_told_to_stop,
    a_late_guard_joins_every_exit_that_is_under_way,
    a_late_guard_is_exiting_before_its_callback_has_its_turn,
    a_late_guard_of_another_signal_runs_before_the_process_ends,
    a_late_guard_may_end_while_the_callback_of_another_runs,
    a_guard_that_is_made_after_the_answer_hears_the_next_signal;
    alone:
    a_request_is_no_exit_to_join,
];
