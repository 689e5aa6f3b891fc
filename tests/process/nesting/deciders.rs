//! Who decides what follows a signal where there is no host: the old handler, else the oldest guest that guards the
//! signal when it comes. What a younger guest says of its grace period, repeats and the ending means nothing then.
//!
//! Time is the thing under test in some of these: there a test sleeps, and says why the margin holds on a
//! machine that is busy.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::*;
use handle_exit::{AfterScope, Ending, Event, Repeat};

/// Two guards with these settings; main ends both scopes, the younger first, when the test says so.
fn under(oldest: Builder, younger: Builder) {
    let oldest = guard("oldest", oldest);
    let younger = guard("younger", younger);
    ends_when_told(oldest, younger);
}

/// As `under`, and the callback of the younger waits for the test.
fn held_under(oldest: Builder, younger: Builder) {
    let oldest = guard("oldest", oldest.grace(Duration::MAX));
    let younger = younger.append(true).install(held_callback).unwrap();
    younger.defer(|| say(deferred("younger"))).unwrap();
    let _alive = [oldest, younger];
    ready_for_ever();
}

fn ends_when_told(oldest: HandleExit, younger: HandleExit) {
    say("ready");
    hear();
    drop(younger);
    say("younger gone");
    drop(oldest);
    say("behind");
}

/// No limit for the scope, after which the program continues.
fn unlimited() -> Builder {
    continues().grace(Duration::MAX)
}

fn at_once() -> Builder {
    beside().grace(Duration::ZERO)
}

// ----------------------------------------------------------------------------------------- the policies

/// Sends TERM, and expects the death of the process without any word from the test.
fn ends_at_once(scenario: impl Play, how: Ends) {
    let victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    let end = victim.end();
    let callbacks = ["younger", "oldest"].map(|name| on_watcher(name, Signal::TERM));
    said(&end, &[&line("ready"), &callbacks, &["younger", "oldest"].map(deferred)]).ended(how);
}

/// Sends TERM, which ends nothing; then both scopes end.
fn ends_when_it_likes(scenario: impl Play, how: Ends) {
    let mut victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    victim.expect(&on_watcher("oldest", Signal::TERM));
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let mut ends = vec![deferred("younger"), "younger gone".into(), deferred("oldest")];
    if matches!(how, Ends::With(0)) {
        ends.push("behind".into());
    }
    let callbacks = ["younger", "oldest"].map(|name| on_watcher(name, Signal::TERM));
    said(&end, &[&line("ready"), &callbacks, &ends]).ended(how);
}

fn the_grace_is_that_of_the_oldest() {
    ends_at_once(|| under(at_once(), unlimited()), Ends::By(Signal::TERM));
    ends_when_it_likes(|| under(unlimited(), at_once()), Ends::With(0));
}

fn what_follows_the_scope_is_said_by_the_oldest() {
    ends_when_it_likes(
        || under(unlimited().after_scope(AfterScope::End), unlimited()),
        Ends::By(Signal::TERM),
    );
    ends_when_it_likes(
        || under(unlimited(), unlimited().after_scope(AfterScope::End)),
        Ends::With(0),
    );
}

fn the_ending_is_that_of_the_oldest() {
    ends_at_once(
        || under(at_once().ending(Ending::ShellCode), at_once().ending(Ending::Code(3))),
        Ends::With(128 + Signal::TERM.as_raw()),
    );
    ends_at_once(|| under(at_once(), at_once().ending(Ending::Code(3))), Ends::By(Signal::TERM));
    ends_when_it_likes(
        || under(unlimited().after_scope(AfterScope::End).ending(Ending::Code(3)), unlimited()),
        Ends::With(3),
    );
}

/// Sends TERM, and another one that is a second wish, while the callback of the younger is held.
fn repeated_in_the_callback(scenario: impl Play) -> Victim {
    let mut victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    // From a moment at which the first has been handled, so it is never less than the rule says.
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim
}

/// As `repeated_in_the_callback`, for one that the second does not cut.
fn repeated_and_let_go(scenario: impl Play) -> Victim {
    let mut victim = repeated_in_the_callback(scenario);
    victim.at_rest();
    victim.tell("go on");
    victim.expect(&on_watcher("oldest", Signal::TERM));
    victim
}

fn what_a_repeat_does_is_said_by_the_oldest() {
    let victim = repeated_in_the_callback(|| held_under(beside().repeat(Repeat::Force), beside()));
    victim.end().said(&["ready", "callback begins"]).died_by(Signal::TERM);

    for scenario in
        scenarios![|| held_under(beside(), beside().repeat(Repeat::Force)), || held_under(
            beside(),
            beside().repeat(Repeat::Absorb)
        ),]
    {
        let end = repeated_and_let_go(scenario).end();
        said_among(&end, &["callback ends".into(), on_watcher("oldest", Signal::TERM)]);
        said_among(&end, &["younger", "oldest"].map(deferred));
        end.died_by(Signal::TERM);
    }

    for scenario in
        scenarios![|| held_under(beside().repeat(Repeat::Absorb), beside()), || held_under(
            beside().repeat(Repeat::Absorb),
            beside().repeat(Repeat::Force)
        ),]
    {
        let mut victim = repeated_and_let_go(scenario);
        victim.at_rest();
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
        victim.at_rest();
        // Nothing else ends it.
        victim.send(Signal::KILL);
        victim.end().died_by(Signal::KILL);
    }
}

fn handler_for_one_of_two_signals() {
    install_old(Signal::TERM);
    under(at_once(), unlimited());
}

fn where_there_is_an_old_handler_it_decides_and_for_other_signals_the_oldest() {
    let callbacks = |signal| ["younger", "oldest"].map(|name| on_watcher(name, signal));
    let deferred = ["younger", "oldest"].map(deferred);

    let victim = Victim::ready(handler_for_one_of_two_signals);
    victim.send(Signal::INT);
    let end = victim.end();
    said(&end, &[&line("ready"), &callbacks(Signal::INT), &deferred]).died_by(Signal::INT);

    let mut victim = Victim::ready(handler_for_one_of_two_signals);
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let ends = [deferred[0].clone(), "younger gone".into(), deferred[1].clone(), "behind".into()];
    said(&end, &[&line("ready"), &callbacks(Signal::TERM), &line("old"), &ends]).exited(0);
}

fn held_over_an_old_handler() {
    install_old(Signal::TERM);
    held_under(beside().repeat(Repeat::Force), beside().repeat(Repeat::Force));
}

/// Who would say what a repeat does is not asked.
fn a_repeat_cuts_no_callback_where_there_is_an_old_handler() {
    let mut victim = repeated_and_let_go(held_over_an_old_handler);
    victim.expect("old");
    victim.at_rest();
    victim.send(Signal::KILL);
    victim.end().died_by(Signal::KILL);
}

/// The first would decide, if it still had the signal.
fn first_had_the_signal_before_its_old_handler_ran() {
    static HANDLER_HAS_RUN: AtomicBool = AtomicBool::new(false);
    install_old(Signal::TERM);
    let observe = |event: &Event| {
        if matches!(event, Event::OldHandlerRun(_)) {
            HANDLER_HAS_RUN.store(true, SeqCst);
        }
    };
    let first = unlimited().repeat(Repeat::Force).observe(observe);
    let _first = first.install(|| say("first")).unwrap();
    raise(Signal::TERM);
    until("the handler has run", || HANDLER_HAS_RUN.load(SeqCst));
    install_exactly(Signal::TERM, nix::libc::SIG_DFL, 0, &[]);
    let _second = at_once().install(held_callback).unwrap();
    ready_for_ever();
}

fn who_had_the_signal_before_its_old_handler_ran_does_not_decide() {
    let lines = ["first", "old", "ready", "callback begins", "callback ends"];
    for repeats in [false, true] {
        let mut victim = Victim::ready(first_had_the_signal_before_its_old_handler_ran);
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        if repeats {
            sleep(SECOND_WISH);
            victim.send(Signal::TERM);
            victim.at_rest();
        }
        victim.tell("go on");
        victim.end().said(&lines).died_by(Signal::TERM);
    }
}

// --------------------------------------------------------------------------------------- who is oldest

fn oldest_has_ended_before() {
    let oldest = guard("oldest", unlimited());
    let _younger = guard("younger", at_once().ending(Ending::Code(7)));
    let _youngest = guard("youngest", unlimited());
    drop(oldest);
    ready_for_ever();
}

fn a_younger_guard_decides_once_it_is_the_oldest_left() {
    let victim = Victim::ready(oldest_has_ended_before);
    victim.send(Signal::TERM);
    let end = victim.end();
    let younger = ["youngest", "younger"];
    let callbacks = younger.map(|name| on_watcher(name, Signal::TERM));
    let oldest = ends_on_main("oldest");
    said(&end, &[&oldest, &line("ready"), &callbacks, &younger.map(deferred)]).exited(7);
}

fn oldest_guards_another_signal() {
    let _oldest = guard("oldest", unlimited().signals([Signal::INT]));
    let _younger = guard("younger", at_once().ending(Ending::Code(7)));
    let _youngest = guard("youngest", unlimited());
    ready_for_ever();
}

fn who_does_not_guard_the_signal_does_not_decide() {
    let victim = Victim::ready(oldest_guards_another_signal);
    victim.send(Signal::TERM);
    let end = victim.end();
    let younger = ["youngest", "younger"];
    let callbacks = younger.map(|name| on_watcher(name, Signal::TERM));
    let oldest = [on_watcher("oldest", Signal::TERM), deferred("oldest")];
    said(&end, &[&line("ready"), &callbacks, &younger.map(deferred), &oldest]).exited(7);
}

/// The scope of the guard that decides ends in time, and the end of the process runs the others.
fn ends_behind_the_scope_of_the_oldest() {
    let oldest = guard("oldest", unlimited().after_scope(AfterScope::End));
    let _younger = guard("younger", at_once());
    let _other = guard("other", at_once().signals([Signal::HUP]));
    say("ready");
    oldest.wait();
    drop(oldest);
    unreachable!();
}

fn an_end_behind_the_scope_runs_all_that_still_live() {
    let victim = Victim::ready(ends_behind_the_scope_of_the_oldest);
    victim.send(Signal::TERM);
    let end = victim.end();
    let by_signal = ["younger", "oldest"].map(|name| on_watcher(name, Signal::TERM));
    said_among(&end, &by_signal);
    said_among(&end, &["other on main: SIGTERM".into(), deferred("other"), deferred("younger")]);
    assert_eq!(end.count(&deferred("oldest")), 1, "{end:#?}");
    assert_eq!(end.lines.len(), 7, "{end:#?}");
    end.died_by(Signal::TERM);
}

/// The same with a younger guard that decides, because only it has the signal.
fn ends_behind_the_scope_of_a_younger() {
    let _oldest = guard("oldest", at_once());
    let hup = unlimited().signals([Signal::HUP]).after_scope(AfterScope::End);
    let younger = guard("younger", hup.ending(Ending::Code(4)));
    let _youngest = guard("youngest", at_once());
    say("ready");
    younger.wait();
    drop(younger);
    unreachable!();
}

fn an_end_behind_the_scope_of_a_younger_runs_all_that_still_live() {
    let victim = Victim::ready(ends_behind_the_scope_of_a_younger);
    victim.send(Signal::HUP);
    let end = victim.end();
    let others = |name: &str| [format!("{name} on main: SIGHUP"), deferred(name)];
    let younger = [on_watcher("younger", Signal::HUP), deferred("younger")];
    said(&end, &[&line("ready"), &younger, &others("youngest"), &others("oldest")]).exited(4);
}

/// The signal comes when the younger one's scope has begun to end: it is the other's.
fn signalled_while_the_younger_ends() {
    let oldest = guard("oldest", unlimited());
    let younger = guard("younger", at_once());
    younger.defer(|| raise(Signal::TERM)).unwrap();
    assert_eq!(younger.finish().signal(), None);
    say(short(&oldest.wait()));
    drop(oldest);
    say("behind");
}

fn a_signal_that_comes_while_a_younger_guard_ends_is_the_others() {
    let end = Victim::start(signalled_while_the_younger_ends).end();
    end.exited(0);
    let [begins, younger_ends] = ends_on_main("younger");
    said_among(&end, &[begins, younger_ends]);
    said_among(&end, &[on_watcher("oldest", Signal::TERM), deferred("oldest"), "behind".into()]);
    assert_eq!((end.count("SIGTERM"), end.lines.len()), (1, 6), "{end:#?}");
}

/// The callback of the older one runs on main, because its scope ends, when the signal comes.
fn signalled_while_the_oldest_ends() {
    let oldest = HandleExit::append(held_callback).unwrap();
    oldest.defer(|| say(deferred("oldest"))).unwrap();
    let _younger = guard("younger", at_once());
    drop(oldest);
    park();
}

/// The younger one decides by then, and its decision waits for the callback that runs.
fn a_signal_that_comes_while_the_oldest_ends_does_not_cut_its_callback() {
    let mut victim = Victim::start(signalled_while_the_oldest_ends);
    victim.expect("callback begins");
    victim.send(Signal::TERM);
    victim.expect(&on_watcher("younger", Signal::TERM));
    victim.has_looked();
    victim.tell("go on");
    let end = victim.end();
    said_among(&end, &["callback ends".into(), deferred("oldest")]);
    assert_eq!((end.count(&deferred("younger")), end.lines.len()), (1, 5), "{end:#?}");
    end.died_by(Signal::TERM);
}

/// What the oldest defers runs on main when the signal comes again.
fn signalled_again_while_the_oldest_ends() {
    let oldest = unlimited().install(|| {}).unwrap();
    oldest.defer(held_callback).unwrap();
    let _younger = guard("younger", if told() { at_once() } else { unlimited() });
    say("ready");
    oldest.wait();
    drop(oldest);
    park();
}

/// As the first one that it decides about: a second wish would leave it no time.
fn a_second_signal_while_the_oldest_ends_is_decided_by_the_younger() {
    for ends_at_once in [true, false] {
        let mut victim = Victim::ready(signalled_again_while_the_oldest_ends.told(ends_at_once));
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
        if ends_at_once {
            victim.expect(&deferred("younger"));
            victim.tell("go on");
            victim.end().ended_with("callback ends").died_by(Signal::TERM);
        } else {
            victim.at_rest();
            victim.tell("go on");
            victim.expect("callback ends");
            victim.at_rest();
            victim.send(Signal::KILL);
            victim.end().died_by(Signal::KILL);
        }
    }
}

fn younger_is_requested() {
    let oldest = guard("oldest", at_once());
    let younger = guard("younger", unlimited());
    younger.request();
    assert_eq!(younger.wait(), Cause::Requested);
    assert_eq!((oldest.is_exiting(), oldest.cause()), (false, None));
    ready_for_ever();
}

fn a_request_is_of_one_guard_and_a_signal_after_it_of_all() {
    let mut victim = Victim::start(younger_is_requested);
    let requested = "younger on handle-exit: requested by the program".to_owned();
    // `ready` and the callback come in either order.
    victim.expect_both(&requested, "ready");
    victim.at_rest();
    victim.send(Signal::TERM);
    let end = victim.end();
    said_among(&end, &[requested, on_watcher("oldest", Signal::TERM)]);
    said_among(&end, &["younger", "oldest"].map(deferred));
    assert_eq!(end.lines.len(), 5, "{end:#?}");
    end.died_by(Signal::TERM);
}

// --------------------------------------------------------- a younger guard that outlives the oldest one

/// Long enough for a scope that ends at once, also on a machine that is busy.
const GRACE: Duration = Duration::from_secs(2);

/// A guard on another thread, which ends when told.
fn guard_elsewhere(end: Receiver<()>) -> (thread::JoinHandle<()>, handle_exit::Exit) {
    let (made, is_made) = channel();
    let thread = thread::spawn(move || {
        let inner = guard("inner", at_once().ending(Ending::Code(9)));
        made.send(inner.handle()).unwrap();
        // Fails where the process ends meanwhile.
        let _ = end.recv();
        drop(inner);
        say("inner gone");
    });
    (thread, is_made.recv().unwrap())
}

fn younger_outlives_the_oldest() {
    let outer = guard("outer", continues().grace(GRACE));
    let (end, ends) = channel();
    let (thread, inner) = guard_elsewhere(ends);
    say("ready");
    outer.wait();
    drop(outer);
    say("outer gone");
    assert_eq!(short(&inner.wait()), "SIGTERM");
    hear();
    end.send(()).unwrap();
    thread.join().unwrap();
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
    say("behind");
}

/// Up to the end of the outer scope. Also when the signal was sent that ended it.
fn outer_has_ended() -> (Victim, Vec<String>, Instant) {
    let mut victim = Victim::ready(younger_outlives_the_oldest);
    let first = Instant::now();
    victim.send(Signal::TERM);
    victim.expect("outer gone");
    let callbacks = ["inner", "outer"].map(|name| on_watcher(name, Signal::TERM));
    let so_far = [&line("ready")[..], &callbacks, &[deferred("outer"), "outer gone".into()]];
    (victim, so_far.concat(), first)
}

fn the_signal_is_answered_when_the_oldest_has_ended_however_long_a_younger_lives() {
    let (mut victim, so_far, _) = outer_has_ended();
    // Time is under test: nothing may end the process when the grace is over.
    sleep(GRACE + Duration::from_millis(500));
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let inner = [deferred("inner"), "inner gone".into(), "behind".into()];
    said(&end, &[&so_far, &inner]).exited(0);
}

fn a_second_signal_is_decided_by_the_guard_that_is_oldest_by_then() {
    for (signal, wait) in [(Signal::TERM, SECOND_WISH), (Signal::INT, Duration::ZERO)] {
        let (victim, so_far, _) = outer_has_ended();
        sleep(wait);
        victim.send(signal);
        let end = victim.end();
        said(&end, &[&so_far, &[deferred("inner")]]).exited(9);
    }
}

fn a_quick_repeat_of_an_answered_signal_is_the_same_event() {
    let begun = Instant::now();
    loop {
        let (mut victim, so_far, first) = outer_has_ended();
        victim.send(Signal::TERM);
        // The trial counts if it was quick; one that was not may have ended the process.
        if victim.rests() && first.elapsed() < Duration::from_millis(450) {
            victim.tell("go on");
            let end = victim.end();
            let inner = [deferred("inner"), "inner gone".into(), "behind".into()];
            said(&end, &[&so_far, &inner]).exited(0);
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "this machine is too slow for a quick repeat");
    }
}

/// The signal is answered, and the callback of the newest guard runs for another cause when it comes again.
fn answered_before_the_callback_of_another() {
    let outer = guard("outer", unlimited());
    // It decides as soon as the outer one is gone.
    let _middle = at_once().repeat(Repeat::Force).install(|| {}).unwrap();
    say("ready");
    outer.wait();
    drop(outer);
    let inner = beside().install(held_callback).unwrap();
    inner.request();
    park();
}

/// Nor does its quick repeat.
fn a_signal_after_an_answered_one_cuts_no_callback() {
    let begun = Instant::now();
    loop {
        let mut victim = Victim::ready(answered_before_the_callback_of_another);
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        sleep(SECOND_WISH);
        let first = Instant::now();
        for _ in 0..2 {
            victim.send(Signal::TERM);
            until("it is delivered", || !victim.has_pending(Signal::TERM));
        }
        // Between the two deliveries lies less time than this. The trial counts if that was quick.
        if first.elapsed() < Duration::from_millis(450) {
            victim.at_rest();
            victim.tell("go on");
            victim.end().ended_with("callback ends").died_by(Signal::TERM);
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "this machine is too slow for a quick repeat");
    }
}

/// A repeat comes before the signal is answered, and the scope of another guard lives on.
fn absorbed_before_it_is_answered() {
    let outer = guard("outer", unlimited().repeat(Repeat::Absorb));
    let inner = guard("inner", unlimited());
    say("ready");
    hear();
    drop(outer);
    // Hears of the next signal alone, whose exit it is made before.
    let newest = guard("newest", beside());
    say("answered");
    hear();
    drop(newest);
    drop(inner);
    say("behind");
}

fn a_repeat_before_the_answer_is_none_of_the_next_signal() {
    let mut victim = Victim::ready(absorbed_before_it_is_answered);
    victim.send(Signal::TERM);
    victim.expect(&on_watcher("outer", Signal::TERM));
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim.at_rest();
    victim.tell("go on");
    victim.expect("answered");
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim.expect(&on_watcher("newest", Signal::TERM));
    victim.at_rest();
    victim.tell("go on");
    victim.end().ended_with("behind").exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    the_grace_is_that_of_the_oldest,
    what_follows_the_scope_is_said_by_the_oldest,
    the_ending_is_that_of_the_oldest,
    what_a_repeat_does_is_said_by_the_oldest,
    where_there_is_an_old_handler_it_decides_and_for_other_signals_the_oldest,
    a_repeat_cuts_no_callback_where_there_is_an_old_handler,
    who_had_the_signal_before_its_old_handler_ran_does_not_decide,
    a_younger_guard_decides_once_it_is_the_oldest_left,
    who_does_not_guard_the_signal_does_not_decide,
    an_end_behind_the_scope_runs_all_that_still_live,
    an_end_behind_the_scope_of_a_younger_runs_all_that_still_live,
    a_signal_that_comes_while_a_younger_guard_ends_is_the_others,
    a_signal_that_comes_while_the_oldest_ends_does_not_cut_its_callback,
    a_second_signal_while_the_oldest_ends_is_decided_by_the_younger,
    a_request_is_of_one_guard_and_a_signal_after_it_of_all,
    the_signal_is_answered_when_the_oldest_has_ended_however_long_a_younger_lives,
    a_second_signal_is_decided_by_the_guard_that_is_oldest_by_then,
    a_quick_repeat_of_an_answered_signal_is_the_same_event,
    a_signal_after_an_answered_one_cuts_no_callback,
    a_repeat_before_the_answer_is_none_of_the_next_signal,
];
