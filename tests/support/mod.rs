//! Driving real child processes: every test here watches a process of its own from outside.
//!
//! A test binary holds *scenarios* and *tests*. A test starts the same binary again as a *victim*,
//! which runs one scenario in its real `main`, and judges what it prints and how it ends. Both wait
//! for events, with a deadline that only a hang reaches.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, missing_docs, unsafe_code, reason = "a module of test binaries")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handle_exit::Signal;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::libc;

/// Which scenario this process is to run.
const SCENARIO: &str = "HANDLE_EXIT_SCENARIO";

/// No healthy step takes this long, even with both cores busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Named functions: `all![a, b]` is `&[("a", a), ("b", b)]`.
#[macro_export]
macro_rules! all {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}

pub type Named = (&'static str, fn());

/// The `main` of a test binary.
pub fn main(scenarios: &[Named], tests: &[Named]) {
    if let Ok(name) = std::env::var(SCENARIO) {
        let (_, scenario) = scenarios
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("no scenario {name}"));
        return scenario();
    }
    let trials = tests.iter().map(|(name, test)| {
        let test = *test;
        // A failed assertion is a panic, which libtest-mimic reports.
        Trial::test(*name, move || -> Result<(), Failed> {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

// ---------------------------------------------------------------------------------- in the test

/// A process that runs a scenario.
pub struct Victim {
    name: String,
    child: std::process::Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    stderr: Option<JoinHandle<String>>,
}

/// How a victim ended.
#[derive(Debug)]
pub struct End {
    pub status: ExitStatus,
    /// Every line of standard output.
    pub lines: Vec<String>,
    pub stderr: String,
}

/// The command that runs a scenario, for tests that wrap it in another.
pub fn victim(scenario: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(SCENARIO, scenario);
    command
}

impl Victim {
    /// Starts a scenario.
    pub fn start(scenario: &str) -> Victim {
        Victim::spawn(scenario, victim(scenario))
    }

    /// Starts a scenario and waits until it says `ready`.
    pub fn ready(scenario: &str) -> Victim {
        let mut victim = Victim::start(scenario);
        victim.expect("ready");
        victim
    }

    /// Starts any command as a victim.
    pub fn spawn(name: &str, mut command: Command) -> Victim {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Victim { name: name.into(), child, lines, seen: Vec::new(), stderr: Some(stderr) }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for a line.
    pub fn expect(&mut self, wanted: &str) {
        self.expect_where(wanted, |line| line == wanted);
    }

    /// Waits for a line that begins with `prefix`, and returns what follows that.
    pub fn expect_prefix(&mut self, prefix: &str) -> String {
        let line = self.expect_where(prefix, |line| line.starts_with(prefix));
        line[prefix.len()..].to_owned()
    }

    fn expect_where(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if is_it(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("no line `{what}` in time")),
                Err(RecvTimeoutError::Disconnected) => {
                    self.fail(&format!("ended without a line `{what}`"))
                }
            }
        }
    }

    /// Waits for the next line, whatever it is; `None` once the victim has closed its output.
    pub fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Timeout) => self.fail("no line in time"),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Sends a signal, from this process.
    pub fn send(&self, signal: Signal) {
        // SAFETY: kill(2) of a child that is not waited for yet.
        let sent = unsafe { libc::kill(self.pid(), signal.as_raw()) };
        assert_eq!(sent, 0, "kill {signal}: {}", std::io::Error::last_os_error());
    }

    /// Writes a line to its standard input, for `hear`.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    /// Waits until the scenario has stopped or gone on, as waitpid(2) reports it.
    pub fn wait_stopped(&self) {
        let mut status = 0;
        // SAFETY: waits for a child of this process; `status` is valid for a write.
        let pid = unsafe { libc::waitpid(self.pid(), &raw mut status, libc::WUNTRACED) };
        assert_eq!(pid, self.pid());
        assert!(libc::WIFSTOPPED(status), "not stopped: {status:#x}");
    }

    /// Waits for the end.
    pub fn end(mut self) -> End {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > DEADLINE {
                self.fail("has not ended in time");
            }
            // Not a wait for an event by time: the end is the event, and this is how it is polled.
            std::thread::sleep(Duration::from_millis(1));
        };
        // A grandchild may hold the pipe open: what counts is what has been written by now.
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.seen.push(line);
        }
        let stderr = self.stderr.take().unwrap().join().unwrap();
        End { status, lines: std::mem::take(&mut self.seen), stderr }
    }

    fn fail(&mut self, why: &str) -> ! {
        let threads = threads_of(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        let stderr = self.stderr.take().map(|stderr| stderr.join().unwrap()).unwrap_or_default();
        panic!(
            "{}: {why}\nlines: {:#?}\nstderr: {stderr}\nthreads: {threads}",
            self.name, self.seen
        );
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the threads of a process are in, for a message about a hang.
fn threads_of(pid: i32) -> String {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return String::new() };
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    tasks
        .flatten()
        .map(|task| {
            let (name, call) = (read(task.path().join("comm")), read(task.path().join("syscall")));
            format!("\n  {} in {}", name.trim(), call.trim())
        })
        .collect()
}

impl End {
    /// The process died of this signal: WIFSIGNALED, not a code that looks like it.
    #[track_caller]
    pub fn died_by(&self, signal: Signal) -> &End {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{self:#?}");
        self
    }

    /// The process exited with this code.
    #[track_caller]
    pub fn exited(&self, code: i32) -> &End {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    /// Exactly these lines, in this order.
    #[track_caller]
    pub fn said(&self, lines: &[&str]) -> &End {
        assert_eq!(self.lines, lines, "{self:#?}");
        self
    }

    /// How often it said this.
    pub fn count(&self, line: &str) -> usize {
        self.lines.iter().filter(|said| *said == line).count()
    }
}

// ------------------------------------------------------------------------------ in the scenario

/// Says a line to the test, at once.
pub fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

/// Waits for a line from the test.
pub fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Says that the scenario is ready for signals, and waits for ever.
pub fn ready_for_ever() -> ! {
    say("ready");
    loop {
        std::thread::park();
    }
}

/// Waits until `is_so`, polling; panics at the deadline.
#[track_caller]
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal to this very thread; it has been delivered when this returns.
pub fn raise(signal: Signal) {
    // SAFETY: raise(3) of a valid signal.
    assert_eq!(unsafe { libc::raise(signal.as_raw()) }, 0);
}

/// A disposition as the kernel has it: handler, flags without the C library's restorer, mask.
pub fn disposition(signal: Signal) -> (usize, i32, u64) {
    // SAFETY: a null action makes it a query; a zeroed sigaction is valid.
    let current = unsafe {
        let mut current = std::mem::zeroed::<libc::sigaction>();
        assert_eq!(libc::sigaction(signal.as_raw(), std::ptr::null(), &raw mut current), 0);
        current
    };
    let mask = (1..=64)
        // SAFETY: an initialised set.
        .filter(|number| unsafe { libc::sigismember(&raw const current.sa_mask, *number) == 1 })
        .fold(0, |mask, number| mask | 1 << (number - 1));
    (current.sa_sigaction, current.sa_flags & !0x0400_0000, mask)
}

/// Installs a handler without flags that is to stay.
pub fn install(signal: Signal, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: a zeroed sigaction is valid; the handlers of these tests are async-signal-safe.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = handler as *const () as usize;
        assert_eq!(libc::sigaction(signal.as_raw(), &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Writes a line to standard output, from a signal handler.
pub fn say_in_handler(line: &'static str) {
    // SAFETY: write(2) is async-signal-safe; the slice is valid.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}
