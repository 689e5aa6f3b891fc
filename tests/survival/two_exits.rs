//! Exits on two threads at once where `/proc` cannot be asked what the other one is in, and callbacks
//! that look as if they were in such an exit, but are not.

#![allow(unsafe_code, reason = "the test itself makes system calls")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::Duration;

use crate::support::*;
use handle_exit::{HandleExit, Signal};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

/// Takes `/proc` away from this process, in the way that the scenario is told.
fn take_proc_away(how: &str) {
    match how {
        "full" => {
            // Nothing below the limit is free, so no file can be opened.
            setrlimit(Resource::RLIMIT_NOFILE, 3, 3).unwrap();
            assert!(std::fs::File::open("/proc/self/status").is_err());
        }
        "privileges" => {
            // As a program that is no longer root: its `/proc` belongs to root.
            nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into()).unwrap();
            let call = format!("/proc/self/task/{}/syscall", std::process::id());
            assert!(std::fs::read(call).is_err());
        }
        directory => {
            if !nix::unistd::geteuid().is_root() {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).unwrap();
            }
            nix::unistd::chroot(directory).unwrap();
            nix::unistd::chdir("/").unwrap();
            assert!(!Path::new("/proc").exists());
        }
    }
}

fn exit_as(kind: &str, code: i32) -> ! {
    match kind {
        "rust" => std::process::exit(code),
        // SAFETY: the exit functions of this process are the guard's and the standard library's.
        _ => unsafe { libc::exit(code) },
    }
}

// ---------------------------------------------------------------------------------- scenarios

/// The scope ends when the callback, which exits, has left the guard's own exit function behind.
fn scope_ends_late_in_an_exit_of_the_callback() {
    static IS_LATE: AtomicBool = AtomicBool::new(false);
    static MAIN: AtomicI32 = AtomicI32::new(0);
    extern "C" fn runs_after_the_guards() {
        IS_LATE.store(true, SeqCst);
        until("main waits", || sleeps(MAIN.load(SeqCst)));
    }
    at_exit(runs_after_the_guards);
    MAIN.store(std::process::id() as i32, SeqCst);
    let guard = HandleExit::new(|| std::process::exit(7)).unwrap();
    guard.request();
    while !IS_LATE.load(SeqCst) {
        std::hint::spin_loop();
    }
    drop(guard);
    say("behind");
}

/// The callback exits when main is in an exit of its own.
fn both_exit() {
    let told: String = told();
    let words: Vec<String> = told.split(' ').map(str::to_owned).collect();
    let [callback_exits, main_exits, how] = words.try_into().unwrap();
    take_proc_away(&how);
    let guard = HandleExit::new(move || {
        held_callback();
        exit_as(&callback_exits, 7);
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred")).unwrap();
    guard.keep();
    say("ready");
    until_held();
    say("main ends");
    exit_as(&main_exits, 3);
}

static WOKEN: AtomicBool = AtomicBool::new(false);
static SLEEPER: AtomicI32 = AtomicI32::new(0);

extern "C" fn wake(_: libc::c_int) {
    WOKEN.store(true, SeqCst);
}

fn this_thread() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// The callback sleeps as a thread does that the standard library has parked in `exit`.
fn callback_sleeps() {
    let how: String = told();
    install(Signal::USR1, wake);
    let guard = HandleExit::new(move || {
        say("callback begins");
        SLEEPER.store(this_thread(), SeqCst);
        while !WOKEN.load(SeqCst) {
            // SAFETY: neither reads memory: there are no descriptors, no time and no mask.
            unsafe {
                match &*how {
                    "pause" => libc::syscall(libc::SYS_pause),
                    _ => libc::ppoll(std::ptr::null_mut(), 0, std::ptr::null(), std::ptr::null())
                        .into(),
                }
            };
        }
        say("callback ends");
    });
    guard.unwrap().keep();
    std::thread::spawn(|| {
        hear();
        let sleeper = SLEEPER.load(SeqCst);
        // Again and again: one that comes just before the sleep begins does not end it.
        while !WOKEN.load(SeqCst) {
            // SAFETY: to a thread of this process, which has a handler for it.
            unsafe {
                libc::syscall(libc::SYS_tgkill, libc::getpid(), sleeper, Signal::USR1.as_raw());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    say("ready");
    until("the callback sleeps", || match SLEEPER.load(SeqCst) {
        0 => false,
        thread => sleeps(thread),
    });
    say("main ends");
}

/// The callback waits for a thread that exits, and an exit waits for the callback.
fn callback_joins_an_exit() {
    let guard = HandleExit::builder().grace(Duration::MAX);
    let guard = guard.callback_timeout(SOON_OVER);
    let guard = guard.install(|| {
        say("callback");
        std::thread::spawn(|| std::process::exit(7)).join().unwrap();
    });
    let _guard = guard.unwrap();
    ready_for_ever();
}

/// One of the deferred functions, on another thread, exits as the second one.
fn deferred_exits() {
    let guard = HandleExit::new(|| say("callback")).unwrap();
    guard.defer(|| say("deferred first")).unwrap();
    guard
        .defer(|| {
            held_callback();
            std::process::exit(7);
        })
        .unwrap();
    std::thread::spawn(move || drop(guard));
    until_held();
    say("main ends");
    std::process::exit(3);
}

// ---------------------------------------------------------------------------------------- tests

/// Whether this process may do what root may, here or in a user namespace of its own.
fn has_user_namespaces() -> bool {
    let works = || {
        let attempt = std::process::Command::new("unshare").args(["--user", "true"]).output();
        attempt.is_ok_and(|output| output.status.success())
    };
    let has = nix::unistd::geteuid().is_root() || works();
    if !has {
        say("skipped: no /proc: no user namespace can be made here");
    }
    has
}

fn both(callback_exits: &str, main_exits: &str, how: &str) {
    let told = format!("{callback_exits} {main_exits} {how}");
    let mut victim = Victim::ready(both_exit.told(&told));
    victim.send(Signal::TERM);
    victim.expect_both("callback begins", "main ends");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    assert_eq!(end.lines[3..], ["callback ends", "deferred"], "{end:#?}");
    // Main was first, but C leaves it open.
    let both_of_std = callback_exits == "rust" && main_exits == "rust";
    let codes: &[Option<i32>] = if both_of_std { &[Some(3)] } else { &[Some(3), Some(7)] };
    assert!(codes.contains(&end.status.code()), "{end:#?}");
}

fn the_callback_and_main_exit_in_an_empty_root() {
    if has_user_namespaces() {
        let empty = tempfile::tempdir().unwrap();
        let path = empty.path().to_str().unwrap();
        both("rust", "rust", path);
        both("rust", "c", path);
    }
}

fn the_callback_and_main_exit_without_privileges() {
    if nix::unistd::geteuid().is_root() {
        both("rust", "rust", "privileges");
    } else {
        say("skipped: privileges cannot be dropped by one who has none");
    }
}

fn the_callback_and_main_exit_with_a_full_descriptor_table() {
    both("rust", "rust", "full");
}

fn the_callback_calls_exit_of_c_while_main_exits() {
    both("c", "rust", "full");
    both("c", "c", "full");
}

/// Long enough for an exiting process to look after the callback again and again: under test is that
/// it goes on to wait.
const LOOKS: Duration = Duration::from_millis(300);

fn a_callback_that_sleeps_is_not_cut(how: &str) {
    let mut victim = Victim::ready(callback_sleeps.told(how));
    victim.send(Signal::TERM);
    victim.expect("main ends");
    std::thread::sleep(LOOKS);
    victim.at_rest();
    victim.tell("go on");
    victim.end().said(&["ready", "callback begins", "main ends", "callback ends"]).exited(0);
}

fn a_callback_in_pause_is_not_cut() {
    if cfg!(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm")) {
        a_callback_that_sleeps_is_not_cut("pause");
    }
}

fn a_callback_in_ppoll_is_not_cut() {
    a_callback_that_sleeps_is_not_cut("ppoll");
}

/// The callback never returns, and with it the end of the scope.
fn nothing_goes_on_behind_a_scope_whose_callback_exits_however_late_it_ends() {
    let end = Victim::start(scope_ends_late_in_an_exit_of_the_callback).end();
    end.said(&[]).exited(7);
}

/// Nobody can tell a callback that waits for a thread, which waits for the callback, from one that works.
fn a_callback_that_joins_an_exit_has_its_timeout() {
    let victim = Victim::ready(callback_joins_an_exit);
    victim.send(Signal::TERM);
    let end = victim.end();
    end.said(&["ready", "callback"]);
    assert!([Some(7), Some(101)].contains(&end.status.code()), "{end:#?}");
}

fn an_exit_in_a_deferred_function_leaves_the_others_to_the_first_exit() {
    let mut victim = Victim::start(deferred_exits);
    victim.expect("main ends");
    victim.has_looked();
    victim.tell("go on");
    let lines = ["callback", "callback begins", "main ends", "callback ends", "deferred first"];
    victim.end().said(&lines).exited(3);
}

pub(crate) const TESTS: &[Named] = tests![
    the_callback_and_main_exit_in_an_empty_root,
    the_callback_and_main_exit_without_privileges,
    the_callback_and_main_exit_with_a_full_descriptor_table,
    the_callback_calls_exit_of_c_while_main_exits,
    a_callback_in_pause_is_not_cut,
    a_callback_in_ppoll_is_not_cut,
    nothing_goes_on_behind_a_scope_whose_callback_exits_however_late_it_ends,
    a_callback_that_joins_an_exit_has_its_timeout,
    an_exit_in_a_deferred_function_leaves_the_others_to_the_first_exit,
];
