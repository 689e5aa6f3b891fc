//! Whose callback runs, in which order, however the process ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::*;
use handle_exit::{AfterScope, Ending, OldHandler};

const NAMES: [&str; 3] = ["first", "second", "third"];

/// So many guards, the oldest of which gives the scope no time.
fn guards(number: usize) -> Vec<HandleExit> {
    let settings = |name| if name == NAMES[0] { beside().grace(Duration::ZERO) } else { beside() };
    NAMES.into_iter().take(number).map(|name| guard(name, settings(name))).collect()
}

/// A guard whose callback says so and panics.
fn panicking(name: &'static str) -> HandleExit {
    let callback = move || {
        say(format!("{name} panics"));
        panic!("in the callback of {name}");
    };
    let guard = HandleExit::append(callback).unwrap();
    guard.defer(move || say(deferred(name))).unwrap();
    guard
}

/// What guards say that the end of the process ends: newest first, each with its deferred functions.
fn each_ends(thread: &str, cause: &str, names: &[&str]) -> Vec<String> {
    let ends = |name: &&str| [format!("{name} on {thread}: {cause}"), deferred(name)];
    names.iter().flat_map(ends).collect()
}

// -------------------------------------------------------------------------------- a signal for all

fn parked_under_guards() {
    let _guards = guards(told());
    ready_for_ever();
}

fn a_signal_runs_the_callbacks_newest_first_and_then_what_was_deferred() {
    for number in [1, 2, 3] {
        let newest_first = || NAMES[..number].iter().rev();
        let victim = Victim::ready(parked_under_guards.told(number));
        victim.send(Signal::TERM);
        let end = victim.end();
        let callbacks: Vec<_> = newest_first().map(|name| on_watcher(name, Signal::TERM)).collect();
        let deferred: Vec<_> = newest_first().map(|name| deferred(name)).collect();
        said(&end, &[&line("ready"), &callbacks, &deferred]).died_by(Signal::TERM);
    }
}

fn held_under_a_second() {
    let _first = guard("first", beside().grace(Duration::ZERO));
    let _second = HandleExit::append(held_callback).unwrap();
    let _third = guard("third", beside());
    ready_for_ever();
}

/// The callback of the second is held: nothing of the first runs beside it, and repeats run nothing twice.
fn callbacks_run_one_after_the_other_and_each_once() {
    let mut victim = Victim::ready(held_under_a_second);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    for _ in 0..5 {
        victim.send(Signal::TERM);
    }
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let before =
        [on_watcher("third", Signal::TERM), "callback begins".into(), "callback ends".into()];
    let after = [on_watcher("first", Signal::TERM), deferred("third"), deferred("first")];
    said(&end, &[&line("ready"), &before, &after]).died_by(Signal::TERM);
}

// ------------------------------------------------------------------------- a signal that one guards

fn parked_with_hup_for_the_second() {
    let _first = guard("first", beside());
    let _second = guard("second", beside().signals([Signal::HUP]).grace(Duration::ZERO));
    let _third = guard("third", beside());
    ready_for_ever();
}

fn hup_that_one_guards_is_answered() {
    let first = guard("first", beside().grace(Duration::ZERO));
    let second = guard("second", continues().signals([Signal::HUP]).grace(Duration::MAX));
    let third = guard("third", beside());
    say("ready");
    assert_eq!(short(&second.wait()), "SIGHUP");
    drop(second);
    for other in [&first, &third] {
        assert!(!other.is_exiting());
        assert_eq!(other.cause(), None);
    }
    assert!(is_default(Signal::HUP) && !is_default(Signal::TERM));
    say("goes on");
    drop(third);
    drop(first);
}

fn a_signal_that_one_guards_is_nothing_to_the_others() {
    let victim = Victim::ready(hup_that_one_guards_is_answered);
    victim.send(Signal::HUP);
    let second = [on_watcher("second", Signal::HUP), deferred("second")];
    let [first, third] = ["first", "third"].map(ends_on_main);
    let end = victim.end();
    said(&end, &[&line("ready"), &second, &line("goes on"), &third, &first]).exited(0);
}

fn before_a_signal_that_one_guards_ends_the_process_the_others_run_newest_first() {
    let victim = Victim::ready(parked_with_hup_for_the_second);
    victim.send(Signal::HUP);
    let end = victim.end();
    let [first, third] =
        ["first", "third"].map(|name| [on_watcher(name, Signal::HUP), deferred(name)]);
    let second = on_watcher("second", Signal::HUP);
    said(&end, &[&line("ready"), &[second], &third, &[deferred("second")], &first])
        .died_by(Signal::HUP);
}

fn two_with_different_signals() {
    let settings = |signals: [Signal; 2]| continues().signals(signals).grace(Duration::MAX);
    let outer = guard("outer", settings([Signal::TERM, Signal::INT]));
    let inner = guard("inner", settings([Signal::INT, Signal::HUP]));
    say("ready");
    hear();
    say(format!("{} {}", outer.is_exiting(), inner.is_exiting()));
    drop(inner);
    assert!(is_default(Signal::HUP) && !is_default(Signal::INT) && !is_default(Signal::TERM));
    drop(outer);
    assert!(is_default(Signal::INT) && is_default(Signal::TERM));
    say("behind");
}

fn each_guard_hears_its_own_signals() {
    let [outer, inner] = ["outer", "inner"].map(ends_on_main);
    let [outer_deferred, inner_deferred] = ["outer", "inner"].map(|name| [deferred(name)]);
    let by = |name, signal| [on_watcher(name, signal)];
    for (signal, expected) in [
        (
            Signal::TERM,
            lines(&[&by("outer", Signal::TERM), &line("true false"), &inner, &outer_deferred]),
        ),
        (
            Signal::HUP,
            lines(&[&by("inner", Signal::HUP), &line("false true"), &inner_deferred, &outer]),
        ),
        (
            Signal::INT,
            lines(&[
                &by("inner", Signal::INT),
                &by("outer", Signal::INT),
                &line("true true"),
                &inner_deferred,
                &outer_deferred,
            ]),
        ),
    ] {
        let mut victim = Victim::ready(two_with_different_signals.named(signal));
        victim.send(signal);
        victim.expect(&expected[0]);
        victim.at_rest();
        victim.tell("go on");
        said(&victim.end(), &[&line("ready"), &expected, &line("behind")]).exited(0);
    }
}

// --------------------------------------------------------------------------- a handler below them all

fn over_a_foreign_handler() {
    install_old(Signal::TERM);
    let before = disposition(Signal::TERM);
    // The handler decides: these mean nothing.
    let settings = || beside().grace(Duration::ZERO).after_scope(AfterScope::End);
    let first = guard("first", settings());
    let second = guard("second", settings());
    say("ready");
    hear();
    // The signal is the handler's own from then on.
    assert_eq!(disposition(Signal::TERM), before);
    let third = guard("third", settings());
    assert_ne!(disposition(Signal::TERM), before);
    // It had the signal before the handler ran, and does not count any more.
    drop(second);
    assert_ne!(disposition(Signal::TERM), before);
    say("and again");
    hear();
    drop(third);
    drop(first);
    assert_eq!(disposition(Signal::TERM), before);
    say("behind");
}

fn an_old_handler_runs_once_after_the_callbacks_of_all() {
    let mut victim = Victim::ready(over_a_foreign_handler);
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.at_rest();
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.at_rest();
    victim.tell("go on");
    victim.expect("and again");
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.at_rest();
    victim.tell("go on");
    let [first, second, third] = NAMES.map(|name| on_watcher(name, Signal::TERM));
    let old = || line("old");
    let ended = ["third", "first"].map(deferred);
    let end = victim.end();
    said(
        &end,
        &[
            &line("ready"),
            &[second, first],
            &old(),
            &old(),
            &[deferred("second")],
            &line("and again"),
            &[third],
            &old(),
            &ended,
            &line("behind"),
        ],
    )
    .exited(0);
}

/// `OldHandler::Always` without a signal.
fn always_dropped_in_either_order() {
    install_old(Signal::TERM);
    install_old(Signal::INT);
    let before = [Signal::TERM, Signal::INT].map(disposition);
    for oldest_first in [false, true] {
        let always = || beside().old_handler(OldHandler::Always);
        let first = guard("first", always());
        let second = guard("second", always());
        let (one, other) = if oldest_first { (first, second) } else { (second, first) };
        drop(one);
        assert_ne!(disposition(Signal::TERM), before[0]);
        say("one left");
        drop(other);
        assert_eq!([Signal::TERM, Signal::INT].map(disposition), before);
    }
    // Only the oldest wants it.
    let first = guard("first", beside().old_handler(OldHandler::Always));
    drop(guard("second", beside()));
    say("one left");
    drop(first);
}

fn old_handlers_that_always_run_do_so_with_each_guard_that_asks_for_it() {
    let [first, second] = ["first", "second"].map(ends_on_main);
    // After the callback.
    let with_old = |ends: &[String; 2]| [ends[0].clone(), "old".into(), ends[1].clone()];
    let left = line("one left");
    let end = Victim::start(always_dropped_in_either_order).end();
    said(
        &end,
        &[
            &with_old(&second),
            &left,
            &with_old(&first),
            &with_old(&first),
            &left,
            &with_old(&second),
            &second,
            &left,
            &with_old(&first),
        ],
    )
    .exited(0);
}

/// A signal whose last guard ends while others, of other signals, live on.
fn always_with_the_last_guard_of_its_signal() {
    install_old(Signal::HUP);
    let first = guard("first", beside());
    let settings = || beside().signals([Signal::HUP]).old_handler(OldHandler::Always);
    let second = guard("second", settings());
    let third = guard("third", settings());
    drop(second);
    say("one left");
    drop(third);
    say("no HUP left");
    drop(first);
}

fn old_handlers_that_always_run_do_so_with_each_guard_of_their_signal() {
    let [first, second, third] = NAMES.map(ends_on_main);
    let [second, third] =
        [second, third].map(|ends| [ends[0].clone(), "old".into(), ends[1].clone()]);
    let end = Victim::start(always_with_the_last_guard_of_its_signal).end();
    said(&end, &[&second, &line("one left"), &third, &line("no HUP left"), &first]).exited(0);
}

// --------------------------------------------------------------------------------- the process exits

fn process_exit_under_three() {
    let _guards = guards(3);
    std::process::exit(3);
}

fn process_exit_elsewhere_under_three() {
    let _guards = guards(3);
    let exits = thread::Builder::new().name("exiter".into());
    exits.spawn(|| std::process::exit(3)).unwrap().join().unwrap();
}

fn return_with_three_kept() {
    guards(3).into_iter().for_each(HandleExit::keep);
}

fn process_exit_with_a_panic() {
    let _first = guard("first", beside());
    let _second = panicking("second");
    let _third = guard("third", beside());
    std::process::exit(3);
}

fn process_exit_runs_all_newest_first_each_with_what_it_deferred() {
    let newest_first = ["third", "second", "first"];
    for (scenario, thread, code) in [
        (Scenario::of(process_exit_under_three), "main", 3),
        (Scenario::of(process_exit_elsewhere_under_three), "exiter", 3),
        (Scenario::of(return_with_three_kept), "main", 0),
    ] {
        let end = Victim::start(scenario).end();
        said(&end, &[&each_ends(thread, "the process exits", &newest_first)]).exited(code);
    }
}

fn a_panic_in_process_exit_stops_none_of_the_others() {
    let end = Victim::start(process_exit_with_a_panic).end();
    let each = |name| each_ends("main", "the process exits", &[name]);
    let second = ["second panics".into(), deferred("second")];
    said(&end, &[&each("third"), &second, &each("first")]).exited(101);
}

fn requested_in_process_exit() {
    let older = guard("older", beside());
    let handle = older.handle();
    older.keep();
    let callback = move || {
        handle.request();
        say("younger");
    };
    HandleExit::append(callback).unwrap().keep();
    std::process::exit(3);
}

/// The exit of every guard has begun with the process's.
fn a_request_in_process_exit_takes_no_callback_away_from_the_exiting_thread() {
    let end = Victim::start(requested_in_process_exit).end();
    said(&end, &[&line("younger"), &each_ends("main", "the process exits", &["older"])]).exited(3);
}

/// First main waits for a deferred function of the other thread, then that one for a callback that main runs.
fn each_waits_for_the_other_in_turn() {
    let (begins, begun) = channel();
    let older = HandleExit::append(move || {
        say("older begins");
        begins.send(()).unwrap();
        hear();
        say("older ends");
    });
    let older = older.unwrap();
    let younger = HandleExit::append(|| {}).unwrap();
    younger.defer(held_callback).unwrap();
    thread::spawn(move || {
        drop(younger);
        begun.recv().unwrap();
        drop(older);
        say("behind");
    });
    until_held();
    say("main ends");
    std::process::exit(3);
}

/// Each looks after the other again and again: under test is that both go on to wait.
fn a_wait_that_is_over_makes_no_circle() {
    let mut victim = Victim::start(each_waits_for_the_other_in_turn);
    for line in ["main ends", "older begins"] {
        victim.expect(line);
        victim.has_looked();
        thread::sleep(Duration::from_millis(200));
        victim.tell("go on");
    }
    let end = victim.end();
    // Whether the other thread then gets any further is open.
    let lines = ["callback begins", "main ends", "callback ends", "older begins", "older ends"];
    assert_eq!(end.lines[..5], lines, "{end:#?}");
    end.exited(3);
}

fn held_in_process_exit() {
    let first = guard("first", continues().grace(Duration::ZERO).ending(Ending::Code(9)));
    first.keep();
    HandleExit::append(held_callback).unwrap().keep();
    guard("third", beside()).keep();
    say("ready");
    until_held();
    say("main ends");
    std::process::exit(3);
}

/// A signal runs the callbacks, and `process::exit` on main meets them: nothing runs twice.
fn process_exit_waits_for_the_callbacks_that_a_signal_has_begun() {
    let mut victim = Victim::ready(held_in_process_exit);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    victim.expect("main ends");
    victim.has_looked();
    victim.tell("go on");
    let end = victim.end();
    // In time: `process::exit` had begun before the grace was over.
    end.exited(3);
    let callbacks = [
        on_watcher("third", Signal::TERM),
        "callback begins".into(),
        "callback ends".into(),
        on_watcher("first", Signal::TERM),
    ];
    said_among(&end, &callbacks);
    said_among(&end, &["third", "first"].map(deferred));
    assert_eq!(end.lines.len(), 8, "{end:#?}");
}

fn exiting(name: &'static str) -> HandleExit {
    let callback = move || {
        say(format!("{name} exits"));
        std::process::exit(7);
    };
    let guard = HandleExit::append(callback).unwrap();
    guard.defer(move || say(deferred(name))).unwrap();
    guard
}

fn callback_exits_on_a_signal() {
    let _first = guard("first", beside());
    let _second = exiting("second");
    let _third = guard("third", beside());
    ready_for_ever();
}

fn callback_exits_on_drop() {
    let _first = guard("first", beside());
    let second = exiting("second");
    let _third = guard("third", beside());
    drop(second);
    unreachable!();
}

/// The process ends with that code, and before that the others run.
fn exit_in_one_callback_runs_the_others() {
    let victim = Victim::ready(callback_exits_on_a_signal);
    victim.send(Signal::TERM);
    let end = victim.end();
    end.exited(7);
    said_among(&end, &[on_watcher("third", Signal::TERM), "second exits".into()]);
    said_among(&end, &["third", "second", "first"].map(deferred));
    let first = end.lines.iter().filter(|line| line.starts_with("first on handle-exit: "));
    assert_eq!((first.count(), end.lines.len()), (1, 7), "{end:#?}");

    let end = Victim::start(callback_exits_on_drop).end();
    end.exited(7);
    assert_eq!(end.lines[0], "second exits", "{end:#?}");
    said_among(&end, &each_ends("main", "the process exits", &["third", "first"]));
    assert_eq!((end.count(&deferred("second")), end.lines.len()), (1, 6), "{end:#?}");
}

fn aborts_under_three() {
    let _first = guard("first", beside());
    let _second = guard("second", beside().also([Signal::ABRT]));
    let _third = guard("third", beside());
    std::process::abort();
}

fn an_abort_that_one_guards_runs_the_others_before_the_process_dies() {
    let end = Victim::start(aborts_under_three).end();
    let second = [on_watcher("second", Signal::ABRT)];
    let third = [on_watcher("third", Signal::ABRT), deferred("third")];
    let first = [on_watcher("first", Signal::ABRT), deferred("first")];
    said(&end, &[&second, &third, &[deferred("second")], &first]).died_by(Signal::ABRT);
}

fn exits_with_a_signal_under_three() {
    let _first = guard("first", beside().ending(Ending::Code(9)));
    let _second = guard("second", beside().signals([Signal::HUP]));
    let _third = guard("third", beside());
    handle_exit::exit_with_signal(Signal::TERM, || say("body"));
}

fn exit_with_signal_ends_all_as_the_oldest_says() {
    let end = Victim::start(exits_with_a_signal_under_three).end();
    end.exited(9);
    assert_eq!(end.lines[0], "body", "{end:#?}");
    for name in NAMES {
        let callbacks = end.lines.iter().filter(|line| line.starts_with(&format!("{name} on ")));
        assert_eq!((callbacks.count(), end.count(&deferred(name))), (1, 1), "{end:#?}");
    }
    said_among(&end, &["third", "second", "first"].map(deferred));
    assert_eq!(end.lines.len(), 7, "{end:#?}");
}

// -------------------------------------------------------------------------------------------- panics

fn panic_through_three() {
    let _first = guard("first", beside());
    let _second = guard("second", beside());
    {
        let _third = guard("third", beside());
        panic!("on purpose");
    }
}

fn panic_is_caught_between() {
    let first = guard("first", beside());
    let caught = catch_unwind(|| {
        let _second = guard("second", beside());
        panic!("on purpose");
    });
    assert!(caught.is_err());
    assert_eq!((first.is_exiting(), first.cause()), (false, None));
    say("goes on");
}

fn callback_panics_on_drop() {
    let _first = guard("first", beside());
    let second = panicking("second");
    let caught = catch_unwind(AssertUnwindSafe(|| drop(second)));
    std::panic::resume_unwind(caught.unwrap_err());
}

fn callback_panics_on_a_signal() {
    let _first = guard("first", beside());
    let _second = panicking("second");
    let _third = guard("third", beside());
    ready_for_ever();
}

fn a_panic_goes_through_the_guards_from_the_inner_to_the_outer() {
    let end = Victim::start(panic_through_three).end();
    said(&end, &[&each_ends("main", "a panic", &["third", "second", "first"])]).exited(101);

    let end = Victim::start(panic_is_caught_between).end();
    let second = each_ends("main", "a panic", &["second"]);
    said(&end, &[&second, &line("goes on"), &ends_on_main("first")]).exited(0);
}

fn a_panic_of_a_callback_on_drop_is_a_panic_to_the_guards_around_it() {
    let end = Victim::start(callback_panics_on_drop).end();
    let second = ["second panics".into(), deferred("second")];
    said(&end, &[&second, &each_ends("main", "a panic", &["first"])]).exited(101);
}

fn after_a_panic_of_a_callback_on_a_signal_the_others_still_run() {
    let victim = Victim::ready(callback_panics_on_a_signal);
    victim.send(Signal::TERM);
    let end = victim.end();
    let third = on_watcher("third", Signal::TERM);
    said_among(&end, &[third, "second panics".into(), on_watcher("first", Signal::TERM)]);
    said_among(&end, &["third", "second", "first"].map(deferred));
    assert_eq!(end.lines.len(), 7, "{end:#?}");
    end.exited(101);
}

// ------------------------------------------------------------------------------- callback_timeout

fn hangs() {
    say("second hangs");
    park();
}

fn younger_callback_hangs(ends: fn(HandleExit)) {
    let _first = guard("first", beside());
    let second = beside().callback_timeout(SOON_OVER).install(hangs).unwrap();
    second.defer(|| say(deferred("second"))).unwrap();
    let _third = guard("third", beside());
    ends(second);
}

fn younger_hangs_on_a_signal() {
    younger_callback_hangs(|_second| ready_for_ever());
}

fn younger_hangs_on_drop() {
    younger_callback_hangs(drop);
}

fn younger_hangs_in_process_exit() {
    younger_callback_hangs(|_second| std::process::exit(3));
}

/// Every callback has begun once, every deferred function has run, and the process has failed.
#[track_caller]
fn all_have_run_and_it_failed(end: &End) {
    end.exited(101);
    for begins in ["first on ", "second hangs", "third on "] {
        let begun = end.lines.iter().filter(|line| line.starts_with(begins)).count();
        assert_eq!(begun, 1, "{begins}: {end:#?}");
    }
    for name in NAMES {
        assert_eq!(end.count(&deferred(name)), 1, "{name}: {end:#?}");
    }
}

fn after_a_timeout_of_a_younger_callback_on_a_signal_the_others_still_run() {
    let victim = Victim::ready(younger_hangs_on_a_signal);
    victim.send(Signal::TERM);
    all_have_run_and_it_failed(&victim.end());
}

fn after_a_timeout_of_a_younger_callback_without_a_signal_the_others_still_run() {
    all_have_run_and_it_failed(&Victim::start(younger_hangs_on_drop).end());
    all_have_run_and_it_failed(&Victim::start(younger_hangs_in_process_exit).end());
}

/// Two callbacks hang, and each guard has said how long its own may run.
fn both_hang(ends: fn()) {
    let hanging = |name: &'static str| {
        let hangs = move || {
            say(format!("{name} hangs"));
            park();
        };
        let guard = beside().callback_timeout(SOON_OVER).install(hangs).unwrap();
        guard.defer(move || say(deferred(name))).unwrap();
        guard
    };
    let _first = hanging("first");
    let _second = hanging("second");
    ends();
}

fn both_hang_on_a_signal() {
    both_hang(|| ready_for_ever());
}

fn both_hang_in_process_exit() {
    both_hang(|| std::process::exit(3));
}

fn each_callback_that_hangs_has_its_own_timeout() {
    let victim = Victim::ready(both_hang_on_a_signal);
    victim.send(Signal::TERM);
    for end in [victim.end(), Victim::start(both_hang_in_process_exit).end()] {
        end.exited(101);
        said_among(&end, &["second hangs".into(), "first hangs".into()]);
        for name in ["first", "second"] {
            assert_eq!(end.count(&deferred(name)), 1, "{end:#?}");
        }
    }
}

/// The callback of the younger returns when its time is over, and the end of the process is held by the older.
fn returns_when_its_time_is_over() {
    let older = beside().signals([Signal::HUP]).install(|| say("older")).unwrap();
    older.defer(held_callback).unwrap();
    let younger = beside().callback_timeout(TIME_FOR_THE_TEST).install(until_held).unwrap();
    raise(Signal::TERM);
    drop(younger);
    say("behind");
    park();
}

/// In which a deferred function that the test holds is let go, also on a machine that is busy.
const TIME_FOR_THE_TEST: Duration = Duration::from_secs(3);

fn a_callback_that_returns_too_late_lets_nothing_go_on() {
    let mut victim = Victim::start(returns_when_its_time_is_over);
    victim.expect("callback begins");
    victim.at_rest();
    victim.tell("go on");
    victim.end().said(&["older", "callback begins", "callback ends"]).exited(101);
}

fn oldest_has_a_timeout() {
    let _first = guard("first", beside().grace(Duration::ZERO).callback_timeout(SOON_OVER));
    let _second = HandleExit::append(held_callback).unwrap();
    ready_for_ever();
}

fn a_timeout_counts_for_the_callback_of_its_own_guard() {
    let mut victim = Victim::ready(oldest_has_a_timeout);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    // Time is under test: if the timeout of the first counted here, the process would be gone.
    thread::sleep(2 * SOON_OVER);
    victim.tell("go on");
    let end = victim.end();
    let first = [on_watcher("first", Signal::TERM), deferred("first")];
    let held = ["ready", "callback begins", "callback ends"].map(String::from);
    said(&end, &[&held, &first]).died_by(Signal::TERM);
}

pub(crate) const TESTS: &[Named] = tests![
    a_signal_runs_the_callbacks_newest_first_and_then_what_was_deferred,
    callbacks_run_one_after_the_other_and_each_once,
    a_signal_that_one_guards_is_nothing_to_the_others,
    before_a_signal_that_one_guards_ends_the_process_the_others_run_newest_first,
    each_guard_hears_its_own_signals,
    an_old_handler_runs_once_after_the_callbacks_of_all,
    old_handlers_that_always_run_do_so_with_each_guard_that_asks_for_it,
    old_handlers_that_always_run_do_so_with_each_guard_of_their_signal,
    process_exit_runs_all_newest_first_each_with_what_it_deferred,
    a_panic_in_process_exit_stops_none_of_the_others,
    a_request_in_process_exit_takes_no_callback_away_from_the_exiting_thread,
    a_wait_that_is_over_makes_no_circle,
    process_exit_waits_for_the_callbacks_that_a_signal_has_begun,
    exit_in_one_callback_runs_the_others,
    an_abort_that_one_guards_runs_the_others_before_the_process_dies,
    exit_with_signal_ends_all_as_the_oldest_says,
    a_panic_goes_through_the_guards_from_the_inner_to_the_outer,
    a_panic_of_a_callback_on_drop_is_a_panic_to_the_guards_around_it,
    after_a_panic_of_a_callback_on_a_signal_the_others_still_run,
    after_a_timeout_of_a_younger_callback_on_a_signal_the_others_still_run,
    after_a_timeout_of_a_younger_callback_without_a_signal_the_others_still_run,
    each_callback_that_hangs_has_its_own_timeout,
    a_callback_that_returns_too_late_lets_nothing_go_on,
    a_timeout_counts_for_the_callback_of_its_own_guard,
];
