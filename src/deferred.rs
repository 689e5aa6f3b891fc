//! The deferred functions of a guard: last in, first out, once, at the end of its exit.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::stack::Stack;
use crate::sys::lock::{Condvar, Lock};
use crate::sys::thread::{Runner, ThreadId};

/// How often a thread that waits for a function looks whether that can still return.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

type Function = Box<dyn FnOnce() + Send>;

/// Whether the thread that is waited for will never return.
type Look<'a> = &'a dyn Fn(Option<Runner>) -> bool;

#[derive(Default)]
pub(crate) struct Functions {
    inner: Lock<Inner>,
    changed: Condvar,
}

/// What the first function brings along: a program that defers none has no code for them.
#[derive(Clone, Copy)]
struct Ends {
    run_all: fn(&Functions, Runner, Look<'_>, &dyn Fn() -> bool),
    drop_all: fn(&Functions),
}

#[derive(Default)]
struct Inner {
    /// Set by the first `push`.
    ends: Option<Ends>,
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
    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
    #[cfg(unix)]
    pub(crate) fn is_free(&self) -> bool {
        self.inner.is_free()
    }

    /// Adds a function and says under which key, or `None` once the end has begun.
    pub(crate) fn push(&self, me: ThreadId, function: Function) -> Option<usize> {
        let mut inner = self.inner.lock();
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
        inner.ends =
            Some(Ends { run_all: Functions::run_pushed, drop_all: Functions::drop_pushed });
        Some(inner.functions.push(function))
    }

    /// Takes a function out again, if it has not run and is not running.
    pub(crate) fn take(&self, key: usize) -> Option<Function> {
        self.inner.lock().functions.remove(key)
    }

    /// Runs all of them, the last one first, and takes no more. One that another thread has begun is
    /// waited for, except in that very function, or where `look` says of its thread that it never returns.
    /// `look` is told when the wait is over, too.
    ///
    /// Stops where `goes_on` says no after one of them: in a child that it has forked.
    pub(crate) fn run_all(&self, me: Runner, look: Look<'_>, goes_on: &dyn Fn() -> bool) {
        if let Some(ends) = self.end(End::Begun) {
            (ends.run_all)(self, me, look, goes_on);
        }
    }

    /// Begins the end, and says how to go on: nothing is to be done where there was no function.
    fn end(&self, end: End) -> Option<Ends> {
        let mut inner = self.inner.lock();
        let end = if inner.ends.is_some() { end } else { End::Over };
        if inner.end != End::Over {
            inner.end = end;
        }
        inner.ends
    }

    fn run_pushed(&self, me: Runner, look: Look<'_>, goes_on: &dyn Fn() -> bool) {
        let mut inner = self.inner.lock();
        loop {
            let mut has_looked = false;
            while let Some(runner) = inner.running.filter(|runner| runner.id() != me.id()) {
                (inner, _) = inner.wait(&self.changed, due());
                if inner.running == Some(runner) {
                    has_looked = true;
                    if look(Some(runner)) {
                        inner.running = None;
                    }
                }
            }
            if has_looked {
                look(None);
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
            inner = self.inner.lock();
            inner.running = None;
            self.changed.notify_all();
        }
    }

    /// Drops all of them uncalled, and takes no more.
    pub(crate) fn clear(&self) {
        if let Some(ends) = self.end(End::Over) {
            (ends.drop_all)(self);
        }
    }

    fn drop_pushed(&self) {
        loop {
            let function = self.inner.lock().functions.pop();
            let Some(function) = function else { return };
            // What it captured is user code when it is dropped, each on its own.
            contain(|| drop(function));
        }
    }
}

/// When to look. loom knows no time.
fn due() -> Option<Instant> {
    (!cfg!(handle_exit_loom)).then(|| Instant::now() + POLL_INTERVAL)
}

/// Calls `function`; its panic ends here, after the panic hook has reported it.
#[inline(never)]
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
