//! What `finish` says, and what becomes of a process whose `main` returns it.

use std::process::{ExitCode, Termination};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::*;
use handle_exit::{Cause, Ending, Exit, HandleExit, Outcome, Signal};

// ----------------------------------------------------------------------------------- what it says

fn finished(builder: handle_exit::Builder, signal: Option<Signal>) -> Outcome {
    let guard = builder.grace(Duration::MAX).install(|| {}).unwrap();
    if let Some(signal) = signal {
        raise(signal);
        guard.wait();
    }
    guard.finish()
}

/// `ExitCode` can be compared by what it shows only.
fn assert_code(outcome: &Outcome, code: u8) {
    let (shown, expected) = (outcome.exit_code(), ExitCode::from(code));
    assert_eq!(format!("{shown:?}"), format!("{expected:?}"));
}

fn an_outcome_says_what_happened() {
    let outcome = finished(HandleExit::builder(), None);
    assert_eq!(*outcome.cause(), Cause::ScopeEnd);
    assert_eq!(outcome.signal(), None);
    assert!(!outcome.callback_panicked());
    assert_code(&outcome, 0);

    for (ending, code) in [
        (Ending::Signal, 128 + 15),
        (Ending::Code(0), 0),
        (Ending::Code(9), 9),
        (Ending::ShellCode, 143),
    ] {
        let outcome = finished(HandleExit::builder().ending(ending), Some(Signal::TERM));
        let Cause::Signal(received) = outcome.cause() else { panic!("{outcome:?}") };
        assert_eq!(received.signal(), Signal::TERM);
        assert_eq!(outcome.signal(), Some(Signal::TERM));
        assert_code(&outcome, code);
    }
}

fn an_outcome_after_a_request_names_the_signal_that_came_later() {
    let guard = HandleExit::builder().grace(Duration::MAX).install(|| {}).unwrap();
    guard.request();
    let outcome = guard.finish();
    assert_eq!((outcome.cause(), outcome.signal()), (&Cause::Requested, None));
    assert_code(&outcome, 0);

    let guard = HandleExit::builder().grace(Duration::MAX).install(|| {}).unwrap();
    guard.request();
    raise(Signal::INT);
    let outcome = guard.finish();
    assert_eq!((outcome.cause(), outcome.signal()), (&Cause::Requested, Some(Signal::INT)));
    assert_code(&outcome, 130);
}

fn an_outcome_contains_the_panic_of_the_callback() {
    let guard = HandleExit::new(|| panic!("on purpose")).unwrap();
    let outcome = guard.finish();
    assert!(outcome.callback_panicked());
    assert_eq!((outcome.cause(), outcome.signal()), (&Cause::ScopeEnd, None));
    assert_code(&outcome, 101);
}

#[cfg(unix)]
extern "C" fn old_handler(_: nix::libc::c_int) {}

/// There the watcher has not come to the signals yet.
fn an_outcome_inside_the_callback_names_the_signal_that_began_it() {
    static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);
    static OUTCOME: Mutex<Option<Outcome>> = Mutex::new(None);
    for (has_old_handler, code) in [
        (false, 143),
        // A signal that has a handler of its own does not end the process.
        #[cfg(unix)]
        (true, 0),
    ] {
        #[cfg(unix)]
        if has_old_handler {
            install(Signal::TERM, old_handler);
        }
        let guard =
            HandleExit::builder().append(has_old_handler).grace(Duration::MAX).install(|| {
                let guard = GUARD.lock().unwrap().take().unwrap();
                *OUTCOME.lock().unwrap() = Some(guard.finish());
            });
        *GUARD.lock().unwrap() = Some(guard.unwrap());
        raise(Signal::TERM);
        until("the guard has ended", || Exit::current().is_none());
        let outcome = OUTCOME.lock().unwrap().take().unwrap();
        assert_eq!(outcome.signal(), Some(Signal::TERM));
        assert_code(&outcome, code);
    }
}

// --------------------------------------------------------------------------------- end_process

struct SaysNothing;

impl Drop for SaysNothing {
    fn drop(&mut self) {
        say("a destructor that end_process does not run");
    }
}

/// Ends as the row says, through `end_process` and through `report`, which is what returning from
/// `main` calls.
fn ends_the_process() {
    let (ending, signal, panics) = ROWS[told::<usize>() / 2].0;
    let callback = move || {
        if panics && signal.is_some() {
            // Else the process ends before `finish` is reached.
            until("main waits for the callback", || sleeps(main_thread()));
        }
        assert!(!panics, "on purpose");
    };
    let guard = HandleExit::builder().ending(ending).grace(Duration::MAX).install(callback);
    let guard = guard.unwrap();
    if let Some(signal) = signal {
        raise(signal);
    }
    let outcome = guard.finish();
    let _not_dropped = SaysNothing;
    print!("a line without an end");
    if told::<usize>() % 2 == 0 {
        outcome.end_process();
    }
    // Only an outcome without a signal comes back, to go on with main's return.
    let code = outcome.report();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    exit(0);
}

type Row = (Ending, Option<Signal>, bool);

/// What the guard was told and met, and how the process ends: by a signal, or with a code.
const ROWS: [(Row, Ends); 9] = [
    ((Ending::Signal, None, false), Ends::With(0)),
    ((Ending::Code(9), None, false), Ends::With(0)),
    ((Ending::Signal, Some(Signal::TERM), false), Ends::By(Signal::TERM)),
    ((Ending::Signal, Some(Signal::INT), false), Ends::By(Signal::INT)),
    ((Ending::Code(0), Some(Signal::TERM), false), Ends::With(0)),
    ((Ending::Code(9), Some(Signal::TERM), false), Ends::With(9)),
    ((Ending::ShellCode, Some(Signal::INT), false), Ends::With(130)),
    ((Ending::Signal, None, true), Ends::With(101)),
    ((Ending::Code(0), Some(Signal::TERM), true), Ends::With(101)),
];

fn end_process_and_return_from_main_end_as_the_outcome_says() {
    for (index, (row, ends)) in ROWS.iter().enumerate() {
        for way in [0, 1] {
            let row = ends_the_process.told(2 * index + way).named(format_args!("{row:?}"));
            let end = Victim::start(row).end();
            end.said(&["a line without an end"]);
            end.ended(*ends);
        }
    }
}

pub(crate) const TESTS: &[Named] = tests![
    end_process_and_return_from_main_end_as_the_outcome_says,
    ;
    alone:
    an_outcome_says_what_happened,
    an_outcome_after_a_request_names_the_signal_that_came_later,
    an_outcome_contains_the_panic_of_the_callback,
    an_outcome_inside_the_callback_names_the_signal_that_began_it,
];
