//! Act as an old disposition would have.

use std::ptr;

use nix::libc::{self, c_int};
use nix::sys::signal::SigmaskHow;

use super::disposition::{Action, Disposition, Function};
use super::siginfo::{Arrival, Delivery, SigInfo};
use super::slot::Slot;
use super::{abort, mask, process};
use crate::signal::{Signal, SignalSet};

/// The function of the guard's that was called.
pub(super) struct Called {
    pub(super) slot: &'static Slot,
    pub(super) function: usize,
    /// Only foreign handlers can still be calling it, not the kernel.
    pub(super) is_buried: bool,
}

/// Who stands on top where the function that was called finds that the signal is not the guard's.
enum OnTop {
    /// That very function: in a forked child, or where a guard could not take its handler away. Or a guard has come
    /// since, or a foreign handler has gone that was below a guard.
    Ours,
    /// What it stands in for: the call began before that was put back.
    Below,
    /// A foreign handler, which called the function.
    Foreign,
    Unknown,
}

/// Apart from `as_before`, which may be many handlers deep on a small stack: what this needs of it is
/// given back before the next handler is called.
#[inline(never)]
fn on_top(raw: c_int, called: &Called, below: &Disposition) -> OnTop {
    match Disposition::query(raw) {
        Ok(top) if top.action() == Action::Handler(called.function) => OnTop::Ours,
        Ok(top) if top == *below && !called.is_buried => OnTop::Below,
        Ok(_) => OnTop::Foreign,
        Err(_) => OnTop::Unknown,
    }
}

#[inline(never)]
fn put_back(raw: c_int, below: &Disposition) -> bool {
    below.replace(raw).is_ok()
}

/// In the handler, for a signal that is not the guard's (any more, or in this process): acts as
/// `below`, the disposition that the called function stands in for.
///
/// # Safety
/// The delivery is that of a handler invocation that is still going on, so that its signal is blocked in
/// this thread unless another handler called this one.
pub(super) unsafe fn as_before(delivery: &Delivery, called: &Called, below: &Disposition) {
    let Delivery { raw, info, .. } = *delivery;
    let is_sent = match on_top(raw, called, below) {
        // Step aside, and let the kernel deliver the signal once more, to the old disposition, with all
        // that belongs to it. It comes when this handler returns.
        OnTop::Ours => match called.slot.arrive(None, delivery) {
            Some(true) => abort::wait_and_die(),
            Some(false) => return,
            None => put_back(raw, below) && send_to_this_thread(raw, info),
        },
        OnTop::Below => send_to_this_thread(raw, info),
        // It passes the signal on to what was there before it. It would have done nothing more had it
        // found a default or an ignore.
        OnTop::Foreign => {
            // SAFETY: the caller's promise.
            unsafe { call(below, delivery) };
            return;
        }
        OnTop::Unknown => false,
    };
    if is_sent {
        return;
    }
    // The kernel would not: do by hand what it would have done.
    match below.action() {
        Action::Default => die_by(raw),
        Action::Ignore => {}
        // SAFETY: the caller's promise.
        Action::Handler(_) => unsafe { call(below, delivery) },
    }
}

/// Ends the process as the default disposition of `raw` does.
fn die_by(raw: c_int) {
    if let Some(signal) = Signal::from_raw(raw) {
        process::die_by(signal);
    }
}

/// Runs the handler of `below` as a real delivery, where that is the disposition: with the siginfo that
/// the signal came with, if it came.
pub(super) fn deliver(signal: Signal, below: &Disposition, info: Option<&SigInfo>) {
    let mut copy = info.map(|info| info.0);
    let copy = copy.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    // A signal that a thread sends to itself is delivered before the call returns (POSIX, kill()), if
    // the thread does not block it: the callback may have, or the thread is one that does.
    let before = mask::unblock(SignalSet::of(&[signal]));
    if !send_to_this_thread(signal.as_raw(), copy) {
        call_directly(signal, below, info);
    }
    mask::replace(&before);
}

/// Calls the handler of `below` as the kernel would, but for the context, of which there is none:
/// where a foreign handler is on top, a signal would run that one.
#[inline(never)]
pub(super) fn call_directly(signal: Signal, below: &Disposition, info: Option<&SigInfo>) {
    /// Longer than any platform's `ucontext_t`, which not every platform of the libc crate has.
    #[repr(align(64))]
    struct Context([u8; 8192]);
    let mut context = Context([0; 8192]);
    let mut info = info.map_or_else(SigInfo::unknown, |info| *info);
    let (info, context) = (&raw mut info.0, context.0.as_mut_ptr().cast());
    // SAFETY: `info` and `context` are valid for the call; all zeroes is a valid context.
    unsafe { call(below, &Delivery { raw: signal.as_raw(), info, context }) };
}

/// Calls the handler of `disposition`, with its mask in force; does nothing if it is none.
///
/// # Safety
/// `delivery` is what a handler may be called with.
#[inline(never)]
unsafe fn call(disposition: &Disposition, delivery: &Delivery) {
    let Delivery { raw, info, context } = *delivery;
    let Action::Handler(address) = disposition.action() else { return };
    let before = mask::change(SigmaskHow::SIG_BLOCK, Some(&disposition.mask(raw)));
    if disposition.takes_siginfo() {
        // SAFETY: with SA_SIGINFO the address is that of a three-argument handler (sigaction(2)).
        let handler = unsafe { std::mem::transmute::<usize, Function>(address) };
        handler(raw, info, context);
    } else {
        // SAFETY: without SA_SIGINFO it is that of a one-argument handler.
        let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(address) };
        handler(raw);
    }
    mask::replace(&before);
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
pub(crate) fn hand_over(arrival: &Arrival) {
    #[cfg(handle_exit_loom)]
    return super::models::hand_over(arrival.signal);
    let raw = arrival.signal.as_raw();
    let mut copy = arrival.info.0;
    if !mask::contains(mask::current().as_ref(), raw) && send_to_this_thread(raw, &raw mut copy) {
        return;
    }
    // This thread blocks it: it goes to the process, where another thread may take it.
    let _ = process::send_signal(arrival.signal);
}

/// Raises `signal` in this process, in the calling thread, unblocked. The thread's mask is then what it
/// was.
pub(crate) fn raise(signal: Signal) {
    let before = mask::unblock(SignalSet::of(&[signal]));
    if !send_to_this_thread(signal.as_raw(), ptr::null_mut()) {
        let _ = process::send_signal(signal);
    }
    mask::replace(&before);
}
