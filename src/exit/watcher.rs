//! The guard's own threads: one leads, runs what signals ask for, and sleeps.
//!
//! If a living guard has a `callback_timeout` or `Repeat::Force`, a second thread stands by. Before the leader runs
//! user code it hands the lead over, and then stands by itself: so somebody counts repeats and sees time pass
//! whatever user code does.
//!
//! ```text
//! stands by ──nobody leads──> leads ──user code──> runs it ──> stands by
//!                             leads ──last guard is gone──> leaves
//! ```

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::door::has;
use super::ending::Rank;
use super::state::{Callback, Entry, Stage, State, Watchers};
use super::task::Task;
use super::{By, Closed, Guard, Held, ProcessExit, Unforked, Worker};
use crate::cause::Cause;
use crate::event::Event;
use crate::signal::{Received, Signal, SignalSet};
use crate::sys::guarded::Guarded;
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread;
use crate::sys::{abort, lock, process, wake};

/// How long those who restore a signal wait until the leader takes it no more: the leader may have been interrupted
/// for good, by a foreign handler.
const UNHEARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts one more, for the guards that live now.
pub(crate) fn spawn(exit: &'static ProcessExit, watchers: &mut Watchers) -> io::Result<()> {
    let generation = watchers.generation;
    let thread = thread::spawn("handle-exit", Box::new(move || exit.here().watch(generation)))?;
    watchers.handles.push(thread);
    Ok(())
}

/// Leads while exit functions run on the only watcher: one of them may hang, and a second signal is to end that.
pub(super) extern "C" fn lead(_: *mut c_void) -> *mut c_void {
    let exit = super::of(process::this());
    let generation = exit.lock().watchers.generation;
    exit.here().watch(generation);
    ptr::null_mut()
}

impl Worker {
    pub(super) fn watcher(self) -> Worker {
        Worker { me: self.me.watcher(), ..self }
    }

    fn watch(self, generation: usize) {
        let watcher = self.watcher();
        while let Some(task) = watcher.next_task(generation) {
            if watcher.perform(task).is_err() {
                // A child that user code has forked on this thread: there is nothing of the parent's to return to.
                process::end_now(Status::Code(0));
            }
            watcher.end_task();
        }
    }

    /// Leads, if nobody does, until there is user code to run; then hands the lead over. `None`: this thread is to
    /// leave.
    pub(super) fn next_task(&self, generation: usize) -> Option<Task> {
        let mut state = self.lock();
        if !state.watchers.present.contains(&self.me) {
            state.watchers.present.push(self.me);
        }
        loop {
            if state.watchers.generation != generation {
                state.watchers.present.retain(|other| *other != self.me);
                self.changed.notify_all();
                self.lead.notify_all();
                drop(state);
                // The wake-up may have been for the watcher after this one.
                wake::post();
                return None;
            }
            if state.watchers.leader.is_some_and(|leader| leader != self.me) {
                (state, _) = self.lead.wait(state, None);
                continue;
            }
            state.watchers.leader = Some(self.me);
            state.admit_mail();
            // A host hears its signals also in a program that blocks them everywhere. A guest takes nothing from such a
            // program.
            let wanted = state.hosted();
            if let Some(task) = state.task(self.me) {
                self.listen(&mut state, SignalSet::default());
                state.watchers.leader = None;
                state.watchers.runner = Some(self.me);
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
    pub(super) fn wait_unheard(&self, mut state: Held, signals: SignalSet) -> Held {
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
    pub(super) fn end_task(&self) {
        let mut state = self.lock();
        if state.watchers.is_runner(self.me) {
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

    pub(super) fn perform(&self, task: Task) -> Unforked {
        match task {
            Task::Tell(received) => self.announce(received),
            Task::Callback(guard) => {
                let payload = self.run_callback(&guard, true)?;
                self.drop_payload(&guard, payload)?;
                self.drop_guard(guard)
            }
            Task::OldHandler { arrival, guarded, guard } => {
                self.run_old_handler(&arrival, &guarded, guard)
            }
            Task::Hear { arrival, old_handler, guard } => self.hear(&arrival, old_handler, guard),
            Task::Repeat(signal, forces) => self.tell(&has(signal), &Event::repeat(signal, forces)),
            Task::Complete(guard) => {
                self.complete(&guard, By::Drop, &mut Closed::default())?;
                self.drop_guard(guard)
            }
            Task::End { status, cause, grace_over } => {
                self.end_for_signal(status, &cause, grace_over)
            }
            Task::Overrun { guard, needs_successor } => {
                // What this thread is going to run may hang as well.
                if needs_successor && spawn(self.exit, &mut self.lock().watchers).is_err() {
                    process::end_now(Status::Failed);
                }
                self.end_after_overrun(&guard)
            }
            Task::Cut(status) => process::end_now(status),
        }
    }

    /// A signal has begun the exit of these guards.
    fn announce(&self, received: Received) -> Unforked {
        let which = &has(received.signal());
        self.each(which, &mut |guard| match guard.cause() {
            Some(_) => self.release_waiters(guard),
            None => Ok(()),
        })?;
        self.tell(which, &Event::SignalReceived(received))
    }

    /// A signal that is no exit.
    fn hear(&self, arrival: &Arrival, old_handler: Option<Guarded>, guard: Arc<Guard>) -> Unforked {
        let received = arrival.received();
        let signal = arrival.signal;
        let hears = |entry: &Entry| {
            let is_armed = entry.is_open() && entry.callback == Callback::Armed;
            is_armed && entry.on.contains(signal)
        };
        self.each(&hears, &mut |guard| {
            // The end of the guard waits from now on.
            let hearing = Some((guard.key(), self.me));
            self.lock().watchers.hearing = hearing;
            for (_, function) in guard.on.iter().filter(|(one, _)| *one == signal) {
                // An exit that has begun stops it: one of these functions may have asked for it.
                if guard.cause().is_none() {
                    self.call_contained(guard, &mut || function(&received))?;
                }
            }
            self.lock().watchers.hearing.take_if(|other| Some(*other) == hearing);
            self.changed.notify_all();
            Ok(())
        })?;
        if let Some(guarded) = old_handler {
            let call = &mut || guarded.call_old_handler(Some(&arrival.info));
            self.call_contained(&guard, call)?;
            self.tell(&has(signal), &Event::OldHandlerRun(signal))?;
        }
        if arrival.aborts && !self.lock().is_aborting() {
            abort::release();
        }
        self.drop_guard(guard)
    }

    /// Gives the signal back to its old handler, and runs that.
    ///
    /// Where that may be the system's own, which ends the process and runs nothing, all that is to
    /// run before the end runs now.
    fn run_old_handler(&self, arrival: &Arrival, guarded: &Guarded, guard: Arc<Guard>) -> Unforked {
        let signal = arrival.signal;
        if guarded.old_handler_may_end_process() {
            let cause = Cause::Signal(arrival.received());
            if self.end_guards(0, &cause, false)? {
                return self.end_process(Status::Failed, &cause);
            }
        }
        let mut state = self.lock();
        // A host that was made meanwhile decides, or has decided.
        if !state.runs_old_handler(signal) {
            self.changed.notify_all();
            drop(state);
            return self.drop_guard(guard);
        }
        let restored = guarded.give_back();
        state.give_back(guarded);
        drop(state);
        let run = &mut || guarded.run_old_handler(restored, &arrival.info);
        self.call_contained(&guard, run)?;
        self.drop_guard(guard)?;
        self.tell(&has(signal), &Event::OldHandlerRun(signal))?;
        let mut state = self.lock();
        state.old_handler_has_run(guarded);
        self.changed.notify_all();
        Ok(())
    }

    /// Ends the process because of a signal, or of a callback that panicked.
    fn end_for_signal(
        &self,
        status: Status,
        cause: &Cause,
        grace_over: Option<(Signal, Duration)>,
    ) -> Unforked {
        // Decided before it is told: an observer may exit.
        if !self.lock().claim_end(self.me, Rank::Outside, Some(status)) {
            lock::park();
        }
        let repeats = std::mem::take(&mut self.lock().repeats);
        for (signal, forces) in repeats {
            self.tell_as_ender(&has(signal), &Event::repeat(signal, forces))?;
        }
        if let Some((signal, grace)) = grace_over {
            self.tell_as_ender(&has(signal), &Event::GraceOver { grace })?;
        }
        self.end_process(status, cause)
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
