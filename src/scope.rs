//! One guarded scope: what the guard, its handles, the watcher and the exit hook share, and the
//! steps of an exit that more than one of them takes.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::deferred::Stack;
use crate::error::Error;
use crate::event::{Event, Observer};
use crate::phase::{Close, Closer, Machine, Noted, Thread, Waited};
use crate::policy::{OldHandler, Policy, Status};
use crate::signal::Signal;
use crate::sys::guarded::{self, Guarded};
use crate::sys::handler::{self, Busy};
use crate::sys::per_process::PerProcess;
use crate::sys::process::{self, Process};
use crate::sys::siginfo::Arrival;
use crate::sys::{exit_hook, forward, wake};
use crate::waiters::Waiters;

pub(crate) type Callback = Box<dyn FnOnce(&Cause) + Send>;
pub(crate) type Payload = Box<dyn Any + Send>;

/// The living guard's scope: one a process. Held locked while a guard is being made.
static LIVING: PerProcess<Mutex<Option<Arc<Scope>>>> = PerProcess::new();

pub(crate) fn living() -> Living {
    living_in(process::this())
}

/// As `living`, for the exit hook. `exit` may be called where it must not be, in a handler that
/// interrupted a thread with the lock in its hands: then it is given up after a while.
pub(crate) fn living_at_exit(patience: Duration) -> Option<Living> {
    let begun = Instant::now();
    loop {
        match LIVING.get().try_lock() {
            Ok(living) => return Some(living),
            Err(TryLockError::Poisoned(living)) => return Some(living.into_inner()),
            Err(TryLockError::WouldBlock) if begun.elapsed() > patience => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// As `living`, for a caller that knows the process already.
pub(crate) fn living_in(process: Process) -> Living {
    LIVING.get_in(process).lock().unwrap_or_else(PoisonError::into_inner)
}

type Living = MutexGuard<'static, Option<Arc<Scope>>>;

pub(crate) struct Scope {
    pub(crate) machine: Machine<Cause, Arrival>,
    pub(crate) waiters: Waiters,
    pub(crate) deferred: Stack,
    pub(crate) observer: Observer,
    pub(crate) policy: Policy,
    callback: Mutex<Option<Callback>>,
    active: Mutex<Active>,
    /// Whether every handler is in place: until then the watcher waits.
    installed: AtomicBool,
    /// Whether that will never be.
    abandoned: AtomicBool,
    /// The watcher, as the machine knows threads.
    pub(crate) watcher_thread: Noted,
    /// The process whose guard this is.
    process: AtomicU64,
    /// The thread that runs the callback, as `exit_hook` knows threads.
    pub(crate) callback_thread: AtomicI32,
}

/// What exists while a guard is active in a process.
#[derive(Default)]
pub(crate) struct Active {
    /// The signals that are really guarded: those that were not left ignored.
    pub(crate) guarded: Vec<Guarded>,
    pub(crate) watcher: Option<JoinHandle<()>>,
    /// Only with a `callback_timeout`.
    pub(crate) timer: Option<JoinHandle<()>>,
    /// Signals that are the exit's, in the order the watcher saw them.
    pub(crate) seen: Vec<Signal>,
    /// The first of them that had no handler of its own.
    pub(crate) ended_by: Option<Signal>,
}

impl Scope {
    /// A scope of this process, with nothing installed yet.
    pub(crate) fn new(
        policy: Policy,
        observer: Observer,
        callback: Callback,
        process: Process,
    ) -> Scope {
        Scope {
            machine: Machine::new(),
            waiters: Waiters::default(),
            deferred: Stack::default(),
            observer,
            policy,
            callback: Mutex::new(Some(callback)),
            active: Mutex::new(Active::default()),
            installed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            watcher_thread: Noted::default(),
            process: AtomicU64::new(process),
            callback_thread: AtomicI32::new(0),
        }
    }

    /// What began the exit, as far as this process is concerned.
    pub(crate) fn cause(&self) -> Option<Cause> {
        if self.is_here() { self.machine.cause() } else { None }
    }

    pub(crate) fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process is the one the guard was made, or made its own, in.
    pub(crate) fn is_here(&self) -> bool {
        self.process.load(SeqCst) == process::this()
    }

    pub(crate) fn is_installed(&self) -> bool {
        self.installed.load(SeqCst)
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(SeqCst)
    }

    /// Every handler is in place: the watcher may begin.
    pub(crate) fn set_installed(&self) {
        self.installed.store(true, SeqCst);
        wake::post();
    }

    /// Notes that this thread is the one that runs the callback, or will.
    pub(crate) fn callback_is_mine(&self) {
        self.callback_thread.store(exit_hook::thread(), SeqCst);
    }

    /// Makes the scope this process's, in a forked child. The locks may have been held, by threads
    /// that are not here, at the time of the fork: then it cannot be.
    pub(crate) fn move_here(&self) -> Result<(), Error> {
        let free = self.machine.is_free()
            && self.waiters.is_free()
            && self.deferred.is_free()
            && self.callback.try_lock().is_ok()
            && self.active.try_lock().is_ok();
        if !free {
            return Err(Error::system(
                "taking over a guard that another thread was using at the time of the fork",
                io::ErrorKind::WouldBlock.into(),
            ));
        }
        if self.machine.has_begun() {
            return Err(Error::Ended);
        }
        // Handles of threads that exist in the parent only: joining or detaching them here is
        // undefined.
        std::mem::forget(std::mem::take(&mut *self.active()));
        self.waiters.abandon();
        self.machine.reopen();
        self.installed.store(false, SeqCst);
        self.abandoned.store(false, SeqCst);
        self.watcher_thread.forget();
        self.process.store(process::this(), SeqCst);
        Ok(())
    }

    /// Undoes `move_here`: the scope is no process's of which anybody here is a thread.
    pub(crate) fn move_away(&self) {
        self.process.store(0, SeqCst);
    }

    pub(crate) fn take_arrived(&self, into: &mut Vec<Arrival>) {
        handler::take(self.active().guarded.iter().map(|one| one.signal), into);
    }

    /// Runs the callback, which this thread has claimed, and says so to everybody. Returns what it
    /// panicked with.
    pub(crate) fn run_callback(&self, cause: &Cause) -> Option<Payload> {
        self.waiters.release();
        self.observer.tell(|| Event::CallbackStarted(cause.clone()));
        let callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner).take();
        let began = self.observer.listens().then(Instant::now);
        let runs = handler::callback_runs();
        let result = catch_unwind(AssertUnwindSafe(|| {
            if let Some(callback) = callback {
                callback(cause);
            }
        }));
        drop(runs);
        let panicked = result.is_err();
        self.observer.tell(|| {
            let elapsed = began.map(|began| began.elapsed()).unwrap_or_default();
            if panicked {
                Event::CallbackPanicked { elapsed }
            } else {
                Event::CallbackFinished { elapsed }
            }
        });
        self.machine.finish(panicked);
        result.err()
    }

    /// Ends the scope, with `cause` if nothing has begun the exit before. Returns once the callback and
    /// what was deferred have run, and everything is as it was before the guard; or earlier, on a thread
    /// that all this is waiting for.
    pub(crate) fn close(&self, by: Closer, cause: Cause) -> Closed {
        let me = Thread::current();
        let by = if self.watcher_thread.is(me) { Closer::Inside } else { by };
        let mut closed = Closed::default();
        let claimed = self.machine.close(me, by, cause.clone(), |into| self.take_arrived(into));
        match claimed {
            Close::Inside => {
                // The watcher, which is to complete this, may be about to sleep.
                wake::post();
                return closed;
            }
            Close::Ending => return closed,
            Close::Doomed(_) => park_for_ever(),
            Close::Late => {
                self.wait_finished(me);
                return closed;
            }
            Close::Wait => {
                handler::busy(Busy::Closing);
                wake::post();
                self.wait_finished(me);
            }
            Close::Disarmed => closed.disarmed = true,
            Close::Run => {
                handler::busy(Busy::Closing);
                self.callback_is_mine();
                if self.policy.old_handler == OldHandler::OnSignal {
                    // There is nothing left for the watcher to do: it can go while we work.
                    wake::post();
                }
                closed.payload = self.run_callback(&cause);
            }
        }
        self.complete(me, &claimed);
        closed.here = true;
        closed
    }

    fn wait_finished(&self, me: Thread) {
        if let Waited::Doomed(_) = self.machine.wait_finished(me, None) {
            park_for_ever();
        }
    }

    /// The steps behind the callback, for the thread that closes the scope: old handlers, deferred
    /// functions, dispositions, threads, waiters, and at last the signals that came meanwhile.
    pub(crate) fn complete(&self, me: Thread, claimed: &Close) {
        let (guarded, mut watcher, timer) = {
            let mut active = self.active();
            (active.guarded.clone(), active.watcher.take(), active.timer.take())
        };
        // The watcher has old handlers to run; where it has none it is leaving meanwhile.
        if *claimed == Close::Wait || self.policy.old_handler == OldHandler::Always {
            self.join_watcher(me, watcher.take());
        }
        if *claimed == Close::Disarmed {
            self.deferred.clear();
        } else {
            self.deferred.drain(me);
        }
        let late = guarded::restore_all(&guarded);
        self.join_watcher(me, watcher);
        timer.into_iter().for_each(join);
        *living_in(self.process.load(SeqCst)) = None;
        self.machine.end();
        self.waiters.release();
        handler::release_abort();
        self.hand_over(late);
    }

    /// Stops the watcher and joins it, except on itself.
    fn join_watcher(&self, me: Thread, watcher: Option<JoinHandle<()>>) {
        let Some(watcher) = watcher else { return };
        wake::post();
        if !self.watcher_thread.is(me) {
            join(watcher);
        }
    }

    /// Hands signals that came while the scope was closing to the dispositions they have now.
    pub(crate) fn hand_over(&self, late: Vec<Arrival>) {
        for arrival in late {
            let seen = self.active().seen.contains(&arrival.signal);
            if seen && !Policy::repeat_forces(arrival.after_first) {
                self.observer.tell(|| Event::RepeatAbsorbed(arrival.signal));
            } else {
                forward::hand_over(arrival.signal, &arrival.info);
            }
        }
    }

    /// Drops the callback uncalled, with what it captured.
    pub(crate) fn drop_callback(&self) {
        let callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(callback);
    }

    /// Stops the threads of a scope that could not be installed.
    pub(crate) fn abandon(&self) {
        self.machine.end();
        self.abandoned.store(true, SeqCst);
        let (watcher, timer) = {
            let mut active = self.active();
            (active.watcher.take(), active.timer.take())
        };
        let me = Thread::current();
        self.join_watcher(me, watcher);
        timer.into_iter().for_each(join);
    }

    /// Notes a signal of default disposition: there is a grace, and an end after it. Whether it is the
    /// first.
    pub(crate) fn is_first_to_end(&self, signal: Signal) -> bool {
        let mut active = self.active();
        let is_first = active.ended_by.is_none();
        active.ended_by.get_or_insert(signal);
        is_first
    }

    /// The scope is closed: ends the process if the policy says so.
    pub(crate) fn end_after_scope(&self, failed: bool) {
        let ended_by = self.active().ended_by;
        if let Some(status) = self.policy.status_after_scope(ended_by) {
            self.end_process(if failed { Status::Failed } else { status });
        }
    }

    /// Ends the process, with everything behind the callback done.
    pub(crate) fn end_process(&self, status: Status) -> ! {
        self.observer.tell(|| Event::ending(status));
        if !matches!(status, Status::Signal(_)) && handler::a_thread_aborts() {
            // That thread waits on its alternate stack, which `process::exit` may unmap.
            forward::exit_now(status.code());
        }
        self.leave_alternate_stack();
        status.end()
    }

    /// See `guarded::leave_alternate_stack`.
    pub(crate) fn leave_alternate_stack(&self) {
        let guarded = self.active().guarded.clone();
        guarded::leave_alternate_stack(&guarded);
    }

    /// Ends the process from outside the scope, after the deferred functions. Returns only if the
    /// scope has begun to end by itself.
    pub(crate) fn force(&self, me: Thread, status: Status) {
        if self.machine.force(me, status) {
            self.deferred.drain(me);
            self.end_process(status);
        }
    }
}

/// How a scope was closed.
#[derive(Default)]
pub(crate) struct Closed {
    /// What the callback panicked with, if this thread ran it.
    pub(crate) payload: Option<Payload>,
    /// Whether the callback will never run.
    pub(crate) disarmed: bool,
    /// Whether this call closed it, and not an earlier one, nor one that has still to come.
    pub(crate) here: bool,
}

/// The threads of a guard contain every panic of a user's, so there is none to look at.
fn join(thread: JoinHandle<()>) {
    let _ = thread.join();
}

/// Another thread is ending the process.
pub(crate) fn park_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}
