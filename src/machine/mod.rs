//! The exit of a process: which guards live, which signals came, who runs whose callback, who
//! decides, how it ends.
//!
//! All of it under one lock, and nothing else: the machine makes no call to the operating system but
//! for the thread it is asked by, so a model checker can try every interleaving (see `models`). The
//! lock is never held while code of a user runs, so a poisoned lock means nothing here.
//!
//! ```text
//! callback of a guard   Armed ──claim──────────────> Running(thread) ──> Finished
//!                         │ └──signal, request──> Begun ──claim──┘ └──timeout──> Overrun
//!                         └────disarm──> Disarmed
//!
//! scope of a guard      Open ──> Closing(by) ──> gone
//!
//! signal                mailbox ──admit──> callbacks ──> old handler           (it decides)
//!                                                  └──> verdict of the oldest guard ──> end
//! ```
//!
//! * A thread claims before it runs, so a callback runs once. `Begun` is a claim on the watcher's
//!   behalf. Who finds it claimed waits, except on the thread that runs it.
//! * A signal is *admitted* while a guard that has it is open: by the watcher, or by the thread that
//!   closes a guard, so that a signal that came before the end of the scope counts.
//! * A *verdict* holds as long as the scope of the guard that decides is open: a scope that has begun
//!   to end has ended in time.
//!
//! Files: this one has the states; `guards` how guards come and go, and how the process ends; `close`
//! how a guard ends; `wait` what a thread waits for; `watch` what the watcher and the timer are to do.

mod close;
mod guards;
mod wait;
mod watch;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::settings::{Repeat, Settings};
use crate::signal::{Received, Signal, SignalSet};
use crate::stack::Stack;
use crate::sys::guarded::Guarded;
use crate::sys::lock::{Condvar, Lock, Locked};
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread::{Runner, ThreadId};

pub(crate) use close::{By, Close, Ended};
pub(crate) use guards::{Enter, Left, Which};
pub(crate) use wait::Waited;
pub(crate) use watch::Next;

/// One scope's part in the exit. `W` is what it brings along: callback, deferred functions, observer.
#[derive(Debug)]
pub(crate) struct Guard<W> {
    pub(crate) settings: Settings,
    pub(crate) work: W,
    /// Under which key the machine has it; 0 while it has not.
    key: AtomicUsize,
    /// Written once, under the machine's lock; read without.
    cause: OnceLock<Cause>,
    /// For threads that wait for `cause`. One each, so that the waiters of one guard do not wake those of
    /// all others.
    has_cause: Condvar,
    /// Those threads, so that nobody is notified in vain: that would be a system call. Changed under the
    /// machine's lock.
    waiting: AtomicUsize,
}

impl<W> Guard<W> {
    pub(crate) fn new(settings: Settings, work: W) -> Guard<W> {
        Guard {
            settings,
            work,
            key: AtomicUsize::new(0),
            cause: OnceLock::new(),
            has_cause: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// What began its exit, if it has begun. Takes no lock.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.get()
    }

    /// Under which key the machine has it: the newest guard has the largest.
    pub(crate) fn key(&self) -> usize {
        self.key.load(SeqCst)
    }
}

#[derive(Debug)]
pub(crate) struct Machine<W> {
    state: Lock<State<W>>,
    /// A callback or an old handler has returned, or the watcher leaves.
    changed: Condvar,
    /// For the timer: a callback with a timeout begins, or the timer is to leave.
    timed: Condvar,
}

#[derive(Debug)]
struct State<W> {
    guards: Stack<Entry<W>>,
    installed: Vec<Installed>,
    /// Guards in `Begun`, by their keys, the newest last.
    begun: Vec<usize>,
    /// What is to be done for signals after the callbacks, in order of arrival.
    steps: Vec<Step>,
    /// The step that the watcher is at, if it runs an old handler.
    old_handler_of: Option<Signal>,
    /// Signals that are their old handlers' again, until the last guard has left.
    given_back: Vec<Guarded>,
    verdicts: Vec<Verdict>,
    /// A guard whose callback panicked on the watcher.
    failed: Option<usize>,
    has_timer: bool,
    /// How the process ends, once that is decided.
    end: Option<Status>,
    /// The threads that end it like that.
    enders: Vec<ThreadId>,
    /// Callbacks of guards that are gone with the process, which never return: they exit.
    exited: Vec<(usize, Runner)>,
    /// The thread that is in the exit hook.
    exits: Option<ThreadId>,
    watcher: Option<Watcher>,
    /// Counts watchers. One of an earlier generation leaves.
    generation: usize,
    /// How many guards have `Repeat::Force`.
    forcing: usize,
    /// Which threads in `changed` wait for which.
    waits: Vec<Wait>,
    /// Threads in `changed`, so that nobody is notified in vain: that would be a system call.
    waiting: usize,
}

/// A living guard.
#[derive(Debug)]
struct Entry<W> {
    guard: Arc<Guard<W>>,
    /// The signals of its settings that are not left ignored.
    signals: SignalSet,
    on: SignalSet,
    callback: Callback,
    /// When the callback, which runs now, overruns its timeout.
    deadline: Option<Instant>,
    scope: Scope,
    /// The first signal of its exit.
    signal: Option<Signal>,
    /// The first of them that had no handler of its own.
    ended_by: Option<Signal>,
    /// The first of those for which this guard decides.
    decides: Option<Signal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callback {
    Armed,
    /// The watcher is to run it.
    Begun,
    Running(Runner),
    Finished {
        panicked: bool,
    },
    /// It runs beyond its timeout, and nobody waits for it any more.
    Overrun,
    Disarmed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Open,
    Closing(By),
}

/// A signal whose handler is the process's exit's.
#[derive(Debug)]
struct Installed {
    guarded: Guarded,
    /// Guards older than this key had the signal before its old handler was run, and do not count.
    since: usize,
    /// Living guards that have it.
    guards: usize,
    /// Those of them whose scope is open.
    open: usize,
}

#[derive(Debug)]
struct Step {
    arrival: Arrival,
    guarded: Guarded,
    to: To,
    /// The guards know that it came.
    is_told: bool,
}

#[derive(Debug, Clone, Copy)]
enum To {
    /// The exit of the guards that have it, of which this was the oldest when it came.
    Exit { decider: usize },
    /// The functions of `Builder::on`; and the old handler, where it is no guard's exit.
    Hear { alone: bool },
}

/// The process has to end because of a signal, unless the guard that decides ends its scope before.
#[derive(Debug)]
struct Verdict {
    received: Received,
    /// `None`: nobody can stop it, a thread is in `abort`.
    decider: Option<usize>,
    deadline: Option<Instant>,
    /// A repeat has ended the wait.
    forced: bool,
}

/// A thread waits until another one returns from a user's code.
#[derive(Debug, Clone, Copy)]
struct Wait {
    waiter: ThreadId,
    runner: ThreadId,
}

#[derive(Debug, Clone, Copy)]
struct Watcher {
    generation: usize,
    runner: Runner,
    /// It is in a callback that has overrun its timeout.
    is_lost: bool,
    /// What it takes while it has nothing to do.
    listens: SignalSet,
}

/// A callback that the asking thread has claimed: it is to run it, and then call [`Machine::finish`].
#[derive(Debug)]
pub(crate) struct Run<W> {
    pub(crate) guard: Arc<Guard<W>>,
    pub(crate) cause: Cause,
    /// How a repeat of each of these signals cuts the callback (`Repeat::Force`).
    pub(crate) cuts: Vec<(Signal, Status)>,
}

impl<W> Default for Machine<W> {
    fn default() -> Machine<W> {
        Machine {
            state: Lock::new(State {
                guards: Stack::default(),
                installed: Vec::new(),
                begun: Vec::new(),
                steps: Vec::new(),
                old_handler_of: None,
                given_back: Vec::new(),
                verdicts: Vec::new(),
                failed: None,
                has_timer: false,
                end: None,
                enders: Vec::new(),
                exited: Vec::new(),
                exits: None,
                watcher: None,
                generation: 0,
                forcing: 0,
                waits: Vec::new(),
                waiting: 0,
            }),
            changed: Condvar::new(),
            timed: Condvar::new(),
        }
    }
}

impl<W> Machine<W> {
    fn lock(&self) -> Locked<'_, State<W>> {
        self.state.lock()
    }

    /// Whether the lock is free. Where `exit` is called in a handler that interrupted a thread with
    /// the lock in its hands, it never will be.
    pub(crate) fn is_free(&self) -> bool {
        self.state.is_free()
    }

    /// Call after every change that somebody may wait for, with the lock held.
    fn notify(&self, state: &State<W>) {
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }
}

impl<W> Entry<W> {
    fn all_signals(&self) -> SignalSet {
        self.signals.union(self.on)
    }

    /// The exit of this guard begins, if it has not.
    fn begin(&self, cause: Cause) {
        let begins = self.guard.cause.set(cause).is_ok();
        if begins && self.guard.waiting.load(SeqCst) > 0 {
            self.guard.has_cause.notify_all();
        }
    }

    fn ended(&self) -> Ended {
        Ended {
            signal: self.signal,
            ended_by: self.ended_by,
            decides: self.decides,
            panicked: self.callback == Callback::Finished { panicked: true },
        }
    }
}

impl Installed {
    /// Whether the guard with this key, which has these signals, counts here.
    fn counts(&self, key: usize, signals: SignalSet) -> bool {
        key >= self.since && signals.contains(self.guarded.signal())
    }
}

#[cfg(all(handle_exit_loom, test))]
mod models;
