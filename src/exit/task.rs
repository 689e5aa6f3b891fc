//! What the watchers are to do, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Guard;
use super::state::{Callback, Entry, Scope, SignalExit, Stage, State};
use crate::cause::Cause;
use crate::settings::Repeat;
use crate::signal::{Received, Signal};
use crate::sys::guarded::Guarded;
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread::Runner;

/// What the watcher is to do next. All but `Cut` runs user code.
pub(crate) enum Task {
    /// Tell the guards that have it of a signal.
    Tell(Received),
    Callback(Arc<Guard>),
    /// Give the signal back to its old handler, and run that.
    OldHandler {
        arrival: Arrival,
        guarded: Guarded,
        guard: Arc<Guard>,
    },
    /// Run the functions of `Builder::on`, then the old handler, if it is to be called.
    Hear {
        arrival: Arrival,
        old_handler: Option<Guarded>,
        guard: Arc<Guard>,
    },
    /// A repeat came: whether it ends a wait.
    Repeat(Signal, bool),
    /// The guard was dropped inside its own callback or old handler: do the rest.
    Complete(Arc<Guard>),
    /// End the process, because of a signal or of a callback that panicked.
    End {
        status: Status,
        cause: Cause,
        grace_over: Option<(Signal, Duration)>,
    },
    /// User code has overrun its `callback_timeout`: run the rest, then end the process.
    Overrun {
        guard: Arc<Guard>,
        needs_successor: bool,
    },
    /// End the process now, and run nothing.
    Cut(Status),
}

impl State {
    /// What the leader is to do now. Where user code runs on a watcher already, only what cannot wait for it.
    pub(super) fn task(&mut self, me: Runner) -> Option<Task> {
        let now = Instant::now();
        if let Some(status) = self.cut(now) {
            return Some(Task::Cut(status));
        }
        if let Some(guard) = self.overrun(now) {
            // The one that runs user code now does not come back.
            let needs_successor = self.watchers.runner.is_some();
            return Some(Task::Overrun { guard, needs_successor });
        }
        if self.watchers.runner.is_some() {
            // A callback that is to run does not wait for a function of `on` longer than it may take itself.
            if self.watchers.hears {
                self.each_pending(&|state, key| _ = state.start_clock(key, None));
            }
            return None;
        }
        // A repeat ends the wait now: the observer that is told of it is no user code to be cut.
        for at in 0..self.exits.len() {
            if matches!(self.exits[at].stage, Stage::Grace { .. }) {
                self.advance(at, now);
            }
        }
        // First of all, so that those who wait for the exit to begin do not wait for a callback.
        if !self.untold.is_empty() {
            return Some(Task::Tell(self.untold.remove(0)));
        }
        let old_handler = (0..self.exits.len()).find(|at| self.advance(*at, now));
        // The end runs what is pending.
        if old_handler.is_none() && self.end.is_none() {
            if let Some(end) = self.end_due(now) {
                return Some(end);
            }
        }
        // Guards that joined an exit come after those that it waits for.
        let is_awaited = |key: &usize| {
            let signals = self.guards.get(*key).map(|entry| entry.signals).unwrap_or_default();
            let is_its = |exit: &&SignalExit| {
                exit.answered_by.is_none() && signals.contains(exit.arrival.signal)
            };
            let mut waits =
                self.exits.iter().filter(is_its).map(|exit| *key < exit.until).peekable();
            waits.peek().is_none() || waits.any(|waits| waits)
        };
        let awaited = self.pending().rfind(is_awaited);
        let next = awaited.or_else(|| self.pending().next_back());
        if let Some(key) = next.filter(|_| old_handler.is_none()) {
            self.take_turn(key, me, Cause::Requested);
            return self.guards.get(key).map(|entry| Task::Callback(Arc::clone(&entry.guard)));
        }
        if let Some(at) = old_handler {
            let arrival = self.exits[at].arrival.clone();
            // Functions of `on` hear it before, as the signal is the old handler's own then.
            let is_its = |heard: &Arrival| {
                heard.signal == arrival.signal
                    && heard.first.saturating_duration_since(arrival.first).is_zero()
            };
            let heard = self.heard.iter().position(is_its).filter(|_| self.end.is_none());
            let heard = heard.map(|heard| self.heard.remove(heard));
            if let Some(task) = heard.and_then(|heard| self.hear(heard)) {
                return Some(task);
            }
            self.exits[at].stage = Stage::OldHandler;
            let guarded = self.exits[at].guarded;
            let guard = self.oldest_with(arrival.signal)?;
            return Some(Task::OldHandler { arrival, guarded, guard });
        }
        if !self.repeats.is_empty() {
            let (signal, forces) = self.repeats.remove(0);
            return Some(Task::Repeat(signal, forces));
        }
        while self.end.is_none() && !self.heard.is_empty() {
            let arrival = self.heard.remove(0);
            if let Some(task) = self.hear(arrival) {
                return Some(task);
            }
        }
        let is_due = |entry: &Entry| {
            let has_run = entry.callback == Callback::Done;
            has_run && !entry.ended.panicked && entry.scope == Scope::ClosingInside
        };
        let (_, entry) = self.guards.iter_mut().find(|(_, entry)| is_due(entry))?;
        entry.scope = Scope::Closing;
        Some(Task::Complete(Arc::clone(&entry.guard)))
    }

    /// When the leader has to look again, if nothing comes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let clock = self.first_clock().map(|(_, deadline)| deadline);
        let graces = self.exits.iter().filter_map(|exit| match exit.stage {
            Stage::Grace { deadline, .. } if exit.answered_by.is_none() => deadline,
            _ => None,
        });
        // One that is over while a watcher runs user code has to wait for that.
        let graces = graces.filter(|_| self.end.is_none() && self.watchers.runner.is_none());
        let end = self.end.as_ref().and_then(|end| end.deadline);
        // The end waits for the clocks that run.
        let end = end.filter(|_| clock.is_none());
        clock.into_iter().chain(graces).chain(end).min()
    }

    /// Takes an exit as far as it goes without user code. Whether its old handler is to be run.
    fn advance(&mut self, at: usize, now: Instant) -> bool {
        let exit = &self.exits[at];
        let (signal, stage) = (exit.arrival.signal, exit.stage);
        let has_old_handler = exit.has_old_handler;
        if exit.answered_by.is_some() || self.end.is_some() && !has_old_handler {
            return false;
        }
        let until = exit.until;
        // Of guards that join, there might always be one.
        if self.pending().next().is_some_and(|key| key < until) {
            return false;
        }
        let is_elsewhere = |(key, entry): (usize, &Entry)| {
            entry.callback.runner().is_some() && key < until && entry.signals.contains(signal)
        };
        if stage == Stage::Callbacks {
            if self.guards.iter().any(is_elsewhere) {
                return false;
            }
            if has_old_handler {
                return true;
            }
        }
        if stage == Stage::OldHandler {
            return false;
        }
        let aborts = self.exits[at].arrival.aborts;
        let decider = self.decider(signal).unwrap_or(0);
        let Some(entry) = self.guards.get(decider) else {
            // Nobody decides. A thread that aborts ends the process all the same.
            self.exits[at].is_granted |= aborts;
            self.exits[at].stage = Stage::Grace { decider: 0, deadline: None };
            return false;
        };
        // A host that was made meanwhile decides, and has its grace from the return of its callback.
        if entry.callback == Callback::Pending || entry.callback.runner().is_some() {
            self.exits[at].stage = Stage::Callbacks;
            return false;
        }
        let settings = &entry.guard.settings;
        let exit = &mut self.exits[at];
        let deadline = match stage {
            Stage::Grace { decider: before, deadline } if before == decider => deadline,
            // It begins, or another guard decides from now on.
            _ => now.checked_add(settings.grace),
        };
        // A repeat may have brought a last moment.
        let deadline = [deadline, exit.arrival.last_moment()].into_iter().flatten().min();
        let wished_by = exit.wished_by.take();
        let ends_wait = settings.repeat != Repeat::Absorb;
        exit.is_granted |= aborts || wished_by.is_some() && ends_wait;
        exit.stage = Stage::Grace { decider, deadline };
        self.repeats.extend(wished_by.map(|signal| (signal, ends_wait)));
        false
    }

    /// How the process ends because of a signal, or because of a callback that panicked, if it has to end now.
    fn end_due(&mut self, now: Instant) -> Option<Task> {
        // What signals have begun goes first: callbacks, and old handlers.
        let has_old_handler =
            |exit: &SignalExit| exit.has_old_handler && exit.stage == Stage::Callbacks;
        let waits = self.pending().next().is_some() || self.exits.iter().any(has_old_handler);
        // Where a thread closes the scope, that one knows what to do.
        let has_failed = |(_, entry): &(usize, &Entry)| {
            let is_left = matches!(entry.scope, Scope::Open | Scope::ClosingInside);
            is_left && entry.ended.panicked
        };
        let failed = if waits { None } else { self.guards.iter().find(has_failed) };
        if let Some((_, entry)) = failed {
            let cause = entry.guard.cause().cloned().unwrap_or(Cause::ScopeEnd);
            return Some(Task::End { status: Status::Failed, cause, grace_over: None });
        }
        if let Some((status, cause)) = self.wanted.take() {
            return Some(Task::End { status, cause, grace_over: None });
        }
        let is_due = |exit: &&SignalExit| match exit.stage {
            Stage::Grace { deadline, .. } if exit.answered_by.is_none() => {
                exit.is_granted || deadline.is_some_and(|deadline| now >= deadline)
            }
            _ => false,
        };
        let exit = self.exits.iter().find(is_due)?;
        let cause = Cause::Signal(exit.arrival.received());
        let signal = exit.arrival.signal;
        if exit.arrival.aborts {
            return Some(Task::End { status: Status::Signal(signal), cause, grace_over: None });
        }
        let decider = self.decider(signal)?;
        let settings = &self.guards.get(decider)?.guard.settings;
        let waited = !exit.is_granted && !settings.grace.is_zero();
        let grace_over = waited.then_some((signal, settings.grace));
        // Whatever else came: the first one is what the process is killed by.
        let status = settings.status(self.first_decided_by(decider).unwrap_or(signal));
        Some(Task::End { status, cause, grace_over })
    }

    /// The first signal that this guard decides about.
    fn first_decided_by(&self, key: usize) -> Option<Signal> {
        let decided =
            |signal: &Signal| !self.has_old_handler(*signal) && self.decider(*signal) == Some(key);
        let open = self.exits.iter().filter(|exit| exit.answered_by.is_none());
        open.map(|exit| exit.arrival.signal).find(decided)
    }

    /// A signal for `Builder::on`: the old handler is called here if no guard takes it for an exit.
    fn hear(&self, arrival: Arrival) -> Option<Task> {
        let signal = arrival.signal;
        let is_exit = self.exits.iter().any(|exit| exit.arrival.signal == signal);
        let installed = self.installed(signal).filter(|_| !is_exit);
        let old_handler = installed.map(|one| one.guarded);
        let old_handler = old_handler.filter(|_| self.has_old_handler(signal));
        let guard = self.oldest_with(signal)?;
        Some(Task::Hear { arrival, old_handler, guard })
    }

    /// A guard with whose mask an old handler runs.
    fn oldest_with(&self, signal: Signal) -> Option<Arc<Guard>> {
        let has = |(_, entry): &(usize, &Entry)| entry.all().contains(signal);
        self.guards.iter().find(has).map(|(_, entry)| Arc::clone(&entry.guard))
    }

    /// Whether the process is to end at once: a repeat under `Repeat::Force`, or time that is over.
    fn cut(&self, now: Instant) -> Option<Status> {
        if let Some(end) = &self.end {
            if let Some(status) = end.cut(now, self.first_clock().is_some()) {
                return Some(status);
            }
        }
        if self.cut.is_some() {
            return self.cut;
        }
        let forced = |exit: &SignalExit| {
            let signal = exit.wished_by.map(|_| exit.arrival.signal)?;
            if exit.has_old_handler {
                return None;
            }
            let decider = exit.answered_by.or_else(|| self.decider(signal));
            let settings = &self.guards.get(decider?)?.guard.settings;
            (settings.repeat == Repeat::Force).then(|| settings.status(signal))
        };
        let status = self.exits.iter().find_map(forced)?;
        let has_failed = self.end.as_ref().is_some_and(|end| end.has_failed());
        self.is_busy().then_some(if has_failed { Status::Failed } else { status })
    }

    /// Whether user code of an exit runs, on whatever thread.
    fn is_busy(&self) -> bool {
        let runs =
            |(_, entry): (usize, &Entry)| entry.callback.runner().is_some() || !entry.is_open();
        self.watchers.runner.is_some() || self.end.is_some() || self.guards.iter().any(runs)
    }
}
