//! How the scope of a guard ends, and what a thread that ends it waits for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{Callback, Ended, Scope, Stage, State};
use super::{Forked, Guard, Payload, ProcessExit, is_stuck};
use crate::cause::Cause;
use crate::event::Event;
use crate::settings::OldHandler;
use crate::signal::SignalSet;
use crate::sys::guarded::{self, Late};
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread::{self, JoinHandle, Runner};
use crate::sys::{abort, forward, wake};

/// How long the end of a scope waits for the watcher to come to its callback, or to an old handler: the watcher may
/// be in user code that waits for this thread.
const WATCHER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a thread waits before it looks whether what it waits for can still come: doubled each time,
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// up to this.
const LAST_LOOKS: Duration = Duration::from_millis(800);

/// Who ends a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Drop,
    Finish,
    Disarm,
}

/// How a scope was closed.
#[derive(Default)]
pub(crate) struct Closed {
    /// What the callback panicked with, if this thread ran it.
    pub(crate) payload: Option<Payload>,
    /// Whether the callback will never run.
    pub(crate) disarmed: bool,
    /// How it went, if this call closed the scope.
    pub(crate) ended: Option<Ended>,
}

/// What the thread that ends a scope is to do about its callback.
enum Step {
    /// It is this thread's turn to run it.
    Run,
    Wait,
    Disarmed,
    /// This thread is inside the callback or old handler: the rest is done after it.
    Inside,
    /// Another thread ends the scope: wait for the callback, do nothing else.
    Late,
}

/// Who is to hear that a callback starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    All,
    /// They were told by a thread that never came to the callback.
    None,
}

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
    fn begin_closing(&mut self, key: usize, me: Runner, by: By, cause: Cause) -> Step {
        self.admit_mail();
        // One that is gone may have a callback that exits, and then the scope never ends.
        let Some(entry) = self.guards.get(key) else { return Step::Late };
        let callback = entry.callback;
        match entry.scope {
            Scope::Open => {}
            // The thread that exits has not come to it yet, and may be waiting for this one.
            Scope::ClosingInExit if callback == Callback::Armed => {}
            _ => return Step::Late,
        }
        let runs_old_handler = self.watchers.is_runner(me)
            && self.exits.iter().any(|exit| {
                let signals = entry.guard.settings.signals;
                exit.stage == Stage::OldHandler && signals.contains(exit.arrival.signal)
            });
        let is_inside = match callback {
            Callback::Running(runner) => runner.id() == me.id(),
            Callback::Done { .. } => runs_old_handler,
            _ => false,
        };
        if is_inside {
            self.close_scope(key, Scope::ClosingInside);
            self.inside.push(key);
            return Step::Inside;
        }
        self.close_scope(key, Scope::Closing);
        match callback {
            Callback::Armed if self.is_pending(key) => Step::Wait,
            Callback::Armed if by == By::Disarm => {
                let Some(entry) = self.guards.get_mut(key) else { return Step::Late };
                entry.callback = Callback::Disarmed;
                entry.guard.begin(Cause::ScopeEnd);
                Step::Disarmed
            }
            Callback::Armed => {
                self.take_turn(key, me, cause);
                Step::Run
            }
            Callback::Disarmed => Step::Disarmed,
            _ => Step::Wait,
        }
    }

    pub(super) fn is_pending(&self, key: usize) -> bool {
        self.pending.binary_search(&key).is_ok()
    }

    /// This thread is about to run the callback: it is armed, or its turn is that of a thread which never comes to
    /// it.
    pub(super) fn take_turn(&mut self, key: usize, me: Runner, cause: Cause) {
        if let Ok(at) = self.pending.binary_search(&key) {
            self.pending.remove(at);
        }
        if let Some(entry) = self.guards.get_mut(key) {
            entry.callback = Callback::Turn(me);
            entry.guard.begin(cause);
        }
    }

    /// The claim: this thread calls the callback now.
    pub(super) fn claim(&mut self, key: usize, me: Runner) -> bool {
        let Some(entry) = self.guards.get_mut(key) else { return false };
        let may = matches!(entry.callback, Callback::Turn(runner) if runner.id() == me.id());
        if may {
            entry.callback = Callback::Running(me);
        }
        may
    }

    fn missing(&self, key: usize, me: Runner, waits_for_old_handlers: bool) -> Missing {
        let Some(entry) = self.guards.get(key) else {
            // It is gone with the process, whose exit its callback has begun, on that thread.
            let exits = self.end.as_ref().and_then(|end| end.exits_in_callback(key));
            let elsewhere = exits.filter(|runner| runner.id() != me.id());
            return elsewhere.map_or(Missing::Nothing, Missing::Callback);
        };
        match entry.callback {
            Callback::Running(runner) if runner.id() == me.id() => Missing::Nothing,
            Callback::Running(runner) => Missing::Callback(runner),
            Callback::Turn(runner) => Missing::Turn(runner),
            Callback::Armed => Missing::Watcher,
            Callback::Disarmed => Missing::Nothing,
            Callback::Overrun => Missing::Overrun,
            Callback::Done { .. } if !waits_for_old_handlers => Missing::Nothing,
            Callback::Done { .. } => self.missing_old_handler(entry.guard.settings.signals),
        }
    }

    fn missing_old_handler(&self, signals: SignalSet) -> Missing {
        let mut missing = Missing::Nothing;
        for exit in self.exits.iter().filter(|exit| signals.contains(exit.arrival.signal)) {
            if exit.stage == Stage::OldHandler {
                return Missing::OldHandler;
            }
            if self.has_old_handler(exit.arrival.signal) {
                missing = Missing::NextOldHandler;
            }
        }
        missing
    }
}

impl ProcessExit {
    /// Begins the exit of a guard from code; the watcher runs the callback. False if it had begun.
    pub(crate) fn request(&self, guard: &Guard) -> bool {
        let mut state = self.lock();
        let key = guard.key();
        let is_open = state.guards.get(key).is_some_and(|entry| entry.is_open());
        is_open && state.begin(key, Cause::Requested)
    }

    /// Ends the scope of a guard, with `cause` if nothing has begun its exit before. Returns once the
    /// callback and what was deferred have run, and everything is as it was before the guard; or earlier,
    /// on a thread that all this is waiting for.
    pub(crate) fn close(
        &'static self,
        guard: &Arc<Guard>,
        by: By,
        cause: Cause,
    ) -> Result<Closed, Forked> {
        let me = Runner::current();
        let mut closed = Closed::default();
        let step = self.lock().begin_closing(guard.key(), me, by, cause);
        match step {
            Step::Inside => {
                // The leader, which is to see to the rest, may be about to sleep.
                wake::post();
                return Ok(closed);
            }
            Step::Late => {
                closed.payload = self.wait_done(guard, me, None)?;
                return Ok(closed);
            }
            Step::Wait => closed.payload = self.wait_done(guard, me, None)?,
            Step::Disarmed => closed.disarmed = true,
            Step::Run => closed.payload = self.run_callback(guard, me, Tells::All)?,
        }
        self.complete(guard, me, by, &mut closed)?;
        Ok(closed)
    }

    /// The steps after the callback: old handlers that are to be run without a signal, deferred functions, the end of
    /// the process if that is what follows; or else dispositions, threads, waiters, and at last the signals that came
    /// meanwhile.
    pub(crate) fn complete(
        &'static self,
        guard: &Arc<Guard>,
        me: Runner,
        by: By,
        closed: &mut Closed,
    ) -> Result<(), Forked> {
        if closed.disarmed {
            while let Some(function) = guard.deferred.next_to_drop() {
                let mut function = Some(function);
                self.call_contained(me, guard, &mut || drop(function.take()))?;
            }
        } else {
            if guard.settings.old_handler == OldHandler::Always {
                self.run_all_old_handlers(guard, me)?;
            }
            self.run_deferred(guard, me)?;
        }
        let ended = self.lock().ended(guard.key());
        let cause = guard.cause().cloned().unwrap_or(Cause::ScopeEnd);
        // A callback that never returns has exited: what it says holds.
        let decided = ended.decided.filter(|_| ended.has_returned);
        let by_signal = decided.and_then(|signal| guard.settings.status_after_scope(signal));
        // A panic of a callback that the end of the scope began continues to unwind, and `finish` reports it. After
        // any other nothing may continue.
        let unwinds = closed.payload.is_some() && matches!(cause, Cause::ScopeEnd | Cause::Panic);
        let failed = ended.panicked && by != By::Finish && !unwinds;
        let status = if failed { Some(Status::Failed) } else { by_signal };
        if let Some(status) = status.filter(|_| !unwinds) {
            self.end_process(me, status, &cause)?;
        }
        self.leave(guard);
        self.release_waiters(me, guard)?;
        closed.ended = Some(ended);
        Ok(())
    }

    /// Runs the callback, in this thread's turn, and says so to everybody. Returns what it panicked with, if it did.
    pub(super) fn run_callback(
        &'static self,
        guard: &Guard,
        me: Runner,
        tells: Tells,
    ) -> Result<Option<Payload>, Forked> {
        let payload = self.timed(guard, || self.run_in_turn(guard, me, tells))?;
        let mut state = self.lock();
        let panicked = payload.is_some();
        if panicked && me.is_watcher() {
            state.failed = Some(guard.key());
        }
        // One that has been given up returns too late.
        if let Some(entry) = state.guards.get_mut(guard.key()) {
            if matches!(entry.callback, Callback::Running(runner) if runner.id() == me.id()) {
                entry.callback = Callback::Done { panicked };
            }
        }
        self.changed.notify_all();
        let wakes_leader = !me.is_watcher() && !state.exits.is_empty();
        drop(state);
        if wakes_leader {
            wake::post();
        }
        Ok(payload)
    }

    fn run_in_turn(
        &self,
        guard: &Guard,
        me: Runner,
        tells: Tells,
    ) -> Result<Option<Payload>, Forked> {
        let cause = guard.cause().cloned().unwrap_or(Cause::ScopeEnd);
        if tells == Tells::All {
            self.release_waiters(me, guard)?;
            self.tell_one(me, guard, &Event::CallbackStarted(cause.clone()))?;
        }
        if !self.lock().claim(guard.key(), me) {
            return Ok(None);
        }
        abort::allow(guard.settings.abort_wait());
        let mut callback = guard.take_callback();
        let began = guard.observer.listens().then(Instant::now);
        let payload = self.call(me, guard, &mut || {
            if let Some(callback) = callback.take() {
                callback(&cause);
            }
        })?;
        let elapsed = began.map(|began| began.elapsed()).unwrap_or_default();
        let event = match payload {
            Some(_) => Event::CallbackPanicked { elapsed },
            None => Event::CallbackFinished { elapsed },
        };
        self.tell_one(me, guard, &event)?;
        Ok(payload)
    }

    /// Waits until the callback has run, and the old handlers of the signals that came. If it was the watcher's to
    /// run and the watcher does not come to it, runs it here. With `patience` old handlers are waited for that long.
    pub(super) fn wait_done(
        &'static self,
        guard: &Guard,
        me: Runner,
        patience: Option<Duration>,
    ) -> Result<Option<Payload>, Forked> {
        let mut state = self.lock();
        let is_runner = state.watchers.is_runner(me);
        let (mut missing, mut since) = (Missing::Nothing, Instant::now());
        let mut look = FIRST_LOOK;
        loop {
            let now_missing = state.missing(guard.key(), me, !is_runner);
            if now_missing != missing {
                // The leader may be about to sleep.
                wake::post();
                (missing, since, look) = (now_missing, Instant::now(), FIRST_LOOK);
            }
            let watcher = state.watchers.runner;
            let (runner, timeout) = match missing {
                Missing::Nothing => return Ok(None),
                Missing::Callback(runner) | Missing::Turn(runner) => (Some(runner), None),
                Missing::Watcher if is_runner => (None, Some(Duration::ZERO)),
                Missing::Watcher | Missing::NextOldHandler => (watcher, Some(WATCHER_TIMEOUT)),
                Missing::OldHandler => (watcher, patience),
                Missing::Overrun => (None, patience.map(|_| Duration::ZERO)),
            };
            let waited = since.elapsed();
            let is_over = timeout.is_some_and(|timeout| waited >= timeout && !is_model());
            let looks = waited >= look && !is_model();
            if is_over || looks && runner.is_some_and(is_stuck) {
                let tells = match missing {
                    Missing::Watcher => Tells::All,
                    Missing::Turn(_) => Tells::None,
                    _ => return Ok(None),
                };
                state.take_turn(guard.key(), me, Cause::ProcessExit);
                drop(state);
                return self.run_callback(guard, me, tells);
            }
            if looks {
                look = (look * 2).min(LAST_LOOKS);
            }
            let next_look = runner.map(|_| since + waited + look);
            let deadlines = [timeout.map(|timeout| since + timeout), next_look];
            let deadline = deadlines.into_iter().flatten().min().filter(|_| !is_model());
            (state, _) = self.changed.wait(state, deadline);
        }
    }

    /// The deferred functions of a guard.
    pub(super) fn run_deferred(&'static self, guard: &Guard, me: Runner) -> Result<(), Forked> {
        abort::allow(guard.settings.abort_wait());
        self.timed(guard, || {
            while let Some(function) = guard.deferred.next_to_run(me, &is_stuck) {
                let mut function = Some(function);
                self.call_contained(me, guard, &mut || {
                    if let Some(function) = function.take() {
                        function();
                    }
                })?;
                guard.deferred.done(me.id());
            }
            Ok(())
        })
    }

    /// Old handlers that are to be run even without a signal, each distinct one once: those that a signal has not
    /// had run.
    fn run_all_old_handlers(&'static self, guard: &Guard, me: Runner) -> Result<(), Forked> {
        let state = self.lock();
        let Some(entry) = state.guards.get(guard.key()) else { return Ok(()) };
        let all = entry.all().iter().filter_map(|signal| state.installed(signal));
        let mut distinct = entry.old_handlers_run.clone();
        let run_before = distinct.len();
        for one in all.map(|one| one.guarded).filter(|one| one.old_handler().is_some()) {
            if !distinct.iter().any(|other| other.same_old_handler(&one)) {
                distinct.push(one);
            }
        }
        drop(state);
        for one in distinct.split_off(run_before) {
            self.call_contained(me, guard, &mut || one.call_old_handler(None))?;
            self.tell_one(me, guard, &Event::OldHandlerRun(one.signal()))?;
        }
        Ok(())
    }

    /// The guard is gone, and with it the handlers that nobody needs any more; with the last one the threads.
    fn leave(&self, guard: &Guard) {
        let key = guard.key();
        let mut state = self.lock();
        // Another thread is in user code of this guard that `callback_timeout` bounds, such as a waker.
        let is_timed = |state: &State| {
            let entry = state.guards.get(key);
            entry.is_some_and(|entry| entry.deadline.is_some())
        };
        while is_timed(&state) && !thread::is_exit_thread() {
            (state, _) = self.changed.wait(state, None);
        }
        let Some(entry) = state.remove(key) else { return };
        let all = entry.all();
        let mut gone = state.unused(all);
        if !gone.is_empty() {
            // The leader takes the signals of a host also for a program that blocks them everywhere: what they do
            // when they are restored is not for it to take.
            state = self.wait_unheard(state, all);
            gone = state.unused(all);
        }
        let kept = state.kept(&gone);
        let Late { arrivals, buries } = guarded::restore_all(&gone, &kept);
        let is_late = |arrival: &Arrival| !state.is_part_of_answered(arrival);
        let (arrivals, repeats): (Vec<_>, Vec<_>) = arrivals.into_iter().partition(is_late);
        let mut late = state.forget(&gone);
        late.extend(arrivals);
        let threads = if state.is_empty() { state.watchers.dismiss() } else { Vec::new() };
        drop(state);
        self.join(threads);
        drop(entry);
        for repeat in repeats {
            let _ = self.tell_one(Runner::current(), guard, &Event::RepeatAbsorbed(repeat.signal));
        }
        self.hand_over(late, buries);
    }

    /// Late signals go where they belong, with no lock held.
    pub(crate) fn hand_over(&self, late: Vec<Arrival>, buries: bool) {
        if buries {
            guarded::pin();
        }
        late.iter().for_each(forward::hand_over);
    }

    /// Waits for watchers that are to leave, except on themselves; one that never will is left alone.
    pub(crate) fn join(&self, threads: Vec<JoinHandle>) {
        for thread in threads.into_iter().filter(|thread| !thread::is_this(thread)) {
            wake::post();
            let mut state = self.lock();
            let mut look = FIRST_LOOK;
            let mut is_stuck_there = false;
            while let Some(runner) = state.watchers.present(&thread).filter(|_| !is_stuck_there) {
                (state, _) = self.changed.wait(state, Some(Instant::now() + look));
                look = (look * 2).min(LAST_LOOKS);
                is_stuck_there = is_stuck(runner);
            }
            drop(state);
            if !is_stuck_there {
                // It contains every panic, so there is none to look at.
                let _ = thread.join();
            }
        }
    }
}

/// loom knows no time.
fn is_model() -> bool {
    cfg!(handle_exit_loom)
}
