//! What is known of the exit of a process: its guards, the signals that came, who runs what.
//!
//! ```text
//! callback of a guard   Armed ──> Pending ──> Turn(thread) ──> Running(thread) ──> Done
//!                         │ └────────────────↗  events, wakers      └──timeout──> Overrun
//!                         └──disarm──> Disarmed
//!
//! scope of a guard      Open ──> Closing ──> gone
//!
//! signal                mailbox ──admit──> Callbacks ──> OldHandler                (it decides)
//!                                                   └──> Grace ──> answered, or the end of the process
//! ```
//!
//! * `Armed → Turn`: a thread is about to run the callback. The cause is set from here on, or earlier where the
//!   watcher is to run it (`pending`). Observers and wakers are told; one of them may exit, and then the callback
//!   is still there for the thread that exits.
//! * `Turn → Running`: the claim, at the moment of the call. So a callback runs once.
//! * `Running → Overrun`: nobody waits for it any more; the process ends for it.
//! * A signal *begins an exit* while a guard that has it is open. Its *decider* is the host if that has the signal,
//!   or else the oldest guest. When the decider begins to end its scope, the exit is *answered*: the scope has
//!   ended in time. With the decider's end, the exit is over.
//! * `Callbacks → OldHandler`: a signal with a handler of its own has no grace period: the handler decides.
//! * `Callbacks → Grace`: the decider has until `deadline`. A repeat ends the wait (`is_granted`).
//!
//! All of this is under one lock. It is never held while user code runs.

use std::sync::Arc;
use std::time::Instant;

use super::Guard;
use super::ending::End;
use crate::cause::Cause;
use crate::signal::{Received, Signal, SignalSet};
use crate::stack::Stack;
use crate::sys::clock::Moment;
use crate::sys::guarded::Guarded;
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread::{self, JoinHandle, Runner};

#[derive(Default)]
pub(crate) struct State {
    /// By age.
    pub(super) guards: Stack<Entry>,
    /// The key of the host.
    pub(crate) host: Option<usize>,
    /// By age. A signal is here twice if a foreign handler came on top of the guard's, and then another guard.
    pub(crate) installed: Vec<Installed>,
    /// In order of arrival.
    pub(super) exits: Vec<SignalExit>,
    /// Signals for the functions of `Builder::on`.
    pub(super) heard: Vec<Arrival>,
    /// What observers have still to hear of.
    pub(super) untold: Vec<Received>,
    /// Repeats to be told to observers, each with whether it ends a wait.
    pub(super) repeats: Vec<(Signal, bool)>,
    /// A guard with `Repeat::Force` is to be cut.
    pub(super) cut: Option<Status>,
    /// Signals that came to no open guard: for the restored disposition.
    pub(super) held: Vec<Arrival>,
    /// A guard that ended inside user code of the exit wants this, once that has returned.
    pub(super) wanted: Option<(Status, Cause)>,
    pub(super) end: Option<End>,
    pub(crate) watchers: Watchers,
}

/// The guard's own threads: one leads, one may run user code, one may stand by.
#[derive(Default)]
pub(crate) struct Watchers {
    /// Counts generations. A thread of an earlier one leaves.
    pub(crate) generation: usize,
    pub(crate) handles: Vec<JoinHandle>,
    pub(super) leader: Option<Runner>,
    pub(super) runner: Option<Runner>,
    /// The runner is in a function of `Builder::on`.
    pub(super) hears: bool,
    /// The key of the guard whose function of `Builder::on` runs, and the thread.
    pub(super) hearing: Option<(usize, Runner)>,
    /// The signals that the leader takes itself, also if the program blocks them everywhere.
    pub(super) listens: SignalSet,
    /// Those that have not left.
    pub(super) present: Vec<Runner>,
}

impl Watchers {
    /// Whether this thread is the one that runs user code.
    pub(super) fn is_runner(&self, me: Runner) -> bool {
        self.runner == Some(me)
    }

    /// Whether that thread runs user code, and no other one is there to lead.
    pub(crate) fn is_only(&self, me: Runner) -> bool {
        self.is_runner(me) && self.present.len() == 1
    }

    pub(super) fn present(&self, thread: &JoinHandle) -> Option<Runner> {
        self.present.iter().copied().find(|runner| runner.is(thread))
    }

    /// All threads are to leave. The caller joins them once the lock is free.
    pub(crate) fn dismiss(&mut self) -> Vec<JoinHandle> {
        self.generation += 1;
        thread::forget_masks();
        (self.leader, self.runner) = (None, None);
        self.listens = SignalSet::default();
        std::mem::take(&mut self.handles)
    }
}

/// A living guard.
pub(super) struct Entry {
    pub(super) guard: Arc<Guard>,
    /// Those of its settings that are not left ignored, nor given back to an old handler.
    pub(super) signals: SignalSet,
    pub(super) on: SignalSet,
    pub(super) callback: Callback,
    pub(super) scope: Scope,
    /// When user code of this guard, which runs now, overruns its `callback_timeout`, for each thread that runs it.
    /// `None`: for a callback that waits until a function of `on` returns.
    pub(super) clocks: Vec<(Option<Runner>, Instant)>,
    /// The last thread that wanted to end the process in a deferred function of this guard.
    pub(super) ender: Option<Runner>,
    /// Old handlers that signals have had run.
    pub(super) old_handlers_run: Vec<Guarded>,
    pub(super) ended: Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callback {
    Armed,
    /// The exit has begun, and the watcher is to run it.
    Pending,
    Turn(Runner),
    Running(Runner),
    /// It has returned or panicked.
    Done,
    Overrun,
    Disarmed,
}

impl Callback {
    /// The thread that runs it, or is about to.
    pub(super) fn runner(self) -> Option<Runner> {
        match self {
            Callback::Turn(runner) | Callback::Running(runner) => Some(runner),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Open,
    /// A thread ends it.
    Closing,
    /// It was ended inside its own callback or old handler: the watcher does the rest.
    ClosingInside,
    /// The process exits.
    ClosingInExit,
}

/// A signal whose handler is the guards'.
pub(crate) struct Installed {
    pub(crate) guarded: Guarded,
    /// The first guard that it was installed for.
    pub(super) first: usize,
    /// When the event came that was answered last.
    pub(super) answered: Option<Moment>,
}

/// What a signal has begun.
pub(super) struct SignalExit {
    pub(super) arrival: Arrival,
    pub(super) guarded: Guarded,
    /// The first key of the guards that were made since. They join, and hold nothing up.
    pub(super) until: usize,
    /// Its old handler decides: one that was there when the signal came.
    pub(super) has_old_handler: bool,
    /// A second wish to end came, by this signal, and was not answered yet.
    pub(super) wished_by: Option<Signal>,
    /// One was granted: the process ends as soon as no callback is to run before.
    pub(super) is_granted: bool,
    pub(super) stage: Stage,
    /// The guard that decides, once its scope ends: in time.
    pub(super) answered_by: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Callbacks,
    /// The watcher runs it.
    OldHandler,
    /// Of the guard with this key, which decides.
    Grace {
        decider: usize,
        deadline: Option<Instant>,
    },
}

/// How the exit of a guard goes, or went.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Ended {
    /// The first signal that came.
    pub(crate) signal: Option<Signal>,
    /// The first that had no handler of its own.
    pub(crate) ended_by: Option<Signal>,
    /// The first of those for which this guard decided.
    pub(crate) decided: Option<Signal>,
    pub(crate) panicked: bool,
}

impl State {
    pub(crate) fn is_empty(&self) -> bool {
        self.guards.is_empty()
    }

    /// Whether a thread waits in `abort` for what the watcher is to do for the living guards.
    pub(super) fn is_aborting(&self) -> bool {
        !self.guards.is_empty() && self.exits.iter().any(|exit| exit.arrival.aborts)
    }

    pub(super) fn host(&self) -> Option<&Entry> {
        self.host.and_then(|key| self.guards.get(key))
    }

    /// The host, or else the oldest guest.
    pub(crate) fn current(&self) -> Option<Arc<Guard>> {
        let oldest = || self.guards.iter().next().map(|(_, entry)| entry);
        let entry = self.host().or_else(oldest);
        entry.map(|entry| Arc::clone(&entry.guard))
    }

    /// The newest layer of a signal's handler.
    pub(crate) fn installed(&self, signal: Signal) -> Option<&Installed> {
        self.installed.iter().rfind(|one| one.guarded.signal() == signal)
    }

    /// The layer that was the newest when the guard with this key was made.
    pub(super) fn layer_of(&self, key: usize, signal: Signal) -> Option<&Installed> {
        let is_its = |one: &&Installed| one.guarded.signal() == signal && one.first <= key;
        self.installed.iter().rfind(is_its)
    }

    pub(super) fn installed_mut(&mut self, signal: Signal) -> Option<&mut Installed> {
        self.installed.iter_mut().rfind(|one| one.guarded.signal() == signal)
    }

    #[inline(never)]
    pub(super) fn signals(&self) -> SignalSet {
        self.installed.iter().map(|one| one.guarded.signal()).collect()
    }

    /// The handlers of which this is true, with their places.
    #[inline(never)]
    pub(crate) fn handlers(&self, which: &dyn Fn(usize, &Guarded) -> bool) -> Vec<Guarded> {
        let all = self.installed.iter().map(|one| one.guarded).enumerate();
        all.filter(|(at, guarded)| which(*at, guarded)).map(|(_, guarded)| guarded).collect()
    }

    /// The keys of the guards whose callback the watcher is to run, by age.
    pub(super) fn pending(&self) -> impl DoubleEndedIterator<Item = usize> {
        let pending = self.guards.iter().filter(|(_, entry)| entry.callback == Callback::Pending);
        pending.map(|(key, _)| key)
    }

    /// The keys of the guards of which this is true, by age.
    pub(super) fn keys(&self, which: &dyn Fn(&Entry) -> bool) -> Vec<usize> {
        self.guards.iter().filter(|(_, entry)| which(entry)).map(|(key, _)| key).collect()
    }

    pub(super) fn ended(&self, key: usize) -> Ended {
        self.guards.get(key).map(|entry| entry.ended).unwrap_or_default()
    }

    /// Whether the callback has returned or panicked, or ends the process and has no more to do.
    pub(super) fn has_returned(&self, key: usize) -> bool {
        match self.guards.get(key).map(|entry| entry.callback) {
            Some(Callback::Running(runner)) => self.has_begun_last_step(runner),
            callback => callback == Some(Callback::Done),
        }
    }

    /// Does this to each guard whose callback the watcher is to run.
    pub(super) fn each_pending(&mut self, change: &dyn Fn(&mut State, usize)) {
        for key in self.keys(&|entry| entry.callback == Callback::Pending) {
            change(self, key);
        }
    }
}

impl Entry {
    /// The exit of this guard begins, if it has not, and its callback is the watcher's.
    #[inline(never)]
    pub(super) fn begin(&mut self, cause: Cause) -> bool {
        let begins = self.callback == Callback::Armed && self.guard.begin(cause);
        if begins {
            self.callback = Callback::Pending;
        }
        begins
    }

    /// The exit of this guard begins with this signal, or has begun already.
    pub(super) fn join(&mut self, arrival: &Arrival, has_old_handler: bool) {
        let signal = arrival.signal;
        self.ended.signal.get_or_insert(signal);
        if !has_old_handler {
            self.ended.ended_by.get_or_insert(signal);
        }
        self.begin(Cause::Signal(arrival.received()));
    }

    pub(super) fn all(&self) -> SignalSet {
        self.signals.union(self.on)
    }

    pub(super) fn is_open(&self) -> bool {
        self.scope == Scope::Open
    }
}
