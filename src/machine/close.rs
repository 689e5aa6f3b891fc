//! How a guard ends: by its scope, or with the process.

use super::*;

/// Who closes a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Drop,
    Finish,
    Disarm,
    ProcessExit,
    /// The process ends, and the guard with it: the scope stays as it is.
    End,
    /// A thread inside the guard's own callback or old handler: whoever runs that does the rest.
    Inside,
}

/// What the thread that closes a scope is to do.
#[derive(Debug)]
pub(crate) enum Close<W> {
    /// It has claimed the callback: run it.
    Run(Run<W>),
    /// The callback is, or was, another thread's: wait for it with [`Machine::wait_done`].
    Wait,
    /// The callback will never run.
    Disarmed,
    /// This thread is inside the callback: leave, the closing happens after it.
    Inside,
    /// Another thread closes the scope: wait for the callback, do nothing else.
    Late,
    /// The guard has ended.
    Gone,
}

/// How the exit of a guard went.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Ended {
    /// The first signal that came.
    pub(crate) signal: Option<Signal>,
    /// The first that had no handler of its own.
    pub(crate) ended_by: Option<Signal>,
    /// The first of those for which this guard decides.
    pub(crate) decides: Option<Signal>,
    pub(crate) panicked: bool,
}

impl<W> Machine<W> {
    /// Begins the exit of a guard from code; the watcher runs the callback. False if it had begun.
    pub(crate) fn request(&self, guard: &Guard<W>) -> bool {
        let mut state = self.lock();
        let key = guard.key();
        let Some(entry) = state.guards.get_mut(key) else { return false };
        let begins = entry.callback == Callback::Armed && entry.scope == Scope::Open;
        if begins {
            state.begin(key, Cause::Requested);
        }
        begins
    }

    /// The scope of a guard ends, or the process. `cause` is what began its exit if nothing else has;
    /// `take` moves the signals that came out of their mailboxes: one that came before the scope ended is
    /// the exit's.
    pub(crate) fn close(
        &self,
        guard: &Guard<W>,
        me: Runner,
        by: By,
        cause: Cause,
        take: impl FnOnce(SignalSet, &mut Vec<Arrival>),
    ) -> Close<W> {
        let mut state = self.lock();
        let key = guard.key();
        state.admit_for(key, take);
        let Some(entry) = state.guards.get(key) else {
            return match state.exits_in_callback(key, me) {
                None => Close::Gone,
                Some(_) => Close::Late,
            };
        };
        let callback = entry.callback;
        let may = match entry.scope {
            Scope::Open => true,
            // The thread that exits has not come to it yet, and may be waiting for this one.
            Scope::Closing(By::ProcessExit) => by == By::End || callback == Callback::Armed,
            Scope::Closing(_) => by == By::End,
        };
        if !may {
            return Close::Late;
        }
        let runs_old_handler = state.old_handler_of.is_some_and(|one| entry.signals.contains(one));
        let inside = match callback {
            Callback::Running(runner) => runner.id() == me.id(),
            Callback::Finished { .. } => runs_old_handler && state.is_watcher(me.id()),
            _ => false,
        };
        if by != By::End {
            state.close_scope(key, if inside { By::Inside } else { by });
        }
        if inside {
            return Close::Inside;
        }
        match callback {
            Callback::Armed if by == By::Disarm => {
                state.disarm(key);
                Close::Disarmed
            }
            Callback::Armed => Close::Run(self.claim(&mut state, key, me, cause)),
            Callback::Disarmed => Close::Disarmed,
            // Its end is what the process ends for.
            Callback::Overrun if by == By::End => Close::Inside,
            Callback::Begun
            | Callback::Running(_)
            | Callback::Finished { .. }
            | Callback::Overrun => Close::Wait,
        }
    }

    /// The process exits by itself: every scope that is open has ended in time, and what came until now
    /// counts.
    pub(crate) fn close_all(&self, me: Runner, take: impl FnOnce(SignalSet, &mut Vec<Arrival>)) {
        let mut state = self.lock();
        state.exits.get_or_insert(me.id());
        // A callback that exits has stopped its clock.
        for (_, entry) in state.guards.iter_mut() {
            if matches!(entry.callback, Callback::Running(runner) if runner.id() == me.id()) {
                entry.deadline = None;
            }
        }
        let open = state.open_signals();
        state.admit(open, take);
        for key in state.keys() {
            state.close_scope(key, By::ProcessExit);
        }
        self.notify(&state);
    }

    /// Gives the callback to this thread, which is to run it.
    pub(super) fn claim(
        &self,
        state: &mut State<W>,
        key: usize,
        me: Runner,
        cause: Cause,
    ) -> Run<W> {
        if let Ok(at) = state.begun.binary_search(&key) {
            state.begun.remove(at);
        }
        let cuts = state.cuts();
        let entry = state.guards.get_mut(key).expect("only a living guard is claimed");
        entry.callback = Callback::Running(me);
        entry.begin(cause);
        let guard = Arc::clone(&entry.guard);
        let cause = guard.cause().cloned().unwrap_or(Cause::ScopeEnd);
        if let Some(timeout) = guard.settings.callback_timeout {
            entry.deadline = Instant::now().checked_add(timeout);
            self.timed.notify_all();
        }
        self.notify(state);
        Run { guard, cause, cuts }
    }

    /// The thread that claimed the callback has run it.
    pub(crate) fn finish(&self, guard: &Guard<W>, me: Runner, panicked: bool) {
        let mut state = self.lock();
        let key = guard.key();
        let is_watcher = state.is_watcher(me.id());
        let Some(entry) = state.guards.get_mut(key) else { return };
        entry.deadline = None;
        // Too late: it has been given up.
        if entry.callback != Callback::Overrun {
            entry.callback = Callback::Finished { panicked };
        }
        if panicked && is_watcher {
            state.failed = Some(key);
        }
        self.notify(&state);
    }
}

impl<W> State<W> {
    pub(super) fn is_watcher(&self, me: ThreadId) -> bool {
        self.watcher.is_some_and(|watcher| watcher.runner.id() == me)
    }

    /// Signals with an open guard: those that come to another one are held for the restored disposition.
    pub(super) fn open_signals(&self) -> SignalSet {
        let is_open = |installed: &&Installed| installed.open > 0;
        self.installed.iter().filter(is_open).map(|one| one.guarded.signal()).collect()
    }

    /// The thread that exits in the callback of this guard, which is gone with the process.
    pub(super) fn exits_in_callback(&self, key: usize, me: Runner) -> Option<Runner> {
        let exited = self.exited.iter().find(|(other, _)| *other == key);
        exited.map(|(_, runner)| *runner).filter(|runner| runner.id() != me.id())
    }

    fn admit_for(&mut self, key: usize, take: impl FnOnce(SignalSet, &mut Vec<Arrival>)) {
        let Some(entry) = self.guards.get(key).filter(|entry| entry.scope == Scope::Open) else {
            return;
        };
        let signals = entry.all_signals().intersection(self.open_signals());
        self.admit(signals, take);
    }

    /// The exit of a guard begins, and its callback is the watcher's.
    pub(super) fn begin(&mut self, key: usize, cause: Cause) {
        let Some(entry) = self.guards.get_mut(key) else { return };
        entry.callback = Callback::Begun;
        entry.begin(cause);
        if let Err(at) = self.begun.binary_search(&key) {
            self.begun.insert(at, key);
        }
    }

    fn disarm(&mut self, key: usize) {
        let Some(entry) = self.guards.get_mut(key) else { return };
        entry.callback = Callback::Disarmed;
        entry.begin(Cause::ScopeEnd);
    }

    /// How a repeat of each signal cuts a callback. Nobody asks where no guard says `Repeat::Force`.
    fn cuts(&self) -> Vec<(Signal, Status)> {
        if self.forcing == 0 {
            return Vec::new();
        }
        let mut cuts = Vec::new();
        for installed in self.installed.iter().filter(|one| !one.guarded.has_old_handler()) {
            let signal = installed.guarded.signal();
            let has_it = |(key, entry): &(usize, &Entry<W>)| installed.counts(*key, entry.signals);
            let decides = self.guards.iter().find(has_it);
            if let Some((_, entry)) = decides {
                let settings = &entry.guard.settings;
                if settings.repeat == Repeat::Force {
                    cuts.push((signal, settings.status(signal)));
                }
            }
        }
        cuts
    }
}
