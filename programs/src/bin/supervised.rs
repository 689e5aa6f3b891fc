//! A service that systemd starts and stops (`Type=notify`), and that runs as PID 1 of a container.
//!
//! ```text
//! cargo run -p handle-exit-programs --bin supervised     # here, without systemd: press ^C
//! ```
//!
//! It works on jobs of a second each. ^C or `kill` has it finish the one it is at; then it exits with 0.
//! Under systemd it says when it is ready (`READY=1`), that it stops (`STOPPING=1`), and how long that
//! may take (`EXTEND_TIMEOUT_USEC`): the unit file is `programs/supervised.service`. With `-- 60000`
//! a job takes a minute, which is more than the grace: it then dies of the signal.
//!
//! # How long it may take
//!
//! A supervisor sends TERM, waits, and sends KILL, which nobody can guard against. The callback and the
//! grace together have to end before.
//!
//! | supervisor | from TERM to KILL | what to set |
//! |---|---|---|
//! | systemd | `TimeoutStopSec=`, 90 s by default | nothing with `EXTEND_TIMEOUT_USEC`, as here; else `TimeoutStopSec=` above the grace |
//! | Docker | 10 s | `docker run --stop-timeout 30`, or `stop_grace_period: 30s` in a compose file |
//! | Kubernetes | `terminationGracePeriodSeconds`, 30 s by default, of which a `preStop` hook takes its part | grace + `preStop` + some seconds |
//!
//! # As PID 1
//!
//! The first process of a container is not killed by a signal of default disposition. So where the
//! program would die of the signal, it exits with 128 + n there: 143 after TERM. It has to get the
//! signal in the first place: write `ENTRYPOINT ["/supervised"]`, for `ENTRYPOINT /supervised` makes a
//! shell PID 1, which passes no signal on.

use std::error::Error;
use std::time::Duration;

use handle_exit::HandleExit;
use sd_notify::NotifyState;

/// How long the job that is under way may still take.
const GRACE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let job = Duration::from_millis(std::env::args().nth(1).map_or(Ok(1000), |ms| ms.parse())?);

    let guard = HandleExit::builder().grace(GRACE).install(stopping)?;
    // Only now, when a TERM is in good hands.
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("working")])?;

    while !guard.is_exiting() {
        println!("at a job");
        std::thread::sleep(job);
        println!("job done");
    }
    println!("finished");
    Ok(())
}

/// The callback: an ordinary function on an ordinary thread, which may open sockets and print.
fn stopping() {
    // Some more than the grace, so that it is the grace which ends a job that takes too long.
    let time = GRACE + Duration::from_secs(5);
    let told = sd_notify::notify(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing the job that is under way"),
        NotifyState::ExtendTimeoutUsec(time.as_micros() as u32),
    ]);
    if let Err(error) = told {
        eprintln!("cannot tell systemd: {error}");
    }
    println!("stopping");
}
