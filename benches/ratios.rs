//! `cargo bench`: what the guard costs, as ratios beside its peers. The work is done by the package
//! in `bench/`, so that this one need not depend on the peers.

use std::process::{Command, exit};

fn main() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/Cargo.toml");
    let wanted = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--manifest-path", manifest, "--"])
        .args(wanted)
        .status()
        .expect("cargo runs");
    exit(status.code().unwrap_or(1))
}
