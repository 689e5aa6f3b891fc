//! Ends that forget nobody: every end of the process runs the callbacks and deferred functions of all living guards,
//! waits for what is running, and keeps the status that was decided.

#![allow(unsafe_code, reason = "forks in user code are the test's subject")]

use std::future::Future;
use std::pin::pin;
use std::process::Termination;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};
use std::thread::sleep;
use std::time::Duration;

use crate::support::*;
use handle_exit::{AfterScope, Builder, Error, Event, HandleExit, Received, Signal};
use nix::libc;

/// Long enough for a process that does not wait for what runs to have ended: under test is that it waits.
const LOOKS: Duration = Duration::from_millis(300);

/// A guest that does not end the process by itself.
fn guest() -> Builder {
    HandleExit::builder().append(true).after_scope(AfterScope::Continue).grace(Duration::MAX)
}

fn host() -> Builder {
    HandleExit::builder().grace(Duration::MAX)
}

// ------------------------------------------------------------------------ an outcome that main returns

/// What `main` does with an outcome that it returns.
fn return_from_main(outcome: handle_exit::Outcome) -> ! {
    let code = outcome.report();
    unreachable!("{code:?}, though a signal came")
}

/// The guard of the program ends by a signal that the other guards do not have.
fn outcome_beside_other_guards() {
    let way: String = told();
    let program = host().install(|| say("program's callback")).unwrap();
    let other = guest().signals([Signal::USR1]).install(|| say("other's callback")).unwrap();
    other.defer(|| say("other's deferred")).unwrap();
    other.keep();
    say("ready");
    program.wait();
    let outcome = program.finish();
    match &*way {
        "returned" => return_from_main(outcome),
        _ => outcome.end_process(),
    }
}

fn outcome_beside_a_callback_that_runs() {
    let way: String = told();
    let program = host().install(|| say("program's callback")).unwrap();
    let other = guest().signals([Signal::USR1]).install(held_callback).unwrap();
    other.defer(|| say("other's deferred")).unwrap();
    other.request();
    other.keep();
    until_held();
    // The watcher is in that callback, so main runs its own.
    raise(Signal::TERM);
    let outcome = program.finish();
    say("main ends");
    match &*way {
        "returned" => return_from_main(outcome),
        _ => outcome.end_process(),
    }
}

fn an_outcome_that_ends_the_process_runs_the_other_guards() {
    in_each(&["returned", "ends the process"], |way| {
        let victim = Victim::ready(outcome_beside_other_guards.told(way));
        victim.send(Signal::TERM);
        let lines = ["ready", "program's callback", "other's callback", "other's deferred"];
        victim.end().said(&lines).died_by(Signal::TERM);
    });
}

fn an_outcome_that_ends_the_process_cuts_no_callback() {
    in_each(&["returned", "ends the process"], |way| {
        let mut victim = Victim::start(outcome_beside_a_callback_that_runs.told(way));
        victim.expect("main ends");
        sleep(LOOKS);
        victim.tell("go on");
        let lines = ["callback begins", "program's callback", "main ends", "callback ends"];
        let end = victim.end();
        end.said(&[&lines[..], &["other's deferred"]].concat()).died_by(Signal::TERM);
    });
}

// ---------------------------------------------------------------- callbacks that make guards, eight deep

const DEEP: usize = 8;

/// The callback of each guard makes and keeps the next one.
fn make_and_keep(level: usize) {
    let guard = guest().install(move || {
        say(format!("callback {level}"));
        if level < DEEP {
            make_and_keep(level + 1);
        }
    });
    guard.unwrap().keep();
}

fn callbacks_make_guards() {
    match told::<String>().as_str() {
        "return" => make_and_keep(1),
        "exit" => {
            make_and_keep(1);
            std::process::exit(3);
        }
        "handle_exit::exit" => {
            make_and_keep(1);
            handle_exit::exit(3);
        }
        "signal" => {
            HandleExit::cleanup(|| {
                say("callback 1");
                make_and_keep(2);
            })
            .unwrap()
            .keep();
            ready_for_ever();
        }
        other => panic!("{other}"),
    }
}

fn guards_that_callbacks_make_and_keep_are_run_eight_deep() {
    let callbacks: Vec<String> = (1..=DEEP).map(|level| format!("callback {level}")).collect();
    for (end, code) in [("return", 0), ("exit", 3), ("handle_exit::exit", 3)] {
        let end = Victim::start(callbacks_make_guards.told(end)).end();
        assert_eq!(end.lines, callbacks, "{end:#?}");
        end.exited(code);
    }
    let victim = Victim::ready(callbacks_make_guards.told("signal"));
    victim.send(Signal::TERM);
    let end = victim.end();
    assert_eq!(end.lines[1..], callbacks, "{end:#?}");
    end.died_by(Signal::TERM);
}

// --------------------------------------------------------------- Deferred::run while the process ends

fn deferred_is_run_by_a_worker() {
    let way: String = told();
    let guard = match &*way {
        "signal" => HandleExit::cleanup(|| say("callback")).unwrap(),
        _ => HandleExit::new(|| say("callback")).unwrap(),
    };
    let deferred = guard.defer(held_callback).unwrap();
    std::thread::spawn(move || deferred.run());
    until_held();
    say("main ends");
    guard.keep();
    match &*way {
        "exit" => std::process::exit(3),
        "signal" => park(),
        _ => {}
    }
}

/// `Deferred::run` is user code like the deferred function that the end of the process runs.
fn a_deferred_function_that_a_worker_runs_is_waited_for() {
    in_each(&["exit", "return", "signal"], |way| {
        let mut victim = Victim::start(deferred_is_run_by_a_worker.told(way));
        victim.expect("main ends");
        if way == "signal" {
            victim.send(Signal::TERM);
        }
        victim.expect("callback");
        sleep(LOOKS);
        victim.tell("go on");
        let end = victim.end();
        end.said(&["callback begins", "main ends", "callback", "callback ends"]);
        match way {
            "exit" => end.exited(3),
            "return" => end.exited(0),
            _ => end.died_by(Signal::TERM),
        };
    });
}

// -------------------------------------------------- observers and wakers that exit or fork at the start

/// What the observer or waker does, once: the exit that it begins tells the same event again.
fn exits_or_forks(what: &str) {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    if IS_DONE.swap(true, SeqCst) {
        return;
    }
    say(what);
    if what == "exits" {
        std::process::exit(7);
    }
    // SAFETY: what the child goes on with is what is tested.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: no memory is involved. If the child hangs, it ends with its parent.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is valid for a write.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            say("child has ended");
        }
    }
}

struct ExitsOrForks(String);

impl Wake for ExitsOrForks {
    fn wake(self: Arc<Self>) {
        exits_or_forks(&self.0);
    }
}

/// An observer or a waker, which exits or forks; the exit begins with a signal or the end of the scope.
fn exits_or_forks_at_the_start() {
    let told: String = told();
    let words: Vec<String> = told.split(' ').map(str::to_owned).collect();
    let [who, what, way] = words.try_into().unwrap();
    let mut builder = HandleExit::builder().cleanup();
    if who == "observer" {
        let what = what.clone();
        builder = builder.observe(move |event| {
            if matches!(event, Event::CallbackStarted(_)) {
                exits_or_forks(&what);
            }
        });
    }
    let guard = builder.install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    let mut begun = pin!(guard.begun());
    if who == "waker" {
        let waker = Waker::from(Arc::new(ExitsOrForks(what)));
        assert!(begun.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    if way == "signal" {
        say("ready");
        park();
    }
    drop(guard);
}

fn ends_after_its_start(who: &str, what: &str, way: &str) -> End {
    let victim = Victim::start(exits_or_forks_at_the_start.told(format!("{who} {what} {way}")));
    if way == "signal" {
        let mut victim = victim;
        victim.expect("ready");
        victim.send(Signal::TERM);
        return victim.end();
    }
    victim.end()
}

fn an_exit_at_the_start_does_not_lose_the_callback(who: &str) {
    in_each(&["signal", "drop"], |way| {
        let end = ends_after_its_start(who, "exits", way);
        let ready: &[&str] = if way == "signal" { &["ready"] } else { &[] };
        end.said(&[ready, &["exits", "callback", "deferred"]].concat()).exited(7);
    });
}

fn an_observer_that_exits_does_not_lose_the_callback() {
    an_exit_at_the_start_does_not_lose_the_callback("observer");
}

fn a_waker_that_exits_does_not_lose_the_callback() {
    an_exit_at_the_start_does_not_lose_the_callback("waker");
}

/// In the child the user's function returns into nothing of the parent's.
fn a_fork_at_the_start_runs_the_callback_in_the_parent_only(who: &str) {
    in_each(&["signal", "drop"], |way| {
        let end = ends_after_its_start(who, "forks", way);
        // The child of a waker or observer on main goes on behind the scope, and says nothing there.
        let ready: &[&str] = if way == "signal" { &["ready"] } else { &[] };
        end.said(&[ready, &["forks", "child has ended", "callback", "deferred"]].concat());
        match way {
            "signal" => end.died_by(Signal::TERM),
            _ => end.exited(0),
        };
    });
}

fn a_fork_in_an_observer_runs_the_callback_in_the_parent_only() {
    a_fork_at_the_start_runs_the_callback_in_the_parent_only("observer");
}

fn a_fork_in_a_waker_runs_the_callback_in_the_parent_only() {
    a_fork_at_the_start_runs_the_callback_in_the_parent_only("waker");
}

// ------------------------------------------------------------------------------ the status that holds

/// The callback fails, and the deferred function exits with 0.
fn fails_and_then_exits_with_0() {
    let told: String = told();
    let (failure, way) = told.split_once(' ').unwrap();
    let mut builder = HandleExit::builder().cleanup();
    if failure == "overruns" {
        builder = builder.callback_timeout(SOON_OVER);
    }
    let panics = failure == "panics";
    let guard = builder.install(move || {
        say("callback");
        if panics {
            panic!("on purpose");
        }
        park();
    });
    let guard = guard.unwrap();
    let inside_exit = way == "exit";
    guard
        .defer(move || {
            say("deferred");
            // The standard library aborts where it is called inside of itself.
            if inside_exit && panics {
                handle_exit::exit(0);
            }
            std::process::exit(0);
        })
        .unwrap();
    match way {
        "signal" => ready_for_ever(),
        "exit" => std::process::exit(0),
        "drop" => drop(guard),
        other => panic!("{other}"),
    }
}

fn an_exit_in_a_deferred_function_does_not_hide_the_failure(failure: &str, ways: &[&str]) {
    in_each(ways, |way| {
        let told = format!("{failure} {way}");
        let mut victim = Victim::start(fails_and_then_exits_with_0.told(told));
        if way == "signal" {
            victim.expect("ready");
            victim.send(Signal::TERM);
        }
        let end = victim.end();
        let ready: &[&str] = if way == "signal" { &["ready"] } else { &[] };
        end.said(&[ready, &["callback", "deferred"]].concat()).exited(101);
    });
}

fn an_exit_in_a_deferred_function_does_not_hide_that_the_callback_panicked() {
    an_exit_in_a_deferred_function_does_not_hide_the_failure("panics", &["signal", "exit"]);
}

fn an_exit_in_a_deferred_function_does_not_hide_a_panic_at_the_end_of_the_scope() {
    an_exit_in_a_deferred_function_does_not_hide_the_failure("panics", &["drop"]);
}

fn an_exit_in_a_deferred_function_does_not_hide_that_the_callback_overran() {
    an_exit_in_a_deferred_function_does_not_hide_the_failure(
        "overruns",
        &["signal", "exit", "drop"],
    );
}

/// `cleanup`, whose callback is held, and a function for HUP that exits: of the same guard, or of another one.
fn queued_function_exits() {
    let exits = |_: &Received| {
        say("exits with 3");
        std::process::exit(3);
    };
    let builder = HandleExit::builder().cleanup();
    if told::<String>() == "same guard" {
        builder.on(Signal::HUP, exits).install(held_callback).unwrap().keep();
    } else {
        builder.install(held_callback).unwrap().keep();
        let guest = guest().signals([]).on(Signal::HUP, exits).install(|| say("guest's callback"));
        guest.unwrap().keep();
    }
    ready_for_ever();
}

/// What TERM began is decided when HUP comes.
fn an_on_function_that_is_queued_behind_a_cleanup_does_not_choose_the_status() {
    in_each(&["same guard", "another guard"], |whose| {
        let mut victim = Victim::ready(queued_function_exits.told(whose));
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        victim.send(Signal::HUP);
        until("HUP is delivered", || !victim.has_pending(Signal::HUP));
        victim.tell("go on");
        victim.end().died_by(Signal::TERM);
    });
}

/// The watcher is in a function for USR1 when HUP, whose function exits, and TERM come.
fn queued_before_the_signal() {
    let exits = |_: &Received| {
        say("exits with 3");
        std::process::exit(3);
    };
    let builder = HandleExit::builder().cleanup().on(Signal::USR1, |_| held_callback());
    builder.on(Signal::HUP, exits).install(|| say("callback")).unwrap().keep();
    ready_for_ever();
}

/// Once an exit has begun, no function is called any more: what came before and was not heard is over.
fn an_on_function_that_is_queued_before_the_signal_does_not_beat_it() {
    let mut victim = Victim::ready(queued_before_the_signal);
    victim.send(Signal::USR1);
    victim.expect("callback begins");
    for signal in [Signal::HUP, Signal::TERM] {
        victim.send(signal);
        until("it is delivered", || !victim.has_pending(signal));
    }
    victim.tell("go on");
    let lines = ["ready", "callback begins", "callback ends", "callback"];
    victim.end().said(&lines).died_by(Signal::TERM);
}

// ---------------------------------------------------------- a worker runs the callback, which panics

/// A signal has begun the exit, and a worker ends the scope. The watcher is in a function for HUP, which does not return
/// before the worker, that waits for a second, has run the callback.
fn worker_runs_the_callback() {
    static IS_BUSY: AtomicBool = AtomicBool::new(false);
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let busy = |_: &Received| {
        IS_BUSY.store(true, SeqCst);
        until("the callback has been called", || CALLS.load(SeqCst) > 0);
    };
    let guard = host().on(Signal::HUP, busy).install(|| {
        say(format!("callback on {}", thread_name()));
        CALLS.fetch_add(1, SeqCst);
        panic!("on purpose");
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred")).unwrap();
    raise(Signal::HUP);
    until("the watcher is busy", || IS_BUSY.load(SeqCst));
    raise(Signal::TERM);
    let worker = std::thread::Builder::new().name("worker".into()).spawn(move || drop(guard));
    let _ = worker.unwrap().join();
}

/// Nothing may go on, and no 0 may tell of a clean stop, after a callback that a signal called for has panicked.
fn a_callback_that_panics_on_a_worker_after_a_signal_ends_the_process_with_101() {
    let end = Victim::start(worker_runs_the_callback).end();
    end.said(&["callback on worker", "deferred"]).exited(101);
}

// -------------------------------------------------------------------- guards that are made while the process ends

/// The callback inside the exit makes a guard, and so does a thread of its own.
fn made_while_the_process_ends() {
    let guard = host().install(|| {
        say("callback");
        guest().install(|| say("guard of the exiting thread")).unwrap().keep();
        let made = std::thread::spawn(|| guest().install(|| say("guard of another thread")));
        match made.join().unwrap() {
            Err(Error::Ended) => say("refused"),
            other => say(format!("{other:?}")),
        }
    });
    guard.unwrap().keep();
    std::process::exit(3);
}

fn another_thread_makes_no_guard_while_the_process_ends() {
    let lines = ["callback", "refused", "guard of the exiting thread"];
    Victim::start(made_while_the_process_ends).end().said(&lines).exited(3);
}

pub(crate) const TESTS: &[Named] = tests![
    an_outcome_that_ends_the_process_runs_the_other_guards,
    an_outcome_that_ends_the_process_cuts_no_callback,
    guards_that_callbacks_make_and_keep_are_run_eight_deep,
    a_deferred_function_that_a_worker_runs_is_waited_for,
    an_observer_that_exits_does_not_lose_the_callback,
    a_waker_that_exits_does_not_lose_the_callback,
    a_fork_in_an_observer_runs_the_callback_in_the_parent_only,
    a_fork_in_a_waker_runs_the_callback_in_the_parent_only,
    an_exit_in_a_deferred_function_does_not_hide_that_the_callback_panicked,
    an_exit_in_a_deferred_function_does_not_hide_a_panic_at_the_end_of_the_scope,
    an_exit_in_a_deferred_function_does_not_hide_that_the_callback_overran,
    an_on_function_that_is_queued_behind_a_cleanup_does_not_choose_the_status,
    an_on_function_that_is_queued_before_the_signal_does_not_beat_it,
    a_callback_that_panics_on_a_worker_after_a_signal_ends_the_process_with_101,
    another_thread_makes_no_guard_while_the_process_ends,
];
