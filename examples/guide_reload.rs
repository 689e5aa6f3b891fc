//! Shown in the guide: a server that reads its configuration again on HUP.
//!
//! For Unix. The code is in [`unix/guide_reload.rs`](unix/guide_reload.rs).

#[cfg(unix)]
include!("unix/guide_reload.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A server that reads its configuration again on HUP: this example is for Unix");
}
