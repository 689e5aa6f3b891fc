//! A mutex, and waiting with it. No user code runs under one, so what a panic leaves behind means nothing.

#[cfg(handle_exit_loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
#[cfg(not(handle_exit_loom))]
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Lock<T>(Mutex<T>);

/// The lock in hand.
pub(crate) type Locked<'a, T> = MutexGuard<'a, T>;

impl<T: Default> Default for Lock<T> {
    fn default() -> Lock<T> {
        Lock::new(T::default())
    }
}

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Lock<T> {
        Lock(Mutex::new(value))
    }

    #[inline(never)]
    pub(crate) fn lock(&self) -> Locked<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
    #[cfg(unix)]
    pub(crate) fn is_free(&self) -> bool {
        !matches!(self.0.try_lock(), Err(std::sync::TryLockError::WouldBlock))
    }
}

/// Something that threads wait for, with one lock.
#[derive(Debug)]
pub(crate) struct Condition {
    condvar: Condvar,
    /// Threads that wait. Changed with the lock held, and read so: nobody is notified in vain, for that would be a
    /// system call.
    waiting: AtomicUsize,
}

impl Default for Condition {
    fn default() -> Condition {
        Condition { condvar: Condvar::new(), waiting: AtomicUsize::new(0) }
    }
}

impl Condition {
    /// Waits, at most until `deadline`. May return early; false once the deadline has passed.
    #[inline(never)]
    pub(crate) fn wait<'a, T>(
        &self,
        locked: Locked<'a, T>,
        deadline: Option<Instant>,
    ) -> (Locked<'a, T>, bool) {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return (locked, false);
        }
        self.waiting.fetch_add(1, SeqCst);
        let locked = match left {
            None => self.condvar.wait(locked).unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                let waited = self.condvar.wait_timeout(locked, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        self.waiting.fetch_sub(1, SeqCst);
        (locked, true)
    }

    /// Wakes all that wait. Call it with the lock held.
    pub(crate) fn notify_all(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.condvar.notify_all();
        }
    }
}
