//! From the handler to the watcher: that something came.
//!
//! One thread waits at a time. Wake-ups may come for nothing (one that was meant for the watcher
//! before): the watcher looks at the facts, never at how often it was woken.

#[cfg(handle_exit_loom)]
pub(crate) use super::models::{post, wait};
pub(super) use platform::prepare;
#[cfg(not(handle_exit_loom))]
pub(crate) use platform::{post, wait};

/// A word of memory and futex(2): nothing to make, and no system call where nobody sleeps.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    use std::io;
    use std::ptr;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::time::Instant;

    use nix::libc::{self, c_int, c_long};

    /// Written by the handler, the watcher, and those who wake it; see below.
    static WORD: AtomicU32 = AtomicU32::new(IDLE);

    const IDLE: u32 = 0;
    /// A wake-up is due.
    const POSTED: u32 = 1;
    /// The watcher sleeps, or is about to.
    const ASLEEP: u32 = 2;

    /// In a process that has no guard yet. What the word says in a forked child is the parent's.
    pub(in super::super) fn prepare() -> io::Result<()> {
        WORD.store(IDLE, SeqCst);
        Ok(())
    }

    /// Wakes the watcher. Async-signal-safe: an atomic, and a system call that takes no lock and no
    /// memory in user space.
    #[inline(never)]
    pub(crate) fn post() {
        if WORD.swap(POSTED, SeqCst) == ASLEEP {
            futex(libc::FUTEX_WAKE, u32::MAX >> 1, ptr::null());
        }
    }

    /// Sleeps until woken, at most until `deadline`. May wake early.
    pub(crate) fn wait(deadline: Option<Instant>) {
        if WORD.compare_exchange(IDLE, ASLEEP, SeqCst, SeqCst) != Err(POSTED) {
            match deadline.map(Timeout::until) {
                None => futex(libc::FUTEX_WAIT, ASLEEP, ptr::null()),
                Some(timeout) => futex(libc::FUTEX_WAIT, ASLEEP, &raw const timeout),
            }
        }
        // What was posted is seen by the look at the facts that follows. After an early end of the
        // wait the word may say ASLEEP still: that costs the next post a system call.
        let _ = WORD.compare_exchange(POSTED, IDLE, SeqCst, SeqCst);
    }

    /// The kernel's `struct timespec` for `SYS_futex`: two words of the machine, whatever the width
    /// of the C library's `time_t`.
    #[repr(C)]
    struct Timeout {
        seconds: c_long,
        nanoseconds: c_long,
    }

    impl Timeout {
        /// `FUTEX_WAIT` takes the time from now on, by the clock of `Instant`.
        fn until(deadline: Instant) -> Timeout {
            let left = deadline.saturating_duration_since(Instant::now());
            let seconds = i32::try_from(left.as_secs()).unwrap_or(i32::MAX);
            // Less than a second of nanoseconds: the cast loses nothing.
            Timeout { seconds: seconds.into(), nanoseconds: left.subsec_nanos() as c_long }
        }
    }

    fn futex(operation: c_int, value: u32, timeout: *const Timeout) {
        // SAFETY: the word is static; the timeout is null or valid for the call. A wait fails where
        // the word has changed, or a signal came, and then there is something to look at.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                WORD.as_ptr(),
                operation | libc::FUTEX_PRIVATE_FLAG,
                value,
                timeout,
            )
        };
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
mod platform {
    use std::cell::UnsafeCell;
    use std::io;
    use std::mem::MaybeUninit;
    use std::time::{Duration, Instant};

    use nix::libc;
    use nix::sys::time::TimeSpec;
    use nix::time::{ClockId, clock_gettime};

    /// Static and never destroyed, so that a handler that comes late may still post.
    struct Semaphore(UnsafeCell<MaybeUninit<libc::sem_t>>);

    // SAFETY: after `prepare` the semaphore is used through sem_* only, which synchronise.
    unsafe impl Sync for Semaphore {}

    /// Written by `prepare`; used by the handler, the watcher, and those who wake it.
    static SEMAPHORE: Semaphore = Semaphore(UnsafeCell::new(MaybeUninit::zeroed()));

    fn semaphore() -> *mut libc::sem_t {
        SEMAPHORE.0.get().cast()
    }

    /// In a process that has no guard yet. In a forked child the semaphore may count a waiter of the
    /// parent's, and is made anew.
    pub(in super::super) fn prepare() -> io::Result<()> {
        // SAFETY: the memory is static, and nobody of this process uses it yet.
        if unsafe { libc::sem_init(semaphore(), 0, 0) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Wakes the watcher. Async-signal-safe (signal-safety(7)).
    pub(crate) fn post() {
        // SAFETY: initialised by `prepare`, which comes before every guard. It fails only when the
        // count is at its maximum, and then a wake-up is due anyway.
        unsafe { libc::sem_post(semaphore()) };
    }

    /// Sleeps until woken, at most until `deadline`. May wake early.
    pub(crate) fn wait(deadline: Option<Instant>) {
        match deadline {
            // SAFETY: initialised by `prepare`.
            None => unsafe { libc::sem_wait(semaphore()) },
            Some(deadline) => {
                let until = by_wall_clock(deadline);
                // SAFETY: initialised by `prepare`; `until` is valid for the call.
                unsafe { libc::sem_timedwait(semaphore(), &raw const until) }
            }
        };
    }

    /// POSIX has only the wall clock for this. Where it is set meanwhile, the watcher wakes early and
    /// waits again, or late.
    fn by_wall_clock(deadline: Instant) -> libc::timespec {
        // To wake early does no harm, and a day more fits every `time_t`.
        let left = deadline.saturating_duration_since(Instant::now()).min(DAY);
        // It fails only for a clock that does not exist.
        let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap_or(TimeSpec::new(0, 0));
        *(now + TimeSpec::from_duration(left)).as_ref()
    }

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
}

/// A Mach semaphore: there are no unnamed POSIX ones on Apple's systems.
#[cfg(target_vendor = "apple")]
mod platform {
    use std::io;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::time::Instant;

    use nix::libc::{c_int, c_uint};

    /// `mach_timespec_t`
    #[repr(C)]
    struct Timeout {
        seconds: c_uint,
        nanoseconds: c_int,
    }

    // From <mach/semaphore.h> and <mach/task.h>; ports are unsigned ints, results ints.
    unsafe extern "C" {
        static mach_task_self_: c_uint;
        fn semaphore_create(
            task: c_uint,
            semaphore: *mut c_uint,
            policy: c_int,
            value: c_int,
        ) -> c_int;
        fn semaphore_signal(semaphore: c_uint) -> c_int;
        fn semaphore_wait(semaphore: c_uint) -> c_int;
        fn semaphore_timedwait(semaphore: c_uint, timeout: Timeout) -> c_int;
    }

    const SYNC_POLICY_FIFO: c_int = 0;

    /// The semaphore's port, made once in each process and kept. Written by `prepare`; read by the
    /// handler, the watcher, and those who wake it.
    static SEMAPHORE: AtomicU32 = AtomicU32::new(0);

    /// In a process that has no guard yet. A forked child inherits no ports.
    pub(in super::super) fn prepare() -> io::Result<()> {
        let mut semaphore = 0;
        // SAFETY: `mach_task_self_` is set before `main`; `semaphore` is valid for a write.
        let result =
            unsafe { semaphore_create(mach_task_self_, &raw mut semaphore, SYNC_POLICY_FIFO, 0) };
        if result != 0 {
            return Err(io::Error::other("semaphore_create failed"));
        }
        SEMAPHORE.store(semaphore, SeqCst);
        Ok(())
    }

    /// Wakes the watcher. A Mach trap that takes no lock and no memory in user space: it may be made
    /// in a handler, as OpenJDK's handlers do.
    pub(crate) fn post() {
        // SAFETY: takes any number; a port that does not exist is refused.
        unsafe { semaphore_signal(SEMAPHORE.load(SeqCst)) };
    }

    /// Sleeps until woken, at most until `deadline`. May wake early.
    pub(crate) fn wait(deadline: Option<Instant>) {
        let semaphore = SEMAPHORE.load(SeqCst);
        match deadline {
            // SAFETY: takes any number; a port that does not exist is refused.
            None => unsafe { semaphore_wait(semaphore) },
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = Timeout {
                    seconds: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
                    // Less than a second of nanoseconds: the cast loses nothing.
                    nanoseconds: left.subsec_nanos() as c_int,
                };
                // SAFETY: as above.
                unsafe { semaphore_timedwait(semaphore, timeout) }
            }
        };
    }
}
