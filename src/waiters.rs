//! Who waits for the exit of a guard to begin without blocking: futures, and descriptors for poll.

#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Poll, Waker};

use crate::deferred::contain;
use crate::stack::Stack;
use crate::sys::lock::{Lock, Locked};
#[cfg(unix)]
use crate::sys::readable::{self, Far};

/// None is missed: a waiter is added under the lock, after a look at whether the exit has begun, and
/// `release` is called after it has begun and takes the same lock.
#[derive(Default)]
pub(crate) struct Waiters {
    inner: Lock<Inner>,
    /// Whether there may be any. Set before a waiter looks whether the exit has begun, and read
    /// after it has: so that the usual exit, with none, does not pay for them.
    any: AtomicBool,
}

#[derive(Default)]
struct Inner {
    /// What the first waiter brings along: a program that has none has no code for it.
    release_all: Option<fn(&Waiters)>,
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
    fn wait(&self) -> Locked<'_, Inner> {
        let mut inner = self.inner.lock();
        inner.release_all = Some(Waiters::release_all);
        self.any.store(true, SeqCst);
        inner
    }

    /// Ready if the exit has begun; else `waker` is kept under `key` (a new one if there is none yet).
    pub(crate) fn poll(
        &self,
        key: &mut Option<usize>,
        waker: &Waker,
        has_begun: impl FnOnce() -> bool,
    ) -> Poll<()> {
        let mut inner = self.wait();
        if has_begun() {
            return Poll::Ready(());
        }
        let replaced = match key.and_then(|key| inner.wakers.get_mut(key)) {
            Some(known) if known.will_wake(waker) => None,
            Some(known) => Some(std::mem::replace(known, waker.clone())),
            None => {
                *key = Some(inner.wakers.push(waker.clone()));
                None
            }
        };
        drop(inner);
        drop(replaced);
        Poll::Pending
    }

    /// The future with this key is gone.
    pub(crate) fn forget(&self, key: usize) {
        let waker = self.inner.lock().wakers.remove(key);
        drop(waker);
    }

    /// A descriptor that becomes readable once the exit begins.
    #[cfg(unix)]
    pub(crate) fn descriptor(&self, has_begun: impl FnOnce() -> bool) -> io::Result<OwnedFd> {
        let (near, far) = readable::pair()?;
        let mut inner = self.wait();
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
        inner.descriptors.clear();
        std::mem::forget(std::mem::take(&mut inner.wakers));
    }

    /// Once the exit has begun: whether there is somebody to release.
    pub(crate) fn may_be_any(&self) -> bool {
        self.any.load(SeqCst)
    }

    /// The exit has begun: everybody goes on.
    pub(crate) fn release(&self) {
        if self.may_be_any() {
            let release_all = self.inner.lock().release_all;
            if let Some(release_all) = release_all {
                release_all(self);
            }
        }
    }

    fn release_all(&self) {
        loop {
            let waker = self.inner.lock().wakers.pop();
            let Some(waker) = waker else { break };
            // A waker is the executor's code; its panic must not stop the exit.
            contain(|| waker.wake());
        }
        #[cfg(unix)]
        {
            let descriptors = std::mem::take(&mut self.inner.lock().descriptors);
            descriptors.into_iter().for_each(Far::make_readable);
        }
    }
}
