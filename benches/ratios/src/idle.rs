//! What a guard costs while nothing happens.

use std::fs;
use std::thread;
use std::time::Duration;

use handle_exit::HandleExit;

use crate::report::Row;
use crate::sampling::is_quick;
use crate::victim::{Victim, park};

struct Cost {
    threads: usize,
    descriptors: usize,
    wake_ups: usize,
}

fn observe(contestant: &str) -> Cost {
    let victim = Victim::start_parked("idle", contestant);
    let before = wake_ups(&victim);
    // The time itself is what is looked at.
    thread::sleep(Duration::from_secs(if is_quick() { 1 } else { 10 }));
    Cost {
        threads: victim.tasks().len(),
        descriptors: victim.descriptors(),
        wake_ups: wake_ups(&victim) - before,
    }
}

/// How often its threads have gone to sleep: once more with each time that they were woken.
fn wake_ups(victim: &Victim) -> usize {
    let of_task = |task: String| -> usize {
        let status = fs::read_to_string(format!("{task}/status")).expect("a thread that lives");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse().ok()).expect("a count of context switches")
    };
    victim.tasks().into_iter().map(of_task).sum()
}

pub(crate) fn measure() -> Vec<Row> {
    let (ours, none) = (observe("ours"), observe("none"));
    let without = "a process without a guard";
    vec![
        Row::counts("idle: threads", ours.threads, without, none.threads, 1),
        Row::counts("idle: descriptors", ours.descriptors, without, none.descriptors, 0),
        Row::counts("idle: wake-ups while parked", ours.wake_ups, without, none.wake_ups, 0),
    ]
}

pub(crate) fn play(contestant: &str) {
    match contestant {
        "ours" => HandleExit::new(|| {}).expect("a guard").keep(),
        "none" => {}
        _ => unreachable!("no contestant {contestant}"),
    }
    park()
}
