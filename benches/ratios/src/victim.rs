//! Child processes that play a contestant.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// The first argument of a child.
pub(crate) const PLAY: &str = "--play";

pub(crate) struct Victim {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Victim {
    pub(crate) fn start(measurement: &str, contestant: &str) -> Victim {
        let mut child = Command::new(std::env::current_exe().expect("the path of this program"))
            .args([PLAY, measurement, contestant])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting a child");
        let out = BufReader::new(child.stdout.take().expect("a piped stdout"));
        Victim { child, out }
    }

    /// Starts it, and returns once it has said that it is ready and all its threads sleep.
    pub(crate) fn start_parked(measurement: &str, contestant: &str) -> Victim {
        let mut victim = Victim::start(measurement, contestant);
        assert_eq!(victim.line(), READY);
        let mut asleep = 0;
        while asleep < 3 {
            thread::sleep(Duration::from_micros(100));
            asleep = if victim.sleeps() { asleep + 1 } else { 0 };
        }
        victim
    }

    fn sleeps(&self) -> bool {
        self.tasks().iter().all(|task| {
            // "pid (name) S ...", and the name may hold anything.
            let stat = fs::read_to_string(format!("{task}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
        })
    }

    /// The paths of its threads.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let paths = fs::read_dir(tasks).expect("the child's threads");
        paths.filter_map(|path| Some(path.ok()?.path().display().to_string())).collect()
    }

    pub(crate) fn descriptors(&self) -> usize {
        let descriptors = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(descriptors).expect("the child's descriptors").count()
    }

    /// How many minor page faults it has had.
    pub(crate) fn page_faults(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("a child that lives");
        // Behind the name: state, ppid, pgrp, session, tty_nr, tpgid, flags, minflt (proc_pid_stat(5)).
        let rest = stat.rsplit(") ").next().expect("what follows the name");
        rest.split(' ').nth(7).and_then(|count| count.parse().ok()).expect("a count of page faults")
    }

    pub(crate) fn number(&mut self) -> f64 {
        self.line().parse().expect("a number")
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("the child's output");
        line.trim_end().to_owned()
    }

    /// Sends it SIGTERM, and says when.
    pub(crate) fn terminate(&self) -> u64 {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        let now = monotonic_ns();
        kill(pid, Signal::SIGTERM).expect("signalling the child");
        now
    }

    pub(crate) fn reap(&mut self) -> ExitStatus {
        self.child.wait().expect("reaping the child")
    }

    /// All that it prints, one number a line.
    pub(crate) fn numbers(mut self) -> Vec<f64> {
        let lines = self.out.by_ref().lines();
        let numbers = lines
            .map(|line| line.expect("the child's output"))
            .map(|line| line.parse().expect("a number"));
        let numbers = numbers.collect();
        self.reap();
        numbers
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const READY: &str = "ready";

/// In the child: says that it is ready, and leaves the main thread parked.
pub(crate) fn park() -> ! {
    println!("{READY}");
    loop {
        thread::park();
    }
}

/// In the child: prints numbers for [`Victim::numbers`].
pub(crate) fn print(numbers: impl IntoIterator<Item = u64>) {
    let mut out = std::io::stdout().lock();
    for number in numbers {
        writeln!(out, "{number}").expect("the parent's pipe");
    }
}

/// The clock that parent and child share, in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the monotonic clock");
    u64::try_from(Duration::from(now).as_nanos()).expect("a time within five centuries of boot")
}
