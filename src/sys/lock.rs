//! A mutex, and waiting with it. No user code runs under one, so what a panic leaves behind means nothing.

#[cfg(handle_exit_loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
#[cfg(not(handle_exit_loom))]
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

#[cfg(handle_exit_loom)]
use super::models;

#[derive(Debug)]
pub(crate) struct Lock<T>(Mutex<T>);

/// The lock in hand. Giving it back is out of line, as that is done all over the place.
pub(crate) struct Locked<'a, T>(ManuallyDrop<MutexGuard<'a, T>>);

impl<'a, T> Locked<'a, T> {
    fn new(guard: Result<MutexGuard<'a, T>, PoisonError<MutexGuard<'a, T>>>) -> Locked<'a, T> {
        Locked(ManuallyDrop::new(guard.unwrap_or_else(PoisonError::into_inner)))
    }

    fn into_inner(self) -> MutexGuard<'a, T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: nobody uses `this` from here on, and it is not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Locked<'_, T> {
    #[inline(never)]
    fn drop(&mut self) {
        // SAFETY: nobody uses the guard after this, and `into_inner`, which takes it, does not come here.
        unsafe { ManuallyDrop::drop(&mut self.0) }
    }
}

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
        Locked::new(self.0.lock())
    }

    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
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
        #[cfg(handle_exit_loom)]
        let locked = models::unless_over(locked);
        // loom knows no time.
        let deadline = deadline.filter(|_| !cfg!(handle_exit_loom));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return (locked, false);
        }
        self.waiting.fetch_add(1, SeqCst);
        let locked = match left {
            None => Locked::new(self.condvar.wait(locked.into_inner())),
            Some(left) => {
                let waited = self.condvar.wait_timeout(locked.into_inner(), left);
                Locked::new(Ok(waited.unwrap_or_else(PoisonError::into_inner).0))
            }
        };
        self.waiting.fetch_sub(1, SeqCst);
        #[cfg(handle_exit_loom)]
        let locked = models::unless_over(locked);
        (locked, true)
    }

    /// Wakes all that wait. Call it with the lock held.
    pub(crate) fn notify_all(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.condvar.notify_all();
        }
    }
}

/// How long a thread has waited.
pub(crate) fn waited(since: Instant) -> Duration {
    #[cfg(handle_exit_loom)]
    return models::waited();
    #[cfg(not(handle_exit_loom))]
    since.elapsed()
}

/// Waits forever: the process ends elsewhere.
pub(crate) fn park() -> ! {
    #[cfg(handle_exit_loom)]
    models::park();
    #[cfg(not(handle_exit_loom))]
    loop {
        std::thread::park();
    }
}
