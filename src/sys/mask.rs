//! The signal mask of the watcher thread.

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use super::disposition::set_of;
use crate::signal::Signal;

/// Unblocks `signals` in the calling thread, so that it hears what every other thread blocks, and so
/// that commands it starts do not inherit a mask that holds them back.
pub(crate) fn unblock(signals: impl IntoIterator<Item = Signal>) {
    // SAFETY: set_of returns an initialised set.
    let set = unsafe { SigSet::from_sigset_t_unchecked(set_of(signals)) };
    // pthread_sigmask(3) fails only for a `how` it does not know.
    let _ = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
}
