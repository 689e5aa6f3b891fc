//! How costs grow with what a guard is given.

use std::thread;
use std::time::Instant;

use handle_exit::{HandleExit, Signal};

use crate::report::Row;
use crate::sampling::{round_robin, rounds};
use crate::victim::{Victim, park, print};
use crate::{construct, latency};

pub(crate) fn measure() -> Vec<Row> {
    let in_process = |contestant: &str| Victim::start("growth", contestant).numbers();
    let outside = |contestant: &str| latency::sample("growth", contestant);

    let names = ["signals 1", "signals 2", "signals 8"];
    let [one_signal, two, eight] = round_robin(names, rounds(50), in_process);
    let names = ["deferred 1", "deferred 100", "deferred 10000"];
    let [one_function, hundred, many] = round_robin(names, rounds(50), in_process);
    let names = ["waiters 1", "waiters 100"];
    let [one_waiter, waiters] = round_robin(names, rounds(200), outside);

    vec![
        Row::growth("construct + drop with 2 signals", &two, "with 1", &one_signal),
        Row::growth("construct + drop with 8 signals", &eight, "with 1", &one_signal),
        Row::growth(
            "end of a scope with 100 deferred functions",
            &hundred,
            "with 1",
            &one_function,
        ),
        Row::growth(
            "end of a scope with 10 000 deferred functions",
            &many,
            "with 1",
            &one_function,
        ),
        Row::growth(
            "`kill` to the callback with 100 waiting threads",
            &waiters,
            "with 1",
            &one_waiter,
        ),
    ]
}

pub(crate) fn play(contestant: &str) {
    let (what, count) = contestant.split_once(' ').expect("what grows, and to how much");
    let count: usize = count.parse().expect("a number");
    match what {
        "signals" => construct::repeat(|| {
            let signals = EIGHT.into_iter().take(count);
            drop(HandleExit::builder().signals(signals).install(|| {}).expect("a guard"));
        }),
        "deferred" => print((0..20).map(|_| {
            let guard = HandleExit::new(|| {}).expect("a guard");
            for _ in 0..count {
                guard.defer(|| {}).expect("a living guard");
            }
            let begun = Instant::now();
            drop(guard);
            u64::try_from(begun.elapsed().as_nanos()).expect("a short time")
        })),
        "waiters" => {
            let guard = HandleExit::new(latency::callback).expect("a guard");
            for _ in 0..count {
                let handle = guard.handle();
                thread::spawn(move || handle.wait());
            }
            guard.keep();
            park()
        }
        _ => unreachable!("no contestant {contestant}"),
    }
}

const EIGHT: [Signal; 8] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALRM,
    Signal::PROF,
];
