//! Two and three guards on threads of their own, a foreign handler, forks, and exits on other threads, all at random
//! moments: each callback runs once and whole, the status is true, and nothing hangs.

#![allow(unsafe_code, reason = "fork")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::seeds::try_each;
use crate::support::*;
use handle_exit::{AfterScope, HandleExit, Signal};
use nix::libc;

// ---------------------------------------------------------------------------------------- a plan

/// What ends the scope of a guard.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Drop,
    Finish,
    Disarm,
    Request,
    /// The scope ends when it is told of the exit.
    Told,
    Kept,
}

/// What ends the process, if no signal does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Finale {
    MainReturns,
    MainExits,
    AnotherThreadExits,
    Both,
}

#[derive(Debug)]
struct One {
    way: Way,
    panics: bool,
    grace: Duration,
    after_scope: AfterScope,
    signals: &'static [Signal],
    /// How long body, callback and deferred function take.
    takes: [Duration; 3],
}

#[derive(Debug)]
struct Plan {
    guards: Vec<One>,
    /// TERM has a handler before the guards, or gets one over theirs.
    foreign: Option<bool>,
    forks: u32,
    end: Finale,
    ends_after: Duration,
    signals: Vec<(Duration, Signal)>,
}

const BOTH: [Signal; 2] = [Signal::TERM, Signal::INT];
const EXIT_CODE: i32 = 3;
const FAILED_CODE: i32 = 101;

impl Plan {
    fn of(seed: u64) -> Plan {
        use self::{Finale::*, Way::*};
        let mut random = fastrand::Rng::with_seed(seed);
        let micros = |random: &mut fastrand::Rng, most| Duration::from_micros(random.u64(0..most));
        let guards = (0..random.usize(2..=3)).map(|_| One {
            way: random.choice([Drop, Drop, Finish, Disarm, Request, Told, Kept]).unwrap(),
            panics: random.u8(0..8) == 0,
            grace: random
                .choice([Duration::ZERO, Duration::MAX, Duration::from_millis(1)])
                .unwrap(),
            after_scope: random.choice([AfterScope::Continue, AfterScope::End]).unwrap(),
            signals: random.choice([&BOTH[..], &BOTH[..], &BOTH[..1], &BOTH[1..]]).unwrap(),
            takes: [600, 200, 200].map(|most| micros(&mut random, most)),
        });
        Plan {
            guards: guards.collect(),
            foreign: random.choice([None, None, Some(true), Some(false)]).unwrap(),
            forks: random.u32(0..3),
            end: random.choice([MainReturns, MainExits, AnotherThreadExits, Both]).unwrap(),
            ends_after: micros(&mut random, 3000),
            signals: (0..random.usize(0..=3))
                .map(|_| {
                    let signal = random.choice([Signal::TERM, Signal::INT]).unwrap();
                    (micros(&mut random, 800), signal)
                })
                .collect(),
        }
    }
}

// ------------------------------------------------------------------------------------ the victim

/// In a forked child it is quiet, as it is the parent that is judged.
extern "C" fn foreign(_: libc::c_int) {}

fn is_a_crowd() {
    let plan: &'static Plan = Box::leak(Box::new(Plan::of(told())));
    if plan.foreign == Some(true) {
        install(Signal::TERM, foreign);
    }
    let mut threads = Vec::new();
    for (number, one) in plan.guards.iter().enumerate() {
        let (made, is_made) = channel();
        threads.push(thread::spawn(move || scope(number, one, || made.send(()).unwrap())));
        is_made.recv().unwrap();
    }
    say("all are made");
    if plan.foreign == Some(false) {
        install(Signal::TERM, foreign);
    }
    let forks = thread::spawn(|| (0..plan.forks).for_each(|_| fork_once()));
    // The moment is what is random here, so it is a time.
    thread::sleep(plan.ends_after);
    let exits = || thread::spawn(|| std::process::exit(EXIT_CODE));
    match plan.end {
        Finale::MainReturns => {}
        Finale::MainExits => std::process::exit(EXIT_CODE),
        Finale::AnotherThreadExits => {
            exits();
            park();
        }
        Finale::Both => {
            exits();
            std::process::exit(EXIT_CODE);
        }
    }
    // What is not over by now is over with the process.
    drop((threads, forks));
}

fn scope(number: usize, one: &'static One, made: impl FnOnce()) {
    let [body, in_callback, in_deferred] = one.takes;
    let guard = HandleExit::builder()
        .append(true)
        .signals(one.signals.iter().copied())
        .grace(one.grace)
        .after_scope(one.after_scope)
        .install(move || {
            say(format!("callback {number} begins"));
            thread::sleep(in_callback);
            say(format!("callback {number} ends"));
            assert!(!one.panics, "on purpose");
        })
        .unwrap();
    let staged = guard.defer(move || {
        say(format!("deferred {number} begins"));
        thread::sleep(in_deferred);
        say(format!("deferred {number} ends"));
    });
    staged.unwrap();
    made();
    thread::sleep(body);
    match one.way {
        Way::Drop => drop(guard),
        Way::Finish => _ = guard.finish(),
        Way::Disarm => {
            say(format!("disarming {number}"));
            let _ = guard.disarm();
        }
        Way::Request => {
            guard.request();
            drop(guard);
        }
        Way::Told => {
            guard.wait();
            drop(guard);
        }
        Way::Kept => guard.keep(),
    }
}

/// A child makes a guard of its own, which hears of a signal.
fn fork_once() {
    // SAFETY: the child makes a guard, which is made for that, and leaves.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let is_well = catch_unwind(AssertUnwindSafe(|| {
                let guard = HandleExit::builder().append(true).after_scope(AfterScope::Continue);
                let guard = match guard.signals([Signal::USR1]).install(|| {}) {
                    // The parent was about to end: no exit function can be registered any more.
                    Err(error) if format!("{error:?}").contains("exit functions have all run") => {
                        return;
                    }
                    guard => guard.unwrap(),
                };
                raise(Signal::USR1);
                guard.wait();
                drop(guard);
            }));
            libc::_exit(if is_well.is_ok() { 0 } else { FAILED_CODE });
        }
        let mut status = 0;
        while libc::waitpid(pid, &raw mut status, 0) == -1 {}
        assert_eq!(status, 0, "how the child ended");
        say("child ended");
    }
}

// ------------------------------------------------------------------------------------- the judge

fn try_once(seed: u64) -> String {
    let plan = Plan::of(seed);
    let mut start = is_a_crowd.told(seed).named(format_args!("{plan:#?}"));
    start.command.env("RUST_BACKTRACE", "0");
    let mut victim = Victim::start(start);
    // Or it ends before, by a callback that panics.
    let mut all_made = false;
    while !all_made {
        let Some(line) = victim.next_line() else { break };
        all_made = line == "all are made";
    }
    for (pause, signal) in &plan.signals {
        thread::sleep(*pause);
        victim.send(*signal);
    }
    let end = victim.end();
    // One that not all guards have is at last nobody's, and ends the process in the middle of what it does.
    let is_guarded =
        |raw| plan.guards.iter().all(|one| one.signals.iter().any(|its| its.as_raw() == raw));
    if end.status.signal().is_some_and(|raw| !is_guarded(raw)) {
        return format!("{}, unguarded", end.status);
    }
    let place = |line: String| {
        assert!(end.count(&line) <= 1, "{line}, twice: {end:#?}");
        end.lines.iter().position(|said| *said == line)
    };
    let mut panics = false;
    for (number, one) in plan.guards.iter().enumerate() {
        let begins = place(format!("callback {number} begins"));
        let ends = place(format!("callback {number} ends"));
        let deferred = place(format!("deferred {number} begins"));
        let deferred_ends = place(format!("deferred {number} ends"));
        let may_be_disarmed = place(format!("disarming {number}")).is_some();
        assert_eq!(begins.is_some(), ends.is_some(), "callback {number} was cut: {end:#?}");
        assert_eq!(deferred.is_some(), deferred_ends.is_some(), "deferred was cut: {end:#?}");
        let is_whole = begins.is_some() == deferred.is_some();
        assert!(is_whole || !all_made, "one of {number}'s is lost: {end:#?}");
        assert!(
            !all_made || begins.is_some() || may_be_disarmed,
            "callback {number} is lost: {end:#?}"
        );
        assert!(deferred.is_none() || ends < deferred, "deferred {number} came early: {end:#?}");
        panics |= one.panics && begins.is_some();
    }
    let mut codes = BTreeSet::from([if plan.end == Finale::MainReturns { 0 } else { EXIT_CODE }]);
    codes.extend(panics.then_some(FAILED_CODE));
    let is_true = match (end.status.code(), end.status.signal()) {
        (Some(code), _) => codes.contains(&code),
        (None, signal) => plan.signals.iter().any(|(_, sent)| Some(sent.as_raw()) == signal),
    };
    assert!(is_true, "status {} is not true: {end:#?}", end.status);
    assert!(!end.stderr.contains("how the child ended"), "{end:#?}");
    end.status.to_string()
}

fn guards_on_threads_of_their_own() {
    let met = Mutex::new(BTreeMap::<String, u32>::new());
    let explores = try_each(600, 3, |seed| {
        let what = try_once(seed);
        *met.lock().unwrap().entry(what).or_default() += 1;
    });
    if explores {
        let met = met.into_inner().unwrap();
        println!("crowd: {} victims: {met:#?}", met.values().sum::<u32>());
    }
}

pub(crate) const TESTS: &[Named] = tests![guards_on_threads_of_their_own];
