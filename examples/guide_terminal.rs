//! Shown in the guide: a program that takes the terminal over.
//!
//! For Unix. The code is in [`unix/guide_terminal.rs`](unix/guide_terminal.rs).

#[cfg(unix)]
include!("unix/guide_terminal.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A program that guards HUP, QUIT and ABRT: this example is for Unix");
}
