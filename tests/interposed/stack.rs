//! What is read of the stacks of threads, and how long that may take.

#![allow(unsafe_code, reason = "it stands in the place of a function of the C library")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use handle_exit::{HandleExit, Signal};
use nix::libc;

use crate::support::*;

/// Calls that have read something.
static CALLS: AtomicUsize = AtomicUsize::new(0);
/// Those that the kernel refused, at least in part.
static REFUSED: AtomicUsize = AtomicUsize::new(0);
/// Each takes longer than the longest time between two looks of a thread that waits.
static IS_SLOW: AtomicBool = AtomicBool::new(false);

/// What Rust code of this process calls instead of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn process_vm_readv(
    process: libc::pid_t,
    local: *const libc::iovec,
    local_count: libc::c_ulong,
    remote: *const libc::iovec,
    remote_count: libc::c_ulong,
    flags: libc::c_ulong,
) -> libc::ssize_t {
    if IS_SLOW.load(SeqCst) {
        std::thread::sleep(Duration::from_secs(1));
    }
    // SAFETY: the caller's arguments.
    let read = unsafe {
        let number = libc::SYS_process_vm_readv;
        libc::syscall(number, process, local, local_count, remote, remote_count, flags)
    };
    // SAFETY: so many the caller has.
    let remote = unsafe { std::slice::from_raw_parts(remote, remote_count as usize) };
    let asked: usize = remote.iter().map(|one| one.iov_len).sum();
    if usize::try_from(read) != Ok(asked) {
        REFUSED.fetch_add(1, SeqCst);
    }
    CALLS.fetch_add(usize::from(read > 0), SeqCst);
    read as libc::ssize_t
}

/// The callback runs on the main thread, whose stack an exit on another thread looks at.
fn exits_beside_a_callback_of_main() {
    let guard = HandleExit::new(|| {
        let (calls, refused) = (CALLS.load(SeqCst), REFUSED.load(SeqCst));
        std::thread::spawn(|| std::process::exit(0));
        // More than one look.
        until("the stack is read", || CALLS.load(SeqCst) > calls + 40);
        say(format!("{} refused", REFUSED.load(SeqCst) - refused));
    });
    drop(guard);
}

/// Linux reports a read just below the main thread's stack to the administrator, with a trace.
fn a_look_at_the_main_stack_reads_nothing_below_it() {
    let end = Victim::start(exits_beside_a_callback_of_main).end();
    end.said(&["0 refused"]).exited(0);
}

/// Main waits, and looks again and again.
fn callback_hangs_where_a_look_is_slow() {
    IS_SLOW.store(true, SeqCst);
    let builder = HandleExit::builder().callback_timeout(SOON_OVER);
    let guard = builder.install(|| park()).unwrap();
    raise(Signal::TERM);
    drop(guard);
}

/// As under an emulator that lays the program right above the stack of main: a search reads both.
fn a_thread_whose_looks_are_slow_keeps_no_callback_from_its_timeout() {
    Victim::start(callback_hangs_where_a_look_is_slow).end().exited(101);
}

pub(crate) const TESTS: &[Named] = tests![
    a_look_at_the_main_stack_reads_nothing_below_it,
    a_thread_whose_looks_are_slow_keeps_no_callback_from_its_timeout,
];
