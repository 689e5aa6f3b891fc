//! Signals at random moments of a guard's life: whatever they meet, the callback runs once and whole,
//! the status is true, and nothing hangs.
//!
//! One seed makes one *plan*: how the victim's scope ends, what its callback does, which signals come
//! and when. Victim and judge derive it from the same number.

#![allow(unsafe_code, reason = "the victims change their signal stack")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use crate::seeds::try_each;
use crate::support::*;
use handle_exit::{Cause, Ending, HandleExit, Signal};
use nix::libc;

// ---------------------------------------------------------------------------------------- a plan

/// How the victim's scope ends if no signal ends it earlier.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Route {
    /// The guard is dropped. Behind the scope, a victim whose exit no signal began waits for ever for
    /// the signal that must still come: one that is lost is a hang.
    ScopeEnd,
    Finish,
    Disarm,
    Panic,
    ProcessExit,
    /// Another thread calls `process::exit` while the guard is dropped.
    ExitElsewhere,
    /// The guard is kept and `main` returns.
    Kept,
    /// The exit is requested from code.
    Request,
    /// The scope ends when it is told of the exit.
    Told,
    /// The scope does not end by itself.
    Parked,
}

impl Route {
    #[rustfmt::skip]
    const ALL: &[Route] = {
        use Route::*;
        &[ScopeEnd, Finish, Disarm, Panic, ProcessExit, ExitElsewhere, Kept, Request, Told, Parked]
    };
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Callback {
    Returns,
    Panics,
    /// Calls `process::exit`.
    Exits,
}

#[derive(Debug)]
struct Plan {
    route: Route,
    callback: Callback,
    grace: Duration,
    ending: Ending,
    /// How long body, callback and deferred function take.
    takes: [Duration; 3],
    /// Whether the signals are timed from the victim's first line, or from its start.
    from_first_line: bool,
    /// Signals, and the pause before each.
    signals: Vec<(Duration, Signal)>,
}

const EXIT_CODE: i32 = 3;
const ENDING_CODE: i32 = 7;
const CALLBACK_CODE: i32 = 9;
const FAILED_CODE: i32 = 101;

impl Plan {
    fn of(seed: u64) -> Plan {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut micros = |most| Duration::from_micros(random.u64(0..most));
        let takes = [micros(400), micros(200), micros(200)];
        let short_grace = micros(3000);
        let from_first_line = random.bool();
        let first = random.u64(0..if from_first_line { 1200 } else { 4000 });
        let mut pause = first;
        let signals = (0..random.usize(1..=3)).map(|_| {
            let signal = if random.bool() { Signal::TERM } else { Signal::INT };
            let after = Duration::from_micros(pause);
            pause = random.u64(0..600);
            (after, signal)
        });
        let signals = signals.collect();
        let route = *pick(&mut random, Route::ALL);
        // From inside an exit function `process::exit` is std's to refuse, by an abort.
        let may_exit = !matches!(route, Route::ProcessExit | Route::ExitElsewhere | Route::Kept);
        Plan {
            route,
            callback: match random.u8(0..8) {
                0 | 1 => Callback::Panics,
                2 if may_exit => Callback::Exits,
                _ => Callback::Returns,
            },
            // A parked scope ends by its grace only, so that must be over soon.
            grace: match random.u8(0..3) {
                0 => Duration::ZERO,
                1 if route != Route::Parked => Duration::MAX,
                _ => short_grace,
            },
            ending: *pick(
                &mut random,
                &[Ending::Signal, Ending::Signal, Ending::Code(ENDING_CODE)],
            ),
            takes,
            from_first_line,
            signals,
        }
    }

    /// The exit code of the route, if the callback fares well.
    fn code(&self) -> Option<i32> {
        match self.route {
            Route::ScopeEnd
            | Route::Finish
            | Route::Disarm
            | Route::Kept
            | Route::Request
            | Route::Told => Some(0),
            Route::Panic => Some(FAILED_CODE),
            Route::ProcessExit | Route::ExitElsewhere => Some(EXIT_CODE),
            Route::Parked => None,
        }
    }
}

fn pick<'a, T>(random: &mut fastrand::Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(0..from.len())]
}

// ------------------------------------------------------------------------------------ the victim

fn lives_by_its_plan() {
    without_signal_stack();
    let plan = Plan::of(told());
    say("before");
    scope(&plan);
    say("behind");
}

/// Before the fix of rust-lang/rust#161018, `process::exit` on another thread unmaps the main thread's
/// alternate signal stack. The crate sees to that as soon as it can, in its exit function; what comes
/// in the instructions between is std's, and the victims of random moments do not go there.
fn without_signal_stack() {
    // SAFETY: a zeroed stack_t is valid; disabling the alternate stack only makes signals use the other.
    unsafe {
        let mut none = std::mem::zeroed::<libc::stack_t>();
        none.ss_flags = libc::SS_DISABLE;
        assert_eq!(libc::sigaltstack(&raw const none, std::ptr::null_mut()), 0);
    }
}

/// The guard's deferred function waits, inside the exit function, for what the test does.
fn exits_on_another_thread() {
    let guard = HandleExit::new(|| say("callback")).unwrap();
    let _ = guard.defer(|| {
        say("ready");
        hear();
        say("deferred");
    });
    guard.keep();
    std::thread::spawn(|| std::process::exit(EXIT_CODE));
    park();
}

fn scope(plan: &Plan) {
    let [body, in_callback, in_deferred] = plan.takes;
    let does = plan.callback;
    let guard = HandleExit::builder()
        .grace(plan.grace)
        .ending(plan.ending)
        .install_with(move |cause| {
            say(format!("callback begins: {}", name(cause)));
            std::thread::sleep(in_callback);
            say("callback ends");
            match does {
                Callback::Returns => {}
                Callback::Panics => panic!("on purpose"),
                Callback::Exits => std::process::exit(CALLBACK_CODE),
            }
        })
        .unwrap();
    say("constructed");
    let handle = guard.handle();
    let staged = guard.defer(move || {
        say("deferred begins");
        std::thread::sleep(in_deferred);
        say("deferred ends");
    });
    if staged.is_ok() {
        say("staged");
    }
    // The moment is what is random here, so it is a time.
    std::thread::sleep(body);
    match plan.route {
        Route::ScopeEnd => {
            drop(guard);
            if matches!(handle.cause(), Some(Cause::ScopeEnd)) {
                park();
            }
        }
        Route::Finish => guard.finish().end_process(),
        Route::Disarm => {
            say("disarming");
            if guard.disarm() {
                say("disarmed");
            }
        }
        Route::Panic => panic!("the body, on purpose"),
        Route::ProcessExit => std::process::exit(EXIT_CODE),
        Route::ExitElsewhere => {
            std::thread::spawn(|| std::process::exit(EXIT_CODE));
            drop(guard);
            park();
        }
        Route::Kept => guard.keep(),
        Route::Request => {
            handle.request();
            drop(guard);
        }
        Route::Told => {
            handle.wait();
            drop(guard);
        }
        Route::Parked => park(),
    }
}

fn name(cause: &Cause) -> &'static str {
    match cause {
        Cause::Signal(_) => "signal",
        Cause::ScopeEnd => "scope end",
        Cause::Panic => "panic",
        Cause::ProcessExit => "process exit",
        Cause::Requested => "request",
        _ => "other",
    }
}

// ------------------------------------------------------------------------------------- the judge

/// Runs the plan of this seed and says what it met.
fn try_once(seed: u64) -> String {
    let plan = Plan::of(seed);
    let mut start = lives_by_its_plan.told(seed).named(format_args!("{plan:#?}"));
    // Panics are planned here, and looking up their backtraces would take longer than all the rest.
    start.command.env("RUST_BACKTRACE", "0");
    let mut victim = Victim::start(start);
    if plan.from_first_line {
        victim.expect("before");
    }
    for (pause, signal) in &plan.signals {
        std::thread::sleep(*pause);
        victim.send(*signal);
    }
    judge(&plan, &victim.end())
}

fn judge(plan: &Plan, end: &End) -> String {
    let said = |line: &str| end.count(line);
    let begins = end.lines.iter().position(|line| line.starts_with("callback begins"));
    let begun = end.lines.iter().filter(|line| line.starts_with("callback begins")).count();
    let (constructed, disarmed) = (said("constructed") == 1, said("disarmed") == 1);
    // A signal that was held while the guard was disarmed may end the process before it says so.
    let may_be_disarmed = said("disarming") == 1;

    // Once, and whole.
    assert!(begun <= 1, "callback ran twice: {end:#?}");
    assert_eq!(begun, said("callback ends"), "callback was cut: {end:#?}");
    assert!(!constructed || begun == 1 || may_be_disarmed, "callback lost: {end:#?}");
    assert!(!disarmed || begun == 0, "callback ran though disarmed: {end:#?}");

    // The deferred function: once, whole, after the callback.
    assert!(said("deferred begins") <= 1, "deferred ran twice: {end:#?}");
    assert_eq!(said("deferred begins"), said("deferred ends"), "deferred cut: {end:#?}");
    let ran = said("deferred ends") == 1;
    assert!(said("staged") == 0 || ran || may_be_disarmed, "deferred lost: {end:#?}");
    assert!(!disarmed || !ran, "deferred ran though disarmed: {end:#?}");
    if let Some(deferred) = end.lines.iter().position(|line| line == "deferred begins") {
        let ends = end.lines.iter().position(|line| line == "callback ends");
        assert!(ends < Some(deferred), "deferred came early: {end:#?}");
    }

    // What waits for a callback that exits waits for ever.
    let exits = plan.callback == Callback::Exits && begun == 1;
    assert!(!exits || said("behind") == 0, "the scope was left: {end:#?}");

    // The status.
    let mut codes = BTreeSet::new();
    match (begins, plan.callback) {
        (Some(at), Callback::Panics) => {
            codes.insert(FAILED_CODE);
            // On Drop the panic goes on in a scope that is over, with no guard in the process: there
            // the exit of the other thread may come first, with its own code.
            if plan.route == Route::ExitElsewhere && end.lines[at] == "callback begins: scope end" {
                codes.insert(EXIT_CODE);
            }
        }
        (Some(_), Callback::Exits) => _ = codes.insert(CALLBACK_CODE),
        (Some(_), Callback::Returns) => {
            codes.extend(plan.code());
            if plan.ending == Ending::Code(ENDING_CODE) {
                codes.insert(ENDING_CODE);
            }
        }
        (None, _) if disarmed => codes.extend(plan.code()),
        (None, _) => {}
    }
    // Only behind the scope a signal has its way after a callback that panicked or exited.
    let stays_in_scope = plan.callback == Callback::Exits || plan.route == Route::Parked;
    let by_signal = match plan.callback {
        Callback::Returns => true,
        Callback::Panics | Callback::Exits => begins.is_none() || !stays_in_scope,
    };
    use std::os::unix::process::ExitStatusExt;
    let is_true = match (end.status.code(), end.status.signal()) {
        (Some(code), _) => codes.contains(&code),
        (None, Some(signal)) => {
            by_signal && plan.signals.iter().any(|(_, sent)| sent.as_raw() == signal)
        }
        (None, None) => false,
    };
    assert!(is_true, "status {} is not true: {end:#?}", end.status);

    let met = begins.map_or("no callback", |at| &end.lines[at]["callback begins: ".len()..]);
    format!("{met}, {}", end.status)
}

fn signals_at_random_moments() {
    let met = Mutex::new(BTreeMap::<String, u32>::new());
    let explores = try_each(1500, 3, |seed| {
        let what = try_once(seed);
        *met.lock().unwrap().entry(what).or_default() += 1;
    });
    if explores {
        let met = met.into_inner().unwrap();
        println!("chaos: {} victims: {met:#?}", met.values().sum::<u32>());
    }
}

/// Every seed that has failed once, often enough for a race.
fn seeds_that_have_failed() {
    // A callback exits while its guard is dropped: the scope was left, and a signal changed the status.
    (0..100).for_each(|_| _ = try_once(51_648));
    // The same, with the scope ending when the exit was all but over.
    (0..100).for_each(|_| _ = try_once(31_019_965));
}

/// The kernel gives the signal to the main thread, which std may have left without its stack.
fn a_signal_while_another_thread_exits_is_survived() {
    let mut victim = Victim::ready(exits_on_another_thread);
    victim.send(Signal::TERM);
    // Once the exit goes on, one that nobody has taken yet meets the default.
    victim.at_rest();
    victim.tell("go on");
    victim.end().said(&["callback", "ready", "deferred"]).exited(EXIT_CODE);
}

pub(crate) const TESTS: &[Named] = tests![
    signals_at_random_moments,
    seeds_that_have_failed,
    a_signal_while_another_thread_exits_is_survived,
];
