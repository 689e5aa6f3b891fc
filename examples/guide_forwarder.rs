//! Shown in the guide: a program that runs a command and forwards signals to it.

use handle_exit::{Cause, HandleExit, Repeat, Signal};
use std::process::{Child, Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let child = Arc::new(Mutex::new(command().spawn()?));
    let told = Arc::clone(&child);
    let _guard = HandleExit::builder()
        .grace(Duration::MAX)
        .repeat(Repeat::Absorb) // nothing ends the wait: this program does not die before the child
        .install_with(move |cause| match cause {
            // The kernel sends ^C to the child as well; what a process sends is for this process alone.
            Cause::Signal(received) if received.sender().is_some() => {
                forward(received.signal(), &mut told.lock().unwrap());
            }
            _ => {}
        })?;
    loop {
        if let Some(status) = child.lock().unwrap().try_wait()? {
            return Ok(ExitCode::from(status.code().unwrap_or(1) as u8));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A child that ends in its own time, with a status of its own.
fn command() -> Command {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap 'sleep 1; echo cleaned up; exit 3' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    command
}

/// A child that has ended is not signalled: its number may be another's by now.
fn forward(signal: Signal, child: &mut Child) {
    if let (Ok(None), Ok(signal)) = (child.try_wait(), signal.as_raw().try_into()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Some(signal));
    }
}
