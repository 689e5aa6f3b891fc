//! A guard as a part of the exit: what its end does not touch, in which order guards end, what is put back
//! when, and what one more guard costs.

#![allow(unsafe_code, reason = "a filter of system calls")]

use std::future::Future;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use super::*;
use crate::support::seccomp::{IS, LOAD, NUMBER, RETURN, filter_calls, step};
use handle_exit::{AfterScope, Error, Event, Exit, Outcome, Repeat};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

// --------------------------------------------------------------------- what is a guard's, and not the exit's

fn is_readable(fd: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
}

fn is_ready(future: Pin<&mut impl Future>) -> bool {
    matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
}

/// Nothing has begun its exit, whomever one asks.
#[track_caller]
fn has_not_begun(exit: &Exit) {
    assert!(!exit.is_exiting());
    assert_eq!(exit.cause(), None);
    assert_eq!(exit.wait_timeout(Duration::from_millis(1)), None);
    assert!(!is_ready(pin!(exit.begun())));
    assert!(!is_readable(&exit.readable_fd().unwrap()));
}

#[track_caller]
fn has_begun(exit: &Exit, cause: &Cause) {
    assert_eq!(exit.cause().as_ref(), Some(cause));
    assert_eq!(exit.wait(), *cause);
    assert!(is_ready(pin!(exit.begun())));
    assert!(is_readable(&exit.readable_fd().unwrap()));
}

/// Each way in which a guard ends without a signal.
const WAYS: [fn(HandleExit); 4] = [
    drop,
    |guard| assert_eq!(guard.finish().cause(), &Cause::ScopeEnd),
    |guard| assert!(guard.disarm()),
    |guard| {
        guard.request();
        assert_eq!(guard.wait(), Cause::Requested);
        assert!(guard.is_exiting());
    },
];

fn a_guard_that_ends_without_a_signal_is_nothing_to_the_others() {
    for end in WAYS {
        let older = HandleExit::append(|| say("older")).unwrap();
        let ending = HandleExit::append(|| {}).unwrap();
        let younger = HandleExit::append(|| say("younger")).unwrap();
        let ended = ending.handle();
        end(ending);
        // A guard that is gone is not exiting any more, and its cause stays what it was.
        assert!(matches!(ended.cause(), Some(Cause::ScopeEnd | Cause::Requested)));
        has_not_begun(&older);
        has_not_begun(&younger);
        older.request();
        has_begun(&older, &Cause::Requested);
        has_not_begun(&younger);
        let outcome: Outcome = older.finish();
        assert_eq!((outcome.cause(), outcome.signal()), (&Cause::Requested, None));
        has_not_begun(&younger);
        assert_eq!(younger.finish().cause(), &Cause::ScopeEnd);
    }
}

/// Waiters on other threads: each is released by the guard that it waits for, and by no other.
fn waiters_wait_for_their_own_guard() {
    let [older, younger] = [(); 2].map(|()| HandleExit::append(|| {}).unwrap());
    let (released, releases) = channel();
    let waits = |name: &'static str, exit: Exit| {
        let released = released.clone();
        thread::spawn(move || released.send((name, exit.wait())).unwrap())
    };
    let threads = [waits("older", older.handle()), waits("younger", younger.handle())];
    let (begun, readable) = (older.begun(), older.readable_fd().unwrap());
    let mut begun = pin!(begun);
    assert!(!is_ready(begun.as_mut()));

    drop(younger);
    assert_eq!(releases.recv_timeout(DEADLINE), Ok(("younger", Cause::ScopeEnd)));
    assert!(!is_ready(begun.as_mut()) && !is_readable(&readable));
    assert_eq!(older.wait_timeout(Duration::from_millis(20)), None);
    assert!(releases.try_recv().is_err());

    assert!(older.disarm());
    assert_eq!(releases.recv_timeout(DEADLINE), Ok(("older", Cause::ScopeEnd)));
    assert!(is_ready(begun.as_mut()) && is_readable(&readable));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// What was deferred belongs to the guard it was deferred to.
fn deferred_functions_are_of_their_guard() {
    static RAN: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let ran = || std::mem::take(&mut *RAN.lock().unwrap());
    let note = |what: &'static str| move || RAN.lock().unwrap().push(what);
    let older = HandleExit::append(note("older")).unwrap();
    let younger = HandleExit::append(note("younger")).unwrap();
    older.defer(note("older's")).unwrap();
    let handle = younger.handle();
    younger.defer(note("younger's")).unwrap();
    // While its end is running what it has, another one's is open.
    let other = older.handle();
    let last = move || {
        other.defer(note("added to the older")).unwrap();
        RAN.lock().unwrap().push("younger's last");
    };
    younger.defer(last).unwrap();
    drop(younger);
    assert_eq!(ran(), ["younger", "younger's last", "younger's"]);
    assert!(matches!(handle.defer(|| {}), Err(Error::Ended)));
    drop(older);
    assert_eq!(ran(), ["older", "added to the older", "older's"]);
}

fn finish_says_what_began_the_exit_of_each() {
    let other = HandleExit::builder().append(true).signals([Signal::HUP]).install(|| {}).unwrap();
    let [older, younger] = [(); 2].map(|()| continues().install(|| {}).unwrap());
    younger.request();
    assert_eq!(younger.wait(), Cause::Requested);
    raise(Signal::TERM);
    assert_eq!(short(&older.wait()), "SIGTERM");
    let outcome = younger.finish();
    assert_eq!((outcome.cause(), outcome.signal()), (&Cause::Requested, Some(Signal::TERM)));
    let outcome = older.finish();
    assert_eq!(
        (short(outcome.cause()).as_str(), outcome.signal()),
        ("SIGTERM", Some(Signal::TERM))
    );
    let outcome = other.finish();
    assert_eq!((outcome.cause(), outcome.signal()), (&Cause::ScopeEnd, None));
}

fn disarming_one_leaves_the_others_armed() {
    let (ran, runs) = channel();
    let callback = |name: &'static str| {
        let ran = ran.clone();
        move || ran.send(name).unwrap()
    };
    let [older, younger] =
        ["older", "younger"].map(|name| continues().install(callback(name)).unwrap());
    assert!(younger.disarm());
    let second = HandleExit::append(callback("second")).unwrap();
    raise(Signal::TERM);
    assert_eq!(runs.recv_timeout(DEADLINE), Ok("second"));
    assert_eq!(runs.recv_timeout(DEADLINE), Ok("older"));
    assert!(!second.disarm(), "the exit had begun");
    drop(older);
    assert!(runs.try_recv().is_err());
}

/// Who asks for the exit of the program is given the oldest.
fn current_is_the_oldest() {
    assert!(Exit::current().is_none());
    let oldest = HandleExit::append(|| {}).unwrap();
    let [middle, youngest] = [(); 2].map(|()| HandleExit::append(|| {}).unwrap());
    let (asked, answers) = channel();
    // From any thread.
    thread::spawn(move || asked.send(Exit::current().unwrap()).unwrap()).join().unwrap();
    answers.recv().unwrap().request();
    assert_eq!(oldest.wait(), Cause::Requested);
    assert!(!middle.is_exiting() && !youngest.is_exiting());
    // A younger one that ends changes nothing.
    drop(youngest);
    assert_eq!(Exit::current().unwrap().cause(), Some(Cause::Requested));
    drop(oldest);
    assert_eq!(Exit::current().unwrap().cause(), None);
    Exit::current().unwrap().request();
    assert!(middle.is_exiting());
    drop(middle);
    assert!(Exit::current().is_none());
}

// ---------------------------------------------------------------------------------------------- observers

/// Tells of the events of a guard under its name, without how long anything took.
fn observed(name: &'static str, builder: Builder) -> HandleExit {
    let tell = move |event: &Event| {
        say(match event {
            Event::SignalReceived(received) => format!("{name} hears of {}", received.signal()),
            Event::CallbackStarted(cause) => format!("{name} starts: {}", short(cause)),
            Event::CallbackFinished { .. } => format!("{name} finished"),
            Event::CallbackPanicked { .. } => format!("{name} panicked"),
            Event::GraceOver { grace, .. } => format!("{name}: {grace:?} are over"),
            other => format!("{name}: {other}"),
        });
    };
    builder.observe(tell).install(|| {}).unwrap()
}

fn three_observers() {
    let oldest = beside().grace(Duration::from_millis(20));
    let _oldest = observed("oldest", oldest);
    let _hup = observed("hup", beside().signals([Signal::HUP]));
    let ended = observed("ended", beside());
    let _youngest = observed("youngest", beside().grace(Duration::MAX));
    drop(ended);
    ready_for_ever();
}

fn each_observer_hears_of_its_own_guard() {
    let victim = Victim::ready(three_observers);
    victim.send(Signal::TERM);
    let end = victim.end();
    end.died_by(Signal::TERM);
    let of = |name: &str| -> Vec<&str> {
        let events = end.lines.iter().filter_map(|line| line.strip_prefix(name));
        events.map(|event| event.trim_start_matches([' ', ':'])).collect()
    };
    let common = ["hears of SIGTERM", "starts: SIGTERM", "finished", "20ms are over"];
    let ending = "process ends by SIGTERM";
    assert_eq!(of("oldest"), [&common[..], &[ending]].concat(), "{end:#?}");
    // The time is the oldest's, and whoever waited for its end hears of it.
    assert_eq!(of("youngest"), [&common[..], &[ending]].concat(), "{end:#?}");
    assert_eq!(of("ended"), ["starts: the scope ended", "finished"], "{end:#?}");
    assert_eq!(of("hup"), ["starts: SIGTERM", "finished", ending], "{end:#?}");
}

// ---------------------------------------------------------------------------- in any order, on any thread

const GUARDED: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];

/// Dispositions that are not what a process begins with.
fn unusual() -> Vec<(Signal, Disposition)> {
    install_exactly(Signal::TERM, libc::SIG_DFL, libc::SA_RESTART, &[Signal::USR1]);
    install_exactly(Signal::INT, libc::SIG_IGN, libc::SA_NODEFER, &[Signal::USR2]);
    install_old(Signal::HUP);
    all_dispositions()
}

fn three_with_the_same() -> Vec<HandleExit> {
    let ignored = handle_exit::Ignored::Guard;
    let make = |_| beside().signals(GUARDED).ignored(ignored).install(|| {}).unwrap();
    (0..3).map(make).collect()
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

fn handlers_stay_until_the_last_guard_and_then_all_is_as_before() {
    let before = unusual();
    let (threads_before, descriptors_before) = (threads(), descriptors());
    for order in ORDERS {
        for elsewhere in [false, true] {
            let mut guards: Vec<_> = three_with_the_same().into_iter().map(Some).collect();
            let with_guards = all_dispositions();
            for (ended, place) in order.into_iter().enumerate() {
                let guard = guards[place].take();
                if elsewhere {
                    thread::spawn(move || drop(guard)).join().unwrap();
                } else {
                    drop(guard);
                }
                let expected = if ended == 2 { &before } else { &with_guards };
                assert_eq!(&all_dispositions(), expected, "{order:?} {ended}");
            }
            assert_ne!(with_guards, before);
            until("the threads are as before", || threads() == threads_before);
            assert_eq!(descriptors(), descriptors_before);
        }
    }
}

/// Each signal goes with the last guard that has it, whoever else lives.
fn each_signal_is_put_back_with_its_last_guard() {
    let before = all_dispositions();
    let make =
        |signals: &[Signal]| beside().signals(signals.iter().copied()).install(|| {}).unwrap();
    let held = || GUARDED.map(|signal| !is_default(signal));
    for oldest_first in [false, true] {
        let first = make(&[Signal::TERM, Signal::INT]);
        assert_eq!(held(), [true, true, false]);
        let second = make(&[Signal::INT, Signal::HUP]);
        assert_eq!(held(), [true, true, true]);
        let third = make(&[Signal::HUP]);
        if oldest_first {
            drop(first);
            assert_eq!(held(), [false, true, true]);
            drop(second);
            assert_eq!(held(), [false, false, true]);
            drop(third);
        } else {
            drop(third);
            assert_eq!(held(), [true, true, true]);
            drop(second);
            assert_eq!(held(), [true, true, false]);
            drop(first);
        }
        assert_eq!(all_dispositions(), before);
    }
}

fn all_end_at_once() {
    const THREADS: usize = 8;
    let ran = Arc::new(AtomicUsize::new(0));
    let before = all_dispositions();
    for round in 0..50 {
        let barrier = Arc::new(Barrier::new(THREADS));
        let threads = (0..THREADS).map(|_| {
            let (barrier, ran) = (Arc::clone(&barrier), Arc::clone(&ran));
            thread::spawn(move || {
                let callback = move || {
                    ran.fetch_add(1, SeqCst);
                };
                let guard = HandleExit::append(callback).unwrap();
                barrier.wait();
                drop(guard);
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(ran.load(SeqCst), (round + 1) * THREADS);
        assert_eq!(all_dispositions(), before);
        assert!(Exit::current().is_none());
    }
}

fn storm_of_guards() {
    static RAN: AtomicUsize = AtomicUsize::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    let count = || {
        RAN.fetch_add(1, SeqCst);
    };
    let settings = || continues().grace(Duration::MAX).repeat(Repeat::Absorb);
    let oldest = settings().install(count).unwrap();
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            thread::spawn(move || {
                let mut made = 0;
                let mut alive = Vec::new();
                while !STOP.load(SeqCst) {
                    alive.push(settings().install(count).unwrap());
                    made += 1;
                    if alive.len() > 8 {
                        drop(alive.swap_remove((made + worker) % 8));
                    }
                }
                made
            })
        })
        .collect();
    say("ready");
    hear();
    STOP.store(true, SeqCst);
    let made: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    drop(oldest);
    assert_eq!(RAN.load(SeqCst), made + 1);
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
    say("each ran once");
}

fn guards_that_come_and_go_in_a_storm_run_once_each() {
    let mut victim = Victim::ready(storm_of_guards);
    for round in 0..300 {
        victim.send(if round % 3 == 0 { Signal::INT } else { Signal::TERM });
        thread::sleep(Duration::from_millis(1));
    }
    victim.tell("stop");
    victim.end().said(&["ready", "each ran once"]).exited(0);
}

fn kept_inside() {
    let outer = guard("outer", beside());
    guard("kept", beside()).keep();
    drop(outer);
    assert!(!is_default(Signal::TERM));
    say("main returns");
}

fn a_guard_that_is_kept_outlives_the_outer_one() {
    let end = Victim::start(kept_inside).end();
    let kept = ["kept on main: the process exits".into(), deferred("kept")];
    said(&end, &[&ends_on_main("outer"), &line("main returns"), &kept]).exited(0);
}

// --------------------------------------------------------------------------------------------- refusals

fn an_append_that_is_refused_changes_nothing() {
    let outer = HandleExit::append(|| {}).unwrap();
    let before = all_dispositions();
    let refused = beside().signals([Signal::HUP, Signal::KILL]).install(|| {});
    assert!(matches!(refused, Err(Error::Unguardable { signal: Signal::KILL, .. })));
    assert!(matches!(beside().signals([]).install(|| {}), Err(Error::NoSignals)));
    assert_eq!(all_dispositions(), before);
    has_not_begun(&outer);
}

/// `append` refuses neither a guard nor a handler, nor both, signal by signal.
fn append_takes_what_is_there() {
    install_old(Signal::HUP);
    let before = all_dispositions();
    let outer = HandleExit::append(|| {}).unwrap();
    let with_outer = all_dispositions();
    let inner = beside().also([Signal::HUP]).install(|| {}).unwrap();
    assert_ne!(all_dispositions(), with_outer);
    drop(inner);
    assert_eq!(all_dispositions(), with_outer);
    drop(outer);
    assert_eq!(all_dispositions(), before);
}

// ------------------------------------------------------------------------------------------------- many

const MANY: usize = 10_000;

/// Which callbacks have run, in order.
static RAN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn many(grace: Duration) -> Vec<HandleExit> {
    let make = |number| {
        let callback = move || RAN.lock().unwrap().push(number);
        beside().grace(grace).install(callback).unwrap()
    };
    (0..MANY).map(make).collect()
}

fn many_are_signalled() {
    let guards = many(Duration::ZERO);
    // What the oldest one deferred is the last that runs.
    let judges = || {
        assert!(RAN.lock().unwrap().iter().copied().eq((0..MANY).rev()));
        say("each once, newest first");
    };
    guards[0].defer(judges).unwrap();
    ready_for_ever();
}

fn ten_thousand_guards_live_at_once_and_end_in_any_order() {
    let before = all_dispositions();
    let threads_before = threads();
    let orders: [fn(usize) -> usize; 3] = [
        |turn| turn,
        |turn| MANY - 1 - turn,
        // A number that has no factor in common with 10,000: every place once.
        |turn| turn * 7919 % MANY,
    ];
    for order in orders {
        let mut guards: Vec<_> = many(Duration::ZERO).into_iter().map(Some).collect();
        assert_eq!(threads().len(), threads_before.len() + 1);
        for turn in 0..MANY {
            assert!(!is_default(Signal::TERM));
            drop(guards[order(turn)].take().unwrap());
        }
        let ran = std::mem::take(&mut *RAN.lock().unwrap());
        assert!(ran.into_iter().eq((0..MANY).map(order)));
        assert_eq!(all_dispositions(), before);
    }
}

fn ten_thousand_guards_run_on_one_signal() {
    let victim = Victim::ready(many_are_signalled);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "each once, newest first"]).died_by(Signal::TERM);
}

// ----------------------------------------------------------------------------------------------- costs

fn a_guard_inside_a_guard_starts_no_thread_and_opens_nothing() {
    let _outer = HandleExit::append(|| {}).unwrap();
    let (threads_before, descriptors_before) = (threads(), descriptors());
    let guards: Vec<_> = (0..100).map(|_| HandleExit::append(|| {}).unwrap()).collect();
    assert_eq!(threads(), threads_before);
    assert_eq!(descriptors(), descriptors_before);
    drop(guards);
    assert_eq!(threads(), threads_before);
}

/// From here on this thread may make only these system calls, and ask for dispositions; any other call, and one that
/// changes a disposition, ends the process with 7, after a line that has its number. False where the kernel has no
/// such filter.
fn allow_only(calls: &[libc::c_long]) -> bool {
    extern "C" fn says_which(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel's siginfo of SIGSYS: an address, then the number of the call. Both calls here
        // are async-signal-safe, and in the filter.
        unsafe {
            // Three numbers and an address before it.
            let address = 12_usize.next_multiple_of(size_of::<usize>());
            let mut number = info.byte_add(address + size_of::<usize>()).cast::<i32>().read();
            let mut text = *b"system call 0000\n";
            for digit in text[12..16].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
            libc::write(1, text.as_ptr().cast(), text.len());
            libc::_exit(7);
        }
    }
    install_exactly(Signal::SYS, says_which as *const () as usize, libc::SA_SIGINFO, &[]);

    // Where both halves of the first two arguments are, on a little-endian machine.
    const FIRST: [u32; 2] = [16, 20];
    const SECOND: [u32; 2] = [24, 28];
    let mut program = vec![step(LOAD, 0, 0, NUMBER)];
    for call in calls.iter().chain(&[libc::SYS_exit_group]) {
        program.push(step(IS, 0, 1, *call as u32));
        program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    }
    // rt_sigaction(n, NULL, …) is a query.
    program.push(step(IS, 0, 7, libc::SYS_rt_sigaction as u32));
    for half in SECOND {
        program.push(step(LOAD, 0, 0, half));
        program.push(step(IS, 1, 0, 0));
        program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_TRAP));
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    // write(1, …) is for the lines of this test.
    program.push(step(IS, 0, 3, libc::SYS_write as u32));
    program.push(step(LOAD, 0, 0, FIRST[0]));
    program.push(step(IS, 0, 1, 1));
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_TRAP));
    filter_calls(&mut program)
}

/// What the allocator may do. musl's gives pages back as soon as nothing is left on them, and then maps new ones.
#[cfg(target_env = "musl")]
const OF_THE_ALLOCATOR: &[libc::c_long] = &[
    #[cfg(target_pointer_width = "64")]
    libc::SYS_mmap,
    #[cfg(target_pointer_width = "32")]
    libc::SYS_mmap2,
    libc::SYS_munmap,
    libc::SYS_madvise,
];
#[cfg(not(target_env = "musl"))]
const OF_THE_ALLOCATOR: &[libc::c_long] = &[];

/// Does this a hundred times to warm up, and then a thousand times with no system call but getpid, queries of
/// dispositions, and those of the allocator.
fn quietly(what: fn()) {
    (0..100).for_each(|_| what());
    if allow_only(&[&[libc::SYS_getpid], OF_THE_ALLOCATOR].concat()) {
        (0..1000).for_each(|_| what());
        say_in_handler("quiet\n");
    } else {
        say_in_handler("skipped: no filter of system calls\n");
    }
    // SAFETY: ends the process at once, with nothing run that makes system calls.
    unsafe { libc::_exit(0) };
}

/// A guest whose watcher sleeps: nobody else is awake in this process.
fn guard_at_rest() -> HandleExit {
    at_rest(beside())
}

/// As `guard_at_rest`, with these settings.
fn at_rest(settings: Builder) -> HandleExit {
    let before = threads();
    let guard = settings.install(|| {}).unwrap();
    let watcher = started_since(&before);
    until("the watcher sleeps", || sleeps(watcher));
    guard
}

fn make_and_drop_one() {
    drop(HandleExit::append(|| {}).unwrap());
}

fn quiet_inside_one() {
    let _outer = guard_at_rest();
    quietly(make_and_drop_one);
}

fn quiet_inside_many() {
    let _outer = guard_at_rest();
    let _many = many(Duration::ZERO);
    quietly(make_and_drop_one);
}

fn quiet_with_everything() {
    let _outer = guard_at_rest();
    quietly(|| {
        let (captured, capturing) = (Box::new(1), Box::new(2));
        let settings = beside().grace(Duration::MAX).after_scope(AfterScope::End);
        let inner = settings.install_with(move |_| drop(captured)).unwrap();
        let deferred = inner.defer(move || drop(capturing)).unwrap();
        let innermost = HandleExit::append(|| {}).unwrap();
        assert!(!innermost.is_exiting() && !inner.handle().is_exiting());
        assert!(Exit::current().is_some_and(|exit| !exit.is_exiting()));
        assert!(deferred.cancel());
        // The outer one of the two first.
        assert_eq!(inner.finish().cause(), &Cause::ScopeEnd);
        assert!(innermost.disarm());
    });
}

fn quiet_inside_a_host() {
    let _host = at_rest(host());
    quietly(make_and_drop_one);
}

/// A host beside a guest that guards what it guards.
fn quiet_host_beside_a_guest() {
    let _guest = guard_at_rest();
    quietly(|| drop(HandleExit::new(|| {}).unwrap()));
}

/// HUP is ignored, as under nohup, and stays so: the inner guard asks, and takes nothing.
fn quiet_with_an_ignored_signal() {
    install_exactly(Signal::HUP, libc::SIG_IGN, 0, &[]);
    let _outer = guard_at_rest();
    quietly(|| {
        let inner = beside().also([Signal::HUP]).install(|| {}).unwrap();
        assert_eq!(disposition(Signal::HUP).0, libc::SIG_IGN);
        drop(inner);
    });
}

fn not_quiet() {
    quietly(|| {
        nix::unistd::getppid();
    });
}

fn not_quiet_with_a_disposition() {
    quietly(|| install_exactly(Signal::URG, libc::SIG_DFL, 0, &[]));
}

fn a_guard_inside_a_guard_makes_no_system_call_but_getpid_and_queries() {
    let end = Victim::start(not_quiet).end();
    let skipped = "skipped: no filter of system calls";
    if end.count(skipped) == 1 {
        println!("{skipped}");
        return;
    }
    // The filter finds what is there to be found.
    let found = |call| format!("system call {call:04}");
    end.said(&[&found(libc::SYS_getppid)]).exited(7);
    let end = Victim::start(not_quiet_with_a_disposition).end();
    end.said(&[&found(libc::SYS_rt_sigaction)]).exited(7);
    for scenario in scenarios![
        quiet_inside_one,
        quiet_inside_many,
        quiet_inside_a_host,
        quiet_with_everything,
        quiet_with_an_ignored_signal,
        quiet_host_beside_a_guest
    ] {
        Victim::start(scenario).end().said(&["quiet"]).exited(0);
    }
}

pub(crate) const TESTS: &[Named] = tests![
    each_observer_hears_of_its_own_guard,
    guards_that_come_and_go_in_a_storm_run_once_each,
    a_guard_that_is_kept_outlives_the_outer_one,
    ten_thousand_guards_run_on_one_signal,
    a_guard_inside_a_guard_makes_no_system_call_but_getpid_and_queries;
    alone:
    a_guard_that_ends_without_a_signal_is_nothing_to_the_others,
    waiters_wait_for_their_own_guard,
    deferred_functions_are_of_their_guard,
    finish_says_what_began_the_exit_of_each,
    disarming_one_leaves_the_others_armed,
    current_is_the_oldest,
    handlers_stay_until_the_last_guard_and_then_all_is_as_before,
    each_signal_is_put_back_with_its_last_guard,
    all_end_at_once,
    an_append_that_is_refused_changes_nothing,
    append_takes_what_is_there,
    ten_thousand_guards_live_at_once_and_end_in_any_order,
    a_guard_inside_a_guard_starts_no_thread_and_opens_nothing,
];
