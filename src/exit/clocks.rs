//! `callback_timeout`: the clocks of the user code that runs, and what has overrun its time.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::Guard;
use super::state::{Callback, Entry, Stage, State};
use crate::sys::thread::Runner;

impl State {
    /// User code of this guard begins on this thread: its clock runs, unless it runs already. Whether it was started.
    pub(super) fn start_clock(&mut self, key: usize, thread: Option<Runner>) -> bool {
        let Some(entry) = self.guards.get_mut(key) else { return false };
        if entry.clocks.iter().any(|(other, _)| *other == thread) {
            return false;
        }
        let timeout = entry.guard.settings.callback_timeout;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        entry.clocks.extend(deadline.map(|deadline| (thread, deadline)));
        deadline.is_some()
    }

    pub(super) fn stop_clock(&mut self, key: usize, thread: Option<Runner>) {
        if let Some(entry) = self.guards.get_mut(key) {
            entry.stop_clock(thread);
        }
    }

    /// The clock that is over first, and its guard.
    #[inline(never)]
    pub(super) fn first_clock(&self) -> Option<(usize, Instant)> {
        let mut first: Option<(usize, Instant)> = None;
        for (key, entry) in self.guards.iter() {
            for (_, deadline) in &entry.clocks {
                if first.is_none_or(|(_, other)| *deadline < other) {
                    first = Some((key, *deadline));
                }
            }
        }
        first
    }

    /// User code that has overrun its `callback_timeout`. The process has to end for it: nobody waits for that
    /// callback any more, and the rest gets the same time once more.
    pub(super) fn overrun(&mut self, now: Instant) -> Option<Arc<Guard>> {
        self.extend_clocks(now);
        let (key, _) = self.first_clock().filter(|(_, deadline)| now >= *deadline)?;
        let entry = self.guards.get_mut(key)?;
        entry.clocks.clear();
        let guard = Arc::clone(&entry.guard);
        let is_callback = entry.callback.runner().is_some();
        match entry.callback {
            // Its observer or a waker hangs: the callback is still there, for who ends the process.
            Callback::Turn(_) => entry.callback = Callback::Armed,
            Callback::Running(_) => entry.callback = Callback::Overrun,
            _ => {}
        }
        let timeout = guard.settings.callback_timeout.unwrap_or_default();
        let gives_up = is_callback || guard.observing.load(SeqCst) > 0;
        self.fail(now.checked_add(timeout), gives_up).then_some(guard)
    }

    /// A deferred function ends the process. Threads that wait for it, and for which the end does not wait, overrun
    /// nothing before the last step. Not while another thread is in the guard's observer: the clock may be that
    /// thread's, and the observer may hang.
    pub(super) fn extend_clocks(&mut self, now: Instant) {
        let open =
            self.end.as_ref().filter(|end| end.deadline.is_none() && end.last_step.is_none());
        let Some((ender, teller)) = open.map(|end| (end.thread, end.teller)) else { return };
        let only_waits = |entry: &Entry| {
            // The ender's own clock was stopped, and runs again where it tells this guard.
            let is_told = entry.clocks.iter().any(|(thread, _)| *thread == Some(ender));
            let tells = usize::from(is_told && teller == Some(ender));
            entry.ender == Some(ender) && entry.guard.observing.load(SeqCst) <= tells
        };
        for key in self.keys(&only_waits) {
            let Some(entry) = self.guards.get(key) else { continue };
            let timeout = entry.guard.settings.callback_timeout.unwrap_or_default();
            let later = |(thread, deadline): &(Option<Runner>, Instant)| {
                let waits = thread.is_some_and(|thread| !self.is_awaited(thread));
                let later = now.checked_add(timeout).filter(|_| waits);
                (*thread, later.unwrap_or(*deadline))
            };
            let clocks = entry.clocks.iter().map(later).collect();
            if let Some(entry) = self.guards.get_mut(key) {
                entry.clocks = clocks;
            }
        }
    }

    /// Whether the end of the process waits for this thread.
    fn is_awaited(&self, thread: Runner) -> bool {
        let runs = |(_, entry): (usize, &Entry)| {
            entry.callback.runner() == Some(thread) || entry.guard.deferred.is_run_by(thread)
        };
        let runs_old_handler = self.exits.iter().any(|exit| exit.stage == Stage::OldHandler);
        self.guards.iter().any(runs) || runs_old_handler && self.watchers.is_runner(thread)
    }
}

impl Entry {
    #[inline(never)]
    pub(super) fn stop_clock(&mut self, thread: Option<Runner>) {
        self.clocks.retain(|(other, _)| *other != thread);
    }
}
