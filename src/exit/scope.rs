//! How the scope of a guard ends, and what a thread that ends it waits for.

use std::sync::Arc;
use std::time::Instant;

use super::callback::{FIRST_LOOK, LAST_LOOKS};
use super::guards::extract;
use super::state::{Callback, Ended, Scope, Stage, State};
use super::{Guard, Held, Payload, Unforked, Worker, is_stuck, once};
use crate::cause::Cause;
use crate::event::Event;
use crate::settings::OldHandler;
use crate::sys::restore::Late;
use crate::sys::status::Status;
use crate::sys::thread::{JoinHandle, Runner};
use crate::sys::{abort, exit_thread, wake};

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

impl State {
    fn begin_closing(&mut self, key: usize, me: Runner, by: By, cause: Cause) -> Step {
        self.admit_mail();
        // One that is gone may have a callback that exits, and then the scope never ends.
        let Some(entry) = self.guards.get(key) else { return Step::Late };
        let callback = entry.callback;
        match entry.scope {
            Scope::Open => {}
            // The thread that exits has not come to it yet, and may be waiting for this one.
            Scope::ClosingInExit if matches!(callback, Callback::Armed | Callback::Pending) => {}
            _ => return Step::Late,
        }
        let runs_old_handler = self.watchers.is_runner(me)
            && self.exits.iter().any(|exit| {
                let signals = entry.guard.settings.signals;
                exit.stage == Stage::OldHandler && signals.contains(exit.arrival.signal)
            });
        if callback.runner() == Some(me) || callback == Callback::Done && runs_old_handler {
            self.close_scope(key, Scope::ClosingInside);
            return Step::Inside;
        }
        self.close_scope(key, Scope::Closing);
        match callback {
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
            _ => Step::Wait,
        }
    }
}

impl Worker {
    /// Ends the scope of a guard, with `cause` if nothing has begun its exit before. Returns once the
    /// callback and what was deferred have run, and everything is as it was before the guard; or earlier,
    /// on a thread that all this is waiting for.
    pub(crate) fn close(&self, guard: &Arc<Guard>, by: By, cause: Cause) -> Unforked<Closed> {
        let mut closed = Closed::default();
        let step = self.lock().begin_closing(guard.key(), self.me, by, cause);
        match step {
            Step::Inside => {
                // The leader, which is to see to the rest, may be about to sleep.
                wake::post();
                return Ok(closed);
            }
            Step::Late => {
                closed.payload = self.wait_done(guard, false)?;
                return Ok(closed);
            }
            Step::Wait => closed.payload = self.wait_done(guard, false)?,
            Step::Disarmed => closed.disarmed = true,
            Step::Run => closed.payload = self.run_callback(guard, true)?,
        }
        self.complete(guard, by, &mut closed)?;
        Ok(closed)
    }

    /// The steps after the callback: old handlers that are to be run without a signal, deferred functions, the end of
    /// the process if that is what follows; or else dispositions, threads, waiters, and at last the signals that came
    /// meanwhile.
    pub(super) fn complete(&self, guard: &Arc<Guard>, by: By, closed: &mut Closed) -> Unforked {
        if closed.disarmed {
            while let Some(function) = guard.deferred.next_to_drop() {
                self.call_contained(guard, &mut once(|| drop(function)))?;
            }
        } else {
            if guard.settings.old_handler == OldHandler::Always {
                self.run_all_old_handlers(guard)?;
            }
            self.run_deferred(guard)?;
        }
        let cause = guard.cause().cloned().unwrap_or(Cause::ScopeEnd);
        // A panic of a callback that the end of the scope began continues to unwind, and `finish` reports it. After
        // any other nothing may continue.
        let unwinds = closed.payload.is_some() && matches!(cause, Cause::ScopeEnd | Cause::Panic);
        if by == By::Finish || std::thread::panicking() {
            // It goes no further: what drops it has a time limit here.
            self.drop_payload(guard, closed.payload.take())?;
        }
        let is_outermost = !exit_thread::is_marked();
        let mut state = self.lock();
        let ended = state.ended(guard.key());
        // A callback that never returns has exited: what it says holds.
        let decided = ended.decided.filter(|_| state.has_returned(guard.key()));
        let by_signal = decided.and_then(|signal| guard.settings.status_after_scope(signal));
        let failed = ended.panicked && by != By::Finish && !unwinds;
        let mut status = if failed { Some(Status::Failed) } else { by_signal };
        if is_outermost && !unwinds && status.is_none() {
            // What a guard wanted that ended inside this one's user code.
            status = state.wanted.take().map(|(status, _)| status);
        }
        if let Some(status) = status.filter(|_| !unwinds) {
            if is_outermost {
                drop(state);
                self.end_process(status, &cause)?;
                state = self.lock();
            } else {
                // User code of the exit, which this is inside, runs to its end.
                state.wanted.get_or_insert((status, cause));
                wake::post();
            }
        }
        self.leave(state, guard)?;
        self.release_waiters(guard)?;
        closed.ended = Some(ended);
        Ok(())
    }

    /// Old handlers that are to be run even without a signal, each distinct one once: those that a signal has not
    /// had run.
    fn run_all_old_handlers(&self, guard: &Guard) -> Unforked {
        let state = self.lock();
        let Some(entry) = state.guards.get(guard.key()) else { return Ok(()) };
        let key = guard.key();
        let all = entry.all().into_iter().filter_map(|signal| state.layer_of(key, signal));
        let mut distinct = entry.old_handlers_run.clone();
        let run_before = distinct.len();
        for one in all.map(|one| one.guarded).filter(|one| one.old_handler().is_some()) {
            if !distinct.iter().any(|other| other.same_old_handler(&one)) {
                distinct.push(one);
            }
        }
        drop(state);
        for one in distinct.split_off(run_before) {
            self.call_contained(guard, &mut || one.call_old_handler(None))?;
            self.tell_one(guard, &Event::OldHandlerRun(one.signal()))?;
        }
        Ok(())
    }

    /// The guard is gone, and with it the handlers that nobody needs any more; with the last one the threads.
    fn leave(&self, mut state: Held, guard: &Guard) -> Unforked {
        let key = guard.key();
        // Another thread is in user code of this guard that `callback_timeout` bounds, such as a waker. In user code of
        // the exit this one does not wait.
        state = self.wait_unless_stuck(state, &|state| {
            let entry = state.guards.get(key).filter(|entry| !entry.clocks.is_empty());
            let entry = entry.filter(|_| !exit_thread::is_marked())?;
            Some(entry.callback.runner().or(state.watchers.runner))
        });
        let Some(entry) = state.remove(key) else { return Ok(()) };
        let all = entry.all();
        let (mut late, mut repeats) = (Late::default(), Vec::new());
        if state.is_empty() {
            // Nobody else is left to hear of them, and a later guard has nothing to do with them.
            repeats = std::mem::take(&mut state.repeats);
            state.untold.clear();
            state.cut = None;
        }
        // The leader takes the signals of a host also for a program that blocks them everywhere: what they do without
        // the host is not for it to take.
        state = self.wait_unheard(state, all);
        let gone = state.unused(all);
        if !gone.is_empty() {
            late = state.restore(&gone);
            for same in extract(&mut late.arrivals, &|other| state.is_part_of_answered(other)) {
                repeats.push((same.signal, false));
            }
            late.arrivals = state.forget(&gone, late.arrivals);
        }
        // The watchers have still to end the process, if a guard wanted that.
        let is_over = state.is_empty() && state.wanted.is_none();
        let threads = is_over.then(|| state.watchers.dismiss());
        if is_over {
            abort::release();
        }
        drop(state);
        drop(entry);
        for (signal, _) in repeats {
            self.tell_one(guard, &Event::RepeatAbsorbed(signal))?;
        }
        // Before the wait: a watcher may hang in user code, and a signal that was held may be meant to end that.
        late.hand_over();
        match threads {
            Some(threads) => self.join(threads),
            None => self.wait_heard(key),
        }
        Ok(())
    }

    /// Waits for a function of `Builder::on` of this guard. Not in user code of the exit, nor if the process ends: that
    /// does not wait for it.
    fn wait_heard(&self, key: usize) {
        drop(self.wait_unless_stuck(self.lock(), &|state| {
            let waits = state.end.is_none() && !exit_thread::is_marked();
            let hearing = state.watchers.hearing.filter(|_| waits);
            hearing.filter(|(other, _)| *other == key).map(|(_, runner)| Some(runner))
        }));
    }

    /// Waits as long as `runs` sees that a thread runs, which it may know. Not for one that is inside `exit(3)`, if it
    /// never returns from there.
    #[inline(never)]
    fn wait_unless_stuck(
        &self,
        mut state: Held,
        runs: &dyn Fn(&State) -> Option<Option<Runner>>,
    ) -> Held {
        let (mut look, mut has_waited) = (FIRST_LOOK, false);
        while let Some(runner) = runs(&state) {
            if has_waited && runner.is_some_and(is_stuck) {
                break;
            }
            (state, _) = self.changed.wait(state, Some(Instant::now() + look));
            (look, has_waited) = ((look * 2).min(LAST_LOOKS), true);
        }
        state
    }

    /// Waits for watchers that are to leave, except on themselves; one that never will is left alone.
    pub(crate) fn join(&self, threads: Vec<JoinHandle>) {
        for thread in threads.into_iter().filter(|thread| !self.me.is(thread)) {
            let state = self.wait_unless_stuck(self.lock(), &|state| {
                let runner = state.watchers.present(&thread)?;
                // Again and again: a watcher of a guard that was made since may have taken the wake-up.
                wake::post();
                Some(Some(runner))
            });
            let has_left = state.watchers.present(&thread).is_none();
            drop(state);
            if has_left {
                // It contains every panic, so there is none to look at.
                let _ = thread.join();
            }
        }
    }
}
