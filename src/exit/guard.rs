//! A guard: one scope's part in the exit of its process.

use std::any::Any;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::cause::Cause;
use crate::deferred::Functions;
#[cfg(unix)]
use crate::error::Error;
use crate::event::Observer;
use crate::settings::Settings;
use crate::signal::{Received, Signal};
use crate::sys::lock::{Condition, Lock};
use crate::sys::thread::UserMask;
use crate::waiters::Waiters;

pub(crate) type Callback = Box<dyn FnOnce(&Cause) + Send>;
pub(crate) type OnSignal = Box<dyn Fn(&Received) + Send + Sync>;
pub(crate) type Payload = Box<dyn Any + Send>;

/// One scope's part in the exit.
pub(crate) struct Guard {
    pub(crate) settings: Settings,
    callback: Lock<Option<Callback>>,
    pub(crate) on: Vec<(Signal, OnSignal)>,
    pub(super) observer: Observer,
    /// How many threads are in its observer.
    pub(super) observing: AtomicUsize,
    pub(crate) deferred: Functions,
    pub(crate) waiters: Waiters,
    /// Of the thread that made the guard.
    pub(super) mask: UserMask,
    /// The process whose guard it is, once that has it: of a forked child only after `rearm`.
    pub(crate) process: AtomicUsize,
    /// Under which key the state has it: the newest guard has the largest; 0 while it has not.
    pub(super) key: AtomicUsize,
    /// Written once, under the lock of the exit; read without.
    cause: OnceLock<Cause>,
    /// For threads that wait for `cause`, with the lock of the exit. One for each guard, so that the waiters of one
    /// do not wake those of all others.
    pub(super) has_cause: Condition,
}

impl Guard {
    pub(crate) fn new(
        settings: Settings,
        callback: Callback,
        on: Vec<(Signal, OnSignal)>,
        observer: Observer,
    ) -> Guard {
        Guard {
            settings,
            callback: Lock::new(Some(callback)),
            on,
            observer,
            observing: AtomicUsize::new(0),
            deferred: Functions::default(),
            waiters: Waiters::default(),
            mask: UserMask::current(),
            process: AtomicUsize::new(0),
            key: AtomicUsize::new(0),
            cause: OnceLock::new(),
            has_cause: Condition::default(),
        }
    }

    /// In a forked child that makes it its own: those who wait, and those who run a function, are the parent's.
    /// Under the lock of the exit.
    #[cfg(unix)]
    pub(crate) fn abandon_parents(&self) -> Result<(), Error> {
        let is_free = self.callback.is_free() && self.deferred.is_free() && self.waiters.is_free();
        if !is_free {
            let reason = "another thread was using this guard at the time of the fork";
            return Err(Error::Busy { signal: None, reason });
        }
        if self.cause().is_some() {
            return Err(Error::Ended);
        }
        self.waiters.abandon();
        self.deferred.give_up();
        self.observing.store(0, SeqCst);
        Ok(())
    }

    /// What began its exit, if it has begun. Takes no lock.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.get()
    }

    pub(crate) fn key(&self) -> usize {
        self.key.load(SeqCst)
    }

    /// The exit begins, if it has not. Under the lock of the exit.
    pub(super) fn begin(&self, cause: Cause) -> bool {
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
    pub(super) fn is_watched(&self) -> bool {
        self.observer.listens() || self.waiters.may_be_any()
    }
}
