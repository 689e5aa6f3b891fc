//! Driving real child processes: every test here watches a process of its own from outside.
//!
//! A test binary holds *scenarios* and *tests*. A test starts the same binary again as a *victim*,
//! which runs one scenario in its real `main`, and judges what it prints and how it ends. Both wait
//! for events, with a deadline that only a hang reaches.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, missing_docs, unsafe_code, reason = "a module of test binaries")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handle_exit::Signal;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::libc;

/// Which scenario this process is to run.
const SCENARIO: &str = "HANDLE_EXIT_SCENARIO";

/// What the scenario is told, for those that act out a row of a table.
const ARGUMENT: &str = "HANDLE_EXIT_ARGUMENT";

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
    main_with_judges(scenarios, tests, &[]);
}

/// The `main` of a test binary with scenarios that judge themselves: each of those is run in a
/// process of its own, and has to end with 0.
pub fn main_with_judges(scenarios: &[Named], tests: &[Named], judges: &[Named]) {
    if let Ok(name) = std::env::var(SCENARIO) {
        let (_, scenario) = scenarios
            .iter()
            .chain(judges)
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("no scenario {name}"));
        // Some die of signals that would leave a core file in the working directory.
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).unwrap();
        return scenario();
    }
    start_clean();
    // A failed assertion is a panic, which libtest-mimic reports.
    let passes = |test: &dyn Fn()| -> Result<(), Failed> {
        test();
        Ok(())
    };
    let tests = tests.iter().map(|(name, test)| {
        let test = *test;
        Trial::test(*name, move || passes(&test))
    });
    let judges = judges.iter().map(|(name, _)| {
        let name = *name;
        Trial::test(name, move || {
            passes(&|| {
                Victim::start(name).end().exited(0);
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), tests.chain(judges).collect()).exit();
}

/// Victims inherit what this process ignores and blocks: nothing, also where the tests themselves run
/// under `nohup` or in the background of a shell.
fn start_clean() {
    // SAFETY: no handler is involved; the set is initialised before it is used.
    unsafe {
        for signal in Signal::TERMINATING {
            libc::signal(signal.as_raw(), libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

// ---------------------------------------------------------------------------------- in the test

/// A process that runs a scenario.
pub struct Victim {
    name: String,
    child: std::process::Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    stderr: Receiver<String>,
    readers: Vec<JoinHandle<()>>,
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

/// A program, such as a shell, that gets the command of a scenario as its last argument.
pub fn wrapped(program: &str, arguments: &[&str], scenario: &str) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg(std::env::current_exe().unwrap()).env(SCENARIO, scenario);
    command
}

/// As `victim`, for a scenario that asks what it is `told`.
pub fn victim_told(scenario: &str, argument: impl std::fmt::Display) -> Command {
    let mut command = victim(scenario);
    command.env(ARGUMENT, argument.to_string());
    command
}

/// The command that runs an example, which cargo builds beside the tests.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(std::path::Path::parent).unwrap();
    let example = profile.join("examples").join(name);
    assert!(example.exists(), "no {}: `cargo build --examples` makes it", example.display());
    Command::new(example)
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
        let (lines, stdout) = lines_of(child.stdout.take().unwrap());
        let (stderr, reader) = lines_of(child.stderr.take().unwrap());
        let readers = vec![stdout, reader];
        Victim { name: name.into(), child, lines, seen: Vec::new(), stderr, readers }
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
    pub fn send(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Whether a signal is pending for the process as a whole.
    pub fn has_pending(&self, signal: Signal) -> bool {
        is_pending(self.pid(), "ShdPnd", signal).unwrap_or(false)
    }

    /// Waits until nothing is pending for the process and each of its threads sleeps: every signal
    /// sent so far has been through its handler, and whoever has to wait does.
    pub fn at_rest(&mut self) {
        if !self.rests() {
            self.fail("has ended where it was to wait");
        }
    }

    /// As `at_rest`, for a victim that may end instead; false if it has.
    pub fn rests(&mut self) -> bool {
        let begun = Instant::now();
        let mut before = Vec::new();
        loop {
            let tasks = tasks_of(self.pid());
            if tasks.iter().any(|task| task.state == 'Z') {
                return false;
            }
            let is_quiet = status_of(self.pid(), "ShdPnd").bytes().all(|digit| digit == b'0')
                && tasks.iter().all(|task| task.state == 'S');
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
        self.seen.extend(what_is_left(&self.lines));
        let stderr = what_is_left(&self.stderr).join("\n");
        End { status, lines: std::mem::take(&mut self.seen), stderr }
    }

    fn fail(&mut self, why: &str) -> ! {
        let threads = threads_of(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        let stderr = what_is_left(&self.stderr).join("\n");
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

/// `kill(2)` of a process that belongs to this test.
pub fn kill(pid: i32, signal: Signal) {
    // SAFETY: no memory is involved.
    let sent = unsafe { libc::kill(pid, signal.as_raw()) };
    assert_eq!(sent, 0, "kill {pid} {signal}: {}", std::io::Error::last_os_error());
}

/// The bit of a signal in the masks of proc(5).
pub fn signal_bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// A field of `/proc/PID/status`, empty if there is none.
fn status_of(pid: i32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

/// Whether a signal is pending, for a process (`ShdPnd`) or for one thread (`SigPnd`), if that is there.
pub fn is_pending(id: i32, field: &str, signal: Signal) -> Option<bool> {
    let pending = u64::from_str_radix(&status_of(id, field), 16).ok()?;
    Some(pending & signal_bit(signal) != 0)
}

/// Whether a thread of this process sleeps.
pub fn sleeps(thread: i32) -> bool {
    status_of(thread, "State").starts_with('S')
}

/// A thread of a process.
#[derive(Clone, Debug, PartialEq)]
struct Task {
    id: i32,
    /// As proc(5) has it: S sleeps, R runs, T is stopped, Z has ended.
    state: char,
    /// How often it has gone to sleep.
    sleeps: u64,
}

fn tasks_of(pid: i32) -> Vec<Task> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let task = |entry: std::fs::DirEntry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
        Some(Task {
            id: field("Pid:")?.trim().parse().ok()?,
            state: field("State:")?.trim().chars().next()?,
            sleeps: field("voluntary_ctxt_switches:")?.trim().parse().ok()?,
        })
    };
    tasks.flatten().filter_map(task).collect()
}

/// The only child of a process, once it has one.
pub fn child_of(pid: i32) -> i32 {
    let children = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|child| status_of(*child, "PPid") == pid.to_string()).collect::<Vec<_>>()
    };
    until("the process has a child", || !children().is_empty());
    children()[0]
}

/// A terminal of the test's own, whose keys it presses.
pub struct Terminal {
    keyboard: std::fs::File,
    screen: OwnedFd,
}

impl Terminal {
    pub fn open() -> Terminal {
        let (mut keyboard, mut screen) = (0, 0);
        let null = std::ptr::null_mut();
        // SAFETY: both descriptors are valid for a write; null stands for the default settings.
        let opened = unsafe {
            libc::openpty(&raw mut keyboard, &raw mut screen, null, null.cast(), null.cast())
        };
        assert_eq!(opened, 0, "openpty: {}", std::io::Error::last_os_error());
        // SAFETY: openpty has just opened them, for us alone.
        unsafe {
            libc::fcntl(keyboard, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(screen, libc::F_SETFD, libc::FD_CLOEXEC);
            let (keyboard, screen) = (OwnedFd::from_raw_fd(keyboard), OwnedFd::from_raw_fd(screen));
            Terminal { keyboard: keyboard.into(), screen }
        }
    }

    /// Makes this the controlling terminal of a command, in a session of its own and in the
    /// foreground. Its input and output stay what they are.
    pub fn control(&self, command: &mut Command) {
        let screen = self.screen.as_raw_fd();
        // SAFETY: the closure makes two system calls and nothing else; the descriptor is open in
        // the child until exec.
        unsafe {
            command.pre_exec(move || {
                if libc::setsid() == -1 || libc::ioctl(screen, libc::TIOCSCTTY as _, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            })
        };
    }

    pub fn press_ctrl_c(&mut self) {
        self.keyboard.write_all(&[3]).unwrap();
    }

    /// Lets a command write its standard error on this terminal, and reads what appears there.
    pub fn show(&self, command: &mut Command) -> Shown {
        let screen = self.screen.as_raw_fd();
        // SAFETY: the closure makes one system call and nothing else; the descriptor is open in the
        // child until exec.
        unsafe {
            command.pre_exec(move || match libc::dup2(screen, 2) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            })
        };
        let text = Arc::new(Mutex::new(Vec::new()));
        let (mut display, shown) = (self.keyboard.try_clone().unwrap(), Arc::clone(&text));
        leave(std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error once the terminal is gone.
            while let Ok(read @ 1..) = display.read(&mut buffer) {
                shown.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        }));
        Shown(text)
    }
}

/// What a terminal has been told to show so far.
pub struct Shown(Arc<Mutex<Vec<u8>>>);

impl Shown {
    /// How often it was told this.
    pub fn count(&self, sequence: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(sequence).count()
    }
}

/// The arguments with which unshare(1) runs a command as PID 1 of a namespace of its own, or why that
/// cannot be done here.
pub fn as_pid_1() -> Result<&'static [&'static str], String> {
    // Without privilege, a user namespace gives the right to make the other one.
    const WAYS: [&[&str]; 2] = [
        &["--fork", "--pid", "--kill-child"],
        &["--user", "--map-root-user", "--fork", "--pid", "--kill-child"],
    ];
    let attempt = |way: &[&str]| Command::new("unshare").args(way).arg("true").output();
    let works = |way: &&&[&str]| attempt(way).is_ok_and(|output| output.status.success());
    WAYS.iter().find(works).copied().ok_or_else(|| {
        format!("skipped: PID 1: no pid namespace can be made here: {:?}", attempt(WAYS[1]))
    })
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

/// How far `held_callback` has come. Waited for without polling: a victim that polls is never at rest.
static HELD: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

fn held_has_come_to(step: usize) {
    *HELD.0.lock().unwrap() = step;
    HELD.1.notify_all();
}

fn until_held_comes_to(step: usize) {
    let held = HELD.0.lock().unwrap();
    let waited = HELD.1.wait_timeout_while(held, DEADLINE, |come_to| *come_to < step).unwrap();
    assert!(!waited.1.timed_out(), "the callback is not at step {step} in time");
}

/// A callback that says when it begins and, once the test has told it to go on, when it ends.
pub fn held_callback() {
    say("callback begins");
    held_has_come_to(1);
    hear();
    say("callback ends");
    held_has_come_to(2);
}

/// Waits until `held_callback` has begun, on another thread.
pub fn until_held() {
    until_held_comes_to(1);
}

/// Waits until `held_callback` has ended, on another thread.
pub fn until_let_go() {
    until_held_comes_to(2);
}

/// The calling thread: `main`, or its name as the kernel knows it. Works in exit functions too, where
/// `std::thread::current` does not.
pub fn thread_name() -> String {
    // SAFETY: neither call has arguments, and neither can fail.
    let (pid, tid) = unsafe { (libc::getpid(), libc::syscall(libc::SYS_gettid)) };
    if i64::from(pid) == tid {
        return "main".into();
    }
    std::fs::read_to_string("/proc/thread-self/comm").unwrap().trim().to_owned()
}

/// Blocks a signal in the calling thread, and in those it starts.
pub fn block(signal: Signal) {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal.as_raw());
        let blocked = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        assert_eq!(blocked, 0);
    }
}

/// Installs any disposition that is to stay: handler (or `SIG_DFL`, `SIG_IGN`), flags, and mask.
pub fn install_exactly(signal: Signal, handler: usize, flags: i32, mask: &[Signal]) {
    // SAFETY: a zeroed sigaction is valid; a handler is one for its flags and async-signal-safe.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        for blocked in mask {
            libc::sigaddset(&raw mut action.sa_mask, blocked.as_raw());
        }
        assert_eq!(libc::sigaction(signal.as_raw(), &raw const action, std::ptr::null_mut()), 0);
    }
}

/// The ids of this process's threads, in order.
pub fn threads() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| task.unwrap().file_name();
    let mut threads: Vec<i32> =
        tasks.map(|task| name(task).to_str().unwrap().parse().unwrap()).collect();
    threads.sort_unstable();
    threads
}

/// The thread that was started since there were these.
pub fn started_since(before: &[i32]) -> i32 {
    *threads().iter().find(|thread| !before.contains(thread)).unwrap()
}

/// The C library's sigaction, for a test binary that has one of its own in its place.
///
/// # Safety
/// As sigaction(2).
pub unsafe fn sigaction_of_libc(
    raw: libc::c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> libc::c_int {
    type Function = unsafe extern "C" fn(
        libc::c_int,
        *const libc::sigaction,
        *mut libc::sigaction,
    ) -> libc::c_int;
    // SAFETY: a NUL-terminated name, of a function that has this signature; the caller's arguments.
    unsafe {
        let found = libc::dlsym(libc::RTLD_NEXT, c"sigaction".as_ptr());
        std::mem::transmute::<*mut libc::c_void, Function>(found)(raw, new, old)
    }
}

/// What `victim_told` told this scenario.
pub fn told<T: std::str::FromStr<Err: std::fmt::Debug>>() -> T {
    std::env::var(ARGUMENT).unwrap().parse().unwrap()
}

/// Says a line when it is dropped: proof that what a closure captured was freed.
pub struct SaysWhenFreed(pub &'static str);

impl Drop for SaysWhenFreed {
    fn drop(&mut self) {
        say(self.0);
    }
}

/// Registers an exit function with the C library.
pub fn at_exit(function: extern "C" fn()) {
    // SAFETY: a function without arguments that does not unwind.
    assert_eq!(unsafe { libc::atexit(function) }, 0);
}
