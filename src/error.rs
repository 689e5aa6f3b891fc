//! [`Error`]: why no guard was made.

use std::fmt;
use std::io;

use crate::signal::Signal;
pub use crate::sys::holder::Holder;

/// Why a guard was not made, or a function not deferred.
///
/// Whatever the error, every disposition is as it was before the call.
///
/// ```
/// use handle_exit::{Error, HandleExit, Signal};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// ctrlc::set_handler(|| {}).unwrap();
/// match HandleExit::new(|| {}) {
///     Err(Error::HandlerExists { signal, holder, .. }) => {
///         assert_eq!(signal, Signal::INT);
///         println!("{signal} belongs to {holder}");
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This process has a living guard, and `append` was not asked for.
    #[error(
        "this process already has an exit guard: use HandleExit::append (or Builder::append) to add \
         another, or Exit::current() and defer() to add to that one"
    )]
    Nested,

    /// Someone else handles the signal.
    #[error(
        "{signal} already has a handler: {holder}. Use HandleExit::append (or Builder::append) to \
         run the callback first and that handler after it, or leave {signal} out of the signals"
    )]
    #[non_exhaustive]
    HandlerExists {
        /// The signal that is taken.
        signal: Signal,
        /// Whose handler it is.
        holder: Holder,
    },

    /// The signal cannot be guarded by anyone, or must not be.
    #[error("{signal} cannot be guarded: {reason}. Leave it out of the signals")]
    #[non_exhaustive]
    Unguardable {
        /// The signal that was asked for.
        signal: Signal,
        /// Why not.
        reason: &'static str,
    },

    /// The set of signals is empty.
    #[error("no signal to guard: name at least one in Builder::signals")]
    NoSignals,

    /// The exit is ending or over, so nothing can be added to it any more; or it is another process's.
    #[error(
        "this guard's exit is ending or over, or belongs to the process this one was forked from: \
         do the clean-up directly, or make a new guard"
    )]
    Ended,

    /// Somebody else was at work on the same thing at that moment, or for too long.
    #[error("{}{reason}", before(*.signal))]
    #[non_exhaustive]
    Busy {
        /// The signal it is about, where it is about one.
        signal: Option<Signal>,
        /// What is in the way.
        reason: &'static str,
    },

    /// The operating system refused a step. What it said is the `source()`.
    #[error("{step}{} failed", of(*.signal))]
    #[non_exhaustive]
    System {
        /// What was being done.
        step: &'static str,
        /// The signal it was done for, where it was for one.
        signal: Option<Signal>,
        /// What the operating system said.
        source: io::Error,
    },
}

impl fmt::Debug for Error {
    /// The variant, and then as `Display`: it is what `unwrap` and `fn main() -> Result<_, Error>` show
    /// people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = match self {
            Error::Nested => "Nested",
            Error::HandlerExists { .. } => "HandlerExists",
            Error::Unguardable { .. } => "Unguardable",
            Error::NoSignals => "NoSignals",
            Error::Ended => "Ended",
            Error::Busy { .. } => "Busy",
            Error::System { .. } => "System",
        };
        write!(f, "{variant}: {self}")?;
        match self {
            // Nobody else prints it there.
            Error::System { source, .. } => write!(f, ": {source}"),
            _ => Ok(()),
        }
    }
}

impl Error {
    pub(crate) fn system(step: &'static str, source: io::Error) -> Error {
        Error::System { step, signal: None, source }
    }

    pub(crate) fn system_for(signal: Signal, step: &'static str, source: io::Error) -> Error {
        Error::System { step, signal: Some(signal), source }
    }

    #[cfg(unix)]
    pub(crate) fn busy(reason: &'static str) -> Error {
        Error::Busy { signal: None, reason }
    }

    pub(crate) fn busy_for(signal: Signal, reason: &'static str) -> Error {
        Error::Busy { signal: Some(signal), reason }
    }
}

fn before(signal: Option<Signal>) -> String {
    signal.map(|signal| format!("{signal}: ")).unwrap_or_default()
}

fn of(signal: Option<Signal>) -> String {
    signal.map(|signal| format!(" for {signal}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn can_go_anywhere_an_error_goes() {
        fn assert<T: std::error::Error + Send + Sync + 'static>() {}
        assert::<Error>();
    }

    #[test]
    fn debug_names_the_variant_and_says_the_same() {
        assert_eq!(format!("{:?}", Error::Ended), format!("Ended: {}", Error::Ended));
    }

    #[test]
    fn a_system_error_names_step_and_signal_and_keeps_its_source() {
        let denied = || io::Error::from_raw_os_error(1);
        let error = Error::system_for(Signal::TERM, "sigaction", denied());
        assert_eq!(error.to_string(), "sigaction for SIGTERM failed");
        let source = std::error::Error::source(&error).expect("the system's reason");
        assert_eq!(source.to_string(), denied().to_string());
        assert!(format!("{error:?}").ends_with(&format!("failed: {}", denied())));
        let error = Error::system("spawning the watcher thread", denied());
        assert_eq!(error.to_string(), "spawning the watcher thread failed");
    }
}
