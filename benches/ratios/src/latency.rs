//! From `kill` in another process to the first line of the callback.

use std::thread;

use handle_exit::HandleExit;
use nix::libc;
use nix::sys::signal::Signal;
use signal_hook::iterator::Signals;
use tokio::signal::unix::{SignalKind, signal};

use crate::floor;
use crate::report::Row;
use crate::sampling::{round_robin, rounds};
use crate::victim::{Victim, monotonic_ns, park};

/// One signal a process: the clock of the parent just before `kill`, against that of the callback.
pub(crate) fn sample(measurement: &str, contestant: &str) -> Vec<f64> {
    let mut victim = Victim::start_parked(measurement, contestant);
    let sent = victim.terminate();
    let begun: u64 = victim.line().parse().expect("the time of the callback");
    victim.reap();
    vec![(begun - sent) as f64]
}

pub(crate) fn measure() -> Vec<Row> {
    let contestants = ["ours", "floor", "ctrlc", "signal-hook", "tokio"];
    let sample = |contestant: &str| sample("latency", contestant);
    let [ours, floor, ctrlc, hook, tokio] = round_robin(contestants, rounds(1000), sample);
    let what = "`kill` to the first line of the callback";
    vec![
        Row::times(what, &ours, "a bare handler that wakes a futex waiter", &floor, 1.10),
        Row::times(what, &ours, "ctrlc", &ctrlc, 1.05),
        Row::times(what, &ours, "signal-hook, `Signals::forever`", &hook, 0.90),
        Row::times(what, &ours, "tokio::signal", &tokio, 0.65),
    ]
}

pub(crate) fn play(contestant: &str) {
    match contestant {
        "floor" => {
            thread::spawn(|| {
                floor::wait();
                callback();
            });
            floor::handle(Signal::SIGTERM, floor::wake);
        }
        "tokio" => {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.spawn(async {
                let mut term = signal(SignalKind::terminate()).expect("a stream");
                println!("ready");
                term.recv().await;
                callback();
            });
            loop {
                thread::park();
            }
        }
        _ => listen(contestant, callback),
    }
    park()
}

/// Has a library call back on TERM and INT, on a thread of its own.
pub(crate) fn listen(contestant: &str, callback: impl Fn() + Copy + Send + 'static) {
    match contestant {
        "ours" => HandleExit::new(callback).expect("a guard").keep(),
        "ctrlc" => ctrlc::set_handler(callback).expect("a handler"),
        "signal-hook" => {
            let mut signals = Signals::new([libc::SIGTERM, libc::SIGINT]).expect("signals");
            thread::spawn(move || signals.forever().for_each(|_| callback()));
        }
        _ => unreachable!("no contestant {contestant}"),
    }
}

/// The first line notes the time; the rest tells the parent.
pub(crate) fn callback() {
    let now = monotonic_ns();
    println!("{now}");
    // SAFETY: the process ends here, and nothing of it is needed any more.
    unsafe { libc::_exit(0) }
}
