//! Measures the costs that `handle-exit` promises, each beside its peers and beside the least that
//! the operating system asks for, in one run. `cargo bench` in the repository's root runs it.
//!
//! Everything is measured in processes of their own, as a user's program would be: this binary
//! starts itself as a child and plays one contestant in it. In each round every contestant has its
//! turn, so that whatever else the machine does hits all of them alike.
//!
//! Arguments: the measurements to make (default: all). `HANDLE_EXIT_BENCH=quick` takes fewer
//! samples. A complete run writes `docs/bench.md` and `docs/bench.svg`, any other the same files
//! into `target/bench`.

mod cold;
mod construct;
mod death;
mod first;
mod floor;
mod footprint;
mod growth;
mod idle;
mod latency;
mod report;
mod sampling;
mod storm;
mod victim;

use std::error::Error;

use report::Row;

/// One thing that is measured: by the parent, with children that each play a contestant.
struct Measurement {
    name: &'static str,
    measure: fn() -> Vec<Row>,
    /// Plays the contestant of this name.
    play: fn(&str),
}

const MEASUREMENTS: [Measurement; 9] = [
    Measurement { name: "latency", measure: latency::measure, play: latency::play },
    Measurement { name: "construct", measure: construct::measure, play: construct::play },
    Measurement { name: "first", measure: first::measure, play: first::play },
    Measurement { name: "cold", measure: cold::measure, play: cold::play },
    Measurement { name: "death", measure: death::measure, play: death::play },
    Measurement { name: "storm", measure: storm::measure, play: storm::play },
    Measurement { name: "idle", measure: idle::measure, play: idle::play },
    Measurement { name: "growth", measure: growth::measure, play: growth::play },
    Measurement { name: "footprint", measure: footprint::measure, play: |_| {} },
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, contestant] = args.as_slice()
        && first == victim::PLAY
    {
        let known = MEASUREMENTS.iter().find(|one| one.name == name);
        // The first look at the clock is a page fault: the measuring's, and no contestant's.
        victim::monotonic_ns();
        (known.expect("the name of a measurement").play)(contestant);
        return Ok(());
    }
    // What cargo passes to every benchmark.
    let wanted: Vec<&String> = args.iter().filter(|arg| *arg != "--bench").collect();
    for name in &wanted {
        if !MEASUREMENTS.iter().any(|one| one.name == **name) {
            return Err(format!("{name}: no such measurement").into());
        }
    }
    let load = report::load_average();
    let mut rows = Vec::new();
    for one in &MEASUREMENTS {
        if wanted.is_empty() || wanted.iter().any(|name| *name == one.name) {
            eprintln!("measuring: {}", one.name);
            rows.extend((one.measure)());
        }
    }
    println!("{}", report::table(&rows));
    let is_complete = wanted.is_empty() && !sampling::is_quick();
    report::write(&rows, if is_complete { "docs" } else { "target/bench" }, &load)
}
