//! The guard beside other owners of signal handlers, each in a process of its own. `docs/neighbours.md`
//! has the table that these tests walk.

#![allow(unsafe_code, reason = "handlers of other languages are the subject")]

use std::io::Write;
use std::os::fd::IntoRawFd;
use std::time::Duration;

use handle_exit::{Cause, Error, HandleExit, Ignored, Signal};
use nix::libc;

use crate::neighbour::{Neighbour, Object, cpython};
use crate::support::*;

/// Handler, flags and mask of every signal there is.
fn dispositions() -> Vec<(usize, i32, u64)> {
    let exist = (1..32).filter_map(Signal::from_raw);
    exist.map(disposition).collect()
}

fn thread_names() -> Vec<String> {
    let name = |task| std::fs::read_to_string(format!("/proc/self/task/{task}/comm"));
    // One that ended since it was listed has no name.
    threads().into_iter().filter_map(|task| Some(name(task).ok()?.trim().into())).collect()
}

fn start_the_neighbour() -> &'static Neighbour {
    let neighbour = Neighbour::named(&told::<String>());
    (neighbour.start)();
    neighbour
}

// ------------------------------------------------------------------------------------ scenarios

fn new_beside_it() {
    let neighbour = start_the_neighbour();
    let before = dispositions();
    let error = HandleExit::new(|| say("callback")).unwrap_err();
    assert_eq!(dispositions(), before);
    // Not the number of all: Go's runtime starts threads whenever it likes.
    assert_eq!(thread_names().iter().filter(|name| *name == "handle-exit").count(), 0);
    let Error::HandlerExists { signal, holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*signal, neighbour.signal);
    assert_eq!(holder.address(), disposition(*signal).0);
    say(format!("object {}", holder.object().unwrap().display()));
    say(format!("symbol {}", holder.symbol().unwrap_or("-")));
    say(format!("error {error}"));
    say("ready");
    hear();
}

/// A guard over it, and twice a chance to hear the signal: in the scope and behind it.
fn append_to_it() {
    start_the_neighbour();
    let before = dispositions();
    let guard = HandleExit::append(held_callback).unwrap();
    assert_ne!(dispositions(), before);
    say("ready");
    until_let_go();
    hear();
    drop(guard);
    assert_eq!(dispositions(), before);
    say("handed back");
    hear();
}

/// As `append_to_it`, and the scope ends without a signal.
fn append_and_no_signal() {
    start_the_neighbour();
    let before = dispositions();
    drop(HandleExit::append(|| say("callback")).unwrap());
    assert_eq!(dispositions(), before);
    say("handed back");
    hear();
}

/// signal-hook comes later, and keeps calling the guard's handler.
fn signal_hook_on_top() {
    let callback = || say("callback");
    let guard = HandleExit::builder().grace(Duration::MAX).install(callback).unwrap();
    (Neighbour::named("signal-hook, iterator").start)();
    let theirs = disposition(Signal::TERM);
    say("ready");
    hear();
    drop(guard);
    assert_eq!(disposition(Signal::TERM), theirs, "what is on top stays");
    say("ready");
    hear();

    assert!(matches!(HandleExit::new(callback), Err(Error::HandlerExists { .. })));
    let guard = HandleExit::append(callback).unwrap();
    say("ready");
    hear();
    drop(guard);
    assert_eq!(disposition(Signal::TERM), theirs);
    say("ready");
    hear();
}

fn gix_tempfile_that_dies() {
    crate::neighbour::gix_tempfile_in_its_default_mode();
    let _guard = HandleExit::append(held_callback).unwrap();
    ready_for_ever();
}

fn signal_hook_that_exits_with_66() {
    use std::sync::{Arc, atomic::AtomicBool};
    let always = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(libc::SIGTERM, 66, always).unwrap();
    let _guard = HandleExit::append(|| say("callback")).unwrap();
    ready_for_ever();
}

/// Python's main thread is inside a read(2) for as long as nothing is written.
fn python_inside_a_call() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // Open to the end of the process: Python goes on reading.
    cpython::start_reading(reader.into_raw_fd());
    let _guard = HandleExit::append(|| say("callback")).unwrap();
    say("ready");
    hear();
    say("the call is done");
    writer.write_all(b"x").unwrap();
    hear();
}

/// A write to a pipe that nobody reads.
fn write_to_nobody() -> std::io::ErrorKind {
    let (reader, mut writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.write_all(b"for nobody").unwrap_err().kind()
}

fn sigpipe_of_rust_is_kept_ignored() {
    assert_eq!(disposition(Signal::PIPE).0, libc::SIG_IGN);
    let before = dispositions();
    let callback = |cause: &Cause| say(cause);
    let guard = HandleExit::builder().signals([Signal::PIPE, Signal::TERM]);
    let guard = guard.install_with(callback).unwrap();
    assert_eq!(disposition(Signal::PIPE).0, libc::SIG_IGN);
    assert_eq!(write_to_nobody(), std::io::ErrorKind::BrokenPipe);
    assert!(!guard.is_exiting());
    drop(guard);
    assert_eq!(dispositions(), before);
}

fn sigpipe_of_rust_is_guarded_on_request() {
    let before = dispositions();
    let guard = HandleExit::builder().signals([Signal::PIPE]).ignored(Ignored::Guard);
    let guard = guard.install(|| say("callback")).unwrap();
    assert_eq!(write_to_nobody(), std::io::ErrorKind::BrokenPipe, "and the signal besides");
    match guard.wait() {
        Cause::Signal(received) => assert_eq!(received.signal(), Signal::PIPE),
        other => panic!("{other}"),
    }
    drop(guard);
    assert_eq!(dispositions(), before);
    assert_eq!(write_to_nobody(), std::io::ErrorKind::BrokenPipe);
}

// ---------------------------------------------------------------------------------------- tests

/// What a line says behind its prefix.
fn behind<'a>(end: &'a End, prefix: &str) -> &'a str {
    let mut lines = end.lines.iter();
    lines.find_map(|line| line.strip_prefix(prefix)).unwrap_or_else(|| panic!("{end:#?}"))
}

fn new_is_refused_and_names_the_holder(neighbour: &Neighbour) {
    let mut victim = Victim::ready(new_beside_it.told(neighbour.name));
    // It works as if nobody had asked.
    victim.send(neighbour.signal);
    victim.expect("neighbour");
    victim.tell("end");
    let end = victim.end();
    end.exited(0);
    assert_eq!(end.count("callback"), 0);

    let object = behind(&end, "object ");
    match neighbour.object {
        Object::Program => {
            assert_eq!(std::fs::canonicalize(object).unwrap(), std::env::current_exe().unwrap());
        }
        Object::Library(name) => {
            let file = object.rsplit('/').next().unwrap();
            assert!(file.starts_with(name), "{object} is not {name}");
        }
    }
    let symbol = behind(&end, "symbol ");
    assert_eq!(symbol, neighbour.symbol.unwrap_or("-"));
    let error = behind(&end, "error ");
    let begin = format!(
        "{} already has a handler: {} in {object} (+0x",
        neighbour.signal,
        neighbour.symbol.unwrap_or("a function"),
    );
    assert!(error.starts_with(&begin), "{error}\nis not\n{begin}");
    assert!(error.contains("Use HandleExit::append"), "{error}");
}

fn append_runs_the_callback_then_it_and_hands_back(neighbour: &Neighbour) {
    let mut victim = Victim::ready(append_to_it.told(neighbour.name));
    victim.send(neighbour.signal);
    victim.expect("callback begins");
    // Whoever wanted to speak before the callback is done has done so.
    victim.has_looked();
    victim.tell("go on");
    victim.expect("neighbour");
    victim.tell("end the scope");
    victim.expect("handed back");
    victim.send(neighbour.signal);
    victim.expect("neighbour");
    victim.tell("end");
    let order =
        ["ready", "callback begins", "callback ends", "neighbour", "handed back", "neighbour"];
    victim.end().exited(0).said(&order);
}

fn a_scope_that_meets_no_signal_leaves_it_alone(neighbour: &Neighbour) {
    let mut victim = Victim::start(append_and_no_signal.told(neighbour.name));
    victim.expect("handed back");
    victim.send(neighbour.signal);
    victim.expect("neighbour");
    victim.tell("end");
    victim.end().exited(0).said(&["callback", "handed back", "neighbour"]);
}

fn signal_hook_on_top_hears_the_signal_beside_the_guard_and_outlives_it() {
    let mut victim = Victim::ready(signal_hook_on_top);
    victim.send(Signal::TERM);
    // Its handler calls the guard's and then its own actions: two threads hear of it at once.
    victim.expect_both("callback", "neighbour");
    victim.tell("drop");

    // The guard's handler is still called, and passes straight through to a default that
    // signal-hook does not let act.
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.expect("neighbour");
    victim.tell("append");

    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.expect("callback");
    victim.expect("neighbour");
    victim.tell("drop");

    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.expect("neighbour");
    victim.tell("end");
    let end = victim.end();
    end.exited(0);
    assert_eq!((end.count("callback"), end.count("neighbour")), (2, 4), "{end:#?}");
}

fn gix_tempfile_in_its_default_mode_removes_its_file_and_dies_after_the_callback() {
    let mut victim = Victim::start(gix_tempfile_that_dies);
    let file = victim.expect_prefix("file ");
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    victim.at_rest();
    assert!(std::fs::exists(&file).unwrap(), "the callback has not ended");
    victim.tell("go on");
    victim.end().died_by(Signal::TERM).ended_with("callback ends");
    assert!(!std::fs::exists(&file).unwrap());
}

fn signal_hooks_conditional_shutdown_decides_the_exit_code_after_the_callback() {
    let victim = Victim::ready(signal_hook_that_exits_with_66);
    victim.send(Signal::TERM);
    victim.end().exited(66).ended_with("callback");
}

fn a_python_that_is_inside_a_call_hears_of_it_when_the_call_is_done() {
    if let Err(why) = cpython::library() {
        return println!("skipped: CPython: {why}");
    }
    let mut victim = Victim::ready(python_inside_a_call);
    // In its read by then.
    victim.at_rest();
    victim.send(Signal::INT);
    victim.expect("callback");
    victim.at_rest();
    victim.tell("finish the call");
    victim.expect("neighbour");
    victim.tell("end");
    victim.end().exited(0).said(&["ready", "callback", "the call is done", "neighbour"]);
}

/// The three rows of the table for one neighbour, or why it is not there.
fn beside(name: &str) {
    let neighbour = Neighbour::named(name);
    if let Err(why) = (neighbour.available)() {
        return println!("skipped: {name}: {why}");
    }
    new_is_refused_and_names_the_holder(neighbour);
    append_runs_the_callback_then_it_and_hands_back(neighbour);
    a_scope_that_meets_no_signal_leaves_it_alone(neighbour);
}

/// Each neighbour is a test of its own.
macro_rules! beside {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(fn $test() { beside($name) })*
        pub(crate) const BESIDE: &[Named] = tests![$($test),*];
    };
}

beside! {
    beside_ctrlc: "ctrlc",
    beside_signal_hook_flag: "signal-hook, flag",
    beside_signal_hook_iterator: "signal-hook, iterator",
    beside_tokio_signal: "tokio::signal",
    beside_async_signal: "async-signal",
    beside_gix_tempfile: "gix-tempfile",
    beside_signal_of_c: "C, signal()",
    beside_sigaction_of_c: "C, sigaction()",
    beside_signal_of_a_shared_library: "shared library, signal()",
    beside_sigaction_of_a_shared_library: "shared library, sigaction()",
    beside_cpython: "CPython",
    beside_go: "Go",
}

pub(crate) const TESTS: &[Named] = tests![
    signal_hook_on_top_hears_the_signal_beside_the_guard_and_outlives_it,
    gix_tempfile_in_its_default_mode_removes_its_file_and_dies_after_the_callback,
    signal_hooks_conditional_shutdown_decides_the_exit_code_after_the_callback,
    a_python_that_is_inside_a_call_hears_of_it_when_the_call_is_done;
    alone:
    sigpipe_of_rust_is_kept_ignored,
    sigpipe_of_rust_is_guarded_on_request,
];
