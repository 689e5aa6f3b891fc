//! Forks at any moment: a guard made in the child hears every signal, and a child that is forked by code
//! of the exit does not go on with its parent's exit.

#![allow(unsafe_code, reason = "fork and handlers that are interrupted are the test's subject")]

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{HandleExit, Signal};
use nix::libc;

/// Forks. In the child, `child` says what the child ends with.
fn forked(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child has one thread, which takes no lock that another one may have had.
    match unsafe { libc::fork() } {
        0 => {
            let code = child();
            // SAFETY: ends the child and nothing else.
            unsafe { libc::_exit(code) }
        }
        child => waited_for(child),
    }
}

/// Waits for a child and returns its wait status.
fn waited_for(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is valid for a write.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

/// How long a signal may take to be heard. One that is not heard by then is not heard at all.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

// --------------------------------------------------- scenarios: the handler is half through a signal

const PAGE: usize = 4096;
static SIGINFO: AtomicUsize = AtomicUsize::new(0);
static IS_HALF_DONE: AtomicBool = AtomicBool::new(false);
static MAY_GO_ON: AtomicBool = AtomicBool::new(false);

/// The handler wants to read the siginfo: lets it wait in that very place.
extern "C" fn on_fault(_: libc::c_int) {
    IS_HALF_DONE.store(true, SeqCst);
    while !MAY_GO_ON.load(SeqCst) {
        // SAFETY: async-signal-safe, and no memory is involved.
        unsafe { libc::poll(std::ptr::null_mut(), 0, 1) };
    }
    let page = SIGINFO.load(SeqCst) as *mut libc::c_void;
    // SAFETY: the page is this test's; nobody else reads it.
    unsafe { libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE) };
}

/// As a foreign handler does that was installed over the guard's: passes a signal on, with a siginfo
/// that takes its time to be read.
fn pass_on(signal: Signal) {
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    install(Signal::SEGV, on_fault);
    let (address, ..) = disposition(signal);
    // SAFETY: the handler that is installed takes three arguments. A page is large enough for a siginfo,
    // and a zeroed one is valid; so is a zeroed context.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_NONE, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        SIGINFO.store(page as usize, SeqCst);
        // As large as any context.
        let mut context = [0u128; 512];
        let handler = std::mem::transmute::<usize, Handler>(address);
        handler(signal.as_raw(), page.cast(), context.as_mut_ptr().cast());
    }
}

fn guard_for(signal: Signal) -> HandleExit {
    HandleExit::builder().signals([signal]).grace(Duration::MAX).install(|| {}).unwrap()
}

fn forks_while_a_handler_is_half_done() {
    let guard = guard_for(Signal::USR1);
    let passes = std::thread::spawn(|| pass_on(Signal::USR1));
    until("the handler is half done", || IS_HALF_DONE.load(SeqCst));
    let status = forked(|| {
        let guard = guard_for(Signal::USR1);
        raise(Signal::USR1);
        i32::from(guard.wait_timeout(HEARD_WITHIN).is_none())
    });
    say(format!("child ended with {status}"));
    MAY_GO_ON.store(true, SeqCst);
    passes.join().unwrap();
    drop(guard);
}

// ---------------------------------------------------------------------------- scenarios: a storm

const STORM: [Signal; 8] = [
    Signal::USR1,
    Signal::USR2,
    Signal::HUP,
    Signal::ALRM,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::PIPE,
];
static HEARD: AtomicU64 = AtomicU64::new(0);
static TARGET: AtomicI32 = AtomicI32::new(0);
static ROUND: AtomicUsize = AtomicUsize::new(0);

extern "C" fn old_handler_in_a_storm(raw: libc::c_int) {
    HEARD.fetch_or(1 << (raw - 1), SeqCst);
}

fn guard_in_a_storm() -> HandleExit {
    let guard = HandleExit::builder().signals(STORM).append(true).grace(Duration::MAX);
    guard.install(|| {}).unwrap()
}

/// Which of them a guard of this child's own does not hear.
fn is_deaf_to() -> u64 {
    let guard = guard_in_a_storm();
    HEARD.store(0, SeqCst);
    STORM.into_iter().for_each(raise);
    let all: u64 = STORM.into_iter().map(signal_bit).sum();
    let begun = Instant::now();
    while HEARD.load(SeqCst) != all && begun.elapsed() < HEARD_WITHIN {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::mem::forget(guard);
    all & !HEARD.load(SeqCst)
}

/// One thread sends a burst of signals to another, each time a little later in the fork of the third.
fn forks_in_a_storm() {
    for signal in STORM {
        install(signal, old_handler_in_a_storm);
    }
    std::thread::spawn(|| {
        // SAFETY: no arguments, cannot fail.
        TARGET.store(unsafe { libc::syscall(libc::SYS_gettid) as i32 }, SeqCst);
        loop {
            std::hint::spin_loop();
        }
    });
    until("the target runs", || TARGET.load(SeqCst) != 0);
    std::thread::spawn(|| {
        let (pid, target) = (std::process::id() as i32, TARGET.load(SeqCst));
        for round in 1.. {
            while ROUND.load(SeqCst) < round {
                std::hint::spin_loop();
            }
            let (begun, wait) = (Instant::now(), Duration::from_micros(round as u64 % 200));
            while begun.elapsed() < wait {}
            for signal in STORM {
                // SAFETY: a thread of this process, and a signal that has a handler.
                unsafe { libc::syscall(libc::SYS_tgkill, pid, target, signal.as_raw()) };
            }
        }
    });
    let is_deaf = |round: &usize| {
        let _guard = guard_in_a_storm();
        ROUND.store(*round, SeqCst);
        forked(|| i32::from(is_deaf_to() != 0)) != 0
    };
    say(format!("{} are deaf", (1..=told()).filter(is_deaf).count()));
    // The threads go on for ever.
    std::process::exit(0);
}

// ------------------------------------------------------------------- scenarios: code of the exit forks

/// Forks, as a callback does that starts a helper without `exec`. In the child it returns.
fn fork_and_return() {
    // SAFETY: what the child goes on with is what is tested.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: no memory is involved. If the child hangs, it ends with its parent.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        }
        child => {
            waited_for(child);
            say("child has ended");
        }
    }
}

extern "C" fn old_handler_that_forks(_: libc::c_int) {
    say_in_handler("old handler\n");
    fork_and_return();
}

extern "C" fn old_handler(_: libc::c_int) {
    say_in_handler("old handler\n");
}

/// What forks, and what ends the scope, is told.
fn code_of_the_exit_forks() {
    let told: String = told();
    let (what, end) = told.split_once(' ').unwrap();
    install(Signal::TERM, if what == "handler" { old_handler_that_forks } else { old_handler });
    let (by_callback, by_deferred) = (what == "callback", what == "deferred");
    let (ends, ended) = std::sync::mpsc::channel();
    let guard = HandleExit::append(move || {
        say("callback");
        if by_callback {
            fork_and_return();
        }
        let _ = ends.send(());
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred first")).unwrap();
    if by_deferred {
        guard.defer(fork_and_return).unwrap();
    }
    guard.defer(|| say("deferred last")).unwrap();
    if end == "signal" {
        say("ready");
        ended.recv().unwrap();
    }
    if end == "exit" {
        std::process::exit(0);
    }
    drop(guard);
}

static OLD_HANDLERS: AtomicUsize = AtomicUsize::new(0);
static BOTH_HAVE_RUN: AtomicI32 = AtomicI32::new(-1);

extern "C" fn first_old_handler_forks(_: libc::c_int) {
    if OLD_HANDLERS.fetch_add(1, SeqCst) == 0 {
        return old_handler_that_forks(0);
    }
    say_in_handler("second old handler\n");
    // SAFETY: one byte from a valid place.
    unsafe { libc::write(BOTH_HAVE_RUN.load(SeqCst), [0u8].as_ptr().cast(), 1) };
}

/// Two signals have come, and the old handler of the first forks.
fn first_of_two_old_handlers_forks() {
    install(Signal::TERM, first_old_handler_forks);
    install(Signal::INT, first_old_handler_forks);
    let (mut near, far) = UnixStream::pair().unwrap();
    BOTH_HAVE_RUN.store(far.as_raw_fd(), SeqCst);
    let _guard = HandleExit::append(held_callback).unwrap();
    say("ready");
    near.read_exact(&mut [0]).unwrap();
}

// ---------------------------------------------------------------------------------------- tests

fn a_child_forked_while_a_handler_is_half_done_hears() {
    Victim::start(forks_while_a_handler_is_half_done).end().said(&["child ended with 0"]).exited(0);
}

fn children_forked_in_a_storm_hear() {
    let forks = 500;
    let end = Victim::start(forks_in_a_storm.told(forks)).end();
    end.said(&["0 are deaf"]).exited(0);
}

fn a_child_does_not_go_on(what: &str, end: &str) {
    let told = format!("{what} {end}");
    let mut victim = Victim::start(code_of_the_exit_forks.told(&told));
    if end == "signal" {
        victim.expect("ready");
        victim.send(Signal::TERM);
    }
    let ended = victim.end();
    let mut expected = vec!["callback", "child has ended", "deferred first", "deferred last"];
    if end == "signal" {
        expected.extend(["old handler", "ready"]);
    }
    let mut lines = ended.lines.clone();
    lines.sort();
    assert_eq!(lines, expected, "{ended:#?}");
    ended.exited(0);
}

fn a_child_of_the_callback_on_a_signal_does_not_go_on() {
    a_child_does_not_go_on("callback", "signal");
}

fn a_child_of_the_callback_on_drop_does_not_go_on() {
    a_child_does_not_go_on("callback", "drop");
}

fn a_child_of_the_callback_in_exit_does_not_go_on() {
    a_child_does_not_go_on("callback", "exit");
}

fn a_child_of_a_deferred_function_on_a_signal_does_not_go_on() {
    a_child_does_not_go_on("deferred", "signal");
}

fn a_child_of_a_deferred_function_on_drop_does_not_go_on() {
    a_child_does_not_go_on("deferred", "drop");
}

fn a_child_of_a_deferred_function_in_exit_does_not_go_on() {
    a_child_does_not_go_on("deferred", "exit");
}

fn a_child_of_an_old_handler_does_not_go_on() {
    a_child_does_not_go_on("handler", "signal");
}

fn a_child_of_one_old_handler_does_not_run_the_next() {
    let mut victim = Victim::ready(first_of_two_old_handlers_forks);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    victim.send(Signal::INT);
    victim.at_rest();
    victim.tell("go on");
    let lines = ["ready", "callback begins", "callback ends", "old handler", "child has ended"];
    victim.end().said(&[&lines[..], &["second old handler"]].concat()).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    a_child_forked_while_a_handler_is_half_done_hears,
    children_forked_in_a_storm_hear,
    a_child_of_the_callback_on_a_signal_does_not_go_on,
    a_child_of_the_callback_on_drop_does_not_go_on,
    a_child_of_the_callback_in_exit_does_not_go_on,
    a_child_of_a_deferred_function_on_a_signal_does_not_go_on,
    a_child_of_a_deferred_function_on_drop_does_not_go_on,
    a_child_of_a_deferred_function_in_exit_does_not_go_on,
    a_child_of_an_old_handler_does_not_go_on,
    a_child_of_one_old_handler_does_not_run_the_next,
];
