//! A daemon: it goes into the background and keeps its process id in a file, which is removed when the
//! daemon ends.
//!
//! ```text
//! cargo run --example daemon /tmp/example.pid    # returns at once; the daemon continues
//! cargo run --example daemon /tmp/example.pid    # refuses: there is one already
//! kill $(cat /tmp/example.pid)                   # ends it, and the file is gone
//! ```
//!
//! For Unix. The code is in [`unix/daemon.rs`](unix/daemon.rs).

#[cfg(unix)]
include!("unix/daemon.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A daemon forks: this example is for Unix");
}
