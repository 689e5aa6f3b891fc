//! Who runs a callback, and who waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::door::all;
use super::state::{Callback, Stage, State};
use super::{Guard, Payload, Unforked, Worker, is_stuck, once};
use crate::cause::Cause;
use crate::event::Event;
use crate::signal::SignalSet;
use crate::sys::thread::{self, Runner};
use crate::sys::{abort, lock, wake};

/// How long the end of a scope waits for the watcher to come to its callback, or to an old handler, and a thread that takes
/// the end of the process over for what is told: the other thread may be in user code that waits for this one.
pub(super) const WATCHER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an exiting process waits for old handlers, which may never return.
const OLD_HANDLER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a thread waits before it looks whether what it waits for can still come: doubled each time,
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(50);
/// up to this.
pub(super) const LAST_LOOKS: Duration = Duration::from_millis(800);

/// What the end of a guard still waits for.
#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Nothing,
    /// The callback runs on another thread, or is about to.
    Callback(Runner),
    Turn(Runner),
    /// The watcher is to run the callback.
    Watcher,
    /// The watcher runs an old handler, or is to.
    OldHandler,
    NextOldHandler,
    /// The callback runs beyond its time: the process ends for it.
    Overrun,
}

impl State {
    /// This thread is about to run the callback: it is armed, or its turn is that of a thread which never comes to
    /// it. Whether observers and waiters are still to be told: that thread has told them.
    #[inline(never)]
    pub(super) fn take_turn(&mut self, key: usize, me: Runner, cause: Cause) -> bool {
        let Some(entry) = self.guards.get_mut(key) else { return false };
        let tells = !matches!(entry.callback, Callback::Turn(_));
        entry.callback = Callback::Turn(me);
        entry.guard.begin(cause);
        entry.stop_clock(None);
        tells
    }

    /// The claim: this thread calls the callback now.
    pub(super) fn claim(&mut self, key: usize, me: Runner) -> bool {
        let Some(entry) = self.guards.get_mut(key) else { return false };
        let may = entry.callback == Callback::Turn(me);
        if may {
            entry.callback = Callback::Running(me);
        }
        may
    }

    /// `in_exit`: it is the exit functions that wait.
    fn missing(&self, key: usize, me: Runner, is_runner: bool, in_exit: bool) -> Missing {
        let Some(entry) = self.guards.get(key) else {
            // It is gone with the process, whose exit its callback has begun, on that thread.
            let exits = self.end.as_ref().and_then(|end| end.exits_in_callback(key));
            let elsewhere = exits.filter(|runner| *runner != me);
            return elsewhere.map_or(Missing::Nothing, Missing::Callback);
        };
        match entry.callback {
            callback if callback.runner() == Some(me) => Missing::Nothing,
            // It ends the process itself, all has run, and only this thread can take the last step.
            Callback::Running(runner)
                if self.has_begun_last_step(runner) && (in_exit || thread::is_inside_exit()) =>
            {
                Missing::Nothing
            }
            Callback::Running(runner) => Missing::Callback(runner),
            Callback::Turn(runner) => Missing::Turn(runner),
            Callback::Armed | Callback::Pending => Missing::Watcher,
            Callback::Disarmed => Missing::Nothing,
            Callback::Overrun => Missing::Overrun,
            Callback::Done if is_runner => Missing::Nothing,
            Callback::Done => self.missing_old_handler(entry.guard.settings.signals),
        }
    }

    fn missing_old_handler(&self, signals: SignalSet) -> Missing {
        let mut missing = Missing::Nothing;
        for exit in self.exits.iter().filter(|exit| signals.contains(exit.arrival.signal)) {
            if exit.stage == Stage::OldHandler {
                return Missing::OldHandler;
            }
            if exit.has_old_handler {
                missing = Missing::NextOldHandler;
            }
        }
        missing
    }
}

impl Worker {
    /// Runs the callback, in this thread's turn, and says so to everybody. Returns what it panicked with, if it did.
    pub(super) fn run_callback(&self, guard: &Guard, tells: bool) -> Unforked<Option<Payload>> {
        let payload = self.timed(guard, || self.run_in_turn(guard, tells))?;
        let mut state = self.lock();
        let panicked = payload.is_some();
        // One that has been given up returns too late.
        if let Some(entry) = state.guards.get_mut(guard.key()) {
            if entry.callback == Callback::Running(self.me) {
                entry.callback = Callback::Done;
                entry.ended.panicked = panicked;
            }
        }
        self.changed.notify_all();
        let wakes_leader = !self.me.is_watcher() && !state.exits.is_empty();
        drop(state);
        if wakes_leader {
            wake::post();
        }
        Ok(payload)
    }

    fn run_in_turn(&self, guard: &Guard, tells: bool) -> Unforked<Option<Payload>> {
        let cause = guard.cause().cloned().unwrap_or(Cause::ScopeEnd);
        if tells {
            self.release_waiters(guard)?;
            self.tell_one(guard, &Event::CallbackStarted(cause.clone()))?;
        }
        if !self.lock().claim(guard.key(), self.me) {
            return Ok(None);
        }
        self.allow_abort(guard, guard.settings.abort_wait());
        let mut callback = guard.take_callback();
        let began = guard.observer.listens().then(Instant::now);
        let payload = self.call(guard.mask, &mut || {
            if let Some(callback) = callback.take() {
                callback(&cause);
            }
        })?;
        self.allow_abort(guard, abort::WAIT);
        let elapsed = began.map(|began| began.elapsed()).unwrap_or_default();
        let event = match payload {
            Some(_) => Event::CallbackPanicked { elapsed },
            None => Event::CallbackFinished { elapsed },
        };
        self.tell_one(guard, &event)?;
        Ok(payload)
    }

    /// Waits until the callback has run, and the old handlers of the signals that came. If it was the watcher's to
    /// run and the watcher does not come to it, runs it here. `in_exit`: inside `exit(3)`, where an old
    /// handler is not waited for without limit.
    pub(super) fn wait_done(&self, guard: &Guard, in_exit: bool) -> Unforked<Option<Payload>> {
        let mut state = self.lock();
        let is_runner = state.watchers.is_runner(self.me);
        let (mut missing, mut since) = (Missing::Nothing, Instant::now());
        let mut look = FIRST_LOOK;
        loop {
            let now_missing = state.missing(guard.key(), self.me, is_runner, in_exit);
            if now_missing != missing {
                // The leader may be about to sleep.
                wake::post();
                (since, look) = (Instant::now(), FIRST_LOOK);
            }
            missing = now_missing;
            let watcher = state.watchers.runner;
            let (runner, timeout) = match missing {
                Missing::Nothing => return Ok(None),
                Missing::Callback(runner) | Missing::Turn(runner) => (Some(runner), None),
                Missing::Watcher if is_runner => (None, Some(Duration::ZERO)),
                Missing::Watcher | Missing::NextOldHandler => (watcher, Some(WATCHER_TIMEOUT)),
                Missing::OldHandler => (watcher, in_exit.then_some(OLD_HANDLER_TIMEOUT)),
                Missing::Overrun => (None, in_exit.then_some(Duration::ZERO)),
            };
            let waited = lock::waited(since);
            let is_over = timeout.is_some_and(|timeout| waited >= timeout);
            let looks = waited >= look;
            if is_over || looks && runner.is_some_and(is_stuck) {
                if !matches!(missing, Missing::Watcher | Missing::Turn(_)) {
                    if missing == Missing::OldHandler {
                        // Nor does another guard wait for it, or for one that would come after it.
                        state.exits.retain(|exit| !exit.has_old_handler);
                    }
                    return Ok(None);
                }
                let tells = state.take_turn(guard.key(), self.me, Cause::ProcessExit);
                drop(state);
                return self.run_callback(guard, tells);
            }
            if looks {
                look = (look * 2).min(LAST_LOOKS);
            }
            // The look itself may take its time, and holds the lock.
            let next_look = runner.map(|_| Instant::now() + look);
            let deadlines = [timeout.map(|timeout| since + timeout), next_look];
            let deadline = deadlines.into_iter().flatten().min();
            (state, _) = self.changed.wait(state, deadline);
        }
    }

    /// A thread in `abort` waits so long from now on, for user code of this guard or for what follows it, unless that
    /// has nothing to do with it.
    #[inline(never)]
    fn allow_abort(&self, guard: &Guard, limit: Duration) {
        let has = |signal| guard.settings.signals.contains(signal);
        let ends = || abort::a_thread_aborts() && self.lock().is_ender(self.me);
        if self.me.is_watcher() || abort::ABORT.is_some_and(has) || ends() {
            abort::allow(limit);
        }
    }

    /// The deferred functions of a guard.
    pub(super) fn run_deferred(&self, guard: &Guard) -> Unforked {
        self.allow_abort(guard, guard.settings.abort_wait());
        self.timed(guard, || {
            while let Some(function) = guard.deferred.next_to_run(self.me, &is_stuck) {
                self.call_contained(guard, &mut once(function))?;
                guard.deferred.done(self.me);
            }
            Ok(())
        })?;
        self.allow_abort(guard, abort::WAIT);
        Ok(())
    }

    /// For the end of the process: runs what the guards from this key on have still to run, the newest first. Waits for
    /// what runs elsewhere. Whether a callback panicked.
    pub(super) fn end_guards(
        &self,
        mut first: usize,
        cause: &Cause,
        in_exit: bool,
    ) -> Unforked<bool> {
        let mut failed = false;
        // Guards that user code makes meanwhile have their turn in a further pass. Other threads make none.
        loop {
            let next = self.lock().guards.next_key();
            self.each(&all, &mut |guard| {
                if guard.key() >= first {
                    failed |= self.end_guard(guard, cause, in_exit)?;
                }
                Ok(())
            })?;
            if self.lock().guards.next_key() == next {
                return Ok(failed);
            }
            first = next;
        }
    }

    fn end_guard(&self, guard: &Arc<Guard>, cause: &Cause, in_exit: bool) -> Unforked<bool> {
        let key = guard.key();
        let mut state = self.lock();
        state.admit_mail();
        let Some(callback) = state.guards.get(key).map(|entry| entry.callback) else {
            return Ok(false);
        };
        let takes = callback == Callback::Armed || callback == Callback::Turn(self.me);
        let tells = takes.then(|| state.take_turn(key, self.me, cause.clone()));
        drop(state);
        let payload = match (callback, tells) {
            (_, Some(tells)) => self.run_callback(guard, tells)?,
            (Callback::Disarmed, _) => return Ok(false),
            // Its own callback ends the process, or has overrun.
            (Callback::Running(runner), _) if runner == self.me => None,
            (Callback::Overrun, _) => None,
            _ => self.wait_done(guard, in_exit)?,
        };
        let failed = payload.is_some() || self.lock().ended(key).panicked;
        self.drop_payload(guard, payload)?;
        self.run_deferred(guard)?;
        Ok(failed)
    }
}
