//! [`Cause`]: what began an exit.

use std::fmt;

use crate::signal::{Received, Signal};

/// What began the exit. It does not change, whatever comes after.
///
/// ```
/// use handle_exit::{Cause, HandleExit};
/// use std::io::{Write, stderr};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// let guard = HandleExit::builder().install_with(|cause| {
///     let _ = match cause {
///         Cause::Signal(received) => writeln!(stderr(), "stopping: {received}"),
///         Cause::Panic => writeln!(stderr(), "cleaning up after a panic"),
///         _ => Ok(()),
///     };
/// })?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The scope ended: the guard was dropped, finished or disarmed.
    ScopeEnd,
    /// A panic unwound through the scope and dropped the guard.
    Panic,
    /// `std::process::exit`, or return from `main`, with the guard still alive.
    ProcessExit,
    /// [`Exit::request`](crate::Exit::request).
    Requested,
    /// A guarded signal; or a signal that only other guards have, if the process ends because of it.
    Signal(Received),
}

impl Cause {
    /// The signal that began the exit, if a signal did.
    ///
    /// ```
    /// use handle_exit::{Cause, HandleExit};
    ///
    /// # fn main() -> Result<(), handle_exit::Error> {
    /// let outcome = HandleExit::new(|| {})?.finish();
    /// assert_eq!(outcome.cause().signal(), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        match self {
            Cause::Signal(received) => Some(received.signal()),
            _ => None,
        }
    }
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
