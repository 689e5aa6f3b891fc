//! A terminal whose keys the test presses.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::sync::{Arc, Mutex};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{DEADLINE, Play, Start, leave};

/// A terminal of the test's own, whose keys it presses.
pub struct Terminal {
    keyboard: std::fs::File,
    screen: OwnedFd,
}

impl Terminal {
    pub fn open() -> Terminal {
        let (mut keyboard, mut screen) = (0, 0);
        let null = std::ptr::null_mut();
        // SAFETY: both descriptors are valid for a write; null stands for the default settings.
        let opened = unsafe {
            libc::openpty(&raw mut keyboard, &raw mut screen, null, null.cast(), null.cast())
        };
        assert_eq!(opened, 0, "openpty: {}", std::io::Error::last_os_error());
        // SAFETY: openpty has just opened them, for us alone.
        unsafe {
            libc::fcntl(keyboard, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(screen, libc::F_SETFD, libc::FD_CLOEXEC);
            let (keyboard, screen) = (OwnedFd::from_raw_fd(keyboard), OwnedFd::from_raw_fd(screen));
            Terminal { keyboard: keyboard.into(), screen }
        }
    }

    /// Makes this the controlling terminal of a victim, in a session of its own and in the foreground. Its
    /// input and output stay what they are.
    pub fn control(&self, victim: impl Play) -> Start {
        let mut start = victim.start();
        let screen = self.screen.as_raw_fd();
        // SAFETY: the closure makes two system calls and nothing else; the descriptor is open in
        // the child until exec.
        unsafe {
            start.command.pre_exec(move || {
                if libc::setsid() == -1 || libc::ioctl(screen, libc::TIOCSCTTY as _, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            })
        };
        start
    }

    pub fn press_ctrl_c(&mut self) {
        self.keyboard.write_all(&[3]).unwrap();
    }

    pub fn press_ctrl_backslash(&mut self) {
        self.keyboard.write_all(&[0x1c]).unwrap();
    }

    /// Waits until the kernel has sent the signal of the key that was pressed last: it does that on a thread of its
    /// own, and then shows the key. For a terminal where each press is followed by this.
    pub fn has_sent(&mut self) {
        let mut shown = [PollFd::new(self.keyboard.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(DEADLINE).unwrap();
        assert_eq!(poll(&mut shown, limit), Ok(1), "no key was shown");
        let mut key = [0; 2];
        self.keyboard.read_exact(&mut key).unwrap();
        assert_eq!(key[0], b'^', "{key:?}");
    }

    /// Lets a victim write its standard error on this terminal, and reads what appears there.
    pub fn show(&self, victim: impl Play) -> (Start, Shown) {
        let mut start = victim.start();
        let screen = self.screen.as_raw_fd();
        // SAFETY: the closure makes one system call and nothing else; the descriptor is open in the
        // child until exec.
        unsafe {
            start.command.pre_exec(move || match libc::dup2(screen, 2) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            })
        };
        let text = Arc::new(Mutex::new(Vec::new()));
        let (mut display, shown) = (self.keyboard.try_clone().unwrap(), Arc::clone(&text));
        leave(std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error once the terminal is gone.
            while let Ok(read @ 1..) = display.read(&mut buffer) {
                shown.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        }));
        (start, Shown(text))
    }
}

/// What a terminal has been told to show so far.
pub struct Shown(Arc<Mutex<Vec<u8>>>);

impl Shown {
    /// How often it was told this.
    pub fn count(&self, sequence: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(sequence).count()
    }
}
