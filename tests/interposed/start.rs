//! A watcher that takes its time to begin.

#![allow(unsafe_code, reason = "it stands in the place of a function of the C library")]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use handle_exit::HandleExit;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::*;

/// Whether a thread takes its time to get its name, which the standard library gives it before it runs anything.
static IS_SLOW: AtomicBool = AtomicBool::new(false);
static HAS_NAME: AtomicBool = AtomicBool::new(false);

/// What the standard library calls instead of the C library's, for the calling thread.
#[unsafe(no_mangle)]
extern "C" fn pthread_setname_np(_: libc::pthread_t, name: *const libc::c_char) -> libc::c_int {
    if IS_SLOW.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(300));
    }
    HAS_NAME.store(true, SeqCst);
    // SAFETY: the caller's argument, a name.
    unsafe { libc::prctl(libc::PR_SET_NAME, name) }
}

/// As a daemon does that makes its guard before it forks.
fn forks_at_once() {
    IS_SLOW.store(true, SeqCst);
    let guard = HandleExit::new(|| say("callback")).unwrap();
    // SAFETY: the child does no more than end.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: it ends the child.
        unsafe { libc::_exit(i32::from(!HAS_NAME.load(SeqCst))) };
    }
    let ended = waitpid(Pid::from_raw(child), None).unwrap();
    say(match ended {
        WaitStatus::Exited(_, code) => format!("status {code}"),
        other => format!("{other:?}"),
    });
    drop(guard);
}

/// Its thread may have a lock of the standard library's, without which no thread begins in the child.
fn a_fork_waits_until_the_watcher_has_begun() {
    ends_well(forks_at_once, &["status 0", "callback"]);
}

pub(crate) const TESTS: &[Named] = tests![a_fork_waits_until_the_watcher_has_begun];
