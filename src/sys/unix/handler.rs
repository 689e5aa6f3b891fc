//! The function the kernel calls.
//!
//! A guarded signal is put into its mailbox and the watcher is woken. Nothing else happens here:
//! no allocation, no lock, no loop but over the words of a siginfo, no panic. (One thread waits in
//! here: one that called `abort(3)`, for a bounded time, with nothing left to do but die.) The calls
//! it makes, with the page that allows each:
//!
//! | call | why it may be made |
//! |---|---|
//! | `getpid` (as `std::process::id`), `clock_gettime` | signal-safety(7) |
//! | `futex` (Linux: a plain system call), `sem_post` (signal-safety(7)), `semaphore_signal` (Apple: a Mach trap) | see `wake` |
//! | `sigaction`, `pthread_sigmask`, `pthread_kill`, `kill`, `poll`, `_exit` | signal-safety(7); only where the signal is not the guard's to keep |
//! | `pthread_self` | signal-safety(7), POSIX.1-2008 TC1 |
//! | `sigismember` (Apple, `DragonFly`; SIGABRT only) | signal-safety(7) |
//! | `rt_tgsigqueueinfo` | a plain system call (Linux) |

use nix::errno::Errno;
use nix::libc::{c_int, c_void, siginfo_t};

use super::disposition::Function;
use super::siginfo::Delivery;
use super::slot::{LEVELS, Slot, slot};
use super::{abort, forward};

/// The handler of each level. Addresses are taken from here only, so that they compare equal. Never
/// written.
pub(super) static FUNCTIONS: [Function; LEVELS] =
    [handle::<0>, handle::<1>, handle::<2>, handle::<3>];

#[cfg_attr(rtsan, sanitize(realtime = "nonblocking"))]
extern "C" fn handle<const LEVEL: usize>(raw: c_int, info: *mut siginfo_t, context: *mut c_void) {
    handle_at(LEVEL, &Delivery { raw, info, context });
}

#[inline(never)]
fn handle_at(level: usize, delivery: &Delivery) {
    let errno = Errno::last_raw();
    let Some(slot) = slot(delivery.raw) else { return };
    match slot.arrive(Some(level), delivery) {
        Some(false) => {}
        Some(true) => abort::wait_and_die(),
        None => pass_on(slot, level, delivery),
    }
    Errno::set_raw(errno);
}

/// The signal is not the guard's: acts as the disposition below would have.
#[cold]
#[inline(never)]
fn pass_on(slot: &'static Slot, level: usize, delivery: &Delivery) {
    let Some(below) = slot.below(level) else { return };
    let called = forward::Called {
        slot,
        function: FUNCTIONS[level] as usize,
        is_buried: level < slot.free_level(),
    };
    // SAFETY: the kernel, or a handler that passes on what the kernel gave it, called `handle` with
    // these arguments.
    unsafe { forward::as_before(delivery, &called, below) };
}
