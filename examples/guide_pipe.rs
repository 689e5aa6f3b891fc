//! Shown in the guide: a program whose reader may leave.
//!
//! For Unix. The code is in [`unix/guide_pipe.rs`](unix/guide_pipe.rs).

#[cfg(unix)]
include!("unix/guide_pipe.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A program whose reader may leave: this example is for Unix");
}
