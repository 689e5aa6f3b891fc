//! Construction and drop, again and again: alone, and inside a living guard.

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use handle_exit::HandleExit;
use nix::libc;
use nix::sys::signal::Signal;
use signal_hook::iterator::Signals;

use crate::floor;
use crate::report::Row;
use crate::sampling::{round_robin, rounds};
use crate::victim::{Victim, print};

pub(crate) fn measure() -> Vec<Row> {
    let sample = |contestant: &str| Victim::start("construct", contestant).numbers();
    let [ours, floor, hook] = round_robin(["ours", "floor", "signal-hook"], rounds(100), sample);
    let [inside, boxed] = round_robin(["inside", "boxed"], rounds(20), sample);
    let what = "construct + drop";
    let thread = "spawn a thread that parks, unpark, join, four `sigaction`";
    vec![
        Row::times(what, &ours, thread, &floor, 1.15),
        Row::times(what, &ours, "signal-hook, `Signals` + thread + close + join", &hook, 0.80),
        Row::times(
            "a thousand times construct + drop, inside a living guard",
            &inside,
            "two `getpid`, two queries, and a boxed closure in a `Mutex<Vec>`",
            &boxed,
            1.50,
        ),
    ]
}

pub(crate) fn play(contestant: &str) {
    match contestant {
        "ours" => repeat(|| drop(HandleExit::new(|| {}).expect("a guard"))),
        "inside" => {
            let outer = HandleExit::new(|| {}).expect("a guard");
            let captured = std::hint::black_box([1_u64; 4]);
            repeat(|| {
                for _ in 0..1000 {
                    let cleans = move || drop(std::hint::black_box(Box::new(captured)));
                    drop(HandleExit::append(cleans).expect("a guard inside"));
                }
            });
            drop(outer);
        }
        "boxed" => {
            type Closures = Mutex<Vec<Box<dyn FnOnce() + Send>>>;
            let closures = Closures::default();
            let captured = std::hint::black_box([1_u64; 4]);
            repeat(|| {
                for _ in 0..1000 {
                    for signal in [Signal::SIGTERM, Signal::SIGINT] {
                        std::hint::black_box(std::process::id());
                        floor::query(signal);
                    }
                    let cleans = move || drop(std::hint::black_box(Box::new(captured)));
                    closures.lock().expect("no panic").push(Box::new(cleans));
                    let cleans = closures.lock().expect("no panic").pop();
                    cleans.expect("it was pushed")();
                }
            });
        }
        "floor" => repeat(|| {
            let parked = thread::spawn(thread::park);
            let both = [Signal::SIGTERM, Signal::SIGINT];
            let old = both.map(|signal| floor::handle(signal, floor::count));
            for (signal, old) in both.into_iter().zip(&old) {
                floor::put(signal, old);
            }
            parked.thread().unpark();
            parked.join().expect("a thread that parks");
        }),
        "signal-hook" => repeat(|| {
            let mut signals = Signals::new([libc::SIGTERM, libc::SIGINT]).expect("signals");
            let handle = signals.handle();
            let thread = thread::spawn(move || for _ in signals.forever() {});
            handle.close();
            thread.join().expect("a thread that ends");
        }),
        _ => unreachable!("no contestant {contestant}"),
    }
}

/// Does it some times for the caches, then takes the time of each.
pub(crate) fn repeat(mut what: impl FnMut()) {
    for _ in 0..20 {
        what();
    }
    print((0..100).map(|_| {
        let begun = Instant::now();
        what();
        u64::try_from(begun.elapsed().as_nanos()).expect("a short time")
    }));
}
