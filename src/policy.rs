//! What a guard was told to do in each case, and every decision that follows from it.
//!
//! The rest of the crate asks here and obeys: no other file compares a policy.

use std::time::{Duration, Instant};

use crate::signal::Signal;
use crate::sys;

/// A repeat of a signal within this time of the first is the same event: a shell and a parent
/// both deliver one `^C`, npm does so twice.
pub(crate) const SAME_EVENT: Duration = Duration::from_millis(500);

/// How much later than the timer an aborting thread gives up.
const ABORT_MARGIN: Duration = Duration::from_secs(1);

/// How long an aborting thread waits for the callback where no `callback_timeout` is set.
pub(crate) const ABORT_WAIT: Duration = Duration::from_secs(5);

/// When the handlers that stood before the guard are run: [`Builder::old_handler`](crate::Builder::old_handler).
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OldHandler {
    /// After a signal: the handler of each signal that came, after the callback.
    #[default]
    OnSignal,
    /// After a signal, and when the scope ends without one: then each distinct handler once.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ignored {
    /// Leave it ignored: `nohup` and a shell's `&` meant it.
    #[default]
    Keep,
    /// Guard it like any other; the end of the scope puts the ignore back.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Repeat {
    /// Nothing but the wait for the scope: the callback runs to its end.
    #[default]
    Finish,
    /// The callback too. The process then ends at once, as [`Ending`] says, and nothing else runs.
    Force,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AfterScope {
    /// The program goes on behind the scope.
    #[default]
    Continue,
    /// The process ends as [`Ending`] says.
    End,
}

/// How a process that a signal ends, ends: [`Builder::ending`](crate::Builder::ending).
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ending {
    /// It dies of the signal: the parent sees `WIFSIGNALED`. As PID 1 of a namespace, which the
    /// kernel does not kill, it exits with 128 + n.
    #[default]
    Signal,
    /// `process::exit` with this code, so exit functions of the C library run.
    Code(i32),
    /// `process::exit` with 128 + n, the code a shell shows for a death by signal n.
    ShellCode,
}

/// Everything a [`Builder`](crate::Builder) was told that the running guard needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) old_handler: OldHandler,
    pub(crate) grace: Duration,
    pub(crate) callback_timeout: Option<Duration>,
    pub(crate) repeat: Repeat,
    pub(crate) after_scope: AfterScope,
    pub(crate) ending: Ending,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            old_handler: OldHandler::default(),
            grace: Duration::from_secs(5),
            callback_timeout: None,
            repeat: Repeat::default(),
            after_scope: AfterScope::default(),
            ending: Ending::default(),
        }
    }
}

impl Policy {
    /// When the scope has to have ended; `None` for "whenever it likes".
    pub(crate) fn deadline(&self, grace_begins: Instant) -> Option<Instant> {
        grace_begins.checked_add(self.grace)
    }

    /// Whether a repeat this long after the first of its signal is a second wish to end.
    pub(crate) fn repeat_forces(after_first: Duration) -> bool {
        after_first >= SAME_EVENT
    }

    /// How the process ends on account of `signal`.
    pub(crate) fn status(&self, signal: Signal) -> Status {
        match self.ending {
            Ending::Signal => Status::Signal(signal),
            Ending::Code(code) => Status::Code(code),
            Ending::ShellCode => Status::Code(128 + signal.as_raw()),
        }
    }

    /// How the process ends when the scope has ended in time, or `None` if it goes on.
    pub(crate) fn status_after_scope(&self, ended_by: Option<Signal>) -> Option<Status> {
        match self.after_scope {
            AfterScope::Continue => None,
            AfterScope::End => ended_by.map(|signal| self.status(signal)),
        }
    }

    /// How the process ends when a repeat cuts the callback, per signal; `None` where it may not.
    pub(crate) fn cut(&self, signal: Signal) -> Option<Status> {
        match self.repeat {
            Repeat::Finish => None,
            Repeat::Force => Some(self.status(signal)),
        }
    }

    /// Longest time an aborting thread waits in the handler. With a `callback_timeout` the timer
    /// ends the process before that, after the deferred functions.
    pub(crate) fn abort_wait(&self) -> Duration {
        self.callback_timeout.map_or(ABORT_WAIT, |timeout| timeout.saturating_add(ABORT_MARGIN))
    }
}

/// A way for the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Signal(Signal),
    Code(i32),
    /// After a callback that panicked or overran its time: code 101, what Rust's own panics end a
    /// process with, and nothing a supervisor takes for a clean stop.
    Failed,
}

impl Status {
    /// Ends the process this way.
    pub(crate) fn end(self) -> ! {
        match self {
            Status::Signal(signal) => sys::forward::die_by(signal.as_raw()),
            Status::Code(_) | Status::Failed => std::process::exit(self.code()),
        }
    }

    /// The code that stands for it: what `$?` would be, but for the eight bits that wait(2) keeps.
    pub(crate) fn code(self) -> i32 {
        match self {
            Status::Signal(signal) => 128 + signal.as_raw(),
            Status::Code(code) => code,
            Status::Failed => 101,
        }
    }
}
