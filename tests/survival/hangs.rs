//! What never comes: the lock of a stream that another thread holds, the return of a callback that hangs in a guard
//! which other code of a user's drops, the end of an exit within an exit. Every process here ends all the same.

#![allow(
    unsafe_code,
    reason = "calls functions of the C library that block, and makes a waker by hand"
)]

use std::ffi::{c_char, c_int, c_void};
use std::future::Future;
use std::pin::pin;
use std::process::Termination;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};
use std::task::{Context, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use crate::reported::fill;
use crate::support::*;
use handle_exit::{Ending, Exit, HandleExit, Signal};
use nix::libc;

/// Starts a thread that blocks in `function`, and waits until it does.
fn block_a_thread_in(function: impl FnOnce() + Send + 'static) {
    static THREAD: AtomicI32 = AtomicI32::new(0);
    std::thread::spawn(|| {
        // SAFETY: no arguments, cannot fail.
        THREAD.store(unsafe { libc::gettid() }, SeqCst);
        function();
        unreachable!("it does not block");
    });
    until("the thread blocks", || match THREAD.load(SeqCst) {
        0 => false,
        thread => sleeps(thread),
    });
}

// ------------------------------------------------------------- the C library's lock of standard input

unsafe extern "C" {
    static stdin: *mut c_void;
    fn getchar() -> c_int;
    fn fgets(line: *mut c_char, size: c_int, stream: *mut c_void) -> *mut c_char;
}

fn reads_stdin(reader: &str) {
    let mut line = [0; 80];
    // SAFETY: the line has room for as many bytes as is said; the stream is the C library's.
    unsafe {
        match reader {
            "getchar" => _ = getchar(),
            "fgets" => _ = fgets(line.as_mut_ptr(), 80, stdin),
            other => panic!("{other}"),
        }
    }
}

/// The process ends in the way that it is told, while a thread reads, or with something in a buffer.
fn a_thread_reads_stdin() {
    let told: String = told();
    let (reader, way) = told.split_once(' ').unwrap();
    let reads = reader.to_owned();
    if reads == "nobody" {
        // SAFETY: a string that ends in a zero.
        assert!(unsafe { libc::puts(c"buffered".as_ptr()) } >= 0);
    } else {
        block_a_thread_in(move || reads_stdin(&reads));
    }
    let builder = HandleExit::builder().cleanup();
    match way {
        "panics" => builder.install(|| panic!("on purpose")).unwrap().keep(),
        "code" => builder.ending(Ending::Code(7)).install(|| say("callback")).unwrap().keep(),
        "shell code" => {
            builder.ending(Ending::ShellCode).install(|| say("callback")).unwrap().keep();
        }
        "panics inside an exit" => {
            builder.install(|| panic!("on purpose")).unwrap().keep();
            say("exits");
            std::process::exit(3);
        }
        "exits inside an exit" => {
            let exits = || {
                say("callback");
                handle_exit::exit(4)
            };
            builder.install(exits).unwrap().keep();
            say("exits");
            std::process::exit(3);
        }
        "code beside an exit" => {
            static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
            static EXITS: AtomicBool = AtomicBool::new(false);
            extern "C" fn note_exit() {
                EXITS.store(true, SeqCst);
            }
            let callback = || {
                HAS_BEGUN.store(true, SeqCst);
                until("main exits", || EXITS.load(SeqCst));
            };
            builder.ending(Ending::Code(7)).install(callback).unwrap().keep();
            // Runs before the guard's own: last in, first out.
            at_exit(note_exit);
            say("ready");
            until("the callback has begun", || HAS_BEGUN.load(SeqCst));
            std::process::exit(3);
        }
        other => panic!("{other}"),
    }
    ready_for_ever();
}

fn a_stream_that_a_thread_reads_does_not_hold_up_the_end(ways: &[(&str, i32)]) {
    in_each(ways, |(way, code)| {
        for reader in ["getchar", "fgets"] {
            ends_as_told(a_thread_reads_stdin.told(format!("{reader} {way}"))).exited(code);
        }
    });
}

/// Sends TERM, where the scenario does not end by itself.
fn ends_as_told(scenario: impl Play) -> End {
    let mut victim = Victim::start(scenario);
    match victim.next_line().as_deref() {
        Some("ready") => victim.send(Signal::TERM),
        Some("exits") => {}
        other => panic!("{other:?}"),
    }
    victim.end()
}

fn a_callback_that_panics_ends_the_process_though_a_thread_reads_stdin() {
    let ways = [("panics", 101), ("panics inside an exit", 101)];
    a_stream_that_a_thread_reads_does_not_hold_up_the_end(&ways);
}

fn an_ending_with_a_code_ends_the_process_though_a_thread_reads_stdin() {
    let ways = [("code", 7), ("shell code", 128 + 15), ("code beside an exit", 7)];
    a_stream_that_a_thread_reads_does_not_hold_up_the_end(&ways);
}

fn an_exit_inside_an_exit_ends_the_process_though_a_thread_reads_stdin() {
    a_stream_that_a_thread_reads_does_not_hold_up_the_end(&[("exits inside an exit", 4)]);
}

/// The bound is for locks that never come free: what has been written before is not lost.
fn what_the_c_library_has_buffered_is_written_by_every_end_with_a_code() {
    let ways = [
        ("panics", 101),
        ("panics inside an exit", 101),
        ("code", 7),
        ("shell code", 128 + 15),
        ("code beside an exit", 7),
        ("exits inside an exit", 4),
    ];
    in_each(&ways, |(way, code)| {
        let end = ends_as_told(a_thread_reads_stdin.told(format!("nobody {way}")));
        assert_eq!(end.count("buffered"), 1, "{end:#?}");
        end.exited(code);
    });
}

// ---------------------------------------------------------------------- std's lock of standard output

/// Nothing that the victim says after this reaches the test.
fn a_thread_is_blocked_in_println() {
    let way: String = told();
    let builder = HandleExit::builder().grace(Duration::MAX);
    let builder = if way == "cleanup" { builder.cleanup() } else { builder };
    let guard = builder.install(|| {}).unwrap();
    say("ready");
    fill(libc::STDOUT_FILENO);
    block_a_thread_in(|| println!("into a full pipe"));
    raise(Signal::TERM);
    match &*way {
        "cleanup" => park(),
        "returned" => {
            let outcome = guard.finish();
            let code = outcome.report();
            unreachable!("{code:?}, though a signal came");
        }
        _ => guard.finish().end_process(),
    }
}

fn a_println_that_blocks_does_not_hold_up_the_end() {
    in_each(&["returned", "ends the process", "cleanup"], |way| {
        Victim::start(a_thread_is_blocked_in_println.told(way)).end().died_by(Signal::TERM);
    });
}

// ------------------------------------------------------ a guard that hangs is dropped by another's code

/// What drops the guard whose callback hangs, and on which thread.
fn drops_a_guard_that_hangs() {
    static HANGS: Mutex<Option<HandleExit>> = Mutex::new(None);
    let told: String = told();
    let (what, thread) = told.split_once(" on ").unwrap();
    // The older of the two: whatever ends the process comes to the other one first.
    let builder = HandleExit::builder().append(true).signals([Signal::USR1]);
    let builder = builder.callback_timeout(SOON_OVER);
    let hangs = builder.install(|| {
        say("callback hangs");
        park();
    });
    *HANGS.lock().unwrap() = Some(hangs.unwrap());
    let drops = || {
        say("drops");
        let hangs = HANGS.lock().unwrap().take();
        drop(hangs);
    };
    let builder = HandleExit::builder().append(true).grace(Duration::from_millis(20));
    let guard = if what == "callback" {
        builder.install(drops).unwrap()
    } else {
        let guard = builder.install(|| {}).unwrap();
        guard.defer(drops).unwrap();
        guard
    };
    if thread == "main" {
        drop(guard);
    } else {
        raise(Signal::TERM);
        park();
    }
}

fn a_callback_that_hangs_has_its_timeout_whoever_drops_its_guard() {
    let ways = [
        "callback on main",
        "callback on the watcher",
        "deferred function on main",
        "deferred function on the watcher",
    ];
    in_each(&ways, |way| {
        let end = Victim::start(drops_a_guard_that_hangs.told(way)).end();
        end.said(&["drops", "callback hangs"]).exited(101);
    });
}

// -------------------------------------------------------------------------------- run inside an exit

/// Runs a guard with closures that borrow; the callback exits with 5, on the thread and in the way that it is told.
fn run_a_guard() {
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    let told: String = told();
    let (_, way) = told.split_once(": ").unwrap();
    let callback = || {
        say("callback");
        HAS_BEGUN.store(true, SeqCst);
        match way {
            "process::exit on the watcher" => std::process::exit(5),
            _ => handle_exit::exit(5),
        }
    };
    let result = HandleExit::run(callback, |exit| {
        if way.ends_with("on the watcher") {
            exit.request();
            until("the callback has begun", || HAS_BEGUN.load(SeqCst));
        }
    });
    say(format!("behind: {result:?}"));
}

extern "C" fn runs_a_guard() {
    run_a_guard();
}

struct RunsAGuard;

impl Drop for RunsAGuard {
    fn drop(&mut self) {
        run_a_guard();
    }
}

thread_local!(static RUNS_A_GUARD: RunsAGuard = const { RunsAGuard });

fn runs_a_guard_inside_an_exit() {
    let told: String = told();
    match told.split_once(": ").unwrap().0 {
        "an exit function" => at_exit(runs_a_guard),
        "a thread-local" => RUNS_A_GUARD.with(|_| ()),
        other => panic!("{other}"),
    }
    std::process::exit(3);
}

fn a_guard_that_is_run_inside_an_exit_ends_it(place: &str) {
    const HERE: &str = "handle_exit::exit here";
    let ways = [HERE, "handle_exit::exit on the watcher", "process::exit on the watcher"];
    in_each(&ways, |way| {
        let end = Victim::start(runs_a_guard_inside_an_exit.told(format!("{place}: {way}"))).end();
        // `run` may return: its callback, in an exit of its own, never comes back to what it borrows.
        assert_eq!((end.lines[0].as_str(), end.count("callback")), ("callback", 1), "{end:#?}");
        // On the watcher it is the second of two exits, and nothing says which of the two codes holds.
        let codes: &[i32] = if way == HERE { &[5] } else { &[3, 5] };
        assert!(end.status.code().is_some_and(|code| codes.contains(&code)), "{end:#?}");
    });
}

fn a_guard_that_is_run_in_an_exit_function_and_exits_ends_the_process() {
    a_guard_that_is_run_inside_an_exit_ends_it("an exit function");
}

fn a_guard_that_is_run_by_a_thread_local_of_main_and_exits_ends_the_process() {
    a_guard_that_is_run_inside_an_exit_ends_it("a thread-local");
}

// ----------------------------------------------------------------------- a waker that uses the guard

static EXIT: OnceLock<Exit> = OnceLock::new();
static CLONES: AtomicUsize = AtomicUsize::new(0);
static WAKES: AtomicUsize = AtomicUsize::new(0);
static USES_THE_GUARD: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, use_the_guard);

fn clone(task: *const ()) -> RawWaker {
    CLONES.fetch_add(1, SeqCst);
    use_the_guard(task);
    RawWaker::new(task, &USES_THE_GUARD)
}

fn wake(task: *const ()) {
    WAKES.fetch_add(1, SeqCst);
    use_the_guard(task);
}

/// Everything that a handle offers and that needs a lock.
fn use_the_guard(_: *const ()) {
    let exit = EXIT.get().unwrap();
    drop(exit.readable_fd().unwrap());
    let _ = exit.cause();
    let _ = exit.wait_timeout(Duration::ZERO);
    let _ = exit.defer(|| {}).map(handle_exit::Deferred::cancel);
    let mut begun = pin!(exit.begun());
    let _ = begun.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

fn waker_uses_the_guard() {
    let guard = HandleExit::builder().grace(Duration::MAX).install(|| {}).unwrap();
    EXIT.set(guard.handle()).unwrap();
    // SAFETY: the functions of the table do not look at the task.
    let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &USES_THE_GUARD)) };
    let mut first = pin!(guard.begun());
    let mut second = Box::pin(guard.begun());
    for _ in 0..2 {
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    // Another waker takes the place of this one, which is dropped.
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(second);
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_ne!(CLONES.load(SeqCst), 0);
    say("polled");
    guard.request();
    until("it is woken", || WAKES.load(SeqCst) == 1);
    drop(guard);
    say("behind");
}

fn a_waker_whose_functions_use_the_guard_is_called_without_a_lock() {
    Victim::start(waker_uses_the_guard).end().said(&["polled", "behind"]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    a_callback_that_panics_ends_the_process_though_a_thread_reads_stdin,
    an_ending_with_a_code_ends_the_process_though_a_thread_reads_stdin,
    an_exit_inside_an_exit_ends_the_process_though_a_thread_reads_stdin,
    what_the_c_library_has_buffered_is_written_by_every_end_with_a_code,
    a_println_that_blocks_does_not_hold_up_the_end,
    a_callback_that_hangs_has_its_timeout_whoever_drops_its_guard,
    a_guard_that_is_run_in_an_exit_function_and_exits_ends_the_process,
    a_guard_that_is_run_by_a_thread_local_of_main_and_exits_ends_the_process,
    a_waker_whose_functions_use_the_guard_is_called_without_a_lock,
];
