//! The end of the process inside `exit(3)`: the exit functions of the C library, of which the guards' is one.

use super::door::all;
use super::ending::{After, Rank};
use super::guards::extract;
use super::state::{Callback, Entry, Scope};
use super::{Unforked, Worker, watcher};
use crate::cause::Cause;
use crate::sys::restore;
use crate::sys::status::Status;
use crate::sys::thread;
use crate::sys::{abort, exit_thread, process, wake};

/// `std::process::exit`, or return from `main`, with a guard still alive: runs on the thread that exits, inside
/// `exit(3)`.
pub(crate) fn at_process_exit() {
    let exit = super::of(process::this());
    let state = exit.lock();
    if state.is_empty() && !state.is_last_step_elsewhere() {
        return;
    }
    drop(state);
    let in_own_code = exit_thread::is_marked();
    let _exit_thread = exit_thread::mark();
    let here = exit.here();
    // In a child that user code has forked there, the rest of its exit is not this crate's.
    if here.end_inside_exit(in_own_code).is_ok() && exit.lock().watchers.is_only(here.me) {
        thread::spawn_bare(watcher::lead);
    }
}

impl Worker {
    /// The process exits on this thread, which is inside `exit(3)`. Returns if it is to exit as it does.
    /// `in_own_code`: a callback, a deferred function or an old handler has called `exit`, so what it says holds.
    pub(super) fn end_inside_exit(&self, in_own_code: bool) -> Unforked {
        let rank = if in_own_code { Rank::OwnCode } else { Rank::InsideExit };
        let mut state = self.lock();
        if state.has_begun_last_step(self.me) && state.is_ender(self.me) {
            let end = state.end.as_ref();
            let begun = end.and_then(|end| end.last_step).map(|(_, status)| status);
            let after = end.and_then(|end| end.after.as_ref());
            let first = after.map_or(0, |after| after.first);
            drop(state);
            // An exit function may have made guards since, which may decide otherwise.
            let status = self.end_guards_there(first, in_own_code)?;
            if let Some(status) = status.filter(|_| status != begun) {
                self.end_there(status, in_own_code)?;
            }
            // The end of the process waits for nothing any more: no thread that waits by now, or runs user code, overruns.
            for (_, entry) in self.lock().guards.iter_mut() {
                entry.clocks.clear();
            }
            return Ok(());
        }
        state.admit_mail();
        for key in state.keys(&|_| true) {
            state.close_scope(key, Scope::ClosingInExit);
        }
        state.stop_clocks_of(self.me);
        let status = if in_own_code { None } else { state.decided() };
        state.claim_end(self.me, rank, status);
        self.changed.notify_all();
        drop(self.until_ender(state));
        wake::post();
        if let Some(status) = self.end_guards_there(0, in_own_code)? {
            self.end_there(status, in_own_code)?;
        }
        self.leave_all(in_own_code)
    }

    /// Runs what guards have still to run. How the process is to end then, if that is decided.
    fn end_guards_there(&self, first: usize, in_own_code: bool) -> Unforked<Option<Status>> {
        let failed = self.end_guards(first, &Cause::ProcessExit, true)?;
        let mut state = self.until_ender(self.lock());
        let wanted = state.wanted.take().map(|(status, _)| status);
        if failed || wanted == Some(Status::Failed) {
            state.claim_end(self.me, Rank::InsideExit, Some(Status::Failed));
        }
        let status = state.end.as_ref().and_then(|end| end.status);
        Ok(status.or(wanted.filter(|_| !in_own_code)))
    }

    /// Ends the process.
    fn end_there(&self, status: Status, in_own_code: bool) -> Unforked {
        let first = self.lock().guards.next_key();
        self.tell_end(status)?;
        // Another thread may have decided otherwise meanwhile, or a guard that an observer has made.
        let status = self.end_guards_there(first, in_own_code)?.unwrap_or(status);
        if self.lock().has_overrun() {
            process::end_now(status);
        }
        process::end_inside_exit(status)
    }

    /// All guards have run, and the process exits: they are gone, and so are their handlers.
    fn leave_all(&self, in_own_code: bool) -> Unforked {
        self.each(&all, &mut |guard| self.release_waiters(guard))?;
        let mut state = self.lock();
        // As in `begin_last_step`.
        state.admit_mail();
        let mut running = Vec::new();
        let ends = state.ends();
        for key in state.keys(&|_| true) {
            let entry = state.remove(key);
            if let Some(Entry { callback: Callback::Running(runner), .. }) = entry {
                running.push((key, runner));
            }
            // What it captured is not dropped while the process exits.
            std::mem::forget(entry);
        }
        // A thread in `abort` is let go, unless the exit's own code has chosen the status.
        let gone = state.handlers(&|_, guarded| {
            let is_abort = Some(guarded.signal()) == abort::ABORT;
            !restore::ends_process(guarded) || is_abort && !in_own_code
        });
        let mut late = state.restore(&gone);
        extract(&mut late.arrivals, &|arrival| state.is_part_of_answered(arrival));
        late.arrivals = state.forget(&gone, late.arrivals);
        state.untold.clear();
        state.repeats.clear();
        // What a handler of Windows waits with is let go.
        state.exits.clear();
        state.held.clear();
        state.heard.clear();
        if !in_own_code {
            abort::release();
        }
        if let Some(end) = &mut state.end {
            end.after = Some(After { ends, running, ..After::default() });
        }
        self.changed.notify_all();
        drop(state);
        wake::post();
        late.hand_over();
        Ok(())
    }
}
