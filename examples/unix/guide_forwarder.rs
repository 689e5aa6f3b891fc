// See ../guide_forwarder.rs.

use handle_exit::{Cause, HandleExit, Received, Repeat};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let guard = HandleExit::builder()
        .grace(Duration::MAX)
        .repeat(Repeat::Absorb) // nothing ends the wait for the child
        .install(|| {})?;
    let mut child = command().spawn()?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(ExitCode::from(status.code().unwrap_or(1) as u8));
        }
        match guard.cause() {
            Some(Cause::Signal(received)) if !told => {
                forward(&received, &child);
                told = true;
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The terminal sends `^C` to the child as well; a process sends a signal to this process alone.
fn forward(received: &Received, child: &Child) {
    if received.sender().is_some() {
        let (pid, signal) = (child.id() as i32, received.signal().as_raw());
        let signal = signal.try_into().expect("no real-time signal is guarded");
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Some(signal));
    }
}

/// A child that ends in its own time, with a status of its own.
fn command() -> Command {
    let script =
        "trap 'sleep 1; echo cleaned up; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}
