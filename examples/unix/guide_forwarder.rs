// See ../guide_forwarder.rs.

use handle_exit::{HandleExit, Received, Signal, exit_with_signal};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode};
use std::sync::mpsc::channel;
use std::time::Duration;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // No signal begins an exit: each one goes to the child, and this program ends when the child does.
    let (sender, signals) = channel();
    let mut builder = HandleExit::builder().signals([]);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let sender = sender.clone();
        builder = builder.on(signal, move |received| drop(sender.send(received.clone())));
    }
    let guard = builder.install(clean_up)?; // its own clean-up, when the child has ended
    let mut child = command().spawn()?; // after the guard: an earlier signal waits in the channel
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Ok(received) = signals.recv_timeout(Duration::from_millis(20)) {
            forward(&received, &child);
        }
    };
    drop(guard);
    match status.signal().and_then(Signal::from_raw) {
        Some(signal) => exit_with_signal(signal, || {}), // the parent sees what ended the child
        None => Ok(ExitCode::from(status.code().unwrap_or(1) as u8)),
    }
}

/// The terminal sends `^C` and `^\` to the child as well, but HUP to the session leader alone.
fn forward(received: &Received, child: &Child) {
    if received.sender().is_some() || received.signal() == Signal::HUP {
        let (pid, signal) = (child.id() as i32, received.signal().as_raw());
        let signal = signal.try_into().expect("none of the four is a real-time signal");
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Some(signal));
    }
}

fn clean_up() {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "the supervisor has cleaned up");
}

/// A child that reloads on HUP, and on TERM ends in its own time with a status of its own.
fn command() -> Command {
    let script = "trap '' PIPE; trap 'echo reloaded' HUP
        trap 'sleep 1; echo cleaned up; exit 3' TERM
        echo ready; while :; do sleep 0.1; done";
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}
