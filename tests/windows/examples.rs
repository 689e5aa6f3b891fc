//! The examples that are for both, told to stop as a console tells them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use handle_exit::ConsoleEvent;

use crate::support::*;

/// An example, as `.ci/windows` builds it first.
fn windows_example(name: &str) -> Command {
    example(&format!("{name}.exe"), &[])
}

/// A directory for one test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn names(&self) -> BTreeSet<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        fs::read_dir(&self.0).unwrap().map(|entry| name(entry).into_string().unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn outcome_ends_as_what_stopped_it() {
    let mut victim = Victim::start(windows_example("outcome"));
    victim.expect_prefix("running");
    victim.send_event(ConsoleEvent::CtrlC);
    let end = victim.end();
    end.exited(STATUS_CONTROL_C_EXIT);
    assert!(end.lines.contains(&"stopped: SIGINT (CTRL_C)".to_owned()), "{end:#?}");
    assert_eq!(end.lines[end.lines.len() - 2..], ["session closed", "goodbye"], "{end:#?}");

    let mut victim = Victim::start(windows_example("outcome"));
    victim.expect_prefix("running");
    victim.tell("");
    victim.end().exited(0);
}

fn serve_answers_what_is_in_flight() {
    let mut command = windows_example("serve");
    command.args(["--port", "0"]);
    let mut victim = Victim::start(command);
    let address = victim.expect_prefix("listening on http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /slow?ms=500 HTTP/1.1\r\nHost: it\r\n\r\n").unwrap();
    victim.send_event(ConsoleEvent::Close);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("This took 500 ms.\n"), "{answer}");
    victim.end().ended_with("served 1 requests").exited(0);
}

fn stages(site: &Path) -> Victim {
    let mut command = windows_example("stages");
    command.arg(site);
    Victim::start(command)
}

fn stages_undoes_what_was_done_or_leaves_the_release() {
    let site = Directory::new("stages");
    let mut victim = stages(&site.0);
    for _ in 0..3 {
        victim.expect_prefix("stage ");
        victim.tell("");
    }
    victim.expect_prefix("stage 4");
    victim.send_event(ConsoleEvent::CtrlBreak);
    victim.end().ended_with("undone: lock the site").exited(STATUS_CONTROL_C_EXIT);
    assert_eq!(site.names(), BTreeSet::new());

    fs::write(site.0.join("current"), "the release before").unwrap();
    let mut victim = stages(&site.0);
    for _ in 0..4 {
        victim.expect_prefix("stage ");
        victim.tell("");
    }
    victim.end().exited(0);
    let release = fs::read_to_string(site.0.join("current")).unwrap();
    assert_eq!(
        fs::read_to_string(Path::new(&release).join("index.html")).unwrap(),
        "Hello, again.\n"
    );
    assert_eq!(site.names().len(), 2);
}

fn library_cleans_up_before_the_program() {
    for (guarded, last) in [
        (false, "program: my own handler was called, goodbye"),
        (true, "program: could not render: interrupted"),
    ] {
        let mut command = windows_example("library");
        command.arg("1000000").args(guarded.then_some("guarded"));
        let mut victim = Victim::start(command);
        let scratch = victim.expect_prefix("library: rendering in ");
        victim.send_event(ConsoleEvent::CtrlC);
        let end = victim.end();
        assert_eq!(end.lines[1], "library: scratch files removed", "{end:#?}");
        end.ended_with(last).exited(0);
        assert!(!Path::new(&scratch).exists());
    }
}

fn the_others_say_that_they_are_for_unix() {
    let end = Victim::start(windows_example("daemon")).end();
    end.said(&[]).exited(0);
    assert!(end.stderr.contains("Unix"), "{end:#?}");
}

pub(crate) const TESTS: &[Named] = tests![
    outcome_ends_as_what_stopped_it,
    serve_answers_what_is_in_flight,
    stages_undoes_what_was_done_or_leaves_the_release,
    library_cleans_up_before_the_program,
    the_others_say_that_they_are_for_unix,
];
