//! A program that blocks a signal in each of its threads, and reads it by itself: a guest takes nothing from it, and a
//! host hears the signal all the same.

#![allow(unsafe_code, reason = "sigwait and signalfd are the test's subject")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::support::*;
use handle_exit::{HandleExit, Signal};
use nix::libc;

fn set_of(signal: Signal) -> libc::sigset_t {
    // SAFETY: a zeroed set is one to initialise; the signal exists.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal.as_raw());
        set
    }
}

/// Threads that are awake all the time, with the mask of their maker.
fn start_busy_threads() {
    for _ in 0..2 {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
}

// ---------------------------------------------------------------------------------- scenarios

/// So often a signal is sent that the program reads by itself.
const OFTEN: usize = 20;

/// A program that was there first: TERM is blocked in each of its threads when a library makes its guard.
fn library_comes(program: impl Fn(&dyn Fn())) {
    block(Signal::TERM);
    start_busy_threads();
    let before = all_dispositions();
    program(&|| {
        let guest = HandleExit::append(|| say("guest")).unwrap();
        say("ready");
        for _ in 0..OFTEN {
            hear();
        }
        assert!(!guest.is_exiting());
        // What is not blocked is the guest's.
        assert!(guest.disarm());
    });
    assert_eq!(all_dispositions(), before);
    say("behind");
}

fn program_waits_with_sigwait() {
    library_comes(|library| {
        let takes = || {
            let wanted = set_of(Signal::TERM);
            loop {
                let mut came = 0;
                // SAFETY: both are valid for the call.
                assert_eq!(unsafe { libc::sigwait(&raw const wanted, &raw mut came) }, 0);
                say("taken");
            }
        };
        leave(std::thread::spawn(takes));
        library();
    });
}

fn program_reads_a_signalfd() {
    library_comes(|library| {
        let wanted = set_of(Signal::TERM);
        // SAFETY: a valid set; the descriptor is the thread's own.
        let signals = unsafe {
            OwnedFd::from_raw_fd(libc::signalfd(-1, &raw const wanted, libc::SFD_CLOEXEC))
        };
        let reads = move || loop {
            // SAFETY: the buffer is as large as what is read.
            unsafe {
                let mut read = std::mem::zeroed::<libc::signalfd_siginfo>();
                let size = size_of_val(&read);
                let count = libc::read(signals.as_raw_fd(), (&raw mut read).cast(), size);
                assert_eq!(usize::try_from(count), Ok(size));
            }
            say("taken");
        };
        leave(std::thread::spawn(reads));
        library();
    });
}

/// The signal that the program does not block is the guest's.
fn another_signal_than_the_blocked_one() {
    block(Signal::TERM);
    let _guest = HandleExit::append(|| say("guest")).unwrap();
    ready_for_ever();
}

/// One thread of the program does not block it.
fn one_thread_is_open() {
    leave(std::thread::spawn(|| park()));
    block(Signal::TERM);
    let guest = HandleExit::builder().append(true).grace(Duration::ZERO);
    let _guest = guest.install(|| say("guest")).unwrap();
    ready_for_ever();
}

fn host_is_made() {
    block(Signal::TERM);
    start_busy_threads();
    let _host = HandleExit::cleanup(|| say("host")).unwrap();
    ready_for_ever();
}

/// The watcher sleeps already when the host comes.
fn host_comes_to_a_guest() {
    block(Signal::TERM);
    let _guest = HandleExit::append(|| say("guest")).unwrap();
    say("guest is there");
    hear();
    let _host = HandleExit::cleanup(|| say("host")).unwrap();
    ready_for_ever();
}

/// What the host heard is the program's again, although the guest has it too.
fn host_leaves_a_guest() {
    block(Signal::TERM);
    let host = HandleExit::new(|| say("host")).unwrap();
    let guest = HandleExit::append(|| say("guest")).unwrap();
    say("both are there");
    hear();
    drop(host);
    say("ready");
    hear();
    until("TERM is pending, or the guest has it", || {
        is_pending_here(Signal::TERM) || guest.is_exiting()
    });
    assert!(guest.disarm() && is_pending_here(Signal::TERM));
    say("behind");
}

// ---------------------------------------------------------------------------------------- tests

fn a_guest_takes_nothing_from_a_program_that_blocks_the_signal_everywhere() {
    for scenario in scenarios![program_waits_with_sigwait, program_reads_a_signalfd] {
        let mut victim = Victim::ready(scenario);
        for _ in 0..OFTEN {
            victim.send(Signal::TERM);
            assert_eq!(victim.next_line().as_deref(), Some("taken"));
            victim.tell("go on");
        }
        victim.end().ended_with("behind").exited(0);
    }
}

fn a_guest_hears_what_is_not_blocked_everywhere() {
    let mut victim = Victim::ready(another_signal_than_the_blocked_one);
    victim.send(Signal::INT);
    victim.expect("guest");
    let victim = Victim::ready(one_thread_is_open);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "guest"]).died_by(Signal::TERM);
}

/// A program that was started with TERM blocked can still be stopped.
fn a_host_hears_a_signal_that_is_blocked_everywhere() {
    let victim = Victim::ready(host_is_made);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "host"]).died_by(Signal::TERM);
}

fn a_host_that_comes_to_a_guest_hears_what_is_blocked_everywhere() {
    let mut victim = Victim::start(host_comes_to_a_guest);
    victim.expect("guest is there");
    victim.at_rest();
    victim.tell("go on");
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.end().ended_with("guest").died_by(Signal::TERM);
}

fn a_guest_that_a_host_leaves_takes_nothing_that_is_blocked_everywhere() {
    let mut victim = Victim::start(host_leaves_a_guest);
    victim.expect("both are there");
    victim.at_rest();
    victim.tell("go on");
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.tell("go on");
    victim.end().said(&["both are there", "host", "ready", "behind"]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    a_guest_takes_nothing_from_a_program_that_blocks_the_signal_everywhere,
    a_guest_hears_what_is_not_blocked_everywhere,
    a_host_hears_a_signal_that_is_blocked_everywhere,
    a_host_that_comes_to_a_guest_hears_what_is_blocked_everywhere,
    a_guest_that_a_host_leaves_takes_nothing_that_is_blocked_everywhere,
];
