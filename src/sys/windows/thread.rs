//! Threads: told apart, and spawned. Windows has no signal masks: what concerns them does nothing.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::AsRawHandle;

use windows_sys::Win32::System::Threading::{GetCurrentThreadId, GetThreadId};

use crate::signal::SignalSet;

/// A thread. Equal to itself, wherever its stack was.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Runner {
    id: u32,
    is_watcher: bool,
}

impl PartialEq for Runner {
    fn eq(&self, other: &Runner) -> bool {
        self.id == other.id
    }
}

impl Eq for Runner {}

impl Runner {
    /// This thread.
    pub(crate) fn current() -> Runner {
        // SAFETY: no arguments, cannot fail.
        Runner { id: unsafe { GetCurrentThreadId() }, is_watcher: false }
    }

    /// The same, of one of the guard's own threads.
    pub(crate) fn watcher(self) -> Runner {
        Runner { is_watcher: true, ..self }
    }

    pub(crate) fn is_watcher(&self) -> bool {
        self.is_watcher
    }

    /// Whether it is that thread.
    pub(crate) fn is(&self, thread: &JoinHandle) -> bool {
        // SAFETY: the handle is open as long as `thread` is there.
        unsafe { GetThreadId(thread.0.as_raw_handle()) == self.id }
    }

    /// Never: `std::process::exit` ends all other threads first, so that none sees another in it.
    pub(crate) fn is_inside_exit(&self) -> bool {
        false
    }
}

/// As `Runner::is_inside_exit`, for this thread.
pub(crate) fn is_inside_exit() -> bool {
    false
}

/// The mask of a user's thread, if there were masks.
#[derive(Clone, Copy)]
pub(crate) struct UserMask(());

pub(crate) fn forget_masks() {}

impl UserMask {
    pub(crate) fn current() -> UserMask {
        UserMask(())
    }

    pub(crate) fn blocks_any(&self, _signals: SignalSet) -> bool {
        false
    }

    /// The result is what the other platforms undo when it is dropped.
    pub(crate) fn apply(&self) -> impl Drop + use<> {
        scopeguard::guard((), |()| {})
    }
}

/// The watcher hears every event, whatever it listens for.
pub(crate) fn set_listening(_signals: SignalSet) {}

/// Starts a thread.
pub(crate) fn spawn(name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(JoinHandle)
}

/// A thread that was started. While this is there, no other one has its identity.
pub(crate) struct JoinHandle(std::thread::JoinHandle<()>);

impl JoinHandle {
    /// Does not wait for the thread to be gone: the watchers have said that they leave.
    ///
    /// A thread begins and ends under the loader lock. Thread-local destructors run under that lock too,
    /// so a guard that is dropped by one would wait for ever for its watcher to be gone, and for one that
    /// has not begun yet: see "Synchronization in thread-local destructors" in the documentation of
    /// `std::thread::LocalKey`.
    pub(crate) fn join(self) -> std::thread::Result<()> {
        Ok(())
    }
}

/// Starts a thread that nobody waits for; whether there is one.
pub(crate) fn spawn_bare(run: extern "C" fn(*mut c_void) -> *mut c_void) -> bool {
    spawn("exit-flush", Box::new(move || _ = run(std::ptr::null_mut()))).is_ok()
}
