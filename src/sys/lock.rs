//! A mutex, and waiting with it. No code of a user's runs under one, so what a panic leaves behind means
//! nothing; taking and giving back are out of line, as they are all over the place.

#[cfg(handle_exit_loom)]
use loom::sync::{Mutex, MutexGuard};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
#[cfg(not(handle_exit_loom))]
use std::sync::{Mutex, MutexGuard};
use std::sync::{PoisonError, TryLockError};
use std::time::Instant;

#[cfg(handle_exit_loom)]
pub(crate) use loom::sync::Condvar;
#[cfg(not(handle_exit_loom))]
pub(crate) use std::sync::Condvar;

#[derive(Debug)]
pub(crate) struct Lock<T>(Mutex<T>);

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
        Locked::new(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As `lock`, unless a thread has it now. In a forked child that thread may not be there to give it back.
    pub(crate) fn try_lock(&self) -> Option<Locked<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(Locked::new(guard)),
            Err(TryLockError::Poisoned(poisoned)) => Some(Locked::new(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn is_free(&self) -> bool {
        self.try_lock().is_some()
    }
}

/// The lock in hand.
pub(crate) struct Locked<'a, T>(ManuallyDrop<MutexGuard<'a, T>>);

impl<'a, T> Locked<'a, T> {
    fn new(guard: MutexGuard<'a, T>) -> Locked<'a, T> {
        Locked(ManuallyDrop::new(guard))
    }

    /// Waits on `condition`, at most until `deadline`; false once that has passed.
    pub(crate) fn wait(self, condition: &Condvar, deadline: Option<Instant>) -> (Self, bool) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: nobody uses `this` from here on, and it is not dropped.
        let guard = unsafe { ManuallyDrop::take(&mut this.0) };
        let Some(deadline) = deadline else {
            let guard = condition.wait(guard).unwrap_or_else(PoisonError::into_inner);
            return (Locked::new(guard), true);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return (Locked::new(guard), false);
        }
        let waited = condition.wait_timeout(guard, left);
        let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (Locked::new(guard), true)
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
        // SAFETY: nobody uses the guard after this, and `wait`, which takes it, does not come here.
        unsafe { ManuallyDrop::drop(&mut self.0) }
    }
}
