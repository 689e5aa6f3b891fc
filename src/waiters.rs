//! Who waits for the exit to begin without blocking: futures, and descriptors for poll.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The waiting futures and descriptors of one guard.
///
/// None is missed: a waiter is added under the lock, after a look at whether the exit has begun, and
/// `release` is called after it has begun and takes the same lock.
#[derive(Default)]
pub(crate) struct Waiters {
    inner: Mutex<Inner>,
    /// Whether there may be any. Set before a waiter looks whether the exit has begun, and read
    /// after it has: so that the usual exit, with none, does not pay for them.
    any: AtomicBool,
}

#[derive(Default)]
struct Inner {
    wakers: BTreeMap<u64, Waker>,
    next: u64,
    /// The far ends of the descriptors that were handed out.
    descriptors: Vec<UnixStream>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
    pub(crate) fn is_free(&self) -> bool {
        self.inner.try_lock().is_ok()
    }

    /// The cause, or `None` after `waker` was kept under `key` (a new one if there is none yet).
    pub(crate) fn poll<C>(
        &self,
        key: &mut Option<u64>,
        waker: &Waker,
        cause: impl FnOnce() -> Option<C>,
    ) -> Option<C> {
        let mut inner = self.lock();
        self.any.store(true, SeqCst);
        if let Some(cause) = cause() {
            return Some(cause);
        }
        let key = *key.get_or_insert_with(|| {
            inner.next += 1;
            inner.next
        });
        let replaced = match inner.wakers.get_mut(&key) {
            Some(known) if known.will_wake(waker) => None,
            _ => inner.wakers.insert(key, waker.clone()),
        };
        drop(inner);
        drop(replaced);
        None
    }

    /// The future with this key is gone.
    pub(crate) fn forget(&self, key: u64) {
        let waker = self.lock().wakers.remove(&key);
        drop(waker);
    }

    /// A descriptor that becomes readable once the exit begins.
    pub(crate) fn descriptor(&self, has_begun: impl FnOnce() -> bool) -> io::Result<OwnedFd> {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let mut inner = self.lock();
        self.any.store(true, SeqCst);
        // Those whose other end was closed: nobody waits there any more.
        inner.descriptors.retain_mut(is_open);
        if has_begun() {
            drop(inner);
            make_readable(far);
        } else {
            inner.descriptors.push(far);
        }
        Ok(near.into())
    }

    /// In a forked child: those who wait here wait for the parent's exit. Their descriptors are
    /// closed without a word; their wakers are the parent's, and may not even be dropped.
    pub(crate) fn abandon(&self) {
        let mut inner = self.lock();
        inner.descriptors.clear();
        std::mem::forget(std::mem::take(&mut inner.wakers));
    }

    /// The exit has begun: everybody goes on.
    pub(crate) fn release(&self) {
        if self.any.load(SeqCst) {
            self.release_all();
        }
    }

    #[cold]
    fn release_all(&self) {
        let (wakers, descriptors) = {
            let mut inner = self.lock();
            (std::mem::take(&mut inner.wakers), std::mem::take(&mut inner.descriptors))
        };
        for waker in wakers.into_values() {
            // A waker is the executor's code; its panic must not stop the exit.
            crate::deferred::contain(|| waker.wake());
        }
        descriptors.into_iter().for_each(make_readable);
    }
}

/// Nobody ever writes to the far end: there is the end of the stream to read, or nothing yet.
fn is_open(far: &mut UnixStream) -> bool {
    far.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// One byte and the end of the stream: readable to every kind of poll. The byte cannot fail to fit,
/// and if the other end is closed nobody waits.
fn make_readable(mut far: UnixStream) {
    let _ = far.write(&[1]);
}
