//! Ends of the process.

use std::cell::RefCell;
use std::time::Duration;

use handle_exit::{AfterScope, ConsoleEvent, Ending, HandleExit};

use super::events::{all, callback, guard, lines_of};
use crate::support::*;

const EXITS: [&str; 2] = ["callback: the process exits", "deferred"];

fn std_exit() {
    guard(HandleExit::builder()).keep();
    std::process::exit(5);
}

fn our_exit() {
    let _guard = guard(HandleExit::builder());
    handle_exit::exit(5);
}

fn our_exit_on_another_thread() {
    let _guard = guard(HandleExit::builder());
    std::thread::spawn(|| handle_exit::exit(5)).join().unwrap();
}

fn our_exit_without_a_guard() {
    drop(guard(HandleExit::builder()));
    handle_exit::exit(5);
}

/// It is `ExitProcess`, which ends all other threads before anybody is told.
fn process_exit_runs_nothing_and_the_crates_own_exit_everything() {
    Victim::start(std_exit).end().said(&[]).exited(5);
    for scenario in scenarios![our_exit, our_exit_on_another_thread] {
        Victim::start(scenario).end().said(&EXITS).exited(5);
    }
    let end = Victim::start(our_exit_without_a_guard).end();
    end.said(&["callback: the scope ended", "deferred"]).exited(5);
}

/// While `ExitProcess` runs, what other threads held is locked for ever: nothing may be waited for.
fn std_exit_while_the_callback_runs() {
    let guard = HandleExit::new(held_callback).unwrap();
    say("ready");
    until_held();
    std::thread::spawn(|| std::process::exit(5));
    guard.wait();
    drop(guard);
    say("behind");
}

fn std_exit_in_the_callback() {
    let guard = HandleExit::new(|| std::process::exit(6)).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn process_exit_does_not_hang_with_a_guard() {
    let mut victim = Victim::ready(std_exit_while_the_callback_runs);
    victim.send_event(ConsoleEvent::CtrlC);
    victim.expect("callback begins");
    victim.end().said(&["ready", "callback begins"]).exited(5);
    let victim = Victim::ready(std_exit_in_the_callback);
    victim.send_event(ConsoleEvent::CtrlC);
    victim.end().said(&["ready"]).exited(6);
}

fn our_exit_in_the_callback() {
    let guard = HandleExit::builder().append(told()).install_with(|cause| {
        callback(cause);
        handle_exit::exit(6)
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn c_exit_in_a_guests_callback() {
    at_exit(takes_a_while);
    let _guard = HandleExit::append(|| c_exit(6)).unwrap();
    ready_for_ever();
}

extern "C" fn takes_a_while() {
    std::thread::sleep(Duration::from_millis(200));
}

/// The event of a guest does not go to the system's own handler meanwhile, which would end the process with another code.
fn exit_in_the_callback_ends_with_its_code() {
    for is_guest in [false, true] {
        let victim = Victim::ready(our_exit_in_the_callback.told(is_guest));
        victim.send_event(ConsoleEvent::CtrlC);
        let end = victim.end();
        assert_eq!(end.lines, all(&["ready"], &lines_of(ConsoleEvent::CtrlC), &[]));
        end.exited(6);
    }
    let victim = Victim::ready(c_exit_in_a_guests_callback);
    victim.send_event(ConsoleEvent::CtrlC);
    victim.end().said(&["ready"]).exited(6);
}

fn returns_with_a_kept_guard() {
    guard(HandleExit::builder()).keep();
}

fn return_from_main_runs_a_kept_guard() {
    Victim::start(returns_with_a_kept_guard).end().said(&EXITS).exited(0);
}

/// Ends in one process after another: the code that each `Ending` gives.
fn ends_as_told() {
    let ending = match told::<u8>() {
        0 => Ending::Signal,
        1 => Ending::Code(7),
        _ => Ending::ShellCode,
    };
    let builder = HandleExit::builder().grace(Duration::ZERO).after_scope(AfterScope::End);
    let _guard = guard(builder.ending(ending));
    ready_for_ever();
}

fn the_ending_is_the_exit_code() {
    let rows = [
        (0, ConsoleEvent::CtrlC, STATUS_CONTROL_C_EXIT),
        (0, ConsoleEvent::Close, STATUS_CONTROL_C_EXIT),
        (1, ConsoleEvent::CtrlC, 7),
        (2, ConsoleEvent::CtrlC, 130),
        (2, ConsoleEvent::CtrlBreak, 143),
        (2, ConsoleEvent::Close, 143),
    ];
    for (ending, event, code) in rows {
        let victim = Victim::ready(ends_as_told.told(ending));
        victim.send_event(event);
        victim.end().exited(code);
    }
}

thread_local!(static LOCAL: RefCell<Option<HandleExit>> = const { RefCell::new(None) });

fn in_a_thread_local() {
    let place = || LOCAL.with(|local| *local.borrow_mut() = Some(guard(HandleExit::builder())));
    std::thread::spawn(place).join().unwrap();
    say("joined");
}

fn a_guard_in_a_thread_local_ends_with_its_thread() {
    let end = Victim::start(in_a_thread_local).end();
    end.said(&["callback: the scope ended", "deferred", "joined"]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    process_exit_runs_nothing_and_the_crates_own_exit_everything,
    process_exit_does_not_hang_with_a_guard,
    exit_in_the_callback_ends_with_its_code,
    return_from_main_runs_a_kept_guard,
    the_ending_is_the_exit_code,
    a_guard_in_a_thread_local_ends_with_its_thread,
];
