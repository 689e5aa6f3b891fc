//! The process's one exit: its guards, and the one door to user code.
//!
//! `state` has the states and their transitions; `arrival` says what signals mean; `duty` what
//! the watchers do; `scope` how the scope of a guard ends; `end` how the process does.

mod arrival;
mod duty;
mod end;
mod scope;
mod state;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::deferred::Functions;
use crate::event::{Event, Observer};
use crate::settings::Settings;
use crate::signal::{Received, Signal};
use crate::sys::lock::{Condition, Lock, Locked};
use crate::sys::per_process::PerProcess;
use crate::sys::process::{self, AtomicProcess, Process};
use crate::sys::thread::{self, Runner, UserMask};
use crate::sys::wake;
use crate::waiters::Waiters;

pub(crate) use arrival::Task;
use scope::Tells;
pub(crate) use scope::{By, Closed};
pub(crate) use state::State;
use state::{Callback as Stage, Ended, Entry};

pub(crate) type Callback = Box<dyn FnOnce(&Cause) + Send>;
pub(crate) type OnSignal = Box<dyn Fn(&Received) + Send + Sync>;
pub(crate) type Payload = Box<dyn Any + Send>;

/// This is a child that user code has forked: nothing of the parent's is to be done here.
#[derive(Debug)]
pub(crate) struct Forked;

/// One scope's part in the exit.
pub(crate) struct Guard {
    pub(crate) settings: Settings,
    callback: Lock<Option<Callback>>,
    pub(crate) on: Vec<(Signal, OnSignal)>,
    observer: Observer,
    /// How many threads are in its observer.
    observing: AtomicUsize,
    pub(crate) deferred: Functions,
    pub(crate) waiters: Waiters,
    /// Of the thread that made the guard.
    mask: UserMask,
    /// The process whose guard it is: of a forked child only after `rearm`.
    pub(crate) process: AtomicProcess,
    /// Under which key the state has it: the newest guard has the largest; 0 while it has not.
    key: AtomicUsize,
    /// Written once, under the lock of the exit; read without.
    cause: OnceLock<Cause>,
    /// For threads that wait for `cause`, with the lock of the exit. One for each guard, so that the waiters of one
    /// do not wake those of all others.
    has_cause: Condition,
}

impl Guard {
    pub(crate) fn new(
        settings: Settings,
        callback: Callback,
        on: Vec<(Signal, OnSignal)>,
        observer: Observer,
        process: Process,
    ) -> Guard {
        let guard = Guard {
            settings,
            callback: Lock::new(Some(callback)),
            on,
            observer,
            observing: AtomicUsize::new(0),
            deferred: Functions::default(),
            waiters: Waiters::default(),
            mask: UserMask::current(),
            process: AtomicProcess::new(),
            key: AtomicUsize::new(0),
            cause: OnceLock::new(),
            has_cause: Condition::default(),
        };
        guard.process.set(process);
        guard
    }

    /// What began its exit, if it has begun. Takes no lock.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.get()
    }

    fn key(&self) -> usize {
        self.key.load(SeqCst)
    }

    /// The exit begins, if it has not. Under the lock of the exit.
    fn begin(&self, cause: Cause) -> bool {
        let begins = self.cause.set(cause).is_ok();
        if begins {
            self.has_cause.notify_all();
        }
        begins
    }

    /// Takes the callback out, with what it captured.
    pub(crate) fn take_callback(&self) -> Option<Callback> {
        self.callback.lock().take()
    }

    /// Whether anybody may want to be told that the exit has begun.
    fn is_watched(&self) -> bool {
        self.observer.listens() || self.waiters.may_be_any()
    }

    /// Whether no thread is at work on it. In a forked child none could ever be done with that.
    #[cfg(unix)]
    pub(crate) fn is_free(&self) -> bool {
        self.callback.is_free() && self.deferred.is_free() && self.waiters.is_free()
    }
}

/// The exit of each process that has, or had, a guard.
static EXITS: PerProcess<ProcessExit> = PerProcess::new(ProcessExit::new);

pub(crate) struct ProcessExit {
    pub(crate) process: Process,
    state: Lock<State>,
    /// A callback or an old handler has returned, a watcher has left or ceased to listen.
    changed: Condition,
    /// For a watcher that stands by: nobody leads.
    lead: Condition,
}

/// The exit of `process`, which is this one.
pub(crate) fn of(process: Process) -> &'static ProcessExit {
    EXITS.get_in(process)
}

/// The exit that this guard is part of, unless this is a forked child.
pub(crate) fn of_guard(guard: &Guard) -> Option<&'static ProcessExit> {
    let this = process::this();
    guard.process.is(this).then(|| of(this))
}

/// Which guards are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    All,
    /// Those that have this signal.
    With(Signal),
    /// Those to which this signal is no exit; one whose exit has begun hears no more.
    Hearing(Signal),
}

impl Which {
    fn is(self, entry: &Entry) -> bool {
        match self {
            Which::All => true,
            Which::With(signal) => entry.guard.settings.all_signals().contains(signal),
            Which::Hearing(signal) => {
                entry.is_open() && entry.callback == Stage::Armed && entry.on.contains(signal)
            }
        }
    }
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

    pub(crate) fn lock(&self) -> Locked<'_, State> {
        self.state.lock()
    }

    /// The one door to user code: callbacks, deferred functions, functions of `on`, observers, wakers, old handlers,
    /// destructors. A watcher runs it with the mask of the thread that made the guard. Returns what it panicked
    /// with; `Forked` in a child that it has forked.
    #[inline(never)]
    fn call(
        &self,
        me: Runner,
        guard: &Guard,
        function: &mut dyn FnMut(),
    ) -> Result<Option<Payload>, Forked> {
        let mask = me.is_watcher().then(|| guard.mask.apply());
        let exit_thread = thread::mark_exit_thread();
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
    pub(crate) fn call_contained(
        &self,
        me: Runner,
        guard: &Guard,
        function: &mut dyn FnMut(),
    ) -> Result<(), Forked> {
        let payload = self.call(me, guard, function)?;
        self.drop_payload(me, guard, payload)
    }

    /// The destructor of a panic's payload is user code too, and may panic.
    fn drop_payload(
        &self,
        me: Runner,
        guard: &Guard,
        payload: Option<Payload>,
    ) -> Result<(), Forked> {
        let Some(payload) = payload else { return Ok(()) };
        let mut payload = Some(payload);
        let again = self.call(me, guard, &mut || drop(payload.take()))?;
        std::mem::forget(again);
        Ok(())
    }

    /// Runs user code of this guard that `callback_timeout` bounds.
    fn timed<T>(&self, guard: &Guard, run: impl FnOnce() -> T) -> T {
        let is_timed = guard.settings.callback_timeout.is_some();
        let starts = is_timed && self.lock().start_clock(guard.key());
        if starts {
            // The leader sleeps, with another deadline or none.
            wake::post();
        }
        let result = run();
        if starts {
            self.lock().stop_clock(guard.key());
            self.changed.notify_all();
        }
        result
    }

    /// Goes through these guards, from the newest to the oldest, as long as all goes well.
    fn each(
        &self,
        which: Which,
        visit: &mut dyn FnMut(&Arc<Guard>) -> Result<(), Forked>,
    ) -> Result<(), Forked> {
        let mut next = usize::MAX;
        loop {
            let state = self.lock();
            let found = state.guards.older_than(next).find(|(_, entry)| which.is(entry));
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
    pub(crate) fn drop_guard(&self, guard: Arc<Guard>) -> Result<(), Forked> {
        let Some(guard) = Arc::into_inner(guard) else { return Ok(()) };
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(guard)));
        std::mem::forget(dropped);
        if process::has_forked_from(self.process) { Err(Forked) } else { Ok(()) }
    }

    /// Tells the observers of these guards; `tracing` once.
    pub(crate) fn tell(&self, me: Runner, which: Which, event: &Event) -> Result<(), Forked> {
        let mut is_first = true;
        self.each(which, &mut |guard| self.observe(me, guard, event, std::mem::take(&mut is_first)))
    }

    /// Tells the observer of this guard.
    fn tell_one(&self, me: Runner, guard: &Guard, event: &Event) -> Result<(), Forked> {
        self.observe(me, guard, event, true)
    }

    #[inline(never)]
    fn observe(
        &self,
        me: Runner,
        guard: &Guard,
        event: &Event,
        is_first: bool,
    ) -> Result<(), Forked> {
        if !guard.observer.listens() {
            return Ok(());
        }
        // One that has overrun its time is told no more.
        if guard.observing.load(SeqCst) > 0 && self.lock().has_overrun() {
            return Ok(());
        }
        guard.observing.fetch_add(1, SeqCst);
        let told = self.timed(guard, || {
            self.call_contained(me, guard, &mut || guard.observer.tell(event, is_first))
        });
        guard.observing.fetch_sub(1, SeqCst);
        told
    }

    /// The exit of this guard has begun: those who wait for it continue.
    pub(crate) fn release_waiters(&self, me: Runner, guard: &Guard) -> Result<(), Forked> {
        if !guard.waiters.may_be_any() {
            return Ok(());
        }
        #[cfg(unix)]
        guard.waiters.release_descriptors();
        self.timed(guard, || {
            while let Some(waker) = guard.waiters.next_waker() {
                let mut waker = Some(waker);
                self.call_contained(me, guard, &mut || waker.take().map_or((), Waker::wake))?;
            }
            Ok(())
        })
    }

    /// The guard that decides how the process ends, and whether any guard has the signal.
    #[cfg(unix)]
    pub(crate) fn guards_for(&self, signal: Signal) -> (Option<Arc<Guard>>, bool) {
        let state = self.lock();
        let has = |(_, entry): (usize, &Entry)| entry.all().contains(signal);
        (state.current(), state.guards.iter().any(has))
    }

    /// How the exit of a guard that has not left goes.
    pub(crate) fn ended(&self, guard: &Guard) -> Ended {
        self.lock().ended(guard.key())
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

    /// For the end of the process: what this guard has still to run.
    fn end_guard(
        &'static self,
        guard: &Arc<Guard>,
        me: Runner,
        cause: &Cause,
        patience: Option<Duration>,
    ) -> Result<bool, Forked> {
        let key = guard.key();
        let mut state = self.lock();
        state.admit_mail();
        let Some(callback) = state.guards.get(key).map(|entry| entry.callback) else {
            return Ok(false);
        };
        let is_mine = |runner: Runner| runner.id() == me.id();
        let tells = match callback {
            Stage::Armed if !state.is_pending(key) => Some(Tells::All),
            Stage::Turn(runner) if is_mine(runner) => Some(Tells::None),
            _ => None,
        };
        if tells.is_some() {
            state.take_turn(key, me, cause.clone());
        }
        drop(state);
        let payload = match (callback, tells) {
            (_, Some(tells)) => self.run_callback(guard, me, tells)?,
            (Stage::Disarmed, _) => return Ok(false),
            // Its own callback ends the process, or has overrun.
            (Stage::Running(runner), _) if is_mine(runner) => None,
            (Stage::Overrun, _) => None,
            _ => self.wait_done(guard, me, patience)?,
        };
        let failed = payload.is_some() || self.lock().ended(key).panicked;
        self.drop_payload(me, guard, payload)?;
        self.run_deferred(guard, me)?;
        Ok(failed)
    }
}

/// Whether that thread will never leave `exit(3)`, and this one is not to wait for the end of the process: it is
/// inside of it too, or runs user code that the end waits for.
fn is_stuck(runner: Runner) -> bool {
    (thread::is_exit_thread() || thread::is_inside_exit()) && runner.is_inside_exit()
}
