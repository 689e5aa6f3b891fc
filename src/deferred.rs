//! The stack of deferred functions: last in, first out, once, at the end of the exit.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::phase::Thread;

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
    running: Option<Thread>,
    closed: bool,
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
        let mut inner = self.lock();
        loop {
            while inner.running.is_some_and(|thread| thread != me) {
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((_, function)) = inner.functions.pop_last() else {
                inner.closed = true;
                return;
            };
            inner.running = Some(me);
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
        drop(functions);
    }
}

/// Calls `function`; its panic ends here, after the panic hook has reported it.
pub(crate) fn contain(function: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(function)) {
        Ok(()) => true,
        Err(payload) => {
            // A payload whose own destructor panics must not get out either.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            false
        }
    }
}
