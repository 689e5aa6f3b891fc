//! Which thread this is, threads of the guard's own, and their signal masks.

use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread;

use nix::libc;
use nix::sys::pthread::pthread_self;
use nix::sys::signal::SigSet;
use scopeguard::ScopeGuard;

use super::{clock, exit_frames, mask};
use crate::signal::SignalSet;

/// A thread, while it lives, and where its stack was when it was about to run a user's function. The same thread is equal
/// wherever that was. Async-signal-safe (POSIX.1-2008 TC1), and works where `std::thread::current` does not: in exit
/// functions, after the thread's destructors have run. The thread that forked keeps its identity in the child.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Runner {
    id: usize,
    stack: usize,
    is_watcher: bool,
}

impl PartialEq for Runner {
    fn eq(&self, other: &Runner) -> bool {
        self.id == other.id
    }
}

impl Eq for Runner {}

impl Runner {
    /// The calling thread. Call it in the very function that goes on to call the user's function: what
    /// lies below that one's frame is looked at, and what lies above is not.
    #[inline(always)]
    pub(crate) fn current() -> Runner {
        #[cfg(handle_exit_loom)]
        return Runner { id: super::models::thread(), stack: 0, is_watcher: false };
        let id = pthread_self() as usize;
        Runner { id, stack: exit_frames::stack_pointer(), is_watcher: false }
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
        // A cast, for std and libc do not agree on the type everywhere (musl).
        self.id == thread.as_pthread_t() as usize
    }

    /// Whether the user's function is inside `process::exit` or `exit(3)`, from which it never
    /// returns. Any thread may ask, also after that one has ended.
    pub(crate) fn is_inside_exit(&self) -> bool {
        #[cfg(handle_exit_loom)]
        return super::models::is_inside_exit(self.id);
        exit_frames::is_any_below(self.stack)
    }
}

/// Whether the calling thread is inside `process::exit` or `exit(3)`.
pub(crate) fn is_inside_exit() -> bool {
    #[cfg(handle_exit_loom)]
    return super::models::is_inside_exit(super::models::thread());
    exit_frames::is_any_above(exit_frames::stack_pointer())
}

/// A signal mask of a user's thread.
#[derive(Clone, Copy)]
pub(crate) struct UserMask(SigSet);

thread_local! {
    /// The mask that this thread had when it made its first guard since there was none, and how often that was.
    static MASK: Cell<Option<(usize, SigSet)>> = const { Cell::new(None) };
}

/// How often the last guard has gone. Written then, read by those who make one.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// No guard lives: the next one asks for the mask of its thread.
pub(crate) fn forget_masks() {
    GENERATION.fetch_add(1, SeqCst);
}

impl UserMask {
    /// The calling thread's. A guard inside another one makes no system call for it, but for the first of its thread.
    pub(crate) fn current() -> UserMask {
        let generation = GENERATION.load(SeqCst);
        if let Some((_, mask)) = MASK.get().filter(|(known, _)| *known == generation) {
            return UserMask(mask);
        }
        let mask = mask::current();
        MASK.set(Some((generation, mask)));
        UserMask(mask)
    }

    pub(crate) fn blocks_any(&self, signals: SignalSet) -> bool {
        signals.into_iter().any(|signal| mask::contains(self.0.as_ref(), signal.as_raw()))
    }

    /// Gives the calling thread this mask until the result is dropped: commands that user code spawns inherit it.
    pub(crate) fn apply(&self) -> impl Drop + use<> {
        replace_until_drop(&self.0)
    }
}

/// Gives the calling thread this mask. The result has the one before, and restores that when it is dropped.
fn replace_until_drop(mask: &SigSet) -> ScopeGuard<SigSet, impl FnOnce(SigSet) + use<>> {
    scopeguard::guard(mask::replace(mask), |before| _ = mask::replace(&before))
}

/// What waits for a thread to end.
pub(crate) type JoinHandle = thread::JoinHandle<()>;

/// Starts a thread. It has every signal blocked from its first instruction on, so that it never takes what the
/// program waits for elsewhere.
pub(crate) fn spawn(name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle> {
    let _before = replace_until_drop(&mask::all_but(SignalSet::default()));
    STARTING.fetch_add(1, SeqCst);
    let run = move || {
        STARTING.fetch_sub(1, SeqCst);
        #[cfg(any(target_vendor = "apple", target_os = "dragonfly"))]
        IS_OWN.set(true);
        run();
    };
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    spawned.inspect_err(|_| _ = STARTING.fetch_sub(1, SeqCst))
}

/// Threads of the guard's own that have not begun to run. Written by those and by who starts them; read by a thread
/// that forks.
static STARTING: AtomicU32 = AtomicU32::new(0);

/// Before a fork: a thread that begins holds locks of the standard library's, and in the child nobody would give
/// them back. No guard could be made there, for want of a thread.
pub(super) unsafe extern "C" fn wait_started() {
    clock::wait_for_none(&STARTING);
}

/// In a forked child: the threads are the parent's.
pub(super) fn forget_starting() {
    STARTING.store(0, SeqCst);
    forget_masks();
}

/// Starts a thread without the standard library, which needs thread-locals that are gone inside exit functions; whether
/// there is one. It has every signal blocked, and nobody waits for it.
pub(crate) fn spawn_bare(run: extern "C" fn(*mut c_void) -> *mut c_void) -> bool {
    let _before = replace_until_drop(&mask::all_but(SignalSet::default()));
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: `thread` is valid for a write, null attributes are the usual ones, and `run` ignores its argument.
    let is_made = unsafe {
        libc::pthread_create(thread.as_mut_ptr(), ptr::null(), run, ptr::null_mut()) == 0
    };
    if is_made {
        // SAFETY: pthread_create(3) has filled it in, and nobody joins it.
        unsafe { libc::pthread_detach(thread.assume_init()) };
    }
    is_made
}

/// From now on the calling thread takes these signals and no others.
pub(crate) fn set_listening(signals: SignalSet) {
    mask::replace(&mask::all_but(signals));
}

#[cfg(any(target_vendor = "apple", target_os = "dragonfly"))]
thread_local! {
    /// Whether `spawn` started this thread. Written there, read by the handler of SIGABRT.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is a thread of the guard's own.
#[cfg(any(target_vendor = "apple", target_os = "dragonfly"))]
pub(super) fn is_own() -> bool {
    IS_OWN.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;

    fn is_blocked(signal: Signal) -> bool {
        mask::contains(mask::current().as_ref(), signal.as_raw())
    }

    #[test]
    fn a_spawned_thread_takes_what_it_is_told_to() {
        let before = is_blocked(Signal::USR1);
        let user = UserMask::current();
        let listens = move || {
            assert!(is_blocked(Signal::USR1) && is_blocked(Signal::TERM));
            set_listening(SignalSet::of(&[Signal::TERM]));
            assert!(is_blocked(Signal::USR1) && !is_blocked(Signal::TERM));
            let masked = user.apply();
            assert!(!is_blocked(Signal::USR1) && !is_blocked(Signal::TERM));
            drop(masked);
            assert!(is_blocked(Signal::USR1) && !is_blocked(Signal::TERM));
        };
        let thread = spawn("listens", Box::new(listens)).unwrap();
        assert_eq!(is_blocked(Signal::USR1), before);
        assert_eq!(thread.thread().name(), Some("listens"));
        thread.join().unwrap();
    }

    #[test]
    fn threads_are_told_apart() {
        let me = Runner::current();
        assert_eq!(me, Runner::current());
        assert_ne!(me, thread::spawn(Runner::current).join().unwrap());
    }
}
