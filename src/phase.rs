//! The exactly-once machine: who runs the callback, and who ends the scope.
//!
//! It makes no call to the operating system and knows no signal, so a model checker can try every
//! interleaving (see `models`). Two facts are kept under one lock:
//!
//! ```text
//! callback   Armed ──claim──> Running(thread) ──> Finished
//!              │ └──begin──> Begun ──watcher──┘ └──exit──> Exiting
//!              └────disarm──> Disarmed
//!
//! scope      Open ──> Closing(by) ──> Ended
//!              └──> Forced <──┘
//! ```
//!
//! * A thread claims before it runs, so the callback runs once. `Begun` is a claim on the watcher's
//!   behalf: the exit has a cause, and the watcher is about to run the callback.
//! * Whoever finds it claimed waits for `Finished`, except on the thread that runs the callback,
//!   where waiting for oneself would never end.
//! * The scope is closed by one thread and forced by one thread; who comes second waits for the
//!   first. `Forced` after `Closing` is for a callback that failed: its process must not go on.
//! * A panic in the callback is caught by whoever runs it and lands in `Finished`, so nobody waits
//!   for ever.
//!
//! The lock is never held while code of a user runs, so a poisoned lock means nothing here.

#[cfg(handle_exit_loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(handle_exit_loom))]
use std::sync::{Condvar, Mutex, MutexGuard};

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::policy::Status;

/// A thread, as the machine tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thread(usize);

impl Thread {
    /// The calling thread. Works where `std::thread::current` does not: in exit functions, after
    /// the thread's destructors have run.
    pub(crate) fn current() -> Thread {
        // One byte per thread without a destructor: its address is the thread's name while it lives.
        thread_local!(static MARK: u8 = const { 0 });
        MARK.with(|mark| Thread(std::ptr::from_ref(mark) as usize))
    }
}

/// Where one thread is noted. Without a lock: see `Watcher::run`.
#[derive(Debug, Default)]
pub(crate) struct Noted(AtomicUsize);

impl Noted {
    pub(crate) fn set(&self, thread: Thread) {
        self.0.store(thread.0, Ordering::SeqCst);
    }

    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    pub(crate) fn is(&self, thread: Thread) -> bool {
        self.0.load(Ordering::SeqCst) == thread.0
    }
}

/// Who closes a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closer {
    Drop,
    Finish,
    Disarm,
    ProcessExit,
    /// From inside the callback, or elsewhere on the watcher: whoever runs the callback finishes the
    /// closing after it.
    Inside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callback {
    Armed,
    Begun,
    Running(Thread),
    Finished {
        panicked: bool,
    },
    /// It called `process::exit`, and never returns.
    Exiting(Thread),
    Disarmed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Open,
    Closing(Closer),
    Forced(Thread, Status),
    Ended,
}

/// What the watcher is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watch<C> {
    /// Nothing has begun: sleep on.
    Idle,
    /// The watcher has claimed the callback: run it with this cause, then call [`Machine::finish`].
    Run(C),
    /// Another thread runs the callback, or ran it, or nobody will.
    Elsewhere,
}

/// What the thread that closes the scope is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// It has claimed the callback: run it, then call [`Machine::finish`].
    Run,
    /// The callback is, or was, another thread's: wait for it with [`Machine::wait_finished`].
    Wait,
    /// The callback will never run.
    Disarmed,
    /// This thread is inside the callback: leave, the closing happens after it.
    Inside,
    /// Another thread closes the scope, or has closed it: wait for the callback, do nothing else.
    Late,
    /// The process is being ended by another thread, this way: never return.
    Doomed(Status),
    /// The process is being ended by this thread: do nothing.
    Ending,
}

/// How a wait for the callback ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Finished {
        panicked: bool,
    },
    /// This thread runs the callback itself.
    Inside,
    /// The process is being ended by another thread, this way.
    Doomed(Status),
    TimedOut,
}

/// What the scope looks like after the callback, to the watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Open,
    Closing(Closer),
    /// Another thread ends the process, or the scope is over.
    Over,
}

/// `C` is the cause of an exit, `A` a signal that arrived.
#[derive(Debug)]
pub(crate) struct Machine<C, A> {
    inner: Mutex<Inner<C, A>>,
    changed: Condvar,
    /// For threads that wait for the exit to begin. There may be many: each wakes the next, so that
    /// they do not all compete with the callback.
    has_cause: Condvar,
    /// Whether there is a cause: for a look without the lock, which a forked child may never get.
    begun: AtomicBool,
}

#[derive(Debug)]
struct Inner<C, A> {
    callback: Callback,
    scope: Scope,
    cause: Option<C>,
    /// Signals taken from the handler and not yet seen by the watcher.
    arrived: Vec<A>,
    /// Threads in `changed`, so that nobody is notified in vain: that would be a system call.
    waiting: usize,
    /// Threads in `has_cause`.
    waiting_for_cause: usize,
}

/// A signal that arrived can be the cause of an exit.
pub(crate) trait Arrives<C> {
    fn cause(&self) -> C;
}

#[cfg(not(all(handle_exit_loom, test)))]
fn left_until(deadline: Instant) -> std::time::Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(all(handle_exit_loom, test))]
use models::left_until;

/// Waits on `condition`, at most until `deadline`; false once that has passed.
fn wait_on<'a, T>(
    condition: &Condvar,
    inner: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> (MutexGuard<'a, T>, bool) {
    let Some(deadline) = deadline else {
        return (condition.wait(inner).unwrap_or_else(PoisonError::into_inner), true);
    };
    let left = left_until(deadline);
    if left.is_zero() {
        return (inner, false);
    }
    let (inner, _) = condition.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner);
    (inner, true)
}

impl<C: Clone, A: Arrives<C>> Machine<C, A> {
    pub(crate) fn new() -> Machine<C, A> {
        Machine {
            inner: Mutex::new(Inner {
                callback: Callback::Armed,
                scope: Scope::Open,
                cause: None,
                // Now, and not when the first signal comes.
                arrived: Vec::with_capacity(2),
                waiting: 0,
                waiting_for_cause: 0,
            }),
            changed: Condvar::new(),
            has_cause: Condvar::new(),
            begun: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C, A>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
    pub(crate) fn is_free(&self) -> bool {
        self.inner.try_lock().is_ok()
    }

    /// Waits for the next change, at most until `deadline`; false once that has passed.
    fn wait_until<'a>(
        &self,
        mut inner: MutexGuard<'a, Inner<C, A>>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, Inner<C, A>>, bool) {
        inner.waiting += 1;
        let (mut inner, in_time) = wait_on(&self.changed, inner, deadline);
        inner.waiting -= 1;
        (inner, in_time)
    }

    /// Call after every change, with the lock held.
    fn notify(&self, inner: &Inner<C, A>) {
        if inner.cause.is_some() {
            self.begun.store(true, Ordering::SeqCst);
            if inner.waiting_for_cause > 0 {
                self.has_cause.notify_one();
            }
        }
        if inner.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Begins the exit from code; the watcher runs the callback. False if it had begun already.
    pub(crate) fn request(&self, cause: C) -> bool {
        let mut inner = self.lock();
        let begins = inner.callback == Callback::Armed && inner.scope == Scope::Open;
        if begins {
            inner.callback = Callback::Begun;
            inner.cause = Some(cause);
            self.notify(&inner);
        }
        begins
    }

    /// The watcher woke up: `take` moves the signals that came out of the handler's hands.
    pub(crate) fn watch(&self, me: Thread, take: impl FnOnce(&mut Vec<A>)) -> Watch<C> {
        let mut inner = self.lock();
        match inner.callback {
            // Closing with the callback still armed does not happen: closing claims, begins or
            // disarms it under the same lock.
            Callback::Armed => {
                take(&mut inner.arrived);
                inner.cause = inner.arrived.first().map(Arrives::cause);
            }
            Callback::Begun => {}
            Callback::Running(_)
            | Callback::Exiting(_)
            | Callback::Finished { .. }
            | Callback::Disarmed => {
                return Watch::Elsewhere;
            }
        }
        let Some(cause) = inner.cause.clone() else { return Watch::Idle };
        inner.callback = Callback::Running(me);
        self.notify(&inner);
        Watch::Run(cause)
    }

    /// The scope ends. `cause` is what began the exit if nothing else has; `take` as in
    /// [`watch`](Machine::watch): a signal that came before the scope ended is the exit's, one that
    /// comes later is not.
    pub(crate) fn close(
        &self,
        me: Thread,
        by: Closer,
        cause: C,
        take: impl FnOnce(&mut Vec<A>),
    ) -> Close {
        let mut inner = self.lock();
        if by == Closer::ProcessExit && inner.callback == Callback::Running(me) {
            inner.callback = Callback::Exiting(me);
        }
        match inner.scope {
            Scope::Open => {}
            Scope::Forced(thread, _) if thread == me => return Close::Ending,
            Scope::Forced(_, status) => return Close::Doomed(status),
            Scope::Closing(_) | Scope::Ended => return Close::Late,
        }
        inner.scope = Scope::Closing(by);
        if by == Closer::Inside {
            return Close::Inside;
        }
        take(&mut inner.arrived);
        let close = match inner.callback {
            Callback::Armed => match inner.arrived.first().map(Arrives::cause) {
                Some(signal) => {
                    inner.cause = Some(signal);
                    inner.callback = Callback::Begun;
                    Close::Wait
                }
                None if by == Closer::Disarm => {
                    inner.cause = Some(cause);
                    inner.callback = Callback::Disarmed;
                    Close::Disarmed
                }
                None => {
                    inner.cause = Some(cause);
                    inner.callback = Callback::Running(me);
                    Close::Run
                }
            },
            // Only just now, by this very call.
            Callback::Exiting(_) => Close::Inside,
            Callback::Begun
            | Callback::Running(_)
            | Callback::Finished { .. }
            | Callback::Disarmed => Close::Wait,
        };
        self.notify(&inner);
        close
    }

    /// The thread that claimed the callback has run it.
    pub(crate) fn finish(&self, panicked: bool) {
        let mut inner = self.lock();
        inner.callback = Callback::Finished { panicked };
        self.notify(&inner);
    }

    /// What the watcher finds after the callback. Signals that came while the scope is open are the
    /// exit's; `take` is not asked for later ones. What has arrived is moved into `arrived`.
    pub(crate) fn after(&self, arrived: &mut Vec<A>, take: impl FnOnce(&mut Vec<A>)) -> After {
        let mut inner = self.lock();
        let after = match inner.scope {
            Scope::Open => {
                take(&mut inner.arrived);
                After::Open
            }
            Scope::Closing(by) => After::Closing(by),
            Scope::Forced(..) | Scope::Ended => After::Over,
        };
        arrived.append(&mut inner.arrived);
        after
    }

    /// This thread is going to end the process. False if the scope has begun to end by itself
    /// (unless the callback failed: after that nothing may go on), or is over.
    pub(crate) fn force(&self, me: Thread, status: Status) -> bool {
        let mut inner = self.lock();
        let may = match inner.scope {
            Scope::Open => true,
            // `finish` reports the failure, and the exit hook ends with 101, on their own threads.
            Scope::Closing(Closer::Finish | Closer::ProcessExit) => false,
            Scope::Closing(_) => status == Status::Failed,
            Scope::Forced(..) | Scope::Ended => false,
        };
        if may {
            inner.scope = Scope::Forced(me, status);
            self.notify(&inner);
        }
        may
    }

    /// The callback has overrun its time: this thread is going to end the process, whoever waits
    /// for the callback. `None` if it has finished after all, or another thread ends the process;
    /// else whether a thread is inside `process::exit`.
    pub(crate) fn force_overrun(&self, me: Thread, status: Status) -> Option<bool> {
        let mut inner = self.lock();
        let exiting = match (inner.callback, inner.scope) {
            (Callback::Running(_), Scope::Open) => false,
            (Callback::Running(_), Scope::Closing(by)) => by == Closer::ProcessExit,
            _ => return None,
        };
        inner.scope = Scope::Forced(me, status);
        self.notify(&inner);
        Some(exiting)
    }

    /// The scope is over: whoever still waits is released.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        inner.scope = Scope::Ended;
        self.notify(&inner);
    }

    /// Makes a scope that was given up before the exit began usable again.
    pub(crate) fn reopen(&self) {
        self.lock().scope = Scope::Open;
    }

    /// Waits until the callback has run, at most until `deadline`.
    pub(crate) fn wait_finished(&self, me: Thread, deadline: Option<Instant>) -> Waited {
        let mut inner = self.lock();
        loop {
            match (inner.callback, inner.scope) {
                (Callback::Finished { panicked }, _) => return Waited::Finished { panicked },
                (Callback::Disarmed, _) | (_, Scope::Ended) => {
                    return Waited::Finished { panicked: false };
                }
                (Callback::Running(thread) | Callback::Exiting(thread), _) if thread == me => {
                    return Waited::Inside;
                }
                // By another thread: whoever ends the process waits for nothing.
                (_, Scope::Forced(_, status)) => return Waited::Doomed(status),
                (
                    Callback::Armed | Callback::Begun | Callback::Running(_) | Callback::Exiting(_),
                    _,
                ) => {}
            }
            let (next, in_time) = self.wait_until(inner, deadline);
            inner = next;
            if !in_time {
                return Waited::TimedOut;
            }
        }
    }

    /// Waits until the callback has run, for a thread of the guard's; whether the guard itself (not
    /// `process::exit`, and not a disarmed one) closes the scope.
    pub(crate) fn wait_closed_by_guard(&self, me: Thread) -> bool {
        let waited = self.wait_finished(me, None);
        let inner = self.lock();
        matches!(waited, Waited::Finished { .. })
            && inner.callback != Callback::Disarmed
            && matches!(inner.scope, Scope::Closing(by) if by != Closer::ProcessExit)
    }

    /// Waits until the callback runs; false if it never will.
    pub(crate) fn wait_running(&self) -> bool {
        let mut inner = self.lock();
        loop {
            match inner.callback {
                Callback::Running(_) | Callback::Exiting(_) => return true,
                Callback::Finished { .. } | Callback::Disarmed => return false,
                Callback::Armed | Callback::Begun if inner.scope == Scope::Ended => return false,
                Callback::Armed | Callback::Begun => inner = self.wait_until(inner, None).0,
            }
        }
    }

    /// Waits until the exit begins, at most until `deadline`.
    pub(crate) fn wait_begun(&self, deadline: Option<Instant>) -> Option<C> {
        let mut inner = self.lock();
        let mut in_time = true;
        while inner.cause.is_none() && in_time {
            inner.waiting_for_cause += 1;
            (inner, in_time) = wait_on(&self.has_cause, inner, deadline);
            inner.waiting_for_cause -= 1;
        }
        // Also passes on a wake-up that came together with the deadline.
        self.notify(&inner);
        inner.cause.clone()
    }

    /// What began the exit, if it has begun.
    pub(crate) fn cause(&self) -> Option<C> {
        self.lock().cause.clone()
    }

    /// Whether the exit has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Whether the callback panicked.
    pub(crate) fn panicked(&self) -> bool {
        self.lock().callback == Callback::Finished { panicked: true }
    }

    /// Lets `look` see the signals that came and that the watcher has not dealt with yet.
    pub(crate) fn with_arrived(&self, look: impl FnOnce(&mut [A])) {
        look(&mut self.lock().arrived);
    }
}

#[cfg(all(handle_exit_loom, test))]
pub(crate) mod models;
