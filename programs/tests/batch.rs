//! The long job: stopped at a safe point, continued, and a clear ending for whoever started it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;
use handle_exit::Signal;
use tempfile::TempDir;

const BATCH: &str = env!("CARGO_BIN_EXE_batch");

/// More than anybody waits for.
const MANY: u64 = 1_000_000;

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

fn command(checkpoint: &Path, pieces: u64) -> Command {
    let mut command = Command::new(BATCH);
    command.arg(checkpoint).arg(pieces.to_string());
    command
}

/// A place for a checkpoint, which is not there yet.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = directory.path().join("checkpoint");
    (directory, checkpoint)
}

/// Runs it until it is interrupted, which it is as soon as it has begun, and says how far it came.
fn interrupted(checkpoint: &Path, done: u64, signal: Signal) -> u64 {
    let mut batch = Victim::start(command(checkpoint, MANY));
    batch.expect(&format!("{done} of {MANY} pieces are done"));
    batch.send(signal);
    let end = batch.end();
    end.died_by(signal);
    let last = end.lines.last().unwrap();
    let came_to = last.strip_prefix("stopped after ").and_then(|rest| rest.split(' ').next());
    came_to.unwrap_or_else(|| panic!("{end:#?}")).parse().unwrap()
}

fn batch_goes_on_where_it_was_interrupted_and_finds_the_same() {
    let (_directory, checkpoint) = place();
    let mut done = 0;
    for signal in [Signal::INT, Signal::TERM, Signal::INT] {
        let came_to = interrupted(&checkpoint, done, signal);
        assert!(came_to > done, "a piece that was begun is finished");
        done = came_to;
    }
    let end = Victim::start(command(&checkpoint, done + 2)).end();
    end.exited(0);
    assert!(!checkpoint.exists(), "a job that is done leaves no checkpoint");

    let uninterrupted = Victim::start(command(&checkpoint, done + 2)).end();
    assert_eq!(uninterrupted.lines[0], format!("0 of {} pieces are done", done + 2));
    assert_eq!(end.lines[1..], uninterrupted.lines[1..]);
}

fn batch_gives_the_cursor_back() {
    let (_directory, checkpoint) = place();
    let mut terminal = Terminal::open();
    let (start, shown) = terminal.show(command(&checkpoint, MANY));
    let mut batch = Victim::start(terminal.control(start));
    batch.expect(&format!("0 of {MANY} pieces are done"));
    until("the cursor is hidden", || shown.count(HIDE_CURSOR) == 1);
    until("the bar is drawn", || shown.count(&format!("/{MANY}")) > 0);
    assert_eq!(shown.count(SHOW_CURSOR), 0);
    terminal.press_ctrl_c();
    batch.end().died_by(Signal::INT);
    until("the cursor is back", || shown.count(SHOW_CURSOR) == 1);
    assert!(checkpoint.exists());
}

fn batch_gives_the_cursor_back_when_it_fails() {
    let (_directory, checkpoint) = place();
    std::fs::write(&checkpoint, "something else").unwrap();
    let terminal = Terminal::open();
    let (start, shown) = terminal.show(command(&checkpoint, MANY));
    Victim::start(start).end().exited(1).said(&[]);
    until("the cursor is back", || shown.count(SHOW_CURSOR) == 1);
    assert_eq!(std::fs::read_to_string(&checkpoint).unwrap(), "something else");
}

fn batch_ends_a_shell_loop_too() {
    let (_directory, checkpoint) = place();
    let mut terminal = Terminal::open();
    let mut bash = Command::new("bash");
    let script = "for round in 1 2; do \"$0\" \"$@\"; echo \"round $round\"; done";
    bash.args(["-c", script, BATCH]).arg(&checkpoint).arg(MANY.to_string());
    let mut bash = Victim::start(terminal.control(bash));
    bash.expect(&format!("0 of {MANY} pieces are done"));
    terminal.press_ctrl_c();
    let end = bash.end();
    assert_eq!(end.lines.len(), 2, "it went on: {end:#?}");
    end.died_by(Signal::INT);
}

fn batch_ends_make_too() {
    if Command::new("make").arg("--version").output().is_err() {
        return println!("skipped: make: there is none here");
    }
    let (directory, checkpoint) = place();
    let rules = format!("all:\n\t@{BATCH} {} {MANY}\n\t@echo next\n", checkpoint.display());
    std::fs::write(directory.path().join("Makefile"), rules).unwrap();
    let mut make = Command::new("make");
    // In plain words, whatever the user's language, and not as a part of another make.
    make.env("LC_ALL", "C").env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    make.arg("-C").arg(directory.path()).arg("--no-print-directory");
    let mut make = Victim::start(make);
    make.expect(&format!("0 of {MANY} pieces are done"));
    // The job alone, so that make stops for nothing but its ending.
    kill(child_of(make.pid()), Signal::TERM);
    let end = make.end();
    assert_eq!(end.count("next"), 0, "{end:#?}");
    assert!(end.stderr.contains("Terminated"), "{end:#?}");
    end.exited(2);
}

pub(crate) const TESTS: &[Named] = tests![
    batch_goes_on_where_it_was_interrupted_and_finds_the_same,
    batch_gives_the_cursor_back,
    batch_gives_the_cursor_back_when_it_fails,
    batch_ends_a_shell_loop_too,
    batch_ends_make_too,
];
