//! Which thread this is, threads of the guard's own, and their signal masks.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::os::unix::thread::JoinHandleExt;
use std::thread;

use nix::libc;

use super::{exit_frames, mask};
use crate::signal::SignalSet;

/// A thread, while it lives. Async-signal-safe (POSIX.1-2008 TC1), and works where
/// `std::thread::current` does not: in exit functions, after the thread's destructors have run. The
/// thread that forked keeps its identity in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadId(usize);

impl ThreadId {
    pub(crate) fn current() -> ThreadId {
        // SAFETY: no arguments, cannot fail.
        ThreadId(unsafe { libc::pthread_self() } as usize)
    }
}

/// A thread that runs a user's function, and where its stack stood when it was about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Runner {
    id: ThreadId,
    stack: usize,
}

impl Runner {
    /// The calling thread. Call it in the very function that goes on to call the user's function: what
    /// lies below that one's frame is looked at, and what lies above is not.
    #[inline(always)]
    pub(crate) fn current() -> Runner {
        Runner { id: ThreadId::current(), stack: exit_frames::stack_pointer() }
    }

    #[cfg(all(test, handle_exit_loom))]
    pub(crate) fn for_model(id: usize) -> Runner {
        Runner { id: ThreadId(id), stack: 0 }
    }

    pub(crate) fn id(&self) -> ThreadId {
        self.id
    }

    /// Whether the user's function is inside `process::exit` or `exit(3)`, from which it never
    /// returns. Any thread may ask, also after that one has ended.
    pub(crate) fn is_inside_exit(&self) -> bool {
        exit_frames::is_any_below(self.stack)
    }
}

/// Whether the calling thread is inside `process::exit` or `exit(3)`.
pub(crate) fn is_inside_exit() -> bool {
    exit_frames::is_any_above(exit_frames::stack_pointer())
}

/// The signal mask of the thread that made the guard.
#[derive(Clone, Copy)]
pub(crate) struct UserMask(libc::sigset_t);

/// Gives the calling thread this mask, for user code: commands that it spawns inherit it.
pub(crate) fn set_mask(mask: &UserMask) {
    mask::replace(&mask.0);
}

/// Puts a mask back where it was taken from.
struct MaskedUntilDrop {
    before: libc::sigset_t,
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for MaskedUntilDrop {
    #[inline(never)]
    fn drop(&mut self) {
        mask::replace(&self.before);
    }
}

/// What waits for a thread to end.
pub(crate) type JoinHandle = thread::JoinHandle<()>;

/// Holds every signal off the calling thread until it is dropped: no foreign handler interrupts what it does
/// meanwhile, to exit there or to leave it by `siglongjmp`.
pub(crate) struct HeldSignals {
    before: MaskedUntilDrop,
}

pub(crate) fn hold_signals() -> HeldSignals {
    let before = mask::replace(&mask::all_but(SignalSet::default()));
    HeldSignals { before: MaskedUntilDrop { before, on_this_thread: PhantomData } }
}

/// Starts a thread. It has every signal blocked from its first instruction on, as its creator has now, so that
/// it never takes what the program waits for elsewhere. `run` gets the mask of before.
pub(crate) fn spawn(
    name: &str,
    held: &HeldSignals,
    run: impl FnOnce(UserMask) + Send + 'static,
) -> io::Result<JoinHandle> {
    spawn_boxed(name, UserMask(held.before.before), Box::new(run))
}

/// What std makes of a thread's closure is large: there is one.
fn spawn_boxed(
    name: &str,
    user: UserMask,
    run: Box<dyn FnOnce(UserMask) + Send>,
) -> io::Result<JoinHandle> {
    thread::Builder::new().name(name.into()).spawn(move || run(user))
}

/// Whether that is the calling thread.
pub(crate) fn is_this(thread: &JoinHandle) -> bool {
    // A cast, for std and libc do not agree on the type everywhere (musl).
    ThreadId(thread.as_pthread_t() as usize) == ThreadId::current()
}

/// From now on the calling thread takes these signals and no others.
pub(crate) fn set_listening(signals: SignalSet) {
    mask::replace(&mask::all_but(signals));
}

thread_local! {
    /// How many `mark_exit_thread`s live on this thread. Without a destructor, so that it works until
    /// the thread's last instruction.
    static EXIT_DEPTH: Cell<u32> = const { Cell::new(0) };
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

/// Until the result is dropped, `abort(3)` on this thread does not wait for the callback: the callback,
/// or what comes after it, runs here.
pub(crate) fn mark_exit_thread() -> impl Drop + use<> {
    EXIT_DEPTH.set(EXIT_DEPTH.get() + 1);
    ExitThread(PhantomData)
}

struct ExitThread(PhantomData<*const ()>);

impl Drop for ExitThread {
    fn drop(&mut self) {
        EXIT_DEPTH.set(EXIT_DEPTH.get() - 1);
    }
}

/// Whether `mark_exit_thread` holds here. No other handler than that of `abort` asks: the first use of
/// a thread-local in a plugin may allocate.
pub(crate) fn is_exit_thread() -> bool {
    EXIT_DEPTH.get() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;

    fn is_blocked(signal: Signal) -> bool {
        mask::contains(&mask::current(), signal.as_raw())
    }

    #[test]
    fn a_spawned_thread_takes_what_it_is_told_to() {
        let before = is_blocked(Signal::USR1);
        let held = hold_signals();
        let thread = spawn("listens", &held, |user| {
            set_listening(SignalSet::of(&[Signal::TERM]));
            assert!(is_blocked(Signal::USR1) && !is_blocked(Signal::TERM));
            set_mask(&user);
            assert!(!is_blocked(Signal::USR1) && !is_blocked(Signal::TERM));
            set_listening(SignalSet::of(&[Signal::USR1]));
            assert!(!is_blocked(Signal::USR1) && is_blocked(Signal::TERM));
        });
        assert!(is_blocked(Signal::USR1) && is_blocked(Signal::TERM));
        drop(held);
        let thread = thread.unwrap();
        assert_eq!(thread.thread().name(), Some("listens"));
        thread.join().unwrap();
        assert_eq!(is_blocked(Signal::USR1), before);
    }

    #[test]
    fn marks_are_counted_for_each_thread() {
        let outer = mark_exit_thread();
        drop(mark_exit_thread());
        assert!(is_exit_thread());
        assert!(!thread::spawn(is_exit_thread).join().unwrap());
        drop(outer);
        assert!(!is_exit_thread());
    }

    #[test]
    fn threads_are_told_apart() {
        let me = ThreadId::current();
        assert_eq!(me, ThreadId::current());
        assert_ne!(me, thread::spawn(ThreadId::current).join().unwrap());
    }
}
