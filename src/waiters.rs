//! Those who wait for the exit of a guard to begin without blocking: futures, and descriptors for poll.

#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Poll, Waker};

use crate::stack::Stack;
use crate::sys::lock::{Lock, Locked};
#[cfg(unix)]
use crate::sys::readable::{self, Far};

/// None is missed: a waiter is added under the lock, after a look at whether the exit has begun, and
/// those who release look after it has begun, under the same lock.
#[derive(Default)]
pub(crate) struct Waiters {
    inner: Lock<Inner>,
    /// Whether there may be any. Set before a waiter looks whether the exit has begun, and read
    /// after it has: so that the usual exit, with none, does not pay for them.
    any: AtomicBool,
}

#[derive(Default)]
struct Inner {
    wakers: Stack<Waker>,
    /// The far ends of the descriptors that were handed out.
    #[cfg(unix)]
    descriptors: Vec<Far>,
}

impl Waiters {
    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
    #[cfg(unix)]
    pub(crate) fn is_free(&self) -> bool {
        self.inner.is_free()
    }

    /// Takes the lock for somebody who is going to wait.
    fn lock_to_wait(&self) -> Locked<'_, Inner> {
        let inner = self.inner.lock();
        self.any.store(true, SeqCst);
        inner
    }

    /// Ready if the exit has begun; else `waker` is kept under `key` (a new one if there is none yet).
    pub(crate) fn poll(
        &self,
        key: &mut Option<usize>,
        waker: &Waker,
        has_begun: &dyn Fn() -> bool,
    ) -> Poll<()> {
        // A waker's clone, and its destructor, are user code: not under the lock.
        let mut waker = waker.clone();
        let mut inner = self.lock_to_wait();
        if has_begun() {
            drop(inner);
            return Poll::Ready(());
        }
        match key.and_then(|key| inner.wakers.get_mut(key)) {
            Some(known) => std::mem::swap(known, &mut waker),
            None => {
                *key = Some(inner.wakers.push(waker));
                return Poll::Pending;
            }
        }
        drop(inner);
        Poll::Pending
    }

    /// The future with this key is gone.
    pub(crate) fn forget(&self, key: usize) {
        let waker = self.inner.lock().wakers.remove(key);
        drop(waker);
    }

    /// A descriptor that becomes readable once the exit begins.
    #[cfg(unix)]
    pub(crate) fn descriptor(&self, has_begun: &dyn Fn() -> bool) -> io::Result<OwnedFd> {
        let (near, far) = readable::pair()?;
        let mut inner = self.lock_to_wait();
        // Those whose other end was closed: nobody waits there any more.
        inner.descriptors.retain_mut(Far::is_open);
        if has_begun() {
            drop(inner);
            far.make_readable();
        } else {
            inner.descriptors.push(far);
        }
        Ok(near)
    }

    /// In a forked child: those who wait here wait for the parent's exit. Their descriptors are
    /// closed without a word; their wakers are the parent's, and may not even be dropped.
    #[cfg(unix)]
    pub(crate) fn abandon(&self) {
        let mut inner = self.inner.lock();
        std::mem::take(&mut inner.descriptors).into_iter().for_each(Far::abandon);
        std::iter::from_fn(|| inner.wakers.pop()).for_each(std::mem::forget);
    }

    /// Once the exit has begun: whether there is somebody to release.
    pub(crate) fn may_be_any(&self) -> bool {
        self.any.load(SeqCst)
    }

    /// The exit has begun: a waker that is to be woken.
    pub(crate) fn next_waker(&self) -> Option<Waker> {
        self.inner.lock().wakers.pop()
    }

    /// The exit has begun: makes all descriptors readable.
    #[cfg(unix)]
    pub(crate) fn release_descriptors(&self) {
        let descriptors = std::mem::take(&mut self.inner.lock().descriptors);
        descriptors.into_iter().for_each(Far::make_readable);
    }
}
