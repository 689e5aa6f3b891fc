//! A guard that is dropped inside `exit(3)`: by the destructor of a thread-local, or by an exit function
//! of the C library. There is no hang and no abort, whatever its callback does.

use std::cell::RefCell;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::*;
use handle_exit::{AfterScope, Ending, HandleExit, Signal};
use nix::libc;

/// What `exit` was called with.
const CODE: i32 = 3;

struct Dropped(#[allow(dead_code, reason = "it is there to be dropped")] HandleExit);

impl Drop for Dropped {
    fn drop(&mut self) {
        say("dropped");
    }
}

thread_local!(static DESTRUCTOR: RefCell<Option<Dropped>> = const { RefCell::new(None) });
static FUNCTION: Mutex<Option<Dropped>> = Mutex::new(None);

extern "C" fn drop_the_guard() {
    drop(FUNCTION.lock().unwrap().take());
}

/// Puts the guard where the exit drops it, and exits.
fn exit_drops(guard: HandleExit, place: &str) -> ! {
    match place {
        "destructor" => DESTRUCTOR.set(Some(Dropped(guard))),
        _ => {
            *FUNCTION.lock().unwrap() = Some(Dropped(guard));
            // Registered after the guard's own, so run before it.
            at_exit(drop_the_guard);
        }
    }
    std::process::exit(CODE);
}

/// What the callback does in the end.
fn then(what: &str) {
    match what {
        "panics" => panic!("on purpose"),
        "overruns" => park(),
        "exits" => handle_exit::exit(7),
        "exits as std does" => std::process::exit(7),
        _ => {}
    }
}

extern "C" fn old_handler_exits(_: libc::c_int) {
    say("old handler");
    std::process::exit(8);
}

// ---------------------------------------------------------------------------------- scenarios

/// A guard whose drop runs the callback.
fn guard_without_a_signal() -> HandleExit {
    let told: String = told();
    let what = told.split_once(' ').unwrap().1.to_owned();
    let guard = HandleExit::builder().callback_timeout(timeout(&what));
    let guard = guard.install(move || {
        say("callback");
        then(&what);
    });
    guard.unwrap()
}

fn dropped_without_a_signal() {
    let place = told::<String>().split(' ').next().unwrap().to_owned();
    exit_drops(guard_without_a_signal(), &place);
}

extern "C" fn make_and_drop_a_guard() {
    drop(guard_without_a_signal());
}

/// A guard that is made in the exit, too. There was one before.
fn made_and_dropped_in_exit() {
    drop(HandleExit::new(|| {}).unwrap());
    at_exit(make_and_drop_a_guard);
    std::process::exit(CODE);
}

/// Registered before the guard's own, so run after it.
extern "C" fn keep_a_guard() {
    let guard = HandleExit::append(|| say("second callback")).unwrap();
    guard.defer(|| say("second deferred")).unwrap();
    guard.keep();
}

fn kept_in_an_exit_function_after_a_kept_one() {
    at_exit(keep_a_guard);
    HandleExit::new(|| say("callback")).unwrap().keep();
    std::process::exit(CODE);
}

fn timeout(what: &str) -> Duration {
    // Under test is that it is over.
    if what == "overruns" { SOON_OVER } else { Duration::MAX }
}

/// The drop meets a callback that a signal has begun.
fn dropped_while_the_callback_runs() {
    let told: String = told();
    let (place, what) = told.split_once(' ').unwrap();
    if what == "handler" {
        install(Signal::TERM, old_handler_exits);
    }
    let guard = HandleExit::builder().append(true).grace(Duration::MAX);
    let guard = match what {
        "ending" => guard.after_scope(AfterScope::End).ending(Ending::Code(9)),
        _ => guard.after_scope(AfterScope::Continue).callback_timeout(timeout(what)),
    };
    let what = what.to_owned();
    let guard = guard.install(move || {
        held_callback();
        then(&what);
    });
    let guard = guard.unwrap();
    say("ready");
    until_held();
    exit_drops(guard, place);
}

/// The drop comes after the callback that a signal has begun.
fn dropped_after_the_callback() {
    let place: String = told();
    let guard = HandleExit::builder().grace(Duration::MAX).after_scope(AfterScope::End);
    let (ends, ended) = std::sync::mpsc::channel();
    let guard = guard.ending(Ending::Code(9)).install(move || ends.send(()).unwrap()).unwrap();
    say("ready");
    ended.recv().unwrap();
    exit_drops(guard, &place);
}

// ---------------------------------------------------------------------------------------- tests

const PLACES: [&str; 2] = ["destructor", "function"];

/// Each place is tried, also after one has failed.
fn in_each_place(codes: &[i32], end: impl Fn(&str) -> End + Sync) {
    let end = &end;
    std::thread::scope(|scope| {
        let tries = PLACES.map(|place| scope.spawn(move || end(place)));
        let ends = tries.map(|one| one.join().ok());
        let is_right = |end: &Option<End>| {
            end.as_ref().is_some_and(|end| end.status.code().is_some_and(|it| codes.contains(&it)))
        };
        assert!(ends.iter().all(is_right), "not {codes:?} in both of {PLACES:?}: {ends:#?}");
    });
}

fn without_a_signal(what: &str, codes: &[i32]) {
    in_each_place(codes, |place| {
        let told = format!("{place} {what}");
        let end = Victim::start(dropped_without_a_signal.told(&told)).end();
        assert_eq!(end.count("callback"), 1, "{end:#?}");
        end
    });
}

fn made_in_exit(what: &str, codes: &[i32]) {
    let told = format!("function {what}");
    let end = Victim::start(made_and_dropped_in_exit.told(&told)).end();
    end.said(&["callback"]);
    assert!(end.status.code().is_some_and(|it| codes.contains(&it)), "{end:#?}");
}

fn while_the_callback_runs(what: &str, codes: &[i32]) {
    in_each_place(codes, |place| {
        let told = format!("{place} {what}");
        let mut victim = Victim::start(dropped_while_the_callback_runs.told(&told));
        victim.expect("ready");
        victim.send(Signal::TERM);
        // One that overruns may end before the drop on a very busy machine.
        if what != "overruns" {
            victim.expect_both("callback begins", "dropped");
            victim.at_rest();
            victim.tell("go on");
        }
        let end = victim.end();
        assert_eq!(end.count("callback begins"), 1, "{end:#?}");
        end
    });
}

fn its_callback_panics() {
    without_a_signal("panics", &[101]);
}

fn its_callback_panics_after_a_signal() {
    while_the_callback_runs("panics", &[101]);
}

fn its_callback_overruns() {
    without_a_signal("overruns", &[101]);
}

fn its_callback_overruns_after_a_signal() {
    while_the_callback_runs("overruns", &[101]);
}

/// Two codes were asked for. That of the exit came first.
fn its_callback_exits() {
    without_a_signal("exits", &[CODE, 7]);
}

/// The standard library aborts here, as the documentation says: under test is that nothing hangs, and that the
/// callback has run.
fn its_callback_calls_the_exit_of_std() {
    for place in PLACES {
        let end =
            Victim::start(dropped_without_a_signal.told(format!("{place} exits as std does")))
                .end();
        assert_eq!(end.count("callback"), 1, "{end:#?}");
    }
}

fn its_callback_exits_after_a_signal() {
    while_the_callback_runs("exits", &[CODE, 7]);
    while_the_callback_runs("exits as std does", &[CODE, 7]);
}

fn its_old_handler_exits() {
    while_the_callback_runs("handler", &[CODE, 8]);
}

/// The signal came first, and a guard that is to end the process after a signal does so.
fn its_ending_is_a_code() {
    while_the_callback_runs("ending", &[9]);
}

fn its_ending_is_a_code_and_the_callback_is_done() {
    in_each_place(&[9], |place| {
        let victim = Victim::ready(dropped_after_the_callback.told(place));
        victim.send(Signal::TERM);
        victim.end()
    });
}

fn made_in_exit_its_callback_panics() {
    made_in_exit("panics", &[101]);
}

fn made_in_exit_its_callback_overruns() {
    made_in_exit("overruns", &[101]);
}

fn made_in_exit_its_callback_exits() {
    made_in_exit("exits", &[CODE, 7]);
}

fn a_guard_that_a_later_exit_function_keeps_is_run() {
    let end = Victim::start(kept_in_an_exit_function_after_a_kept_one).end();
    end.said(&["callback", "second callback", "second deferred"]).exited(CODE);
}

pub(crate) const TESTS: &[Named] = tests![
    a_guard_that_a_later_exit_function_keeps_is_run,
    its_callback_panics,
    its_callback_panics_after_a_signal,
    its_callback_overruns,
    its_callback_overruns_after_a_signal,
    its_callback_exits,
    its_callback_calls_the_exit_of_std,
    its_callback_exits_after_a_signal,
    its_old_handler_exits,
    its_ending_is_a_code,
    its_ending_is_a_code_and_the_callback_is_done,
    made_in_exit_its_callback_panics,
    made_in_exit_its_callback_overruns,
    made_in_exit_its_callback_exits,
];
