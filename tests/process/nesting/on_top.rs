//! A foreign handler that came on top of the guard's own before a guest was made: the guest hears the signal, and the
//! foreign handler decides.

use std::thread;
use std::time::Duration;

use super::*;
use handle_exit::{Ending, Error};

/// A guard that would end the process at once.
fn deadly(settings: Builder) -> Builder {
    settings.cleanup().ending(Ending::Code(7))
}

/// Drops guards in an order that is told: places, as digits.
fn drop_in_order(guards: Vec<HandleExit>, order: &str) {
    let mut guards: Vec<_> = guards.into_iter().map(Some).collect();
    for (turn, place) in order.bytes().enumerate() {
        let guard = guards[usize::from(place - b'0')].take().unwrap();
        // Also on a thread that has made none of them.
        if turn == 0 {
            thread::spawn(move || drop(guard)).join().unwrap();
        } else {
            drop(guard);
        }
        let alive = guards.iter().flatten().count();
        assert_eq!(is_default(Signal::INT), alive == 0, "{alive}");
        say("one gone");
    }
}

/// A handler that replaces what is there, and calls nothing.
fn replaced_above(older: Builder) {
    let older = guard("older", older);
    install_old(Signal::TERM);
    let foreign = disposition(Signal::TERM);
    let guest = guard("guest", deadly(beside()));
    say("ready");
    hear();
    drop_in_order(vec![older, guest], &told::<String>());
    assert_eq!(disposition(Signal::TERM), foreign);
    // It is alone now.
    raise(Signal::TERM);
    say("behind");
}

fn replaced_above_a_host() {
    replaced_above(deadly(host()));
}

fn replaced_above_a_guest() {
    replaced_above(deadly(beside()));
}

fn a_guest_hears_a_signal_whose_handler_came_on_top_of_an_older_guard() {
    for scenario in scenarios![replaced_above_a_host, replaced_above_a_guest] {
        for order in ["01", "10"] {
            let mut victim = Victim::ready(scenario.told(order));
            victim.send(Signal::TERM);
            victim.expect("old");
            victim.at_rest();
            victim.tell("go on");
            let end = victim.end();
            // It decides: nobody's settings mean anything.
            let callbacks = ["guest", "older"].map(|name| on_watcher(name, Signal::TERM));
            let ends = order.bytes().flat_map(|place| {
                [deferred(["older", "guest"][usize::from(place - b'0')]), "one gone".into()]
            });
            let ends: Vec<_> = ends.collect();
            said(
                &end,
                &[&line("ready"), &callbacks, &line("old"), &ends, &line("old"), &line("behind")],
            )
            .exited(0);
        }
    }
}

/// The other signal of the guards has no foreign handler.
fn another_signal_is_decided_as_if_there_were_none() {
    for (scenario, code) in [
        (Scenario::of(|| replaced_above(host().cleanup().ending(Ending::Code(9)))), 9),
        (Scenario::of(replaced_above_a_guest), 7),
    ] {
        let victim = Victim::ready(scenario.told("01"));
        victim.send(Signal::INT);
        let end = victim.end();
        let callbacks = ["guest", "older"].map(|name| on_watcher(name, Signal::INT));
        said(&end, &[&line("ready"), &callbacks, &["guest", "older"].map(deferred)]).exited(code);
    }
}

/// Handlers that chain came between three guards.
fn chained_above() {
    let first = guard("first", deadly(host()));
    put_on_top(0);
    let second = guard("second", deadly(beside()));
    put_on_top(1);
    let foreign = disposition(Signal::TERM);
    let third = guard("third", deadly(beside()));
    say("ready");
    hear();
    drop_in_order(vec![first, second, third], &told::<String>());
    assert_eq!(disposition(Signal::TERM), foreign);
    say("behind");
}

fn guests_over_chains_hear_the_signal_and_each_handler_runs_once() {
    for order in ["012", "021", "102", "120", "201", "210"] {
        let mut victim = Victim::ready(chained_above.told(order));
        victim.send(Signal::TERM);
        victim.expect("foreign 0");
        victim.at_rest();
        victim.tell("go on");
        let end = victim.end();
        let callbacks = ["third", "second", "first"].map(|name| on_watcher(name, Signal::TERM));
        let chain = ["foreign 1", "foreign 0"].map(String::from);
        let ends = order.bytes().flat_map(|place| {
            let name = ["first", "second", "third"][usize::from(place - b'0')];
            [deferred(name), "one gone".into()]
        });
        let ends: Vec<_> = ends.collect();
        said(&end, &[&line("ready"), &callbacks, &chain, &ends, &line("behind")]).exited(0);
    }
}

/// The older guard hears what the guest would have heard, from the kernel or through the foreign handler.
fn guest_has_gone_again() {
    let older = guard("older", host().grace(Duration::MAX));
    put_on_top(0);
    let foreign = disposition(Signal::TERM);
    drop(guard("guest", beside()));
    say("ready");
    hear();
    drop(older);
    assert_eq!(disposition(Signal::TERM), foreign);
    say("behind");
}

fn the_older_guard_hears_the_signal_when_the_guest_has_gone() {
    let mut victim = Victim::ready(guest_has_gone_again);
    victim.send(Signal::TERM);
    victim.expect_both("foreign 0", &on_watcher("older", Signal::TERM));
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    end.ended_with("behind").exited(0);
    assert_eq!(end.count("foreign 0"), 1, "{end:#?}");
}

/// Every disposition is right whatever ends first, without a signal.
fn dispositions_are_right_after_each_order_of_dropping() {
    for older_is_host in [true, false] {
        for guest_ends_first in [true, false] {
            let before = all_dispositions();
            let older = if older_is_host { host() } else { beside() };
            let older = older.install(|| {}).unwrap();
            install_old(Signal::TERM);
            let buried = all_dispositions();
            let guest = beside().also([Signal::HUP]).install(|| {}).unwrap();
            assert_ne!(disposition(Signal::TERM), buried_of(&buried, Signal::TERM));
            let threads_with_guards = threads();
            let (one, other) = if guest_ends_first { (guest, older) } else { (older, guest) };
            drop(one);
            assert_eq!(is_default(Signal::HUP), guest_ends_first);
            assert!(!is_default(Signal::INT));
            // One that was joined before may have been listed for a moment longer.
            assert!(threads().iter().all(|thread| threads_with_guards.contains(thread)));
            drop(other);
            // All is as before, but for what somebody else has installed.
            let foreign = buried_of(&buried, Signal::TERM);
            for (signal, disposition) in all_dispositions() {
                let is_foreign = signal == Signal::TERM;
                let expected = if is_foreign { foreign } else { buried_of(&before, signal) };
                assert_eq!(disposition, expected, "{signal}, {older_is_host}, {guest_ends_first}");
            }
            install_exactly(Signal::TERM, nix::libc::SIG_DFL, 0, &[]);
        }
    }
}

fn buried_of(all: &[(Signal, Disposition)], signal: Signal) -> Disposition {
    all.iter().find(|(of, _)| *of == signal).unwrap().1
}

/// As any foreign handler is.
fn a_handler_on_top_of_a_guest_is_refused_by_a_host() {
    let guest = beside().grace(Duration::MAX).install(|| {}).unwrap();
    install_old(Signal::TERM);
    let foreign = disposition(Signal::TERM);
    let before = all_dispositions();
    let refused = |made| match made {
        Err(Error::HandlerExists { signal: Signal::TERM, holder, .. }) => {
            assert_eq!(holder.address(), foreign.0);
        }
        other => panic!("{other:?}"),
    };
    let refuse_all = || {
        refused(HandleExit::new(|| unreachable!()));
        refused(HandleExit::cleanup(|| unreachable!()));
    };
    refuse_all();
    assert_eq!(all_dispositions(), before);
    assert!(!guest.is_exiting());
    // Nor where another guest has come over it since.
    let second = HandleExit::append(|| {}).unwrap();
    let with_second = all_dispositions();
    refuse_all();
    assert_eq!(all_dispositions(), with_second);
    // The other signal is free.
    drop(host().signals([Signal::INT]).install(|| {}).unwrap());
    drop(second);
    drop(guest);
    assert_eq!(disposition(Signal::TERM), foreign);
}

extern "C" fn other(_: std::ffi::c_int) {
    say_in_handler("other\n");
}

/// Two handlers that call nobody take turns: each of these guards is over one of them, and the first one is on top.
fn guards_over_handlers_that_take_turns() -> [HandleExit; 2] {
    install_old(Signal::TERM);
    let first = guard("first", continues());
    install(Signal::TERM, other);
    let second = guard("second", continues());
    install_old(Signal::TERM);
    [first, second]
}

/// One of the handlers is below two guards that are not neighbours.
fn handlers_take_turns() {
    let [first, second] = guards_over_handlers_that_take_turns();
    let foreign = disposition(Signal::TERM);
    drop(guard("passing", continues()));
    assert_eq!(disposition(Signal::TERM), foreign);
    raise(Signal::TERM);
    say("raised");
    let third = guard("third", continues());
    drop_in_order(vec![first, second, third], &told::<String>());
    assert_eq!(disposition(Signal::TERM), foreign);
    raise(Signal::TERM);
    say("behind");
}

fn handlers_that_take_turns_keep_their_place() {
    for order in ["012", "021", "102", "120", "201", "210"] {
        let end = Victim::start(handlers_take_turns.told(order)).end();
        end.ended_with("behind").exited(0);
        assert_eq!((end.count("old"), end.count("other")), (2, 0), "{order}: {end:#?}");
    }
}

/// The newest guard has a lower level than an older one: the one that was over this very handler before.
fn newest_has_a_level_that_came_free() {
    let [first, _second] = guards_over_handlers_that_take_turns();
    let foreign = disposition(Signal::TERM);
    drop(first);
    drop(guard("third", continues()));
    assert_eq!(disposition(Signal::TERM), foreign);
    say("behind");
}

fn a_handler_is_restored_though_an_older_guard_has_a_higher_level() {
    Victim::start(newest_has_a_level_that_came_free)
        .end()
        .ended_with("second's deferred")
        .exited(0);
}

/// Each of the living guards has a level of its own.
fn newer_guards_have_levels_of_their_own() {
    let [first, _second] = guards_over_handlers_that_take_turns();
    drop(first);
    let _third = guard("third", continues());
    put_on_top(0);
    let foreign = disposition(Signal::TERM);
    drop(guard("fourth", continues()));
    assert_eq!(disposition(Signal::TERM), foreign);
    say("behind");
}

fn a_handler_is_restored_under_which_an_older_guard_has_a_lower_level() {
    Victim::start(newer_guards_have_levels_of_their_own).end().exited(0);
}

/// A foreign handler restores what it has displaced, which is the host's, though a guest is over it.
fn foreign_handler_goes_under_a_guest() {
    let _host = guard("host", host().cleanup());
    put_on_top(0);
    let _guest = guard("guest", continues());
    take_away(0);
    raise(Signal::TERM);
    park();
}

fn a_foreign_handler_that_goes_under_a_guest_takes_no_signal_with_it() {
    let end = Victim::start(foreign_handler_goes_under_a_guest).end();
    for name in ["host", "guest"] {
        assert_eq!(end.count(&on_watcher(name, Signal::TERM)), 1, "{end:#?}");
    }
}

/// A foreign handler was there while a guest came, and is gone; then another guest comes.
fn guests_of_a_foreign_handler_that_has_gone(order: &str) -> Vec<HandleExit> {
    let mut guards = vec![Some(guard("host", deadly(host())))];
    put_on_top(0);
    guards.push(Some(guard("guest", deadly(beside()))));
    take_away(0);
    guards.push(Some(guard("late", deadly(beside()))));
    for place in order.bytes() {
        drop(guards[usize::from(place - b'0')].take());
    }
    guards.into_iter().flatten().collect()
}

fn one_is_left_where_a_handler_has_gone() {
    let _one = guests_of_a_foreign_handler_that_has_gone(&told::<String>());
    raise(Signal::TERM);
    park();
}

fn none_is_left_where_a_handler_has_gone() {
    drop(guests_of_a_foreign_handler_that_has_gone(&told::<String>()));
    assert!(is_default(Signal::TERM));
    raise(Signal::TERM);
}

fn each_guard_hears_the_signal_after_a_foreign_handler_has_gone_and_it_is_restored() {
    for (left, name) in ["host", "guest", "late"].into_iter().enumerate() {
        let others: Vec<usize> = (0..3).filter(|place| *place != left).collect();
        for order in [[others[0], others[1], left], [others[1], others[0], left]] {
            let order: String = order.map(|place| place.to_string()).concat();
            let start = one_is_left_where_a_handler_has_gone.told(&order[..2]);
            let end = Victim::start(start).end();
            assert_eq!(end.count(&on_watcher(name, Signal::TERM)), 1, "{order}: {end:#?}");
            assert_eq!(end.count(&deferred(name)), 1, "{order}: {end:#?}");
            end.exited(7);
            let start = none_is_left_where_a_handler_has_gone.told(&order);
            Victim::start(start).end().died_by(Signal::TERM);
        }
    }
}

/// A foreign handler that calls nothing, and is gone again, while a guest that was made meanwhile lives.
fn handler_that_calls_nothing_goes_under_a_guest() {
    let _host = guard("host", host().cleanup());
    let (displaced, ..) = disposition(Signal::TERM);
    install_old(Signal::TERM);
    let _guest = guard("guest", continues());
    install_exactly(Signal::TERM, displaced, nix::libc::SA_SIGINFO, &[]);
    raise(Signal::TERM);
    park();
}

fn a_foreign_handler_that_has_gone_decides_nothing() {
    let end = Victim::start(handler_that_calls_nothing_goes_under_a_guest).end();
    let callbacks = ["guest", "host"].map(|name| on_watcher(name, Signal::TERM));
    said(&end, &[&callbacks, &["guest", "host"].map(deferred)]).died_by(Signal::TERM);
}

pub(crate) const TESTS: &[Named] = tests![
    each_guard_hears_the_signal_after_a_foreign_handler_has_gone_and_it_is_restored,
    a_foreign_handler_that_has_gone_decides_nothing,
    handlers_that_take_turns_keep_their_place,
    a_handler_is_restored_under_which_an_older_guard_has_a_lower_level,
    a_foreign_handler_that_goes_under_a_guest_takes_no_signal_with_it,
    a_handler_is_restored_though_an_older_guard_has_a_higher_level,
    a_guest_hears_a_signal_whose_handler_came_on_top_of_an_older_guard,
    another_signal_is_decided_as_if_there_were_none,
    guests_over_chains_hear_the_signal_and_each_handler_runs_once,
    the_older_guard_hears_the_signal_when_the_guest_has_gone;
    alone:
    dispositions_are_right_after_each_order_of_dropping,
    a_handler_on_top_of_a_guest_is_refused_by_a_host,
];
