//! The light examples, each as a new user starts it, signalled and judged by its ending.
//! (`serve` has a file of its own.)

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::TcpStream;
use std::path::Path;
use std::sync::LazyLock;

use crate::http::{Clients, connects, until_accepted};
use crate::support::*;
use handle_exit::Signal;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal as NixSignal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getsid};

const BOTH: [Signal; 2] = [Signal::TERM, Signal::INT];

/// The names in a directory.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// How a process ended that became this one's child when its parent left; `ECHILD` if its parent has
/// seen it end.
fn end_of_orphan(pid: i32) -> nix::Result<WaitStatus> {
    let end = Cell::new(Ok(WaitStatus::StillAlive));
    until("the orphan has ended", || {
        end.set(waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)));
        end.get() != Ok(WaitStatus::StillAlive)
    });
    end.get()
}

fn killed(pid: i32, signal: NixSignal) -> WaitStatus {
    WaitStatus::Signaled(Pid::from_raw(pid), signal, false)
}

// ------------------------------------------------------------------------------------- blocking

fn blocking() -> (Victim, u16) {
    let mut server = Victim::start(example("blocking", &[&0]));
    let port = server.expect_prefix("listening on http://127.0.0.1:").parse().unwrap();
    (server, port)
}

fn blocking_answers_the_requests_that_it_has_accepted() {
    for signal in BOTH {
        let (server, port) = blocking();
        let clients = Clients::in_flight(port, 16, 1000);
        until_accepted(&server, 16, &clients);
        server.send(signal);
        clients.are_answered();
        server.end().exited(0).ended_with("answered 16 requests");
        assert!(!connects(port));
    }
}

fn blocking_answers_the_requests_that_it_has_not_accepted_yet() {
    for signal in BOTH {
        let (server, port) = blocking();
        server.send(Signal::STOP);
        server.wait_stopped();
        let clients = Clients::in_flight(port, 16, 100);
        server.send(signal);
        server.send(Signal::CONT);
        clients.are_answered();
        server.end().exited(0).ended_with("answered 16 requests");
    }
}

fn blocking_ends_when_idle_and_beside_a_client_that_asks_nothing() {
    let (server, port) = blocking();
    let silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    server.send(Signal::TERM);
    server.end().exited(0).ended_with("answered 0 requests");
    drop(silent);
}

// --------------------------------------------------------------------------------------- stages

const STAGES: [&str; 4] =
    ["lock the site", "unpack the release", "put up the maintenance page", "switch over"];

/// What it says when it is stopped in this stage, counted from 1: the stages, and those before it
/// undone.
fn stopped_in(stage: usize) -> Vec<String> {
    let begun = (1..=stage).map(|n| format!("stage {n}: {} (Enter or ^C)", STAGES[n - 1]));
    let undone = (1..stage).rev().map(|n| format!("undone: {}", STAGES[n - 1]));
    begun.chain(undone).collect()
}

/// A site with a release, and the script, which has come to this stage.
fn stages_up_to(stage: usize, arguments: &[&dyn Display]) -> (tempfile::TempDir, Victim) {
    let site = tempfile::tempdir().unwrap();
    std::fs::write(site.path().join("current"), "release.0").unwrap();
    let path = site.path().display();
    let mut script =
        Victim::start(example("stages", &[&[&path as &dyn Display], arguments].concat()));
    for passed in STAGES.iter().enumerate().take(stage) {
        script.expect(&format!("stage {}: {} (Enter or ^C)", passed.0 + 1, passed.1));
        if passed.0 + 1 < stage {
            script.tell("");
        }
    }
    (site, script)
}

/// Nothing but what was there before.
#[track_caller]
fn is_as_before(site: &Path) {
    assert_eq!(names(site), BTreeSet::from(["current".to_owned()]));
    assert_eq!(std::fs::read_to_string(site.join("current")).unwrap(), "release.0");
}

fn stages_undoes_what_it_did_when_it_is_interrupted() {
    for signal in BOTH {
        for stage in 1..=4 {
            let (site, script) = stages_up_to(stage, &[]);
            script.send(signal);
            let end = script.end();
            assert_eq!(end.lines, stopped_in(stage), "{end:#?}");
            end.died_by(signal);
            is_as_before(site.path());
        }
    }
}

fn stages_undoes_what_it_did_when_a_stage_fails() {
    let (site, mut script) = stages_up_to(4, &[&"fail"]);
    script.tell("");
    let end = script.end();
    assert_eq!(end.lines, stopped_in(4), "{end:#?}");
    assert!(end.stderr.contains("the new release does not start"), "{end:#?}");
    end.exited(1);
    is_as_before(site.path());
}

fn stages_leaves_the_release_and_nothing_else_when_it_is_done() {
    let (site, mut script) = stages_up_to(4, &[]);
    let release = format!("release.{}", script.pid());
    script.tell("");
    let end = script.end();
    end.exited(0);
    let last = ["deployed", "undone: put up the maintenance page", "undone: lock the site"];
    assert_eq!(end.lines[4..], last, "{end:#?}");
    assert_eq!(names(site.path()), BTreeSet::from(["current".to_owned(), release]));
    let named = std::fs::read_to_string(site.path().join("current")).unwrap();
    assert_eq!(std::fs::read(Path::new(&named).join("index.html")).unwrap(), b"Hello, again.\n");
}

fn stages_leaves_a_lock_that_is_not_its_own() {
    let (site, mut script) = stages_up_to(1, &[]);
    std::fs::write(site.path().join("lock"), "").unwrap();
    script.tell("");
    let end = script.end();
    assert!(end.stderr.contains("/lock: File exists"), "{end:#?}");
    end.exited(1);
    assert!(site.path().join("lock").exists());
}

// -------------------------------------------------------------------------------------- library

const GOODBYE: &str = "program: my own handler was called, goodbye";

/// Starts the program, and says where the library has its scratch files.
fn library(arguments: &[&dyn Display]) -> (Victim, String) {
    // Of its own: one that was killed may have left its scratch files, and its process id comes again.
    static SCRATCH: LazyLock<tempfile::TempDir> =
        LazyLock::new(|| tempfile::TempDir::new().unwrap());
    let mut command = example("library", arguments);
    command.env("TMPDIR", SCRATCH.path());
    let mut program = Victim::start(command);
    let scratch = program.expect_prefix("library: rendering in ");
    (program, scratch)
}

/// The program ends well and leaves no scratch files; `lines` is what it says behind its first line.
fn library_ends(program: Victim, scratch: &str, lines: [&str; 3]) {
    let first = format!("library: rendering in {scratch}");
    program.end().exited(0).said(&[&[first.as_str()], &lines[..]].concat());
    assert!(!Path::new(scratch).exists());
}

const REMOVED: &str = "library: scratch files removed";
const RENDERED: &str = "program: rendered 1 pages";
const INTERRUPTED: &str = "program: could not render: interrupted";

fn library_cleans_up_and_then_the_program_handles_the_signal() {
    for signal in BOTH {
        let (program, scratch) = library(&[&1_000_000]);
        assert!(Path::new(&scratch).exists());
        program.send(signal);
        library_ends(program, &scratch, [REMOVED, INTERRUPTED, GOODBYE]);
    }
}

fn library_leaves_the_signals_to_the_program_when_it_is_done() {
    for signal in BOTH {
        let (mut program, scratch) = library(&[&1]);
        program.expect(RENDERED);
        assert!(!Path::new(&scratch).exists());
        program.send(signal);
        library_ends(program, &scratch, [REMOVED, RENDERED, GOODBYE]);
    }
}

fn library_adds_its_clean_up_to_the_guard_of_the_program() {
    const STOPPING: &str = "program: stopping";
    for signal in BOTH {
        let (mut program, scratch) = library(&[&1_000_000, &"guarded"]);
        assert!(Path::new(&scratch).exists());
        program.send(signal);
        // The library's callback is the newer one. What comes next is said by two threads.
        program.expect(REMOVED);
        program.expect_both(STOPPING, INTERRUPTED);
        program.end().exited(0);
        assert!(!Path::new(&scratch).exists());

        let (mut program, scratch) = library(&[&1, &"guarded"]);
        program.expect(RENDERED);
        assert!(!Path::new(&scratch).exists());
        program.send(signal);
        library_ends(program, &scratch, [REMOVED, RENDERED, STOPPING]);
    }
}

// --------------------------------------------------------------------------------------- daemon

fn daemon_removes_its_pid_file_and_dies_of_the_signal() {
    // Whoever starts a daemon is not its parent: that is the nearest process which takes orphans.
    set_child_subreaper(true).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("example.pid");
    for signal in BOTH {
        Victim::start(example("daemon", &[&file.display()])).end().exited(0).said(&[]);
        // The number is written when the guard is the daemon's own.
        let content = || std::fs::read_to_string(&file).unwrap();
        until("the pid file is written", || content().ends_with('\n'));
        let daemon: i32 = content().trim().parse().unwrap();
        assert_eq!(getsid(Some(Pid::from_raw(daemon))), Ok(Pid::from_raw(daemon)));

        let second = Victim::start(example("daemon", &[&file.display()])).end();
        assert!(second.stderr.contains("example.pid: File exists"), "{second:#?}");
        second.exited(1);
        assert_eq!(content(), format!("{daemon}\n"), "the second start must not touch it");

        kill(daemon, signal);
        let expected = NixSignal::try_from(signal.as_raw()).unwrap();
        assert_eq!(end_of_orphan(daemon), Ok(killed(daemon, expected)));
        assert!(!file.exists());
    }
}

// --------------------------------------------------------------------------------------- worker

/// The master, and the workers that are at a job.
fn at_work(job_ms: u32, terminal: Option<&Terminal>) -> (Victim, Vec<i32>) {
    let worker = example("worker", &[&job_ms]);
    let mut master = Victim::start(match terminal {
        Some(terminal) => terminal.control(worker),
        None => worker.start(),
    });
    let workers = (0..3).map(|_| next_at_a_job(&mut master)).collect();
    (master, workers)
}

/// The next worker that says it is at a job.
fn next_at_a_job(master: &mut Victim) -> i32 {
    loop {
        let line = master.next_line().expect("the master has ended");
        assert!(!line.ends_with("job done"), "all should be at their first job");
        let begun = line.strip_prefix("worker ").and_then(|rest| rest.strip_suffix(": at a job"));
        if let Some(worker) = begun {
            return worker.parse().unwrap();
        }
    }
}

/// Each worker finished its one job, the master waited for that, and nobody was started any more.
#[track_caller]
fn all_have_finished(end: &End, workers: &[i32]) {
    for worker in workers {
        for line in ["at a job", "job done", "finished"] {
            assert_eq!(end.count(&format!("worker {worker}: {line}")), 1, "{end:#?}");
        }
    }
    let begun = end.lines.iter().filter(|line| line.ends_with("at a job")).count();
    assert_eq!(begun, workers.len(), "{end:#?}");
    end.exited(0).ended_with("master: no worker is left");
}

fn worker_finishes_its_job_when_the_master_is_told() {
    for signal in BOTH {
        let (master, workers) = at_work(3000, None);
        master.send(signal);
        all_have_finished(&master.end(), &workers);
    }
}

fn worker_finishes_its_job_when_all_hear_of_ctrl_c() {
    let mut terminal = Terminal::open();
    let (master, workers) = at_work(3000, Some(&terminal));
    terminal.press_ctrl_c();
    all_have_finished(&master.end(), &workers);
}

fn worker_finishes_its_job_when_ctrl_c_comes_after_the_masters_signal() {
    let mut terminal = Terminal::open();
    let (master, workers) = at_work(3000, Some(&terminal));
    for worker in &workers {
        kill(*worker, Signal::TERM);
    }
    terminal.press_ctrl_c();
    all_have_finished(&master.end(), &workers);
}

fn worker_that_ends_is_replaced_and_the_others_go_on() {
    let (mut master, workers) = at_work(3000, None);
    kill(workers[0], Signal::KILL);
    master.expect(&format!(
        "master: a worker has ended: Signaled(Pid({}), SIGKILL, false)",
        workers[0]
    ));
    kill(workers[1], Signal::TERM);
    master.expect(&format!("master: a worker has ended: Exited(Pid({}), 0)", workers[1]));
    master.send(Signal::TERM);
    let end = master.end();
    assert_eq!(end.count(&format!("worker {}: finished", workers[0])), 0, "{end:#?}");
    for finished in &workers[1..] {
        assert_eq!(end.count(&format!("worker {finished}: finished")), 1, "{end:#?}");
    }
    end.exited(0).ended_with("master: no worker is left");
}

fn worker_that_does_not_finish_in_time_is_killed() {
    set_child_subreaper(true).unwrap();
    let (master, workers) = at_work(600_000, None);
    master.send(Signal::TERM);
    master.end().died_by(Signal::TERM);
    for worker in workers {
        let end = end_of_orphan(worker);
        let expected = [Ok(killed(worker, NixSignal::SIGKILL)), Err(Errno::ECHILD)];
        assert!(expected.contains(&end), "{end:?}");
    }
}

fn worker_ends_when_its_master_was_killed() {
    set_child_subreaper(true).unwrap();
    let (master, workers) = at_work(500, None);
    master.send(Signal::KILL);
    master.end().died_by(Signal::KILL);
    for worker in workers {
        assert_eq!(end_of_orphan(worker), Ok(WaitStatus::Exited(Pid::from_raw(worker), 0)));
    }
}

// --------------------------------------------------------------------------------------- outcome

fn outcome(arguments: &[&dyn Display]) -> Victim {
    let mut victim = Victim::start(example("outcome", arguments));
    victim.expect("running: press Enter or ^C");
    victim
}

/// The lines after the first two; the order of the second and the callback's is open.
fn last_lines(end: &End) -> &[String] {
    assert!(end.lines.iter().any(|line| line.starts_with("stopped: ")), "{end:#?}");
    assert_eq!(end.count("cleaning up"), 1, "{end:#?}");
    &end.lines[3..]
}

fn outcome_main_that_returns_an_outcome_dies_by_the_signal_after_its_destructors() {
    for signal in [Signal::TERM, Signal::INT] {
        let victim = outcome(&[]);
        victim.send(signal);
        let end = victim.end();
        // The last line has no end: it was in Rust's buffer and has been flushed.
        assert_eq!(last_lines(&end), ["session closed", "goodbye"], "{end:#?}");
        end.died_by(signal);
    }
}

fn outcome_main_that_returns_an_outcome_without_a_signal_ends_with_0() {
    let mut victim = outcome(&[]);
    victim.tell("");
    let end = victim.end();
    assert_eq!(last_lines(&end), ["session closed", "goodbye"], "{end:#?}");
    end.exited(0);
}

fn outcome_main_that_returns_an_outcome_after_a_panicked_callback_ends_with_101() {
    let mut victim = outcome(&[&"--fail"]);
    victim.tell("");
    let end = victim.end();
    end.exited(101);
    assert!(end.stderr.contains("as --fail asked"), "{end:#?}");

    let victim = outcome(&[&"--fail"]);
    victim.send(Signal::TERM);
    victim.end().exited(101);
}

pub(crate) const TESTS: &[Named] = tests![
    blocking_answers_the_requests_that_it_has_accepted,
    blocking_answers_the_requests_that_it_has_not_accepted_yet,
    blocking_ends_when_idle_and_beside_a_client_that_asks_nothing,
    stages_undoes_what_it_did_when_it_is_interrupted,
    stages_undoes_what_it_did_when_a_stage_fails,
    stages_leaves_the_release_and_nothing_else_when_it_is_done,
    stages_leaves_a_lock_that_is_not_its_own,
    library_cleans_up_and_then_the_program_handles_the_signal,
    library_leaves_the_signals_to_the_program_when_it_is_done,
    library_adds_its_clean_up_to_the_guard_of_the_program,
    daemon_removes_its_pid_file_and_dies_of_the_signal,
    worker_finishes_its_job_when_the_master_is_told,
    worker_finishes_its_job_when_all_hear_of_ctrl_c,
    worker_finishes_its_job_when_ctrl_c_comes_after_the_masters_signal,
    worker_that_ends_is_replaced_and_the_others_go_on,
    worker_that_does_not_finish_in_time_is_killed,
    worker_ends_when_its_master_was_killed,
    outcome_main_that_returns_an_outcome_dies_by_the_signal_after_its_destructors,
    outcome_main_that_returns_an_outcome_without_a_signal_ends_with_0,
    outcome_main_that_returns_an_outcome_after_a_panicked_callback_ends_with_101,
];
