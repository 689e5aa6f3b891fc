//! What the kernel says of a signal that came.

use std::time::Instant;

use nix::libc::{self, c_int, c_void};

use super::clock::Moment;

#[cfg(any(target_vendor = "apple", target_os = "dragonfly"))]
use super::{mask, thread};
#[cfg(any(target_vendor = "apple", target_os = "dragonfly"))]
use crate::signal::{FAULTS, SignalSet};
use crate::signal::{Received, Sender, Signal};

/// What a handler is called with. Both pointers are valid until the handler returns; a foreign handler that has none to
/// pass on gives null.
pub(super) struct Delivery {
    pub(super) raw: c_int,
    pub(super) info: *mut libc::siginfo_t,
    pub(super) context: *mut c_void,
}

/// A signal that came, as the kernel described it.
#[derive(Clone, Copy)]
pub(crate) struct SigInfo(pub(super) libc::siginfo_t);

// SAFETY: plain bytes. The pointers that siginfo_t has for some signals are never followed here.
unsafe impl Send for SigInfo {}

impl SigInfo {
    /// For a handler that is called without a signal.
    pub(super) fn unknown() -> SigInfo {
        // SAFETY: all zeroes is a valid siginfo_t.
        let mut info = unsafe { std::mem::zeroed() };
        set_unknown(&mut info);
        SigInfo(info)
    }
}

/// A signal taken out of its mailbox.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) signal: Signal,
    pub(crate) info: SigInfo,
    /// When it came, and when the last one that was merged into it did.
    pub(crate) first: Moment,
    pub(crate) last: Moment,
    /// Whether no process sent it, and whether that is so of one that was merged into it.
    pub(crate) is_from_kernel: bool,
    pub(crate) has_more_from_kernel: bool,
    /// Whether a thread of this process waits in `abort(3)` for the callback.
    pub(crate) aborts: bool,
}

impl Arrival {
    pub(crate) fn received(&self) -> Received {
        Received { signal: self.signal, sender: sender(&self.info.0) }
    }

    /// Takes in a repeat.
    pub(crate) fn merge(&mut self, repeat: &Arrival) {
        self.aborts |= repeat.aborts;
    }

    /// When the system ends the process, whatever it does: no signal of Unix says that.
    pub(crate) fn last_moment(&self) -> Option<Instant> {
        None
    }

    #[cfg(all(test, handle_exit_loom))]
    pub(crate) fn for_model(signal: Signal) -> Arrival {
        let now = Moment::now();
        Arrival {
            signal,
            info: SigInfo::unknown(),
            first: now,
            last: now,
            is_from_kernel: false,
            has_more_from_kernel: false,
            aborts: false,
        }
    }
}

/// Makes a siginfo of zeroes one of a signal that came without: nothing is known, no sender either.
pub(super) fn set_unknown(info: &mut libc::siginfo_t) {
    info.si_code = NO_CODE;
}

/// `si_pid` and `si_uid`, where sigaction(2) says that they mean a sender.
fn sender(info: &libc::siginfo_t) -> Option<Sender> {
    if !is_from_a_process(info) {
        return None;
    }
    // SAFETY: kill, tgkill and sigqueue fill in the sender (sigaction(2), "The siginfo_t argument").
    let (pid, uid) = unsafe { (info.si_pid(), info.si_uid()) };
    Some(Sender { pid: u32::try_from(pid).unwrap_or(0), uid })
}

fn is_from_a_process(info: &libc::siginfo_t) -> bool {
    SENT.contains(&info.si_code)
}

/// Whether no process sent it, for all that is known: a key press, a timer, a limit.
pub(super) fn is_from_the_kernel(info: &libc::siginfo_t) -> bool {
    !is_from_a_process(info) && info.si_code != NO_CODE
}

/// Whether the thread that the handler interrupted is in `abort(3)`. `context` is the handler's third
/// argument. Async-signal-safe.
pub(super) fn is_abort(info: &libc::siginfo_t, context: *const c_void) -> bool {
    info.si_signo == libc::SIGABRT && comes_from_abort(info, context)
}

/// A thread of this process that signals itself: `abort` does, and so does `raise`.
#[cfg(not(any(target_vendor = "apple", target_os = "dragonfly")))]
fn comes_from_abort(info: &libc::siginfo_t, _context: *const c_void) -> bool {
    // SAFETY: read only where a process sent it, as in `sender`.
    info.si_code == SENT[2] && u32::try_from(unsafe { info.si_pid() }) == Ok(std::process::id())
}

/// The siginfo of these systems does not tell `abort` from `kill`. But their `abort` begins by blocking
/// everything else on its thread (since macOS 10.15 not SEGV and BUS), and nothing else does so, other
/// than the guard's own threads. An `abort` on one of those is not seen as one: the handler returns, and
/// `abort` then ends the process.
#[cfg(any(target_vendor = "apple", target_os = "dragonfly"))]
fn comes_from_abort(_info: &libc::siginfo_t, context: *const c_void) -> bool {
    // SAFETY: null, or the kernel's third argument (sigaction(2)), valid while the handler runs.
    let Some(context) = (unsafe { context.cast::<libc::ucontext_t>().as_ref() }) else {
        return false;
    };
    let is_blocked = |signal: Signal| mask::contains(&context.uc_sigmask, signal.as_raw());
    let may_be_open = FAULTS.union(SignalSet::of(&[Signal::KILL, Signal::STOP]));
    let mut all = (1..=31).filter_map(Signal::from_raw);
    let is_all_blocked = all.all(|signal| match signal {
        Signal::ABRT => !is_blocked(signal),
        _ => is_blocked(signal) || may_be_open.contains(signal),
    });
    is_all_blocked && !thread::is_own()
}

/// An `si_code` of no sender, for a signal that came without siginfo.
pub(super) const NO_CODE: c_int = c_int::MAX;

/// `si_code` of signals that a process sent: with `kill` (`SI_USER`), `sigqueue` (`SI_QUEUE`), and to
/// one thread, as `raise` and `abort` do (`SI_TKILL`, `SI_LWP`). The libc crate names them for Linux
/// only; the others are from their <sys/signal.h>.
const SENT: [c_int; 3] = if cfg!(target_os = "freebsd") {
    [0x10001, 0x10002, 0x10007]
} else if cfg!(target_vendor = "apple") {
    // `raise` and `abort` look like `kill` there.
    [0x10001, 0x10002, 0x10001]
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    [0, -1, -6]
} else if cfg!(target_os = "netbsd") {
    [0, -1, -5]
} else if cfg!(any(target_os = "openbsd", target_os = "illumos", target_os = "solaris")) {
    [0, -2, -1]
} else {
    [0, -1, 0]
};

#[cfg(any(target_os = "linux", target_os = "android"))]
const _: () = assert!(matches!(SENT, [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL]));
