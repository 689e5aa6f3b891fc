//! Waiting for what other threads do.

use super::*;

/// How long a thread waits before it looks whether what it waits for can still come,
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// and how long at most before it looks again.
const LAST_LOOKS: Duration = Duration::from_millis(800);

/// How long the end of a scope waits for the watcher to come to its callback: the watcher may be in the
/// callback of a newer guard, which waits for this thread.
const WATCHER_TIMEOUT: Duration = Duration::from_secs(1);

/// What the thread that waits for a guard's callback and old handlers finds.
#[derive(Debug)]
pub(crate) enum Waited<W> {
    /// They have returned, or this thread runs them itself.
    Done,
    /// They never will: nobody may wait for them.
    Stuck,
    /// The watcher was to run the callback and never will: run it.
    Run(Run<W>),
}

/// What the end of a guard still waits for.
#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Nothing,
    /// The callback runs on another thread.
    Callback(Runner),
    /// The watcher is to run the callback.
    Watcher,
    /// The watcher runs old handlers, or is to.
    OldHandlers,
    /// The callback runs beyond its timeout: the process ends for it.
    Overrun,
}

impl<W> Machine<W> {
    /// Waits until the callback has run, and the old handlers of the signals that came. `is_stuck`
    /// says of a thread that it will never return from a user's code, and that this one is not to wait for
    /// the end of the process either: it will not return itself, or, which `is_stuck` is told, somebody waits
    /// for it. With `patience` old handlers are waited for that long, and a callback that has overrun its
    /// timeout not at all.
    ///
    /// Threads whose user's code ends guards may wait for each other. Then the one gives way that cuts
    /// nothing by it: not the end of the process (`By::End`), which waits for a callback.
    pub(crate) fn wait_done(
        &self,
        guard: &Guard<W>,
        me: Runner,
        by: By,
        patience: Option<Duration>,
        is_stuck: impl Fn(Runner, bool) -> bool,
    ) -> Waited<W> {
        let mut state = self.lock();
        let key = guard.key();
        let mut look = Look::new();
        let (mut missing, mut since) = (Missing::Nothing, Instant::now());
        let mut has_told = false;
        loop {
            let now_missing = state.missing(key, me);
            if now_missing != missing {
                (missing, since) = (now_missing, Instant::now());
            }
            let watcher = state.watcher;
            let (runner, timeout) = match missing {
                Missing::Nothing => return Waited::Done,
                Missing::Callback(runner) => (Some(runner), None),
                Missing::Watcher => (watcher.map(|one| one.runner), Some(WATCHER_TIMEOUT)),
                Missing::OldHandlers => (watcher.map(|one| one.runner), patience),
                Missing::Overrun => (None, patience.map(|_| Duration::ZERO)),
            };
            let is_lost = watcher.is_some_and(|one| one.is_lost && runner == Some(one.runner));
            let is_over = timeout.is_some_and(|timeout| since.elapsed() >= timeout);
            let is_circle = runner.is_some_and(|runner| state.waits_for(runner.id(), me.id()));
            let is_end = by == By::End && matches!(missing, Missing::Callback(_));
            if is_circle && is_end && !std::mem::replace(&mut has_told, true) {
                self.notify(&state);
            }
            let gives_way = is_circle && !is_end;
            if is_lost
                || is_over
                || gives_way
                || look.is_due()
                    && runner.is_some_and(|runner| is_stuck(runner, state.is_waited_for(me.id())))
            {
                return match missing {
                    Missing::Watcher => {
                        Waited::Run(self.claim(&mut state, key, me, Cause::ProcessExit))
                    }
                    _ => Waited::Stuck,
                };
            }
            state = self.wait_changed(state, &mut look, me, runner);
        }
    }

    /// Waits until the watcher of this generation has left, or `is_stuck`; whether it has left.
    pub(crate) fn wait_left(
        &self,
        generation: usize,
        me: Runner,
        is_stuck: impl Fn(Runner, bool) -> bool,
    ) -> bool {
        let mut state = self.lock();
        let mut look = Look::new();
        loop {
            let here = state.watcher.filter(|one| one.generation == generation);
            let Some(watcher) = here.filter(|one| one.runner.id() != me.id()) else { return true };
            let is_circle = state.waits_for(watcher.runner.id(), me.id());
            if is_circle || look.is_due() && is_stuck(watcher.runner, state.is_waited_for(me.id()))
            {
                return false;
            }
            state = self.wait_changed(state, &mut look, me, Some(watcher.runner));
        }
    }

    /// Waits until the watcher takes no other signals than the guards' any more. It may have been
    /// interrupted for good, by a foreign handler.
    pub(crate) fn wait_unheard(&self) {
        let mut state = self.lock();
        let deadline = (!cfg!(handle_exit_loom)).then(|| Instant::now() + WATCHER_TIMEOUT);
        let mut in_time = true;
        loop {
            let signals = state.signals();
            let hears = |watcher: Watcher| !watcher.listens.minus(signals).is_empty();
            if !in_time || !state.watcher.is_some_and(hears) {
                return;
            }
            state.waiting += 1;
            (state, in_time) = state.wait(&self.changed, deadline);
            state.waiting -= 1;
        }
    }

    /// Waits until the exit of `guard` has begun, at most until `deadline`.
    pub(crate) fn wait_begun(&self, guard: &Guard<W>, deadline: Option<Instant>) -> Option<Cause> {
        let mut state = self.lock();
        let mut in_time = true;
        guard.waiting.fetch_add(1, SeqCst);
        while guard.cause().is_none() && in_time {
            (state, in_time) = state.wait(&guard.has_cause, deadline);
        }
        guard.waiting.fetch_sub(1, SeqCst);
        guard.cause().cloned()
    }

    /// This thread waits for that one to return from a deferred function, or waits no more.
    pub(crate) fn set_waits_for(&self, me: Runner, runner: Option<Runner>) {
        let mut state = self.lock();
        state.set_waits_for(me, runner);
    }

    /// Waits for the next change, which `runner` may bring, at most until the next look is due.
    fn wait_changed<'a>(
        &self,
        mut state: Locked<'a, State<W>>,
        look: &mut Look,
        me: Runner,
        runner: Option<Runner>,
    ) -> Locked<'a, State<W>> {
        // From the end of a look on: it takes time, and holds the lock that others need to get on.
        if look.is_due() {
            *look = look.again();
        }
        state.waiting += 1;
        state.set_waits_for(me, runner);
        let (mut state, _) = state.wait(&self.changed, look.due);
        state.set_waits_for(me, None);
        state.waiting -= 1;
        state
    }
}

impl<W> State<W> {
    #[inline(never)]
    fn set_waits_for(&mut self, me: Runner, runner: Option<Runner>) {
        if let Some(at) = self.waits.iter().position(|wait| wait.waiter == me.id()) {
            self.waits.swap_remove(at);
        }
        if let Some(runner) = runner {
            self.waits.push(Wait { waiter: me.id(), runner: runner.id() });
        }
    }

    /// Whether `one` waits for `other`, itself or through others that wait.
    fn waits_for(&self, one: ThreadId, other: ThreadId) -> bool {
        // Each thread waits for one other at a time.
        let next = |at: &ThreadId| {
            self.waits.iter().find(|wait| wait.waiter == *at).map(|wait| wait.runner)
        };
        std::iter::successors(Some(one), next).take(self.waits.len() + 1).any(|at| at == other)
    }

    fn is_waited_for(&self, runner: ThreadId) -> bool {
        self.waits.iter().any(|wait| wait.runner == runner)
    }

    fn missing(&self, key: usize, me: Runner) -> Missing {
        let Some(entry) = self.guards.get(key) else {
            let elsewhere = self.exits_in_callback(key, me);
            return elsewhere.map_or(Missing::Nothing, Missing::Callback);
        };
        match entry.callback {
            Callback::Running(runner) if runner.id() == me.id() => Missing::Nothing,
            Callback::Running(runner) => Missing::Callback(runner),
            Callback::Armed | Callback::Begun => Missing::Watcher,
            Callback::Finished { .. }
                if self.has_old_handlers_of(entry.signals) && !self.is_watcher(me.id()) =>
            {
                Missing::OldHandlers
            }
            Callback::Finished { .. } | Callback::Disarmed => Missing::Nothing,
            Callback::Overrun => Missing::Overrun,
        }
    }

    fn has_old_handlers_of(&self, signals: SignalSet) -> bool {
        let is_of = |signal: Signal| signals.contains(signal);
        self.old_handler_of.is_some_and(is_of)
            || self
                .steps
                .iter()
                .any(|step| step.guarded.has_old_handler() && is_of(step.arrival.signal))
    }
}

/// When to look whether what is waited for can still come: the longer it takes, the less often. loom knows
/// no time, and never looks.
struct Look {
    due: Option<Instant>,
    next: Duration,
}

impl Look {
    fn new() -> Look {
        Look { due: None, next: FIRST_LOOK }.again()
    }

    fn again(&self) -> Look {
        let due = (!cfg!(handle_exit_loom)).then(|| Instant::now() + self.next);
        Look { due, next: (self.next * 2).min(LAST_LOOKS) }
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| Instant::now() >= due)
    }
}
