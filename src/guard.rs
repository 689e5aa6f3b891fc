//! [`HandleExit`]: the guard itself.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::builder::Builder;
use crate::cause::{Cause, Outcome};
use crate::deferred::contain;
use crate::error::Error;
use crate::event::Event;
use crate::handle::ExitHandle;
use crate::install::{self, Claims};
use crate::phase::{Closer, Thread};
use crate::policy::Status;
use crate::scope::{Closed, Scope};
use crate::signal::Signal;
use crate::sys::{forward, guarded};

/// The guard over a scope: its callback runs exactly once and to its end, however the scope or the
/// process ends.
///
/// Dropping it ends the scope: the callback runs on the dropping thread (unless a signal has had it
/// run on the watcher thread already, which is then waited for), then the deferred functions, last
/// in first out; every disposition is put back where the guard's handler is still on top, and the
/// watcher thread is joined. A signal that arrives meanwhile is held, and handed to the restored
/// disposition at the end. A panic in the callback goes on unwinding from the drop, or is contained
/// if the thread is unwinding already.
///
/// The guard is not copied by `fork(2)`: in the child, dropping it only puts the child's dispositions
/// back, unless it was [`rearm`](HandleExit::rearm)ed there.
#[must_use = "the scope ends where the guard is dropped: bind it to a name such as `_guard`"]
pub struct HandleExit {
    handle: ExitHandle,
    claims: Claims,
    /// Whether the guard was made by a destructor that a panic runs: then its own end is no panic's.
    made_in_panic: bool,
}

impl HandleExit {
    pub(crate) fn over(scope: Arc<Scope>, claims: Claims) -> HandleExit {
        let made_in_panic = std::thread::panicking();
        HandleExit { handle: ExitHandle { scope }, claims, made_in_panic }
    }

    /// For code that can be told to stop, such as a serve loop: on TERM or INT `callback` tells it,
    /// and the scope has 5 seconds to end by itself; if it does not, the process dies of the signal.
    ///
    /// ```no_run
    /// # struct Server;
    /// # impl Server { fn shutdown(&self) {} fn serve(&self) {} }
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// # let server = std::sync::Arc::new(Server);
    /// let stop = server.clone();
    /// let _guard = HandleExit::new(move || stop.shutdown())?;
    /// server.serve();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::HandlerExists`] if somebody handles TERM or INT, [`Error::Nested`] if this process has
    /// a guard, [`Error::System`] if the operating system refuses a step. Every disposition is then
    /// as it was.
    pub fn new(callback: impl FnOnce() + Send + 'static) -> Result<HandleExit, Error> {
        HandleExit::builder().install(callback)
    }

    /// For code that cannot be told to stop: on TERM or INT `callback` cleans up, and the process
    /// dies of the signal.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let directory = std::env::temp_dir().join(format!("work-{}", std::process::id()));
    /// std::fs::create_dir(&directory).unwrap();
    /// let leftover = directory.clone();
    /// {
    ///     let _guard = HandleExit::cleanup(move || { let _ = std::fs::remove_dir_all(leftover); })?;
    ///     // … work in the directory …
    /// }
    /// assert!(!directory.exists());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`new`](HandleExit::new).
    pub fn cleanup(callback: impl FnOnce() + Send + 'static) -> Result<HandleExit, Error> {
        HandleExit::builder().grace(std::time::Duration::ZERO).install(callback)
    }

    /// For a program whose signals a third party owns: on TERM or INT `callback` runs, then the
    /// handler that was there, which decides what happens next. Where none was there, this is
    /// [`new`](HandleExit::new).
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let (theirs, ours) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    /// ctrlc::set_handler(move || theirs.0.send(()).unwrap()).unwrap();
    ///
    /// assert!(HandleExit::new(|| {}).is_err());
    /// let guard = HandleExit::builder()
    ///     .signals([handle_exit::Signal::INT])
    ///     .append(true)
    ///     .install(move || ours.0.send(()).unwrap())?;
    /// signal_hook::low_level::raise(handle_exit::Signal::INT.as_raw()).unwrap();
    /// ours.1.recv().unwrap();
    /// theirs.1.recv().unwrap(); // after ours
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Nested`] and [`Error::System`], as [`new`](HandleExit::new).
    pub fn append(callback: impl FnOnce() + Send + 'static) -> Result<HandleExit, Error> {
        HandleExit::builder().append(true).install(callback)
    }

    /// For everything else.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().grace(std::time::Duration::from_secs(30)).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Runs `body` under a guard, as [`new`](HandleExit::new) makes it, and ends the scope when it
    /// returns or unwinds. Both closures may borrow from the caller.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let stop = AtomicBool::new(false);
    /// let answer = HandleExit::run(
    ///     || stop.store(true, Ordering::Relaxed),
    ///     |exit| if exit.is_exiting() { 0 } else { 42 },
    /// )?;
    /// assert_eq!(answer, 42);
    /// assert!(stop.into_inner());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`new`](HandleExit::new); `body` has not run then.
    pub fn run<'env, R>(
        callback: impl FnOnce() + Send + 'env,
        body: impl FnOnce(&ExitHandle) -> R + 'env,
    ) -> Result<R, Error> {
        HandleExit::builder().run(callback, body)
    }

    /// A handle for other threads and other parts of the program. It does not keep the guard alive.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// let exit = guard.handle();
    /// let worker = std::thread::spawn(move || {
    ///     while !exit.is_exiting() {
    ///         // … a piece of work …
    /// #       std::thread::yield_now();
    ///     }
    /// });
    /// drop(guard);
    /// worker.join().unwrap();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn handle(&self) -> ExitHandle {
        self.handle.clone()
    }

    /// Ends the scope now, as dropping does, and says what happened. A panic of the callback is
    /// contained and reported by [`Outcome::callback_panicked`].
    ///
    /// ```
    /// use handle_exit::{Cause, HandleExit};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// let outcome = guard.finish();
    /// assert_eq!(outcome.cause(), &Cause::ScopeEnd);
    /// assert_eq!(outcome.signal(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish(self) -> Outcome {
        let closed = self.close(Closer::Finish);
        let scope = &self.handle.scope;
        if !scope.is_here() {
            // A forked child: the exit, and the locks, are the parent's.
            return Outcome { cause: Cause::ScopeEnd, signal: None, panicked: false, status: None };
        }
        let own_panic = closed.payload.is_some();
        contain(|| drop(closed.payload));
        let panicked = own_panic || scope.machine.panicked();
        let cause = scope.machine.cause().unwrap_or(Cause::ScopeEnd);
        let (signal, ended_by) = self.signals(&cause);
        if closed.here {
            scope.end_after_scope(panicked);
        }
        // A signal with a handler of its own is that handler's affair.
        let by_signal = ended_by.map(|signal| scope.policy.status(signal));
        let status = if panicked { Some(Status::Failed) } else { by_signal };
        Outcome { cause, signal, panicked, status }
    }

    /// Ends the scope without the callback: every disposition is put back, and the callback and the
    /// deferred functions are dropped uncalled. Returns false if the exit had already begun: then
    /// this is an ordinary drop.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| unreachable!("nothing to clean up any more"))?;
    /// // … all went well …
    /// assert!(guard.disarm());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "false means that the exit had begun and the callback has run"]
    pub fn disarm(self) -> bool {
        let closed = self.close(Closer::Disarm);
        if !self.handle.scope.is_here() {
            return true;
        }
        if closed.disarmed {
            self.handle.scope.drop_callback();
            return true;
        }
        self.after(closed);
        false
    }

    /// Lets the guard live until the process ends: return from `main`, `process::exit`, or a signal.
    ///
    /// On the first two the callback runs inside `exit(3)`, on the exiting thread. There it must not
    /// call `process::exit` itself (the standard library aborts), and thread-locals of that thread are
    /// gone already.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// HandleExit::new(|| println!("bye"))?.keep(); // says bye when `main` returns
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// In a child of `fork(2)`, such as a daemon that forked after [`new`](HandleExit::new): makes the
    /// guard this process's own, with a watcher thread of its own. The parent's is not affected. In
    /// the process that has the guard already, it does nothing.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// // … a fork happens here, and the parent leaves with `_exit` …
    /// guard.rearm()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Futures and descriptors that were made before the fork wait for the parent's exit: make new ones.
    ///
    /// # Errors
    /// [`Error::Nested`] if the child has made a new guard, [`Error::Ended`] if the exit had begun when
    /// the process forked, else as [`new`](HandleExit::new).
    pub fn rearm(&self) -> Result<(), Error> {
        let scope = &self.handle.scope;
        if scope.is_here() {
            return Ok(());
        }
        let mut moved_here = false;
        let moved = install::install(&self.claims, |_| {
            scope.move_here()?;
            moved_here = true;
            Ok(Arc::clone(scope))
        });
        if moved.is_err() && moved_here {
            scope.move_away();
        }
        moved.map(drop)
    }

    fn close(&self, by: Closer) -> Closed {
        if self.handle.scope.is_here() {
            let panics = std::thread::panicking() && !self.made_in_panic;
            let cause = if panics { Cause::Panic } else { Cause::ScopeEnd };
            self.handle.scope.close(by, cause)
        } else {
            // A forked child. Locks may be held by threads that are not here, and the callback is
            // the parent's.
            guarded::restore_in_child(&self.claims.signals);
            Closed::default()
        }
    }

    /// The signal that asked for the end, and the one without a handler of its own that did.
    fn signals(&self, cause: &Cause) -> (Option<Signal>, Option<Signal>) {
        let active = self.handle.scope.active();
        match (active.seen.first(), cause) {
            (Some(first), _) => (Some(*first), active.ended_by),
            // Inside the callback: the watcher has not come to the signals yet.
            (None, Cause::Signal(received)) => {
                let signal = received.signal();
                let mut guarded = active.guarded.iter().filter(|one| one.signal == signal);
                let is_own = guarded.any(|one| one.has_old_handler());
                (Some(signal), (!is_own).then_some(signal))
            }
            (None, _) => (None, None),
        }
    }

    /// What a silent end does when all is done.
    fn after(&self, closed: Closed) {
        if let Some(payload) = closed.payload {
            if !std::thread::panicking() {
                resume_unwind(payload);
            }
            contain(|| drop(payload));
        } else if closed.here {
            self.handle.scope.end_after_scope(false);
        }
    }
}

impl Deref for HandleExit {
    type Target = ExitHandle;

    fn deref(&self) -> &ExitHandle {
        &self.handle
    }
}

impl Drop for HandleExit {
    fn drop(&mut self) {
        let closed = self.close(Closer::Drop);
        self.after(closed);
    }
}

impl fmt::Debug for HandleExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleExit").field("signals", &self.claims.signals).finish_non_exhaustive()
    }
}

/// Runs `body`, and then ends the process by `signal`, also if `body` panics: for workers whose way
/// out bypasses the exit hooks of the C library (`_exit`), such as a pre-forked pool's.
///
/// A living guard is ended first: its callback, then the old handler if the guard has the signal and
/// stands over one, then the deferred functions. Where no guard lives, a handler that stands there is
/// run. In the end the process dies of the signal (or ends as the guard's [`Ending`](crate::Ending)
/// says).
///
/// ```no_run
/// use handle_exit::{Signal, exit_with_signal};
///
/// exit_with_signal(Signal::TERM, || println!("the worker's job"));
/// ```
pub fn exit_with_signal(signal: Signal, body: impl FnOnce()) -> ! {
    // The panic hook has reported it; the signal is what the parent sees.
    let _ = catch_unwind(AssertUnwindSafe(body)).map_err(std::mem::forget);
    let Some(ExitHandle { scope }) = ExitHandle::current() else {
        forward::raise(signal);
        Status::Signal(signal).end()
    };
    let is_guarded = scope.active().guarded.iter().any(|one| one.signal == signal);
    if is_guarded {
        forward::raise(signal);
    }
    let closed = scope.close(Closer::Drop, Cause::ScopeEnd);
    // Where another thread closes the scope, or this one is inside its callback.
    scope.deferred.drain(Thread::current());
    let status = match closed.payload {
        None => scope.policy.status(signal),
        Some(_) => Status::Failed,
    };
    scope.observer.tell(|| Event::ending(status));
    status.end()
}
