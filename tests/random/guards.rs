//! Several guards, and everything at once: on several threads, with callbacks that panic, exit, fork and make guards,
//! old handlers that exit, slow destructors and exit functions, exits on other threads, and signals at random moments.
//! Whatever meets, each callback and each deferred function runs once and whole, the status is one that was asked for,
//! and nothing hangs.
//!
//! One seed makes one plan, which victim and judge derive from the same number.

#![allow(unsafe_code, reason = "forks, and writes without a lock")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use handle_exit::{AfterScope, Builder, Ending, HandleExit, Signal};
use nix::libc;

use crate::seeds::try_each;
use crate::support::*;

const SIGNALS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Callback {
    Returns,
    Panics,
    Exits,
    Forks,
    MakesAGuard,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Route {
    Drops,
    Finishes,
    Returns,
    Exits,
    Parks,
    /// A thread-local of main has the oldest guard, and main exits.
    Destructor,
}

#[derive(Debug)]
struct Part {
    callback: Callback,
    /// How long the callback takes.
    takes: Duration,
    signals: Vec<Signal>,
    ending: Ending,
    grace: Duration,
    after_scope: AfterScope,
    has_timeout: bool,
    /// A thread of its own has it, and drops it after that time.
    elsewhere: Option<Duration>,
}

#[derive(Debug)]
struct Plan {
    parts: Vec<Part>,
    route: Route,
    /// How long main lives.
    lives: Duration,
    /// Another thread exits after that time.
    exits_elsewhere: Option<Duration>,
    old_handlers: Vec<Signal>,
    old_handler_exits: bool,
    slow: [bool; 3],
    /// What the judge sends, each after that time.
    sent: Vec<(Duration, Signal)>,
}

fn moment(rng: &mut fastrand::Rng) -> Duration {
    let longest = pick(rng, &[1, 100, 1_000, 5_000]);
    Duration::from_micros(rng.u64(0..longest))
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, of: &[T]) -> T {
    of[rng.usize(0..of.len())]
}

impl Plan {
    fn new(seed: u64) -> Plan {
        use Callback::*;
        let rng = &mut fastrand::Rng::with_seed(seed);
        let part = |rng: &mut fastrand::Rng| Part {
            callback: pick(rng, &[Returns, Returns, Returns, Panics, Exits, Forks, MakesAGuard]),
            takes: moment(rng),
            signals: SIGNALS[..rng.usize(1..=3)].to_vec(),
            ending: pick(rng, &[Ending::Signal, Ending::Code(9), Ending::ShellCode]),
            grace: pick(rng, &[Duration::ZERO, Duration::from_millis(2), Duration::MAX]),
            after_scope: pick(rng, &[AfterScope::Continue, AfterScope::End]),
            has_timeout: rng.bool(),
            elsewhere: (rng.u8(0..3) == 0).then(|| moment(rng)),
        };
        let parts = (0..rng.usize(1..=3)).map(|_| part(rng)).collect();
        let routes = [
            Route::Drops,
            Route::Finishes,
            Route::Returns,
            Route::Exits,
            Route::Parks,
            Route::Destructor,
        ];
        let mut old_handlers = SIGNALS.to_vec();
        old_handlers.retain(|_| rng.u8(0..3) == 0);
        let mut sent: Vec<_> =
            (0..rng.usize(0..6)).map(|_| (moment(rng), pick(rng, &SIGNALS))).collect();
        // A victim that parks, and where nobody else ends the process, needs one that does.
        sent.sort();
        Plan {
            parts,
            route: pick(rng, &routes),
            lives: moment(rng),
            exits_elsewhere: (rng.u8(0..4) == 0).then(|| moment(rng)),
            old_handlers,
            old_handler_exits: rng.bool(),
            slow: [rng.bool(), rng.bool(), rng.bool()],
            sent,
        }
    }

    /// What the process may exit with.
    fn codes(&self) -> BTreeSet<i32> {
        let mut codes = BTreeSet::from([0]);
        codes.extend((matches!(self.route, Route::Exits | Route::Destructor)).then_some(3));
        codes.extend(self.exits_elsewhere.map(|_| 4));
        codes.extend(self.old_handler_exits.then_some(8));
        for part in &self.parts {
            codes.extend(match part.callback {
                Callback::Panics => Some(101),
                Callback::Exits => Some(7),
                _ => None,
            });
            codes.extend(match part.ending {
                Ending::Code(code) => vec![code],
                Ending::ShellCode => SIGNALS.map(|signal| 128 + signal.as_raw()).to_vec(),
                _ => Vec::new(),
            });
        }
        codes
    }
}

// ---------------------------------------------------------------------------------------- the victim

/// Says a line without a lock, as a thread that is interrupted, or a forked child, may have to.
fn write(line: String) {
    let line = line + "\n";
    // SAFETY: the slice is valid.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}

/// Without memory of its own: it is asked in handlers.
fn is_watcher() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: this thread, and a buffer of that length.
    unsafe { libc::pthread_getname_np(libc::pthread_self(), name.as_mut_ptr().cast(), name.len()) };
    name.starts_with(b"handle-exit\0")
}

thread_local! {
    /// Whether this thread is in a callback.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Until the result is dropped, this thread is in a callback.
fn in_callback() -> impl Drop {
    IN_CALLBACK.set(true);
    scopeguard::guard((), |()| IN_CALLBACK.set(false))
}

/// Exits where that is allowed: not where code is interrupted that may hold the allocator's lock, as a callback may be
/// once the signal is the handler's own.
extern "C" fn old_handler_exits(_: libc::c_int) {
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    if is_watcher() && !IN_CALLBACK.get() && !HAS_RUN.swap(true, SeqCst) {
        std::process::exit(8);
    }
}

extern "C" fn old_handler_returns(_: libc::c_int) {}

extern "C" fn slow_exit_function() {
    std::thread::sleep(Duration::from_micros(300));
}

struct Slow;

impl Drop for Slow {
    fn drop(&mut self) {
        slow_exit_function();
    }
}

thread_local! {
    static SLOW: Slow = const { Slow };
    static KEPT: std::cell::RefCell<Option<HandleExit>> = const { std::cell::RefCell::new(None) };
}

/// Forks. Whether this is the parent.
fn forks_and_is_parent() -> bool {
    // SAFETY: what the child goes on with is what is tested.
    match unsafe { libc::fork() } {
        0 => {
            // Where a thread of the parent's was in `process::exit`, this child's own waits for that one forever.
            // SAFETY: no memory is involved.
            unsafe { libc::alarm(1) };
            false
        }
        // SAFETY: nothing is written.
        child => unsafe {
            libc::waitpid(child, std::ptr::null_mut(), 0);
            true
        },
    }
}

impl Part {
    fn builder(&self) -> Builder {
        let builder = HandleExit::builder().append(true).signals(self.signals.iter().copied());
        let builder = builder.grace(self.grace).ending(self.ending).after_scope(self.after_scope);
        if self.has_timeout { builder.callback_timeout(DEADLINE) } else { builder }
    }

    fn guard(&self, name: usize) -> HandleExit {
        let (callback, takes) = (self.callback, self.takes);
        let guard = self.builder().install(move || {
            let _in_callback = in_callback();
            write(format!("{name} begins"));
            std::thread::sleep(takes);
            if callback == Callback::Forks && !forks_and_is_parent() {
                return;
            }
            if callback == Callback::MakesAGuard {
                if let Ok(guard) = HandleExit::append(|| {}) {
                    drop(guard);
                }
            }
            write(format!("{name} ends"));
            match callback {
                Callback::Exits => handle_exit::exit(7),
                Callback::Panics => panic!("on purpose"),
                _ => {}
            }
        });
        let guard = guard.unwrap();
        let deferred = move || {
            let _in_callback = in_callback();
            write(format!("{name} deferred"));
        };
        guard.defer(deferred).unwrap();
        guard
    }
}

fn acts() {
    let plan = Plan::new(told());
    for signal in &plan.old_handlers {
        install(
            *signal,
            if plan.old_handler_exits { old_handler_exits } else { old_handler_returns },
        );
    }
    if plan.slow[0] {
        at_exit(slow_exit_function);
    }
    let mut guards = Vec::new();
    for (name, part) in plan.parts.iter().enumerate() {
        match part.elsewhere {
            None => guards.push(part.guard(name)),
            Some(after) => {
                let (made, is_made) = channel();
                let guard = Plan::new(told()).parts.swap_remove(name);
                std::thread::spawn(move || {
                    let guard = guard.guard(name);
                    made.send(()).unwrap();
                    std::thread::sleep(after);
                    drop(guard);
                });
                is_made.recv().unwrap();
            }
        }
    }
    if plan.slow[1] {
        at_exit(slow_exit_function);
    }
    if plan.slow[2] {
        SLOW.with(|_| ());
    }
    write("ready".into());
    if let Some(after) = plan.exits_elsewhere {
        std::thread::spawn(move || {
            std::thread::sleep(after);
            std::process::exit(4);
        });
    }
    std::thread::sleep(plan.lives);
    match plan.route {
        Route::Drops => drop(guards),
        Route::Finishes => guards.into_iter().rev().for_each(|guard| drop(guard.finish())),
        Route::Returns => guards.into_iter().for_each(HandleExit::keep),
        Route::Exits => std::process::exit(3),
        Route::Parks => park(),
        Route::Destructor => {
            if !guards.is_empty() {
                KEPT.set(Some(guards.remove(0)));
            }
            std::process::exit(3);
        }
    }
}

// ---------------------------------------------------------------------------------------- the judge

fn judge(seed: u64) -> Result<(), String> {
    let plan = Plan::new(seed);
    let mut victim = Victim::start(acts.told(seed));
    // A callback that exits may end it before it is ready.
    let is_ready = std::iter::from_fn(|| victim.next_line()).any(|line| line == "ready");
    let begun = Instant::now();
    for (after, signal) in plan.sent.iter().take_while(|_| is_ready) {
        while begun.elapsed() < *after {
            std::hint::spin_loop();
        }
        victim.send(*signal);
    }
    // One that parks is ended by this in the end.
    if plan.route == Route::Parks {
        while victim.rests() {
            victim.send(Signal::TERM);
            victim.send(Signal::KILL);
        }
    }
    let end = victim.end();
    let say = |what: &str| Err(format!("seed {seed}: {what}\n{plan:#?}\n{end:#?}"));
    let killed = std::os::unix::process::ExitStatusExt::signal(&end.status);
    if killed == Some(libc::SIGKILL) && plan.route == Route::Parks {
        return Ok(());
    }
    // An exit that begins before all guards are there may be over before the last one is.
    let begins_early = |(name, part): (usize, &Part)| {
        let begins = format!("{name} begins");
        let early =
            end.lines.iter().take_while(|line| *line != "ready").any(|line| *line == begins);
        early && part.callback == Callback::Exits
    };
    if plan.parts.iter().enumerate().any(begins_early) {
        return Ok(());
    }
    // A signal that one of them does not guard may end the process when the others have ended.
    let is_guarded = |raw| {
        plan.parts.iter().all(|part| part.signals.iter().any(|signal| signal.as_raw() == raw))
    };
    if !is_ready || killed.is_some_and(|raw| !is_guarded(raw)) {
        return Ok(());
    }
    // So may its foreign handler, also on the thread of a callback, which that cuts.
    let may_exit =
        |signal: &Signal| plan.old_handlers.contains(signal) && !is_guarded(signal.as_raw());
    if plan.old_handler_exits && plan.sent.iter().any(|(_, signal)| may_exit(signal)) {
        return Ok(());
    }
    for name in 0..plan.parts.len() {
        for what in ["begins", "ends", "deferred"] {
            let count = end.count(&format!("{name} {what}"));
            if count != 1 {
                return say(&format!("{name} {what} {count} times"));
            }
        }
    }
    match (killed, end.status.code()) {
        (Some(libc::SIGTERM), _) if plan.route == Route::Parks => Ok(()),
        (Some(signal), _) if plan.sent.iter().any(|(_, sent)| sent.as_raw() == signal) => Ok(()),
        (None, Some(code)) if plan.codes().contains(&code) => Ok(()),
        _ => say("a status that nobody asked for"),
    }
}

fn each_callback_runs_once_and_whole_whatever_meets() {
    try_each(300, 4, |seed| {
        if let Err(why) = judge(seed) {
            panic!("{why}");
        }
    });
}

fn seeds_that_have_failed() {
    for seed in [
        // In a circle of threads that wait for each other the end of the process gave way.
        20_384,
        // An old handler that exits met the watcher between two functions of a user's.
        6_495,
    ] {
        for _ in 0..20 {
            judge(seed).unwrap_or_else(|why| panic!("{why}"));
        }
    }
}

pub(crate) const TESTS: &[Named] =
    tests![each_callback_runs_once_and_whole_whatever_meets, seeds_that_have_failed];
