//! The process from the test's side, and how it ended.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handle_exit::Signal;
#[cfg(unix)]
use nix::libc;

#[cfg(unix)]
use super::proc::{Task, describe_threads, has_any_pending, tasks_of};
#[cfg(windows)]
use super::windows::describe_threads;
use super::{DEADLINE, Play, Start, until};
#[cfg(unix)]
use super::{is_pending, kill};

/// A process that runs a scenario.
pub struct Victim {
    name: String,
    pub(super) child: std::process::Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    stderr: Receiver<String>,
    readers: Vec<JoinHandle<()>>,
}

/// How a victim ended.
#[derive(Debug)]
pub struct End {
    pub name: String,
    pub status: ExitStatus,
    /// Every line of standard output.
    pub lines: Vec<String>,
    pub stderr: String,
}

/// What a table says of the end of a process.
#[derive(Debug, Clone, Copy)]
pub enum Ends {
    By(Signal),
    With(i32),
}

/// An example, which cargo builds beside the tests.
pub fn example(name: &str, arguments: &[&dyn Display]) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(std::path::Path::parent).unwrap();
    let example = profile.join("examples").join(name);
    assert!(example.exists(), "no {}: `cargo build --examples` makes it", example.display());
    let mut command = Command::new(example);
    command.args(arguments.iter().map(ToString::to_string));
    command
}

impl Victim {
    /// Starts a scenario, or another command.
    pub fn start(what: impl Play) -> Victim {
        let Start { name, mut command } = what.start();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (lines, stdout) = lines_of(child.stdout.take().unwrap());
        let (stderr, reader) = lines_of(child.stderr.take().unwrap());
        let readers = vec![stdout, reader];
        Victim { name, child, lines, seen: Vec::new(), stderr, readers }
    }

    /// Starts a scenario and waits until it says `ready`.
    pub fn ready(scenario: impl Play) -> Victim {
        let mut victim = Victim::start(scenario);
        victim.expect("ready");
        victim
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

    /// Waits for two lines that may come in either order.
    pub fn expect_both(&mut self, one: &str, other: &str) {
        let first = self.expect_where(one, |line| line == one || line == other);
        self.expect(if first == one { other } else { one });
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
    #[cfg(unix)]
    pub fn send(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Whether a signal is pending for the process as a whole.
    #[cfg(unix)]
    pub fn has_pending(&self, signal: Signal) -> bool {
        is_pending(self.pid(), "ShdPnd", signal).unwrap_or(false)
    }

    /// Waits until nothing is pending for the process and each of its threads sleeps: every signal
    /// sent so far has been through its handler, and whoever has to wait does.
    #[cfg(unix)]
    pub fn at_rest(&mut self) {
        if !self.rests() {
            self.fail("has ended where it was to wait");
        }
    }

    /// As `at_rest`, for a victim that may end instead; false if it has.
    #[cfg(unix)]
    pub fn rests(&mut self) -> bool {
        let begun = Instant::now();
        let mut before = Vec::new();
        loop {
            let tasks = tasks_of(self.pid());
            // Not any of them: a thread that ends is a zombie for a moment, while its process lives.
            if !tasks.is_empty() && tasks.iter().all(|task| task.state == 'Z') {
                return false;
            }
            let is_quiet =
                !has_any_pending(self.pid()) && tasks.iter().all(|task| task.state == 'S');
            // Twice, with nobody having been awake meanwhile: a thread may sleep for a moment only.
            if is_quiet && !tasks.is_empty() && tasks == before {
                return true;
            }
            before = tasks;
            if begun.elapsed() > DEADLINE {
                self.fail("has not come to rest in time");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// As `at_rest`, for a victim with threads that look for something again and again: each has done
    /// so at least once since.
    #[cfg(unix)]
    pub fn has_looked(&self) {
        let sleeps =
            |tasks: &[Task], id| tasks.iter().find(|task| task.id == id).map(|task| task.sleeps);
        let first = tasks_of(self.pid());
        until("each thread sleeps, or has gone to sleep twice", || {
            let before = tasks_of(self.pid());
            std::thread::sleep(Duration::from_millis(2));
            tasks_of(self.pid()).iter().all(|task| {
                let is_asleep = task.state == 'S' && before.contains(task);
                is_asleep || sleeps(&first, task.id).is_some_and(|first| task.sleeps >= first + 2)
            })
        });
    }

    /// Writes a line to its standard input, for `hear`.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        // At once: its reader may end after the first part of it.
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits until the scenario has stopped or gone on, as waitpid(2) reports it.
    #[cfg(unix)]
    pub fn wait_stopped(&self) {
        let mut status = 0;
        // SAFETY: waits for a child of this process; `status` is valid for a write.
        let pid = unsafe { libc::waitpid(self.pid(), &raw mut status, libc::WUNTRACED) };
        assert_eq!(pid, self.pid());
        assert!(libc::WIFSTOPPED(status), "not stopped: {status:#x}");
    }

    /// Waits for the end.
    pub fn end(mut self) -> End {
        let (status, stderr) = self.ended();
        End {
            name: std::mem::take(&mut self.name),
            status,
            lines: std::mem::take(&mut self.seen),
            stderr,
        }
    }

    /// The same, for whoever has still to ask: how it ended, and its standard error.
    pub fn ended(&mut self) -> (ExitStatus, String) {
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
        self.seen.extend(what_is_left(&self.lines));
        (status, what_is_left(&self.stderr).join("\n"))
    }

    fn fail(&mut self, why: &str) -> ! {
        let threads = describe_threads(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        let stderr = what_is_left(&self.stderr).join("\n");
        self.seen.extend(what_is_left(&self.lines));
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
        self.readers.drain(..).for_each(leave);
    }
}

/// Lets go of a thread that may go on for a while. Dropping the handle would detach it, and glibc's
/// `pthread_detach` of a thread that is just ending reads freed memory (its bug 19951).
pub fn leave<T>(thread: JoinHandle<T>) {
    if thread.is_finished() {
        let _ = thread.join();
    } else {
        std::mem::forget(thread);
    }
}

/// What a victim writes, line by line.
fn lines_of(pipe: impl Read + Send + 'static) -> (Receiver<String>, JoinHandle<()>) {
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    (lines, reader)
}

/// The lines up to the end of what a victim wrote. A grandchild may hold the pipe open: what counts then
/// is what has been written by now.
fn what_is_left(lines: &Receiver<String>) -> Vec<String> {
    std::iter::from_fn(|| lines.recv_timeout(Duration::from_secs(5)).ok()).collect()
}

/// For scenarios that judge themselves: they end with 0, and have said exactly this.
#[track_caller]
pub fn ends_well(scenario: impl Play, lines: &[&str]) {
    Victim::start(scenario).end().said(lines).exited(0);
}

impl End {
    /// The process died of this signal: WIFSIGNALED, not a code that looks like it.
    #[cfg(unix)]
    #[track_caller]
    pub fn died_by(&self, signal: Signal) -> &End {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{self:#?}");
        self
    }

    /// The guard ended the process as the system ends one that does not handle the event.
    #[cfg(windows)]
    #[track_caller]
    pub fn died_by(&self, _signal: Signal) -> &End {
        self.exited(super::STATUS_CONTROL_C_EXIT)
    }

    /// The process died of this signal, which nobody handled.
    #[track_caller]
    pub fn was_left_to(&self, signal: Signal) -> &End {
        #[cfg(windows)]
        if super::is_wine() {
            return self.exited(0);
        }
        self.died_by(signal)
    }

    /// The process exited with this code.
    #[track_caller]
    pub fn exited(&self, code: i32) -> &End {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    /// The process ended like this.
    #[track_caller]
    pub fn ended(&self, how: Ends) -> &End {
        match how {
            Ends::By(signal) => self.died_by(signal),
            Ends::With(code) => self.exited(code),
        }
    }

    /// Whether it could not do here what it was to do. Then this says so in its place.
    pub fn is_skipped(&self) -> bool {
        let why = self.lines.iter().filter(|line| line.starts_with("skipped: "));
        why.inspect(|why| println!("{why}")).count() > 0
    }

    /// Exactly these lines, in this order.
    #[track_caller]
    pub fn said(&self, lines: &[&str]) -> &End {
        assert_eq!(self.lines, lines, "{self:#?}");
        self
    }

    /// This was the last line.
    #[track_caller]
    pub fn ended_with(&self, line: &str) -> &End {
        assert_eq!(self.lines.last().map(String::as_str), Some(line), "{self:#?}");
        self
    }

    /// How often it said this.
    pub fn count(&self, line: &str) -> usize {
        self.lines.iter().filter(|said| *said == line).count()
    }
}
