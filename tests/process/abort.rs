//! SIGABRT under guard: an `abort` has the callback run first, bounded, and then the process dies of
//! SIGABRT.

#![allow(unsafe_code, reason = "a signal is sent to one thread")]

use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{Builder, Event, HandleExit, Signal};
use nix::libc;

fn builder() -> Builder {
    HandleExit::builder().signals([Signal::ABRT, Signal::TERM]).grace(Duration::MAX)
}

fn guard() -> HandleExit {
    let guard = builder().install_with(|cause| say(format!("callback: {cause}"))).unwrap();
    guard.defer(|| say("first deferred")).unwrap();
    guard.defer(|| say("last deferred")).unwrap();
    guard
}

// ------------------------------------------------------------------------------------ scenarios

fn main_aborts() {
    let _guard = guard();
    std::process::abort();
}

fn a_thread_aborts() {
    let _guard = guard();
    std::thread::spawn(|| std::process::abort());
    park();
}

fn many_threads_abort() {
    let _guard = guard();
    for _ in 0..8 {
        std::thread::spawn(|| std::process::abort());
    }
    park();
}

/// What `panic = "abort"` comes to: the panic hook, then an abort on the panicking thread.
fn a_panic_aborts() {
    let _guard = guard();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        std::process::abort();
    }));
    panic!("on purpose");
}

fn parked() {
    let _guard = guard();
    ready_for_ever();
}

fn parked_for_no_time() {
    let guard = builder()
        .grace(Duration::ZERO)
        .install_with(|cause| say(format!("callback: {cause}")))
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

/// The scope ends in its grace.
fn outlives_a_sigabrt() {
    let guard = guard();
    say("ready");
    if told::<String>() == "itself" {
        kill_this_process(Signal::ABRT);
    }
    guard.wait();
    drop(guard);
    say("behind");
}

/// An abort that waited to no purpose would do so for longer than the test does.
fn with_much_time() -> Builder {
    builder().callback_timeout(2 * DEADLINE)
}

fn the_callback_aborts() {
    let guard = with_much_time()
        .install(|| {
            say("callback");
            std::process::abort();
        })
        .unwrap();
    match told::<String>().as_str() {
        "drop" => drop(guard),
        "request" => {
            guard.request();
            park();
        }
        "signal" => {
            raise(Signal::TERM);
            park();
        }
        other => panic!("{other}"),
    }
}

fn a_deferred_function_aborts() {
    let guard = with_much_time().install(|| say("callback")).unwrap();
    guard
        .defer(|| {
            say("deferred");
            std::process::abort();
        })
        .unwrap();
    drop(guard);
}

/// An abort while the callback runs for another reason: it is let to its end.
fn a_thread_aborts_during_the_callback() {
    let guard = builder()
        .install(|| {
            say("callback begins");
            std::thread::spawn(|| std::process::abort());
            until("the abort is in its handler", || any_thread_blocks(Signal::ABRT));
            say("callback ends");
        })
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    guard.request();
    park();
}

extern "C" fn held_exit_function() {
    say("exit function");
    hear();
}

/// What comes after the guard's part of the exit is held.
fn the_callback_exits_while_a_thread_aborts() {
    at_exit(held_exit_function);
    let guard = with_much_time()
        .install(|| {
            std::thread::spawn(|| std::process::abort());
            until("the abort is in its handler", || any_thread_blocks(Signal::ABRT));
            say("callback exits");
            std::process::exit(7);
        })
        .unwrap();
    guard.request();
    park();
}

fn the_callback_hangs() {
    let guard = match told::<u64>() {
        0 => builder(),
        millis => builder().callback_timeout(Duration::from_millis(millis)),
    };
    let guard = guard
        .install(|| {
            say("callback hangs");
            park();
        })
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    std::process::abort();
}

fn the_callback_returns_long_before_its_time() {
    let guard = with_much_time().install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    std::process::abort();
}

fn the_callback_panics() {
    let guard = builder().install(|| panic!("on purpose")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    std::process::abort();
}

fn after_the_guard() {
    drop(guard());
    std::process::abort();
}

fn not_guarded() {
    let _guard = HandleExit::new(|| say("callback")).unwrap();
    std::process::abort();
}

// ---------------------------------------------------------------------------------------- tests

fn an_abort_runs_the_callback_and_what_was_deferred_and_dies_of_sigabrt() {
    for scenario in scenarios![main_aborts, a_thread_aborts, a_panic_aborts, many_threads_abort] {
        let victim = Victim::start(scenario);
        let cause = format!("callback: SIGABRT from process {} of user", victim.pid());
        let end = victim.end();
        assert!(end.lines[0].starts_with(&cause), "{scenario}: {end:#?}");
        assert_eq!(end.lines[1..], ["last deferred", "first deferred"], "{scenario}: {end:#?}");
        end.died_by(Signal::ABRT);
    }
}

fn a_sigabrt_from_outside_is_a_signal_like_any_other() {
    // The scope has its grace.
    let mut victim = Victim::ready(parked);
    victim.send(Signal::ABRT);
    victim.expect_prefix("callback: SIGABRT");
    victim.send(Signal::KILL);
    victim.end().died_by(Signal::KILL);

    let victim = Victim::ready(parked_for_no_time);
    victim.send(Signal::ABRT);
    let end = victim.end();
    assert_eq!(end.lines[2..], ["deferred"], "{end:#?}");
    end.died_by(Signal::ABRT);
}

fn only_a_thread_that_signals_itself_aborts() {
    for sender in ["itself", "another"] {
        let victim = Victim::ready(outlives_a_sigabrt.told(sender));
        if sender == "another" {
            let (pid, raw) = (victim.pid(), Signal::ABRT.as_raw());
            // SAFETY: a system call without memory, to a child that is not waited for yet.
            assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, raw) }, 0);
        }
        let end = victim.end();
        end.exited(0).ended_with("behind");
        assert!(end.lines[1].starts_with("callback: SIGABRT"), "{end:#?}");
    }
}

/// Nobody could wait for anybody there: it dies at once, and does not hang.
fn an_abort_in_the_callback_or_a_deferred_function_dies_at_once() {
    for way in ["drop", "request", "signal"] {
        let end = Victim::start(the_callback_aborts.told(way)).end();
        end.said(&["callback"]).died_by(Signal::ABRT);
    }
    let end = Victim::start(a_deferred_function_aborts).end();
    end.said(&["callback", "deferred"]).died_by(Signal::ABRT);
}

fn an_abort_while_the_callback_runs_lets_it_end() {
    let end = Victim::start(a_thread_aborts_during_the_callback).end();
    end.said(&["callback begins", "callback ends", "deferred"]).died_by(Signal::ABRT);
}

fn an_abort_waits_five_seconds_for_a_callback_that_hangs() {
    let begun = Instant::now();
    let end = Victim::start(the_callback_hangs.told(0)).end();
    assert_eq!(end.lines[0], "callback hangs", "{end:#?}");
    end.died_by(Signal::ABRT);
    // The time under test.
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
}

fn an_abort_waits_as_long_as_the_callback_may_run() {
    let begun = Instant::now();
    let end = Victim::start(the_callback_hangs.told(300)).end();
    assert_eq!(end.lines[0], "callback hangs", "{end:#?}");
    end.died_by(Signal::ABRT);
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    // Not five seconds: the margin is what a busy machine may need to start a process.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

fn an_abort_waits_no_longer_than_the_callback_runs() {
    let end = Victim::start(the_callback_returns_long_before_its_time).end();
    end.said(&["callback", "deferred"]).died_by(Signal::ABRT);
}

fn a_callback_that_panics_in_an_abort_is_not_reported_as_a_clean_stop() {
    let end = Victim::start(the_callback_panics).end();
    end.said(&["deferred"]).exited(101);
}

fn an_abort_without_a_guard_of_sigabrt_runs_nothing() {
    let end = Victim::start(not_guarded).end();
    end.said(&[]).died_by(Signal::ABRT);
    let end = Victim::start(after_the_guard).end();
    end.said(&["callback: the scope ended", "last deferred", "first deferred"])
        .died_by(Signal::ABRT);
}

fn an_abort_does_not_change_the_code_that_the_callback_exits_with() {
    let mut victim = Victim::start(the_callback_exits_while_a_thread_aborts);
    victim.expect("exit function");
    victim.has_looked();
    victim.tell("go on");
    victim.end().said(&["callback exits", "exit function"]).exited(7);
}

// ------------------------------------------------------------------------------- with several guards

fn guest() -> Builder {
    builder().signals([Signal::ABRT]).append(true)
}

/// A callback that takes longer than an aborting thread would wait for another guard's.
fn takes(name: &'static str, seconds: u64) -> impl FnOnce() + Send + 'static {
    move || {
        say(format!("{name} begins"));
        std::thread::sleep(Duration::from_secs(seconds));
        say(format!("{name} ends"));
    }
}

/// The last guard before has left, and joins its watcher, which is in a function of its own.
fn made_while_the_last_one_joins() {
    static CLOSER: AtomicI32 = AtomicI32::new(0);
    let last = guest().on(Signal::HUP, |_| held_callback()).install(|| say("last's callback"));
    let last = last.unwrap();
    raise(Signal::HUP);
    until_held();
    let closes = std::thread::spawn(move || {
        // SAFETY: no arguments, cannot fail.
        CLOSER.store(unsafe { libc::gettid() }, SeqCst);
        drop(last);
        say("last gone");
    });
    // Longer than it waits for the watcher before it runs the callback itself: under test is what comes after.
    std::thread::sleep(Duration::from_millis(1500));
    until("it joins", || sleeps(CLOSER.load(SeqCst)));
    let _guard = guest().install(|| say("callback")).unwrap();
    say("made");
    closes.join().unwrap();
    std::process::abort();
}

/// Again and again: one thread drops the last guard while another one makes the next, and aborts.
fn made_at_any_moment_of_the_last_ones_end() {
    let last = guest().install(|| {}).unwrap();
    let moment = Duration::from_micros(told());
    let closes = std::thread::spawn(move || drop(last));
    let begun = Instant::now();
    while begun.elapsed() < moment {
        std::hint::spin_loop();
    }
    let _guard = guest().install(|| say("callback")).unwrap();
    closes.join().unwrap();
    std::process::abort();
}

/// The guards, oldest first: how long each callback runs, and its timeout in milliseconds (0 for none).
fn several_abort() {
    let told: String = told();
    let mut guards = Vec::new();
    for (guard, name) in told.split(' ').zip(["first", "second", "third"]) {
        let (seconds, timeout) = guard.split_once('/').unwrap();
        let builder = match timeout.parse().unwrap() {
            0 => guest(),
            millis => guest().callback_timeout(Duration::from_millis(millis)),
        };
        guards.push(builder.install(takes(name, seconds.parse().unwrap())).unwrap());
    }
    std::process::abort();
}

fn an_abort_runs_the_callback_of_a_guard_made_while_the_last_one_joined() {
    let mut victim = Victim::start(made_while_the_last_one_joins);
    victim.expect("made");
    victim.tell("go on");
    let lines = ["callback begins", "last's callback", "made", "callback ends", "last gone"];
    victim.end().said(&[&lines[..], &["callback"]].concat()).died_by(Signal::ABRT);
}

fn an_abort_runs_the_callback_of_a_guard_made_at_any_moment_of_anothers_end() {
    for moment in (0..400).step_by(10) {
        let end = Victim::start(made_at_any_moment_of_the_last_ones_end.told(moment)).end();
        end.said(&["callback"]).died_by(Signal::ABRT);
    }
}

/// Each has its own `callback_timeout`, or five seconds: the times are under test.
fn an_abort_lets_both_callbacks_end(guards: &str) {
    let lines = ["second begins", "second ends", "first begins", "first ends"];
    Victim::start(several_abort.told(guards)).end().said(&lines).died_by(Signal::ABRT);
}

fn an_abort_does_not_measure_a_callback_by_the_timeout_of_another_guard() {
    an_abort_lets_both_callbacks_end("0/500 3/0");
    an_abort_lets_both_callbacks_end("3/0 0/500");
}

fn an_abort_waits_five_seconds_for_each_callback() {
    an_abort_lets_both_callbacks_end("3/0 3/0");
}

fn an_abort_waits_for_the_longer_timeout_of_a_younger_guard() {
    an_abort_lets_both_callbacks_end("0/0 7/20000");
}

/// The observer takes its time between the callback and what was deferred.
fn abort_is_observed() {
    let builder = guest().observe(|event| {
        if matches!(event, Event::CallbackFinished { .. }) {
            std::thread::sleep(Duration::from_secs(3));
        }
    });
    let guard = builder.install(takes("callback", 3)).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    std::process::abort();
}

/// Five seconds for each of them: the times are under test.
fn an_abort_measures_what_follows_a_callback_by_itself() {
    let end = Victim::start(abort_is_observed).end();
    end.said(&["callback begins", "callback ends", "deferred"]).died_by(Signal::ABRT);
}

/// Main ends the younger guard, and what that one defers, while the watcher runs the callback of the older one.
fn abort_beside_the_end_of_a_guard() {
    let _older = guest().callback_timeout(DEADLINE).install(takes("older", 7)).unwrap();
    let main = main_thread();
    let younger = guest().install(move || until("main waits", || sleeps(main))).unwrap();
    younger.defer(|| std::thread::sleep(Duration::from_millis(200))).unwrap();
    let exit = younger.handle();
    std::thread::spawn(|| std::process::abort());
    until("the exit has begun", || exit.is_exiting());
    drop(younger);
    park();
}

fn an_abort_waits_for_a_callback_while_another_guard_ends() {
    let end = Victim::start(abort_beside_the_end_of_a_guard).end();
    end.said(&["older begins", "older ends"]).died_by(Signal::ABRT);
}

/// A guard with a short limit has gone, and the watcher takes its time to come to the callback.
fn abort_after_a_guard_with_a_short_limit() {
    let builder = guest().observe(|event| {
        if matches!(event, Event::SignalReceived(_)) {
            std::thread::sleep(Duration::from_secs(3));
        }
    });
    let _guard = builder.install(|| say("callback")).unwrap();
    drop(guest().callback_timeout(Duration::from_secs(1)).install(|| {}).unwrap());
    std::process::abort();
}

fn an_abort_has_no_limit_of_a_guard_that_has_gone() {
    let end = Victim::start(abort_after_a_guard_with_a_short_limit).end();
    end.said(&["callback"]).died_by(Signal::ABRT);
}

pub(crate) const TESTS: &[Named] = tests![
    an_abort_does_not_change_the_code_that_the_callback_exits_with,
    an_abort_runs_the_callback_and_what_was_deferred_and_dies_of_sigabrt,
    a_sigabrt_from_outside_is_a_signal_like_any_other,
    only_a_thread_that_signals_itself_aborts,
    an_abort_in_the_callback_or_a_deferred_function_dies_at_once,
    an_abort_while_the_callback_runs_lets_it_end,
    an_abort_waits_five_seconds_for_a_callback_that_hangs,
    an_abort_waits_as_long_as_the_callback_may_run,
    an_abort_waits_no_longer_than_the_callback_runs,
    a_callback_that_panics_in_an_abort_is_not_reported_as_a_clean_stop,
    an_abort_without_a_guard_of_sigabrt_runs_nothing,
    an_abort_runs_the_callback_of_a_guard_made_while_the_last_one_joined,
    an_abort_runs_the_callback_of_a_guard_made_at_any_moment_of_anothers_end,
    an_abort_does_not_measure_a_callback_by_the_timeout_of_another_guard,
    an_abort_waits_five_seconds_for_each_callback,
    an_abort_waits_for_the_longer_timeout_of_a_younger_guard,
    an_abort_measures_what_follows_a_callback_by_itself,
    an_abort_has_no_limit_of_a_guard_that_has_gone,
    an_abort_waits_for_a_callback_while_another_guard_ends,
];
