//! Act as an old disposition would have; die by a signal.

use std::mem::MaybeUninit;
use std::ptr;

use nix::libc::{self, c_int, c_void};

use super::disposition::{Action, Disposition, set_of};
use super::siginfo::SigInfo;
use crate::signal::Signal;

/// The function of the guard's that was called.
pub(super) struct Ours {
    pub(super) function: usize,
    /// Only foreign handlers can still be calling it, not the kernel.
    pub(super) is_buried: bool,
}

/// In the handler, for a signal that is not the guard's (any more, or in this process): acts as
/// `below`, the disposition that the called function, `ours`, stands in for.
///
/// # Safety
/// * The arguments are those of a handler invocation that is still going on, so that `raw` is
///   blocked in this thread unless another handler called this one.
/// * `below` is null or points to a disposition that lives for ever.
pub(super) unsafe fn as_before(
    raw: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
    ours: &Ours,
    below: *const Disposition,
) {
    // SAFETY: the caller's second promise.
    let Some(below) = (unsafe { below.as_ref() }) else { return };
    match Disposition::query(raw) {
        // Ours is on top: a forked child, or a guard that could not take its handler away. Step
        // aside, and let the kernel deliver the signal once more, to the old disposition, with all
        // that belongs to it. It comes when this handler returns.
        Ok(top) if top.action() == Action::Handler(ours.function) => {
            if below.put(raw).is_ok() && send_to_this_thread(raw, info) {
                return;
            }
        }
        // The old disposition is back, and this call began before it was: hand the signal to it.
        Ok(top) if top == *below && !ours.is_buried => {
            if send_to_this_thread(raw, info) {
                return;
            }
        }
        // A foreign handler passes the signal on to what was there before it. It would have done
        // nothing more had it found a default or an ignore.
        Ok(_) => {
            // SAFETY: the caller's first promise.
            unsafe { call(below, raw, info, context) };
            return;
        }
        Err(_) => {}
    }
    // The kernel would not: do by hand what it would have done.
    match below.action() {
        Action::Default => die_by(raw),
        Action::Ignore => {}
        // SAFETY: the caller's first promise.
        Action::Handler(_) => unsafe { call(below, raw, info, context) },
    }
}

/// On the watcher, after the guard's part for this signal is done: runs the old handler. `restored` says whether it is the disposition again; `info` is what the
/// signal came with, if one came.
pub(crate) fn run_old(signal: Signal, below: &Disposition, restored: bool, info: Option<&SigInfo>) {
    let raw = signal.as_raw();
    // The callback may have blocked it, or the watcher may not have come to unblock it yet.
    super::mask::unblock([signal]);
    let mut copy = info.map(|info| info.0);
    let info = copy.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    // A signal that a thread sends to itself is delivered before the call returns (POSIX, kill()).
    if restored && send_to_this_thread(raw, info) {
        return;
    }
    // A foreign handler is on top, and a signal would run that one again: call the old one as the
    // kernel would, but for the context, of which there is none.
    let mut nothing = MaybeUninit::<libc::siginfo_t>::zeroed();
    let info = if info.is_null() { nothing.as_mut_ptr() } else { info };
    let mut context = MaybeUninit::<libc::ucontext_t>::zeroed();
    // SAFETY: `info` and `context` are valid for the call; all zeroes are valid values of both.
    unsafe { call(below, raw, info, context.as_mut_ptr().cast()) };
}

/// Calls the handler of `disposition`, with its mask in force; does nothing if it is none.
///
/// # Safety
/// `info` and `context` are what a handler may be called with.
unsafe fn call(
    disposition: &Disposition,
    raw: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    let Action::Handler(address) = disposition.action() else { return };
    let mut mask = *disposition.mask();
    // SAFETY: an initialised set; a number it does not know changes nothing.
    unsafe { libc::sigaddset(&raw mut mask, raw) };
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both sets are valid for the call.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, before.as_mut_ptr()) };
    if disposition.takes_siginfo() {
        type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: with SA_SIGINFO the address is that of a three-argument handler (sigaction(2)).
        let handler = unsafe { std::mem::transmute::<usize, Handler>(address) };
        handler(raw, info, context);
    } else {
        // SAFETY: without SA_SIGINFO it is that of a one-argument handler.
        let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(address) };
        handler(raw);
    }
    // SAFETY: the first call filled `before` in.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
}

/// Sends the signal to the calling thread, with `info` if there is one and the platform can.
fn send_to_this_thread(raw: c_int, info: *mut libc::siginfo_t) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if !info.is_null() {
        // SAFETY: the arguments are this process, this thread and a valid siginfo. To its own
        // thread a process may send any siginfo (rt_sigqueueinfo(2)); to others not.
        let sent = unsafe {
            let (pid, tid) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
            libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, raw, info)
        };
        if sent == 0 {
            return true;
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = info;
    // SAFETY: the calling thread exists.
    unsafe { libc::pthread_kill(libc::pthread_self(), raw) == 0 }
}

/// Hands a signal that was held to whatever disposition it has now.
pub(crate) fn hand_over(signal: Signal, info: &SigInfo) {
    let raw = signal.as_raw();
    let mut copy = info.0;
    if !is_blocked_here(raw) && send_to_this_thread(raw, &raw mut copy) {
        return;
    }
    // This thread blocks it: it goes to the process, where another thread may take it.
    // SAFETY: kill(2) of the own process.
    unsafe { libc::kill(libc::getpid(), raw) };
}

fn is_blocked_here(raw: c_int) -> bool {
    let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a null set makes this a query; `mask` is valid for a write.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) };
    // SAFETY: the call above filled it in.
    unsafe { libc::sigismember(mask.as_ptr(), raw) == 1 }
}

/// Raises `signal` in this process, in the calling thread, unblocked.
pub(crate) fn raise(signal: Signal) {
    super::mask::unblock([signal]);
    send_to_this_thread(signal.as_raw(), ptr::null_mut());
}

/// Dies by the signal: default disposition, unblocked, raised, so that the parent sees WIFSIGNALED.
/// Async-signal-safe.
pub(crate) fn die_by(raw: c_int) -> ! {
    let _ = Disposition::DEFAULT.put(raw);
    let mask = set_of(Signal::from_raw(raw));
    // SAFETY: the set is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const mask, ptr::null_mut()) };
    // SAFETY: the calling thread exists.
    unsafe { libc::pthread_kill(libc::pthread_self(), raw) };
    // Still here: PID 1 of a namespace, which no default disposition kills (pid_namespaces(7)).
    exit_now(raw.wrapping_add(128))
}

/// Ends the process without running anything. Async-signal-safe.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: ends the process, touches no memory.
    unsafe { libc::_exit(code) }
}

/// As `exit_now`, with what the C library has buffered written out first: for a process that is
/// already inside `exit(3)`, where calling it again is undefined.
pub(crate) fn exit_inside_exit(code: c_int) -> ! {
    // SAFETY: a null stream flushes all of them.
    unsafe { libc::fflush(ptr::null_mut()) };
    exit_now(code)
}
