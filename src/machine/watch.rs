//! What the watcher and the timer are to do.

use super::*;

/// What the watcher is to do next.
#[derive(Debug)]
pub(crate) enum Next<W> {
    /// Tell the guards that have it of a signal.
    Tell(Received),
    /// Run the callback.
    Callback(Run<W>),
    /// Run the functions of `Builder::on`, then the old handler, if there is one to be called.
    On { arrival: Arrival, old_handler: Option<Guarded> },
    /// Run the old handler: the signal is its own from then on. Then call
    /// [`Machine::old_handler_has_run`].
    OldHandler { arrival: Arrival, guarded: Guarded },
    /// A repeat came.
    Repeat { signal: Signal, forces: bool },
    /// The guard was dropped inside its own callback, or old handler: do the rest.
    Complete(Arc<Guard<W>>),
    /// End the process, on account of a signal or of a callback that panicked.
    End { status: Status, cause: Cause, grace_over: Option<(Signal, Duration)> },
    /// Nothing: listen to these signals, at most until then.
    Wait { signals: SignalSet, deadline: Option<Instant> },
    /// The last guard is gone.
    Leave,
}

/// A callback has overrun its timeout.
#[derive(Debug)]
pub(crate) struct Overrun<W> {
    pub(crate) guard: Arc<Guard<W>>,
    pub(crate) timeout: Duration,
}

impl<W> Machine<W> {
    /// The watcher asks what is to be done, again and again. `take` moves the signals that came out of
    /// their mailboxes.
    pub(crate) fn next(
        &self,
        me: Runner,
        generation: usize,
        take: impl FnOnce(SignalSet, &mut Vec<Arrival>),
    ) -> Next<W> {
        let mut state = self.lock();
        let before = state.watcher.filter(|watcher| watcher.generation == generation);
        let has_listened = before.is_some_and(|watcher| !watcher.listens.is_empty());
        let next = self.next_in(&mut state, me, generation, take);
        // Out of the lock, which those who wait take at once.
        let wakes = (has_listened || matches!(next, Next::Leave)) && state.waiting > 0;
        drop(state);
        if wakes {
            self.changed.notify_all();
        }
        next
    }

    fn next_in(
        &self,
        state: &mut State<W>,
        me: Runner,
        generation: usize,
        take: impl FnOnce(SignalSet, &mut Vec<Arrival>),
    ) -> Next<W> {
        let listens = SignalSet::default();
        let before = state.watcher.filter(|watcher| watcher.generation == generation);
        if before.is_some() || state.generation == generation {
            state.watcher = Some(Watcher { generation, runner: me, is_lost: false, listens });
        }
        let open = state.open_signals();
        state.admit(open, take);
        // First of all, so that those who wait for the exit to begin do not wait for a callback.
        if let Some(step) = state.steps.iter_mut().find(|step| !step.is_told) {
            step.is_told = true;
            return Next::Tell(step.arrival.received());
        }
        if let Some(key) = state.begun.last().copied() {
            // The cause is known; this one is for a guard that has none, which is not begun.
            return Next::Callback(self.claim(state, key, me, Cause::ScopeEnd));
        }
        while !state.steps.is_empty() {
            let step = state.steps.remove(0);
            if let Some(next) = state.after_callbacks(step) {
                return next;
            }
        }
        if let Some(guard) = state.to_complete() {
            return Next::Complete(guard);
        }
        if let Some(end) = state.end_due() {
            if let Next::End { status, .. } = &end {
                state.end.get_or_insert(*status);
            }
            return end;
        }
        if state.generation != generation {
            if state.watcher.is_some_and(|watcher| watcher.generation == generation) {
                state.watcher = None;
            }
            return Next::Leave;
        }
        let holding = state.verdicts.iter().filter(|verdict| state.holds(verdict));
        let deadline = holding.fold(None, |first, verdict| earlier(first, verdict.deadline));
        let signals = state.signals();
        if let Some(watcher) = &mut state.watcher {
            watcher.listens = signals;
        }
        Next::Wait { signals, deadline }
    }

    /// The signal is given back to its old handler, and no guard's any more.
    pub(crate) fn give_back(&self, signal: Signal) {
        self.lock().give_back(&|installed| installed.guarded.signal() == signal);
    }

    /// As `give_back`, for the signals that only this guard has. Returns them, each with whether its old
    /// handler has still to be run: two signals may have the same.
    pub(crate) fn give_back_last(&self, guard: &Guard<W>) -> Vec<(Guarded, bool)> {
        let mut state = self.lock();
        let key = guard.key();
        let all = guard.settings.all_signals();
        let run_before = state.given_back.len();
        state.give_back(&|installed: &Installed| {
            let has_old_handler = installed.guarded.has_old_handler();
            has_old_handler && installed.counts(key, all) && installed.guards == 1
        });
        let all = &state.given_back;
        let is_first = |at| !all[..at].iter().any(|other| all[at].same_old_handler(other));
        (run_before..all.len()).map(|at| (all[at], is_first(at))).collect()
    }

    /// The watcher has run the old handler of a signal.
    pub(crate) fn old_handler_has_run(&self, arrival: &Arrival) {
        let mut state = self.lock();
        state.old_handler_of = None;
        if arrival.aborts {
            state.verdicts.push(Verdict {
                received: arrival.received(),
                decider: None,
                deadline: None,
                forced: true,
            });
        }
        self.notify(&state);
    }

    /// The timer waits for a callback that overruns its timeout. It is then given up, and with that the end
    /// of the process is decided: a thread that exits waits for it no more. `None` when the timer is to
    /// leave.
    pub(crate) fn wait_overrun(&self, me: Runner, generation: usize) -> Option<Overrun<W>> {
        let mut state = self.lock();
        loop {
            if state.generation != generation {
                return None;
            }
            let timed = state.guards.iter().filter_map(|(key, entry)| Some((entry.deadline?, key)));
            let first = timed.min();
            if let Some((deadline, key)) = first {
                if Instant::now() >= deadline {
                    let Some(entry) = state.guards.get_mut(key) else { continue };
                    entry.deadline = None;
                    let before = std::mem::replace(&mut entry.callback, Callback::Overrun);
                    let guard = Arc::clone(&entry.guard);
                    let timeout = guard.settings.callback_timeout.unwrap_or_default();
                    if let Some(watcher) = &mut state.watcher {
                        watcher.is_lost = before == Callback::Running(watcher.runner);
                    }
                    state.decide(me, Status::Failed);
                    self.notify(&state);
                    return Some(Overrun { guard, timeout });
                }
            }
            (state, _) = state.wait(&self.timed, first.map(|(deadline, _)| deadline));
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl<W> State<W> {
    /// Takes in the signals that came, in order: their guards' exits begin.
    pub(super) fn admit(
        &mut self,
        signals: SignalSet,
        take: impl FnOnce(SignalSet, &mut Vec<Arrival>),
    ) {
        let mut arrivals = Vec::new();
        take(signals, &mut arrivals);
        for arrival in arrivals {
            self.admit_one(arrival);
        }
    }

    fn admit_one(&mut self, arrival: Arrival) {
        let signal = arrival.signal;
        let installed = self.installed.iter().find(|one| one.guarded.signal() == signal);
        let Some(Installed { guarded, since, .. }) = installed else { return };
        let (guarded, since) = (*guarded, *since);
        let received = arrival.received();
        let has_old_handler = guarded.has_old_handler();
        let mut decider = None;
        let mut begins = Vec::new();
        let have_it = |(key, _): &(usize, &mut Entry<W>)| *key >= since;
        for (key, entry) in self.guards.iter_mut().filter(have_it) {
            if entry.scope != Scope::Open || !entry.signals.contains(signal) {
                continue;
            }
            entry.signal.get_or_insert(signal);
            if !has_old_handler {
                entry.ended_by.get_or_insert(signal);
            }
            // The oldest one decides, and what an old handler decides is not for a guard.
            if decider.is_none() {
                decider = Some(key);
                if !has_old_handler {
                    entry.decides.get_or_insert(signal);
                }
            }
            if entry.callback == Callback::Armed {
                begins.push(key);
            }
        }
        for key in begins {
            self.begin(key, Cause::Signal(received.clone()));
        }
        let is_heard = self.guards.iter().any(|(_, entry)| entry.on.contains(signal));
        if is_heard {
            let (arrival, to) = (arrival.clone(), To::Hear { alone: decider.is_none() });
            self.steps.push(Step { arrival, guarded, to, is_told: false });
        }
        if let Some(decider) = decider {
            let to = To::Exit { decider };
            self.steps.push(Step { arrival, guarded, to, is_told: is_heard });
        }
    }

    #[inline(never)]
    fn give_back(&mut self, is_it: &dyn Fn(&Installed) -> bool) {
        let mut given = self.take_installed(is_it);
        self.given_back.append(&mut given);
    }

    /// What a signal is to have done after the callbacks.
    fn after_callbacks(&mut self, step: Step) -> Option<Next<W>> {
        let Step { arrival, guarded, to, .. } = step;
        let signal = arrival.signal;
        let decider = match to {
            To::Exit { decider } => decider,
            To::Hear { alone } => {
                let old_handler = (alone && guarded.has_old_handler()).then_some(guarded);
                return Some(Next::On { arrival, old_handler });
            }
        };
        if guarded.has_old_handler() {
            // It has been run for an earlier one, and the signal is its own since.
            if !self.signals().contains(signal) {
                return Some(Next::Repeat { signal, forces: false });
            }
            self.old_handler_of = Some(signal);
            return Some(Next::OldHandler { arrival, guarded });
        }
        let settings = &self.guards.get(decider)?.guard.settings;
        let known = |verdict: &&mut Verdict| {
            verdict.decider == Some(decider) && verdict.received.signal() == signal
        };
        let Some(verdict) = self.verdicts.iter_mut().find(known) else {
            // A repeat of an event that has been answered.
            if !arrival.is_first && !arrival.repeats && !arrival.aborts {
                return Some(Next::Repeat { signal, forces: false });
            }
            let forced = arrival.aborts
                || arrival.is_first && arrival.repeats && settings.repeat != Repeat::Absorb;
            let last_moment = arrival.last_moment();
            self.verdicts.push(Verdict {
                received: arrival.received(),
                decider: (!arrival.aborts).then_some(decider),
                deadline: earlier(settings.deadline(Instant::now()), last_moment),
                forced,
            });
            let tells = forced && !arrival.aborts;
            return tells.then_some(Next::Repeat { signal, forces: true });
        };
        verdict.forced |= arrival.aborts;
        let forces = arrival.repeats && settings.repeat != Repeat::Absorb;
        verdict.forced |= forces;
        Some(Next::Repeat { signal, forces })
    }

    /// A guard that was dropped inside its own callback or old handler, with all of that over.
    fn to_complete(&self) -> Option<Arc<Guard<W>>> {
        let is_it = |(_, entry): &(usize, &Entry<W>)| {
            entry.scope == Scope::Closing(By::Inside)
                && entry.callback == Callback::Finished { panicked: false }
        };
        self.guards.iter().find(is_it).map(|(_, entry)| Arc::clone(&entry.guard))
    }

    /// Whether the guard that decides has not begun to end its scope.
    fn holds(&self, verdict: &Verdict) -> bool {
        let is_open = |key| self.guards.get(key).is_some_and(|entry| entry.scope == Scope::Open);
        verdict.decider.is_none_or(is_open)
    }

    fn end_due(&mut self) -> Option<Next<W>> {
        if let Some(entry) = self.failed.take().and_then(|key| self.guards.get(key)) {
            // Where the scope is closing, the thread that closes it knows what to do.
            if matches!(entry.scope, Scope::Open | Scope::Closing(By::Inside)) {
                let cause = entry.guard.cause().cloned().unwrap_or(Cause::ScopeEnd);
                return Some(Next::End { status: Status::Failed, cause, grace_over: None });
            }
        }
        let now = Instant::now();
        let is_due = |verdict: &&Verdict| {
            let is_over = verdict.deadline.is_some_and(|deadline| now >= deadline);
            (verdict.forced || is_over) && self.holds(verdict)
        };
        let verdict = self.verdicts.iter().find(is_due)?;
        let cause = Cause::Signal(verdict.received.clone());
        let signal = verdict.received.signal();
        let Some(decider) = verdict.decider else {
            return Some(Next::End { status: Status::Signal(signal), cause, grace_over: None });
        };
        let entry = self.guards.get(decider)?;
        let settings = &entry.guard.settings;
        let waited = !verdict.forced && !settings.grace.is_zero();
        let grace_over = waited.then_some((signal, settings.grace));
        // Whatever else came: the first one is what the process dies of.
        let status = settings.status(entry.decides.unwrap_or(signal));
        Some(Next::End { status, cause, grace_over })
    }
}
