//! A pre-fork master: it forks workers, replaces one that dies, and on TERM or ^C waits until each of
//! them has finished its job.
//!
//! ```text
//! cargo run --example worker                     # press ^C, or `kill` the master, or a worker
//! ```
//!
//! A worker that does not finish within 5 seconds is killed, and so is the master, by the signal: try
//! `cargo run --example worker 60000`, whose jobs take a minute.
//!
//! For Unix. The code is in [`unix/worker.rs`](unix/worker.rs).

#![allow(unsafe_code, reason = "fork")]

#[cfg(unix)]
include!("unix/worker.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A pre-fork master forks: this example is for Unix");
}
