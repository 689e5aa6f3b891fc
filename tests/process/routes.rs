//! The table *exit route × what happens*: however the scope or the process ends, the callback runs
//! once and to its end, on the thread and with the cause that belong to the route, and the status is
//! true. What signals do is in `signals.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::*;
use handle_exit::{AfterScope, Cause, Error, Exit, HandleExit, Signal};

/// Says what began the exit, and on which thread it runs.
fn callback(cause: &Cause) {
    let cause = match cause {
        Cause::Signal(received) => received.signal().to_string(),
        other => other.to_string(),
    };
    say(format!("callback on {}: {cause}", thread_name()));
    say("callback ends");
}

fn guard() -> HandleExit {
    HandleExit::builder().install_with(callback).unwrap()
}

fn failing_guard() -> HandleExit {
    HandleExit::new(|| {
        say("callback begins");
        panic!("in the callback");
    })
    .unwrap()
}

// -------------------------------------------------------------------- scenarios: the scope ends

fn scope_end() {
    {
        let _guard = guard();
        say("body");
    }
    say("behind");
}

fn question_mark() {
    fn fails() -> Result<(), Box<dyn std::error::Error>> {
        let _guard = guard();
        "no number".parse::<u32>()?;
        unreachable!()
    }
    say(format!("error: {}", fails().unwrap_err()));
}

fn panics() {
    let _guard = guard();
    panic!("on purpose");
}

fn finish() {
    let outcome = guard().finish();
    say(format!("behind {}", outcome.cause()));
}

fn disarmed() {
    let captured = SaysWhenFreed("freed");
    let guard = HandleExit::cleanup(move || {
        let _captured = captured;
        say("is not to run");
    })
    .unwrap();
    assert!(guard.disarm());
    say("disarmed");
    assert!(is_default(Signal::TERM));
    raise(Signal::TERM);
}

fn callback_panics_on_drop() {
    let guard = failing_guard();
    let payload = catch_unwind(AssertUnwindSafe(|| drop(guard))).unwrap_err();
    say(format!("unwinds with: {}", payload.downcast_ref::<&str>().unwrap()));
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
    assert!(Exit::current().is_none());
    std::panic::resume_unwind(payload);
}

fn callback_panics_while_unwinding() {
    let unwinding = catch_unwind(|| {
        let _guard = failing_guard();
        panic!("in the body");
    });
    let payload = unwinding.unwrap_err();
    say(format!("unwinds with: {}", payload.downcast_ref::<&str>().unwrap()));
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
    std::panic::resume_unwind(payload);
}

fn nested() {
    let _guard = guard();
    assert!(matches!(HandleExit::new(|| {}), Err(Error::Nested)));
    assert!(matches!(HandleExit::cleanup(|| {}), Err(Error::Nested)));
}

// ------------------------------------------------------------------ scenarios: the process ends

fn process_exit() {
    let _guard = guard();
    exit(3);
}

fn process_exit_on_another_thread() {
    let _guard = guard();
    let exits = std::thread::Builder::new().name("exiter".into());
    exits.spawn(|| exit(3)).unwrap().join().unwrap();
}

fn kept_and_returned() {
    guard().keep();
    say("body");
}

fn forgotten_and_returned() {
    std::mem::forget(guard());
    say("body");
}

fn kept_and_exited() {
    guard().keep();
    say("body");
    exit(3);
}

fn forgotten_and_exited() {
    std::mem::forget(guard());
    say("body");
    exit(3);
}

fn cleanup_guard() -> HandleExit {
    HandleExit::builder().grace(Duration::ZERO).install_with(callback).unwrap()
}

fn kept_and_signalled() {
    cleanup_guard().keep();
    ready_for_ever();
}

fn forgotten_and_signalled() {
    std::mem::forget(cleanup_guard());
    ready_for_ever();
}

/// The callback, on the watcher, panics when main waits for it in `drop`.
fn callback_panics_while_main_drops() {
    let guard = HandleExit::new(|| {
        held_callback();
        panic!("in the callback");
    });
    let guard = guard.unwrap();
    say("ready");
    until_held();
    say("main ends");
    drop(guard);
    say("behind");
}

// --------------------------------------------------------- scenarios: `exit` inside the callback

fn exiting_guard(code: i32) -> HandleExit {
    let guard = HandleExit::new(move || {
        say("callback begins");
        exit(code);
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred")).unwrap();
    guard
}

fn callback_exits_on_drop() {
    drop(exiting_guard(7));
    say("behind");
}

fn callback_exits_on_the_watcher() {
    let _guard = exiting_guard(7);
    ready_for_ever();
}

/// Where the signal says how the process is to end.
fn callback_of_cleanup_exits() {
    let guard = HandleExit::cleanup(|| {
        say("callback begins");
        exit(7);
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

/// The callback, on the watcher, calls `exit` when `end` has begun to end the process.
fn callback_exits_while(end: fn()) {
    let guard = HandleExit::new(|| {
        held_callback();
        exit(7);
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred")).unwrap();
    guard.keep();
    say("ready");
    until_held();
    say("main ends");
    end();
}

fn callback_exits_while_main_returns() {
    callback_exits_while(|| {});
}

fn callback_exits_while_main_exits() {
    callback_exits_while(|| exit(3));
}

#[cfg(unix)]
extern "C" fn held_exit_function() {
    say("exit function");
    hear();
}

/// The scope ends when the callback, on the watcher, is inside `exit`.
#[cfg(unix)]
fn drop_while_the_callback_exits() {
    // It runs after all that is the guard's.
    at_exit(held_exit_function);
    let guard = HandleExit::new(|| exit(7)).unwrap();
    guard.defer(held_callback).unwrap();
    guard.request();
    until_held();
    say("main ends");
    drop(guard);
    say("behind");
}

// ------------------------------- scenarios: something else ends while the watcher runs the callback

/// `end` meets a callback that a signal has begun, and that waits for the test. The guard leaves the
/// scope no time: that the scope has begun to end while the callback runs is in time all the same.
fn while_the_callback_runs(end: fn(HandleExit)) {
    while_a_callback_runs(held_callback, end);
}

fn while_a_callback_runs(callback: fn(), end: fn(HandleExit)) {
    let guard = HandleExit::builder().grace(Duration::ZERO).install(callback).unwrap();
    say("ready");
    until_held();
    say("main ends");
    end(guard);
}

fn drop_while_the_callback_runs() {
    while_the_callback_runs(|guard| {
        drop(guard);
        say("behind");
    });
}

fn finish_while_the_callback_runs() {
    while_the_callback_runs(|guard| {
        say(format!("behind {}", guard.finish().signal().unwrap()));
    });
}

fn disarm_while_the_callback_runs() {
    while_the_callback_runs(|guard| {
        assert!(!guard.disarm(), "the exit had begun");
        say("behind");
    });
}

fn panic_while_the_callback_runs() {
    while_the_callback_runs(|_guard| panic!("in the body"));
}

fn return_while_the_callback_runs() {
    while_the_callback_runs(HandleExit::keep);
}

fn process_exit_while_the_callback_runs() {
    while_the_callback_runs(|_guard| exit(3));
}

fn another_thread_exits_while_the_callback_runs() {
    while_the_callback_runs(|_guard| {
        let exits = std::thread::spawn(|| exit(3));
        exits.join().unwrap();
    });
}

/// Here it is the end of the process that has begun the callback.
fn drop_while_the_process_exits() {
    let guard = HandleExit::new(held_callback).unwrap();
    std::thread::spawn(|| {
        until_held();
        say("scope ends");
        drop(guard);
        say("behind");
    });
    exit(3);
}

fn held_callback_that_panics() {
    held_callback();
    panic!("in the callback");
}

fn drop_while_the_callback_fails() {
    while_a_callback_runs(held_callback_that_panics, |guard| {
        drop(guard);
        say("behind");
    });
}

fn disarm_while_the_callback_fails() {
    while_a_callback_runs(held_callback_that_panics, |guard| {
        assert!(!guard.disarm(), "the exit had begun");
        say("behind");
    });
}

fn finish_while_the_callback_fails() {
    while_a_callback_runs(held_callback_that_panics, |guard| {
        assert!(guard.finish().callback_panicked());
        say("behind");
    });
}

/// There is nothing after this scope that could report it.
fn finish_of_the_last_scope_while_the_callback_fails() {
    let builder = HandleExit::builder().grace(Duration::MAX).after_scope(AfterScope::End);
    let guard = builder.install(held_callback_that_panics).unwrap();
    say("ready");
    until_held();
    say("main ends");
    let _ = guard.finish();
    say("behind");
}

// ------------------------------------------------- scenarios: the callback drops its own guard

static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);

/// Puts a guard where its own callback drops it.
fn guard_that_drops_itself() {
    let callback = || {
        say("callback begins");
        let guard = GUARD.lock().unwrap().take();
        drop(guard.expect("only the callback takes it"));
        say("callback ends");
    };
    *GUARD.lock().unwrap() = Some(HandleExit::new(callback).unwrap());
}

fn dropped_in_its_callback_on_a_signal() {
    guard_that_drops_itself();
    say("ready");
    until("everything is put back", || {
        Exit::current().is_none() && is_default(Signal::TERM) && is_default(Signal::INT)
    });
    say("put back");
    drop(guard());
}

fn dropped_in_its_callback_on_process_exit() {
    guard_that_drops_itself();
    exit(3);
}

// ---------------------------------------------------------------------------------------- tests

fn on_main(cause: &str) -> [String; 2] {
    [format!("callback on main: {cause}"), "callback ends".into()]
}

fn scope_end_runs_the_callback() {
    let [begins, ends] = &on_main("the scope ended");
    Victim::start(scope_end).end().said(&["body", begins, ends, "behind"]).exited(0);
}

fn question_mark_runs_the_callback() {
    let [begins, ends] = &on_main("the scope ended");
    let error = "error: invalid digit found in string";
    Victim::start(question_mark).end().said(&[begins, ends, error]).exited(0);
}

fn a_panic_runs_the_callback() {
    let [begins, ends] = &on_main("a panic");
    Victim::start(panics).end().said(&[begins, ends]).exited(101);
}

fn finish_runs_the_callback() {
    let [begins, ends] = &on_main("the scope ended");
    Victim::start(finish).end().said(&[begins, ends, "behind the scope ended"]).exited(0);
}

fn a_disarmed_callback_is_not_run_and_what_it_captured_is_freed() {
    let end = Victim::start(disarmed).end();
    end.said(&["freed", "disarmed"]).was_left_to(Signal::TERM);
}

fn a_panic_of_the_callback_goes_on_from_drop_with_everything_put_back() {
    let end = Victim::start(callback_panics_on_drop).end();
    end.said(&["callback begins", "unwinds with: in the callback"]).exited(101);
}

fn a_panic_of_the_callback_while_unwinding_is_contained() {
    let end = Victim::start(callback_panics_while_unwinding).end();
    end.said(&["callback begins", "unwinds with: in the body"]).exited(101);
}

fn nesting_is_refused() {
    let [begins, ends] = &on_main("the scope ended");
    Victim::start(nested).end().said(&[begins, ends]).exited(0);
}

fn process_exit_runs_the_callback() {
    let [begins, ends] = &on_main("the process exits");
    Victim::start(process_exit).end().said(&[begins, ends]).exited(3);
}

fn process_exit_on_another_thread_runs_the_callback_there() {
    let end = Victim::start(process_exit_on_another_thread).end();
    end.said(&["callback on exiter: the process exits", "callback ends"]).exited(3);
}

fn a_kept_or_forgotten_guard_lives_until_the_process_ends() {
    let [begins, ends] = &on_main("the process exits");
    for scenario in scenarios![kept_and_returned, forgotten_and_returned] {
        Victim::start(scenario).end().said(&["body", begins, ends]).exited(0);
    }
    for scenario in scenarios![kept_and_exited, forgotten_and_exited] {
        Victim::start(scenario).end().said(&["body", begins, ends]).exited(3);
    }
    for scenario in scenarios![kept_and_signalled, forgotten_and_signalled] {
        let victim = Victim::ready(scenario);
        victim.send(Signal::TERM);
        let end = victim.end();
        end.said(&["ready", "callback on handle-exit: SIGTERM", ends]).died_by(Signal::TERM);
    }
}

fn exit_in_the_callback_ends_the_process_with_that_code() {
    let lines = ["callback begins", "deferred"];
    Victim::start(callback_exits_on_drop).end().said(&lines).exited(7);
    for scenario in scenarios![callback_exits_on_the_watcher, callback_of_cleanup_exits] {
        let victim = Victim::ready(scenario);
        victim.send(Signal::TERM);
        victim.end().said(&["ready", lines[0], lines[1]]).exited(7);
    }
}

/// Has TERM begin the callback, and the rest of the process meet it.
fn meet_the_callback(scenario: impl Play) -> End {
    meet_the_callback_for(scenario, Duration::ZERO)
}

/// As `meet_the_callback`, with a callback that takes this time at least.
fn meet_the_callback_for(scenario: impl Play, time: Duration) -> End {
    let mut victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    victim.expect("main ends");
    victim.at_rest();
    std::thread::sleep(time);
    victim.tell("go on");
    victim.end()
}

const MET: [&str; 4] = ["ready", "callback begins", "main ends", "callback ends"];

fn exit_in_the_callback_does_not_hang_a_process_that_exits() {
    for (scenario, code) in [
        (Scenario::of(callback_exits_while_main_returns), 0),
        (Scenario::of(callback_exits_while_main_exits), 3),
    ] {
        let end = meet_the_callback(scenario);
        end.said(&[&MET[..], &["deferred"]].concat());
        // Nothing tells which of the two ends the process on Windows; each does so after everything.
        if cfg!(unix) || end.status.code() != Some(7) {
            end.exited(code);
        }
    }
}

/// The thread that ends the scope looks after the callback again and again: under test is that it goes on to wait.
#[cfg(unix)]
fn nothing_goes_on_behind_a_scope_whose_callback_exits() {
    let mut victim = Victim::start(drop_while_the_callback_exits);
    for line in ["main ends", "exit function"] {
        victim.expect(line);
        victim.has_looked();
        std::thread::sleep(Duration::from_millis(200));
        victim.tell("go on");
    }
    let lines = ["callback begins", "main ends", "callback ends", "exit function"];
    victim.end().said(&lines).exited(7);
}

fn the_end_of_the_scope_waits_for_the_callback() {
    for (scenario, behind) in [
        (Scenario::of(drop_while_the_callback_runs), "behind"),
        (Scenario::of(finish_while_the_callback_runs), "behind SIGTERM"),
        (Scenario::of(disarm_while_the_callback_runs), "behind"),
    ] {
        meet_the_callback(scenario).said(&[&MET[..], &[behind]].concat()).exited(0);
    }
    meet_the_callback(panic_while_the_callback_runs).said(&MET).exited(101);

    let mut victim = Victim::start(drop_while_the_process_exits);
    victim.expect("scope ends");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    end.exited(3);
    // Whether the thread gets any further is open.
    assert_eq!(end.lines[..3], ["callback begins", "scope ends", "callback ends"], "{end:#?}");
}

fn nothing_goes_on_behind_a_callback_that_panics_unless_finish_reports_it() {
    meet_the_callback(drop_while_the_callback_fails).said(&MET).exited(101);
    meet_the_callback(disarm_while_the_callback_fails).said(&MET).exited(101);
    let end = meet_the_callback(finish_while_the_callback_fails);
    end.said(&[&MET[..], &["behind"]].concat()).exited(0);
    meet_the_callback(finish_of_the_last_scope_while_the_callback_fails).said(&MET).exited(101);
}

fn nothing_goes_on_behind_a_scope_whose_callback_panicked_on_a_signal() {
    meet_the_callback(callback_panics_while_main_drops).said(&MET).exited(101);
}

fn the_end_of_the_process_waits_for_the_callback() {
    // An exiting process looks after the callback again and again: under test is that it goes on to.
    let looks = Duration::from_millis(200);
    meet_the_callback_for(return_while_the_callback_runs, looks).said(&MET).exited(0);
    meet_the_callback(process_exit_while_the_callback_runs).said(&MET).exited(3);
    meet_the_callback(another_thread_exits_while_the_callback_runs).said(&MET).exited(3);
}

fn a_guard_may_be_dropped_in_its_own_callback() {
    let victim = Victim::ready(dropped_in_its_callback_on_a_signal);
    victim.send(Signal::TERM);
    let [begins, ends] = &on_main("the scope ended");
    let first = ["ready", "callback begins", "callback ends", "put back"];
    victim.end().said(&[&first[..], &[begins, ends]].concat()).exited(0);

    let end = Victim::start(dropped_in_its_callback_on_process_exit).end();
    end.said(&["callback begins", "callback ends"]).exited(3);
}

pub(crate) const TESTS: &[Named] = tests![
    scope_end_runs_the_callback,
    question_mark_runs_the_callback,
    a_panic_runs_the_callback,
    finish_runs_the_callback,
    a_disarmed_callback_is_not_run_and_what_it_captured_is_freed,
    a_panic_of_the_callback_goes_on_from_drop_with_everything_put_back,
    a_panic_of_the_callback_while_unwinding_is_contained,
    nesting_is_refused,
    process_exit_runs_the_callback,
    process_exit_on_another_thread_runs_the_callback_there,
    a_kept_or_forgotten_guard_lives_until_the_process_ends,
    exit_in_the_callback_ends_the_process_with_that_code,
    exit_in_the_callback_does_not_hang_a_process_that_exits,
    #[cfg(unix)]
    nothing_goes_on_behind_a_scope_whose_callback_exits,
    the_end_of_the_scope_waits_for_the_callback,
    nothing_goes_on_behind_a_scope_whose_callback_panicked_on_a_signal,
    nothing_goes_on_behind_a_callback_that_panics_unless_finish_reports_it,
    the_end_of_the_process_waits_for_the_callback,
    a_guard_may_be_dropped_in_its_own_callback,
];
