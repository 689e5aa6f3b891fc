// See ../worker.rs.

use std::error::Error;
use std::io::{Write, stdout};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handle_exit::{Exit, HandleExit, Repeat};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::wait;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

const WORKERS: usize = 3;

/// As `println!`, which panics if the terminal is gone.
macro_rules! say {
    ($($text:tt)*) => {
        let _ = writeln!(stdout(), $($text)*);
    };
}

/// The living workers.
type Workers = Arc<Mutex<Vec<Pid>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let job = Duration::from_millis(std::env::args().nth(1).map_or(Ok(500), |ms| ms.parse())?);
    let workers = Workers::default();

    let told = Arc::clone(&workers);
    let guard = HandleExit::new(move || tell(&told, Signal::SIGTERM))?;
    // Runs at the very end: a worker that is still there was told, and did not finish in time.
    let left = Arc::clone(&workers);
    guard.defer(move || tell(&left, Signal::SIGKILL))?;

    for _ in 0..WORKERS {
        start(&workers, &guard, job)?;
    }
    say!("master {}: {WORKERS} workers", std::process::id());

    loop {
        match wait() {
            Ok(status) => {
                let ended = status.pid();
                workers.lock().unwrap().retain(|worker| Some(*worker) != ended);
                say!("master: a worker has ended: {status:?}");
                start(&workers, &guard, job)?;
            }
            Err(Errno::EINTR) => {}
            // All have ended, and none was replaced, because the master is stopping too.
            Err(Errno::ECHILD) => break,
            Err(error) => return Err(error.into()),
        }
    }
    say!("master: no worker is left");
    Ok(())
}

fn tell(workers: &Workers, signal: Signal) {
    for worker in workers.lock().unwrap().iter() {
        let _ = kill(*worker, signal);
    }
}

/// Forks a worker, unless the master is stopping.
fn start(workers: &Workers, exit: &Exit, job: Duration) -> Result<(), Box<dyn Error>> {
    // Locked until the worker is in the list, so that `tell`, on another thread, reaches every worker.
    let mut workers = workers.lock().unwrap();
    let master = getpid();
    if exit.is_exiting() {
        return Ok(());
    }
    // SAFETY: the only other thread is the guard's. It holds no lock that the child will ask for: it
    // does nothing until the exit begins, and then it waits for the lock that is held here.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => workers.push(child),
        ForkResult::Child => work(job, master),
    }
    Ok(())
}

/// What a worker does. It does not inherit the master's guard, and makes one of its own.
fn work(job: Duration, master: Pid) -> ! {
    let worker = std::process::id();
    // The master decides how long a worker may take to finish, also where a worker hears of `^C` twice: from the
    // master, and then from the terminal.
    let patient = HandleExit::builder().grace(Duration::MAX).repeat(Repeat::Absorb);
    let guard = match patient.install(|| {}) {
        Ok(guard) => guard,
        Err(error) => panic!("worker {worker}: {error}"),
    };
    // A master that was killed by SIGKILL has told nobody: its orphans see that it is gone.
    while !guard.is_exiting() && getppid() == master {
        say!("worker {worker}: at a job");
        std::thread::sleep(job);
        say!("worker {worker}: job done");
    }
    say!("worker {worker}: finished");
    std::process::exit(0);
}
