//! The process's one exit: its guards, and the one door to user code.
//!
//! | file | what it has |
//! |---|---|
//! | `state` | the states, and their transitions in a picture |
//! | `guards` | how guards come and go, and who decides |
//! | `arrival` | what signals mean that came |
//! | `task` | what the watcher is to do, and when |
//! | `clocks` | which user code has overrun its time |
//! | `guard`, `door` | a guard, and the one door to its user code |
//! | `callback` | who runs a callback, and who waits for it |
//! | `scope` | how the scope of a guard ends |
//! | `end`, `ending` | how the process ends, and which thread ends it |
//! | `exit_functions` | how it ends inside `exit(3)` |
//! | `watcher` | the guard's own threads |

mod arrival;
mod callback;
mod clocks;
mod door;
mod end;
mod ending;
mod exit_functions;
mod guard;
mod guards;
mod scope;
mod state;
mod task;
mod watcher;

use std::ops::Deref;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use crate::cause::Cause;
use crate::sys::exit_thread;
use crate::sys::lock::{Condition, Lock, Locked};
use crate::sys::per_process::PerProcess;
use crate::sys::process::{self, Process};
use crate::sys::thread::{self, Runner};

pub(crate) use door::Forked;
use door::{Unforked, once};
pub(crate) use exit_functions::at_process_exit;
pub(crate) use guard::{Callback, Guard, OnSignal, Payload};
pub(crate) use scope::{By, Closed};
use state::Ended;
pub(crate) use state::State;
pub(crate) use watcher::spawn;

/// The exit of each process that has, or had, a guard.
static EXITS: PerProcess<ProcessExit> = PerProcess::new(ProcessExit::new);

pub(crate) struct ProcessExit {
    pub(crate) process: Process,
    state: Lock<State>,
    /// A callback, an old handler, or a function of `Builder::on` has returned, a watcher has left or ceased to listen,
    /// or the end of the process is another thread's, or has been told.
    changed: Condition,
    /// For a watcher that stands by: nobody leads.
    lead: Condition,
}

/// The exit of `process`, which is this one.
pub(crate) fn of(process: Process) -> &'static ProcessExit {
    EXITS.get(process)
}

/// The exit that this guard is part of, unless this is a forked child.
pub(crate) fn of_guard(guard: &Guard) -> Option<&'static ProcessExit> {
    let this = process::this();
    (guard.process.load(SeqCst) == this).then(|| of(this))
}

impl ProcessExit {
    fn new(process: Process) -> ProcessExit {
        ProcessExit {
            process,
            state: Lock::default(),
            changed: Condition::default(),
            lead: Condition::default(),
        }
    }

    /// This thread, which is to do a part of the exit. As `Runner::current`: call it where that begins.
    #[inline(always)]
    pub(crate) fn here(&'static self) -> Worker {
        Worker { exit: self, me: Runner::current() }
    }

    pub(crate) fn lock(&self) -> Locked<'_, State> {
        self.state.lock()
    }

    /// How the exit of a guard that has not left goes.
    pub(crate) fn ended(&self, guard: &Guard) -> Ended {
        self.lock().ended(guard.key())
    }

    /// Begins the exit of a guard from code; the watcher runs the callback. False if it had begun.
    pub(crate) fn request(&self, guard: &Guard) -> bool {
        let mut state = self.lock();
        let entry = state.guards.get_mut(guard.key());
        entry.is_some_and(|entry| entry.is_open() && entry.begin(Cause::Requested))
    }

    /// Waits until the exit of `guard` has begun, at most until `deadline`.
    pub(crate) fn wait_begun(&self, guard: &Guard, deadline: Option<Instant>) -> Option<Cause> {
        let mut state = self.lock();
        let mut in_time = true;
        while guard.cause().is_none() && in_time {
            (state, in_time) = guard.has_cause.wait(state, deadline);
        }
        drop(state);
        guard.cause().cloned()
    }
}

/// A thread that does a part of the exit: runs user code, waits for it, or ends the process.
#[derive(Clone, Copy)]
pub(crate) struct Worker {
    exit: &'static ProcessExit,
    me: Runner,
}

/// What a worker holds.
type Held = Locked<'static, State>;

impl Worker {
    fn lock(&self) -> Held {
        self.exit.lock()
    }
}

impl Deref for Worker {
    type Target = ProcessExit;

    fn deref(&self) -> &ProcessExit {
        self.exit
    }
}

/// Whether that thread will never leave `exit(3)`, and this one is not to wait for the end of the process: it is
/// inside of it too, or runs user code that the end waits for.
#[inline(never)]
fn is_stuck(runner: Runner) -> bool {
    (exit_thread::is_marked() || thread::is_inside_exit()) && runner.is_inside_exit()
}

#[cfg(all(handle_exit_loom, test))]
mod models;
