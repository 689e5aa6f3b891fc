//! The ways to make a guard: one-liners over [`Builder`].

use crate::builder::Builder;
use crate::error::Error;
use crate::guard::HandleExit;
use crate::handle::Exit;

impl HandleExit {
    /// For code that can be told to stop, such as a serve loop: on TERM or INT `callback` tells it,
    /// and the scope has 5 seconds to end by itself; if it does not, the process dies of the signal.
    ///
    /// **On Windows** nobody can ask who else handles the console's events, so this refuses only another
    /// guard. A handler that was registered before the guard does not hear of the events while it lives; one
    /// that is registered later is asked first, and may keep them. After the console is closed, and after
    /// logoff and shutdown, the scope has 4 seconds at most: the system ends the process after 5.
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
        HandleExit::builder().cleanup().install(callback)
    }

    /// For a program whose signals a third party owns: on TERM or INT `callback` runs, then the
    /// handler that was there, which decides what happens next. Where none was there, this is
    /// [`new`](HandleExit::new).
    ///
    /// **On Windows** nobody can ask whether a handler was there. Where no host guards the signal,
    /// the callbacks and deferred functions of all living guards run, and then the event is passed on to
    /// whoever was registered before. That may be the system's own handler alone, which ends the process: so with
    /// nobody there, this acts as [`cleanup`](HandleExit::cleanup). While handlers run, the system holds
    /// a lock: a callback that calls `SetConsoleCtrlHandler` (`ctrlc::set_handler` does) waits forever.
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
        body: impl FnOnce(&Exit) -> R + 'env,
    ) -> Result<R, Error> {
        HandleExit::builder().run(callback, body)
    }
}
