// See ../guide_job.rs.

use handle_exit::{Exit, HandleExit, Outcome, Repeat};
use nix::sys::signal::{SIGKILL, SIGTERM, killpg};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{io, thread};

fn main() -> Result<Outcome, Box<dyn std::error::Error>> {
    // `stop` takes 2 s at most; with `Absorb`, a second `^C` does not cut it short.
    let guard = HandleExit::builder().repeat(Repeat::Absorb).install(|| {})?;
    for step in ["fetch", "build", "check"] {
        match run(command(step), &guard)? {
            Some(status) if status.success() => {}
            Some(status) => return Err(format!("{step}: {status}").into()),
            None => break,
        }
    }
    Ok(guard.finish())
}

/// Runs a command to its end. `None`: the exit has begun, and the command was stopped.
fn run(mut command: Command, exit: &Exit) -> io::Result<Option<ExitStatus>> {
    // In its own process group, the command does not get the terminal's `^C`.
    let mut child = command.process_group(0).stdin(Stdio::null()).spawn()?;
    while exit.wait_timeout(Duration::from_millis(20)).is_none() {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
    }
    stop(&mut child)?;
    Ok(None)
}

/// Asks the command and its children to end, and kills them if the command does not.
fn stop(child: &mut Child) -> io::Result<()> {
    let group = Pid::from_raw(child.id() as i32);
    let _ = killpg(group, SIGTERM);
    for _ in 0..100 {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = killpg(group, SIGKILL);
    child.wait().map(drop)
}

/// The second command takes its time, and cleans up on TERM.
fn command(step: &str) -> Command {
    let script = "exec 2>/dev/null; echo $0; [ $0 = build ] || exit 0
        trap 'echo cleaned up; exit 1' TERM; echo building; while :; do sleep 0.1; done";
    let mut command = Command::new("sh");
    command.args(["-c", script, step]);
    command
}
