//! [`Outcome`]: how a scope ended.

use std::process::{ExitCode, Termination};

use crate::cause::Cause;
use crate::exit;
use crate::signal::Signal;
use crate::sys::flush;
use crate::sys::process;
use crate::sys::status::Status;

/// How the scope ended: what [`HandleExit::finish`](crate::HandleExit::finish) says.
///
/// As the return value of `main`, it ends the process the way the exit began: 0, killed by the signal, or 101. If an
/// old handler decided about the signal, as it may for a guest, the code is 0, although [`signal`](Outcome::signal)
/// names the signal. The destructors of `main` have run by then, the callbacks of other living guards run, and standard
/// output is flushed. A parent, a shell loop or a supervisor then sees how the process really ended.
///
/// ```no_run
/// use handle_exit::{Error, HandleExit, Outcome};
///
/// fn main() -> Result<Outcome, Error> {
///     let guard = HandleExit::new(|| {})?;
///     // … work until it is done or told to stop …
///     Ok(guard.finish())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "return it from `main`, or ask it what happened; `drop(guard)` reports nothing"]
pub struct Outcome {
    pub(crate) cause: Cause,
    pub(crate) signal: Option<Signal>,
    pub(crate) status: Option<Status>,
}

impl Outcome {
    /// What began the exit.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The signal that asked for the end: the one that began the exit, or the first that came after
    /// a [`request`](crate::Exit::request). `None` if none came.
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
        self.status == Some(Status::Failed)
    }

    /// The exit code that a shell would show: 101 after a callback that panicked, what [`Ending`](crate::Ending) says
    /// after a signal that had no old handler (128 + n if the process would be killed by signal n), else 0.
    ///
    /// For programs that must return a code of their own. If `main` returns the outcome, or with
    /// [`end_process`](Outcome::end_process), the process is killed by the signal itself.
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
        ExitCode::from(self.code().to_le_bytes()[0])
    }

    /// The same code as a number, for `std::process::exit` or a log line.
    ///
    /// ```
    /// use handle_exit::HandleExit;
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// assert_eq!(HandleExit::new(|| {})?.finish().code(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.map_or(0, Status::code)
    }

    /// Ends the process as this outcome says: with code 101 after a callback that panicked, as
    /// [`Ending`](crate::Ending) says after a signal that had no old handler, else with 0.
    ///
    /// Standard output is flushed first, and the callbacks and deferred functions of all living guards run. No
    /// destructors run; if they should, return the outcome from `main`.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let guard = handle_exit::HandleExit::new(|| {})?;
    /// // … work …
    /// guard.finish().end_process();
    /// # }
    /// ```
    pub fn end_process(self) -> ! {
        // std flushes in its own clean-up at exit, which does not run if a signal kills the process.
        flush::flush();
        let status = self.status.unwrap_or(Status::Code(0));
        exit::of(process::this()).here().end_here(status, &self.cause)
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
