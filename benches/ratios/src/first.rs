//! The first construction in a process.

use std::time::Instant;

use crate::latency;
use crate::report::Row;
use crate::sampling::{round_robin, rounds};
use crate::victim::{Victim, print};

pub(crate) fn measure() -> Vec<Row> {
    let sample = |contestant: &str| Victim::start("first", contestant).numbers();
    let [ours, ctrlc, hook] = round_robin(["ours", "ctrlc", "signal-hook"], rounds(1000), sample);
    let what = "first construction in a process";
    vec![
        Row::times(what, &ours, "ctrlc", &ctrlc, 1.15),
        Row::times(what, &ours, "signal-hook with its thread", &hook, 0.95),
    ]
}

pub(crate) fn play(contestant: &str) {
    let begun = Instant::now();
    latency::listen(contestant, || {});
    let took = begun.elapsed();
    print([u64::try_from(took.as_nanos()).expect("a short time")]);
}
