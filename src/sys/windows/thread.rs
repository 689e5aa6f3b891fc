//! Threads: told apart, spawned, joined. Windows has no signal masks: what concerns them does nothing.

use std::ffi::c_void;
use std::io;
use std::sync::Arc;

use windows_sys::Win32::System::Threading::GetCurrentThreadId;

use super::dll;
use crate::signal::SignalSet;
use crate::sys::lock::{Condition, Lock};

/// A thread, told apart from all others that live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadId(u32);

impl ThreadId {
    /// This thread.
    pub(crate) fn current() -> ThreadId {
        // SAFETY: no arguments, cannot fail.
        ThreadId(unsafe { GetCurrentThreadId() })
    }
}

/// A thread that runs a user's function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Runner {
    id: ThreadId,
    is_watcher: bool,
}

impl Runner {
    /// This thread.
    pub(crate) fn current() -> Runner {
        Runner { id: ThreadId::current(), is_watcher: false }
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
        *thread.0.step.lock() == Step::Running(self.id)
    }

    pub(crate) fn id(&self) -> ThreadId {
        self.id
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
    let progress = Arc::new(Progress::default());
    let theirs = Arc::clone(&progress);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if theirs.begin() {
            let _end = scopeguard::guard(theirs, |progress| progress.set(Step::Done));
            run();
        }
    })?;
    Ok(JoinHandle(progress))
}

/// Waits for a thread's function to return, not for the thread to be gone.
///
/// A thread begins and ends under the loader lock. Thread-local destructors run under that lock too,
/// so a guard that is dropped by one would wait for ever for its watcher to be gone, and for one that
/// has not begun yet: see "Synchronization in thread-local destructors" in the documentation of
/// `std::thread::LocalKey`.
pub(crate) struct JoinHandle(Arc<Progress>);

impl JoinHandle {
    /// Waits for the function to return; one that has not begun never will.
    pub(crate) fn join(self) -> std::thread::Result<()> {
        // Else the thread was ended where it stood, and tells nobody.
        if !dll::threads_are_gone() {
            self.0.wait();
        }
        Ok(())
    }
}

/// Starts a thread that nobody waits for; whether there is one.
pub(crate) fn spawn_bare(run: extern "C" fn(*mut c_void) -> *mut c_void) -> bool {
    spawn("exit-flush", Box::new(move || _ = run(std::ptr::null_mut()))).is_ok()
}

/// How far a thread has come.
#[derive(Default)]
struct Progress {
    step: Lock<Step>,
    changed: Condition,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Step {
    /// The system has not come to it yet.
    #[default]
    Spawned,
    Running(ThreadId),
    /// Has returned, or is not to begin.
    Done,
}

impl Progress {
    fn set(&self, step: Step) {
        let mut now = self.step.lock();
        *now = step;
        self.changed.notify_all();
    }

    /// Whether the function is still wanted.
    fn begin(&self) -> bool {
        let mut step = self.step.lock();
        let is_wanted = *step == Step::Spawned;
        if is_wanted {
            *step = Step::Running(ThreadId::current());
        }
        is_wanted
    }

    fn wait(&self) {
        let mut step = self.step.lock();
        if *step == Step::Spawned {
            *step = Step::Done;
        }
        while matches!(*step, Step::Running(_)) {
            (step, _) = self.changed.wait(step, None);
        }
    }
}
