//! How guards come and go, and how the process ends.

use super::*;

/// What became of a guard that wants to enter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Enter {
    Entered,
    /// It does not want to be beside another.
    Nested,
    /// Something is missing: the watcher, the timer, or the handlers of these signals.
    Missing(SignalSet),
}

/// Which guards are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    All,
    /// Those that have this signal.
    With(Signal),
    /// Those to which this signal is no exit; one whose exit has begun hears no more.
    Hearing(Signal),
}

/// A guard has left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) ended: Ended,
    /// The signals that no guard has any more.
    pub(crate) restore: Vec<Guarded>,
    /// It was the last one: this is the generation of watcher and timer that are to leave.
    pub(crate) last: Option<usize>,
}

impl<W> Machine<W> {
    /// Lets the guard in, if everything it needs is in place.
    pub(crate) fn enter(&self, guard: &Arc<Guard<W>>) -> Enter {
        let mut state = self.lock();
        if !guard.settings.append && !state.guards.is_empty() {
            return Enter::Nested;
        }
        let missing = guard.settings.all_signals().minus(state.signals());
        let needs_timer = guard.settings.callback_timeout.is_some() && !state.has_timer;
        if state.guards.is_empty() || !missing.is_empty() || needs_timer {
            return Enter::Missing(missing);
        }
        state.enter(guard);
        Enter::Entered
    }

    /// Lets the guard in, with `new` signals installed. Those of its signals that are not installed
    /// now stay ignored.
    pub(crate) fn enter_with(&self, guard: &Arc<Guard<W>>, new: &[Guarded], has_timer: bool) {
        let mut state = self.lock();
        state.has_timer = has_timer;
        let since = state.guards.newest() + 1;
        let installed =
            |guarded: &Guarded| Installed { guarded: *guarded, since, guards: 0, open: 0 };
        state.installed.extend(new.iter().map(installed));
        state.enter(guard);
    }

    /// Takes out a guard that has ended, if others have all of its signals. `None`: it has to be
    /// [`leave_last`](Machine::leave_last), with nobody installing meanwhile.
    pub(crate) fn leave(&self, guard: &Guard<W>) -> Option<Left> {
        let mut state = self.lock();
        let key = guard.key();
        let Some(entry) = state.guards.get(key) else { return Some(Left::default()) };
        let all = entry.all_signals();
        let is_last = |installed: &Installed| installed.counts(key, all) && installed.guards == 1;
        if state.guards.len() == 1 || state.installed.iter().any(is_last) {
            return None;
        }
        Some(Left { ended: state.remove(key), ..Left::default() })
    }

    /// Takes out a guard that has ended, and what is to be restored with it.
    pub(crate) fn leave_last(&self, guard: &Guard<W>) -> Left {
        let mut state = self.lock();
        let ended = state.remove(guard.key());
        let restore = state.take_unguarded();
        let last = state.guards.is_empty().then_some(state.generation);
        if last.is_some() {
            state.generation += 1;
            state.given_back.clear();
            state.has_timer = false;
            self.timed.notify_all();
        }
        Left { ended, restore, last }
    }

    /// Takes out all guards, at the end of the process. Returns what is to be restored.
    pub(crate) fn clear(&self) -> Vec<Guarded> {
        let mut state = self.lock();
        for key in state.keys() {
            if let Some(Callback::Running(runner)) = state.guards.get(key).map(|one| one.callback) {
                state.exited.push((key, runner));
            }
            state.remove(key);
        }
        state.verdicts.clear();
        self.notify(&state);
        state.take_unguarded()
    }

    /// The generation of the watcher and the timer that are to be started now.
    pub(crate) fn generation(&self) -> usize {
        self.lock().generation
    }

    /// Watcher and timer of this generation are to leave: their guard could not be installed.
    pub(crate) fn dismiss(&self, generation: usize) {
        let mut state = self.lock();
        if state.generation == generation {
            state.generation += 1;
        }
        self.timed.notify_all();
    }

    /// The oldest living guard.
    pub(crate) fn oldest(&self) -> Option<Arc<Guard<W>>> {
        self.lock().guards.iter().next().map(|(_, entry)| Arc::clone(&entry.guard))
    }

    /// The newest of the living guards older than `key`: so somebody goes through them without the lock.
    pub(crate) fn older_than(&self, key: usize, which: Which) -> Option<Arc<Guard<W>>> {
        let state = self.lock();
        let found = state.guards.older_than(key).find(|entry| entry.is_one_of(which));
        found.map(|entry| Arc::clone(&entry.guard))
    }

    /// This thread is going to end the process: how? As was decided before, else with `status`. A
    /// failure beats everything. `None`: the process exits by itself, on another thread.
    pub(crate) fn decide(&self, me: Runner, status: Status) -> Option<Status> {
        self.lock().decide(me, status)
    }

    /// The process exits on this thread: how is it to end instead, if something else was decided
    /// before, or if a callback `failed`? What the exit's own code says holds: a callback, a deferred
    /// function or an old handler that exits.
    pub(crate) fn decided(&self, me: Runner, in_exit_code: bool, failed: bool) -> Option<Status> {
        let state = self.lock();
        if state.enders.contains(&me.id()) {
            return None;
        }
        if failed || in_exit_code {
            return failed.then_some(Status::Failed);
        }
        let by_signal = |(_, entry): (usize, &Entry<W>)| {
            entry.guard.settings.status_after_scope(entry.decides?)
        };
        state.end.or_else(|| state.guards.iter().find_map(by_signal))
    }

    /// Whether a callback has overrun its timeout.
    pub(crate) fn has_overrun(&self) -> bool {
        self.lock().guards.iter().any(|(_, entry)| entry.callback == Callback::Overrun)
    }

    /// How the exit of a guard that has not left goes.
    pub(crate) fn ended(&self, guard: &Guard<W>) -> Ended {
        self.lock().guards.get(guard.key()).map(Entry::ended).unwrap_or_default()
    }
}

impl<W> State<W> {
    pub(super) fn decide(&mut self, me: Runner, status: Status) -> Option<Status> {
        if status == Status::Failed {
            self.end = Some(status);
        }
        if self.exits.is_some_and(|thread| thread != me.id()) {
            return None;
        }
        self.enders.push(me.id());
        Some(*self.end.get_or_insert(status))
    }

    pub(super) fn enter(&mut self, guard: &Arc<Guard<W>>) {
        let installed = self.signals();
        let settings = &guard.settings;
        let entry = Entry {
            guard: Arc::clone(guard),
            signals: settings.signals.intersection(installed),
            on: settings.on.intersection(installed),
            callback: Callback::Armed,
            deadline: None,
            scope: Scope::Open,
            signal: None,
            ended_by: None,
            decides: None,
        };
        let all = entry.all_signals();
        self.forcing += usize::from(settings.repeat == Repeat::Force);
        let key = self.guards.push(entry);
        guard.key.store(key, SeqCst);
        for installed in self.installed.iter_mut().filter(|one| one.counts(key, all)) {
            installed.guards += 1;
            installed.open += 1;
        }
    }

    pub(super) fn remove(&mut self, key: usize) -> Ended {
        self.close_scope(key, By::Drop);
        let Some(entry) = self.guards.remove(key) else { return Ended::default() };
        self.forcing -= usize::from(entry.guard.settings.repeat == Repeat::Force);
        self.verdicts.retain(|verdict| verdict.decider != Some(key));
        let all = entry.all_signals();
        for installed in self.installed.iter_mut().filter(|one| one.counts(key, all)) {
            installed.guards -= 1;
        }
        entry.ended()
    }

    /// Marks the scope as closing, if it is open.
    #[inline(never)]
    pub(super) fn close_scope(&mut self, key: usize, by: By) {
        let Some(entry) = self.guards.get_mut(key) else { return };
        if entry.scope != Scope::Open {
            return;
        }
        entry.scope = Scope::Closing(by);
        let all = entry.all_signals();
        for installed in self.installed.iter_mut().filter(|one| one.counts(key, all)) {
            installed.open -= 1;
        }
    }

    pub(super) fn take_unguarded(&mut self) -> Vec<Guarded> {
        self.take_installed(&|installed| installed.guards == 0)
    }

    #[inline(never)]
    pub(super) fn take_installed(&mut self, is_it: &dyn Fn(&Installed) -> bool) -> Vec<Guarded> {
        let mut taken = Vec::new();
        self.installed.retain(|installed| {
            let takes = is_it(installed);
            if takes {
                taken.push(installed.guarded);
            }
            !takes
        });
        taken
    }

    #[inline(never)]
    pub(super) fn keys(&self) -> Vec<usize> {
        self.guards.iter().map(|(key, _)| key).collect()
    }

    #[inline(never)]
    pub(super) fn signals(&self) -> SignalSet {
        self.installed.iter().map(|installed| installed.guarded.signal()).collect()
    }
}

impl<W> Entry<W> {
    fn is_one_of(&self, which: Which) -> bool {
        match which {
            Which::All => true,
            Which::With(signal) => self.all_signals().contains(signal),
            Which::Hearing(signal) => {
                let is_open = self.scope == Scope::Open && self.callback == Callback::Armed;
                is_open && self.on.contains(signal)
            }
        }
    }
}
