//! Deferred functions: last in, first out, after the callback, once, at every end of the exit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::*;
use handle_exit::{Deferred, Error, Exit, HandleExit, Signal};

/// A guard with fifteen deferred functions.
fn fifteen() -> HandleExit {
    let guard = HandleExit::builder().grace(Duration::ZERO).install(|| say("callback")).unwrap();
    defer_fifteen(&guard);
    guard
}

/// Half of them as a library defers that was handed nothing.
fn defer_fifteen(handle: &Exit) {
    let current = Exit::current().unwrap();
    for number in 1..=15 {
        let handle = if number % 2 == 0 { handle } else { &current };
        handle.defer(move || say(number)).unwrap();
    }
}

/// What a process with `fifteen` says: whatever comes before, then these.
fn fifteen_lines(first: &[&str], behind: &[&str]) -> Vec<String> {
    let numbers = (1..=15).rev().map(|number: i32| number.to_string());
    let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    [own(first), numbers.collect(), own(behind)].concat()
}

// ------------------------------------------------------------------------------------ every end

fn on_drop() {
    drop(fifteen());
    say("behind");
}

fn on_finish() {
    let _ = fifteen().finish();
    say("behind");
}

fn on_panic() {
    let _guard = fifteen();
    panic!("on purpose");
}

fn on_callback_panic() {
    let guard = HandleExit::new(|| {
        say("callback");
        panic!("on purpose");
    })
    .unwrap();
    defer_fifteen(&guard);
    drop(guard);
}

fn on_process_exit() {
    let _guard = fifteen();
    exit(3);
}

fn on_return_from_main() {
    fifteen().keep();
}

fn on_signal() {
    let _guard = fifteen();
    raise(Signal::TERM);
    park();
}

fn on_signal_in_time() {
    let guard = HandleExit::new(|| say("callback")).unwrap();
    defer_fifteen(&guard);
    raise(Signal::TERM);
    guard.wait();
    drop(guard);
    say("behind");
}

fn on_exit_in_the_callback() {
    let guard = HandleExit::new(|| {
        say("callback");
        exit(3);
    })
    .unwrap();
    defer_fifteen(&guard);
    raise(Signal::TERM);
    park();
}

fn on_exit_in_the_callback_of_a_drop() {
    let guard = HandleExit::new(|| {
        say("callback");
        exit(3);
    })
    .unwrap();
    defer_fifteen(&guard);
    drop(guard);
    unreachable!();
}

fn every_end_runs_them_last_in_first_out_after_the_callback() {
    let behind: &[&str] = &["behind"];
    for (scenario, behind, ends) in [
        (Scenario::of(on_drop), behind, Ends::With(0)),
        (Scenario::of(on_finish), behind, Ends::With(0)),
        (Scenario::of(on_panic), &[], Ends::With(101)),
        (Scenario::of(on_callback_panic), &[], Ends::With(101)),
        (Scenario::of(on_process_exit), &[], Ends::With(3)),
        (Scenario::of(on_return_from_main), &[], Ends::With(0)),
        (Scenario::of(on_signal), &[], Ends::By(Signal::TERM)),
        (Scenario::of(on_signal_in_time), behind, Ends::With(0)),
        (Scenario::of(on_exit_in_the_callback), &[], Ends::With(3)),
        (Scenario::of(on_exit_in_the_callback_of_a_drop), &[], Ends::With(3)),
    ] {
        let end = Victim::start(scenario).end();
        assert_eq!(end.lines, fifteen_lines(&["callback"], behind), "{scenario}: {end:#?}");
        end.ended(ends);
    }
}

// --------------------------------------------------------------------------------------- panics

fn two_of_them_panic() {
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    guard.defer(|| say("first")).unwrap();
    guard.defer(|| panic!("second")).unwrap();
    guard.defer(|| say("third")).unwrap();
    // A payload whose own destructor panics is contained as well.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("payload");
        }
    }
    guard.defer(|| std::panic::panic_any(Bomb)).unwrap();
    end_as_told(guard);
    say("behind");
}

fn a_panic_in_one_is_contained() {
    for (way, ends) in ENDS {
        let end = Victim::start(two_of_them_panic.told(way)).end();
        let behind = if way == "drop" { &["behind"][..] } else { &[] };
        end.said(&[&["callback", "third", "first"], behind].concat()).ended(ends);
        // The panic hook has told of it.
        assert!(end.stderr.contains("second"), "{end:#?}");
    }
}

/// What `end_as_told` comes to.
const ENDS: [(&str, Ends); 3] =
    [("drop", Ends::With(0)), ("exit", Ends::With(3)), ("signal", Ends::By(Signal::TERM))];

// --------------------------------------------------------------------------------------- cancel

fn cancel_frees_what_was_captured_in_and_out_of_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let captured = Arc::new(());
        let guard = HandleExit::new(|| {}).unwrap();
        let mut staged: [Option<Deferred>; 3] = std::array::from_fn(|_| {
            let kept = Arc::clone(&captured);
            Some(guard.defer(move || unreachable!("{kept:?}")).unwrap())
        });
        for (cancelled, index) in order.into_iter().enumerate() {
            assert_eq!(Arc::strong_count(&captured), 4 - cancelled);
            assert!(staged[index].take().unwrap().cancel());
            assert_eq!(Arc::strong_count(&captured), 3 - cancelled);
        }
    }
}

fn two_are_cancelled() {
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    guard.defer(|| say("first")).unwrap();
    let [second, third] = ["second is freed", "third is freed"].map(|line| {
        let captured = SaysWhenFreed(line);
        let function = move || {
            let _captured = captured;
            say("is not to run");
        };
        guard.defer(function).unwrap()
    });
    guard.defer(|| say("fourth")).unwrap();
    assert!(third.cancel());
    assert!(second.cancel());
    end_as_told(guard);
}

fn a_cancelled_one_does_not_run_and_the_others_keep_their_order() {
    let lines = ["third is freed", "second is freed", "callback", "fourth", "first"];
    for (way, ends) in ENDS {
        Victim::start(two_are_cancelled.told(way)).end().said(&lines).ended(ends);
    }
}

/// A function that counts its calls.
fn counts(calls: &Arc<AtomicUsize>) -> impl FnOnce() + Send + 'static {
    let calls = Arc::clone(calls);
    move || {
        calls.fetch_add(1, SeqCst);
    }
}

fn dropping_a_deferred_does_not_cancel_it() {
    let calls = Arc::new(AtomicUsize::new(0));
    let guard = HandleExit::new(|| {}).unwrap();
    drop(guard.defer(counts(&calls)).unwrap());
    drop(guard);
    assert_eq!(calls.load(SeqCst), 1);
}

fn cancel_after_it_has_run_or_while_it_runs_says_no() {
    let guard = HandleExit::new(|| {}).unwrap();
    let has_run = guard.defer(|| {}).unwrap();
    let (hand, itself) = channel::<Deferred>();
    let running = guard.defer(move || assert!(!itself.recv().unwrap().cancel())).unwrap();
    hand.send(running).unwrap();
    assert!(!guard.finish().callback_panicked());
    assert!(!has_run.cancel());
}

fn cancel_and_the_end_agree_on_who_had_it() {
    for _ in 0..200 {
        let calls = Arc::new(AtomicUsize::new(0));
        let guard = HandleExit::new(|| {}).unwrap();
        let staged = guard.defer(counts(&calls)).unwrap();
        let canceller = std::thread::spawn(move || staged.cancel());
        drop(guard);
        let cancelled = canceller.join().unwrap();
        assert_eq!(calls.load(SeqCst), usize::from(!cancelled));
        assert_eq!(Arc::strong_count(&calls), 1);
    }
}

fn disarm_drops_them_uncalled_and_frees_what_they_captured() {
    let captured = Arc::new(());
    let guard = HandleExit::new(|| unreachable!()).unwrap();
    let kept = Arc::clone(&captured);
    let staged = guard.defer(move || unreachable!("{kept:?}")).unwrap();
    let handle = guard.handle();
    assert!(guard.disarm());
    assert_eq!(Arc::strong_count(&captured), 1);
    assert!(!staged.cancel());
    assert!(matches!(handle.defer(|| unreachable!()), Err(Error::Ended)));
}

// -------------------------------------------------------------------------------- from anywhere

fn from_any_thread() {
    let calls = Arc::new(AtomicUsize::new(0));
    let guard = HandleExit::new(|| {}).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (handle, calls) = (guard.handle(), Arc::clone(&calls));
            std::thread::spawn(move || {
                for _ in 0..100 {
                    drop(handle.defer(counts(&calls)).unwrap());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(calls.load(SeqCst), 0);
    drop(guard);
    assert_eq!(calls.load(SeqCst), 800);
}

fn from_the_callback_and_from_one_another() {
    let guard = HandleExit::new(|| {
        say("callback");
        let current = Exit::current().unwrap();
        current.defer(|| say("from the callback")).unwrap();
    })
    .unwrap();
    let handle = guard.handle();
    guard.defer(|| say("first")).unwrap();
    guard
        .defer(move || {
            say("second");
            let inner = handle.clone();
            handle
                .defer(move || {
                    say("from the second");
                    inner.defer(|| say("from that one")).unwrap();
                })
                .unwrap();
            say("second is done");
        })
        .unwrap();
    match told::<String>().as_str() {
        "drop" => drop(guard),
        "exit" => exit(0),
        "signal" => {
            raise(Signal::TERM);
            guard.wait();
        }
        other => panic!("{other}"),
    }
}

fn they_can_be_added_until_the_last_has_run() {
    for way in ["drop", "exit", "signal"] {
        let end = Victim::start(from_the_callback_and_from_one_another.told(way)).end();
        end.said(&[
            "callback",
            "from the callback",
            "second",
            "second is done",
            "from the second",
            "from that one",
            "first",
        ])
        .exited(0);
    }
}

fn after_the_end_they_are_refused_and_freed() {
    let captured = Arc::new(());
    let guard = HandleExit::new(|| {}).unwrap();
    let handle = guard.handle();
    drop(guard);
    let kept = Arc::clone(&captured);
    let refused = handle.defer(move || unreachable!("{kept:?}"));
    assert!(matches!(refused, Err(Error::Ended)));
    assert_eq!(Arc::strong_count(&captured), 1);
}

// -------------------------------------------------------------------- process::exit inside of one

fn exits_in_a_deferred_function() {
    let guard = HandleExit::builder().grace(Duration::ZERO).install(|| say("callback")).unwrap();
    guard.defer(|| say("first")).unwrap();
    guard
        .defer(|| {
            say("second");
            exit(7);
        })
        .unwrap();
    guard.defer(|| say("third")).unwrap();
    end_as_told(guard);
    unreachable!();
}

fn process_exit_in_one_ends_with_that_code_and_the_others_still_run() {
    for way in ["drop", "signal"] {
        let end = Victim::start(exits_in_a_deferred_function.told(way)).end();
        end.said(&["callback", "third", "second", "first"]).exited(7);
    }
}

pub(crate) const TESTS: &[Named] = tests![
    every_end_runs_them_last_in_first_out_after_the_callback,
    a_panic_in_one_is_contained,
    a_cancelled_one_does_not_run_and_the_others_keep_their_order,
    they_can_be_added_until_the_last_has_run,
    process_exit_in_one_ends_with_that_code_and_the_others_still_run,
    ;
    alone:
    cancel_frees_what_was_captured_in_and_out_of_order,
    dropping_a_deferred_does_not_cancel_it,
    cancel_after_it_has_run_or_while_it_runs_says_no,
    cancel_and_the_end_agree_on_who_had_it,
    disarm_drops_them_uncalled_and_frees_what_they_captured,
    from_any_thread,
    after_the_end_they_are_refused_and_freed,
];
