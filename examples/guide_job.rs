//! Shown in the guide: a job that runs commands.
//!
//! For Unix. The code is in [`unix/guide_job.rs`](unix/guide_job.rs).

#[cfg(unix)]
include!("unix/guide_job.rs");

#[cfg(not(unix))]
fn main() {
    eprintln!("A job that signals a process group: this example is for Unix");
}
