//! What the watchers do, one step at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ending::Rank;
use super::state::{Stage, State};
use super::task::Task;
use super::{Forked, Guard, ProcessExit, Which};
use crate::cause::Cause;
use crate::event::Event;
use crate::signal::{Received, Signal, SignalSet};
use crate::sys::guarded::Guarded;
use crate::sys::lock::Locked;
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread::{self, Runner};
use crate::sys::{abort, lock, wake};

/// How long those who restore a signal wait until the leader takes it no more: the leader may have been interrupted
/// for good, by a foreign handler.
const UNHEARD_TIMEOUT: Duration = Duration::from_secs(1);

impl ProcessExit {
    /// Leads, if nobody does, until there is user code to run; then hands the lead over. `None`: this thread is to
    /// leave.
    pub(crate) fn next_task(&self, me: Runner, generation: usize) -> Option<Task> {
        let mut state = self.lock();
        if !state.watchers.present.contains(&me) {
            state.watchers.present.push(me);
        }
        loop {
            if state.watchers.generation != generation {
                state.watchers.present.retain(|other| *other != me);
                self.changed.notify_all();
                self.lead.notify_all();
                drop(state);
                // The wake-up may have been for the watcher after this one.
                wake::post();
                return None;
            }
            if state.watchers.leader.is_some_and(|leader| leader != me.id()) {
                (state, _) = self.lead.wait(state, None);
                continue;
            }
            state.watchers.leader = Some(me.id());
            state.admit_mail();
            // A host hears its signals also in a program that blocks them everywhere. A guest takes nothing from such a
            // program.
            let wanted = state.hosted();
            if let Some(task) = state.task(me) {
                self.listen(&mut state, SignalSet::default());
                state.watchers.leader = None;
                state.watchers.runner = Some(me);
                state.watchers.hears = matches!(task, Task::Hear { .. });
                self.lead.notify_all();
                return Some(task);
            }
            self.listen(&mut state, wanted);
            let deadline = state.next_deadline();
            drop(state);
            wake::wait(deadline);
            state = self.lock();
        }
    }

    /// The leader takes these signals itself from now on, and no others. What comes as it begins wakes it.
    fn listen(&self, state: &mut State, signals: SignalSet) {
        if state.watchers.listens != signals {
            thread::set_listening(signals);
            state.watchers.listens = signals;
            self.changed.notify_all();
        }
    }

    /// Waits until the leader takes none of these signals any more, except for a host.
    pub(super) fn wait_unheard<'a>(
        &'a self,
        mut state: Locked<'a, State>,
        signals: SignalSet,
    ) -> Locked<'a, State> {
        let (mut deadline, mut in_time) = (None, true);
        let are_heard = |state: &State| {
            let too_many = state.watchers.listens.minus(state.hosted());
            !too_many.intersection(signals).is_empty()
        };
        while in_time && are_heard(&state) {
            wake::post();
            let deadline = deadline.get_or_insert_with(|| Instant::now() + UNHEARD_TIMEOUT);
            (state, in_time) = self.changed.wait(state, Some(*deadline));
        }
        state
    }

    /// The user code of a task has returned.
    pub(crate) fn end_task(&self, me: Runner) {
        let mut state = self.lock();
        if state.watchers.is_runner(me) {
            state.watchers.runner = None;
            if state.watchers.hears {
                state.hears_no_more();
            }
            self.changed.notify_all();
        }
        let leads_another = state.watchers.leader.is_some();
        drop(state);
        if leads_another {
            wake::post();
        }
    }

    /// A signal has begun the exit of these guards.
    pub(crate) fn announce(&self, me: Runner, received: Received) -> Result<(), Forked> {
        let which = Which::With(received.signal());
        self.each(me, which, &mut |guard| match guard.cause() {
            Some(_) => self.release_waiters(me, guard),
            None => Ok(()),
        })?;
        self.tell(me, which, &Event::SignalReceived(received))
    }

    /// The turn of this guard's callback has come.
    pub(crate) fn run_pending(&'static self, me: Runner, guard: Arc<Guard>) -> Result<(), Forked> {
        let payload = self.run_callback(&guard, me, true)?;
        self.drop_payload(me, &guard, payload)?;
        self.drop_guard(me, guard)
    }

    /// A signal that is no exit.
    pub(crate) fn hear(
        &self,
        me: Runner,
        arrival: &Arrival,
        old_handler: Option<Guarded>,
        guard: Arc<Guard>,
    ) -> Result<(), Forked> {
        let received = arrival.received();
        let signal = arrival.signal;
        self.each(me, Which::Hearing(signal), &mut |guard| {
            // The end of the guard waits from now on.
            let hearing = Some((guard.key(), me));
            self.lock().watchers.hearing = hearing;
            for (_, function) in guard.on.iter().filter(|(one, _)| *one == signal) {
                // An exit that has begun stops it: one of these functions may have asked for it.
                if guard.cause().is_none() {
                    self.call_contained(me, guard, &mut || function(&received))?;
                }
            }
            self.lock().watchers.hearing.take_if(|other| Some(*other) == hearing);
            self.changed.notify_all();
            Ok(())
        })?;
        if let Some(guarded) = old_handler {
            let call = &mut || guarded.call_old_handler(Some(&arrival.info));
            self.call_contained(me, &guard, call)?;
            self.tell(me, Which::With(signal), &Event::OldHandlerRun(signal))?;
        }
        if arrival.aborts && !self.lock().is_aborting() {
            abort::release();
        }
        self.drop_guard(me, guard)
    }

    /// Gives the signal back to its old handler, and runs that.
    ///
    /// Where that may be the system's own, which ends the process and runs nothing, all that is to
    /// run before the end runs now.
    pub(crate) fn run_old_handler(
        &'static self,
        me: Runner,
        arrival: &Arrival,
        guarded: &Guarded,
        guard: Arc<Guard>,
    ) -> Result<(), Forked> {
        let signal = arrival.signal;
        if guarded.old_handler_may_end_process() {
            let cause = Cause::Signal(arrival.received());
            if self.end_guards(0, me, &cause, None)? {
                return self.end_process(me, Status::Failed, &cause);
            }
        }
        let mut state = self.lock();
        // A host that was made meanwhile decides, or has decided.
        if !state.runs_old_handler(signal) {
            self.changed.notify_all();
            drop(state);
            return self.drop_guard(me, guard);
        }
        let restored = guarded.give_back();
        state.give_back(guarded);
        drop(state);
        let run = &mut || guarded.run_old_handler(restored, &arrival.info);
        self.call_contained(me, &guard, run)?;
        self.drop_guard(me, guard)?;
        self.tell(me, Which::With(signal), &Event::OldHandlerRun(signal))?;
        let mut state = self.lock();
        state.old_handler_has_run(guarded);
        self.changed.notify_all();
        Ok(())
    }

    /// Ends the process because of a signal, or of a callback that panicked.
    pub(crate) fn end_for_signal(
        &'static self,
        me: Runner,
        status: Status,
        cause: &Cause,
        grace_over: Option<(Signal, Duration)>,
    ) -> Result<(), Forked> {
        // Decided before it is told: an observer may exit.
        if !self.lock().claim_end(me.id(), Rank::Outside, Some(status)) {
            lock::park();
        }
        let repeats = std::mem::take(&mut self.lock().repeats);
        for (signal, forces) in repeats {
            self.tell_as_ender(me, Which::With(signal), &Event::repeat(signal, forces))?;
        }
        if let Some((signal, grace)) = grace_over {
            self.tell_as_ender(me, Which::With(signal), &Event::GraceOver { grace })?;
        }
        self.end_process(me, status, cause)
    }
}

impl State {
    /// The runner has left the functions of `Builder::on`: what waited for them has its own time.
    #[inline(never)]
    pub(super) fn hears_no_more(&mut self) {
        (self.watchers.hears, self.watchers.hearing) = (false, None);
        self.each_pending(&|state, key| state.stop_clock(key, None));
    }

    fn runs_old_handler(&self, signal: Signal) -> bool {
        let mut its = self.exits.iter().filter(|exit| exit.arrival.signal == signal);
        its.any(|exit| exit.stage == Stage::OldHandler)
    }

    /// The old handler of a signal has returned.
    fn old_handler_has_run(&mut self, guarded: &Guarded) {
        // On Windows, what has come meanwhile was passed on as well.
        let all = guarded.old_handler_may_end_process();
        self.exits.retain(|exit| {
            let is_its = exit.arrival.signal == guarded.signal() && !exit.arrival.aborts;
            !(is_its && (all || exit.stage == Stage::OldHandler))
        });
        // A thread in `abort` is killed by it, whatever its old handler did.
        for exit in self.exits.iter_mut().filter(|exit| exit.stage == Stage::OldHandler) {
            (exit.stage, exit.has_old_handler) = (Stage::Callbacks, false);
        }
    }
}
