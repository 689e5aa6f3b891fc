//! What began an exit ([`Cause`]), and how it ended ([`Outcome`]).

use std::fmt;
use std::process::{ExitCode, Termination};

use crate::policy::Status;
use crate::signal::Signal;

/// What began the exit. It stays what it was, whatever comes after.
///
/// ```
/// use handle_exit::{Cause, HandleExit};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// let guard = HandleExit::builder().install_with(|cause| match cause {
///     Cause::Signal(received) => println!("stopping: {received}"),
///     Cause::Panic => eprintln!("cleaning up after a panic"),
///     _ => {}
/// })?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The scope ended: the guard was dropped, finished or disarmed.
    ScopeEnd,
    /// The guard was dropped by a panic that unwinds through its scope.
    Panic,
    /// `std::process::exit`, or return from `main`, with the guard still alive.
    ProcessExit,
    /// [`ExitHandle::request`](crate::ExitHandle::request).
    Requested,
    /// A guarded signal.
    Signal(Received),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::ScopeEnd => f.write_str("the scope ended"),
            Cause::Panic => f.write_str("a panic"),
            Cause::ProcessExit => f.write_str("the process exits"),
            Cause::Requested => f.write_str("requested by the program"),
            Cause::Signal(received) => received.fmt(f),
        }
    }
}

/// A signal that came, with what the kernel said of its sender.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub(crate) signal: Signal,
    pub(crate) sender: Option<Sender>,
}

impl Received {
    /// Which signal.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Who sent it: `Some` where a process did with `kill(2)`, `tgkill(2)`, `sigqueue(3)` or
    /// `raise(3)`; `None` where the kernel did (`^C` on a terminal, a timer, a resource limit).
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// How the scope ended: what [`HandleExit::finish`](crate::HandleExit::finish) says.
///
/// As the return value of `main` it makes the process end the way the exit began: every destructor
/// of `main` has run by then, standard output is flushed, and the process dies of the signal that
/// ended it. A parent, a shell loop or a supervisor then sees the truth.
///
/// ```no_run
/// use handle_exit::{Error, HandleExit, Outcome};
///
/// fn main() -> Result<Outcome, Error> {
///     let guard = HandleExit::new(|| println!("stopping"))?;
///     // … work until it is done or told to stop …
///     Ok(guard.finish())
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "return it from `main`, or ask it what happened; `drop(guard)` is the silent form"]
pub struct Outcome {
    pub(crate) cause: Cause,
    pub(crate) signal: Option<Signal>,
    pub(crate) panicked: bool,
    pub(crate) status: Option<Status>,
}

impl Outcome {
    /// What began the exit.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The signal that asked for the end: the one that began the exit, or the first that came after
    /// a [`request`](crate::ExitHandle::request). `None` where none came.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        self.signal
    }

    /// Whether the callback panicked instead of returning.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let outcome = HandleExit::new(|| panic!("on purpose"))?.finish();
    /// assert!(outcome.callback_panicked());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn callback_panicked(&self) -> bool {
        self.panicked
    }

    /// The exit code a shell would show: 101 after a panicked callback, what
    /// [`Ending`](crate::Ending) says (128 + n for a death by signal n) after a signal, else 0.
    ///
    /// For programs that must return a code of their own; [`end_process`](Outcome::end_process) and
    /// returning the outcome from `main` die by the signal itself.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let outcome = HandleExit::new(|| {})?.finish();
    /// assert_eq!(outcome.exit_code(), std::process::ExitCode::SUCCESS);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        // wait(2): only the low eight bits reach the parent.
        ExitCode::from(self.status.map_or(0, |status| status.code().to_le_bytes()[0]))
    }

    /// Ends the process as this outcome says: by the signal, with code 101 after a panicked
    /// callback, with what [`Ending`](crate::Ending) says, or with 0.
    ///
    /// Standard output is flushed first. No destructor runs: return the outcome from `main` where
    /// they should.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = handle_exit::HandleExit::new(|| {})?;
    /// // … work …
    /// guard.finish().end_process();
    /// # }
    /// ```
    pub fn end_process(self) -> ! {
        // A death by signal runs nothing of std's own clean-up at exit, which is what flushes.
        let _ = std::io::Write::flush(&mut std::io::stdout());
        self.status.unwrap_or(Status::Code(0)).end()
    }
}

impl Termination for Outcome {
    /// Ends the process as [`end_process`](Outcome::end_process) does.
    fn report(self) -> ExitCode {
        match self.status {
            None => ExitCode::SUCCESS,
            Some(_) => self.end_process(),
        }
    }
}
