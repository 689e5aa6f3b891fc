//! [`Holder`]: where a handler comes from.

use std::fmt;
use std::path::{Path, PathBuf};

/// The holder of a signal: the handler's address, and, if the dynamic linker knows them (`dladdr(3)`), its object file
/// and its symbol. `Display` shows them in one line.
///
/// ```
/// use handle_exit::{Error, HandleExit};
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// ctrlc::set_handler(|| {}).unwrap();
/// if let Err(Error::HandlerExists { holder, .. }) = HandleExit::new(|| {}) {
///     assert!(holder.address() != 0);
///     assert!(holder.to_string().ends_with(&format!(" at {:#x}", holder.address())));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    pub(crate) address: usize,
    pub(crate) object: Option<PathBuf>,
    pub(crate) offset: Option<usize>,
    pub(crate) symbol: Option<String>,
}

impl Holder {
    /// Nothing but the address is known.
    pub(crate) fn unknown(address: usize) -> Holder {
        Holder { address, object: None, offset: None, symbol: None }
    }

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

    /// The handler's name. It is known if a library exports it, and seldom if it is linked into the program itself:
    /// then `addr2line -fe OBJECT OFFSET` finds it, with the offset that `Display` shows.
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
