//! How guards come and go, and who of them decides.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::Guard;
use super::state::{Callback, Ended, Entry, Installed, Scope, SignalExit, Stage, State};
use crate::settings::Repeat;
use crate::signal::{Signal, SignalSet};
use crate::sys::guarded::Guarded;
use crate::sys::restore::{self, Late};
use crate::sys::siginfo::Arrival;

impl State {
    /// Remembers handlers that were put in place for the guard that enters next.
    pub(crate) fn add_installed(&mut self, guarded: &[Guarded]) {
        let first = self.guards.next_key();
        for &guarded in guarded {
            let answered = self.installed(guarded.signal()).and_then(|below| below.answered);
            self.installed.push(Installed { guarded, first, answered });
        }
        // Here and not when a signal comes: the first memory that the watcher asks for is a page fault.
        self.exits.reserve(guarded.len());
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
            clocks: Vec::new(),
            ender: None,
            old_handlers_run: Vec::new(),
            ended: Ended::default(),
        };
        let all = entry.all();
        let key = self.guards.push(entry);
        guard.key.store(key, SeqCst);
        if settings.is_host() {
            self.host = Some(key);
            self.set_hosted(all, true);
        }
        let mut has_joined = false;
        for exit in self.exits.iter().filter(|exit| signals.contains(exit.arrival.signal)) {
            if let Some(entry) = self.guards.get_mut(key) {
                entry.join(&exit.arrival, exit.has_old_handler);
            }
            has_joined = true;
        }
        // Signals that came while no guard had them.
        let mine = extract(&mut self.held, &|arrival| all.contains(arrival.signal));
        let has_mail = !mine.is_empty();
        mine.into_iter().for_each(|arrival| self.admit(arrival));
        // The leader takes a host's signals itself: it has to wake and see that, where no other thread may take them.
        has_mail || has_joined || settings.is_host() && guard.mask.blocks_any(all)
    }

    #[inline(never)]
    pub(super) fn has_old_handler(&self, signal: Signal) -> bool {
        let is_hosted = self.hosted().contains(signal);
        self.installed(signal).is_some_and(|one| one.guarded.has_old_handler(is_hosted))
    }

    /// The signals of the host.
    pub(super) fn hosted(&self) -> SignalSet {
        self.host().map(|host| host.all()).unwrap_or_default()
    }

    /// A host begins or ceases to guard these signals. On Windows this changes who decides about them, also about
    /// those that came before: without a host, the handlers below.
    fn set_hosted(&mut self, signals: SignalSet, is_hosted: bool) {
        for one in self.installed.iter().map(|one| one.guarded) {
            let signal = one.signal();
            if !signals.contains(signal) {
                continue;
            }
            one.set_hosted(is_hosted);
            let open = |exit: &&mut SignalExit| {
                exit.arrival.signal == signal && exit.answered_by.is_none()
            };
            if one.old_handler_may_end_process() {
                for exit in self.exits.iter_mut().filter(open) {
                    (exit.stage, exit.has_old_handler) = (Stage::Callbacks, !is_hosted);
                }
            }
        }
    }

    /// The guard that decides about a signal without a handler of its own.
    #[inline(never)]
    pub(super) fn decider(&self, signal: Signal) -> Option<usize> {
        let can = |entry: &Entry| entry.is_open() && entry.signals.contains(signal);
        let host = self.host.filter(|key| self.guards.get(*key).is_some_and(can));
        let oldest = || self.guards.iter().find(|(_, entry)| can(entry)).map(|(key, _)| key);
        host.or_else(oldest)
    }

    /// The signals of the guards, but for those whose decider absorbs repeats.
    pub(super) fn ends(&self) -> SignalSet {
        let mut ends = SignalSet::default();
        // The word of the oldest beats that of others, and the host's beats all.
        for entry in self.guards.iter().rev().map(|(_, entry)| entry).chain(self.host()) {
            let absorbs = entry.guard.settings.repeat == Repeat::Absorb;
            ends = if absorbs { ends.minus(entry.signals) } else { ends.union(entry.signals) };
        }
        ends
    }

    /// Marks the scope as closing, if it is open. The exits that this guard decides are answered.
    pub(super) fn close_scope(&mut self, key: usize, scope: Scope) {
        let Some(entry) = self.guards.get(key).filter(|entry| entry.is_open()) else { return };
        let signals = entry.signals;
        for at in 0..self.exits.len() {
            let exit = &self.exits[at];
            let signal = exit.arrival.signal;
            let may = exit.answered_by.is_none() && !exit.has_old_handler && !exit.arrival.aborts;
            if may && signals.contains(signal) && self.decider(signal) == Some(key) {
                self.exits[at].answered_by = Some(key);
                if let Some(entry) = self.guards.get_mut(key) {
                    entry.ended.decided.get_or_insert(signal);
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
        if self.host == Some(key) {
            self.host = None;
            if let Some(entry) = self.guards.get(key) {
                self.set_hosted(entry.all(), false);
            }
        }
        let entry = self.guards.remove(key);
        while let Some(at) = self.exits.iter().position(|exit| exit.answered_by == Some(key)) {
            let exit = self.exits.remove(at);
            self.repeats.extend(exit.wished_by.map(|signal| (signal, false)));
            if let Some(installed) = self.installed_mut(exit.arrival.signal) {
                installed.answered = Some(exit.arrival.first);
            }
        }
        entry
    }

    /// The handlers that no living guard needs.
    pub(super) fn unused(&self, all: SignalSet) -> Vec<Guarded> {
        self.handlers(&|at, guarded| {
            let signal = guarded.signal();
            let newer = self.installed[at + 1..].iter().find(|one| one.guarded.signal() == signal);
            let keys = self.installed[at].first..newer.map_or(usize::MAX, |newer| newer.first);
            let needs =
                |(key, entry): (usize, &Entry)| keys.contains(&key) && entry.all().contains(signal);
            all.contains(signal) && !self.guards.iter().any(needs)
        })
    }

    /// Foreign handlers may have gone that came on top of the guards': those that were below are the newest then.
    pub(crate) fn uncover(&mut self, signal: Signal) -> Option<Guarded> {
        let newest = self.installed(signal)?;
        let (was, answered) = (newest.guarded, newest.answered);
        let guarded = was.uncovered()?;
        let goes = |one: &Installed| {
            let is_above = !guarded.is_above(&one.guarded) || one.guarded.is_same(&was);
            one.guarded.signal() == signal && is_above
        };
        let mut first = usize::MAX;
        while let Some(at) = self.installed.iter().position(goes) {
            first = first.min(self.installed.remove(at).first);
        }
        self.installed.push(Installed { guarded, first, answered });
        let has_old_handler = self.has_old_handler(signal);
        let waits = |exit: &&mut SignalExit| {
            exit.arrival.signal == signal && exit.stage == Stage::Callbacks
        };
        for exit in self.exits.iter_mut().filter(waits) {
            (exit.guarded, exit.has_old_handler) = (guarded, has_old_handler);
        }
        Some(guarded)
    }

    /// Restores these handlers; `forget` comes next, if they were known.
    pub(crate) fn restore(&self, gone: &[Guarded]) -> Late {
        restore::restore_all(gone, &self.handlers(&|_, _| true), self.is_aborting())
    }

    /// These handlers are restored. Returns what is for the old dispositions: signals that came to no open guard,
    /// at last those that came while they were restored, and those whose old handler has still to hear of them.
    pub(super) fn forget(&mut self, gone: &[Guarded], came: Vec<Arrival>) -> Vec<Arrival> {
        let signals: SignalSet = gone.iter().map(Guarded::signal).collect();
        let old: SignalSet =
            signals.into_iter().filter(|signal| self.has_old_handler(*signal)).collect();
        self.installed.retain(|other| !gone.iter().any(|one| one.is_same(&other.guarded)));
        let signals = signals.minus(self.signals());
        let is_its = |arrival: &Arrival| signals.contains(arrival.signal);
        let mut late = extract(&mut self.held, &is_its);
        let begins = |signal| self.exits.iter().any(|exit| exit.arrival.signal == signal);
        let heard = extract(&mut self.heard, &is_its).into_iter();
        late.extend(heard.filter(|heard| old.contains(heard.signal) && !begins(heard.signal)));
        self.exits.retain(|exit| {
            // The watcher that runs an old handler removes the exit.
            let runs = exit.stage == Stage::OldHandler || exit.arrival.aborts;
            let is_its = is_its(&exit.arrival) && !runs;
            if is_its && exit.has_old_handler && exit.stage == Stage::Callbacks {
                late.push(exit.arrival.clone());
            }
            !is_its
        });
        late.extend(came);
        // Several of one signal are one, as they are for the kernel.
        let mut seen = SignalSet::default();
        late.retain(|arrival| seen.insert(arrival.signal));
        late
    }

    /// The signal is its old handler's again, and no guard's any more.
    pub(super) fn give_back(&mut self, guarded: &Guarded) {
        let signal = guarded.signal();
        self.installed.retain(|one| one.guarded.signal() != signal);
        // A signal that came at the last moment belongs to the delivery, like one that is still in the mailbox.
        self.exits.retain(|exit| {
            let is_other = exit.arrival.signal != signal || exit.arrival.aborts;
            is_other || exit.stage == Stage::OldHandler
        });
        let one = SignalSet::of(&[signal]);
        for (_, entry) in self.guards.iter_mut().filter(|(_, entry)| entry.all().contains(signal)) {
            entry.old_handlers_run.push(*guarded);
            entry.signals = entry.signals.minus(one);
            entry.on = entry.on.minus(one);
        }
    }

    /// The guard that decides how the process ends, and whether this signal begins anything: no exit by it is under way,
    /// and a guard or an old handler would have it.
    #[cfg(unix)]
    pub(crate) fn for_signal(&mut self, signal: Signal) -> (Option<Arc<Guard>>, bool) {
        self.admit_mail();
        let is_news = !self.exits.iter().any(|exit| exit.arrival.signal == signal);
        let is_called = self.has_old_handler(signal);
        let has = |(_, entry): (usize, &Entry)| {
            entry.all().contains(signal) && (is_called || entry.is_open())
        };
        (self.current(), is_news && self.guards.iter().any(has))
    }
}

/// Takes out those of which this is true.
pub(super) fn extract(from: &mut Vec<Arrival>, which: &dyn Fn(&Arrival) -> bool) -> Vec<Arrival> {
    let mut taken = Vec::new();
    while let Some(at) = from.iter().position(which) {
        taken.push(from.remove(at));
    }
    taken
}
