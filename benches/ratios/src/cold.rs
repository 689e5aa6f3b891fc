//! The pages that are touched for the first time: one signal in the life of a process meets only cold code.

use std::thread;

use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};

use crate::latency;
use crate::report::Row;
use crate::sampling::{round_robin, rounds};
use crate::victim::Victim;

pub(crate) fn measure() -> Vec<Row> {
    let contestants = ["ours", "ctrlc", "signal-hook"];
    let first = |contestant: &str| vec![Victim::start_parked("cold", contestant).number()];
    let signal = |contestant: &str| {
        let mut victim = Victim::start_parked("cold", contestant);
        victim.number();
        let before = victim.page_faults();
        victim.terminate();
        vec![victim.number() - before]
    };
    let [ours, ctrlc, hook] = round_robin(contestants, rounds(100), first);
    let what = "page faults of the first construction";
    let mut rows = vec![
        Row::plain_counts(what, &ours, "ctrlc", &ctrlc),
        Row::plain_counts(what, &ours, "signal-hook with its thread", &hook),
    ];
    let [ours, ctrlc, hook] = round_robin(contestants, rounds(100), signal);
    let what = "page faults from `kill` to the first line of the callback";
    rows.push(Row::plain_counts(what, &ours, "ctrlc", &ctrlc));
    rows.push(Row::plain_counts(what, &ours, "signal-hook, `Signals::forever`", &hook));
    rows
}

/// Says how many the construction took, and in the callback, how many there were until then.
pub(crate) fn play(contestant: &str) {
    let before = page_faults();
    latency::listen(contestant, callback);
    let took = page_faults() - before;
    println!("ready");
    println!("{took}");
    loop {
        thread::park();
    }
}

fn callback() {
    let now = page_faults();
    println!("{now}");
    // SAFETY: the process ends here, and nothing of it is needed any more.
    unsafe { libc::_exit(0) }
}

fn page_faults() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF).expect("the own process").minor_page_faults()
}
