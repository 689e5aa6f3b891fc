//! A clock for the handler: `Instant` promises nothing about signal handlers.

use std::mem::MaybeUninit;

use nix::libc;

/// Milliseconds of `CLOCK_MONOTONIC`, never 0. They wrap around where a `usize` does: compare with
/// [`since`]. Async-signal-safe, as `clock_gettime` is (signal-safety(7)).
pub(super) fn now() -> usize {
    let mut now = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `now` is valid for a write; the clock exists on every platform of this crate.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr()) };
    // SAFETY: zeroed is a valid timespec, and the call above filled it in.
    let now = unsafe { now.assume_init() };
    // Wrapping is what is wanted of both casts.
    let milliseconds = (now.tv_sec as usize).wrapping_mul(1000);
    milliseconds.wrapping_add(now.tv_nsec as usize / 1_000_000).max(1)
}

/// Milliseconds from `begun` to `now`. 0 where `begun` is the later one: of two threads the one
/// that read the clock first need not be the first to say so.
pub(super) fn since(begun: usize, now: usize) -> usize {
    usize::try_from(now.wrapping_sub(begun) as isize).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_wraps_around_is_still_later() {
        assert_eq!(since(usize::MAX, 499), 500);
        assert_eq!(since(1000, 1500), 500);
        assert_eq!(since(1000, 999), 0);
        assert!(since(now(), now()) < 60_000);
    }
}
