//! Shown in the guide: a program that runs a command and forwards signals to it.
//!
//! For Unix. The code is in [`unix/guide_forwarder.rs`](unix/guide_forwarder.rs).

#[cfg(unix)]
include!("unix/guide_forwarder.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A program that forwards signals: this example is for Unix");
}
