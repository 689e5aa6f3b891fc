//! [`Builder`]: plain data, validated and installed at the end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cause::Cause;
use crate::error::Error;
use crate::event::{Event, Observer};
use crate::exit::{Callback, Guard, OnSignal};
use crate::guard::HandleExit;
use crate::handle::Exit;
use crate::install;
use crate::outcome::Outcome;
use crate::settings::{AfterScope, Ending, Ignored, OldHandler, Repeat, Settings};
use crate::signal::{Received, Signal};
use crate::sys::borrowed;

/// Settings for a guard. Nothing happens before [`install`](Builder::install) or [`run`](Builder::run).
///
/// ```
/// use std::io::{Write, stderr};
/// use std::time::Duration;
/// use handle_exit::{HandleExit, Signal};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// let guard = HandleExit::builder()
///     .signals([Signal::TERM, Signal::INT, Signal::HUP])
///     .grace(Duration::from_secs(30))
///     .install_with(|cause| { let _ = writeln!(stderr(), "stopping: {cause}"); })?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing before `install` or `run`"]
pub struct Builder {
    settings: Settings,
    on: Vec<(Signal, OnSignal)>,
    observer: Observer,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder { settings: Settings::default(), on: Vec::new(), observer: Observer::default() }
    }

    /// The signals to guard, instead of TERM and INT. A signal that is named twice counts once. The set may be empty
    /// if [`on`](Builder::on) names a signal: then no signal begins the exit.
    ///
    /// ```
    /// use handle_exit::{HandleExit, Signal};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().signals(Signal::TERMINATING).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Builder {
        self.settings.signals = signals.into_iter().collect();
        self
    }

    /// Signals to guard in addition to those that are guarded already (by default TERM and INT).
    ///
    /// On Unix, a program with `panic = "abort"` wants `also([Signal::ABRT])`: a panic then runs the callback too, before
    /// the process is killed by SIGABRT. The callback has 5 s, or its [`callback_timeout`](Builder::callback_timeout):
    /// the aborting thread may hold a lock that the callback needs.
    ///
    /// ```
    /// use handle_exit::{HandleExit, Signal};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().also([Signal::HUP, Signal::ABRT]).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn also(mut self, signals: impl IntoIterator<Item = Signal>) -> Builder {
        self.settings.signals = self.settings.signals.union(signals.into_iter().collect());
        self
    }

    /// The settings of [`HandleExit::cleanup`], to be combined with others: a grace period of zero and
    /// [`AfterScope::End`]. After the callback, the process is killed by the signal.
    ///
    /// ```
    /// use handle_exit::{HandleExit, Signal};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().cleanup().also([Signal::TERM]).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cleanup(self) -> Builder {
        self.grace(Duration::ZERO).after_scope(AfterScope::End)
    }

    /// A signal that begins no exit, such as HUP (Unix) for "read your configuration again": `function` runs on the
    /// watcher thread each time the signal comes. Several that come at once may be merged into one, as the kernel
    /// merges them. A panic in `function` is contained.
    ///
    /// **It must return soon**: until it does, TERM and `^C` wait, and so does the end of the guard. With a
    /// [`callback_timeout`](Builder::callback_timeout) the callback waits for it no longer than that.
    ///
    /// A signal that cannot be guarded is refused here too, except those whose default does not end a process, such as
    /// CHLD and WINCH. [`append`](Builder::append) and [`ignored`](Builder::ignored) apply: with `append`, the old
    /// handler is called after each call of `function`. If the signal has an old handler and begins the exit of another
    /// guest, it is given back to that handler, and `function` does not get later ones. Once the exit has begun,
    /// `function` is not called any more; signals not handled by then are discarded with the guard. A signal that is
    /// named both here and in [`signals`](Builder::signals) begins no exit: `on` wins. If a host names it here, it does not
    /// end the process for a guest either; the guest's callback runs.
    ///
    /// ```
    /// use handle_exit::{HandleExit, Signal};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let (reload, reloads) = std::sync::mpsc::channel();
    /// let guard = HandleExit::builder()
    ///     .on(Signal::HUP, move |_| { let _ = reload.send(()); })
    ///     .install(|| {})?;
    /// # signal_hook::low_level::raise(Signal::HUP.as_raw()).unwrap();
    /// reloads.recv().unwrap(); // … `kill -HUP` from somewhere …
    /// assert!(!guard.is_exiting());
    /// # Ok(())
    /// # }
    /// ```
    pub fn on(
        mut self,
        signal: Signal,
        function: impl Fn(&Received) + Send + Sync + 'static,
    ) -> Builder {
        self.settings.on.insert(signal);
        self.on.push((signal, Box::new(function)));
        self
    }

    /// Whether to make a guest, as [`HandleExit::append`] does, or a host. Default: a host.
    ///
    /// The old handler of a guest stays, and runs after the callback; beside an old handler, a host is not made
    /// ([`Error::HandlerExists`]). [`grace`](Builder::grace), [`repeat`](Builder::repeat), [`ending`](Builder::ending)
    /// and [`after_scope`](Builder::after_scope) of a guest count only if neither an old handler nor the host decides,
    /// nor an older guest that guards the signal.
    pub fn append(mut self, append: bool) -> Builder {
        self.settings.append = append;
        self
    }

    /// When old handlers run. Default: after a signal. On Windows only an event runs them, whatever is set here.
    pub fn old_handler(mut self, when: OldHandler) -> Builder {
        self.settings.old_handler = when;
        self
    }

    /// What to do with a signal that is ignored. Default: it stays ignored. Rust programs start with PIPE ignored, so
    /// guarding PIPE needs [`Ignored::Guard`].
    ///
    /// On Windows this changes nothing: a process that ignores `^C` (after `SetConsoleCtrlHandler(NULL, TRUE)`, which a
    /// new process group inherits) is not told of it.
    pub fn ignored(mut self, ignored: Ignored) -> Builder {
        self.settings.ignored = ignored;
        self
    }

    /// The grace period: how long the scope has to end by itself after a signal, counted from the callback's return.
    /// Default: 5 s. With `Duration::ZERO` the process ends at once; with `Duration::MAX` there is no limit.
    ///
    /// In `process::exit`, the time counts until the exit function of the guard runs: destructors of thread-locals, and
    /// exit functions that were registered after the guard, run before it.
    pub fn grace(mut self, grace: Duration) -> Builder {
        self.settings.grace = grace;
        self
    }

    /// How long the guard's code may run before the process ends with code 101. Default: no limit, so a callback that
    /// blocks forever keeps the process alive.
    ///
    /// The time bounds each of these by itself: the callback, with the observer's calls when it starts and ends; the
    /// deferred functions together; the wakers together; and every other call of the observer, such as the one for the
    /// signal, which comes before any callback. If an [`on`](Builder::on) function hangs, the callback starts after
    /// this time at the latest. After an overrun, the callbacks and deferred functions of all guards together get one
    /// more period of the same length. Then the process ends with 101, without the exit functions of the C library:
    /// the code that hangs may hold a lock that they need.
    ///
    /// It takes precedence over everything else that is set here. It costs a second sleeping thread for all guards, as
    /// [`Repeat::Force`] does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().callback_timeout(Duration::from_secs(10)).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn callback_timeout(mut self, timeout: Duration) -> Builder {
        self.settings.callback_timeout = Some(timeout);
        self
    }

    /// What a repeated signal may cut short. Default: only the wait for the scope. With [`Repeat::Force`], for a callback
    /// that may hang, a repeat also cuts callbacks and deferred functions; those that have not started do not run.
    pub fn repeat(mut self, repeat: Repeat) -> Builder {
        self.settings.repeat = repeat;
        self
    }

    /// What happens when the scope has ended in time after a signal. Default: a host lets the program continue, and a
    /// guest ends the process.
    pub fn after_scope(mut self, after: AfterScope) -> Builder {
        self.settings.after_scope = Some(after);
        self
    }

    /// How the process ends when a signal ends it. Default: it is killed by the signal.
    pub fn ending(mut self, ending: Ending) -> Builder {
        self.settings.ending = ending;
        self
    }

    /// Tells `observe` everything that happens on the way out, on the thread where it happens, and never in the signal
    /// handler. A panic in it is contained. It delays the exit: one that blocks forever needs a
    /// [`callback_timeout`](Builder::callback_timeout).
    ///
    /// ```
    /// use handle_exit::HandleExit;
    /// use std::io::{Write, stderr};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder()
    ///     .observe(|event| { let _ = writeln!(stderr(), "{event}"); })
    ///     .install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe(mut self, observe: impl Fn(&Event) + Send + Sync + 'static) -> Builder {
        self.observer = Observer(Some(Box::new(observe)));
        self
    }

    /// Makes the guard. `callback` does not run now, but once on the way out.
    ///
    /// # Errors
    /// Every [`Error`] is possible: a host gets [`Error::Nested`] and [`Error::HandlerExists`], a guest neither. No
    /// disposition is changed then.
    pub fn install(self, callback: impl FnOnce() + Send + 'static) -> Result<HandleExit, Error> {
        self.install_boxed(Box::new(move |_| callback()))
    }

    /// Makes the guard, with a callback that is told what began the exit.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    /// use std::io::{Write, stderr};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder()
    ///     .install_with(|cause| { let _ = writeln!(stderr(), "stopping: {cause}"); })?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`install`](Builder::install).
    pub fn install_with(
        self,
        callback: impl FnOnce(&Cause) + Send + 'static,
    ) -> Result<HandleExit, Error> {
        self.install_boxed(Box::new(callback))
    }

    /// Runs `body` under the guard: [`HandleExit::run`] with the settings of this builder.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let mut pieces = Vec::new();
    /// HandleExit::builder().run(|| {}, |exit| {
    ///     while !exit.is_exiting() && pieces.len() < 3 {
    ///         pieces.push(pieces.len());
    ///     }
    /// })?;
    /// assert_eq!(pieces, [0, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`install`](Builder::install); `body` has not run then.
    pub fn run<'env, R>(
        self,
        callback: impl FnOnce() + Send + 'env,
        body: impl FnOnce(&Exit) -> R + 'env,
    ) -> Result<R, Error> {
        borrowed::lend(Box::new(move |_| callback()), move |callback| {
            let guard = self.install_boxed(callback)?;
            Ok(body(&guard))
        })
    }

    /// As [`run`](Builder::run), but tells the callback what began the exit, and returns the [`Outcome`] too.
    ///
    /// ```
    /// use handle_exit::{Cause, HandleExit};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let mut seen = None;
    /// let (answer, outcome) =
    ///     HandleExit::builder().run_with(|cause| seen = Some(cause.clone()), |_exit| 42)?;
    /// assert_eq!((answer, outcome.cause()), (42, &Cause::ScopeEnd));
    /// assert_eq!(seen, Some(Cause::ScopeEnd));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`install`](Builder::install); `body` has not run then.
    pub fn run_with<'env, R>(
        self,
        callback: impl FnOnce(&Cause) + Send + 'env,
        body: impl FnOnce(&Exit) -> R + 'env,
    ) -> Result<(R, Outcome), Error> {
        borrowed::lend(Box::new(callback), move |callback| {
            let guard = self.install_boxed(callback)?;
            let result = body(&guard);
            Ok((result, guard.finish()))
        })
    }

    fn install_boxed(self, callback: Callback) -> Result<HandleExit, Error> {
        let Builder { mut settings, on, observer } = self;
        settings.signals = settings.signals.minus(settings.on);
        install::validate(&settings)?;
        let guard = Arc::new(Guard::new(settings, callback, on, observer));
        install::install(&guard)?;
        Ok(HandleExit::over(guard))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
