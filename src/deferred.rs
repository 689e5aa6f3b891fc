//! The stack of deferred functions: last in, first out, once, at the end of the exit.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
#[cfg(not(handle_exit_loom))]
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

#[cfg(handle_exit_loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};

use crate::phase::Thread;
use crate::sys::exit_hook;

type Function = Box<dyn FnOnce() + Send>;

/// Functions by the order they came in. A map, so that any of them can be cancelled cheaply.
#[derive(Default)]
pub(crate) struct Stack {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    functions: BTreeMap<u64, Function>,
    next: u64,
    /// The thread that runs one of them now.
    running: Option<Running>,
    closed: bool,
}

#[derive(Clone, Copy)]
struct Running {
    thread: Thread,
    /// The same thread, as `is_parked_in_pause` takes it.
    tid: i32,
}

impl Stack {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
    pub(crate) fn is_free(&self) -> bool {
        self.inner.try_lock().is_ok()
    }

    /// Adds a function and says under which number, or `None` once the exit has ended.
    pub(crate) fn push(&self, function: Function) -> Option<u64> {
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            // What the refused closure captured is dropped outside the lock: that is user code.
            drop(function);
            return None;
        }
        let id = inner.next;
        inner.next += 1;
        inner.functions.insert(id, function);
        Some(id)
    }

    /// Takes a function out again, if it has not run and is not running.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        let cancelled = self.lock().functions.remove(&id);
        cancelled.is_some()
    }

    /// Runs all of them, the last one first, and takes no more. One that another thread has begun is
    /// waited for, except in that very function.
    pub(crate) fn drain(&self, me: Thread) {
        self.drain_while(me, |inner| {
            self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner)
        });
    }

    /// As `drain`, for the thread that is inside `exit(3)`: one that calls `process::exit` in its
    /// function meanwhile is parked there for ever, and not waited for.
    pub(crate) fn drain_at_exit(&self, me: Thread, look: Duration) {
        self.drain_while(me, |inner| {
            let waited = self.changed.wait_timeout(inner, look);
            let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if inner.running.is_some_and(|running| exit_hook::is_parked_in_pause(running.tid)) {
                inner.running = None;
            }
            inner
        });
    }

    fn drain_while<'a>(
        &'a self,
        me: Thread,
        wait: impl Fn(MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner>,
    ) {
        let tid = exit_hook::thread();
        let mut inner = self.lock();
        loop {
            while inner.running.is_some_and(|running| running.thread != me) {
                inner = wait(inner);
            }
            let Some((_, function)) = inner.functions.pop_last() else {
                inner.closed = true;
                return;
            };
            inner.running = Some(Running { thread: me, tid });
            drop(inner);
            contain(function);
            inner = self.lock();
            inner.running = None;
            self.changed.notify_all();
        }
    }

    /// Drops all of them uncalled, and takes no more.
    pub(crate) fn clear(&self) {
        let functions = {
            let mut inner = self.lock();
            inner.closed = true;
            std::mem::take(&mut inner.functions)
        };
        for function in functions.into_values() {
            // What it captured is user code when it is dropped, each on its own.
            contain(|| drop(function));
        }
    }
}

/// Calls `function`; its panic ends here, after the panic hook has reported it.
pub(crate) fn contain(function: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(function)) {
        Ok(()) => true,
        Err(payload) => {
            // A payload whose own destructor panics must not get out either, nor what that panics with.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            std::mem::forget(dropped);
            false
        }
    }
}

#[cfg(all(handle_exit_loom, test))]
mod models;
