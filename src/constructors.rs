//! The ways to make a guard: one-liners over [`Builder`].

use crate::builder::Builder;
use crate::error::Error;
use crate::guard::HandleExit;
use crate::handle::Exit;

impl HandleExit {
    /// Makes a host, for a program that can be told to stop, such as a server: on TERM or INT, `callback` tells it, and
    /// then the scope has 5 seconds to end by itself (the grace period). If the scope ends, the program continues after
    /// it; if not, the process is killed by the signal.
    ///
    /// `callback` does not run now. It runs once: on a signal, or when the scope or the process ends without one.
    ///
    /// **A callback that blocks forever keeps the process alive.** The guard waits for it, and no number of `^C` ends
    /// this wait; `^\` still kills the process, unless QUIT is guarded. A write to a full pipe may block forever. One
    /// line helps: `HandleExit::builder().callback_timeout(Duration::from_secs(10)).install(callback)`. With
    /// [`Repeat::Force`](crate::Repeat::Force), a second `^C` ends the process, without the deferred functions.
    ///
    /// **Do not call `std::process::exit` in the callback**: the program would exit with that code after a success
    /// too. If `main` has returned or the process exits already, the standard library even aborts, also if a deferred
    /// function or an observer makes the call ([`handle_exit::exit`](crate::exit()) does not).
    ///
    /// A host also takes a signal that is blocked in every thread. A program that reads TERM or INT with `sigwait` or a
    /// signalfd of its own makes no host for them.
    ///
    /// Windows does not say whether there are foreign handlers, so only another host is an obstacle there. A handler
    /// that was registered before the oldest living guard gets no events while the host lives; one that is registered
    /// later is asked first, and may keep them. After the console is closed, and after logoff and shutdown, the
    /// grace period is over 4 seconds after the event at the latest. The guard cuts no callback, deferred function or
    /// code after the scope: the system ends the process after 5 seconds.
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
    /// * [`Error::HandlerExists`] if there is a foreign handler of TERM or INT,
    /// * [`Error::Nested`] if this process has a host (guests are no obstacle),
    /// * [`Error::Busy`] if another thread changes a disposition at that moment,
    /// * [`Error::Ended`] if another thread is ending the process,
    /// * [`Error::System`] if the operating system refuses a step.
    ///
    /// Every disposition is then as it was.
    pub fn new(callback: impl FnOnce() + Send + 'static) -> Result<HandleExit, Error> {
        HandleExit::builder().install(callback)
    }

    /// Makes a host, for a program that cannot be told to stop, such as one that waits for a line of input: on TERM or
    /// INT, `callback` cleans up, and then the process is killed by the signal, whatever the scope does meanwhile.
    ///
    /// **Do not [`defer`](Exit::defer) clean-ups step by step here**: a signal between a step and its `defer` kills the
    /// process, and what the step made stays. With [`new`](HandleExit::new), the scope has time to defer it.
    ///
    /// `callback` does not run now. It runs once: on a signal, or when the scope or the process ends without one. If
    /// it may block forever, or calls `process::exit`, see [`new`](HandleExit::new).
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

    /// Makes a guest, for a library, or for a program in which a third party handles the signals: on TERM or INT,
    /// `callback` runs, and then the old handler or the host decides what happens. If there is neither, the process is
    /// killed by the signal when the scope has ended or after 5 seconds. A guest that lives in a value, longer than one
    /// call, is better made with `builder().cleanup().append(true)` ([guide](crate::guide#a-library)).
    ///
    /// `callback` does not run now. It runs once: on a signal, or when the scope or the process ends without one. If
    /// it may block forever, or calls `process::exit`, see [`new`](HandleExit::new).
    ///
    /// A guest takes nothing from a program that blocks a signal in every thread to read it with `sigwait` or a
    /// signalfd: such a program reads the signal, and the guest does not get it.
    ///
    /// Windows does not say whether there is an old handler. If no host guards the signal, the callbacks and deferred
    /// functions of all living guards run, and then the event is passed on to the handlers that were registered before.
    /// If there is only the system's own, the process ends: without a host, guests act like [`cleanup`](HandleExit::cleanup),
    /// and their `grace`, `repeat`, `after_scope` and `ending` do nothing. While handlers run, the system holds a lock: a
    /// callback that calls `SetConsoleCtrlHandler` (`ctrlc::set_handler` does) waits forever.
    ///
    /// ```
    /// use handle_exit::{HandleExit, Signal};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let (theirs, ours) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    /// ctrlc::set_handler(move || { let _ = theirs.0.send(()); }).unwrap();
    ///
    /// assert!(HandleExit::new(|| {}).is_err());
    /// let guard = HandleExit::builder()
    ///     .signals([Signal::INT])
    ///     .append(true)
    ///     .install(move || { let _ = ours.0.send(()); })?;
    /// signal_hook::low_level::raise(Signal::INT.as_raw()).unwrap();
    /// ours.1.recv().unwrap();
    /// theirs.1.recv().unwrap(); // after ours
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Ended`] and [`Error::System`], as [`new`](HandleExit::new). `Busy` also if foreign
    /// handlers were installed over the guard's too often. Neither a host nor a handler is an obstacle.
    pub fn append(callback: impl FnOnce() + Send + 'static) -> Result<HandleExit, Error> {
        HandleExit::builder().append(true).install(callback)
    }

    /// Settings for a guard other than those that [`new`](HandleExit::new), [`cleanup`](HandleExit::cleanup) and
    /// [`append`](HandleExit::append) make.
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

    /// Runs `body` under a host, as [`new`](HandleExit::new) makes it. The scope ends when `body` returns or unwinds.
    /// Both closures may borrow from the caller.
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
