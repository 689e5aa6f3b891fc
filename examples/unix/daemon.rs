// See ../daemon.rs.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use handle_exit::{HandleExit, Outcome};

fn main() -> Result<Outcome, Box<dyn Error>> {
    let argument = std::env::args().nth(1).ok_or("usage: daemon PIDFILE")?;
    // An absolute path, since the daemon leaves the working directory.
    let path = std::path::absolute(PathBuf::from(argument))?;

    // Everything that can fail is done before the fork, while somebody is there to read the error. From the
    // `defer` on, the file is removed however this process ends. A signal that comes before it leaves no file
    // either: the program continues during the grace period, and still defers the removal.
    let guard = HandleExit::new(|| {})?;
    let mut file =
        File::create_new(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    guard.defer(move || drop(fs::remove_file(path)))?;
    if guard.is_exiting() {
        return Ok(guard.finish());
    }

    // Forks: this process leaves with `_exit`, which runs nothing of the guard's, and its child
    // continues, in a session of its own, in `/`, with `/dev/null` for input and output.
    nix::unistd::daemon(false, false)?;
    // A guard stays the parent's when the process forks: until here, a signal would have killed the child
    // and left the file. This makes the guard the child's own.
    guard.rearm()?;
    writeln!(file, "{}", std::process::id())?;

    while guard.wait_timeout(Duration::from_secs(1)).is_none() {
        // The daemon's work, a piece at a time.
    }
    Ok(guard.finish()) // the daemon is killed by the signal
}
