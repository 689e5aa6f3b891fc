//! [`Received`] and its [`Sender`].

use std::fmt;

use super::Signal;

/// A signal that came, with what the kernel says about its sender.
///
/// ```
/// use handle_exit::{Cause, HandleExit, Signal};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// let guard = HandleExit::new(|| {})?;
/// # signal_hook::low_level::raise(handle_exit::Signal::TERM.as_raw()).unwrap();
/// if let Cause::Signal(received) = guard.wait() {
///     assert_eq!(received.signal(), Signal::TERM);
///     assert_eq!(received.sender().map(|sender| sender.pid), Some(std::process::id()));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Received {
    pub(crate) signal: Signal,
    pub(crate) sender: Option<Sender>,
}

impl Received {
    /// The signal.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The sender: `Some` if a process sent it with `kill(2)`, `tgkill(2)`, `sigqueue(3)` or
    /// `raise(3)`; `None` if the kernel did (`^C` on a terminal, a timer, a resource limit).
    #[must_use]
    pub fn sender(&self) -> Option<Sender> {
        self.sender
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.signal.fmt(f)?;
        match self.sender {
            Some(sender) => write!(f, " from {sender}"),
            None => f.write_str(" from the kernel"),
        }
    }
}

/// The process that sent a signal: `si_pid` and `si_uid` of `sigaction(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Sender {
    /// Process id, as seen in this process's pid namespace; 0 for a sender outside it.
    pub pid: u32,
    /// Real user id of the sender.
    pub uid: u32,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of user {}", self.pid, self.uid)
    }
}
