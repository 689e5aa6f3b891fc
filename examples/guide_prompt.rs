//! Shown in the guide: a prompt that reads lines.
//!
//! For Unix. The code is in [`unix/guide_prompt.rs`](unix/guide_prompt.rs).

#[cfg(unix)]
include!("unix/guide_prompt.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A prompt that raises TERM: this example is for Unix");
}
