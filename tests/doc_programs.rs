//! The programs of README and guide, started as a reader starts them, signalled, and judged by what they print, by the
//! files they leave and by their ending. `tests/docs.rs` holds the pages to these very sources.

#![allow(missing_docs, reason = "a test binary")]
#![cfg(unix)]
#![allow(unsafe_code, reason = "dispositions that programs inherit")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, kill, killpg};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

/// What a program is to do. Each run is one line of a table, in words and not in code.
struct Run {
    /// Which example.
    program: &'static str,
    /// What is done when a line that begins like this is read from standard output, in this order.
    steps: &'static [(&'static str, Step)],
    ending: Ending,
    /// What the last lines of standard output end with.
    last: &'static [&'static str],
    /// What standard error has in it; nothing else may be there where this is empty.
    stderr: &'static str,
    /// The files that are left in the working directory, which was empty.
    left: &'static [&'static str],
    /// Whether standard input is a terminal. It has to be in its old mode at the end.
    terminal: bool,
}

enum Step {
    Send(Signal),
    /// As the terminal does with `^C`: to everything in the program's process group.
    SendToGroup(Signal),
    /// A key of the terminal.
    Press(u8),
    /// A line that is typed at the terminal.
    Type(&'static str),
    /// Standard output is not read any more, as after `| head`.
    StopReading,
}

#[derive(Debug, PartialEq)]
enum Ending {
    Code(i32),
    KilledBy(Signal),
}

use Ending::{Code, KilledBy};
use Signal::{SIGABRT, SIGCONT, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTTOU};
use Step::{Press, Send, SendToGroup, StopReading, Type};

/// No program here takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// `^D`
const END_OF_FILE: u8 = 4;

/// What the terminal gets after the last frame.
const RESTORED: &str = "\x1b[?25h\x1b[?1049l";

/// Without a file that is left and without a word on standard error, as most are.
const fn run(
    program: &'static str,
    steps: &'static [(&'static str, Step)],
    ending: Ending,
    last: &'static [&'static str],
) -> Run {
    Run { program, steps, ending, last, stderr: "", left: &[], terminal: false }
}

const fn in_a_terminal(step: &'static [(&'static str, Step)], ending: Ending) -> Run {
    Run { terminal: true, ..run("guide_terminal", step, ending, &[RESTORED]) }
}

/// It waits for a line at a terminal, and leaves its history on every way out.
const fn at_the_prompt(
    steps: &'static [(&'static str, Step)],
    ending: Ending,
    last: &'static [&'static str],
) -> Run {
    Run { terminal: true, left: &["history"], ..run("guide_prompt", steps, ending, last) }
}

const RUNS: &[Run] = &[
    run("readme_report", &[("page 2", Send(SIGTERM))], KilledBy(SIGTERM), &[]),
    run("readme_report", &[("page 2", Send(SIGINT))], KilledBy(SIGINT), &[]),
    run("guide_server", &[("serving", Send(SIGTERM))], Code(0), &["every request is answered"]),
    run("guide_accept", &[("listening on ", Send(SIGTERM))], Code(0), &["stopped"]),
    // Its standard input is a terminal, at which nobody presses Enter.
    Run {
        terminal: true,
        ..run("guide_async", &[("serving", Send(SIGTERM))], Code(0), &["serving", "flushed"])
    },
    run(
        "guide_servers",
        &[("metrics still runs", Send(SIGTERM))],
        Code(0),
        &["api has stopped", "metrics still runs", "metrics has stopped", "the program ends"],
    ),
    run("guide_batch", &[("piece 1", Send(SIGTERM))], KilledBy(SIGTERM), &[]),
    run("guide_batch", &[("piece 1", Send(SIGINT))], KilledBy(SIGINT), &[]),
    run(
        "guide_stages",
        &[("mount", Send(SIGTERM))],
        KilledBy(SIGTERM),
        &["undo mount", "undo create"],
    ),
    run(
        "guide_stages",
        &[],
        Code(0),
        &["check", "undo check", "undo fill", "undo mount", "undo create"],
    ),
    run("guide_cleanup", &[("writing", Send(SIGTERM))], KilledBy(SIGTERM), &["writing"]),
    run("guide_cleanup", &[("writing", Send(SIGINT))], KilledBy(SIGINT), &["writing"]),
    // The program has no guard: `render` cleans up, and the signal still ends the program.
    run("guide_library", &[("page 2", Send(SIGTERM))], KilledBy(SIGTERM), &[]),
    run("guide_library", &[("page 2", Send(SIGINT))], KilledBy(SIGINT), &[]),
    in_a_terminal(&[("frame", Send(SIGTERM))], KilledBy(SIGTERM)),
    in_a_terminal(&[("frame", Send(SIGHUP))], KilledBy(SIGHUP)),
    in_a_terminal(&[("frame", Send(SIGQUIT))], KilledBy(SIGQUIT)),
    in_a_terminal(&[("frame", Send(SIGABRT))], KilledBy(SIGABRT)),
    in_a_terminal(&[("frame", Press(3))], KilledBy(SIGINT)),
    run(
        "guide_forwarder",
        &[("ready", Send(SIGTERM))],
        Code(3),
        &["ready", "cleaned up", "the supervisor has cleaned up"],
    ),
    run(
        "guide_forwarder",
        &[("ready", Send(SIGHUP)), ("reloaded", Send(SIGHUP)), ("reloaded", Send(SIGTERM))],
        Code(3),
        &["ready", "reloaded", "reloaded", "cleaned up", "the supervisor has cleaned up"],
    ),
    run(
        "guide_forwarder",
        &[("ready", Send(SIGINT))],
        KilledBy(SIGINT),
        &["ready", "the supervisor has cleaned up"],
    ),
    run(
        "guide_reload",
        &[
            ("configuration 1", Send(SIGHUP)),
            ("configuration 2", Send(SIGHUP)),
            ("configuration 3", Send(SIGTERM)),
        ],
        Code(0),
        &["configuration 1", "configuration 2", "configuration 3", "stopped"],
    ),
    at_the_prompt(&[("type", Send(SIGTERM))], KilledBy(SIGTERM), &["0 in the history"]),
    at_the_prompt(&[("type", Send(SIGHUP))], KilledBy(SIGHUP), &["0 in the history"]),
    // There is nothing to interrupt.
    at_the_prompt(&[("type", SendToGroup(SIGINT))], KilledBy(SIGTERM), &["0 in the history"]),
    at_the_prompt(&[("type", Press(END_OF_FILE))], Code(0), &["0 in the history"]),
    at_the_prompt(
        &[("type", Type("1000")), ("count 2", Send(SIGTERM))],
        KilledBy(SIGTERM),
        &["1 in the history"],
    ),
    at_the_prompt(
        &[
            ("type", Type("1000")),
            ("count 2", SendToGroup(SIGINT)),
            ("interrupted", Type("2")),
            ("count 2", Press(END_OF_FILE)),
        ],
        Code(0),
        &["interrupted", "count 1", "count 2", "done", "2 in the history"],
    ),
    // The command ends with the program, also if the signal is for the program alone.
    run(
        "guide_job",
        &[("building", Send(SIGTERM))],
        KilledBy(SIGTERM),
        &["fetch", "build", "building", "cleaned up"],
    ),
    run(
        "guide_job",
        &[("building", SendToGroup(SIGINT)), ("cleaned up", SendToGroup(SIGINT))],
        KilledBy(SIGINT),
        &["fetch", "build", "building", "cleaned up"],
    ),
    run("guide_worker", &[], KilledBy(SIGTERM), &["job done", "cleaned up"]),
    run("guide_pipe", &[("line 5", StopReading)], KilledBy(SIGPIPE), &[]),
    run("guide_pipe", &[("line 5", Send(SIGTERM))], KilledBy(SIGTERM), &[]),
    Run { stderr: "a bug", ..run("guide_panic", &[], Code(101), &["working"]) },
    run("guide_panic", &[("working", Send(SIGTERM))], Code(0), &["working"]),
    run(
        "guide_commands",
        &[("working", SendToGroup(SIGINT)), ("unmounting", SendToGroup(SIGINT))],
        KilledBy(SIGINT),
        &["unmounting", "unmounted"],
    ),
];

/// What is there for a program's output.
#[derive(Clone, Copy, PartialEq)]
enum Readers {
    Both,
    /// As in a terminal that has gone: `eprintln!` panics then.
    NoStderr,
    /// As with `| tee`, which a `^C` ends too: nobody reads what comes after the last step.
    NoStdoutAtTheEnd,
}

#[test]
fn each_program_ends_as_the_page_says() {
    judge_all(Readers::Both);
}

#[test]
fn each_program_ends_so_also_where_nobody_reads_its_standard_error() {
    judge_all(Readers::NoStderr);
}

#[test]
fn each_program_ends_so_also_where_a_signal_ends_the_reader_of_its_standard_output() {
    judge_all(Readers::NoStdoutAtTheEnd);
}

fn judge_all(readers: Readers) {
    // Some are killed by signals that would leave a core file.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    std::thread::scope(|threads| {
        for run in RUNS {
            threads.spawn(move || judge(run, readers));
        }
    });
}

/// A terminal of its own, whose keys the test presses.
struct Terminal(OpenptyResult);

impl Terminal {
    fn open() -> Terminal {
        let terminal = openpty(None, None).unwrap();
        // A program that inherited this end would keep its own terminal open.
        fcntl(&terminal.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        Terminal(terminal)
    }

    fn stdin(&self) -> Stdio {
        self.0.slave.try_clone().unwrap().into()
    }

    fn press(&self, keys: &[u8]) {
        File::from(self.0.master.try_clone().unwrap()).write_all(keys).unwrap();
    }

    /// Whether it shows what is typed and takes lines: not so in raw mode.
    fn is_restored(&self) -> bool {
        let cooked = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        tcgetattr(self.0.slave.as_fd()).unwrap().local_flags.contains(cooked)
    }
}

fn start(program: &str, directory: &Path, stdin: Stdio) -> (Child, Watch) {
    spawn(command(program, directory, stdin).process_group(0))
}

fn command(program: &str, directory: &Path, stdin: Stdio) -> Command {
    // A script that runs these tests in the background, or under nohup, has them ignored, and so would the programs.
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        // SAFETY: the default disposition is no handler.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.unwrap();
    }
    let mut command = Command::new(example(program));
    command.current_dir(directory).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(command: &mut Command) -> (Child, Watch) {
    let child = command.spawn().unwrap();
    let watch = Watch::over(Pid::from_raw(child.id() as i32));
    (child, watch)
}

/// Kills a program at the deadline. Only a hang meets that, or a child of the program that holds its output open.
struct Watch(Sender<()>, JoinHandle<()>);

impl Watch {
    fn over(pid: Pid) -> Watch {
        let (ended, is_ended) = channel::<()>();
        let watch = std::thread::spawn(move || {
            if is_ended.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
                // A command in a group of its own holds the output open as well.
                let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
                for child in children.unwrap_or_default().split_whitespace() {
                    let _ = killpg(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL);
                }
                let _ = killpg(pid, Signal::SIGKILL);
            }
        });
        Watch(ended, watch)
    }

    fn end(self) {
        drop(self.0);
        self.1.join().unwrap();
    }
}

fn judge(run: &Run, readers: Readers) {
    // One that is not signalled, and the one that is about a reader which leaves.
    let is_apart = run.steps.is_empty() || run.program == "guide_pipe";
    if readers == Readers::NoStdoutAtTheEnd && is_apart {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let terminal = run.terminal.then(Terminal::open);
    let stdin = terminal.as_ref().map_or(Stdio::null(), Terminal::stdin);
    let (mut child, watch) = start(run.program, directory.path(), stdin);
    let pid = Pid::from_raw(child.id() as i32);
    let child_stderr = child.stderr.take().filter(|_| readers != Readers::NoStderr);

    let mut steps = run.steps.iter();
    let mut next = steps.next();
    let mut lines = Vec::new();
    let stdout = child.stdout.take().unwrap();
    let mut is_read = true;
    // Breaking out of the loop closes the pipe.
    for line in BufReader::new(stdout).lines() {
        lines.push(line.unwrap());
        let Some((_, step)) = next.filter(|(begins, _)| lines[lines.len() - 1].starts_with(begins))
        else {
            continue;
        };
        next = steps.next();
        is_read = next.is_some() || readers != Readers::NoStdoutAtTheEnd;
        match step {
            Send(signal) => kill(pid, *signal).unwrap(),
            SendToGroup(signal) => killpg(pid, *signal).unwrap(),
            Press(key) => terminal.as_ref().unwrap().press(&[*key]),
            Type(line) => terminal.as_ref().unwrap().press(format!("{line}\n").as_bytes()),
            StopReading => is_read = false,
        }
        if !is_read {
            break;
        }
    }
    let mut stderr = String::new();
    if let Some(mut read) = child_stderr {
        read.read_to_string(&mut stderr).unwrap();
    }
    let status = child.wait().unwrap();
    watch.end();

    let said = format!("{}: {status}\n{lines:#?}\n{stderr}", run.program);
    assert!(next.is_none(), "a step was not reached: {said}");
    let ending = match status.code() {
        Some(code) => Code(code),
        None => KilledBy(Signal::try_from(status.signal().unwrap()).unwrap()),
    };
    assert_eq!(ending, run.ending, "{said}");
    let left: BTreeSet<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(left.iter().eq(run.left), "{left:?} is left: {said}");
    assert!(terminal.is_none_or(|terminal| terminal.is_restored()), "in raw mode: {said}");
    if is_read {
        let from =
            lines.len().checked_sub(run.last.len()).unwrap_or_else(|| panic!("too little: {said}"));
        let is_last = lines[from..].iter().zip(run.last).all(|(line, last)| line.ends_with(last));
        assert!(is_last, "the last lines are others: {said}");
    }
    if readers == Readers::Both {
        let is_right = stderr.contains(run.stderr) && stderr.is_empty() == run.stderr.is_empty();
        assert!(is_right, "standard error is not right: {said}");
    }
}

/// `^Z` restores the terminal before the program stops with everything in its process group, and `fg` takes it again.
#[test]
fn the_terminal_program_stops_and_continues() {
    let directory = tempfile::tempdir().unwrap();
    let terminal = Terminal::open();
    let (mut child, watch) = start("guide_terminal", directory.path(), terminal.stdin());
    let pid = Pid::from_raw(child.id() as i32);
    // A shell waits for all processes of the job, such as a wrapper that has started this one.
    let mut beside = Command::new("sleep").arg("60").process_group(pid.as_raw()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut take = || while !stdout.next().unwrap().unwrap().contains("\x1b[?1049h") {};
    take();
    terminal.press(&[26]);
    for stops in [pid, Pid::from_raw(beside.id() as i32)] {
        let stopped = waitpid(stops, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(stops, SIGTTOU));
    }
    assert!(terminal.is_restored());
    killpg(pid, SIGCONT).unwrap();
    take();
    kill(pid, SIGTERM).unwrap();
    assert_eq!(stdout.map(Result::unwrap).last().unwrap(), RESTORED);
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM as i32));
    watch.end();
    assert!(terminal.is_restored());
    beside.kill().unwrap();
    beside.wait().unwrap();
}

/// Under `xterm -e` or `ssh -t` no shell could continue the program, so `^Z` does not stop it.
#[test]
fn the_terminal_program_does_not_stop_as_a_session_leader() {
    let directory = tempfile::tempdir().unwrap();
    let terminal = Terminal::open();
    let mut command = command("guide_terminal", directory.path(), terminal.stdin());
    // SAFETY: setsid is async-signal-safe, and no error is made into a string.
    unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
    let (mut child, watch) = spawn(&mut command);
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut take = || while !stdout.next().unwrap().unwrap().contains("\x1b[?1049h") {};
    take();
    terminal.press(&[26]);
    take();
    kill(Pid::from_raw(child.id() as i32), SIGTERM).unwrap();
    assert_eq!(stdout.map(Result::unwrap).last().unwrap(), RESTORED);
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM as i32));
    watch.end();
    assert!(terminal.is_restored());
}

/// If the queue of the listener is full, a connection that wakes the loop does not come through.
#[test]
fn the_accept_program_ends_beside_a_slow_client_and_a_full_queue() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, watch) = start("guide_accept", directory.path(), Stdio::null());
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = stdout.next().unwrap().unwrap();
    let address: SocketAddr = line.strip_prefix("listening on ").unwrap().parse().unwrap();
    // The program waits for the first one, and the others wait until the queue takes no more.
    let wait = Duration::from_millis(500);
    let connect = || TcpStream::connect_timeout(&address, wait).ok();
    let clients: Vec<TcpStream> = std::iter::from_fn(connect).collect();
    assert!(clients.len() > 2, "{}", clients.len());
    kill(Pid::from_raw(child.id() as i32), SIGTERM).unwrap();
    let status = child.wait().unwrap(); // when the grace period is over
    watch.end();
    assert_eq!(status.signal(), Some(SIGTERM as i32), "{status}");
}

/// The error comes before HUP, or there is no HUP: then the error is the end.
#[test]
fn the_terminal_program_ends_with_its_terminal() {
    for signal in [Some(SIGHUP), None] {
        let directory = tempfile::tempdir().unwrap();
        let terminal = Terminal::open();
        let (mut child, watch) = start("guide_terminal", directory.path(), terminal.stdin());
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        while !stdout.next().unwrap().unwrap().contains("frame") {}
        drop(terminal);
        if let Some(signal) = signal {
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        }
        assert_eq!(stdout.map(Result::unwrap).last().unwrap(), RESTORED);
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        watch.end();
        match signal {
            Some(signal) => assert_eq!(status.signal(), Some(signal as i32), "{status}: {stderr}"),
            None => {
                assert_eq!(status.code(), Some(1), "{stderr}");
                assert!(stderr.contains("code: 5"), "not EIO: {stderr}");
            }
        }
    }
}

/// An example, which cargo builds beside the tests.
fn example(name: &str) -> std::path::PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(example.exists(), "no {}: `cargo build --examples` makes it", example.display());
    example
}

/// Every program that the pages show has a run.
#[test]
fn each_program_is_run() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let shown: BTreeSet<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("readme_") || name.starts_with("guide_"))
        .collect();
    let run: BTreeSet<String> = RUNS.iter().map(|run| run.program.to_owned()).collect();
    assert_eq!(run, shown);
}

/// The tests that the guide shows, which run beside the others of this binary.
#[path = "support/guide_tests.rs"]
mod shown_in_the_guide;
