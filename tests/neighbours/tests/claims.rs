//! What README.md and docs/neighbours.md say of ctrlc, signal-hook, tokio::signal and gix-tempfile,
//! checked on them: one test for each claim. If one of these fails, the neighbour has changed, and the
//! pages are to be changed as well.

#![allow(unsafe_code, reason = "fork, and handlers of the test's own")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use gix_tempfile::{AutoRemove, ContainingDirectory, signal::handler::Mode};
use handle_exit::{HandleExit, Signal};
use nix::libc::{self, c_int};
use signal_hook::SigId;
use signal_hook::iterator::Signals;
use tokio::signal::unix::SignalKind;

use crate::neighbour;
use crate::support::*;

// ------------------------------------------------------------------------------------- the peers

fn say_callback() {
    say("callback");
}

fn set_ctrlc() {
    // Nothing comes back that could undo it.
    let (): () = ctrlc::set_handler(say_callback).unwrap();
}

/// Says `callback` in the handler itself, so that it has been said when the signal has been delivered.
fn set_signal_hook() -> SigId {
    // SAFETY: the action only calls write(2).
    unsafe {
        signal_hook::low_level::register(libc::SIGTERM, || say_in_handler("callback\n")).unwrap()
    }
}

/// A runtime on the calling thread, and a stream of the signal.
fn set_tokio(signal: Signal) -> (tokio::runtime::Runtime, tokio::signal::unix::Signal) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let entered = runtime.enter();
    let stream = tokio::signal::unix::signal(SignalKind::from_raw(signal.as_raw())).unwrap();
    drop(entered);
    (runtime, stream)
}

type TempFile = gix_tempfile::Handle<gix_tempfile::handle::Closed>;

/// A temporary file in the mode that gix-tempfile has by default, whose path the test is told.
fn set_gix_tempfile() -> (TempFile, PathBuf) {
    gix_tempfile::signal::setup(Mode::default());
    let path = std::env::temp_dir().join(format!("handle-exit-claims-{}", std::process::id()));
    let (directory, remove) = (ContainingDirectory::Exists, AutoRemove::Tempfile);
    let file = gix_tempfile::mark_at(&path, directory, remove).unwrap();
    say(format!("file {}", path.display()));
    (file, path)
}

extern "C" fn old(_: c_int) {
    say_in_handler("old\n");
}

fn ignore(signal: Signal) {
    install_exactly(signal, libc::SIG_IGN, 0, &[]);
}

fn is_ignored(signal: Signal) -> bool {
    disposition(signal).0 == libc::SIG_IGN
}

fn is_default(signal: Signal) -> bool {
    disposition(signal).0 == libc::SIG_DFL
}

// --------------------------------------------------------- the old disposition is not put back

fn ctrlc_never_puts_the_old_disposition_back() {
    fn job() {
        set_ctrlc();
    }
    assert!(is_default(Signal::INT));
    job();
    assert!(!is_default(Signal::INT));
    assert!(ctrlc::set_handler(|| ()).is_err(), "and not even another callback can be set");
}

fn signal_hook_never_puts_the_old_disposition_back() {
    let action = set_signal_hook();
    let theirs = disposition(Signal::TERM);
    assert!(signal_hook::low_level::unregister(action));
    assert_eq!(disposition(Signal::TERM), theirs);
    // It would have killed before; now it does nothing.
    raise(Signal::TERM);

    // The same with the iterator.
    let signals = Signals::new([libc::SIGINT]).unwrap();
    signals.handle().close();
    drop(signals);
    raise(Signal::INT);
}

fn tokio_never_puts_the_old_disposition_back() {
    let (runtime, stream) = set_tokio(Signal::TERM);
    let theirs = disposition(Signal::TERM);
    drop(stream);
    drop(runtime);
    assert_eq!(disposition(Signal::TERM), theirs);
    raise(Signal::TERM);
}

fn gix_tempfile_never_puts_the_old_disposition_back() {
    let (file, path) = set_gix_tempfile();
    drop(file);
    assert!(!path.exists());
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        assert!(!is_default(signal), "{signal}");
    }
}

// ------------------------------------------------------------------------ a handler that was there

fn ctrlc_set_handler_overwrites_a_handler_that_was_there() {
    install(Signal::INT, old);
    set_ctrlc();
    say("ready");
    hear();
}

fn ctrlc_try_set_handler_is_an_error_where_a_handler_was_and_leaves_it() {
    install(Signal::INT, old);
    let before = disposition(Signal::INT);
    assert!(ctrlc::try_set_handler(say_callback).is_err());
    assert_eq!(disposition(Signal::INT), before);
}

fn signal_hook_runs_a_handler_that_was_there_first() {
    install(Signal::TERM, old);
    set_signal_hook();
    raise(Signal::TERM);
}

fn tokio_runs_a_handler_that_was_there() {
    install(Signal::TERM, old);
    let (runtime, mut stream) = set_tokio(Signal::TERM);
    raise(Signal::TERM);
    // It ran in the handler, and the task hears of the signal later.
    say("raised");
    runtime.block_on(stream.recv()).unwrap();
    say_callback();
}

fn gix_tempfile_runs_a_handler_that_was_there_first() {
    install(Signal::TERM, old);
    let _file = set_gix_tempfile();
    ready_for_ever();
}

// -------------------------------------------------------------------------------- an ignored signal

fn ctrlc_try_set_handler_is_an_error_where_the_signal_was_ignored() {
    ignore(Signal::INT);
    assert!(ctrlc::try_set_handler(say_callback).is_err());
    assert!(is_ignored(Signal::INT));
}

fn ctrlc_set_handler_overrides_an_ignored_signal() {
    ignore(Signal::INT);
    set_ctrlc();
    assert!(!is_ignored(Signal::INT));
}

fn signal_hook_overrides_an_ignored_signal() {
    ignore(Signal::TERM);
    set_signal_hook();
    assert!(!is_ignored(Signal::TERM));
}

fn tokio_overrides_an_ignored_signal() {
    ignore(Signal::HUP);
    let _set = set_tokio(Signal::HUP);
    assert!(!is_ignored(Signal::HUP));
}

fn gix_tempfile_overrides_an_ignored_signal() {
    ignore(Signal::INT);
    let _file = set_gix_tempfile();
    assert!(!is_ignored(Signal::INT));
}

fn the_guard_keeps_an_ignored_signal_ignored() {
    ignore(Signal::INT);
    let _guard = HandleExit::new(|| ()).unwrap();
    assert!(is_ignored(Signal::INT));
}

// ---------------------------------------------------------------- ends that are not by a signal

/// Ends the scope of `peer` in the way that the test tells.
fn ends_as_told<T>(peer: impl FnOnce() -> T) {
    let _peer = peer();
    match told::<String>().as_str() {
        "the end of the scope" => {}
        "a panic" => panic!("as told"),
        "process::exit" => std::process::exit(0),
        other => panic!("no end {other}"),
    }
}

const ENDS: [&str; 3] = ["the end of the scope", "a panic", "process::exit"];

fn ctrlc_ends() {
    ends_as_told(set_ctrlc);
}

fn signal_hook_ends() {
    ends_as_told(set_signal_hook);
}

fn tokio_ends() {
    ends_as_told(|| {
        let (runtime, mut stream) = set_tokio(Signal::TERM);
        runtime.spawn(async move {
            stream.recv().await;
            say_callback();
        });
        runtime
    });
}

fn gix_tempfile_ends() {
    ends_as_told(set_gix_tempfile);
}

fn the_guard_ends() {
    ends_as_told(|| HandleExit::new(say_callback).unwrap());
}

// -------------------------------------------------------------------------------- after the signal

fn ctrlc_callback_that_panics() {
    ctrlc::set_handler(|| {
        say_callback();
        panic!("in the callback");
    })
    .unwrap();
    say("ready");
    assert_eq!(hear(), "are you there?");
    say("still here");
}

fn guard_whose_callback_panics() {
    let _guard = HandleExit::new(|| panic!("in the callback")).unwrap();
    ready_for_ever();
}

fn signal_hook_emulates_the_default() {
    let emulate = || {
        let _ = signal_hook::low_level::emulate_default_handler(libc::SIGTERM);
    };
    // SAFETY: signal-hook calls it async-signal-safe.
    unsafe { signal_hook::low_level::register(libc::SIGTERM, emulate) }.unwrap();
    ready_for_ever();
}

fn gix_tempfile_waits() {
    let _file = set_gix_tempfile();
    ready_for_ever();
}

fn ctrlc_waits() {
    set_ctrlc();
    ready_for_ever();
}

fn tokio_makes_one_of_the_signals_that_nobody_polled_for() {
    let (runtime, mut stream) = set_tokio(Signal::TERM);
    for _ in 0..3 {
        raise(Signal::TERM);
    }
    runtime.block_on(async {
        stream.recv().await.unwrap();
        // Only to see that nothing comes: whatever was sent is there already.
        let more = tokio::time::timeout(Duration::from_millis(100), stream.recv()).await;
        assert!(more.is_err(), "a second one");
    });
}

// ------------------------------------------------------------------------------------------ threads

fn ctrlc_has_one_thread_for_ever() {
    let before = threads().len();
    set_ctrlc();
    assert_eq!(threads().len(), before + 1);
}

fn the_others_have_no_thread_of_their_own() {
    let before = threads();
    set_signal_hook();
    assert_eq!(threads(), before, "signal-hook");
    let _runtime = set_tokio(Signal::TERM);
    assert_eq!(threads(), before, "tokio, on a runtime of one thread");
    let _file = set_gix_tempfile();
    assert_eq!(threads(), before, "gix-tempfile");
}

fn the_guard_has_one_thread_and_joins_it() {
    let before = threads();
    let guard = HandleExit::new(|| ()).unwrap();
    assert_eq!(threads().len(), before.len() + 1);
    drop(guard);
    assert_eq!(threads(), before);
}

// ------------------------------------------------------------------------------------- SA_ONSTACK

fn has_alternate_stack(signal: Signal) -> bool {
    disposition(signal).1 & libc::SA_ONSTACK != 0
}

fn ctrlc_and_signal_hook_do_not_ask_for_the_alternate_stack() {
    set_ctrlc();
    set_signal_hook();
    for signal in [Signal::INT, Signal::TERM] {
        assert!(!is_default(signal) && !has_alternate_stack(signal), "{signal}");
    }
}

fn tokio_and_gix_tempfile_do_not_ask_for_the_alternate_stack() {
    let _runtime = set_tokio(Signal::HUP);
    let _file = set_gix_tempfile();
    for signal in [Signal::HUP, Signal::TERM] {
        assert!(!is_default(signal) && !has_alternate_stack(signal), "{signal}");
    }
}

fn the_guard_asks_for_the_alternate_stack_where_the_old_handler_does() {
    let guard = HandleExit::new(|| ()).unwrap();
    assert!(!is_default(Signal::TERM) && !has_alternate_stack(Signal::TERM));
    drop(guard);
    install_exactly(Signal::TERM, old as *const () as usize, libc::SA_ONSTACK, &[]);
    let _guard = HandleExit::append(|| ()).unwrap();
    assert!(has_alternate_stack(Signal::TERM) && !has_alternate_stack(Signal::INT));
}

/// Goroutines run on stacks of 2 KiB at first, less than the kernel's part of a signal takes.
fn the_guard_asks_for_the_alternate_stack_where_go_is() {
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    if let Err(why) = neighbour::go_library() {
        return say(format!("skipped: Go: {why}"));
    }
    neighbour::go_spin();
    let all = threads();
    let builder = HandleExit::builder().on(Signal::USR1, |_| {
        HEARD.fetch_add(1, SeqCst);
    });
    // A scope that ends hands what it has not heard to the default.
    builder.install(|| ()).unwrap().keep();
    // Go has no handler of its own for these.
    for signal in [Signal::TERM, Signal::INT, Signal::USR1] {
        assert!(has_alternate_stack(signal), "{signal}");
    }
    for thread in all.iter().cycle().take(200 * all.len()) {
        // SAFETY: tgkill(2); a thread that has ended is refused.
        unsafe {
            libc::syscall(libc::SYS_tgkill, libc::getpid(), *thread, Signal::USR1.as_raw());
        }
    }
    until("a signal is heard", || HEARD.load(SeqCst) > 0);
    // They would meet the default.
    let is_due = |thread: &i32| is_pending(*thread, "SigPnd", Signal::USR1) == Some(true);
    until("no thread has one pending", || !all.iter().any(is_due));
}

// -------------------------------------------------------------------------------------------- forks

/// Forks; the child runs `child` and ends with 0 without any exit function.
fn fork(child: impl FnOnce()) -> i32 {
    // SAFETY: the children of these tests do little, and their parents have no lock held.
    match unsafe { libc::fork() } {
        0 => {
            child();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
        pid => pid,
    }
}

/// The wait status of a child.
fn wait_for(pid: i32) -> c_int {
    let mut status = 0;
    // SAFETY: a child of this process; `status` is valid for a write.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

fn ctrlc_in_a_forked_child_swallows_the_signal() {
    set_ctrlc();
    for signal in [Signal::INT, Signal::TERM] {
        assert_eq!(wait_for(fork(|| raise(signal))), 0, "the child lived on");
    }
}

fn signal_hook_in_a_forked_child_swallows_the_signal_and_its_pipe_tells_the_parent() {
    let (reader, writer) = std::io::pipe().unwrap();
    signal_hook::low_level::pipe::register(libc::SIGTERM, writer).unwrap();
    assert_eq!(wait_for(fork(|| raise(Signal::TERM))), 0, "the child lived on");
    let mut byte = [0];
    std::io::Read::read_exact(&mut &reader, &mut byte).unwrap();
}

fn tokio_in_a_forked_child_swallows_the_signal_and_nobody_hears_it() {
    let (runtime, mut term) = set_tokio(Signal::TERM);
    assert_eq!(wait_for(fork(|| raise(Signal::TERM))), 0, "the child lived on");
    runtime.block_on(async {
        // Only to see that nothing comes: the child has ended.
        let heard = tokio::time::timeout(Duration::from_millis(100), term.recv()).await;
        assert!(heard.is_err(), "the parent");
    });
}

fn the_guard_in_a_forked_child_lets_it_die_and_tells_nobody() {
    let guard = HandleExit::new(say_callback).unwrap();
    let status = wait_for(fork(|| raise(Signal::TERM)));
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM, "{status:#x}");
    assert!(!guard.is_exiting());
}

fn gix_tempfile_in_a_forked_child_dies_of_the_signal_and_leaves_the_parents_file() {
    let (_file, path) = set_gix_tempfile();
    let status = wait_for(fork(|| raise(Signal::TERM)));
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM, "{status:#x}");
    assert!(path.exists());
}

fn gix_tempfile_dropped_in_a_forked_child_deletes_the_parents_file() {
    let (file, path) = set_gix_tempfile();
    wait_for(fork(|| drop(file)));
    assert!(!path.exists());
}

// ---------------------------------------------------------------------------------------- tests

/// Runs a scenario that ends in each of the ways, and says how often it said `callback`.
fn callbacks_at_each_end(scenario: impl Play + Copy) -> [usize; 3] {
    ENDS.map(|end| {
        let victim = Victim::start(scenario.told(end)).end();
        victim.exited(if end == "a panic" { 101 } else { 0 });
        victim.count("callback")
    })
}

fn ctrlc_runs_no_callback_at_the_end_of_the_scope_on_panic_or_on_exit() {
    assert_eq!(callbacks_at_each_end(ctrlc_ends), [0; 3]);
}

fn signal_hook_runs_no_action_at_the_end_of_the_scope_on_panic_or_on_exit() {
    assert_eq!(callbacks_at_each_end(signal_hook_ends), [0; 3]);
}

fn tokio_runs_no_task_at_the_end_of_the_scope_on_panic_or_on_exit() {
    assert_eq!(callbacks_at_each_end(tokio_ends), [0; 3]);
}

fn the_guard_runs_its_callback_at_the_end_of_the_scope_on_panic_and_on_exit() {
    assert_eq!(callbacks_at_each_end(the_guard_ends), [1; 3]);
}

fn gix_tempfile_removes_its_file_at_the_end_of_the_scope_and_on_panic_but_not_on_exit() {
    let is_left = ENDS.map(|end| {
        let mut victim = Victim::start(gix_tempfile_ends.told(end));
        let file = victim.expect_prefix("file ");
        victim.end().exited(if end == "a panic" { 101 } else { 0 });
        let is_left = std::fs::exists(&file).unwrap();
        if is_left {
            std::fs::remove_file(&file).unwrap();
        }
        is_left
    });
    assert_eq!(is_left, [false, false, true]);
}

fn ctrlc_set_handler_overwrites_a_handler() {
    let mut victim = Victim::ready(ctrlc_set_handler_overwrites_a_handler_that_was_there);
    victim.send(Signal::INT);
    victim.expect("callback");
    victim.tell("end");
    victim.end().exited(0).said(&["ready", "callback"]);
}

fn signal_hook_runs_the_old_handler_first() {
    let victim = Victim::start(signal_hook_runs_a_handler_that_was_there_first);
    victim.end().exited(0).said(&["old", "callback"]);
}

fn tokio_runs_the_old_handler_first() {
    let victim = Victim::start(tokio_runs_a_handler_that_was_there);
    victim.end().exited(0).said(&["old", "raised", "callback"]);
}

fn gix_tempfile_runs_the_old_handler_first() {
    let mut victim = Victim::start(gix_tempfile_runs_a_handler_that_was_there_first);
    let file = victim.expect_prefix("file ");
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.end().died_by(Signal::TERM).ended_with("old");
    assert!(!std::fs::exists(file).unwrap());
}

fn a_panic_in_ctrlcs_callback_swallows_every_later_signal() {
    let mut victim = Victim::ready(ctrlc_callback_that_panics);
    victim.send(Signal::INT);
    victim.expect("callback");
    let has_its_thread = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks.filter_map(|task| name(task).ok()).any(|name| name.trim() == "ctrl-c")
    };
    until("ctrlc's thread has ended", || !has_its_thread());
    victim.send(Signal::INT);
    victim.at_rest();
    victim.tell("are you there?");
    victim.end().exited(0).said(&["ready", "callback", "still here"]);
}

fn a_panic_in_the_guards_callback_ends_the_process_with_101() {
    let victim = Victim::ready(guard_whose_callback_panics);
    victim.send(Signal::INT);
    victim.end().exited(101);
}

fn ctrlc_lets_the_process_live_and_runs_its_callback_for_a_second_signal() {
    let mut victim = Victim::ready(ctrlc_waits);
    for _ in 0..2 {
        victim.send(Signal::INT);
        victim.expect("callback");
    }
}

fn signal_hooks_emulation_of_the_default_is_a_true_death_by_the_signal() {
    let victim = Victim::ready(signal_hook_emulates_the_default);
    victim.send(Signal::TERM);
    victim.end().died_by(Signal::TERM);
}

fn gix_tempfile_dies_of_the_first_signal() {
    let mut victim = Victim::start(gix_tempfile_waits);
    let file = victim.expect_prefix("file ");
    victim.expect("ready");
    victim.send(Signal::INT);
    victim.end().died_by(Signal::INT);
    assert!(!std::fs::exists(file).unwrap());
}

pub(crate) const TESTS: &[Named] = tests![
    ctrlc_runs_no_callback_at_the_end_of_the_scope_on_panic_or_on_exit,
    signal_hook_runs_no_action_at_the_end_of_the_scope_on_panic_or_on_exit,
    tokio_runs_no_task_at_the_end_of_the_scope_on_panic_or_on_exit,
    gix_tempfile_removes_its_file_at_the_end_of_the_scope_and_on_panic_but_not_on_exit,
    the_guard_runs_its_callback_at_the_end_of_the_scope_on_panic_and_on_exit,
    ctrlc_set_handler_overwrites_a_handler,
    signal_hook_runs_the_old_handler_first,
    tokio_runs_the_old_handler_first,
    gix_tempfile_runs_the_old_handler_first,
    a_panic_in_ctrlcs_callback_swallows_every_later_signal,
    a_panic_in_the_guards_callback_ends_the_process_with_101,
    ctrlc_lets_the_process_live_and_runs_its_callback_for_a_second_signal,
    signal_hooks_emulation_of_the_default_is_a_true_death_by_the_signal,
    gix_tempfile_dies_of_the_first_signal;
    alone:
    ctrlc_never_puts_the_old_disposition_back,
    signal_hook_never_puts_the_old_disposition_back,
    tokio_never_puts_the_old_disposition_back,
    gix_tempfile_never_puts_the_old_disposition_back,
    ctrlc_try_set_handler_is_an_error_where_a_handler_was_and_leaves_it,
    ctrlc_try_set_handler_is_an_error_where_the_signal_was_ignored,
    ctrlc_set_handler_overrides_an_ignored_signal,
    signal_hook_overrides_an_ignored_signal,
    tokio_overrides_an_ignored_signal,
    gix_tempfile_overrides_an_ignored_signal,
    the_guard_keeps_an_ignored_signal_ignored,
    tokio_makes_one_of_the_signals_that_nobody_polled_for,
    ctrlc_has_one_thread_for_ever,
    the_others_have_no_thread_of_their_own,
    the_guard_has_one_thread_and_joins_it,
    ctrlc_and_signal_hook_do_not_ask_for_the_alternate_stack,
    tokio_and_gix_tempfile_do_not_ask_for_the_alternate_stack,
    the_guard_asks_for_the_alternate_stack_where_the_old_handler_does,
    the_guard_asks_for_the_alternate_stack_where_go_is,
    ctrlc_in_a_forked_child_swallows_the_signal,
    signal_hook_in_a_forked_child_swallows_the_signal_and_its_pipe_tells_the_parent,
    tokio_in_a_forked_child_swallows_the_signal_and_nobody_hears_it,
    the_guard_in_a_forked_child_lets_it_die_and_tells_nobody,
    gix_tempfile_in_a_forked_child_dies_of_the_signal_and_leaves_the_parents_file,
    gix_tempfile_dropped_in_a_forked_child_deletes_the_parents_file,
];
