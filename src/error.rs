//! [`Error`]: why no guard was made.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::signal::Signal;

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
    /// This process has a living guard.
    #[error(
        "this process already has an exit guard, and a process can have only one: \
         drop it first, or reach it with ExitHandle::current() and defer() to it"
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

    /// The exit is over, so nothing can be added to it any more; or it is another process's.
    #[error(
        "this guard's exit is over, or belongs to the process this one was forked from: \
         do the clean-up directly, or make a new guard"
    )]
    Ended,

    /// The operating system refused a step.
    #[error("{step}{} failed: {source}", of(*.signal))]
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
            Error::System { .. } => "System",
        };
        write!(f, "{variant}: {self}")
    }
}

impl Error {
    pub(crate) fn system(step: &'static str, source: io::Error) -> Error {
        Error::System { step, signal: None, source }
    }

    pub(crate) fn system_for(signal: Signal, step: &'static str, source: io::Error) -> Error {
        Error::System { step, signal: Some(signal), source }
    }
}

fn of(signal: Option<Signal>) -> String {
    signal.map(|signal| format!(" for {signal}")).unwrap_or_default()
}

/// Who holds a signal: the handler's address, and where the dynamic linker (`dladdr(3)`) knows them
/// the object file it lies in and its symbol.
///
/// ```
/// use handle_exit::{Error, HandleExit};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// ctrlc::set_handler(|| {}).unwrap();
/// if let Err(Error::HandlerExists { holder, .. }) = HandleExit::new(|| {}) {
///     assert!(holder.address() != 0);
///     println!("{:?} {:?}", holder.object(), holder.symbol());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub(crate) address: usize,
    pub(crate) object: Option<PathBuf>,
    pub(crate) offset: Option<usize>,
    pub(crate) symbol: Option<String>,
}

impl Holder {
    /// The address of the handler in this process.
    #[must_use]
    pub fn address(&self) -> usize {
        self.address
    }

    /// The program or shared library that the handler is part of.
    #[must_use]
    pub fn object(&self) -> Option<&Path> {
        self.object.as_deref()
    }

    /// The handler's name. Known for what a library exports, seldom for what is linked into the
    /// program itself: `addr2line -e OBJECT OFFSET` names those.
    #[must_use]
    pub fn symbol(&self) -> Option<&str> {
        self.symbol.as_deref()
    }
}

impl fmt::Display for Holder {
    /// `on_int in /usr/lib/libfoo.so (+0x1a40) at 0x7f12a4c01a40`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol.as_deref().unwrap_or("a function"))?;
        if let Some(object) = &self.object {
            write!(f, " in {}", object.display())?;
        }
        if let Some(offset) = self.offset {
            write!(f, " (+{offset:#x})")?;
        }
        write!(f, " at {:#x}", self.address)
    }
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
        let denied = || io::Error::from_raw_os_error(nix::libc::EPERM);
        let error = Error::system_for(Signal::TERM, "sigaction", denied());
        assert_eq!(error.to_string(), format!("sigaction for SIGTERM failed: {}", denied()));
        assert!(std::error::Error::source(&error).is_some());
        let error = Error::system("spawning the watcher thread", denied());
        assert!(error.to_string().starts_with("spawning the watcher thread failed: "));
    }
}
