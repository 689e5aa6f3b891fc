// See ../guide_commands.rs.

use handle_exit::HandleExit;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

fn main() -> Result<(), handle_exit::Error> {
    let _guard = HandleExit::cleanup(|| {
        // In its own process group, the command does not get the terminal's `^C`.
        let _ = unmount().process_group(0).stdin(Stdio::null()).status();
    })?;
    work();
    Ok(())
}

/// A clean-up that takes its time.
fn unmount() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo unmounting; sleep 1; echo unmounted"]);
    command
}

fn work() {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "working");
    std::thread::sleep(std::time::Duration::from_secs(60));
}
