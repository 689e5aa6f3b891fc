//! The one door to user code, and what goes through it to several guards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::state::Entry;
use super::{Guard, Payload, Worker};
use crate::event::Event;
use crate::signal::Signal;
use crate::sys::thread::UserMask;
use crate::sys::{exit_thread, process, wake};

/// This is a child that user code has forked: nothing of the parent's is to be done here.
#[derive(Debug)]
pub(crate) struct Forked;

/// What is there once user code has returned.
pub(crate) type Unforked<T = ()> = Result<T, Forked>;

/// Has the door call what can be called only once.
pub(super) fn once(function: impl FnOnce()) -> impl FnMut() {
    let mut function = Some(function);
    move || function.take().map_or((), |function| function())
}

/// Which guards are asked for.
pub(super) type Which<'a> = &'a dyn Fn(&Entry) -> bool;

/// All of them.
pub(super) fn all(_: &Entry) -> bool {
    true
}

/// Those that were made for this signal.
pub(super) fn has(signal: Signal) -> impl Fn(&Entry) -> bool {
    move |entry| entry.guard.settings.all_signals().contains(signal)
}

impl Worker {
    /// The one door to user code: callbacks, deferred functions, functions of `on`, observers, wakers, old handlers,
    /// destructors. A watcher runs it with the mask of the thread that made the guard. Returns what it panicked
    /// with; `Forked` in a child that it has forked.
    pub(super) fn call(
        &self,
        mask: UserMask,
        function: &mut dyn FnMut(),
    ) -> Unforked<Option<Payload>> {
        let mask = self.me.is_watcher().then(|| mask.apply());
        let exit_thread = exit_thread::mark();
        let result = catch_unwind(AssertUnwindSafe(function));
        drop(exit_thread);
        drop(mask);
        if process::has_forked_from(self.process) {
            std::mem::forget(result);
            return Err(Forked);
        }
        Ok(result.err())
    }

    /// As `call`, for user code that must not stop the exit: its panic ends here, after the panic hook has reported
    /// it.
    #[inline(never)]
    pub(super) fn call_contained(&self, guard: &Guard, function: &mut dyn FnMut()) -> Unforked {
        let payload = self.call(guard.mask, function)?;
        self.drop_payload(guard, payload)
    }

    /// The destructor of a panic's payload is user code too, and may panic.
    pub(crate) fn drop_payload(&self, guard: &Guard, payload: Option<Payload>) -> Unforked {
        let Some(payload) = payload else { return Ok(()) };
        let again = self.timed(guard, || self.call(guard.mask, &mut once(|| drop(payload))))?;
        std::mem::forget(again);
        Ok(())
    }

    /// Runs user code of this guard that `callback_timeout` bounds.
    pub(super) fn timed<T>(&self, guard: &Guard, run: impl FnOnce() -> Unforked<T>) -> Unforked<T> {
        let is_timed = guard.settings.callback_timeout.is_some();
        let me = Some(self.me);
        let starts = is_timed && self.lock().start_clock(guard.key(), me);
        if starts {
            // The leader sleeps, with another deadline or none.
            wake::post();
        }
        // In a forked child the lock may never be free.
        let result = run()?;
        if starts {
            let mut state = self.lock();
            state.stop_clock(guard.key(), me);
            let ends = state.end.is_some();
            drop(state);
            self.changed.notify_all();
            if ends {
                // The end waits for the clocks that run.
                wake::post();
            }
        }
        Ok(result)
    }

    /// Goes through these guards, from the newest to the oldest, as long as all goes well.
    #[inline(never)]
    pub(super) fn each(
        &self,
        which: Which,
        visit: &mut dyn FnMut(&Arc<Guard>) -> Unforked,
    ) -> Unforked {
        let mut next = usize::MAX;
        loop {
            let state = self.lock();
            let found = state.guards.older_than(next).find(|(_, entry)| which(entry));
            let Some((key, guard)) = found.map(|(key, entry)| (key, Arc::clone(&entry.guard)))
            else {
                return Ok(());
            };
            drop(state);
            next = key;
            visit(&guard)?;
            self.drop_guard(guard)?;
        }
    }

    /// What a guard captured may be dropped with it.
    pub(super) fn drop_guard(&self, guard: Arc<Guard>) -> Unforked {
        let Some(guard) = Arc::into_inner(guard) else { return Ok(()) };
        let mask = guard.mask;
        let payload = self.call(mask, &mut once(|| drop(guard)))?;
        std::mem::forget(payload);
        Ok(())
    }

    /// Tells the observers of these guards; `tracing` once.
    #[inline(never)]
    pub(super) fn tell(&self, which: Which, event: &Event) -> Unforked {
        let mut is_first = true;
        self.each(which, &mut |guard| self.observe(guard, event, std::mem::take(&mut is_first)))
    }

    /// Tells the observer of this guard.
    pub(super) fn tell_one(&self, guard: &Guard, event: &Event) -> Unforked {
        self.observe(guard, event, true)
    }

    fn observe(&self, guard: &Guard, event: &Event, is_first: bool) -> Unforked {
        if !guard.observer.listens() {
            return Ok(());
        }
        // One that has overrun its time is told no more.
        if guard.observing.load(SeqCst) > 0 && self.lock().has_overrun() {
            return Ok(());
        }
        self.timed(guard, || {
            // Only while its clock runs: see `extend_clocks`.
            guard.observing.fetch_add(1, SeqCst);
            let told = self.call_contained(guard, &mut || guard.observer.tell(event, is_first));
            guard.observing.fetch_sub(1, SeqCst);
            told
        })
    }

    /// The exit of this guard has begun: those who wait for it continue.
    pub(crate) fn release_waiters(&self, guard: &Guard) -> Unforked {
        if !guard.waiters.may_be_any() {
            return Ok(());
        }
        #[cfg(unix)]
        guard.waiters.release_descriptors();
        self.timed(guard, || {
            while let Some(waker) = guard.waiters.next_waker() {
                self.call_contained(guard, &mut once(|| waker.wake()))?;
            }
            Ok(())
        })
    }
}
