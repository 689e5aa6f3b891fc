//! A clock for the handler: `Instant` promises nothing about signal handlers.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Milliseconds of `CLOCK_MONOTONIC`, which wrap around where a `usize` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(super) usize);

impl Moment {
    /// Async-signal-safe, as `clock_gettime` is (signal-safety(7)).
    pub(crate) fn now() -> Moment {
        // It fails only for a clock that does not exist.
        let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return Moment(0) };
        // Wrapping is what is wanted of both casts.
        let milliseconds = (now.tv_sec() as usize).wrapping_mul(1000);
        Moment(milliseconds.wrapping_add(now.tv_nsec() as usize / 1_000_000))
    }

    /// How long after `earlier`. Zero if that is the later one: of two threads the one that read the clock
    /// first need not be the first to say so.
    pub(crate) fn saturating_duration_since(self, earlier: Moment) -> Duration {
        /// At most so much later, in milliseconds. The rest of the range is for times that are long ago: on 32 bits it
        /// is 49 days.
        const LATER: usize = 60_000;
        let milliseconds = self.0.wrapping_sub(earlier.0);
        let is_later = milliseconds > usize::MAX - LATER;
        Duration::from_millis(if is_later { 0 } else { milliseconds as u64 })
    }
}

/// How long what is about to end is waited for.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until `count` is zero, at most for a second.
pub(super) fn wait_for_none(count: &AtomicU32) {
    let mut begun = None;
    while count.load(SeqCst) > 0 {
        if begun.get_or_insert_with(Instant::now).elapsed() > TIMEOUT {
            return;
        }
        // To yield helps only threads of the same priority.
        std::thread::sleep(Duration::from_micros(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_wraps_around_is_still_later() {
        let between = |from, to| Moment(to).saturating_duration_since(Moment(from));
        assert_eq!(between(usize::MAX, 499), Duration::from_millis(500));
        assert_eq!(between(1000, 1500), Duration::from_millis(500));
        assert_eq!(between(1000, 999), Duration::ZERO);
        assert!(between(0, usize::MAX / 4 * 3) > Duration::from_secs(60));
        assert!(Moment::now().saturating_duration_since(Moment::now()) < Duration::from_secs(60));
    }
}
