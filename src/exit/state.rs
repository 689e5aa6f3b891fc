//! What is known of the exit of a process: its guards, the signals that came, who runs what.
//!
//! ```text
//! callback of a guard   Armed ──> Turn(thread) ──> Running(thread) ──> Done
//!                         │           events, wakers       └──timeout──> Overrun
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
//! * `Callbacks → Grace`: the decider has until `deadline`. A repeat ends the wait (`forced`).
//!
//! All of this is under one lock. It is never held while user code runs.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::Guard;
use super::end::End;
use crate::cause::Cause;
use crate::signal::{Received, Signal, SignalSet};
use crate::stack::Stack;
use crate::sys::clock::Moment;
use crate::sys::guarded::Guarded;
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread::{JoinHandle, Runner, ThreadId};

#[derive(Default)]
pub(crate) struct State {
    /// By age.
    pub(super) guards: Stack<Entry>,
    /// The key of the host.
    host: Option<usize>,
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
    /// Guards whose callback the watcher is to run, the newest last.
    pub(super) pending: Vec<usize>,
    /// Guards that were dropped inside their own callback or old handler.
    pub(super) inside: Vec<usize>,
    /// Guards whose clock runs.
    pub(super) ticking: Vec<usize>,
    /// A guard whose callback panicked on a watcher.
    pub(super) failed: Option<usize>,
    pub(super) end: Option<End>,
    pub(crate) watchers: Watchers,
}

/// The guard's own threads: one leads, one may run user code, one may stand by.
#[derive(Default)]
pub(crate) struct Watchers {
    /// Counts generations. A thread of an earlier one leaves.
    pub(crate) generation: usize,
    pub(crate) handles: Vec<JoinHandle>,
    pub(super) leader: Option<ThreadId>,
    pub(super) runner: Option<Runner>,
    /// The runner is in a function of `Builder::on`.
    pub(super) hears: bool,
    /// The signals that the leader takes itself, also if the program blocks them everywhere.
    pub(super) listens: SignalSet,
    /// Those that have not left.
    pub(super) present: Vec<Runner>,
}

impl Watchers {
    /// Whether the calling thread is the one that runs user code.
    pub(super) fn is_runner(&self, me: Runner) -> bool {
        self.runner.is_some_and(|runner| runner.id() == me.id())
    }

    pub(super) fn present(&self, thread: &JoinHandle) -> Option<Runner> {
        self.present.iter().copied().find(|runner| runner.is(thread))
    }

    /// All threads are to leave. The caller joins them once the lock is free.
    pub(crate) fn dismiss(&mut self) -> Vec<JoinHandle> {
        self.generation += 1;
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
    /// When user code of this guard, which runs now, overruns its `callback_timeout`.
    pub(super) deadline: Option<Instant>,
    /// The first signal of its exit.
    pub(super) signal: Option<Signal>,
    /// Old handlers that signals have had run.
    pub(super) old_handlers_run: Vec<Guarded>,
    /// The first of them that had no handler of its own.
    pub(super) ended_by: Option<Signal>,
    /// The first of those for which this guard decided.
    pub(super) decided: Option<Signal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callback {
    Armed,
    Turn(Runner),
    Running(Runner),
    Done { panicked: bool },
    Overrun,
    Disarmed,
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
    first: usize,
    /// When the event came that was answered last.
    pub(super) answered: Option<Moment>,
}

/// What a signal has begun.
pub(super) struct SignalExit {
    pub(super) arrival: Arrival,
    /// One of this signal came from the kernel.
    pub(super) has_kernel: bool,
    /// A second wish to end came, by this signal, and was not answered yet.
    pub(super) wished_by: Option<Signal>,
    pub(super) stage: Stage,
    /// The guard that decides, once its scope ends: in time.
    pub(super) answered_by: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Callbacks,
    /// The watcher runs it.
    OldHandler,
    Grace {
        deadline: Option<Instant>,
        forced: bool,
    },
}

/// How the exit of a guard went.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Ended {
    /// The first signal that came.
    pub(crate) signal: Option<Signal>,
    /// The first that had no handler of its own.
    pub(crate) ended_by: Option<Signal>,
    /// The first of those for which this guard decided.
    pub(crate) decided: Option<Signal>,
    /// Whether the callback has returned or panicked.
    pub(crate) has_returned: bool,
    pub(crate) panicked: bool,
}

impl State {
    pub(crate) fn is_empty(&self) -> bool {
        self.guards.is_empty()
    }

    /// Whether this guard is one of them.
    pub(crate) fn has(&self, guard: &Arc<Guard>) -> bool {
        let known = self.guards.get(guard.key());
        known.is_some_and(|entry| Arc::ptr_eq(&entry.guard, guard))
    }

    pub(crate) fn has_host(&self) -> bool {
        self.host.is_some()
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

    pub(super) fn installed_mut(&mut self, signal: Signal) -> Option<&mut Installed> {
        self.installed.iter_mut().rfind(|one| one.guarded.signal() == signal)
    }

    #[inline(never)]
    pub(super) fn signals(&self) -> SignalSet {
        self.installed.iter().map(|one| one.guarded.signal()).collect()
    }

    /// Remembers handlers that were put in place for the guard that enters next.
    pub(crate) fn add_installed(&mut self, guarded: &[Guarded]) {
        let first = self.guards.next_key();
        let new = guarded.iter().map(|&guarded| Installed { guarded, first, answered: None });
        self.installed.extend(new);
    }

    /// Lets the guard in, with the signals that it really has. One that is made while an exit by one of its signals
    /// is under way joins that. Whether there is something to do for the leader.
    pub(crate) fn enter(&mut self, guard: &Arc<Guard>, kept_ignored: SignalSet) -> bool {
        let has = self.signals().minus(kept_ignored);
        let settings = &guard.settings;
        let signals = settings.signals.intersection(has);
        let entry = Entry {
            guard: Arc::clone(guard),
            signals,
            on: settings.on.intersection(has),
            callback: Callback::Armed,
            scope: Scope::Open,
            deadline: None,
            signal: None,
            old_handlers_run: Vec::new(),
            ended_by: None,
            decided: None,
        };
        let all = entry.all();
        let key = self.guards.push(entry);
        guard.key.store(key, SeqCst);
        if settings.is_host() {
            self.host = Some(key);
            self.set_hosted(all, true);
        }
        let joins = |exit: &&SignalExit| {
            signals.contains(exit.arrival.signal) && exit.answered_by.is_none()
        };
        if let Some(arrival) = self.exits.iter().find(joins).map(|exit| exit.arrival.clone()) {
            self.join(key, &arrival);
        }
        // What came while nobody had the signal.
        let (mine, others) =
            self.held.drain(..).partition(|arrival: &Arrival| all.contains(arrival.signal));
        self.held = others;
        self.admit(mine);
        self.is_pending(key)
    }

    /// The exit of this guard begins with this signal, or has begun already.
    pub(super) fn join(&mut self, key: usize, arrival: &Arrival) {
        let signal = arrival.signal;
        let has_old_handler = self.has_old_handler(signal);
        let Some(entry) = self.guards.get_mut(key) else { return };
        entry.signal.get_or_insert(signal);
        if !has_old_handler {
            entry.ended_by.get_or_insert(signal);
        }
        self.begin(key, Cause::Signal(arrival.received()));
    }

    /// The exit of a guard begins, if it has not, and its callback is the watcher's.
    pub(super) fn begin(&mut self, key: usize, cause: Cause) -> bool {
        let Some(entry) = self.guards.get_mut(key) else { return false };
        let begins = entry.callback == Callback::Armed && entry.guard.begin(cause);
        if begins {
            if let Err(at) = self.pending.binary_search(&key) {
                self.pending.insert(at, key);
            }
        }
        begins
    }

    pub(super) fn has_old_handler(&self, signal: Signal) -> bool {
        let is_hosted = self.host_has(signal);
        self.installed(signal).is_some_and(|one| one.guarded.has_old_handler(is_hosted))
    }

    pub(super) fn host_has(&self, signal: Signal) -> bool {
        self.host().is_some_and(|host| host.all().contains(signal))
    }

    fn set_hosted(&self, signals: SignalSet, is_hosted: bool) {
        for one in self.installed.iter().filter(|one| signals.contains(one.guarded.signal())) {
            one.guarded.set_hosted(is_hosted);
        }
    }

    /// The guard that decides about a signal without a handler of its own.
    pub(super) fn decider(&self, signal: Signal) -> Option<usize> {
        let can = |entry: &Entry| entry.is_open() && entry.signals.contains(signal);
        let host = self.host.filter(|key| self.guards.get(*key).is_some_and(can));
        let oldest = || self.guards.iter().find(|(_, entry)| can(entry)).map(|(key, _)| key);
        host.or_else(oldest)
    }

    /// Marks the scope as closing, if it is open. The exits that this guard decides are answered.
    pub(super) fn close_scope(&mut self, key: usize, scope: Scope) {
        let Some(entry) = self.guards.get(key).filter(|entry| entry.is_open()) else { return };
        let signals = entry.signals;
        let is_open = |exit: &&SignalExit| exit.answered_by.is_none();
        let asked: Vec<Signal> =
            self.exits.iter().filter(is_open).map(|exit| exit.arrival.signal).collect();
        for signal in asked {
            let decides = signals.contains(signal)
                && !self.has_old_handler(signal)
                && self.decider(signal) == Some(key);
            let exit = self.exits.iter_mut().rfind(|exit| exit.arrival.signal == signal);
            if let Some(exit) = exit.filter(|exit| decides && !exit.arrival.aborts) {
                exit.answered_by = Some(key);
                if let Some(entry) = self.guards.get_mut(key) {
                    entry.decided.get_or_insert(signal);
                }
            }
        }
        if let Some(entry) = self.guards.get_mut(key) {
            entry.scope = scope;
        }
    }

    /// Takes the guard out. The caller drops the entry once the lock is free: user code may hang on it.
    pub(super) fn remove(&mut self, key: usize) -> Option<Entry> {
        self.close_scope(key, Scope::Closing);
        if let Ok(at) = self.pending.binary_search(&key) {
            self.pending.remove(at);
        }
        if self.host == Some(key) {
            self.host = None;
            if let Some(entry) = self.guards.get(key) {
                self.set_hosted(entry.all(), false);
            }
            // What came while its scope ended is now for a handler below (Windows).
            let installed = self.installed.iter().map(|one| one.guarded);
            let passed_on = installed.filter(|one| one.old_handler_may_end_process());
            let passed_on: SignalSet = passed_on.map(|one| one.signal()).collect();
            for exit in self.exits.iter_mut().filter(|exit| exit.answered_by.is_none()) {
                let is_its = passed_on.contains(exit.arrival.signal);
                if is_its && matches!(exit.stage, Stage::Grace { .. }) {
                    exit.stage = Stage::Callbacks;
                }
            }
        }
        let entry = self.guards.remove(key);
        while let Some(at) = self.exits.iter().position(|exit| exit.answered_by == Some(key)) {
            let arrival = self.exits.remove(at).arrival;
            if let Some(installed) = self.installed_mut(arrival.signal) {
                installed.answered = Some(arrival.first);
            }
        }
        entry
    }

    /// The handlers that stay when these are gone.
    pub(super) fn kept(&self, gone: &[Guarded]) -> Vec<Guarded> {
        let all = self.installed.iter().map(|one| one.guarded);
        all.filter(|one| !gone.iter().any(|other| other.is_same(one))).collect()
    }

    /// The handlers that no living guard needs.
    pub(super) fn unused(&self, all: SignalSet) -> Vec<Guarded> {
        let is_unused = |(at, one): &(usize, &Installed)| {
            let signal = one.guarded.signal();
            let newer = self.installed[at + 1..].iter().find(|one| one.guarded.signal() == signal);
            let end = newer.map_or(usize::MAX, |newer| newer.first);
            let needs = |(key, entry): (usize, &Entry)| {
                (one.first..end).contains(&key) && entry.all().contains(signal)
            };
            all.contains(signal) && !self.guards.iter().any(needs)
        };
        let unused = self.installed.iter().enumerate().filter(is_unused);
        unused.map(|(_, one)| one.guarded).collect()
    }

    /// These handlers are restored. Returns what is for the old dispositions: signals that came to no open guard,
    /// and those whose old handler has still to hear of them.
    pub(super) fn forget(&mut self, gone: &[Guarded]) -> Vec<Arrival> {
        let mut late = Vec::new();
        for one in gone {
            let signal = one.signal();
            let had_old_handler = self.has_old_handler(signal);
            self.installed.retain(|other| !other.guarded.is_same(one));
            if self.installed(signal).is_some() {
                continue;
            }
            self.held.retain(|arrival| {
                arrival.signal != signal || {
                    late.push(arrival.clone());
                    false
                }
            });
            self.heard.retain(|arrival| {
                let is_its = arrival.signal == signal;
                let begins = |exit: &SignalExit| exit.arrival.signal == signal;
                if is_its && had_old_handler && !self.exits.iter().any(begins) {
                    late.push(arrival.clone());
                }
                !is_its
            });
            self.exits.retain(|exit| {
                let is_its = exit.arrival.signal == signal && !exit.arrival.aborts;
                if is_its && had_old_handler && exit.stage == Stage::Callbacks {
                    late.push(exit.arrival.clone());
                }
                !is_its
            });
        }
        late
    }

    /// The signal is its old handler's again, and no guard's any more.
    pub(super) fn give_back(&mut self, guarded: &Guarded) {
        let signal = guarded.signal();
        self.installed.retain(|one| one.guarded.signal() != signal);
        let one = SignalSet::of(&[signal]);
        for (_, entry) in self.guards.iter_mut().filter(|(_, entry)| entry.all().contains(signal)) {
            entry.old_handlers_run.push(*guarded);
            entry.signals = entry.signals.minus(one);
            entry.on = entry.on.minus(one);
        }
    }

    pub(super) fn ended(&self, key: usize) -> Ended {
        self.guards.get(key).map(Entry::ended).unwrap_or_default()
    }

    /// User code of this guard begins: its clock runs, unless it runs already. Whether it was started.
    pub(super) fn start_clock(&mut self, key: usize) -> bool {
        let Some(entry) = self.guards.get_mut(key) else { return false };
        let timeout = entry.guard.settings.callback_timeout;
        if entry.deadline.is_some() {
            return false;
        }
        entry.deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let starts = entry.deadline.is_some();
        if starts {
            self.ticking.push(key);
        }
        starts
    }

    pub(super) fn stop_clock(&mut self, key: usize) {
        let Some(entry) = self.guards.get_mut(key) else { return };
        if entry.deadline.take().is_some() {
            self.ticking.retain(|other| *other != key);
        }
    }
}

impl Entry {
    pub(super) fn all(&self) -> SignalSet {
        self.signals.union(self.on)
    }

    pub(super) fn is_open(&self) -> bool {
        self.scope == Scope::Open
    }

    pub(super) fn ended(&self) -> Ended {
        Ended {
            signal: self.signal,
            ended_by: self.ended_by,
            decided: self.decided,
            has_returned: matches!(self.callback, Callback::Done { .. }),
            panicked: self.callback == Callback::Done { panicked: true },
        }
    }
}
