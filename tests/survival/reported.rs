//! Public reports, replayed: a program that reads its signals from a descriptor, a log pipe that is full and that
//! nobody reads, a deferred function that blocks, and `poll` beside a signal.

#![allow(unsafe_code, reason = "the program itself makes system calls")]

use std::future::Future;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{Builder, HandleExit, Received, Repeat, Signal};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal as NixSignal;

// ------------------------------------------------- a program that reads a descriptor, and a library's guard

/// Waits until the descriptor is readable.
fn until_readable(descriptor: &OwnedFd) {
    let mut polled = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut polled, PollTimeout::NONE), Ok(1));
}

/// Reads one signal from a signalfd, or says that there is none to be read.
fn read_signal(descriptor: &OwnedFd) -> Option<u32> {
    // SAFETY: a zeroed siginfo is valid, and as large as what is read.
    let (read, came) = unsafe {
        let mut came = std::mem::zeroed::<libc::signalfd_siginfo>();
        let size = size_of_val(&came);
        (libc::read(descriptor.as_raw_fd(), (&raw mut came).cast(), size), came)
    };
    if read == -1 {
        assert_eq!(Errno::last(), Errno::EAGAIN);
        return None;
    }
    assert_eq!(usize::try_from(read), Ok(size_of_val(&came)));
    Some(came.ssi_signo)
}

/// TERM is blocked in every thread before the library is there, and the program takes it in the way that the
/// scenario is told.
fn takes_term_from_a_descriptor() {
    let way: String = told();
    block(Signal::TERM);
    let term = SigSet::from(NixSignal::SIGTERM);
    let flags = if way == "read" { 0 } else { libc::SFD_NONBLOCK };
    // SAFETY: a valid set; the descriptor is this function's own.
    let descriptor = unsafe {
        OwnedFd::from_raw_fd(libc::signalfd(-1, std::ptr::from_ref(term.as_ref()), flags))
    };
    let library = HandleExit::append(|| say("library cleans up")).unwrap();
    say("ready");
    for _ in 0..3 {
        let came = match &*way {
            "read" => read_signal(&descriptor).unwrap(),
            "sigwait" => term.wait().unwrap() as u32,
            "poll" => {
                until_readable(&descriptor);
                read_signal(&descriptor).expect("what poll told of")
            }
            // It looks between two pieces of work, and never sleeps.
            "busy" => loop {
                if let Some(came) = read_signal(&descriptor) {
                    break came;
                }
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(1) {}
            },
            other => panic!("{other}"),
        };
        say(format!("program takes {came}"));
    }
    assert!(!library.is_exiting());
    drop(library);
    say("behind");
}

/// A guest takes nothing from a program that blocks the signal in every thread: that program was there.
fn a_library_takes_no_signal_from_a_program_that(takes_it_by: &str) {
    let mut victim = Victim::ready(takes_term_from_a_descriptor.told(takes_it_by));
    for _ in 0..3 {
        victim.send(Signal::TERM);
        victim.expect("program takes 15");
        // The time is under test: three in six seconds, so that each comes to a program and a watcher which have
        // been at rest for a while.
        sleep(Duration::from_secs(2));
    }
    let taken = "program takes 15";
    let lines = ["ready", taken, taken, taken, "library cleans up", "behind"];
    victim.end().said(&lines).exited(0);
}

fn a_library_takes_no_signal_from_a_program_that_polls_a_signalfd() {
    a_library_takes_no_signal_from_a_program_that("poll");
}

fn a_library_takes_no_signal_from_a_program_that_reads_a_signalfd() {
    a_library_takes_no_signal_from_a_program_that("read");
}

fn a_library_takes_no_signal_from_a_busy_program_with_a_signalfd() {
    a_library_takes_no_signal_from_a_program_that("busy");
}

fn a_library_takes_no_signal_from_a_program_that_waits_with_sigwait() {
    a_library_takes_no_signal_from_a_program_that("sigwait");
}

// ----------------------------------------------------------- user code that blocks, and what is to end it

/// Long enough for a test to have the scope end before it is over.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is to end a process whose user code blocks, and what the scope does meanwhile.
fn settings() -> (Builder, String) {
    let told: String = told();
    let (limit, scope) = told.split_once(' ').unwrap();
    let grace = if scope == "never ends" { Duration::from_millis(20) } else { Duration::MAX };
    let builder = HandleExit::builder().grace(grace);
    let builder = match limit {
        "timeout" => builder.callback_timeout(TIMEOUT),
        "force" => builder.repeat(Repeat::Force),
        "both" => builder.callback_timeout(TIMEOUT).repeat(Repeat::Force),
        other => panic!("{other}"),
    };
    (builder, scope.to_owned())
}

/// The scope ends when the test says so, or never.
fn goes_on(guard: HandleExit, scope: &str) {
    say("ready");
    if scope == "never ends" {
        park();
    }
    hear();
    say("scope ends");
    drop(guard);
    say("behind");
}

/// Puts a pipe that is full, and that nobody reads, in the place of standard output or standard error.
pub(crate) fn fill(descriptor: i32) {
    // SAFETY: the array has room for two descriptors, which stay open; the buffer is as long as is said.
    unsafe {
        let mut ends = [0; 2];
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK), 0);
        let page = [b'x'; 4096];
        while libc::write(ends[1], page.as_ptr().cast(), page.len()) > 0 {}
        assert_eq!(Errno::last(), Errno::EAGAIN);
        assert_eq!(libc::fcntl(ends[1], libc::F_SETFL, 0), 0);
        assert_eq!(libc::dup2(ends[1], descriptor), descriptor);
    }
}

fn observer_writes_to_a_full_pipe() {
    let (builder, scope) = settings();
    fill(libc::STDERR_FILENO);
    let guard = builder.observe(|event| eprintln!("{event}")).install(|| say("callback"));
    let guard = guard.unwrap();
    guard.defer(|| say("deferred")).unwrap();
    goes_on(guard, &scope);
}

fn deferred_function_blocks() {
    let (builder, scope) = settings();
    let guard = builder.install(|| say("callback")).unwrap();
    guard
        .defer(|| {
            say("deferred function blocks");
            park();
        })
        .unwrap();
    goes_on(guard, &scope);
}

/// A waker that never returns, of a task that waits for the exit.
fn waker_blocks() {
    struct Blocks;
    impl Wake for Blocks {
        fn wake(self: Arc<Self>) {
            say("waker blocks");
            park();
        }
    }
    let (builder, scope) = settings();
    let guard = builder.install(|| say("callback")).unwrap();
    let mut begun = pin!(guard.begun());
    let waker = Waker::from(Arc::new(Blocks));
    assert!(begun.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    goes_on(guard, &scope);
}

/// The scope has the lock of standard output, which the callback wants.
fn callback_wants_a_lock_of_the_scope() {
    let (builder, _) = settings();
    let guard = builder.install(|| say("never")).unwrap();
    say("ready");
    let mut stdout = std::io::stdout().lock();
    raise(Signal::TERM);
    guard.wait();
    writeln!(stdout, "scope has the lock").unwrap();
    park();
}

/// A guard whose function for HUP is running, and never returns.
fn guard_whose_function_blocks(builder: Builder) -> HandleExit {
    static BLOCKS: AtomicBool = AtomicBool::new(false);
    let blocks = |_: &Received| {
        BLOCKS.store(true, SeqCst);
        park();
    };
    let guard = builder.on(Signal::HUP, blocks).install(|| say("callback")).unwrap();
    raise(Signal::HUP);
    // A signal that begins an exit goes before one that is only heard.
    until("the function blocks", || BLOCKS.load(SeqCst));
    guard
}

fn function_blocks() {
    let (builder, scope) = settings();
    goes_on(guard_whose_function_blocks(builder), &scope);
}

/// TERM comes while the scope ends: it is for the restored disposition.
fn signal_comes_when_a_function_blocks() {
    let guard = guard_whose_function_blocks(HandleExit::builder());
    guard.defer(|| raise(Signal::TERM)).unwrap();
    drop(guard);
    say("behind");
}

/// A signal comes, unless the scope ends without one; then the process ends by what limits it.
fn user_code_that_blocks_is_ended(mut victim: Victim, limit: &str, scope: &str, blocks: &str) {
    victim.expect("ready");
    if scope != "ends without a signal" {
        victim.send(Signal::TERM);
        until("the signal is delivered", || !victim.has_pending(Signal::TERM));
    }
    if scope != "never ends" {
        victim.tell("end");
        victim.expect("scope ends");
    }
    if !blocks.is_empty() {
        victim.expect(blocks);
    }
    if limit != "timeout" {
        // A second wish to end: the 500 ms are the rule.
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
    }
    let end = victim.end();
    assert_eq!(end.count("behind"), 0, "{end:#?}");
    match limit {
        "timeout" => end.exited(101),
        "force" => end.died_by(Signal::TERM),
        // Whichever comes first.
        _ if end.status.code() == Some(101) => &end,
        _ => end.died_by(Signal::TERM),
    };
}

fn an_observer_that_writes_to_a_full_pipe_is_ended(limit: &str, scopes: &[&str]) {
    in_each(scopes, |scope| {
        let victim = Victim::start(observer_writes_to_a_full_pipe.told(format!("{limit} {scope}")));
        user_code_that_blocks_is_ended(victim, limit, scope, "");
    });
}

fn an_observer_that_writes_to_a_full_pipe_is_ended_by_the_timeout() {
    let scopes = ["never ends", "ends", "ends without a signal"];
    an_observer_that_writes_to_a_full_pipe_is_ended("timeout", &scopes);
}

fn an_observer_that_writes_to_a_full_pipe_is_ended_by_force() {
    an_observer_that_writes_to_a_full_pipe_is_ended("force", &["never ends", "ends"]);
}

fn an_observer_that_writes_to_a_full_pipe_is_ended_by_timeout_and_force() {
    an_observer_that_writes_to_a_full_pipe_is_ended("both", &["never ends", "ends"]);
}

/// The observer alone had no time left; what was deferred has as much once more.
fn deferred_functions_run_when_an_observer_has_used_up_the_time() {
    let told = "timeout never ends";
    let victim = Victim::ready(observer_writes_to_a_full_pipe.told(told));
    victim.send(Signal::TERM);
    let end = victim.end();
    assert_eq!(end.count("deferred"), 1, "{end:#?}");
    end.exited(101);
}

fn a_deferred_function_that_blocks_is_ended(limit: &str, scopes: &[&str]) {
    in_each(scopes, |scope| {
        let victim = Victim::start(deferred_function_blocks.told(format!("{limit} {scope}")));
        user_code_that_blocks_is_ended(victim, limit, scope, "deferred function blocks");
    });
}

fn a_deferred_function_that_blocks_is_ended_by_the_timeout() {
    let scopes = ["never ends", "ends", "ends without a signal"];
    a_deferred_function_that_blocks_is_ended("timeout", &scopes);
}

fn a_deferred_function_that_blocks_is_ended_by_force() {
    a_deferred_function_that_blocks_is_ended("force", &["never ends", "ends"]);
}

fn a_deferred_function_that_blocks_is_ended_by_timeout_and_force() {
    a_deferred_function_that_blocks_is_ended("both", &["never ends", "ends"]);
}

fn a_waker_that_blocks_is_ended_by_the_timeout_and_by_force() {
    let cells = [
        ("timeout", "never ends"),
        ("timeout", "ends without a signal"),
        ("force", "never ends"),
        ("force", "ends"),
    ];
    in_each(&cells, |(limit, scope)| {
        let victim = Victim::start(waker_blocks.told(format!("{limit} {scope}")));
        user_code_that_blocks_is_ended(victim, limit, scope, "");
    });
}

/// The thread that ends the process takes no lock that the program may hold.
fn a_callback_that_wants_a_lock_of_the_scope_is_ended() {
    in_each(&["timeout", "force"], |limit| {
        let told = format!("{limit} never ends");
        let mut victim = Victim::ready(callback_wants_a_lock_of_the_scope.told(told));
        victim.expect("scope has the lock");
        if limit == "force" {
            sleep(SECOND_WISH);
            victim.send(Signal::TERM);
        }
        let end = victim.end();
        end.said(&["ready", "scope has the lock"]);
        match limit {
            "force" => end.died_by(Signal::TERM),
            _ => end.exited(101),
        };
    });
}

fn an_on_function_that_blocks_is_ended(limit: &str) {
    let victim = Victim::start(function_blocks.told(format!("{limit} never ends")));
    user_code_that_blocks_is_ended(victim, limit, "never ends", "");
}

/// The signal that begins the exit comes when the watcher is in that function, and the time counts from there.
fn an_on_function_that_blocks_is_ended_by_the_timeout() {
    an_on_function_that_blocks_is_ended("timeout");
}

fn an_on_function_that_blocks_is_ended_by_force() {
    an_on_function_that_blocks_is_ended("force");
}

/// Drop waits for the watcher, and the watcher for ever.
fn a_signal_that_is_held_ends_a_process_whose_watcher_hangs() {
    let end = Victim::start(signal_comes_when_a_function_blocks).end();
    end.said(&["callback"]).died_by(Signal::TERM);
}

// ------------------------------------------------------------------------------------- poll and EINTR

fn polls_a_descriptor_of_the_guard() {
    let guard = HandleExit::builder().grace(Duration::MAX).install(|| {}).unwrap();
    let readable = guard.readable_fd().unwrap();
    let polls = move |is_interrupted: bool| {
        say("ready");
        loop {
            let mut polled = [PollFd::new(readable.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(1) => break,
                Err(Errno::EINTR) if is_interrupted => {}
                other => panic!("{other:?}"),
            }
        }
        say("readable");
    };
    if told::<String>() == "main" {
        polls(true);
    } else {
        // Main takes the signal.
        let thread = std::thread::spawn(move || {
            block(Signal::TERM);
            polls(false);
        });
        thread.join().unwrap();
    }
    drop(guard);
}

/// A handler with `SA_RESTART` restarts many calls, but not this one. The exit begins all the same.
fn a_poll_that_a_signal_interrupts_finds_the_descriptor_readable_when_it_is_called_again() {
    let mut victim = Victim::ready(polls_a_descriptor_of_the_guard.told("main"));
    victim.at_rest();
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "readable"]).exited(0);
}

fn a_poll_on_a_thread_that_blocks_the_signal_is_not_interrupted() {
    let mut victim = Victim::ready(polls_a_descriptor_of_the_guard.told("a thread"));
    victim.at_rest();
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "readable"]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    a_library_takes_no_signal_from_a_program_that_polls_a_signalfd,
    a_library_takes_no_signal_from_a_program_that_reads_a_signalfd,
    a_library_takes_no_signal_from_a_busy_program_with_a_signalfd,
    a_library_takes_no_signal_from_a_program_that_waits_with_sigwait,
    an_observer_that_writes_to_a_full_pipe_is_ended_by_the_timeout,
    an_observer_that_writes_to_a_full_pipe_is_ended_by_force,
    an_observer_that_writes_to_a_full_pipe_is_ended_by_timeout_and_force,
    deferred_functions_run_when_an_observer_has_used_up_the_time,
    a_deferred_function_that_blocks_is_ended_by_the_timeout,
    a_deferred_function_that_blocks_is_ended_by_force,
    a_deferred_function_that_blocks_is_ended_by_timeout_and_force,
    a_waker_that_blocks_is_ended_by_the_timeout_and_by_force,
    a_callback_that_wants_a_lock_of_the_scope_is_ended,
    an_on_function_that_blocks_is_ended_by_the_timeout,
    an_on_function_that_blocks_is_ended_by_force,
    a_signal_that_is_held_ends_a_process_whose_watcher_hangs,
    a_poll_that_a_signal_interrupts_finds_the_descriptor_readable_when_it_is_called_again,
    a_poll_on_a_thread_that_blocks_the_signal_is_not_interrupted,
];
