//! The settings of a guard, and every decision that follows from them alone.

use std::time::Duration;

use crate::signal::{Signal, SignalSet};
use crate::sys::abort;
use crate::sys::status::Status;

/// How much later than the watcher an aborting thread gives up.
const ABORT_MARGIN: Duration = Duration::from_secs(1);

/// When the old handlers run: [`Builder::old_handler`](crate::Builder::old_handler).
///
/// ```
/// use handle_exit::{HandleExit, OldHandler};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// let guard = HandleExit::builder().append(true).old_handler(OldHandler::Always).install(|| {})?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OldHandler {
    /// After a signal: the handler of each signal that came, after the callback.
    #[default]
    OnSignal,
    /// After a signal, as `OnSignal` says; and each guard whose scope ends without a signal calls each distinct old
    /// handler of its signals once. `process::exit` ends no scope.
    Always,
}

/// What to do with a signal that is ignored (`SIG_IGN`) when the guard is made:
/// [`Builder::ignored`](crate::Builder::ignored).
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Ignored {
    /// Leave it ignored: `nohup` and a shell's `&` ask for that.
    #[default]
    Keep,
    /// Guard it like any other; the end of the scope restores `SIG_IGN`.
    Guard,
}

/// What a repeated signal may cut short: [`Builder::repeat`](crate::Builder::repeat).
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Repeat {
    /// Only the wait for the scope. Callbacks, old handlers and deferred functions run to their end.
    #[default]
    Finish,
    /// For a callback that may hang: a repeat cuts callbacks and deferred functions too. The process then ends at once,
    /// as [`Ending`] says. **Deferred functions do not run then**, nor does anything else. Costs a second sleeping
    /// thread.
    Force,
    /// Nothing, not even the wait for the scope. For a program that must not end before its children, or whose
    /// supervisor repeats TERM. A signal that comes while the deferred functions run still ends the process after them.
    Absorb,
}

/// What happens when the scope has ended in time after a signal:
/// [`Builder::after_scope`](crate::Builder::after_scope).
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AfterScope {
    /// The program continues after the scope. The default of a host.
    #[default]
    Continue,
    /// The process ends as [`Ending`] says. The default of a guest, and of [`cleanup`](crate::HandleExit::cleanup).
    End,
}

/// How the process ends when a signal ends it: [`Builder::ending`](crate::Builder::ending).
///
/// With a code, the exit functions of the C library run on Unix, such as those that write coverage data. If the guard is
/// still alive in `process::exit` or after the return from `main`, and the signal ends the process there, those that
/// were registered before the guard do not run.
///
/// ```
/// use handle_exit::{Ending, HandleExit};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// let guard = HandleExit::builder().ending(Ending::Code(3)).install(|| {})?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Ending {
    /// It is killed by the signal: the parent sees `WIFSIGNALED`. As PID 1 of a namespace, which the
    /// kernel does not kill, it exits with 128 + n.
    #[default]
    Signal,
    /// `process::exit` with this code.
    Code(i32),
    /// `process::exit` with 128 + n, the code that a shell shows for a process killed by signal n.
    ShellCode,
}

/// The settings of a [`Builder`](crate::Builder), without its functions.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The signals that begin the exit.
    pub(crate) signals: SignalSet,
    /// The signals of `Builder::on`: none of `signals`.
    pub(crate) on: SignalSet,
    pub(crate) append: bool,
    pub(crate) ignored: Ignored,
    pub(crate) old_handler: OldHandler,
    pub(crate) grace: Duration,
    pub(crate) callback_timeout: Option<Duration>,
    pub(crate) repeat: Repeat,
    /// `None`: `Continue` for a host, `End` for a guest.
    pub(crate) after_scope: Option<AfterScope>,
    pub(crate) ending: Ending,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            signals: [Signal::TERM, Signal::INT].into_iter().collect(),
            on: SignalSet::default(),
            append: false,
            ignored: Ignored::default(),
            old_handler: OldHandler::default(),
            grace: Duration::from_secs(5),
            callback_timeout: None,
            repeat: Repeat::default(),
            after_scope: None,
            ending: Ending::default(),
        }
    }
}

impl Settings {
    pub(crate) fn all_signals(&self) -> SignalSet {
        self.signals.union(self.on)
    }

    /// How the process ends because of `signal`.
    pub(crate) fn status(&self, signal: Signal) -> Status {
        match self.ending {
            Ending::Signal => Status::Signal(signal),
            Ending::Code(code) => Status::Code(code),
            Ending::ShellCode => Status::Code(128 + signal.as_raw()),
        }
    }

    /// How the process ends when the scope has ended in time; `None` if the program continues.
    pub(crate) fn status_after_scope(&self, signal: Signal) -> Option<Status> {
        let ends = self.after_scope.map_or(self.append, |after| after == AfterScope::End);
        ends.then(|| self.status(signal))
    }

    /// Whether a second thread has to watch over user code.
    pub(crate) fn needs_standby(&self) -> bool {
        self.callback_timeout.is_some() || self.repeat == Repeat::Force
    }

    /// Whether a process has at most one such guard.
    pub(crate) fn is_host(&self) -> bool {
        !self.append
    }

    /// How long an aborting thread waits for the callback, and then for the deferred functions. With a
    /// `callback_timeout`, the watcher ends the process before that.
    pub(crate) fn abort_wait(&self) -> Duration {
        self.callback_timeout.map_or(abort::WAIT, |timeout| timeout.saturating_add(ABORT_MARGIN))
    }
}
