//! [`ExitHandle`], [`ExitBegun`] and [`Deferred`]: the guard as seen from the rest of the program.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::error::Error;
use crate::scope::{Scope, living, park_for_ever};
use crate::sys::wake;

/// A view of a guard that any thread may hold: ask it, wait for it, add to it.
///
/// Cheap to clone. It does not keep the guard alive: when the guard's scope ends, a handle goes on
/// to say how it ended.
#[derive(Clone)]
pub struct ExitHandle {
    pub(crate) scope: Arc<Scope>,
}

impl ExitHandle {
    /// The handle of this process's living guard, for a library that was handed nothing.
    ///
    /// `None` if there is no guard, also in a forked child that did not
    /// [`rearm`](crate::HandleExit::rearm) its parent's.
    ///
    /// ```
    /// use handle_exit::{ExitHandle, HandleExit};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// assert!(ExitHandle::current().is_none());
    /// let _guard = HandleExit::new(|| {})?;
    /// assert!(ExitHandle::current().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn current() -> Option<ExitHandle> {
        living().clone().map(|scope| ExitHandle { scope })
    }

    /// Whether the exit has begun: by a signal, a [`request`](ExitHandle::request), or the end of
    /// the scope or the process. Never blocks; made for loops that stop at a safe point.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// for piece in 0..3 {
    ///     if guard.is_exiting() { break }
    ///     // … work on `piece` …
    /// #   let _ = piece;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_exiting(&self) -> bool {
        self.scope.machine.has_begun() && self.scope.is_here()
    }

    /// What began the exit, if it has begun. `None` in a forked child that did not
    /// [`rearm`](crate::HandleExit::rearm).
    ///
    /// ```
    /// use handle_exit::{Cause, HandleExit};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// assert_eq!(guard.cause(), None);
    /// guard.request();
    /// assert_eq!(guard.cause(), Some(Cause::Requested));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.scope.cause()
    }

    /// Blocks the calling thread until the exit begins, and says what began it. The callback may
    /// still be running then.
    ///
    /// Every end of the guard releases the wait: a disarmed guard's with [`Cause::ScopeEnd`]. In a
    /// forked child that did not [`rearm`](crate::HandleExit::rearm) there is none to wait for.
    ///
    /// ```
    /// use handle_exit::{Cause, HandleExit, Signal};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// # signal_hook::low_level::raise(handle_exit::Signal::TERM.as_raw()).unwrap();
    /// match guard.wait() { // … `kill` from somewhere …
    ///     Cause::Signal(received) => assert_eq!(received.signal(), Signal::TERM),
    ///     other => println!("{other}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::must_use_candidate, reason = "it is called for the wait as well")]
    pub fn wait(&self) -> Cause {
        while self.scope.is_here() {
            if let Some(cause) = self.scope.machine.wait_begun(None) {
                return cause;
            }
        }
        park_for_ever()
    }

    /// As [`wait`](ExitHandle::wait), at most for `timeout`; `None` if the exit has not begun by
    /// then. A `timeout` beyond the clock's range waits for ever.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// assert_eq!(guard.wait_timeout(std::time::Duration::from_millis(1)), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "`None` means that the exit has not begun"]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Cause> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) if self.scope.is_here() => self.scope.machine.wait_begun(Some(deadline)),
            Some(_) => {
                std::thread::sleep(timeout);
                None
            }
            None => Some(self.wait()),
        }
    }

    /// A future that is ready once the exit begins, on any executor.
    ///
    /// ```no_run
    /// # async fn serve_until(stop: impl std::future::Future) {}
    /// # async fn example() -> Result<(), handle_exit::Error> {
    /// let guard = handle_exit::HandleExit::new(|| {})?;
    /// serve_until(guard.begun()).await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn begun(&self) -> ExitBegun {
        ExitBegun { scope: Arc::clone(&self.scope), key: None }
    }

    /// A descriptor that becomes readable once the exit begins, for `poll`, `epoll` or `mio`. Each
    /// call makes one of its own; it is close-on-exec and non-blocking.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// let readable = guard.readiness().expect("a descriptor is to be had");
    /// // … hand it to poll, epoll, mio or `AsyncFd` …
    /// # drop(readable);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `socketpair(2)` says, for instance that the descriptor table is full.
    pub fn readiness(&self) -> io::Result<OwnedFd> {
        self.scope.waiters.descriptor(|| self.is_exiting())
    }

    /// Begins the exit from code: the callback runs on the watcher thread, with
    /// [`Cause::Requested`], and the scope has all the time it likes to end. Returns at once. Does
    /// nothing if the exit has begun already.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let guard = HandleExit::new(move || sender.send(()).unwrap())?;
    /// guard.request();
    /// receiver.recv().unwrap();
    /// # Ok(())
    /// # }
    /// ```
    pub fn request(&self) {
        if self.scope.is_here() && self.scope.machine.request(Cause::Requested) {
            // The watcher first: a waker is an executor's code, which may wait for the callback.
            wake::post();
            self.scope.waiters.release();
        }
    }

    /// Stages a clean-up: `function` runs at the end of the exit, after the callback; the one that
    /// was deferred last runs first. A panic in it is contained, after the panic hook reported it.
    ///
    /// It runs on the thread that ends the scope (Drop, `finish`, `process::exit`), or on the watcher
    /// where a signal ends the process. It does not run if the guard is disarmed.
    ///
    /// # Errors
    /// [`Error::Ended`] once the exit has ended, and in a forked child.
    ///
    /// ```
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = handle_exit::HandleExit::new(|| {})?;
    /// let staged = guard.defer(|| println!("last"))?;
    /// guard.defer(|| println!("first"))?;
    /// assert!(staged.cancel());
    /// # Ok(())
    /// # }
    /// ```
    pub fn defer(&self, function: impl FnOnce() + Send + 'static) -> Result<Deferred, Error> {
        if !self.scope.is_here() {
            return Err(Error::Ended);
        }
        let id = self.scope.deferred.push(Box::new(function)).ok_or(Error::Ended)?;
        Ok(Deferred { scope: Arc::clone(&self.scope), id })
    }
}

impl fmt::Debug for ExitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExitHandle").field("cause", &self.cause()).finish_non_exhaustive()
    }
}

/// The future of [`ExitHandle::begun`]. Ready with what began the exit, as often as it is polled.
#[must_use = "a future does nothing unless it is awaited"]
pub struct ExitBegun {
    scope: Arc<Scope>,
    key: Option<u64>,
}

impl Future for ExitBegun {
    type Output = Cause;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Cause> {
        let this = &mut *self;
        let scope = &this.scope;
        if !scope.is_here() {
            return Poll::Pending;
        }
        match scope.waiters.poll(&mut this.key, context.waker(), || scope.cause()) {
            Some(cause) => Poll::Ready(cause),
            None => Poll::Pending,
        }
    }
}

impl Drop for ExitBegun {
    fn drop(&mut self) {
        // In a forked child the lock may be held for ever, and the waker is the parent's.
        if let Some(key) = self.key.filter(|_| self.scope.is_here()) {
            self.scope.waiters.forget(key);
        }
    }
}

impl fmt::Debug for ExitBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExitBegun").finish_non_exhaustive()
    }
}

/// A function that was deferred with [`ExitHandle::defer`]. Dropping this does not cancel it.
pub struct Deferred {
    scope: Arc<Scope>,
    id: u64,
}

impl Deferred {
    /// Takes the function back: it will not run, and what it captured is dropped now. False if it
    /// has run, or is running.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// let staged = guard.defer(|| unreachable!("cancelled"))?;
    /// assert!(staged.cancel());
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::must_use_candidate, reason = "it is called for what it does as well")]
    pub fn cancel(self) -> bool {
        self.scope.is_here() && self.scope.deferred.cancel(self.id)
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("id", &self.id).finish_non_exhaustive()
    }
}
