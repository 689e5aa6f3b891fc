//! A storm of signals from several processes, while threads allocate, print and fork: nothing is
//! lost, nothing hangs.
//!
//! `HANDLE_EXIT_STORM_SIGNALS`: how many, 40000 if unset.

#![allow(unsafe_code, reason = "the storm is kill(2), and fork(2) is part of the weather")]

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::support::*;
use handle_exit::{HandleExit, Signal};
use nix::libc;

const SIGNALS: &str = "HANDLE_EXIT_STORM_SIGNALS";
const SENDERS: u32 = 4;
const ROUNDS: u32 = 2_000;
const KINDS: [Signal; 2] = [Signal::USR1, Signal::USR2];

// ------------------------------------------------------------------------------------ scenarios

/// Sends its share of the storm.
fn sender() {
    let told: String = told();
    let (target, signals) = told.split_once(' ').unwrap();
    let (target, signals): (i32, usize) = (target.parse().unwrap(), signals.parse().unwrap());
    for at in 0..signals {
        // SAFETY: the test waits for this process before it lets the target end.
        let sent = unsafe { libc::kill(target, KINDS[at % KINDS.len()].as_raw()) };
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }
}

/// Threads that hold the locks a handler must not want, and children that are hit themselves: this is
/// how each ends, as waitpid(2) has it.
fn weather(childs_end: libc::c_int) {
    std::thread::spawn(|| {
        loop {
            drop(std::hint::black_box(vec![String::from("allocated"); 100]));
        }
    });
    std::thread::spawn(|| {
        loop {
            print!(".");
            std::hint::black_box(format!("{:?}", std::time::Instant::now()));
        }
    });
    std::thread::spawn(move || {
        loop {
            // SAFETY: the child signals itself and leaves, which is async-signal-safe; it is waited for.
            unsafe {
                let pid = libc::fork();
                if pid == 0 {
                    let before = OLD_HANDLERS.load(SeqCst);
                    libc::raise(KINDS[0].as_raw());
                    libc::_exit((OLD_HANDLERS.load(SeqCst) - before) as i32);
                }
                let mut status = 0;
                while libc::waitpid(pid, &raw mut status, 0) == -1 {}
                // The storm is aimed at this process: the child's signal is its own, and what stood
                // there before the guard is what it meets.
                assert_eq!(status, childs_end);
            }
        }
    });
}

/// The callback lasts as long as the storm does.
fn one_guard() {
    weather(KINDS[0].as_raw());
    let guard = HandleExit::builder()
        .signals(KINDS)
        .install(|| {
            say("\ncallback begins");
            hear();
            say("\ncallback ends");
        })
        .unwrap();
    guard.defer(|| say("\ndeferred")).unwrap();
    say("\nready");
    park();
}

static CALLBACKS: AtomicU32 = AtomicU32::new(0);
static OLD_HANDLERS: AtomicU32 = AtomicU32::new(0);

extern "C" fn old_handler(_: libc::c_int) {
    OLD_HANDLERS.fetch_add(1, SeqCst);
}

/// One guard after the other comes and goes over handlers that are there already.
fn many_guards() {
    KINDS.iter().for_each(|kind| install(*kind, old_handler));
    let before = KINDS.map(disposition);
    let exit_1 = 1 << 8;
    weather(exit_1);
    say("\nready");
    let enough = std::thread::spawn(hear);
    let mut guards = 0;
    while !enough.is_finished() {
        guards += 1;
        let guard = HandleExit::builder().signals(KINDS).append(true);
        drop(guard.install(|| _ = CALLBACKS.fetch_add(1, SeqCst)).unwrap());
    }
    assert_eq!(CALLBACKS.load(SeqCst), guards);
    assert_eq!(KINDS.map(disposition), before);
    let ran = OLD_HANDLERS.load(SeqCst);
    raise(KINDS[0]);
    assert_eq!(OLD_HANDLERS.load(SeqCst), ran + 1);
    assert!(ran > 0);
    say("\nall of them");
    std::process::exit(0);
}

static ROUND: AtomicU32 = AtomicU32::new(0);
static TORN: AtomicU32 = AtomicU32::new(0);

/// What the kernel keeps of a siginfo, in words, and those of them that a sender may fill as it likes. A 64-bit
/// kernel translates that of a 32-bit program, and keeps what it knows of.
const WORDS: usize = 12;
const FREE: &[usize] =
    if cfg!(target_pointer_width = "64") { &[1, 4, 5, 6, 7, 8, 9, 10, 11] } else { &[1, 3, 4, 5] };

/// Sends a signal to this thread, with one value all over its siginfo.
fn send_stamped(stamp: u32) {
    let mut info = [0u32; 32];
    FREE.iter().for_each(|word| info[*word] = stamp);
    info[2] = libc::SI_QUEUE as u32;
    // SAFETY: a siginfo has 32 words; to itself a thread may send any.
    let sent = unsafe {
        let (pid, tid) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, KINDS[0].as_raw(), &raw const info)
    };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}

extern "C" fn is_whole(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's siginfo, which has more words than these.
    let words = unsafe { info.cast::<[u32; WORDS]>().read() };
    if FREE.iter().any(|word| words[*word] != words[FREE[0]]) {
        TORN.fetch_add(1, SeqCst);
    }
}

/// Two threads are in the handler for one signal at once, with an empty mailbox. What the second one writes
/// into a mailbox that it should not have is seldom seen in what comes out: this is for the thread sanitizer
/// (.ci/sanitizers), which sees it written.
fn two_threads_fill_one_mailbox() {
    install_exactly(KINDS[0], is_whole as *const () as usize, libc::SA_SIGINFO, &[]);
    let twin = std::thread::spawn(|| {
        for round in 1..=ROUNDS {
            while ROUND.load(SeqCst) < 2 * round {
                std::hint::spin_loop();
            }
            send_stamped(u32::MAX);
            ROUND.fetch_add(1, SeqCst);
        }
    });
    for round in 1..=ROUNDS {
        let guard = HandleExit::builder().signals([KINDS[0]]).append(true).install(|| {}).unwrap();
        ROUND.store(2 * round, SeqCst);
        send_stamped(0);
        drop(guard);
        until("the other thread has sent its signal", || ROUND.load(SeqCst) > 2 * round);
    }
    twin.join().unwrap();
    assert_eq!(TORN.load(SeqCst), 0, "mailboxes that two threads have written");
}

// ---------------------------------------------------------------------------------------- tests

/// Has the whole storm sent to the victim.
fn storm(victim: &Victim) {
    let signals = std::env::var(SIGNALS).map_or(40_000, |signals| signals.parse().unwrap());
    let senders: Vec<Victim> = (0..SENDERS)
        .map(|_| Victim::start(sender.told(format_args!("{} {}", victim.pid(), signals / SENDERS))))
        .collect();
    for sender in senders {
        sender.end().exited(0);
    }
}

fn a_storm_is_one_exit() {
    let mut victim = Victim::ready(one_guard);
    victim.send(Signal::USR1);
    victim.expect("callback begins");
    storm(&victim);
    // A repeat 500 ms after the first ends the wait for the scope: this is a time that must pass.
    std::thread::sleep(std::time::Duration::from_millis(500));
    victim.send(Signal::USR1);
    victim.tell("enough");
    let end = victim.end();
    end.died_by(Signal::USR1);
    assert_eq!(end.stderr, "");
    for line in ["callback begins", "callback ends", "deferred"] {
        assert_eq!(end.count(line), 1, "{line}");
    }
}

fn guards_come_and_go_in_a_storm() {
    let mut victim = Victim::ready(many_guards);
    storm(&victim);
    victim.tell("enough");
    let end = victim.end();
    assert_eq!(end.stderr, "");
    assert_eq!(end.count("all of them"), 1);
    end.exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    a_storm_is_one_exit,
    guards_come_and_go_in_a_storm,
    ;
    alone:
    two_threads_fill_one_mailbox,
];
