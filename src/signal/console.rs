//! What Windows has instead of signals: [`ConsoleEvent`], and the [`Received`] that tells which one came.

use std::fmt;

use super::Signal;

/// An event of which the system tells a console program.
///
/// `CTRL_C` comes as [`Signal::INT`], all others as [`Signal::TERM`]. After [`Close`], [`Logoff`] and
/// [`Shutdown`] the process is going to end, whatever it does: the system gives it about five seconds.
///
/// Only services get [`Logoff`] and [`Shutdown`], and a program that has loaded `user32.dll` or
/// `gdi32.dll` gets neither ([documentation]).
///
/// [`Close`]: ConsoleEvent::Close
/// [`Logoff`]: ConsoleEvent::Logoff
/// [`Shutdown`]: ConsoleEvent::Shutdown
/// [documentation]: https://learn.microsoft.com/en-us/windows/console/handlerroutine
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsoleEvent {
    /// `CTRL_C_EVENT`: the keys, or `GenerateConsoleCtrlEvent`. Comes as [`Signal::INT`].
    CtrlC,
    /// `CTRL_BREAK_EVENT`: the keys, or a parent that ends a process group. Comes as [`Signal::TERM`].
    CtrlBreak,
    /// `CTRL_CLOSE_EVENT`: the console's window is being closed. Comes as [`Signal::TERM`].
    Close,
    /// `CTRL_LOGOFF_EVENT`: a user is logging off. Comes as [`Signal::TERM`].
    Logoff,
    /// `CTRL_SHUTDOWN_EVENT`: the system is shutting down. Comes as [`Signal::TERM`].
    Shutdown,
}

impl ConsoleEvent {
    /// The signal that stands for it.
    #[must_use]
    pub fn signal(self) -> Signal {
        match self {
            ConsoleEvent::CtrlC => Signal::INT,
            _ => Signal::TERM,
        }
    }

    /// Whether the system ends the process after it, whatever the process does.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, ConsoleEvent::Close | ConsoleEvent::Logoff | ConsoleEvent::Shutdown)
    }
}

impl fmt::Display for ConsoleEvent {
    /// `CTRL_CLOSE`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ConsoleEvent::CtrlC => "CTRL_C",
            ConsoleEvent::CtrlBreak => "CTRL_BREAK",
            ConsoleEvent::Close => "CTRL_CLOSE",
            ConsoleEvent::Logoff => "CTRL_LOGOFF",
            ConsoleEvent::Shutdown => "CTRL_SHUTDOWN",
        })
    }
}

/// A signal that came, and the event of the console that it stands for.
///
/// ```no_run
/// use handle_exit::{Cause, ConsoleEvent, HandleExit};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// let guard = HandleExit::new(|| {})?;
/// if let Cause::Signal(received) = guard.wait() {
///     if received.console_event() == ConsoleEvent::Close {
///         // … the window is being closed: five seconds are left …
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Received(pub(crate) ConsoleEvent);

impl Received {
    /// The signal.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.0.signal()
    }

    /// The event of the console.
    #[must_use]
    pub fn console_event(&self) -> ConsoleEvent {
        self.0
    }
}

impl fmt::Display for Received {
    /// `SIGTERM (CTRL_CLOSE)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.signal(), self.0)
    }
}
