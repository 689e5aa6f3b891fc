//! At the worst of moments: between what a guard looks at and what it then installs, other threads do what they
//! like, handlers interrupt it, and the kernel refuses.

#![allow(unsafe_code, reason = "fork")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use handle_exit::{Error, Exit, HandleExit, Signal};
use nix::libc;
use nix::sys::wait::WaitStatus;
use nix::unistd::ForkResult;

use crate::sigaction::{Call, Next, calls_of, is_still_to_come, next};
use crate::support::*;

/// As `put_on_top`, but when the guard has looked and is about to install.
fn will_intrude<const N: usize>() {
    will_displace(N, disposition(Signal::TERM).0);
    meanwhile(|| install_foreign(N));
}

fn meanwhile(before: fn()) {
    next(Next { before, ..Next::installation(Signal::TERM) });
}

fn fails(call: Call) {
    next(Next { call, fails: true, ..Next::installation(Signal::TERM) });
}

fn callback() {
    say("callback");
}

// ---------------------------------------------------------------------------------- scenarios

fn intruded_upon_while_it_is_made() {
    install_old(Signal::INT);
    let before = disposition(Signal::INT);
    will_intrude::<0>();
    let refused = HandleExit::append(callback).unwrap_err();
    assert!(matches!(refused, Error::Busy { signal: Some(Signal::TERM), .. }), "{refused}");
    assert_eq!(disposition(Signal::INT), before);
    assert_eq!(disposition(Signal::TERM).0, FOREIGN_HANDLERS[0] as usize);
    raise(Signal::TERM);
}

fn intruded_upon_while_it_is_dropped() {
    install_old(Signal::TERM);
    let intrusions: [fn(); 2] = [will_intrude::<0>, will_intrude::<1>];
    for (intrusion, intruder) in intrusions.into_iter().zip(FOREIGN_HANDLERS) {
        let guard = HandleExit::append(callback).unwrap();
        intrusion();
        drop(guard);
        assert_eq!(disposition(Signal::TERM).0, intruder as usize);
        raise(Signal::TERM);
    }
    // The handlers that came in go on calling those of the guards that were.
    let guard = HandleExit::append(callback).unwrap();
    raise(Signal::TERM);
    guard.wait();
    drop(guard);
}

fn a_disposition_that_the_kernel_refuses_is_an_error_with_everything_as_it_was() {
    let all = all_dispositions();
    for call in [Call::Query, Call::Installation] {
        fails(call);
        let Err(Error::System { signal, source, .. }) = HandleExit::new(callback) else {
            panic!("{call:?} did not fail")
        };
        assert_eq!((signal, source.raw_os_error()), (Some(Signal::TERM), Some(libc::EINVAL)));
        assert_eq!(all_dispositions(), all);
    }
}

/// What stays is the guard's handler, and passes signals through.
fn putting_back_fails() {
    let guard = HandleExit::new(callback).unwrap();
    let ours = disposition(Signal::TERM);
    fails(if told::<String>() == "query" { Call::Query } else { Call::Installation });
    drop(guard);
    assert!(!is_still_to_come());
    assert_eq!(disposition(Signal::TERM), ours);
    say("behind");
    raise(Signal::TERM);
}

/// In a forked child: the guard stays the parent's.
fn intruded_upon_while_it_is_rearmed() {
    let before = threads();
    let guard = HandleExit::new(callback).unwrap();
    let watcher = started_since(&before);
    // A watcher that still holds a lock at the fork would be another refusal.
    until("the watcher sleeps", || sleeps(watcher));
    // SAFETY: no other thread holds a lock that the child needs.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => {
            let ended = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(ended, WaitStatus::Exited(child, 0));
        }
        ForkResult::Child => {
            let refused = catch_unwind(AssertUnwindSafe(|| {
                will_intrude::<0>();
                let refused = guard.rearm().unwrap_err();
                assert!(matches!(refused, Error::Busy { signal: Some(Signal::TERM), .. }));
                assert!(Exit::current().is_none());
                drop(guard);
                assert_eq!(disposition(Signal::TERM).0, FOREIGN_HANDLERS[0] as usize);
                assert_eq!(disposition(Signal::INT).0, libc::SIG_DFL);
            }));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if refused.is_ok() { 0 } else { 101 }) }
        }
    }
}

/// The watcher is there before the first handler, and takes no signal until the last is in place.
fn pending_while_a_guard_is_made() {
    block(Signal::TERM);
    kill_this_process(Signal::TERM);
    meanwhile(|| {
        let main = std::process::id() as i32;
        until("the watcher waits", || {
            threads().iter().any(|thread| *thread != main && sleeps(*thread))
        });
        say("installing");
    });
    let _guard = HandleExit::cleanup(callback).unwrap();
    park();
}

/// The watcher takes the guard's signals for a program that blocks them, and nothing that comes for the
/// disposition of before.
fn comes_when_a_guard_is_restored() {
    block(Signal::TERM);
    let before = threads();
    let guard = HandleExit::new(callback).unwrap();
    let watcher = started_since(&before);
    until("the watcher listens", || listens(watcher, Signal::TERM) && sleeps(watcher));
    let behind = || kill_this_process(Signal::TERM);
    next(Next { behind, ..Next::installation(Signal::TERM) });
    drop(guard);
    assert!(!is_still_to_come());
    assert!(is_pending_here(Signal::TERM));
}

// -------------------------------------------------------------------------------------- tests

fn a_signal_that_comes_when_a_guard_is_restored_waits_where_the_program_blocks_it() {
    ends_well(comes_when_a_guard_is_restored, &["callback"]);
}

fn a_handler_that_comes_in_while_a_guard_is_made_has_it_refused() {
    ends_well(intruded_upon_while_it_is_made, &["foreign 0"]);
}

fn a_handler_that_comes_in_while_a_guard_is_rearmed_leaves_it_the_parents() {
    ends_well(intruded_upon_while_it_is_rearmed, &["callback"]);
}

fn a_handler_that_comes_in_while_a_guard_is_dropped_stays() {
    let lines = [
        "callback",
        "foreign 0",
        "old",
        "callback",
        "foreign 1",
        "foreign 0",
        "old",
        "callback",
        "foreign 1",
        "foreign 0",
        "old",
    ];
    ends_well(intruded_upon_while_it_is_dropped, &lines);
}

fn a_disposition_that_cannot_be_put_back_passes_through() {
    for what in ["query", "installation"] {
        let end = Victim::start(putting_back_fails.told(what)).end();
        end.said(&["callback", "behind"]).died_by(Signal::TERM);
    }
}

fn a_signal_that_is_pending_waits_until_the_guard_is_made() {
    let end = Victim::start(pending_while_a_guard_is_made).end();
    end.said(&["installing", "callback"]).died_by(Signal::TERM);
}

/// One look for each of its signals, since a foreign handler may have come on top; nothing is installed.
fn a_guard_inside_a_guard_asks_once_for_each_of_its_signals() {
    let _outer = HandleExit::builder().also([Signal::HUP]).install(|| {}).unwrap();
    // Twice: what is done once in a process is done.
    for _ in 0..2 {
        for signals in [&[Signal::TERM][..], &[Signal::HUP, Signal::INT, Signal::TERM]] {
            let inner = HandleExit::builder().append(true).signals(signals.iter().copied());
            let calls = calls_of(|| drop(inner.install(|| {}).unwrap()));
            let mut looks: Vec<_> =
                signals.iter().map(|signal| (signal.as_raw(), Call::Query)).collect();
            looks.sort_by_key(|(raw, _)| *raw);
            assert_eq!(calls, looks);
        }
    }
}

pub(crate) const TESTS: &[Named] = tests![
    a_handler_that_comes_in_while_a_guard_is_made_has_it_refused,
    a_handler_that_comes_in_while_a_guard_is_rearmed_leaves_it_the_parents,
    a_handler_that_comes_in_while_a_guard_is_dropped_stays,
    a_disposition_that_cannot_be_put_back_passes_through,
    a_signal_that_comes_when_a_guard_is_restored_waits_where_the_program_blocks_it,
    a_signal_that_is_pending_waits_until_the_guard_is_made;
    alone:
    a_disposition_that_the_kernel_refuses_is_an_error_with_everything_as_it_was,
    a_guard_inside_a_guard_asks_once_for_each_of_its_signals,
];
