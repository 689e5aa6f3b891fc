//! What the kernel says of a signal that came.

use std::time::Duration;

use nix::libc;

use crate::cause::{Cause, Received, Sender};
use crate::phase::Arrives;
use crate::signal::Signal;

/// A signal that came, as the kernel described it.
#[derive(Clone, Copy)]
pub(crate) struct SigInfo(pub(super) libc::siginfo_t);

// SAFETY: plain bytes. The pointers that siginfo_t has for some signals are never followed here.
unsafe impl Send for SigInfo {}

/// A signal taken out of its mailbox.
pub(crate) struct Arrival {
    pub(crate) signal: Signal,
    pub(crate) info: SigInfo,
    /// Counts signals: the order of arrival.
    pub(super) order: u64,
    /// From the first of this signal since the guard was installed to the last one merged here.
    pub(crate) after_first: Duration,
    /// Whether the observer has heard of it.
    pub(crate) told: bool,
}

impl Arrival {
    pub(crate) fn received(&self) -> Received {
        Received { signal: self.signal, sender: sender(&self.info.0) }
    }
}

impl Arrives<Cause> for Arrival {
    fn cause(&self) -> Cause {
        Cause::Signal(self.received())
    }
}

/// `si_pid` and `si_uid`, where sigaction(2) says that they mean a sender.
fn sender(info: &libc::siginfo_t) -> Option<Sender> {
    if !is_sent_by_a_process(info) {
        return None;
    }
    // SAFETY: kill, tgkill and sigqueue fill in the sender (sigaction(2), "The siginfo_t argument").
    let (pid, uid) = unsafe { (info.si_pid(), info.si_uid()) };
    Some(Sender { pid: u32::try_from(pid).unwrap_or(0), uid })
}

fn is_sent_by_a_process(info: &libc::siginfo_t) -> bool {
    [code::KILL, code::QUEUE, code::THREAD].contains(&info.si_code)
}

/// Whether this is a thread of this process signalling itself, which is what `abort` does.
pub(super) fn is_own_abort(info: &libc::siginfo_t) -> bool {
    // SAFETY: read only where a process sent it, as in `sender`.
    info.si_code == code::THREAD
        && u32::try_from(unsafe { info.si_pid() }) == Ok(std::process::id())
}

/// An `si_code` of no sender, for a signal that came without siginfo.
pub(super) const NO_CODE: libc::c_int = libc::c_int::MAX;

/// `si_code` of signals that a process sent: with `kill` (`SI_USER`), `sigqueue` (`SI_QUEUE`), or to
/// one thread, as `raise` and `abort` do (`SI_TKILL`, `SI_LWP`). The libc crate names them for Linux
/// only; the others are from their <sys/signal.h>.
mod code {
    use nix::libc::c_int;

    const CODES: [c_int; 3] = if cfg!(target_os = "freebsd") {
        [0x10001, 0x10002, 0x10007]
    } else if cfg!(target_vendor = "apple") {
        // `raise` and `abort` look like `kill` there.
        [0x10001, 0x10002, 0x10001]
    } else if cfg!(any(target_os = "linux", target_os = "android")) {
        [0, -1, -6]
    } else {
        [0, -1, 0]
    };
    pub(super) const KILL: c_int = CODES[0];
    pub(super) const QUEUE: c_int = CODES[1];
    pub(super) const THREAD: c_int = CODES[2];

    #[cfg(any(target_os = "linux", target_os = "android"))]
    const _: () = assert!(
        KILL == super::libc::SI_USER
            && QUEUE == super::libc::SI_QUEUE
            && THREAD == super::libc::SI_TKILL
    );
}
