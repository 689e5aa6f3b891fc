//! `cargo bench`: what the guard costs, as ratios beside its peers. The package in the folder `ratios` does the work.

use std::process::{Command, exit};

fn main() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/ratios/Cargo.toml");
    let wanted = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--manifest-path", manifest, "--"])
        .args(wanted)
        .status()
        .expect("cargo runs");
    exit(status.code().unwrap_or(1))
}
