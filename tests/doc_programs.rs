//! The programs of README and guide, started as a reader starts them, signalled, and judged by what they print, by the
//! files they leave and by their ending. `tests/docs.rs` holds the pages to these very sources.

#![allow(missing_docs, reason = "a test binary")]
#![cfg(unix)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// What a program is to do. Each run is one line of a table, in words and not in code.
struct Run {
    /// Which example.
    program: &'static str,
    /// Each of these signals is sent when a line that begins like this is read from standard output.
    signals: &'static [(&'static str, Signal)],
    ending: Ending,
    /// What the last lines of standard output end with.
    last: &'static [&'static str],
    /// What standard error begins with; nothing else may be there where this is empty.
    stderr: &'static str,
    /// The files that are left in the working directory, which was empty.
    left: &'static [&'static str],
}

#[derive(Debug, PartialEq)]
enum Ending {
    Code(i32),
    DiedOf(Signal),
}

use Ending::{Code, DiedOf};
use Signal::{SIGABRT, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// No program here takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the terminal gets twice: from the callback, and after the last frame.
const RESTORED: &str = "\x1b[?25h\x1b[?1049l\x1b[?25h\x1b[?1049l";

/// Without a file that is left and without a word on standard error, as most are.
const fn run(
    program: &'static str,
    signals: &'static [(&'static str, Signal)],
    ending: Ending,
    last: &'static [&'static str],
) -> Run {
    Run { program, signals, ending, last, stderr: "", left: &[] }
}

const RUNS: &[Run] = &[
    Run {
        stderr: "stopping after this piece of work\n",
        ..run("readme_first", &[("working", SIGTERM)], Code(0), &["stopped cleanly"])
    },
    Run {
        stderr: "stopping after this piece of work\n",
        ..run("readme_first", &[("working", SIGINT)], Code(0), &["stopped cleanly"])
    },
    Run {
        stderr: "received SIGTERM from process ",
        ..run("readme_report", &[("page 2", SIGTERM)], DiedOf(SIGTERM), &[])
    },
    Run {
        stderr: "received SIGINT from process ",
        ..run("readme_report", &[("page 2", SIGINT)], DiedOf(SIGINT), &[])
    },
    run("guide_server", &[("serving", SIGTERM)], Code(0), &["every request is answered"]),
    run("guide_accept", &[("listening on ", SIGTERM)], Code(0), &["stopped"]),
    run("guide_async", &[("serving", SIGTERM)], Code(0), &["serving", "flushed"]),
    run(
        "guide_servers",
        &[("metrics goes on", SIGTERM)],
        Code(0),
        &["api has stopped", "metrics goes on", "metrics has stopped"],
    ),
    run("guide_batch", &[("piece 1", SIGTERM)], DiedOf(SIGTERM), &[]),
    run("guide_batch", &[("piece 1", SIGINT)], DiedOf(SIGINT), &[]),
    run("guide_stages", &[("mount", SIGTERM)], DiedOf(SIGTERM), &["undo mount", "undo create"]),
    run(
        "guide_stages",
        &[],
        Code(0),
        &["check", "undo check", "undo fill", "undo mount", "undo create"],
    ),
    run("guide_cleanup", &[("writing", SIGTERM)], DiedOf(SIGTERM), &["writing"]),
    run("guide_cleanup", &[("writing", SIGINT)], DiedOf(SIGINT), &["writing"]),
    run("guide_library", &[("page 2", SIGTERM)], Code(0), &[" pages"]),
    run("guide_terminal", &[("frame", SIGTERM)], DiedOf(SIGTERM), &[RESTORED]),
    run("guide_terminal", &[("frame", SIGHUP)], DiedOf(SIGHUP), &[RESTORED]),
    run("guide_terminal", &[("frame", SIGQUIT)], DiedOf(SIGQUIT), &[RESTORED]),
    run("guide_terminal", &[("frame", SIGABRT)], DiedOf(SIGABRT), &[RESTORED]),
    run("guide_forwarder", &[("ready", SIGTERM)], Code(3), &["ready", "cleaned up"]),
    run(
        "guide_reload",
        &[("configuration 1", SIGHUP), ("configuration 2", SIGHUP), ("configuration 3", SIGTERM)],
        Code(0),
        &["configuration 1", "configuration 2", "configuration 3", "stopped"],
    ),
    run("guide_worker", &[], DiedOf(SIGTERM), &["job done", "cleaned up"]),
];

#[test]
fn each_program_ends_as_the_page_says() {
    // Some die of signals that would leave a core file.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    std::thread::scope(|threads| {
        for run in RUNS {
            threads.spawn(|| judge(run, true));
        }
    });
}

/// As in a terminal that has gone, with its output in a pipe: `eprintln!` panics then.
#[test]
fn each_program_ends_so_also_where_nobody_reads_its_standard_error() {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    std::thread::scope(|threads| {
        for run in RUNS {
            threads.spawn(|| judge(run, false));
        }
    });
}

fn judge(run: &Run, stderr_is_read: bool) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(example(run.program))
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    let child_stderr = child.stderr.take().filter(|_| stderr_is_read);
    // Only a hang meets the deadline, or a child of the program that holds its output open.
    let (ended, is_ended) = channel::<()>();
    let watch = std::thread::spawn(move || {
        if is_ended.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    });

    let mut signals = run.signals.iter();
    let mut next = signals.next();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if let Some((_, signal)) =
            next.filter(|(begins, _)| lines[lines.len() - 1].starts_with(begins))
        {
            kill(pid, *signal).unwrap();
            next = signals.next();
        }
    }
    let mut stderr = String::new();
    if let Some(mut read) = child_stderr {
        read.read_to_string(&mut stderr).unwrap();
    }
    drop(ended);
    watch.join().unwrap();
    let status = child.wait().unwrap();

    let said = format!("{} {:?}: {status}\n{lines:#?}\n{stderr}", run.program, run.signals);
    assert!(next.is_none(), "a signal was not sent: {said}");
    let ending = match status.code() {
        Some(code) => Code(code),
        None => DiedOf(Signal::try_from(status.signal().unwrap()).unwrap()),
    };
    assert_eq!(ending, run.ending, "{said}");
    let from =
        lines.len().checked_sub(run.last.len()).unwrap_or_else(|| panic!("too little: {said}"));
    let is_last = lines[from..].iter().zip(run.last).all(|(line, last)| line.ends_with(last));
    assert!(is_last, "the last lines are others: {said}");
    let is_right = stderr.starts_with(run.stderr) && stderr.is_empty() == run.stderr.is_empty();
    assert!(is_right || !stderr_is_read, "standard error is not right: {said}");
    let left: BTreeSet<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(left.iter().eq(run.left), "{left:?} is left: {said}");
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
