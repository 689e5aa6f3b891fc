//! No signal is lost: one that comes while the watcher is busy and the scope ends, one that shares its old handler with
//! another, one that a foreign handler on top would keep, and one that comes after a guard whose destructors panic.

#![allow(unsafe_code, reason = "old handlers are the test's subject")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use super::nesting::short;
use crate::support::*;
use handle_exit::{AfterScope, Builder, Cause, Error, HandleExit, OldHandler, Received, Signal};
use nix::libc::c_int;

/// A guest that does not end the process by itself.
fn guest() -> Builder {
    HandleExit::builder().append(true).after_scope(AfterScope::Continue).grace(Duration::MAX)
}

fn host() -> Builder {
    HandleExit::builder().grace(Duration::MAX)
}

/// A callback that says what began the exit.
fn tells(name: &'static str) -> impl FnOnce(&Cause) + Send + 'static {
    move |cause| say(format!("{name}: {}", short(cause)))
}

// -------------------------------------------------------- the watcher is busy, and the scope ends meanwhile

/// The only guard ends while a function for HUP is running.
fn ends_while_its_function_runs() {
    install_old(Signal::TERM);
    let guard = guest().on(Signal::HUP, |_| held_callback()).install_with(tells("guard"));
    let guard = guard.unwrap();
    say("ready");
    until_held();
    raise(Signal::TERM);
    drop(guard);
    say("behind");
}

fn an_old_handler_hears_the_signal_that_came_while_its_guard_was_busy() {
    let mut victim = Victim::ready(ends_while_its_function_runs);
    victim.send(Signal::HUP);
    victim.expect("guard: SIGTERM");
    victim.tell("go on");
    let end = victim.end();
    end.exited(0).ended_with("behind");
    // After the callback, whatever the function is at.
    let among: Vec<_> = end.lines.iter().filter(|line| *line != "callback ends").collect();
    assert_eq!(among, ["ready", "callback begins", "guard: SIGTERM", "old", "behind"], "{end:#?}");
}

static BARRIER: AtomicBool = AtomicBool::new(false);

/// A guard without TERM has the watcher busy, in the way that the scenario is told.
fn outer_is_busy(way: &str) -> HandleExit {
    let builder = host().signals([Signal::INT]).on(Signal::USR1, |_| BARRIER.store(true, SeqCst));
    let outer = match way {
        "function" => {
            builder.on(Signal::HUP, |_| held_callback()).install_with(tells("outer")).unwrap()
        }
        "callback" => builder.install(held_callback).unwrap(),
        other => panic!("{other}"),
    };
    match way {
        "function" => raise(Signal::HUP),
        _ => outer.request(),
    }
    until_held();
    outer
}

/// A guest over a foreign handler of TERM has its signal, and ends, while the watcher is busy for the outer one.
fn inner_ends_while_the_watcher_is_busy(way: &str) -> HandleExit {
    install_old(Signal::TERM);
    let outer = outer_is_busy(way);
    let inner = guest().signals([Signal::TERM]).install_with(tells("inner")).unwrap();
    raise(Signal::TERM);
    drop(inner);
    say("inner gone");
    outer
}

fn inner_ends() {
    let outer = inner_ends_while_the_watcher_is_busy(&told::<String>());
    until_let_go();
    drop(outer);
    say("behind");
}

/// The end of the scope hands it over: nobody knows when the watcher is free again.
fn an_old_handler_hears_the_signal_of_a_scope_that_ends_while_the_watcher_is_busy() {
    for way in ["function", "callback"] {
        let mut victim = Victim::start(inner_ends.told(way));
        victim.expect("inner gone");
        victim.tell("go on");
        let outer: &[&str] = if way == "function" { &["outer: the scope ended"] } else { &[] };
        let lines = ["callback begins", "inner: SIGTERM", "old", "inner gone", "callback ends"];
        victim.end().said(&[&lines[..], outer, &["behind"]].concat()).exited(0);
    }
}

/// A guard is made when that signal has been handed over, and the watcher is still busy.
fn another_is_made_meanwhile() {
    let told: String = told();
    let outer = inner_ends_while_the_watcher_is_busy("function");
    let late = guest().signals([Signal::TERM]).install_with(tells("late")).unwrap();
    assert!(!late.is_exiting());
    if told == "signalled" {
        raise(Signal::TERM);
        say("late is signalled");
        late.wait();
    } else {
        say("late is made");
        until_let_go();
        raise(Signal::USR1);
        until("the watcher has done what was left", || BARRIER.load(SeqCst));
        assert!(!late.is_exiting());
    }
    drop(late);
    say("late gone");
    drop(outer);
}

fn a_guard_made_meanwhile_loses_no_signal_to_what_is_left_of_an_earlier_one() {
    let busy = ["callback begins", "inner: SIGTERM", "old", "inner gone"];
    let mut victim = Victim::start(another_is_made_meanwhile.told("signalled"));
    victim.expect("late is signalled");
    victim.tell("go on");
    let late = ["late is signalled", "callback ends", "late: SIGTERM", "old", "late gone"];
    let outer = ["outer: the scope ended"];
    victim.end().said(&[&busy[..], &late, &outer].concat()).exited(0);

    let mut victim = Victim::start(another_is_made_meanwhile.told("not signalled"));
    victim.expect("late is made");
    victim.tell("go on");
    let late = ["late is made", "callback ends", "late: the scope ended", "late gone"];
    victim.end().said(&[&busy[..], &late, &outer].concat()).exited(0);
}

// ------------------------------------------------------------------------- OldHandler::Always

extern "C" fn says_number(raw: c_int) {
    say_in_handler(if raw == Signal::INT.as_raw() { "old of INT\n" } else { "old of TERM\n" });
}

/// TERM and INT share one old handler; INT comes while the scope ends, in the way that the scenario is told.
fn second_comes_during_the_drop() {
    install(Signal::TERM, says_number);
    install(Signal::INT, says_number);
    let way: String = told();
    let in_callback = way == "in the callback";
    let guard = guest().old_handler(OldHandler::Always).install(move || {
        say("callback");
        if in_callback {
            raise(Signal::INT);
        }
    });
    let guard = guard.unwrap();
    if !in_callback {
        guard.defer(|| raise(Signal::INT)).unwrap();
    }
    if way == "in a deferred function, after TERM" {
        raise(Signal::TERM);
        guard.wait();
    }
    drop(guard);
    say("behind");
}

fn a_signal_that_shares_an_old_handler_and_comes_during_the_drop_is_heard() {
    for way in ["in the callback", "in a deferred function", "in a deferred function, after TERM"] {
        let end = Victim::start(second_comes_during_the_drop.told(way)).end();
        end.exited(0).ended_with("behind");
        assert_eq!(end.count("callback"), 1, "{end:#?}");
        assert!(end.count("old of INT") >= 1, "{end:#?}");
        if way.ends_with("after TERM") {
            assert_eq!(end.count("old of TERM"), 1, "{end:#?}");
        }
        // Once for the signal, and once at most because of `Always`.
        assert!(end.count("old of INT") + end.count("old of TERM") <= 2, "{end:#?}");
    }
}

/// Three guards, one after the other, beside an outer one that has the same signals.
fn always_under_an_outer_guard() {
    install(Signal::TERM, says_old);
    install(Signal::INT, says_old);
    let outer = guest().install_with(tells("outer")).unwrap();
    let guarded = disposition(Signal::TERM);
    for _ in 0..3 {
        drop(guest().old_handler(OldHandler::Always).install_with(tells("inner")).unwrap());
        assert_eq!(disposition(Signal::TERM), guarded);
    }
    say("outer is left");
    raise(Signal::TERM);
    outer.wait();
    drop(outer);
    say("behind");
}

fn each_guard_with_always_runs_the_old_handler_also_inside_another() {
    let inner = ["inner: the scope ended", "old"].repeat(3);
    let outer = ["outer is left", "outer: SIGTERM", "old", "behind"];
    ends_well(always_under_an_outer_guard, &[&inner[..], &outer].concat());
}

// ----------------------------------------------------------------- a foreign handler comes on top

/// A guest is made over a foreign handler, which came on top of an older guard and does not chain.
fn guest_over_a_foreign_handler_on_top() {
    let older = guest().install_with(tells("older")).unwrap();
    install(Signal::TERM, says_old);
    let foreign = disposition(Signal::TERM);
    let younger = guest().install_with(tells("younger")).unwrap();
    say("ready");
    hear();
    raise(Signal::TERM);
    assert!(younger.wait_timeout(Duration::from_secs(10)).is_some(), "it is deaf");
    drop(younger);
    drop(older);
    assert_eq!(disposition(Signal::TERM), foreign);
    say("behind");
}

/// Callbacks first, newest first, then the handler that was there.
fn a_guest_made_over_a_foreign_handler_on_top_of_a_guard_hears() {
    let mut victim = Victim::ready(guest_over_a_foreign_handler_on_top);
    victim.tell("go on");
    let lines = ["ready", "younger: SIGTERM", "older: SIGTERM", "old", "behind"];
    victim.end().said(&lines).exited(0);
}

fn guest_over_ctrlc_on_top() {
    let older = guest().signals([Signal::INT]).install_with(tells("older")).unwrap();
    static CTRLC: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        say("ctrlc");
        CTRLC.store(true, SeqCst);
    })
    .unwrap();
    let younger = guest().signals([Signal::INT]).install_with(tells("younger")).unwrap();
    raise(Signal::INT);
    assert!(younger.wait_timeout(Duration::from_secs(10)).is_some(), "it is deaf");
    until("ctrlc's handler has run", || CTRLC.load(SeqCst));
    drop(younger);
    drop(older);
    say("behind");
}

fn a_guest_made_over_ctrlc_on_top_of_a_guard_hears() {
    let lines = ["younger: SIGINT", "older: SIGINT", "ctrlc", "behind"];
    ends_well(guest_over_ctrlc_on_top, &lines);
}

/// A foreign handler that came on top is refused like any other.
fn host_over_a_foreign_handler_on_top() {
    let _older = guest().install_with(tells("older")).unwrap();
    install(Signal::TERM, says_old);
    let before = all_dispositions();
    match HandleExit::new(|| {}) {
        Err(Error::HandlerExists { signal, .. }) => assert_eq!(signal, Signal::TERM),
        other => panic!("{other:?}"),
    }
    assert_eq!(all_dispositions(), before);
}

// ---------------------------------------------------------------- destructors of a user's that panic

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        say(format!("dropped on {}", thread_name()));
        panic!("on purpose");
    }
}

/// A guard ends in its own callback on the watcher, which is the last to have it, and what it captured panics.
fn captured_panics() {
    static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);
    let _outer = HandleExit::cleanup(|| say("outer's callback")).unwrap();
    let mut builder = guest().signals([Signal::USR1]);
    let captured = PanicsWhenDropped;
    builder = match told::<String>().as_str() {
        "observer" => builder.observe(move |_| _ = &captured),
        "function" => builder.on(Signal::HUP, move |_: &Received| _ = &captured),
        other => panic!("{other}"),
    };
    let inner = builder.install(|| {
        say("inner's callback");
        let inner = GUARD.lock().unwrap().take();
        drop(inner);
    });
    *GUARD.lock().unwrap() = Some(inner.unwrap());
    ready_for_ever();
}

fn a_destructor_that_panics_on_the_watcher_does_not_make_the_others_deaf() {
    for what in ["observer", "function"] {
        let mut victim = Victim::ready(captured_panics.told(what));
        victim.send(Signal::USR1);
        victim.expect("dropped on handle-exit");
        victim.send(Signal::TERM);
        let lines = ["ready", "inner's callback", "dropped on handle-exit", "outer's callback"];
        victim.end().said(&lines).died_by(Signal::TERM);
    }
}

pub(crate) const TESTS: &[Named] = tests![
    an_old_handler_hears_the_signal_that_came_while_its_guard_was_busy,
    an_old_handler_hears_the_signal_of_a_scope_that_ends_while_the_watcher_is_busy,
    a_guard_made_meanwhile_loses_no_signal_to_what_is_left_of_an_earlier_one,
    a_signal_that_shares_an_old_handler_and_comes_during_the_drop_is_heard,
    each_guard_with_always_runs_the_old_handler_also_inside_another,
    a_guest_made_over_a_foreign_handler_on_top_of_a_guard_hears,
    a_guest_made_over_ctrlc_on_top_of_a_guard_hears,
    a_destructor_that_panics_on_the_watcher_does_not_make_the_others_deaf;
    alone:
    host_over_a_foreign_handler_on_top,
];
