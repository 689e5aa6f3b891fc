//! A descriptor that becomes readable when the exit begins.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::libc::{self, c_int};

/// The end that is kept, until the other one is to become readable.
pub(crate) struct Far(UnixStream);

/// The end to hand out, and the one to keep.
pub(crate) fn pair() -> io::Result<(OwnedFd, Far)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    no_sigpipe(&far)?;
    Ok((near.into(), Far(far)))
}

impl Far {
    /// One byte and the end of the stream: readable to every kind of poll. The byte cannot fail to
    /// fit, and if the other end is closed nobody waits.
    pub(crate) fn make_readable(self) {
        // Not `write`: where the program has set SIGPIPE to its default, that would end the process
        // if the other end is closed.
        // SAFETY: one byte from a valid place to an open descriptor.
        unsafe { libc::send(self.0.as_raw_fd(), [1u8].as_ptr().cast(), 1, NO_SIGPIPE) };
    }

    /// In a forked child: closes it, if it is there. The kernel copies the descriptors before the memory, so one that
    /// another thread made at that moment is not.
    pub(crate) fn abandon(self) {
        // SAFETY: it asks for a flag, of whatever descriptor.
        if unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETFD) } == -1 {
            std::mem::forget(self);
        }
    }

    /// Whether the other end is. Nobody ever writes there: there is the end of the stream to read, or
    /// nothing yet.
    pub(crate) fn is_open(&mut self) -> bool {
        self.0.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[cfg(not(target_vendor = "apple"))]
const NO_SIGPIPE: c_int = libc::MSG_NOSIGNAL;

#[cfg(not(target_vendor = "apple"))]
fn no_sigpipe(_far: &UnixStream) -> io::Result<()> {
    Ok(())
}

/// There the socket has to be told, not the call.
#[cfg(target_vendor = "apple")]
const NO_SIGPIPE: c_int = 0;

#[cfg(target_vendor = "apple")]
fn no_sigpipe(far: &UnixStream) -> io::Result<()> {
    let yes: c_int = 1;
    // SAFETY: an option of the type int, from a valid place.
    let result = unsafe {
        libc::setsockopt(
            far.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NOSIGPIPE,
            (&raw const yes).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_near_end_becomes_readable_once() {
        let (near, mut far) = pair().unwrap();
        let mut near = UnixStream::from(near);
        assert!(far.is_open());
        let nothing = near.read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        far.make_readable();
        let mut all = Vec::new();
        near.read_to_end(&mut all).unwrap();
        assert_eq!(all, [1]);
    }

    #[test]
    fn a_closed_near_end_is_noticed() {
        let (near, mut far) = pair().unwrap();
        drop(near);
        assert!(!far.is_open());
        far.make_readable();
    }
}
