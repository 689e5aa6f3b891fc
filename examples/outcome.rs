//! `main` returns how the exit went: the process ends the way its signal asked for, after every
//! destructor of `main` has run and standard output is flushed.
//!
//! ```text
//! cargo run --example outcome
//! ```
//! Then press ^C, or `kill` it: it says goodbye and dies of that very signal, so that a shell loop
//! around it stops as well (`while cargo run --example outcome; do :; done`). Press Enter instead,
//! and it ends with 0. With `--fail` its clean-up panics, and the process ends with 101 instead of a
//! status that reads as a clean stop.

use std::io::BufRead;

use handle_exit::{Error, HandleExit, Outcome};

/// Stands for whatever `main` owns: its destructor runs before the process ends.
struct Session;

impl Drop for Session {
    fn drop(&mut self) {
        println!("session closed");
        // A line without an end is still in Rust's buffer when `main` returns.
        print!("goodbye");
    }
}

fn main() -> Result<Outcome, Error> {
    let _session = Session;
    let fails = std::env::args().any(|argument| argument == "--fail");
    let guard = HandleExit::new(move || {
        println!("cleaning up");
        assert!(!fails, "the clean-up failed, as --fail asked");
    })?;

    // Reading blocks and cannot be told to stop: it has a thread of its own, and `main` waits for
    // whatever comes first, a line or a signal.
    let enter = guard.handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        enter.request();
    });
    println!("running: press Enter or ^C");
    println!("stopped: {}", guard.wait());

    Ok(guard.finish())
}
