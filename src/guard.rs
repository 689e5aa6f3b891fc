//! [`HandleExit`]: the guard itself, and how its scope ends.

use std::fmt;
#[cfg(unix)]
use std::io;
use std::ops::Deref;
use std::panic::resume_unwind;
#[cfg(unix)]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::cause::Cause;
#[cfg(unix)]
use crate::error::Error;
use crate::exit::{By, Closed, Forked, Guard, Payload, of_guard};
use crate::handle::Exit;
#[cfg(unix)]
use crate::install;
use crate::outcome::Outcome;
#[cfg(unix)]
use crate::signal::Signal;
#[cfg(unix)]
use crate::sys::forward;
use crate::sys::status::Status;
use crate::sys::thread;
use crate::sys::{exit_hook, exit_thread, process, restore};

/// The guard over a scope: its callback runs exactly once, however the scope or the process ends, and to its end, unless
/// [`Repeat::Force`](crate::Repeat::Force) or a [`callback_timeout`](crate::Builder::callback_timeout) cuts it short.
///
/// Dropping it ends the scope. The callback runs on the dropping thread; if a signal has begun the exit, it runs on the
/// watcher thread, and the drop waits for it (but see [several guards](crate#with-several-guards)). Then the deferred functions run, last in first out. Every disposition
/// that no other guard needs is restored, if the guard's handler is still on top, and with the last guard the watcher
/// thread is joined. A signal that arrives meanwhile is held, and handed to the restored disposition at the end. A
/// panic in the callback continues to unwind from the drop, or is contained if the thread is unwinding already.
///
/// If neither a host nor an old handler decides, and the scope ends in time after a signal, dropping a guest ends the
/// process ([`AfterScope::End`](crate::AfterScope::End)).
///
/// A child of `fork(2)` does not run the callback: dropping the guard there only restores the child's dispositions,
/// unless the child calls `rearm`.
#[must_use = "the scope ends when the guard is dropped: bind it to a name such as `_guard`"]
pub struct HandleExit {
    handle: Exit,
    /// Whether the guard was made in a destructor that a panic runs: then a panic is not the cause of its end.
    made_in_panic: bool,
}

impl HandleExit {
    /// A guard that is installed.
    pub(crate) fn over(guard: Arc<Guard>) -> HandleExit {
        HandleExit { handle: Exit { guard }, made_in_panic: std::thread::panicking() }
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
    pub fn handle(&self) -> Exit {
        self.handle.clone()
    }

    /// Ends the scope now, as dropping does, and says what happened. A panic of the callback is
    /// contained and reported by [`Outcome::callback_panicked`].
    ///
    /// After a signal about which this guard decides, with [`AfterScope::End`](crate::AfterScope::End) (the default of a
    /// guest), the process ends here, and `finish` does not return.
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
        let guard = &self.handle.guard;
        let mut closed = self.close(By::Finish);
        let ended = closed.ended.take();
        let Some(ended) = ended.or_else(|| Some(of_guard(guard)?.ended(guard))) else {
            // A forked child: the exit, and the locks, are the parent's.
            return Outcome { cause: Cause::ScopeEnd, signal: None, status: None };
        };
        let panicked = closed.payload.is_some() || ended.panicked;
        self.contain(closed.payload);
        // A signal with an old handler is not among them: that handler decides.
        let by_signal = ended.ended_by.map(|signal| guard.settings.status(signal));
        Outcome {
            cause: guard.cause().cloned().unwrap_or(Cause::ScopeEnd),
            signal: ended.signal,
            status: if panicked { Some(Status::Failed) } else { by_signal },
        }
    }

    /// Ends the scope without the callback: the dispositions are restored, and the callback and the
    /// deferred functions are dropped uncalled. Returns false if the exit had already begun: then
    /// this is an ordinary drop, which may end the process, as [`finish`](HandleExit::finish) says.
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
        let closed = self.close(By::Disarm);
        if closed.disarmed {
            drop(self.handle.guard.take_callback());
        }
        if closed.disarmed || of_guard(&self.handle.guard).is_none() {
            return true;
        }
        self.after(closed);
        false
    }

    /// Lets the guard live until the process ends: return from `main`, `process::exit`, or a signal.
    ///
    /// Without a signal, the callback runs inside `exit(3)`, on the exiting thread. The thread-locals of that thread
    /// are gone by then. **Neither the callback nor a deferred function nor an observer may call `std::process::exit`
    /// there**: the standard library aborts. [`handle_exit::exit`](exit) does not.
    ///
    /// After a signal, the scope has ended in time if the exit function of the guard is reached within the
    /// [grace period](crate::Builder::grace).
    ///
    /// ```
    /// use handle_exit::HandleExit;
    /// use std::io::{Write, stdout};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// HandleExit::new(|| { let _ = writeln!(stdout(), "bye"); })?.keep(); // when `main` returns
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// In a child of `fork(2)`, such as a daemon that forked after [`new`](HandleExit::new): makes the guard this
    /// process's own, with its own watcher thread. The parent's guard is not affected. In a process that has the
    /// guard already, this does nothing.
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
    /// [`Error::Ended`] if the exit had begun when the process forked, [`Error::Busy`] if another thread was using the
    /// guard at that moment, otherwise as the constructor: a host gets [`Error::Nested`] if the child has a host.
    #[cfg(unix)]
    #[cfg_attr(docsrs, doc(cfg(unix)))]
    pub fn rearm(&self) -> Result<(), Error> {
        let guard = &self.handle.guard;
        if of_guard(guard).is_some() {
            return Ok(());
        }
        install::install(guard)
    }

    fn close(&self, by: By) -> Closed {
        let guard = &self.handle.guard;
        let panics = std::thread::panicking() && !self.made_in_panic;
        let cause = if panics { Cause::Panic } else { Cause::ScopeEnd };
        let closed =
            of_guard(guard).map_or(Err(Forked), |exit| exit.here().close(guard, by, cause));
        closed.unwrap_or_else(|Forked| {
            // A child that was forked before the scope ended, or by its end. Locks may be held by threads that are
            // not here, and the callback is the parent's.
            restore::restore_in_child(guard.settings.all_signals());
            Closed::default()
        })
    }

    /// The last step of an end that reports nothing: what the callback panicked with.
    fn after(&self, closed: Closed) {
        let Some(payload) = closed.payload else { return };
        let is_panicking = std::thread::panicking();
        if !is_panicking && !thread::is_inside_exit() {
            resume_unwind(payload);
        }
        // Nothing can unwind out of an exit function, or out of the destructor of a thread-local.
        self.contain(Some(payload));
        if let Some(exit) = of_guard(&self.handle.guard).filter(|_| !is_panicking) {
            let _ = exit.here().end_process(Status::Failed, &Cause::ProcessExit);
        }
    }

    fn contain(&self, payload: Option<Payload>) {
        if let Some(exit) = of_guard(&self.handle.guard) {
            let _ = exit.here().drop_payload(&self.handle.guard, payload);
        }
    }
}

impl Deref for HandleExit {
    type Target = Exit;

    fn deref(&self) -> &Exit {
        &self.handle
    }
}

impl Drop for HandleExit {
    fn drop(&mut self) {
        let closed = self.close(By::Drop);
        self.after(closed);
    }
}

impl fmt::Debug for HandleExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signals = self.handle.guard.settings.signals;
        f.debug_struct("HandleExit").field("signals", &signals).finish_non_exhaustive()
    }
}

/// Ends the process with `code`, after the callbacks and deferred functions of all living guards.
///
/// On Unix this is `std::process::exit`, except on a thread that is inside that function already, or has returned from
/// `main`: callbacks, deferred functions and observers run there. `std::process::exit` aborts if one of them calls it,
/// and this function ends the process. On Windows `std::process::exit` ends all other threads first and runs no
/// callback, so a program with a guard ends with this function instead.
///
/// ```no_run
/// use std::io::{Write, stdout};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// handle_exit::HandleExit::new(|| { let _ = writeln!(stdout(), "bye"); })?.keep();
/// handle_exit::exit(3); // says bye
/// # }
/// ```
pub fn exit(code: i32) -> ! {
    if thread::is_inside_exit() {
        crate::exit::of(process::this()).here().end_here(Status::Code(code), &Cause::ProcessExit);
    }
    // While another thread is in `exit(3)`, the standard library keeps this one waiting: that one ends the process.
    if exit_thread::is_marked() {
        crate::exit::of(process::this()).lock().choose(Status::Code(code));
    }
    exit_hook::exit(code)
}

/// Runs `body`, and then ends the process by `signal`, even if `body` panics: for workers whose pool would otherwise end them
/// with `_exit`, which runs no exit functions of the C library.
///
/// First the callbacks of all living guards run, then the old handler if a guard guards `signal` (unless a callback or a
/// deferred function calls this), then the deferred functions. If there is no guard, a handler of `signal` runs. Then the
/// process is killed by the signal, or ends as the [`Ending`](crate::Ending) of the host or else of the oldest guest says.
///
/// ```no_run
/// use handle_exit::{Signal, exit_with_signal};
///
/// # fn serve() {}
/// exit_with_signal(Signal::TERM, || serve());
/// ```
#[cfg(unix)]
#[cfg_attr(docsrs, doc(cfg(unix)))]
pub fn exit_with_signal(signal: Signal, body: impl FnOnce()) -> ! {
    // The panic hook has reported it; the signal is what the parent sees.
    let _ = catch_unwind(AssertUnwindSafe(body)).map_err(std::mem::forget);
    let exit = crate::exit::of(process::this());
    let (current, begins) = exit.lock().for_signal(signal);
    let Some(current) = current else {
        forward::raise(signal);
        process::end(Status::Signal(signal))
    };
    if begins {
        forward::raise(signal);
    }
    exit.here().end_here(current.settings.status(signal), &Cause::ScopeEnd)
}

#[cfg(unix)]
impl Signal {
    /// Sends the signal to this process, as `kill(getpid(), …)` does: for a terminal program in raw mode, where `^C`
    /// is a key and not a signal. A thread that blocks the signal may raise it too.
    ///
    /// ```
    /// use handle_exit::{HandleExit, Signal};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::new(|| {})?;
    /// Signal::INT.raise().expect("a process may signal itself");
    /// assert_eq!(guard.wait().signal(), Some(Signal::INT));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `kill(2)` says, for instance that no more signals can be queued (`EAGAIN`).
    #[cfg_attr(docsrs, doc(cfg(unix)))]
    pub fn raise(self) -> io::Result<()> {
        process::send_signal(self)
    }
}
