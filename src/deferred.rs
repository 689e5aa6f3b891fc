//! The deferred functions of a guard: last in, first out, once, at the end of its exit.

use std::time::{Duration, Instant};

use crate::stack::Stack;
use crate::sys::lock::{Condition, Lock};
use crate::sys::thread::Runner;

/// How often a thread that waits for a function looks whether that can still return.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) type Function = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct Functions {
    inner: Lock<Inner>,
    /// One of them has returned.
    changed: Condition,
}

#[derive(Default)]
struct Inner {
    functions: Stack<Function>,
    /// The threads that run one of them now: one that ends the exit, and those in `Deferred::run`.
    running: Vec<Runner>,
    end: End,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// They are being run: only a thread that runs one may defer more, so that this comes to an end whatever
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

    pub(crate) fn is_run_by(&self, thread: Runner) -> bool {
        self.inner.lock().running.contains(&thread)
    }

    /// Adds a function and returns its key, or the function once the end has begun.
    pub(crate) fn push(&self, me: Runner, function: Function) -> Result<usize, Function> {
        let mut inner = self.inner.lock();
        let takes = match inner.end {
            End::Open => true,
            End::Begun => inner.running.contains(&me),
            End::Over => false,
        };
        if takes { Ok(inner.functions.push(function)) } else { Err(function) }
    }

    /// Takes a function out again, if it has not run and is not running. If there is a `runner`, that is going to run
    /// it, and then to call [`done`](Functions::done).
    pub(crate) fn take(&self, key: usize, runner: Option<Runner>) -> Option<Function> {
        let mut inner = self.inner.lock();
        let function = inner.functions.remove(key)?;
        inner.running.extend(runner);
        Some(function)
    }

    /// The thread that runs the exit's end takes the next one, the last that was deferred first. If another
    /// thread runs one, that is waited for, unless `is_stuck` says that it never returns.
    pub(crate) fn next_to_run(
        &self,
        me: Runner,
        is_stuck: &dyn Fn(Runner) -> bool,
    ) -> Option<Function> {
        let mut inner = self.inner.lock();
        if inner.end == End::Open {
            inner.end = End::Begun;
        }
        while inner.running.iter().any(|one| *one != me) {
            (inner, _) = self.changed.wait(inner, Some(Instant::now() + POLL_INTERVAL));
            // A function may end the process, on its thread, and others run there: the same thread, and not stuck.
            inner.running.retain(|one| *one == me || !is_stuck(*one));
        }
        let function = inner.functions.pop();
        match function {
            Some(_) => inner.running.push(me),
            None => inner.end = End::Over,
        }
        function
    }

    /// Those that run now have overrun their time, or are the parent's in a forked child: nobody waits for them any
    /// more.
    pub(crate) fn give_up(&self) {
        let mut inner = self.inner.lock();
        inner.running.clear();
        self.changed.notify_all();
    }

    /// The function that this thread took has run.
    pub(crate) fn done(&self, me: Runner) {
        let mut inner = self.inner.lock();
        if let Some(at) = inner.running.iter().rposition(|runner| *runner == me) {
            inner.running.remove(at);
        }
        self.changed.notify_all();
    }

    /// Takes the next one to be dropped uncalled, and lets no more in.
    pub(crate) fn next_to_drop(&self) -> Option<Function> {
        let mut inner = self.inner.lock();
        inner.end = End::Over;
        inner.functions.pop()
    }
}

#[cfg(all(handle_exit_loom, test))]
mod models;
