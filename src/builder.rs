//! [`Builder`]: plain data, validated and installed at the end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cause::Cause;
use crate::error::Error;
use crate::event::{Event, Observer};
use crate::guard::HandleExit;
use crate::handle::ExitHandle;
use crate::install::{self, Claims};
use crate::policy::{AfterScope, Ending, Ignored, OldHandler, Policy, Repeat};
use crate::scope::{Callback, Scope};
use crate::signal::Signal;
use crate::sys::borrowed;

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
    claims: Claims,
    policy: Policy,
    observer: Observer,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            claims: Claims {
                signals: vec![Signal::TERM, Signal::INT],
                append: false,
                ignored: Ignored::default(),
            },
            policy: Policy::default(),
            observer: Observer::default(),
        }
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
        self.claims.signals = signals.into_iter().collect();
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
        self.claims.append = append;
        self
    }

    /// When handlers that stood before are run. Default: after a signal.
    ///
    /// ```
    /// use handle_exit::{HandleExit, OldHandler};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder()
    ///     .append(true)
    ///     .old_handler(OldHandler::Always)
    ///     .install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn old_handler(mut self, when: OldHandler) -> Builder {
        self.policy.old_handler = when;
        self
    }

    /// What to do with a signal that is ignored. Default: leave it so.
    ///
    /// ```
    /// use handle_exit::{HandleExit, Ignored};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().ignored(Ignored::Guard).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ignored(mut self, ignored: Ignored) -> Builder {
        self.claims.ignored = ignored;
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
        self.policy.grace = grace;
        self
    }

    /// How long the callback may run before the process ends with code 101. Default: no limit. Costs
    /// a second thread while the guard lives.
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
        self.policy.callback_timeout = Some(timeout);
        self
    }

    /// What a repeated signal may cut short. Default: only the wait for the scope.
    ///
    /// ```
    /// use handle_exit::{HandleExit, Repeat};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().repeat(Repeat::Force).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn repeat(mut self, repeat: Repeat) -> Builder {
        self.policy.repeat = repeat;
        self
    }

    /// What happens when the scope has ended in time after a signal. Default: the program goes on.
    ///
    /// ```
    /// use handle_exit::{AfterScope, HandleExit};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().after_scope(AfterScope::End).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn after_scope(mut self, after: AfterScope) -> Builder {
        self.policy.after_scope = after;
        self
    }

    /// How a process that a signal ends, ends. Default: it dies of the signal.
    ///
    /// ```
    /// use handle_exit::{Ending, HandleExit};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = HandleExit::builder().ending(Ending::ShellCode).install(|| {})?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ending(mut self, ending: Ending) -> Builder {
        self.policy.ending = ending;
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
        body: impl FnOnce(&ExitHandle) -> R + 'env,
    ) -> Result<R, Error> {
        borrowed::lend(Box::new(move |_| callback()), move |callback| {
            let guard = self.install_boxed(callback)?;
            Ok(body(&guard))
        })
    }

    fn install_boxed(self, callback: Callback) -> Result<HandleExit, Error> {
        let Builder { claims, policy, observer } = self;
        let claims = claims.validate()?;
        let scope = install::install(&claims, |pid| {
            Ok(Arc::new(Scope::new(policy, observer, callback, pid)))
        })?;
        Ok(HandleExit::over(scope, claims))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("claims", &self.claims)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
