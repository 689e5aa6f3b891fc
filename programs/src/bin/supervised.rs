//! A service that systemd starts and stops (`Type=notify`), and that can be PID 1 of a container.
//!
//! ```text
//! cargo run -p handle-exit-programs --bin supervised     # here, without systemd: press ^C
//! ```
//!
//! It works on jobs of a second each. On ^C or `kill` it finishes the current one and exits with 0.
//! It tells systemd when it is ready (`READY=1`), that it is stopping (`STOPPING=1`), and how long that
//! may take (`EXTEND_TIMEOUT_USEC`); the unit file is `programs/supervised.service`. With `-- 60000`
//! a job takes a minute, which is more than the grace period: the service is then killed by the signal.
//!
//! `docs/supervisors.md` says how long a supervisor waits, what to set, and what changes for PID 1 of a
//! container.

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::time::Duration;

use handle_exit::HandleExit;
use sd_notify::NotifyState;

/// How long the current job may still take.
const GRACE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let job = Duration::from_millis(std::env::args().nth(1).map_or(Ok(1000), |ms| ms.parse())?);

    let guard = HandleExit::builder().grace(GRACE).install(stopping)?;
    // Only now that the guard handles TERM.
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("working")])?;

    while !guard.is_exiting() {
        let _ = writeln!(stdout(), "at a job");
        std::thread::sleep(job);
        let _ = writeln!(stdout(), "job done");
    }
    let _ = writeln!(stdout(), "finished");
    Ok(())
}

/// The callback: an ordinary function on an ordinary thread, which may open sockets and print.
fn stopping() {
    // More than the grace period, so that this, and not systemd, ends a job that takes too long.
    let time = GRACE + Duration::from_secs(5);
    let told = sd_notify::notify(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing the current job"),
        NotifyState::ExtendTimeoutUsec(time.as_micros() as u32),
    ]);
    if let Err(error) = told {
        let _ = writeln!(stderr(), "cannot tell systemd: {error}");
    }
    let _ = writeln!(stdout(), "stopping"); // `println!` panics if the pipe is gone
}
