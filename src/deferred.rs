//! The deferred functions of a guard: last in, first out, once, at the end of its exit.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
#[cfg(not(handle_exit_loom))]
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

#[cfg(handle_exit_loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};

use crate::stack::Stack;
use crate::sys::thread::{Runner, ThreadId};

/// How often a thread that waits for a function looks whether that can still return.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

type Function = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct Functions {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    functions: Stack<Function>,
    /// The thread that runs one of them now.
    running: Option<Runner>,
    end: End,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// They are being run: only the one that runs may defer more, so that this comes to an end whatever
    /// other threads do.
    Begun,
    Over,
}

impl Functions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
    #[cfg(unix)]
    pub(crate) fn is_free(&self) -> bool {
        self.inner.try_lock().is_ok()
    }

    /// Adds a function and says under which key, or `None` once the end has begun.
    pub(crate) fn push(&self, me: ThreadId, function: Function) -> Option<usize> {
        let mut inner = self.lock();
        let takes = match inner.end {
            End::Open => true,
            End::Begun => inner.running.is_some_and(|runner| runner.id() == me),
            End::Over => false,
        };
        if !takes {
            drop(inner);
            // What the refused closure captured is dropped outside the lock: that is user code.
            drop(function);
            return None;
        }
        Some(inner.functions.push(function))
    }

    /// Takes a function out again, if it has not run and is not running.
    pub(crate) fn take(&self, key: usize) -> Option<Function> {
        self.lock().functions.remove(key)
    }

    /// Runs all of them, the last one first, and takes no more. One that another thread has begun is
    /// waited for, except in that very function, or where `is_stuck` says that it never returns.
    ///
    /// Stops where `goes_on` says no after one of them: in a child that it has forked.
    pub(crate) fn run_all(
        &self,
        me: Runner,
        is_stuck: impl Fn(Runner) -> bool,
        goes_on: impl Fn() -> bool,
    ) {
        let mut inner = self.lock();
        if inner.end == End::Open {
            inner.end = End::Begun;
        }
        loop {
            while let Some(runner) = inner.running.filter(|runner| runner.id() != me.id()) {
                inner = self.wait(inner);
                if inner.running == Some(runner) && is_stuck(runner) {
                    inner.running = None;
                }
            }
            let Some(function) = inner.functions.pop() else {
                inner.end = End::Over;
                return;
            };
            inner.running = Some(me);
            drop(inner);
            contain(function);
            if !goes_on() {
                return;
            }
            inner = self.lock();
            inner.running = None;
            self.changed.notify_all();
        }
    }

    #[cfg(not(handle_exit_loom))]
    fn wait<'a>(&'a self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let waited = self.changed.wait_timeout(inner, POLL_INTERVAL);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// loom knows no time.
    #[cfg(handle_exit_loom)]
    fn wait<'a>(&'a self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let _ = POLL_INTERVAL;
        self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops all of them uncalled, and takes no more.
    pub(crate) fn clear(&self) {
        self.lock().end = End::Over;
        loop {
            let function = self.lock().functions.pop();
            let Some(function) = function else { return };
            // What it captured is user code when it is dropped, each on its own.
            contain(|| drop(function));
        }
    }
}

/// Calls `function`; its panic ends here, after the panic hook has reported it.
pub(crate) fn contain(function: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(function)) {
        drop_contained(payload);
    }
}

/// A payload whose own destructor panics must not get out either, nor what that panics with.
#[cold]
#[inline(never)]
fn drop_contained(payload: Box<dyn Any + Send>) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    std::mem::forget(dropped);
}

#[cfg(all(handle_exit_loom, test))]
mod models;
