//! Shown in the guide: a clean-up that runs a command.
//!
//! For Unix. The code is in [`unix/guide_commands.rs`](unix/guide_commands.rs).

#[cfg(unix)]
include!("unix/guide_commands.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A clean-up that runs a command: this example is for Unix");
}
