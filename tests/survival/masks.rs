//! The guard's threads take no signal that is the program's, and its handlers let nothing in.

#![allow(unsafe_code, reason = "masks, sigwait, signalfd and fork are the test's subject")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use crate::support::*;
use handle_exit::{Builder, Event, HandleExit, Signal};
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

/// The guard, made first thing, as most programs do; then the signal is blocked in all of the program's
/// threads.
fn guard_and_blocked(signal: Signal) -> HandleExit {
    let guard = HandleExit::new(|| say("callback")).unwrap();
    block(signal);
    start_busy_threads();
    guard
}

// ---------------------------------------------------------------------------------- scenarios

fn waits_with_sigwait() {
    let guard = guard_and_blocked(Signal::USR1);
    let wanted = set_of(Signal::USR1);
    say("ready");
    for _ in 0..3 {
        // Busy with something else when it comes.
        hear();
        let mut came = 0;
        // SAFETY: both are valid for the call.
        assert_eq!(unsafe { libc::sigwait(&raw const wanted, &raw mut came) }, 0);
        assert_eq!(came, Signal::USR1.as_raw());
        say("taken");
    }
    drop(guard);
}

/// Children that end one after the other, each of which a descriptor is to tell of.
fn reads_a_signalfd() {
    let guard = guard_and_blocked(Signal::CHLD);
    let wanted = set_of(Signal::CHLD);
    // SAFETY: a valid set; the descriptor is this function's own.
    let children = unsafe {
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        OwnedFd::from_raw_fd(libc::signalfd(-1, &raw const wanted, flags))
    };
    let mut told_of = 0;
    for _ in 0..20 {
        // SAFETY: the child makes one system call; the parent waits for it, and leaves it to be waited
        // for. The buffer is as large as what is read.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(0);
            }
            let mut info = std::mem::zeroed::<libc::siginfo_t>();
            let id = child.try_into().unwrap();
            let options = libc::WEXITED | libc::WNOWAIT;
            assert_eq!(libc::waitid(libc::P_PID, id, &raw mut info, options), 0);
            // It has been sent by now. A thread that could take it is awake.
            std::thread::sleep(std::time::Duration::from_millis(2));
            let mut read = std::mem::zeroed::<libc::signalfd_siginfo>();
            let size = size_of_val(&read);
            let count = libc::read(children.as_raw_fd(), (&raw mut read).cast(), size);
            told_of += usize::from(usize::try_from(count) == Ok(size));
            assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
        }
    }
    say(format!("told of {told_of}"));
    drop(guard);
}

static HANDLED_BY: AtomicI32 = AtomicI32::new(0);

extern "C" fn note_thread(_: libc::c_int) {
    // SAFETY: no arguments, cannot fail.
    HANDLED_BY.store(unsafe { libc::syscall(libc::SYS_gettid) as i32 }, SeqCst);
}

/// A section that a handler must not interrupt, in a program of one thread.
fn blocks_a_section() {
    install(Signal::USR2, note_thread);
    let before = threads();
    let guard = HandleExit::new(|| say("callback")).unwrap();
    let watcher = started_since(&before);
    until("the watcher sleeps", || sleeps(watcher));
    let main = main_thread();
    block(Signal::USR2);
    // To the process, not to this thread. Whoever can take it is awake when this returns.
    kill(main, Signal::USR2);
    until("the watcher sleeps", || sleeps(watcher));
    assert_eq!(HANDLED_BY.load(SeqCst), 0, "the handler has run");
    let set = set_of(Signal::USR2);
    // SAFETY: a valid set.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    assert_eq!(HANDLED_BY.load(SeqCst), main);
    drop(guard);
    say("behind");
}

/// Says what the calling thread blocks.
fn say_mask(who: &str) {
    let blocked = blocked();
    let is_blocked = |signal: &Signal| blocked & signal_bit(*signal) != 0;
    let signals = (1..=64).filter_map(Signal::from_raw).filter(is_blocked);
    let named: Vec<String> = signals.map(|signal| signal.to_string()).collect();
    say(format!("{who}: {}", named.join(" ")));
}

/// All code of a user's for this guard, which is made by a thread that blocks `signal` alone, says what it blocks.
fn made_by_a_thread_that_blocks(
    signal: Signal,
    name: &'static str,
    builder: Builder,
) -> HandleExit {
    let maker = std::thread::spawn(move || {
        block(signal);
        let builder = builder.on(Signal::HUP, move |_| say_mask(&format!("{name}'s function")));
        let builder = builder.observe(move |event| {
            if matches!(event, Event::CallbackStarted(_)) {
                say_mask(&format!("{name}'s observer"));
            }
        });
        let guard = builder.install(move || say_mask(&format!("{name}'s callback"))).unwrap();
        guard.defer(move || say_mask(&format!("{name}'s deferred"))).unwrap();
        guard
    });
    maker.join().unwrap()
}

fn guards_of_two_makers() {
    let host = HandleExit::builder().cleanup();
    let _host = made_by_a_thread_that_blocks(Signal::USR1, "host", host);
    let guest = HandleExit::builder().append(true);
    let _guest = made_by_a_thread_that_blocks(Signal::USR2, "guest", guest);
    ready_for_ever();
}

/// The thread has made a guard before, which is gone, and with another mask.
fn second_guard_of_a_thread() {
    drop(HandleExit::append(|| {}).unwrap());
    block(Signal::USR1);
    let _guard = HandleExit::append(|| say_mask("callback")).unwrap();
    raise(Signal::TERM);
    park();
}

fn the_mask_of_a_guard_is_that_of_its_own_making() {
    let end = Victim::start(second_guard_of_a_thread).end();
    end.said(&["callback: SIGUSR1"]).died_by(Signal::TERM);
}

extern "C" fn old_handler(_: libc::c_int) {}

fn flags_of_the_handler() {
    let guard = HandleExit::new(|| {}).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        assert_eq!(disposition(signal).1, libc::SA_SIGINFO | libc::SA_RESTART, "{signal}");
    }
    drop(guard);
}

fn mask_of_the_handler() {
    let guard = HandleExit::new(|| {}).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let (_, _, mask) = disposition(signal);
        // What the kernel does not let anybody block, what the C library keeps for itself, and faults.
        let open =
            [libc::SIGKILL, libc::SIGSTOP, 32, 33, if cfg!(target_env = "musl") { 34 } else { 33 }];
        let faults =
            [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];
        let may_come = open.iter().chain(&faults).fold(0, |set, number| set | 1u64 << (number - 1));
        assert_eq!(!(mask | may_come), 0, "{signal}: {:#x} is open", !(mask | may_come));
        for fault in faults {
            assert_eq!(mask & 1 << (fault - 1), 0, "{signal}: fault {fault} is blocked");
        }
    }
    drop(guard);
}

/// The alternate stack is for signals whose handler had it before.
fn flags_over_an_old_handler() {
    let handler = old_handler as *const () as usize;
    install_exactly(Signal::TERM, handler, libc::SA_ONSTACK, &[]);
    install_exactly(Signal::INT, handler, 0, &[]);
    let guard = HandleExit::append(|| {}).unwrap();
    assert_eq!(disposition(Signal::TERM).1 & libc::SA_ONSTACK, libc::SA_ONSTACK);
    assert_eq!(disposition(Signal::INT).1 & libc::SA_ONSTACK, 0);
    drop(guard);
    assert_eq!(disposition(Signal::TERM), (handler, libc::SA_ONSTACK, 0));
    assert_eq!(disposition(Signal::INT), (handler, 0, 0));
}

// ---------------------------------------------------------------------------------------- tests

fn sigwait_gets_what_the_program_blocks() {
    let mut victim = Victim::ready(waits_with_sigwait);
    for _ in 0..3 {
        victim.send(Signal::USR1);
        victim.tell("go on");
        victim.expect("taken");
    }
    victim.end().said(&["ready", "taken", "taken", "taken", "callback"]).exited(0);
}

fn a_signalfd_tells_of_every_child() {
    Victim::start(reads_a_signalfd).end().said(&["told of 20", "callback"]).exited(0);
}

fn a_handler_does_not_run_while_the_only_thread_blocks_its_signal() {
    Victim::start(blocks_a_section).end().said(&["callback", "behind"]).exited(0);
}

/// What the watcher runs for a guard blocks what the thread that made this guard blocked.
fn user_code_runs_with_the_mask_of_the_thread_that_made_its_guard() {
    let mut victim = Victim::ready(guards_of_two_makers);
    victim.send(Signal::HUP);
    victim.expect("guest's function: SIGUSR2");
    victim.expect("host's function: SIGUSR1");
    victim.at_rest();
    victim.send(Signal::TERM);
    let lines = [
        "ready",
        "guest's function: SIGUSR2",
        "host's function: SIGUSR1",
        "guest's observer: SIGUSR2",
        "guest's callback: SIGUSR2",
        "host's observer: SIGUSR1",
        "host's callback: SIGUSR1",
        "guest's deferred: SIGUSR2",
        "host's deferred: SIGUSR1",
    ];
    victim.end().said(&lines).died_by(Signal::TERM);
}

pub(crate) const TESTS: &[Named] = tests![
    sigwait_gets_what_the_program_blocks,
    a_signalfd_tells_of_every_child,
    a_handler_does_not_run_while_the_only_thread_blocks_its_signal,
    user_code_runs_with_the_mask_of_the_thread_that_made_its_guard,
    the_mask_of_a_guard_is_that_of_its_own_making;
    alone:
    flags_of_the_handler,
    mask_of_the_handler,
    flags_over_an_old_handler,
];
