//! Shown in the guide: a program that ends when one of its threads panics.

use handle_exit::{Cause, Error, HandleExit};
use std::process::ExitCode;
use std::{panic, thread};

fn main() -> Result<ExitCode, Error> {
    let guard = HandleExit::new(|| {})?;
    let exit = guard.handle();
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report(panic); // the message, as before
        exit.request(); // returns at once
    }));
    thread::spawn(work);
    match guard.wait() {
        Cause::Requested => Ok(ExitCode::from(101)), // a thread has panicked
        _ => Ok(ExitCode::SUCCESS),                  // a signal came
    }
}

fn work() {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "working");
    thread::sleep(std::time::Duration::from_secs(2));
    panic!("a bug");
}
