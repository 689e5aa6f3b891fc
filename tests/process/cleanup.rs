//! `cleanup` always dies of the signal: the scope keeps running while its clean-up runs, often fails because of
//! it, and takes the process with it in its own way. Each way twenty times, because the two race.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::{fs, io, thread};

use crate::support::*;
use handle_exit::{Cause, Error, HandleExit, Signal};

const ROUNDS: usize = if cfg!(unix) { 20 } else { 2 };

/// Whether the scenario, which is `main` here, returns an error.
static FAILS: AtomicBool = AtomicBool::new(false);

/// What `main` returns.
pub(crate) fn what_main_returns() -> ExitCode {
    if FAILS.load(SeqCst) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// As a `main` that returns this.
fn returns_from_main(result: Result<(), Box<dyn std::error::Error>>) {
    if let Err(error) = result {
        eprintln!("Error: {error:?}");
        FAILS.store(true, SeqCst);
    }
}

fn guard() -> HandleExit {
    HandleExit::cleanup(|| say("callback")).unwrap()
}

// ------------------------------------------------------- scenarios: the scope fails because of the clean-up

/// Works in the directory that it is told until it cannot any more, because the clean-up has removed it.
fn works_in_a_directory() -> io::Result<()> {
    let directory = std::path::PathBuf::from(told::<String>());
    for step in 0u64.. {
        fs::write(directory.join(format!("step {}", step % 8)), "work")?;
    }
    unreachable!()
}

fn guarded_directory() -> Result<HandleExit, Error> {
    let directory = told::<String>();
    fs::create_dir(&directory).unwrap();
    let guard = HandleExit::cleanup(move || drop(fs::remove_dir_all(directory)))?;
    say("ready");
    Ok(guard)
}

fn question_mark_ends_the_scope() {
    fn scope() -> Result<(), Box<dyn std::error::Error>> {
        let _guard = guarded_directory()?;
        Ok(works_in_a_directory()?)
    }
    returns_from_main(scope());
}

fn main_returns_the_error_under_a_kept_guard() {
    fn scope() -> Result<(), Box<dyn std::error::Error>> {
        guarded_directory()?.keep();
        Ok(works_in_a_directory()?)
    }
    returns_from_main(scope());
}

fn exits_because_of_the_error() {
    let _guard = guarded_directory().unwrap();
    if works_in_a_directory().is_err() {
        exit(1);
    }
}

fn panics_because_of_the_error() {
    let _guard = guarded_directory().unwrap();
    works_in_a_directory().unwrap();
}

fn a_thread_exits_because_of_the_error() {
    let _guard = guarded_directory().unwrap();
    let works = || {
        let _failed = works_in_a_directory();
        exit(1);
    };
    thread::spawn(works).join().unwrap();
}

/// A library inside the scope has a guard of its own, on a thread that goes on.
fn fails_with_a_guard_inside() {
    fn scope() -> Result<(), Box<dyn std::error::Error>> {
        let _guard = guarded_directory()?;
        thread::spawn(|| {
            let _inner = HandleExit::append(|| ()).unwrap();
            park();
        });
        Ok(works_in_a_directory()?)
    }
    returns_from_main(scope());
}

fn finishes_because_of_the_error() {
    let guard = guarded_directory().unwrap();
    if works_in_a_directory().is_err() {
        let _outcome = guard.finish();
        exit(1);
    }
}

// ------------------------------------------------------------- scenarios: the scope ends at the same time

fn at_once(end: fn(HandleExit)) {
    let guard = guard();
    say("ready");
    guard.wait();
    end(guard);
}

fn main_returns_ok() {
    at_once(drop);
}

fn main_returns_ok_under_a_kept_guard() {
    at_once(HandleExit::keep);
}

fn main_returns_an_error_under_a_forgotten_guard() {
    at_once(std::mem::forget);
    FAILS.store(true, SeqCst);
}

fn exits() {
    at_once(|_guard| exit(1));
}

fn exits_with_0() {
    at_once(|_guard| exit(0));
}

fn exits_on_another_thread() {
    at_once(|_guard| thread::spawn(|| exit(1)).join().unwrap());
}

fn exits_with_the_guard_on_another_thread() {
    let guard = guard();
    let handle = guard.handle();
    let exits = thread::spawn(move || {
        let _guard = guard;
        say("ready");
        handle.wait();
        exit(1);
    });
    exits.join().unwrap();
}

fn finishes() {
    at_once(|guard| {
        let _outcome = guard.finish();
        say("behind");
    });
}

fn panics() {
    at_once(|_guard| panic!("on purpose"));
}

fn main_returns_while_another_thread_has_the_guard() {
    let guard = guard();
    let handle = guard.handle();
    thread::spawn(move || {
        let _guard = guard;
        park();
    });
    say("ready");
    handle.wait();
}

fn runs_borrowed() {
    let builder = HandleExit::builder().grace(std::time::Duration::ZERO);
    let builder = builder.after_scope(handle_exit::AfterScope::End);
    let ran = builder.run(
        || say("callback"),
        |exit| {
            say("ready");
            exit.wait();
        },
    );
    ran.unwrap();
    say("behind");
}

// ----------------------------------------------------- scenarios: the callback is held, and the end meets it

fn meets(end: fn(HandleExit)) {
    let guard = HandleExit::cleanup(held_callback).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    say("ready");
    until_held();
    say("main ends");
    end(guard);
}

fn drop_meets_the_callback() {
    meets(|guard| {
        drop(guard);
        say("behind");
    });
}

fn finish_meets_the_callback() {
    meets(|guard| {
        let _outcome = guard.finish();
        say("behind");
    });
}

fn an_error_of_main_meets_the_callback() {
    meets(|guard| {
        guard.keep();
        FAILS.store(true, SeqCst);
    });
}

fn process_exit_meets_the_callback() {
    meets(|_guard| exit(1));
}

fn process_exit_elsewhere_meets_the_callback() {
    meets(|_guard| thread::spawn(|| exit(1)).join().unwrap());
}

fn a_panic_meets_the_callback() {
    meets(|_guard| panic!("on purpose"));
}

// ----------------------------------------------------------------------- scenarios: what is no such signal

fn ends_after_a_request() {
    let guard = guard();
    guard.request();
    assert_eq!(guard.wait(), Cause::Requested);
    drop(guard);
    say("behind");
}

fn ends_without_a_signal() {
    drop(guard());
    say("behind");
}

/// As `cleanup` does it, over a handler that somebody else has installed.
#[cfg(unix)]
fn ends_over_an_old_handler() {
    install(Signal::TERM, says_old);
    let builder = HandleExit::builder().append(true).grace(std::time::Duration::ZERO);
    let builder = builder.after_scope(handle_exit::AfterScope::End);
    let guard = builder.install(|| say("callback")).unwrap();
    say("ready");
    hear();
    drop(guard);
    say("behind");
}

fn requested_and_then_signalled() {
    let guard = guard();
    guard.request();
    assert_eq!(guard.wait(), Cause::Requested);
    ready_for_ever();
}

// ---------------------------------------------------------------------------------------------- tests

#[track_caller]
fn dies_each_time(scenario: Scenario, signal: Signal) {
    for round in 0..ROUNDS {
        let directory = std::env::temp_dir().join(format!(
            "handle-exit-cleanup-{}-{}-{round}",
            std::process::id(),
            scenario.to_string().replace(':', "-")
        ));
        let victim = Victim::ready(scenario.told(directory.display()));
        victim.send(signal);
        let end = victim.end();
        // The clean-up races with code that goes on writing: it may have failed. The death is the same.
        let _ = fs::remove_dir_all(&directory);
        assert_eq!(end.count("behind"), 0, "{round}: {end:#?}");
        assert!(end.count("callback") <= 1, "{round}: {end:#?}");
        end.died_by(signal);
    }
}

fn a_scope_that_fails_because_of_the_cleanup_dies_of_the_signal() {
    for scenario in scenarios![
        question_mark_ends_the_scope,
        main_returns_the_error_under_a_kept_guard,
        exits_because_of_the_error,
        panics_because_of_the_error,
        a_thread_exits_because_of_the_error,
        finishes_because_of_the_error,
        fails_with_a_guard_inside,
    ] {
        dies_each_time(scenario, Signal::TERM);
    }
}

fn a_scope_that_ends_with_the_cleanup_dies_of_the_signal() {
    for scenario in scenarios![
        main_returns_ok,
        main_returns_ok_under_a_kept_guard,
        main_returns_an_error_under_a_forgotten_guard,
        main_returns_while_another_thread_has_the_guard,
        finishes,
        panics,
        runs_borrowed,
    ] {
        dies_each_time(scenario, Signal::INT);
    }
}

fn process_exit_with_the_cleanup_dies_of_the_signal() {
    for scenario in scenarios![
        exits,
        exits_with_0,
        exits_on_another_thread,
        exits_with_the_guard_on_another_thread
    ] {
        dies_each_time(scenario, Signal::TERM);
    }
}

fn an_end_that_meets_the_cleanup_waits_for_it_and_dies_of_the_signal() {
    for scenario in scenarios![
        drop_meets_the_callback,
        finish_meets_the_callback,
        an_error_of_main_meets_the_callback,
        process_exit_meets_the_callback,
        process_exit_elsewhere_meets_the_callback,
        a_panic_meets_the_callback,
    ] {
        for _ in 0..ROUNDS {
            let mut victim = Victim::ready(scenario);
            victim.send(Signal::TERM);
            victim.expect("callback begins");
            victim.expect("main ends");
            victim.tell("go on");
            let end = victim.end();
            let lines = ["ready", "callback begins", "main ends", "callback ends", "deferred"];
            end.said(&lines).died_by(Signal::TERM);
        }
    }
}

fn what_was_no_signal_of_default_disposition_ends_nothing() {
    ends_well(ends_after_a_request, &["callback", "behind"]);
    ends_well(ends_without_a_signal, &["callback", "behind"]);

    #[cfg(unix)]
    {
        let mut victim = Victim::ready(ends_over_an_old_handler);
        victim.send(Signal::TERM);
        victim.expect("old");
        victim.at_rest();
        victim.tell("go on");
        victim.end().said(&["ready", "callback", "old", "behind"]).exited(0);
    }

    let mut victim = Victim::start(requested_and_then_signalled);
    victim.expect_both("callback", "ready");
    victim.send(Signal::TERM);
    victim.end().died_by(Signal::TERM);
}

pub(crate) const TESTS: &[Named] = tests![
    a_scope_that_fails_because_of_the_cleanup_dies_of_the_signal,
    a_scope_that_ends_with_the_cleanup_dies_of_the_signal,
    process_exit_with_the_cleanup_dies_of_the_signal,
    an_end_that_meets_the_cleanup_waits_for_it_and_dies_of_the_signal,
    what_was_no_signal_of_default_disposition_ends_nothing,
];
