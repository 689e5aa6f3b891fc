//! [`Exit`], [`ExitBegun`] and [`Deferred`]: the guard as seen from the rest of the program.

use std::fmt;
use std::future::Future;
#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::error::Error;
use crate::exit::{self, Guard, of_guard};
use crate::sys::thread::Runner;
use crate::sys::{lock, process, wake};

/// A view of a guard that any thread may hold: ask it, wait for it, add to it.
///
/// Cheap to clone. It does not keep the guard alive. When the guard's scope has ended, the handle still says what began
/// the exit.
#[derive(Clone)]
pub struct Exit {
    pub(crate) guard: Arc<Guard>,
}

impl Exit {
    /// The handle of this process's host or else of its oldest guest, for code that was given no handle.
    ///
    /// **Without a host, the guest may be another party's**, such as a library's, and end with that party's scope: ask
    /// it and wait for it, but do not [`defer`](Exit::defer) on it unless it is yours.
    ///
    /// `None` if there is no guard, and in a forked child that did not `rearm` its parent's.
    ///
    /// ```
    /// use handle_exit::{Exit, HandleExit};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// assert!(Exit::current().is_none());
    /// let _guard = HandleExit::new(|| {})?;
    /// assert!(Exit::current().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn current() -> Option<Exit> {
        exit::of(process::this()).lock().current().map(|guard| Exit { guard })
    }

    /// Whether the exit has begun: by a signal, a [`request`](Exit::request), or the end of the scope or the process.
    /// Never blocks. It is meant for loops that stop at a safe point. True from the start if the guard was made while
    /// an exit by one of its signals was under way.
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
        self.guard.cause().is_some() && of_guard(&self.guard).is_some()
    }

    /// What began the exit, if it has begun. `None` in a forked child that did not `rearm`.
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
        of_guard(&self.guard).and_then(|_| self.guard.cause().cloned())
    }

    /// Blocks the calling thread until the exit begins, and says what began it. The callback may
    /// still be running then.
    ///
    /// Every end of the guard releases the wait; `disarm` does so with [`Cause::ScopeEnd`]. In a
    /// forked child that did not `rearm`, the wait never ends.
    ///
    /// ```
    /// use handle_exit::{HandleExit, Signal};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// # signal_hook::low_level::raise(handle_exit::Signal::TERM.as_raw()).unwrap();
    /// let cause = guard.wait(); // … `kill` from somewhere …
    /// assert_eq!(cause.signal(), Some(Signal::TERM));
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::must_use_candidate, reason = "it is called for the wait too")]
    pub fn wait(&self) -> Cause {
        let cause = of_guard(&self.guard).and_then(|exit| exit.wait_begun(&self.guard, None));
        cause.unwrap_or_else(|| lock::park())
    }

    /// Like [`wait`](Exit::wait), but for at most `timeout`; `None` if the exit has not begun by
    /// then. A `timeout` beyond the clock's range waits forever.
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
        let Some(deadline) = Instant::now().checked_add(timeout) else { return Some(self.wait()) };
        let Some(exit) = of_guard(&self.guard) else {
            std::thread::sleep(timeout);
            return None;
        };
        exit.wait_begun(&self.guard, Some(deadline))
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
        ExitBegun { guard: Arc::clone(&self.guard), key: None }
    }

    /// A descriptor that becomes readable once the exit begins, for `poll`, `epoll` or `mio`. Each call makes a new
    /// one, which is close-on-exec and non-blocking.
    ///
    /// A signal that interrupts `poll` or `epoll_wait` ends the call with EINTR (`ErrorKind::Interrupted`), although
    /// the guard's handler has `SA_RESTART` (signal(7)): call it again.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let guard = handle_exit::HandleExit::new(|| {})?;
    /// let readable = guard.readable_fd()?; // for poll, epoll, mio or `AsyncFd`
    /// # drop(readable);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `socketpair(2)` says, for instance that the descriptor table is full; and in a forked child that did not
    /// `rearm`.
    #[cfg(unix)]
    #[cfg_attr(docsrs, doc(cfg(unix)))]
    pub fn readable_fd(&self) -> io::Result<OwnedFd> {
        if of_guard(&self.guard).is_none() {
            return Err(io::Error::other(Error::Ended));
        }
        self.guard.waiters.descriptor(&|| self.guard.cause().is_some())
    }

    /// Begins this guard's exit from code: the callback runs on the watcher thread, with [`Cause::Requested`]. Other
    /// guards are not affected. Returns at once. Does nothing if the exit has begun already.
    ///
    /// **No deadline applies to the scope**: if it is blocked, in a read of standard input for instance, the process
    /// lives on, even with [`cleanup`](crate::HandleExit::cleanup). `Signal::TERM.raise()` (Unix) ends it as a signal
    /// does.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let guard = HandleExit::new(move || { let _ = sender.send(()); })?;
    /// guard.request();
    /// receiver.recv().unwrap();
    /// # Ok(())
    /// # }
    /// ```
    pub fn request(&self) {
        let Some(exit) = of_guard(&self.guard) else { return };
        if exit.request(&self.guard) {
            // The watcher first: a waker is an executor's code, which may wait for the callback.
            wake::post();
            // In a child that a waker has forked, there is nothing left to do.
            let _ = exit.here().release_waiters(&self.guard);
        }
    }

    /// Stages a clean-up: `function` runs at the end of the exit, after the callback; the one that
    /// was deferred last runs first. A panic in it is contained, after the panic hook has reported it.
    ///
    /// It runs on the thread that ends the scope (drop, `finish`, `process::exit`), or on the watcher if a signal ends
    /// the process. It does not run if the guard is disarmed, or if the old handler of a guest kills the process or
    /// calls `_exit`: a guest removes its files in the callback.
    ///
    /// # Errors
    /// [`Error::Ended`] once the deferred functions have begun to run (except in one of them) or the guard has ended,
    /// and in a forked child.
    ///
    /// ```
    /// use std::fs;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = handle_exit::HandleExit::new(|| {})?;
    /// let half_done = guard.defer(|| drop(fs::remove_file("report.part")))?;
    /// // … write report.part …
    /// assert!(half_done.cancel()); // it is complete
    /// # Ok(())
    /// # }
    /// ```
    pub fn defer(&self, function: impl FnOnce() + Send + 'static) -> Result<Deferred, Error> {
        of_guard(&self.guard).ok_or(Error::Ended)?;
        let pushed = self.guard.deferred.push(Runner::current(), Box::new(function));
        // What a refused function captured is dropped here, with no lock held.
        let key = pushed.map_err(|_| Error::Ended)?;
        Ok(Deferred { guard: Arc::clone(&self.guard), key })
    }
}

impl fmt::Debug for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exit").field("cause", &self.cause()).finish_non_exhaustive()
    }
}

/// The future of [`Exit::begun`]. It may be polled again when it is ready; [`Exit::cause`] says what began the exit.
#[must_use = "a future does nothing unless it is awaited"]
pub struct ExitBegun {
    guard: Arc<Guard>,
    key: Option<usize>,
}

impl Future for ExitBegun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let guard = &this.guard;
        if of_guard(guard).is_none() {
            return Poll::Pending;
        }
        guard.waiters.poll(&mut this.key, context.waker(), &|| guard.cause().is_some())
    }
}

impl Drop for ExitBegun {
    fn drop(&mut self) {
        // In a forked child the lock may be held forever, and the waker is the parent's.
        if let Some(key) = self.key.filter(|_| of_guard(&self.guard).is_some()) {
            self.guard.waiters.forget(key);
        }
    }
}

impl fmt::Debug for ExitBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExitBegun").finish_non_exhaustive()
    }
}

/// A function that was deferred with [`Exit::defer`]. Dropping this neither cancels nor runs it.
pub struct Deferred {
    guard: Arc<Guard>,
    key: usize,
}

impl Deferred {
    /// Cancels the function: it will not run, and what it captured is dropped now. False if it has run, is
    /// running, or was dropped by [`disarm`](crate::HandleExit::disarm).
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
    #[allow(clippy::must_use_candidate, reason = "it is called for its effect too")]
    pub fn cancel(self) -> bool {
        let cancelled =
            of_guard(&self.guard).and_then(|_| self.guard.deferred.take(self.key, None));
        cancelled.is_some()
    }

    /// Runs the function now, on this thread, instead of at the end. False if it has run, is running elsewhere, or was
    /// dropped by [`disarm`](crate::HandleExit::disarm). A panic in it unwinds to the caller.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// let remove = guard.defer(|| drop(std::fs::remove_file("report.part")))?;
    /// // … work with the file …
    /// assert!(remove.run()); // now, or at the end if this line is not reached
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::must_use_candidate, reason = "it is called for its effect too")]
    pub fn run(self) -> bool {
        let me = Runner::current();
        let taken =
            of_guard(&self.guard).and_then(|_| self.guard.deferred.take(self.key, Some(me)));
        let Some(function) = taken else { return false };
        // Even if it unwinds; not in a child that it has forked, where the lock may never be free.
        let guard = &self.guard;
        let _done = scopeguard::guard((), |()| {
            if of_guard(guard).is_some() {
                guard.deferred.done(me);
            }
        });
        function();
        true
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("key", &self.key).finish_non_exhaustive()
    }
}
