//! From `kill` until the whole process is gone and reaped.

use handle_exit::HandleExit;

use crate::report::Row;
use crate::sampling::{round_robin, rounds};
use crate::victim::{Victim, monotonic_ns, park};

fn sample(contestant: &str) -> Vec<f64> {
    let mut victim = Victim::start_parked("death", contestant);
    let sent = victim.terminate();
    victim.reap();
    vec![(monotonic_ns() - sent) as f64]
}

pub(crate) fn measure() -> Vec<Row> {
    let [ours, none, ctrlc] = round_robin(["ours", "none", "ctrlc"], rounds(1000), sample);
    let what = "`kill` to reaped, whole process (`cleanup`)";
    vec![
        Row::growth(what, &ours, "no handler at all", &none),
        Row::times(what, &ours, "ctrlc whose handler exits", &ctrlc, 0.95),
    ]
}

pub(crate) fn play(contestant: &str) {
    match contestant {
        "ours" => HandleExit::cleanup(|| {}).expect("a guard").keep(),
        "none" => {}
        "ctrlc" => ctrlc::set_handler(|| std::process::exit(0)).expect("a handler"),
        _ => unreachable!("no contestant {contestant}"),
    }
    park()
}
