//! From the handler to the watcher: a semaphore, or a pipe where there are none without a name.
//!
//! Wake-ups may come for nothing (one that was meant for the guard before): the watcher looks at the
//! facts, never at how often it was woken.

pub(crate) use platform::{post, prepare, wait};

#[cfg(not(target_vendor = "apple"))]
mod platform {
    use std::cell::UnsafeCell;
    use std::io;
    use std::mem::MaybeUninit;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::time::Instant;

    use nix::libc;

    use super::super::process::Process;

    /// Static and never destroyed, so that a handler that comes late may still post.
    struct Semaphore(UnsafeCell<MaybeUninit<libc::sem_t>>);

    // SAFETY: after `prepare` the semaphore is used through sem_* only, which synchronise.
    unsafe impl Sync for Semaphore {}

    static SEMAPHORE: Semaphore = Semaphore(UnsafeCell::new(MaybeUninit::zeroed()));

    /// The process that initialised the semaphore: in a forked child it may count a waiter of the
    /// parent's, and is made anew.
    static PREPARED: AtomicU64 = AtomicU64::new(0);

    fn semaphore() -> *mut libc::sem_t {
        SEMAPHORE.0.get().cast()
    }

    /// Makes the semaphore ready in `process`, which is this one. Called by one thread at a time, before any
    /// handler of this process's guards is in place.
    pub(crate) fn prepare(process: Process) -> io::Result<()> {
        if PREPARED.load(SeqCst) == process {
            return Ok(());
        }
        // SAFETY: the memory is static, and nobody of this process uses it yet.
        if unsafe { libc::sem_init(semaphore(), 0, 0) } == -1 {
            return Err(io::Error::last_os_error());
        }
        PREPARED.store(process, SeqCst);
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
        let Some(deadline) = deadline else {
            // SAFETY: initialised by `prepare`.
            unsafe { libc::sem_wait(semaphore()) };
            return;
        };
        timed::wait(semaphore(), deadline.saturating_duration_since(Instant::now()));
    }

    /// Waiting for a time. POSIX has only the wall clock for this (`sem_timedwait`), which may be
    /// set while we wait; glibc 2.30 has the monotonic one, looked up at run time so that programs
    /// still start with an older one.
    mod timed {
        use std::time::Duration;

        use nix::libc;

        /// The time from now on `clock`, as sem_*wait take it.
        #[allow(clippy::useless_conversion, reason = "time_t and tv_nsec are narrower elsewhere")]
        fn after(clock: libc::clockid_t, time: Duration) -> libc::timespec {
            // SAFETY: zeroed is a valid timespec on every platform.
            let mut at = unsafe { std::mem::zeroed::<libc::timespec>() };
            // SAFETY: `at` is valid for a write; both clocks exist everywhere.
            unsafe { libc::clock_gettime(clock, &raw mut at) };
            let nanos = i64::from(at.tv_nsec) + i64::from(time.subsec_nanos());
            let seconds = i64::try_from(time.as_secs())
                .unwrap_or(i64::MAX)
                .saturating_add(nanos / 1_000_000_000)
                // No clock gets further than this, and the sum fits every time_t of 64 bits.
                .min(1 << 40);
            at.tv_sec = at.tv_sec.saturating_add(seconds.try_into().unwrap_or(i32::MAX.into()));
            at.tv_nsec = (nanos % 1_000_000_000).try_into().unwrap_or(0);
            at
        }

        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        pub(super) fn wait(semaphore: *mut libc::sem_t, time: Duration) {
            type ClockWait = unsafe extern "C" fn(
                *mut libc::sem_t,
                libc::clockid_t,
                *const libc::timespec,
            ) -> libc::c_int;
            // SAFETY: a NUL-terminated name; the result is null or the function of that name.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"sem_clockwait".as_ptr()) };
            if found.is_null() {
                return by_wall_clock(semaphore, time);
            }
            // SAFETY: sem_clockwait(3) has this signature.
            let clockwait = unsafe { std::mem::transmute::<*mut libc::c_void, ClockWait>(found) };
            let until = after(libc::CLOCK_MONOTONIC, time);
            // SAFETY: the semaphore is initialised, `until` is valid for the call.
            unsafe { clockwait(semaphore, libc::CLOCK_MONOTONIC, &raw const until) };
        }

        #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
        pub(super) fn wait(semaphore: *mut libc::sem_t, time: Duration) {
            by_wall_clock(semaphore, time);
        }

        fn by_wall_clock(semaphore: *mut libc::sem_t, time: Duration) {
            let until = after(libc::CLOCK_REALTIME, time);
            // SAFETY: the semaphore is initialised, `until` is valid for the call.
            unsafe { libc::sem_timedwait(semaphore, &raw const until) };
        }
    }
}

#[cfg(target_vendor = "apple")]
mod platform {
    use std::io;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
    use std::time::Instant;

    use nix::libc;

    use super::super::process::Process;

    /// Both ends of a socket pair, made once a process and kept. Non-blocking and close-on-exec.
    static READ: AtomicI32 = AtomicI32::new(-1);
    static WRITE: AtomicI32 = AtomicI32::new(-1);
    /// The process that made them: a forked child must not share its parent's.
    static PREPARED: AtomicU64 = AtomicU64::new(0);

    /// As for the semaphore of other platforms.
    pub(crate) fn prepare(process: Process) -> io::Result<()> {
        if PREPARED.load(SeqCst) == process {
            return Ok(());
        }
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        READ.store(read.as_raw_fd(), SeqCst);
        WRITE.store(write.into_raw_fd(), SeqCst);
        let _ = read.into_raw_fd();
        PREPARED.store(process, SeqCst);
        Ok(())
    }

    /// Wakes the watcher. Async-signal-safe (signal-safety(7)).
    pub(crate) fn post() {
        // SAFETY: one byte from a valid place. A full pipe means that a wake-up is due anyway.
        unsafe { libc::write(WRITE.load(SeqCst), [1u8].as_ptr().cast(), 1) };
    }

    /// Sleeps until woken, at most until `deadline`. May wake early.
    pub(crate) fn wait(deadline: Option<Instant>) {
        let timeout = deadline.map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            i32::try_from(left).map_or(i32::MAX, |left| left.saturating_add(1))
        });
        let read = READ.load(SeqCst);
        let mut poll = libc::pollfd { fd: read, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, timeout) };
        let mut bytes = [0u8; 64];
        // SAFETY: reads at most 64 bytes into 64 bytes; never blocks.
        unsafe { libc::read(read, bytes.as_mut_ptr().cast(), bytes.len()) };
    }
}
