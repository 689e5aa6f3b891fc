//! How the process ends: one rule for a signal, a failure, a forced end, `process::exit`, and an `Outcome`.
//!
//! * The first decision holds. A failure beats every status; what the exit's own code says by exiting itself beats
//!   every other.
//! * One thread ends the process. A thread inside `exit(3)` takes that over from one outside of it, which the
//!   standard library would keep waiting there; and a thread that exits in the exit's own code takes it over from
//!   both, since they wait for that code. It gives that back to a thread inside `exit(3)` when all has run, as the
//!   standard library would keep it waiting too. A thread that does not end the process parks.
//! * That thread runs the callbacks and deferred functions of all living guards, looks whether it is still the one,
//!   and ends the process.

use std::time::Instant;

use super::callback::{FIRST_LOOK, WATCHER_TIMEOUT};
use super::door::{Which, all};
use super::ending::{After, End, Rank, failed};
use super::state::{Entry, State};
use super::{Guard, Held, Unforked, Worker};
use crate::cause::Cause;
use crate::event::Event;
use crate::sys::status::Status;
use crate::sys::thread::{self, Runner};
use crate::sys::{exit_thread, lock, process};

impl State {
    /// User code has overrun its time. What is left has until `deadline`. False if that was said before, and no
    /// callback or observer is to be given up.
    pub(super) fn fail(&mut self, deadline: Option<Instant>, gives_up: bool) -> bool {
        let me = Runner::current();
        let end = self.end.get_or_insert(End::new(me, Rank::Outside, None));
        let is_new = end.deadline.is_none() || gives_up;
        end.status = Some(Status::Failed);
        if is_new {
            end.deadline = deadline;
        }
        is_new
    }

    /// The status that was decided before the process exits by itself.
    pub(super) fn decided(&self) -> Option<Status> {
        let by_signal = |(_, entry): (usize, &Entry)| {
            entry.guard.settings.status_after_scope(entry.ended.decided?)
        };
        let decided = self.end.as_ref().and_then(|end| end.status);
        let wanted = self.wanted.as_ref().map(|(status, _)| *status);
        let failed = wanted.filter(|wanted| *wanted == Status::Failed);
        failed.or(decided).or(wanted).or_else(|| self.guards.iter().find_map(by_signal))
    }

    /// The exit's own code wants the process to end like that, which another thread ends.
    pub(crate) fn choose(&mut self, status: Status) {
        match &mut self.end {
            Some(end) if end.has_failed() => {}
            Some(end) => end.status = Some(status),
            None if matches!(self.wanted, Some((Status::Failed, _))) => {}
            // It has not come to the exit functions.
            None => self.wanted = Some((status, Cause::ProcessExit)),
        }
    }

    /// Inside a later exit function a guard may be made, with an exit of its own.
    pub(crate) fn end_is_over(&mut self) {
        if self.is_empty() && self.end.as_ref().is_some_and(|end| end.after.is_some()) {
            self.end = None;
        }
    }

    /// This thread wants to end the process like that. Whether it is the one that does.
    #[inline(never)]
    pub(super) fn claim_end(&mut self, me: Runner, rank: Rank, status: Option<Status>) -> bool {
        let end = self.end.get_or_insert(End::new(me, rank, status));
        if status == Some(Status::Failed) || rank == Rank::OwnCode && !end.has_failed() {
            end.status = status;
        }
        if end.thread == me {
            end.rank = end.rank.max(rank);
        } else if rank > end.rank || rank == Rank::InsideExit && end.is_in_last_step(end.thread) {
            (end.thread, end.rank) = (me, rank);
        }
        end.thread == me
    }

    /// This thread is to end the process. The user code that it is in does not continue, so its clocks stop; and guards
    /// remember it if that is a deferred function of theirs.
    pub(super) fn stop_clocks_of(&mut self, thread: Runner) {
        if self.watchers.hears && self.watchers.is_runner(thread) {
            self.hears_no_more();
        }
        for (_, entry) in self.guards.iter_mut() {
            entry.stop_clock(Some(thread));
            if entry.guard.deferred.is_run_by(thread) {
                entry.ender = Some(thread);
            }
        }
    }

    pub(super) fn has_begun_last_step(&self, runner: Runner) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_in_last_step(runner))
    }

    /// Whether another thread has begun the last step, which this one may have to take.
    pub(crate) fn is_last_step_elsewhere(&self) -> bool {
        let begun = self.end.as_ref().is_some_and(|end| end.is_in_last_step(end.thread));
        begun && self.ends_elsewhere()
    }

    pub(super) fn is_ender(&self, me: Runner) -> bool {
        self.end.as_ref().is_some_and(|end| end.thread == me)
    }

    /// Whether the process ends, on another thread: no guard can be made any more.
    pub(crate) fn ends_elsewhere(&self) -> bool {
        self.end.is_some() && !self.is_ender(Runner::current())
    }

    /// Whether this thread runs a deferred function, in `Deferred::run`: the end of the process waits for that.
    fn is_deferred_run_by(&self, thread: Runner) -> bool {
        self.guards.iter().any(|(_, entry)| entry.guard.deferred.is_run_by(thread))
    }

    /// Whether another thread still tells how the process ends, and is to be waited for.
    fn is_told_elsewhere(&self, me: Runner) -> bool {
        let teller = self.end.as_ref().and_then(|end| end.teller);
        teller.is_some_and(|teller| teller != me) && !self.has_overrun()
    }

    pub(super) fn has_overrun(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.deadline.is_some())
    }
}

impl Worker {
    /// As `end_process`; where that returns, the process ends at once.
    pub(crate) fn end_here(&self, status: Status, cause: &Cause) -> ! {
        let _ = self.end_process(status, cause);
        process::end(status)
    }

    /// Ends the process, after the callbacks and deferred functions of all guards. Returns in a child that one of
    /// those has forked; and if another thread ends the process, and waits for user code that this one is in.
    pub(crate) fn end_process(&self, status: Status, cause: &Cause) -> Unforked {
        let in_own_code = exit_thread::is_marked() || self.lock().is_deferred_run_by(self.me);
        let rank = if in_own_code { Rank::OwnCode } else { Rank::Outside };
        if !self.lock().claim_end(self.me, rank, Some(status)) {
            if in_own_code {
                return Ok(());
            }
            self.leave_end();
        }
        if in_own_code {
            self.lock().stop_clocks_of(self.me);
        }
        let has_failed = self.end_guards(0, cause, false)?;
        let mut state = self.lock();
        let failure = has_failed.then_some(Status::Failed);
        let decided = failure.or(state.decided()).unwrap_or(status);
        let is_mine = state.claim_end(self.me, Rank::Outside, Some(decided));
        let overran = state.has_overrun();
        // All older ones have run.
        let first = state.guards.next_key();
        drop(state);
        if !is_mine {
            self.leave_end();
        }
        self.tell_end(decided)?;
        if overran {
            // Without a flush: what hangs may hang in a stream, with its lock.
            process::end_now(failed());
        }
        // Guards that an observer has made.
        if self.end_guards(first, cause, false)? {
            self.lock().claim_end(self.me, Rank::Outside, Some(Status::Failed));
            self.tell_end(Status::Failed)?;
        }
        loop {
            if let Some(status) = self.begin_last_step(decided, first) {
                process::end(status);
            }
            self.leave_end();
        }
    }

    /// Another thread ends the process. Returns on one that is inside `exit(3)`, when that is to take the last step.
    #[inline(never)]
    fn leave_end(&self) {
        if !thread::is_inside_exit() {
            lock::park();
        }
        drop(self.until_ender(self.lock()));
    }

    /// Tells how the process ends: once, if one thread takes the last step over from another. What that one tells has a
    /// second to be told.
    pub(super) fn tell_end(&self, status: Status) -> Unforked {
        let mut state = self.lock();
        // In slices: if the whole machine stands still for a while, only one of them is over.
        let (mut left, mut slice) = (WATCHER_TIMEOUT, Instant::now() + FIRST_LOOK);
        while !left.is_zero() && state.is_told_elsewhere(self.me) {
            let in_time;
            (state, in_time) = self.changed.wait(state, Some(slice));
            if !in_time {
                (left, slice) = (left.saturating_sub(FIRST_LOOK), Instant::now() + FIRST_LOOK);
            }
        }
        let told = state.end.as_mut().and_then(|end| end.told.replace(status));
        drop(state);
        if told == Some(status) {
            return Ok(());
        }
        self.tell_as_ender(&all, &Event::ending(status))
    }

    /// Tells as the thread that ends the process: one that takes this over waits.
    pub(super) fn tell_as_ender(&self, which: Which, event: &Event) -> Unforked {
        if let Some(end) = &mut self.lock().end {
            end.teller = Some(self.me);
        }
        self.tell(which, event)?;
        // One that has waited its second may tell by now.
        let mut state = self.lock();
        if let Some(end) = state.end.as_mut().filter(|end| end.teller == Some(self.me)) {
            end.teller = None;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// How this thread is to end the process, if it is still the one that does.
    fn begin_last_step(&self, decided: Status, first: usize) -> Option<Status> {
        let mut state = self.lock();
        // What has come by now is not of the phase that begins.
        state.admit_mail();
        let ends = state.ends();
        // Those that wait have their whole time from now on.
        state.extend_clocks(Instant::now());
        let end = state.end.as_mut().filter(|end| end.thread == self.me)?;
        let status = end.status.unwrap_or(decided);
        end.last_step = Some((self.me, status));
        end.after.get_or_insert(After { ends, first, ..After::default() });
        self.changed.notify_all();
        Some(status)
    }

    /// After user code has overrun its time: the rest, then the end. It has a time limit, which the leader
    /// keeps.
    pub(super) fn end_after_overrun(&self, guard: &Guard) -> Unforked {
        let timeout = guard.settings.callback_timeout.unwrap_or_default();
        self.tell_one(guard, &Event::CallbackTimedOut { timeout })?;
        if self.lock().has_returned(guard.key()) {
            guard.deferred.give_up();
        }
        self.end_guards(0, &Cause::ProcessExit, false)?;
        let status = failed();
        self.tell_end(status)?;
        process::end_now(status)
    }

    /// On a thread that is inside `exit(3)`: waits until it is the one that ends the process. It waits forever if another
    /// one has run all guards and continues with the exit functions.
    #[inline(never)]
    pub(super) fn until_ender(&self, mut state: Held) -> Held {
        while state.end.is_none() || !state.claim_end(self.me, Rank::InsideExit, None) {
            (state, _) = self.changed.wait(state, None);
        }
        state
    }
}
