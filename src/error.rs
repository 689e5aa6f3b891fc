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
/// let error = HandleExit::new(|| {}).unwrap_err();
/// assert!(error.to_string().starts_with("SIGINT already has a handler: "));
/// assert!(matches!(error, Error::HandlerExists { signal: Signal::INT, .. }));
/// # Ok(())
/// # }
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A host was requested, but this process already has one. A guest
    /// ([`append`](crate::HandleExit::append)) never gets this.
    #[error(
        "this process already has a host, a guard made with HandleExit::new or cleanup: use HandleExit::append \
         (or Builder::append) to make a guest, or Exit::current() and defer() to add a clean-up to the host"
    )]
    Nested,

    /// A host was requested, but the signal has a foreign handler.
    #[error(
        "{signal} already has a handler: {holder}. Use HandleExit::append (or Builder::append) to \
         run the callback first and that handler after it, or leave {signal} out of the signals"
    )]
    #[non_exhaustive]
    HandlerExists {
        /// The signal that has a handler.
        signal: Signal,
        /// Whose handler it is.
        holder: Holder,
    },

    /// The signal cannot be guarded, or must not be.
    #[error("{signal} cannot be guarded: {reason}. Leave it out of the signals")]
    #[non_exhaustive]
    Unguardable {
        /// The signal that was named.
        signal: Signal,
        /// Why not.
        reason: &'static str,
    },

    /// A guard without any signal was requested.
    #[error(
        "no signal to guard: name at least one in Builder::signals, Builder::also or Builder::on"
    )]
    NoSignals,

    /// Nothing can be added to this exit any more: it is ending or over, another thread is ending the process, or the
    /// guard belongs to the process that this one was forked from.
    #[error(
        "nothing can be added to an exit that is ending or over, nor to a guard of the process that this \
         one was forked from: do the clean-up directly, or make a new guard"
    )]
    Ended,

    /// Another thread or a foreign handler was in the way.
    #[error("{}{reason}", before(*.signal))]
    #[non_exhaustive]
    Busy {
        /// The signal concerned, if there is one.
        signal: Option<Signal>,
        /// What is in the way.
        reason: &'static str,
    },

    /// The operating system refused a step. Its own error is the `source()`.
    #[error("{step}{} failed", of(*.signal))]
    #[non_exhaustive]
    System {
        /// The step that failed.
        step: &'static str,
        /// The signal that the step was for, if there is one.
        signal: Option<Signal>,
        /// What the operating system said.
        source: io::Error,
    },
}

impl fmt::Debug for Error {
    /// The variant, and then as `Display`: `unwrap` and `fn main() -> Result<_, Error>` show this.
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
            // Nothing else prints the source there.
            Error::System { source, .. } => write!(f, ": {source}"),
            _ => Ok(()),
        }
    }
}

impl Error {
    pub(crate) fn system(signal: Option<Signal>, step: &'static str, source: io::Error) -> Error {
        Error::System { step, signal, source }
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
        let error = Error::system(Some(Signal::TERM), "sigaction", denied());
        assert_eq!(error.to_string(), "sigaction for SIGTERM failed");
        let source = std::error::Error::source(&error).expect("the system's reason");
        assert_eq!(source.to_string(), denied().to_string());
        assert!(format!("{error:?}").ends_with(&format!("failed: {}", denied())));
        let error = Error::system(None, "spawning the watcher thread", denied());
        assert_eq!(error.to_string(), "spawning the watcher thread failed");
    }
}
