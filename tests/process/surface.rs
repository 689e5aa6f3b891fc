//! What adopters asked for: `also`, `run_with`, `Deferred::run`; what may still be deferred once the end has
//! begun; and what errors say.

use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::support::*;
use handle_exit::{Cause, Deferred, Ending, Error, Exit, HandleExit, Outcome, Signal};
use nix::sys::resource::Resource;

// ----------------------------------------------------------------------------------------------- also

fn also_two() {
    let builder = HandleExit::builder().also([Signal::HUP, Signal::TERM]).also([Signal::USR1]);
    let _guard = builder.grace(Duration::ZERO).install(|| say("callback")).unwrap();
    assert!(is_default(Signal::USR2));
    ready_for_ever();
}

fn also_besides_one() {
    let builder = HandleExit::builder().signals([Signal::TERM]).also([Signal::HUP]);
    let _guard = builder.grace(Duration::ZERO).install(|| say("callback")).unwrap();
    ready_for_ever();
}

fn also_abort() {
    let guard = HandleExit::builder().also([Signal::ABRT]).install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    std::process::abort();
}

fn also_is_besides_what_is_guarded_already() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1] {
        let victim = Victim::ready(also_two.named(signal));
        victim.send(signal);
        victim.end().said(&["ready", "callback"]).died_by(signal);
    }
    for signal in [Signal::TERM, Signal::HUP] {
        let victim = Victim::ready(also_besides_one.named(signal));
        victim.send(signal);
        victim.end().said(&["ready", "callback"]).died_by(signal);
    }
    let victim = Victim::ready(also_besides_one);
    victim.send(Signal::INT);
    victim.end().said(&["ready"]).died_by(Signal::INT);

    Victim::start(also_abort).end().said(&["callback", "deferred"]).died_by(Signal::ABRT);
}

fn also_is_refused_as_signals_are() {
    let before = all_dispositions();
    let refused = HandleExit::builder().also([Signal::KILL]).install(|| {});
    assert!(matches!(refused, Err(Error::Unguardable { signal: Signal::KILL, .. })));
    install_old(Signal::HUP);
    let refused = HandleExit::builder().also([Signal::HUP]).install(|| {});
    assert!(matches!(refused, Err(Error::HandlerExists { signal: Signal::HUP, .. })));
    install_exactly(Signal::HUP, nix::libc::SIG_DFL, 0, &[]);
    assert_eq!(all_dispositions(), before);
    // Alone it is enough.
    drop(HandleExit::builder().signals([]).also([Signal::HUP]).install(|| {}).unwrap());
}

// -------------------------------------------------------------------------------------------- run_with

fn runs_with_a_signal() {
    let mut seen = None;
    let mut steps = vec!["before"];
    let ran = HandleExit::builder().run_with(
        |cause| seen = Some(cause.clone()),
        |exit| {
            say("ready");
            exit.wait();
            steps.push("body");
            steps.len()
        },
    );
    let (length, outcome) = ran.unwrap();
    assert_eq!((length, steps), (2, vec!["before", "body"]));
    assert_eq!(outcome.signal(), Some(Signal::TERM));
    assert_eq!(Some(outcome.cause()), seen.as_ref());
    assert!(is_default(Signal::TERM));
    say("behind");
    outcome.end_process();
}

fn run_with_gives_cause_and_outcome() {
    let victim = Victim::ready(runs_with_a_signal);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "behind"]).died_by(Signal::TERM);
}

fn run_with_says_how_it_went() {
    let ran = HandleExit::builder().run_with(|cause| assert_eq!(cause, &Cause::ScopeEnd), |_| "a");
    let (result, outcome) = ran.unwrap();
    assert_eq!((result, outcome.cause(), outcome.signal()), ("a", &Cause::ScopeEnd, None));

    let ran = HandleExit::builder().run_with(
        |cause| assert_eq!(cause, &Cause::Requested),
        |exit| {
            exit.request();
            exit.wait()
        },
    );
    let (result, outcome) = ran.unwrap();
    assert_eq!((&result, outcome.callback_panicked()), (outcome.cause(), false));

    // The result of the body is there although the callback has panicked.
    let ran = HandleExit::builder().run_with(|_| panic!("on purpose"), |_| 7);
    let (result, outcome) = ran.unwrap();
    assert_eq!((result, outcome.callback_panicked()), (7, true));

    // A panic of the body goes on, with the callback run.
    let mut seen = None;
    let unwinds = AssertUnwindSafe(|| {
        HandleExit::builder()
            .run_with(|cause| seen = Some(cause.clone()), |_| panic!("in the body"))
    });
    let payload = catch_unwind(unwinds).map(|ran: Result<((), Outcome), Error>| ran.is_ok());
    assert_eq!(payload.unwrap_err().downcast_ref(), Some(&"in the body"));
    assert_eq!(seen, Some(Cause::Panic));

    // Refused: nothing has run.
    let refused = HandleExit::builder()
        .signals([])
        .run_with(|_| unreachable!(), |_| -> () { unreachable!() });
    assert!(matches!(refused, Err(Error::NoSignals)));
    assert!(Exit::current().is_none());
}

fn outcomes_are_compared() {
    let finished = |callback: fn()| HandleExit::new(callback).unwrap().finish();
    let one: Outcome = finished(|| {});
    assert_eq!(one, finished(|| {}));
    assert_eq!(one, one.clone());
    assert_ne!(one, finished(|| panic!("on purpose")));
    let by_signal = |signal, ending| {
        let guard = HandleExit::builder().ending(ending).install(|| {}).unwrap();
        raise(signal);
        guard.wait();
        guard.finish()
    };
    let by_term = by_signal(Signal::TERM, Ending::Signal);
    assert_eq!(by_term, by_signal(Signal::TERM, Ending::Signal));
    assert_ne!(by_term, one);
    assert_ne!(by_term, by_signal(Signal::INT, Ending::Signal));
    assert_ne!(by_term, by_signal(Signal::TERM, Ending::Code(3)));
}

// ---------------------------------------------------------------------------------------- Deferred::run

static RAN: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn note(what: &'static str) -> impl FnOnce() + Send + 'static {
    move || RAN.lock().unwrap().push(what)
}

fn ran() -> Vec<&'static str> {
    std::mem::take(&mut *RAN.lock().unwrap())
}

fn a_deferred_function_may_be_run_before_its_turn() {
    let guard = HandleExit::new(note("callback")).unwrap();
    let _first = guard.defer(note("first")).unwrap();
    let second = guard.defer(note("second")).unwrap();
    let (said, thread_of) = channel();
    let third = guard.defer(move || said.send(thread::current().id()).unwrap()).unwrap();
    // Dropping what `defer` returns does neither.
    drop(guard.defer(note("fourth")).unwrap());
    assert!(second.run());
    assert_eq!(ran(), ["second"]);
    // On the thread that asks.
    let here = thread::spawn(|| (third.run(), thread::current().id())).join().unwrap();
    assert_eq!(here, (true, thread_of.try_recv().unwrap()));
    drop(guard);
    assert_eq!(ran(), ["callback", "fourth", "first"]);
}

fn a_deferred_function_runs_once_whoever_asks() {
    let guard = HandleExit::new(|| {}).unwrap();
    let late = guard.defer(note("late")).unwrap();
    let cancelled_late = guard.defer(note("cancelled late")).unwrap();
    drop(guard);
    assert_eq!(ran(), ["cancelled late", "late"]);
    assert!(!late.run());
    assert!(!cancelled_late.cancel());
    assert_eq!(ran(), [""; 0]);

    // Of a disarmed guard nothing runs.
    let guard = HandleExit::new(|| {}).unwrap();
    let disarmed = guard.defer(note("disarmed")).unwrap();
    assert!(guard.disarm());
    assert!(!disarmed.run());
    assert_eq!(ran(), [""; 0]);

    // While it is being run, by the end or by `run`, nobody else has it.
    static RUNNING: Mutex<Option<Deferred>> = Mutex::new(None);
    let guard = HandleExit::new(|| {}).unwrap();
    let asks = || {
        let running = RUNNING.lock().unwrap().take().unwrap();
        assert!(!running.run());
        note("ran")();
    };
    *RUNNING.lock().unwrap() = Some(guard.defer(asks).unwrap());
    drop(guard);
    assert_eq!(ran(), ["ran"]);
}

/// Many threads run, cancel and end: each function is run or freed, once.
fn run_cancel_and_the_end_meet() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    for _ in 0..50 {
        let (ran, captured) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let guard = HandleExit::new(|| {}).unwrap();
        let stage = |_| {
            let (ran, captured) = (Arc::clone(&ran), Arc::clone(&captured));
            let function = move || {
                ran.fetch_add(1, SeqCst);
                drop(captured);
            };
            guard.defer(function).unwrap()
        };
        let mut staged: Vec<_> = (0..300).map(stage).collect();
        let (to_cancel, to_run) = (staged.split_off(200), staged.split_off(100));
        let count = |staged: Vec<Deferred>, end: fn(Deferred) -> bool| {
            thread::spawn(move || staged.into_iter().map(end).filter(|done| *done).count())
        };
        let (runs, cancels) = (count(to_run, Deferred::run), count(to_cancel, Deferred::cancel));
        drop(guard);
        runs.join().unwrap();
        let cancelled = cancels.join().unwrap();
        assert_eq!(ran.load(SeqCst), 300 - cancelled);
        assert_eq!(Arc::strong_count(&captured), 1);
    }
}

// --------------------------------------------------------------------------- once the end has begun

/// A deferred function is held while the end runs it; what other threads may do meanwhile.
fn held_at_the_end() {
    let guard = HandleExit::new(|| say("callback")).unwrap();
    let handle = guard.handle();
    let from_inside = guard.handle();
    guard.defer(|| say("first deferred")).unwrap();
    let held = move || {
        held_callback();
        // The function that is being run may add, and a thread that it starts may not.
        from_inside.defer(|| say("added inside")).unwrap();
        let elsewhere = thread::spawn(move || from_inside.defer(|| say("never")).is_err());
        assert!(elsewhere.join().unwrap());
    };
    guard.defer(held).unwrap();
    let other = thread::spawn(move || {
        until_held();
        match handle.defer(|| say("never")) {
            Err(Error::Ended) => say("too late"),
            other => panic!("{other:?}"),
        }
    });
    drop(guard);
    other.join().unwrap();
    say("behind");
}

fn held_at_the_end_of_the_process() {
    let guard = HandleExit::builder().grace(Duration::ZERO).install(|| say("callback")).unwrap();
    let handle = guard.handle();
    guard.defer(held_callback).unwrap();
    raise(Signal::TERM);
    until_held();
    match handle.defer(|| say("never")) {
        Err(Error::Ended) => say("too late"),
        other => panic!("{other:?}"),
    }
    park();
}

fn once_the_end_has_begun_only_what_it_runs_may_defer_more() {
    let mut victim = Victim::start(held_at_the_end);
    victim.expect("too late");
    victim.tell("go on");
    let lines = [
        "callback",
        "callback begins",
        "too late",
        "callback ends",
        "added inside",
        "first deferred",
        "behind",
    ];
    victim.end().said(&lines).exited(0);

    let mut victim = Victim::start(held_at_the_end_of_the_process);
    victim.expect("too late");
    victim.tell("go on");
    let lines = ["callback", "callback begins", "too late", "callback ends"];
    victim.end().said(&lines).died_by(Signal::TERM);
}

/// Four workers that defer, work and cancel in a loop, or run, while the process ends.
fn four_workers() {
    let guard = HandleExit::builder().grace(Duration::ZERO).install(|| say("callback")).unwrap();
    for number in 0..4 {
        let exit = guard.handle();
        thread::spawn(move || {
            loop {
                match exit.defer(|| {}) {
                    Ok(staged) if number % 2 == 0 => drop(staged.cancel()),
                    Ok(staged) => drop(staged.run()),
                    Err(_) => thread::yield_now(),
                }
            }
        });
    }
    guard.defer(|| say("deferred")).unwrap();
    if told::<String>() == "signal" {
        ready_for_ever();
    }
    say("ready");
    std::process::exit(3);
}

fn the_end_ends_whatever_other_threads_defer() {
    for _ in 0..10 {
        let victim = Victim::ready(four_workers.told("signal"));
        victim.send(Signal::TERM);
        victim.end().said(&["ready", "callback", "deferred"]).died_by(Signal::TERM);
        let end = Victim::start(four_workers.told("exit")).end();
        end.said(&["ready", "callback", "deferred"]).exited(3);
    }
}

// ---------------------------------------------------------------------------------------------- errors

/// What an error and all of its sources print, each once.
fn chain(error: &Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(source) = next {
        texts.push(source.to_string());
        next = source.source();
    }
    texts
}

/// No thread can be had.
fn threads_are_refused() {
    if !is_bound_by_limits() {
        return;
    }
    set_limit(Resource::RLIMIT_NPROC, 0);
    let before = all_dispositions();
    let error = HandleExit::new(|| say("never")).unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error:?}");
    let chain = chain(&error);
    let [step, reason] = &chain[..] else { panic!("{chain:?}") };
    assert!(!step.contains(reason.as_str()) && !step.contains("os error"), "{step}");
    assert!(reason.contains("os error"), "{reason}");
    assert!(step.contains("thread"), "{step}");
    let system = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(system.raw_os_error(), Some(nix::libc::EAGAIN));
    // Where only Debug is shown, as `main` does, nothing is missing.
    let shown = format!("{error:?}");
    assert!(shown.contains(step) && shown.contains(reason), "{shown}");
    assert_eq!(all_dispositions(), before);
    say("refused");
}

fn an_error_of_the_system_says_the_step_and_its_source_the_reason() {
    let end = Victim::start(threads_are_refused).end();
    end.exited(0);
    let skipped = end.lines.iter().find(|line| line.starts_with("skipped"));
    match skipped {
        Some(why) => println!("{why}"),
        None => drop(end.said(&["refused"])),
    }
}

fn other_errors_have_no_source_and_say_what_to_do() {
    let _outer = HandleExit::new(|| {}).unwrap();
    let ended = HandleExit::append(|| {}).unwrap();
    let handle = ended.handle();
    drop(ended);
    install_old(Signal::HUP);
    let errors = [
        (HandleExit::new(|| {}).unwrap_err(), "append"),
        (handle.defer(|| {}).unwrap_err(), "guard"),
        (HandleExit::builder().signals([]).install(|| {}).unwrap_err(), "signals"),
        (HandleExit::builder().signals([Signal::KILL]).install(|| {}).unwrap_err(), "SIGKILL"),
    ];
    for (error, says) in errors {
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.source().is_none(), "{error:?}");
    }
}

/// Foreign handlers that pass signals on bury the guard's until none is left: nobody's refusal but ours.
fn buried_too_often() {
    let before = disposition(Signal::INT);
    for round in 0..FOREIGN {
        match HandleExit::append(|| {}) {
            Ok(guard) => {
                put_on_top(round);
                drop(guard);
            }
            Err(error) => {
                assert!(matches!(error, Error::Busy { .. }), "{error:?}");
                assert!(error.to_string().contains("SIGTERM"), "{error}");
                assert!(error.source().is_none());
                assert_eq!(disposition(Signal::INT), before);
                say("busy");
                return;
            }
        }
    }
    say("never busy");
}

fn what_the_crate_itself_is_too_busy_for_is_no_system_error() {
    let end = Victim::start(buried_too_often).end();
    end.exited(0);
    assert_eq!(end.lines.len(), 1, "{end:#?}");
    println!("after {FOREIGN} foreign handlers: {}", end.lines[0]);
}

pub(crate) const TESTS: &[Named] = tests![
    also_is_besides_what_is_guarded_already,
    run_with_gives_cause_and_outcome,
    once_the_end_has_begun_only_what_it_runs_may_defer_more,
    the_end_ends_whatever_other_threads_defer,
    an_error_of_the_system_says_the_step_and_its_source_the_reason,
    what_the_crate_itself_is_too_busy_for_is_no_system_error;
    alone:
    also_is_refused_as_signals_are,
    run_with_says_how_it_went,
    outcomes_are_compared,
    a_deferred_function_may_be_run_before_its_turn,
    a_deferred_function_runs_once_whoever_asks,
    run_cancel_and_the_end_meet,
    other_errors_have_no_source_and_say_what_to_do,
];
