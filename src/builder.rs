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
use crate::sys::{borrowed, process};

/// A guard to be. Nothing happens before [`install`](Builder::install) or [`run`](Builder::run).
///
/// ```
/// use std::time::Duration;
/// use handle_exit::{HandleExit, Signal};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// let guard = HandleExit::builder()
///     .signals([Signal::TERM, Signal::INT, Signal::HUP])
///     .grace(Duration::from_secs(30))
///     .install_with(|cause| println!("stopping: {cause}"))?;
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

    /// The signals to guard, instead of TERM and INT. A signal named twice counts once.
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

    /// Signals to guard besides those that are guarded already, which by default are TERM and INT.
    ///
    /// `also([Signal::ABRT])` is what a program with `panic = "abort"` wants: a panic then runs the
    /// callback too, before the process dies of SIGABRT.
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

    /// For code that cannot be told to stop, as [`HandleExit::cleanup`]: after the callback the process is
    /// killed by the signal, whatever the scope does meanwhile. Sets a grace period of zero and
    /// [`AfterScope::End`].
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

    /// A signal that is no exit, such as HUP for "read your configuration again": `function` runs on
    /// the watcher thread each time it comes. Several that come at once may be merged into one, as
    /// the kernel merges them. A panic in `function` is contained. **It must return soon**: until it does,
    /// TERM and `^C` wait, and so does dropping the guard.
    ///
    /// The signal is refused where a guarded one would be, and what [`append`](Builder::append) and
    /// [`ignored`](Builder::ignored) say holds for it as well: with `append`, the old handler is called
    /// after each call of `function`. It takes signals whose default does not end a process too, such
    /// as CHLD and WINCH. Once the exit has begun, `function` is not called any more: what came
    /// before that and was not heard is over with the guard. A signal that is named here is none of
    /// [`signals`](Builder::signals).
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

    /// Whether a handler that stands already may stay, to be run after the callback. Default: no,
    /// it is refused with [`Error::HandlerExists`].
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().append(true).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn append(mut self, append: bool) -> Builder {
        self.settings.append = append;
        self
    }

    /// When handlers that stood before are run. Default: after a signal. On Windows they are run by
    /// an event alone, whatever this says.
    pub fn old_handler(mut self, when: OldHandler) -> Builder {
        self.settings.old_handler = when;
        self
    }

    /// What to do with a signal that is ignored. Default: leave it so.
    ///
    /// On Windows this changes nothing: a process that ignores `^C` (after
    /// `SetConsoleCtrlHandler(NULL, TRUE)`, or in a process group of its own, which begins with that) is not told
    /// of it, and nobody can ask. It stays ignored.
    pub fn ignored(mut self, ignored: Ignored) -> Builder {
        self.settings.ignored = ignored;
        self
    }

    /// How long the scope has to end by itself after a signal, from the callback's return. Default
    /// 5 s; `Duration::ZERO`: the process ends at once; `Duration::MAX`: no limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().grace(Duration::from_secs(25)).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn grace(mut self, grace: Duration) -> Builder {
        self.settings.grace = grace;
        self
    }

    /// How long the callback may run before the process ends with code 101. Default: no limit. Costs
    /// one thread, for all guards that have one.
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

    /// What a repeated signal may cut short. Default: only the wait for the scope.
    pub fn repeat(mut self, repeat: Repeat) -> Builder {
        self.settings.repeat = repeat;
        self
    }

    /// What happens when the scope has ended in time after a signal. Default: the program goes on.
    pub fn after_scope(mut self, after: AfterScope) -> Builder {
        self.settings.after_scope = Some(after);
        self
    }

    /// How a process that a signal ends, ends. Default: it dies of the signal.
    pub fn ending(mut self, ending: Ending) -> Builder {
        self.settings.ending = ending;
        self
    }

    /// Hears of everything that happens on the way out. Called on the thread where it happens,
    /// never in the signal handler; a panic in it is contained.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().observe(|event| eprintln!("{event}")).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe(mut self, observe: impl Fn(&Event) + Send + Sync + 'static) -> Builder {
        self.observer = Observer(Some(Box::new(observe)));
        self
    }

    /// Installs the guard.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().install(|| println!("stopping"))?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Every [`Error`] but [`Error::Ended`]. No disposition is changed then.
    pub fn install(self, callback: impl FnOnce() + Send + 'static) -> Result<HandleExit, Error> {
        self.install_boxed(Box::new(move |_| callback()))
    }

    /// Installs the guard, with a callback that is told what began the exit.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().install_with(|cause| println!("stopping: {cause}"))?;
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

    /// As [`run`](Builder::run), with a callback that is told what began the exit, and with the
    /// [`Outcome`].
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
        let process = process::this();
        let guard = Arc::new(Guard::new(settings, callback, on, observer, process));
        install::install(&guard, process)?;
        Ok(HandleExit::over(guard))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
