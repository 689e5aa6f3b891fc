//! Two guards in a forked child: it neither runs nor swallows anything of the parent's.

#![allow(unsafe_code, reason = "fork is the test's subject")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;
use handle_exit::{Error, Exit};
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, pause};

/// Runs `child` in a forked child, which ends with `_exit`: 0, or 101 after a panic.
fn fork(child: impl FnOnce()) -> Pid {
    // SAFETY: no other thread of these scenarios holds a lock that the child needs.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // SAFETY: no handler of ALRM is installed: it ends a child that hangs.
            unsafe { libc::alarm(DEADLINE.as_secs() as u32) };
            let code = if catch_unwind(AssertUnwindSafe(child)).is_ok() { 0 } else { 101 };
            // SAFETY: ends the child at once, with nothing of the parent's run.
            unsafe { libc::_exit(code) }
        }
    }
}

/// How a child ended, in one line.
fn reap(child: Pid) -> String {
    match waitpid(child, None).unwrap() {
        WaitStatus::Exited(_, code) => format!("exited with {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("died of {signal}"),
        other => panic!("{other:?}"),
    }
}

/// The second has a signal of its own besides.
fn two() -> [HandleExit; 2] {
    let second = continues().also([Signal::HUP]);
    [guard("first", beside().grace(Duration::ZERO)), guard("second", second)]
}

const SIGNALS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];

/// The parent has noticed nothing; then its guards end.
fn parent_goes_on([first, second]: [HandleExit; 2]) {
    assert!(!first.is_exiting() && !second.is_exiting());
    assert!(SIGNALS.into_iter().all(|signal| !is_default(signal)));
    drop(second);
    drop(first);
    assert!(SIGNALS.into_iter().all(is_default));
}

fn signals_to_the_child() {
    let guards = two();
    for signal in SIGNALS {
        let child = fork(|| {
            say("child");
            loop {
                pause();
            }
        });
        kill(child.as_raw(), signal);
        say(reap(child));
    }
    parent_goes_on(guards);
}

fn a_signal_to_the_child_is_not_swallowed_and_runs_no_callback() {
    let end = Victim::start(signals_to_the_child).end();
    let died: Vec<_> = SIGNALS.map(|signal| format!("died of {signal}")).into();
    said_among(&end, &died);
    said_among(&end, &lines(&[&ends_on_main("second"), &ends_on_main("first")]));
    end.exited(0);
}

fn dropped_in_the_child() {
    let mut guards = Some(two());
    for oldest_first in [false, true] {
        let child = fork(|| {
            let [first, second] = guards.take().unwrap();
            let (one, other) = if oldest_first { (first, second) } else { (second, first) };
            drop(one);
            drop(other);
            assert!(SIGNALS.into_iter().all(is_default));
            assert!(Exit::current().is_none());
            say("child goes on");
        });
        say(reap(child));
    }
    parent_goes_on(guards.unwrap());
}

fn both_may_be_dropped_in_the_child_which_runs_nothing() {
    let child = ["child goes on".into(), "exited with 0".into()];
    let end = Victim::start(dropped_in_the_child).end();
    said(&end, &[&child, &child, &ends_on_main("second"), &ends_on_main("first")]).exited(0);
}

fn process_exit_in_the_child() {
    let guards = two();
    say(reap(fork(|| std::process::exit(3))));
    parent_goes_on(guards);
}

fn process_exit_in_the_child_runs_nothing() {
    let end = Victim::start(process_exit_in_the_child).end();
    let child = line("exited with 3");
    said(&end, &[&child, &ends_on_main("second"), &ends_on_main("first")]).exited(0);
}

/// What a child that has both guards as its own does on TERM.
fn dies_of_term() {
    assert_eq!(handles_in_child(), 3);
    raise(Signal::TERM);
    park();
}

fn handles_in_child() -> usize {
    SIGNALS.into_iter().filter(|signal| !is_default(*signal)).count()
}

fn both_rearmed() {
    let guards = two();
    let child = fork(|| {
        let [first, second] = &guards;
        first.rearm().unwrap();
        second.rearm().unwrap();
        // The oldest of the parent is the oldest here.
        Exit::current().unwrap().defer(|| say("oldest")).unwrap();
        first.defer(|| say("of the first")).unwrap();
        dies_of_term();
    });
    say(reap(child));
    parent_goes_on(guards);
}

fn both_may_be_rearmed_in_the_child() {
    let end = Victim::start(both_rearmed).end();
    let callbacks = ["second", "first"].map(|name| on_watcher(name, Signal::TERM));
    let first = ["of the first".into(), "oldest".into(), deferred("first")];
    let child = lines(&[&callbacks, &[deferred("second")], &first, &line("died of SIGTERM")]);
    said(&end, &[&child, &ends_on_main("second"), &ends_on_main("first")]).exited(0);
}

fn one_rearmed() {
    let mut guards = Some(two());
    let child = fork(|| {
        let [first, second] = guards.take().unwrap();
        second.rearm().unwrap();
        raise(Signal::TERM);
        assert_eq!(short(&second.wait()), "SIGTERM");
        // The other one is none of this process.
        assert!(!first.is_exiting());
        assert!(matches!(first.defer(|| say("never")), Err(Error::Ended)));
        drop(second);
        drop(first);
        assert!(SIGNALS.into_iter().all(is_default));
        say("child goes on");
    });
    say(reap(child));
    parent_goes_on(guards.unwrap());
}

fn one_of_two_may_be_rearmed_in_the_child() {
    let end = Victim::start(one_rearmed).end();
    let child = [on_watcher("second", Signal::TERM), deferred("second"), "child goes on".into()];
    let parent = lines(&[&ends_on_main("second"), &ends_on_main("first")]);
    said(&end, &[&child, &line("exited with 0"), &parent]).exited(0);
}

fn made_in_the_child() {
    let guards = two();
    let child = fork(|| {
        // Nothing of the parent's stands in the way, of `new` neither.
        let outer = HandleExit::new(|| say("child's outer")).unwrap();
        let inner = HandleExit::append(|| say("child's inner")).unwrap();
        assert!(matches!(HandleExit::new(|| {}), Err(Error::Nested)));
        raise(Signal::TERM);
        inner.wait();
        outer.wait();
        drop(inner);
        drop(outer);
        say("child goes on");
    });
    say(reap(child));
    parent_goes_on(guards);
}

fn a_child_nests_guards_of_its_own() {
    let end = Victim::start(made_in_the_child).end();
    let child =
        ["child's inner", "child's outer", "child goes on", "exited with 0"].map(String::from);
    said(&end, &[&child, &ends_on_main("second"), &ends_on_main("first")]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    a_signal_to_the_child_is_not_swallowed_and_runs_no_callback,
    both_may_be_dropped_in_the_child_which_runs_nothing,
    process_exit_in_the_child_runs_nothing,
    both_may_be_rearmed_in_the_child,
    one_of_two_may_be_rearmed_in_the_child,
    a_child_nests_guards_of_its_own,
];
