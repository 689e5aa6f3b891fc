//! What each signal of a storm costs the thread it is delivered to.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use handle_exit::HandleExit;
use nix::libc;
use nix::sys::signal::Signal;

use crate::floor;
use crate::report::Row;
use crate::sampling::{round_robin, rounds};
use crate::victim::{Victim, print};

pub(crate) fn measure() -> Vec<Row> {
    let sample = |contestant: &str| Victim::start("storm", contestant).numbers();
    let [ours, floor] = round_robin(["ours", "floor"], rounds(100), sample);
    vec![Row::times(
        "handler, per signal in a storm",
        &ours,
        "a handler that only counts",
        &floor,
        1.5,
    )]
}

pub(crate) fn play(contestant: &str) {
    let signal = thread_signaller();
    match contestant {
        "ours" => {
            let (begin, begun) = mpsc::channel();
            // The callback never returns: all that comes after the first signal is the storm.
            let callback = move || {
                begin.send(()).expect("a thread that listens");
                loop {
                    thread::park();
                }
            };
            HandleExit::new(callback).expect("a guard").keep();
            signal();
            begun.recv().expect("the callback's word");
        }
        "floor" => {
            floor::handle(Signal::SIGTERM, floor::count);
        }
        _ => unreachable!("no contestant {contestant}"),
    }
    const BATCH: u32 = 500;
    print((0..20).map(|_| {
        let begun = Instant::now();
        for _ in 0..BATCH {
            signal();
        }
        u64::try_from((begun.elapsed() / BATCH).as_nanos()).expect("a short time")
    }));
    // SAFETY: the process ends here, and nothing of it is needed any more.
    unsafe { libc::_exit(0) }
}

/// Sends SIGTERM to the calling thread, in one system call: it is delivered before that returns.
fn thread_signaller() -> impl Fn() {
    // SAFETY: no arguments, cannot fail.
    let (pid, thread) = unsafe { (libc::getpid(), libc::syscall(libc::SYS_gettid)) };
    move || {
        // SAFETY: takes three numbers; the thread is the calling one.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, libc::SIGTERM) };
        assert_eq!(sent, 0);
    }
}
