//! Shown in the guide: a worker that ends by a signal, so that its pool cannot end it with `_exit`.
//!
//! For Unix. The code is in [`unix/guide_worker.rs`](unix/guide_worker.rs).

#[cfg(unix)]
include!("unix/guide_worker.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A worker that ends by a signal: this example is for Unix");
}
