//! Which seeds are tried. Those that gate are always the same; `.ci/chaos` explores with others.
//!
//! * `HANDLE_EXIT_SEED`: the first one. Each that follows is one more.
//! * `HANDLE_EXIT_RUNS`: how many.
//! * `HANDLE_EXIT_AGAIN`: how often each of them, once if unset. A race may need more than one attempt.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

const SEED: &str = "HANDLE_EXIT_SEED";
const RUNS: &str = "HANDLE_EXIT_RUNS";
const AGAIN: &str = "HANDLE_EXIT_AGAIN";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Tries each seed, several at once: they wait more than they work. `runs` is how many there are where nobody
/// says otherwise. True if this is exploring, and somebody wants to know what was met.
pub(crate) fn try_each(runs: u64, at_once: usize, attempt: impl Fn(u64) + Sync) -> bool {
    let (first, again) = (number(SEED).unwrap_or(1), number(AGAIN).unwrap_or(1));
    let last = number(RUNS).unwrap_or(runs) * again;
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        while !failed.load(SeqCst) {
            let run = next.fetch_add(1, SeqCst);
            if run >= last {
                return;
            }
            let seed = first.wrapping_add(run / again);
            if let Err(why) = catch_unwind(AssertUnwindSafe(|| attempt(seed))) {
                failed.store(true, SeqCst);
                eprintln!("failed with {SEED}={seed} {RUNS}=1");
                resume_unwind(why);
            }
        }
    };
    std::thread::scope(|threads| {
        let started: Vec<_> = (0..at_once).map(|_| threads.spawn(work)).collect();
        for thread in started {
            thread.join().unwrap_or_else(|why| resume_unwind(why));
        }
    });
    [SEED, RUNS, AGAIN].iter().any(|name| number(name).is_some())
}
