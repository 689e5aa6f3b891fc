//! A descriptor that becomes readable when the exit begins.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::libc;

/// The end that is kept, until the other one is to become readable.
pub(crate) struct Far(UnixStream);

/// The end to hand out, and the one to keep.
pub(crate) fn pair() -> io::Result<(OwnedFd, Far)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    Ok((near.into(), Far(far)))
}

impl Far {
    /// The end of the stream, which is readable for ever and to every kind of poll. To close it would not do: a forked
    /// child may have it open too.
    pub(crate) fn make_readable(self) {
        // It fails if the other end is closed, and then nobody waits.
        let _ = self.0.shutdown(Shutdown::Write);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_near_end_becomes_readable_for_good() {
        let (near, mut far) = pair().unwrap();
        let mut near = UnixStream::from(near);
        assert!(far.is_open());
        let nothing = near.read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        far.make_readable();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_closed_near_end_is_noticed() {
        let (near, mut far) = pair().unwrap();
        drop(near);
        assert!(!far.is_open());
        far.make_readable();
    }
}
