//! `main` returns the outcome of the exit: the process ends by the signal that stopped it, after every
//! destructor of `main` has run and standard output has been flushed.
//!
//! ```text
//! cargo run --example outcome
//! ```
//! Press ^C: the program says goodbye and is killed by that very signal, so that a shell loop around it
//! stops as well (`while :; do cargo run --example outcome; done`). After `kill`, only the program ends.
//! Press Enter instead, and the program ends with 0. With `--fail` the clean-up panics, and the process
//! ends with 101 instead of a status that reads as a clean stop.

use std::io::{BufRead, Write, stdout};

use handle_exit::{Error, HandleExit, Outcome};

/// Stands for whatever `main` owns: its destructor runs before the process ends.
struct Session;

impl Drop for Session {
    fn drop(&mut self) {
        let _ = writeln!(stdout(), "session closed");
        // Without the end of the line, this is still in Rust's buffer when `main` returns.
        let _ = write!(stdout(), "goodbye");
    }
}

fn main() -> Result<Outcome, Error> {
    let _session = Session;
    let fails = std::env::args().any(|argument| argument == "--fail");
    let guard = HandleExit::new(move || {
        let _ = writeln!(stdout(), "cleaning up"); // `println!` panics if the terminal is gone
        assert!(!fails, "the clean-up failed, as --fail asked");
    })?;

    // A thread that reads cannot be told to stop. So reading has a thread of its own, and `main` waits
    // for a line or a signal.
    let enter = guard.handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        enter.request();
    });
    let _ = writeln!(stdout(), "running: press Enter or ^C");
    let _ = writeln!(stdout(), "stopped: {}", guard.wait());

    Ok(guard.finish())
}
