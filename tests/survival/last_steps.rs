//! The last step of a process: which thread takes it, with which status, and what may hang beside it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::encounters::{A_MOMENT, until_set, until_waits};
use crate::support::*;
use handle_exit::{Builder, Ending, Event, HandleExit, Outcome, Repeat, Signal};

// ------------------------------------------------------------------------------- one thread after the other

/// The callback ends the process on the watcher; main is inside `exit(3)`, in an exit function that exits too.
fn exit_function_exits_beside_a_callback_that_ends_the_process() {
    static EXITS: AtomicBool = AtomicBool::new(false);
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    extern "C" fn exits() {
        EXITS.store(true, SeqCst);
        until_set("the other thread ends the process", &HAS_RUN);
        handle_exit::exit(9);
    }
    let builder = HandleExit::builder().ending(Ending::Code(5)).callback_timeout(DEADLINE);
    let builder = builder.observe(|event| {
        if matches!(event, Event::EndingWithCode(_) | Event::EndingBySignal(_)) {
            say(event.to_string());
        }
    });
    let guard = builder.install(|| {
        until_set("main exits", &EXITS);
        handle_exit::exit_with_signal(Signal::TERM, || {});
    });
    let guard = guard.unwrap();
    let main = main_thread();
    guard
        .defer(move || {
            HAS_RUN.store(true, SeqCst);
            until_waits(main);
        })
        .unwrap();
    guard.keep();
    // Runs before the guard's own: last in, first out.
    at_exit(exits);
    raise(Signal::TERM);
    std::process::exit(0);
}

fn a_thread_inside_exit_takes_the_last_step_wherever_it_waits_and_the_end_is_told_once() {
    let end = Victim::start(exit_function_exits_beside_a_callback_that_ends_the_process).end();
    assert_eq!(end.lines.len(), 1, "{end:#?}");
    end.exited(5);
}

/// The last guard is dropped inside `exit(3)`, while its callback ends the process on the watcher.
fn guard_is_dropped_inside_exit_while_its_callback_ends_the_process() {
    static EXITS: AtomicBool = AtomicBool::new(false);
    static GUARD: std::sync::Mutex<Option<HandleExit>> = std::sync::Mutex::new(None);
    extern "C" fn drops() {
        EXITS.store(true, SeqCst);
        drop(GUARD.lock().unwrap().take());
        say("dropped");
    }
    let main = main_thread();
    let guard = HandleExit::builder().ending(Ending::Code(5)).install(move || {
        until_set("main exits", &EXITS);
        until_waits(main);
        // By the same signal, and late enough for a repeat.
        thread::sleep(SECOND_WISH);
        handle_exit::exit_with_signal(Signal::TERM, || {});
    });
    let guard = guard.unwrap();
    match &*told::<String>() {
        "signal" => raise(Signal::TERM),
        _ => guard.request(),
    }
    *GUARD.lock().unwrap() = Some(guard);
    at_exit(drops);
    std::process::exit(0);
}

fn a_callback_decides_the_status_though_its_guard_is_dropped_inside_exit() {
    in_each(&["signal", "request"], |begun| {
        let scenario = guard_is_dropped_inside_exit_while_its_callback_ends_the_process.told(begun);
        Victim::start(scenario).end().said(&["dropped"]).exited(5);
    });
}

/// A guard of ABRT ends on main, which then exits, while the watcher is in the callback of another one.
fn process_exits_beside_an_abort() {
    static EXITS: AtomicBool = AtomicBool::new(false);
    static RUNS: AtomicBool = AtomicBool::new(false);
    extern "C" fn never_ends() {
        park();
    }
    // Runs after the guards' own.
    at_exit(never_ends);
    let other = HandleExit::builder().append(true).callback_timeout(10 * DEADLINE);
    let other = other.install(|| {
        RUNS.store(true, SeqCst);
        until_set("main exits", &EXITS);
    });
    let other = other.unwrap();
    let abort = HandleExit::builder().append(true).signals([Signal::ABRT]);
    let abort = abort.install(|| say("callback")).unwrap();
    other.request();
    until_set("the other callback runs", &RUNS);
    other.keep();
    let exit = abort.handle();
    thread::spawn(|| std::process::abort());
    until("the abort has begun", || exit.is_exiting());
    drop(abort);
    EXITS.store(true, SeqCst);
    std::process::exit(0);
}

fn a_thread_in_abort_is_let_go_when_the_guards_have_run() {
    Victim::start(process_exits_beside_an_abort).end().said(&["callback"]).died_by(Signal::ABRT);
}

// ---------------------------------------------------------------------------- exit functions that hang

extern "C" fn hangs() {
    say("hangs");
    park();
}

/// A guard after which TERM leads to the exit functions, with 3 or 101, in the way that is told.
fn exits_on_term(builder: Builder) -> ! {
    match &*told::<String>() {
        "exit" => builder.install(|| std::process::exit(3)).unwrap().keep(),
        "code" => builder.cleanup().ending(Ending::Code(3)).install(|| {}).unwrap().keep(),
        "panic" => builder.install(|| panic!("on purpose")).unwrap().keep(),
        "drop" => {
            let guard = builder.append(true).ending(Ending::Code(3)).install(|| {}).unwrap();
            say("ready");
            guard.wait();
            drop(guard);
        }
        other => panic!("{other}"),
    }
    ready_for_ever();
}

fn exit_function_hangs_after_the_guard() {
    at_exit(hangs);
    exits_on_term(HandleExit::builder());
}

fn a_second_signal_ends_an_exit_function_that_hangs() {
    in_each(&["exit", "code", "panic", "drop"], |way| {
        let mut victim = Victim::ready(exit_function_hangs_after_the_guard.told(way));
        victim.send(Signal::TERM);
        victim.expect("hangs");
        victim.send(Signal::TERM);
        victim.at_rest();
        thread::sleep(SECOND_WISH);
        victim.send(Signal::TERM);
        victim.end().died_by(Signal::TERM);
    });
}

/// The watcher, which is to look at signals, is in a function of `on` until it is told.
fn exit_function_hangs_while_the_watcher_is_busy() {
    at_exit(hangs);
    let builder = HandleExit::builder().on(Signal::HUP, |_| held_callback());
    builder.install(|| {}).unwrap().keep();
    raise(Signal::HUP);
    until_held();
    std::process::exit(3);
}

fn two_signals_that_are_looked_at_together_end_an_exit_function_that_hangs() {
    let mut victim = Victim::start(exit_function_hangs_while_the_watcher_is_busy);
    victim.expect("hangs");
    victim.send(Signal::TERM);
    thread::sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim.tell("go on");
    victim.end().died_by(Signal::TERM);
}

extern "C" fn waits_to_be_told() {
    say("waits");
    hear();
}

/// The watcher runs the deferred function, so that it looks at signals only afterwards.
fn exit_function_waits_after_a_deferred_function() {
    at_exit(waits_to_be_told);
    let guard = HandleExit::builder().cleanup().ending(Ending::Code(3)).install(|| {}).unwrap();
    guard.defer(held_callback).unwrap();
    guard.keep();
    ready_for_ever();
}

fn signals_that_came_before_the_exit_functions_end_none_of_them() {
    let mut victim = Victim::ready(exit_function_waits_after_a_deferred_function);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    victim.send(Signal::TERM);
    thread::sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim.at_rest();
    victim.tell("go on");
    victim.expect("waits");
    victim.at_rest();
    victim.tell("go on");
    victim.end().exited(3);
}

/// Beside a guest that absorbs nothing.
fn exit_function_waits_after_a_host_that_absorbs() {
    at_exit(waits_to_be_told);
    HandleExit::append(|| {}).unwrap().keep();
    exits_on_term(HandleExit::builder().repeat(Repeat::Absorb));
}

fn nothing_ends_an_exit_function_where_repeats_are_absorbed() {
    in_each(&["exit", "code"], |way| {
        let mut victim = Victim::ready(exit_function_waits_after_a_host_that_absorbs.told(way));
        victim.send(Signal::TERM);
        victim.expect("waits");
        for _ in 0..2 {
            victim.send(Signal::TERM);
            victim.at_rest();
            thread::sleep(SECOND_WISH);
        }
        victim.tell("go on");
        victim.end().exited(3);
    });
}

extern "C" fn never_returns(_: std::ffi::c_int) {
    say_in_handler("old\n");
    park();
}

/// Each of the guests has the signal whose old handler never returns.
fn many_guests_exit_beside_an_old_handler_that_never_returns() {
    install_exactly(Signal::TERM, never_returns as *const () as usize, 0, &[]);
    for _ in 0..8 {
        HandleExit::append(|| {}).unwrap().keep();
    }
    say("ready");
    hear();
    std::process::exit(3);
}

fn an_old_handler_that_never_returns_is_waited_for_once() {
    let mut victim = Victim::ready(many_guests_exit_beside_an_old_handler_that_never_returns);
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.tell("go on");
    victim.end().exited(3);
}

extern "C" fn takes_a_second(_: std::ffi::c_int) {
    say_in_handler("old begins\n");
    thread::sleep(Duration::from_secs(1));
    say_in_handler("old ends\n");
}

/// Main exits as soon as the exit has begun.
fn process_exits_before_a_long_callback_and_an_old_handler() {
    install_exactly(Signal::TERM, takes_a_second as *const () as usize, 0, &[]);
    let guard = HandleExit::append(|| {
        // Time is under test: longer than an exit waits for an old handler.
        thread::sleep(Duration::from_secs(11));
        say("callback");
    });
    let guard = guard.unwrap();
    say("ready");
    guard.wait();
    guard.keep();
    std::process::exit(3);
}

fn the_time_of_an_old_handler_begins_when_the_callback_is_done() {
    let victim = Victim::ready(process_exits_before_a_long_callback_and_an_old_handler);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback", "old begins", "old ends"]).exited(3);
}

/// Signals that end nothing come twice while the exit functions run.
fn exit_functions_hear_what_ends_nothing() {
    extern "C" fn is_told_twice() {
        for _ in 0..2 {
            for signal in [Signal::CHLD, Signal::USR1] {
                kill_this_process(signal);
            }
            // Time is under test.
            thread::sleep(SECOND_WISH);
        }
        say("exit function");
    }
    at_exit(is_told_twice);
    let builder = HandleExit::builder().on(Signal::CHLD, |_| {}).on(Signal::USR1, |_| {});
    if told::<String>() == "exit" {
        let guard = builder.install(|| std::process::exit(3)).unwrap();
        guard.request();
        park();
    }
    let _guard = builder.install(|| {}).unwrap();
    let inner = HandleExit::builder().append(true).ending(Ending::Code(3)).install(|| {}).unwrap();
    raise(Signal::TERM);
    inner.wait();
    inner.finish().end_process();
}

fn a_signal_that_ends_nothing_ends_no_exit_function() {
    for way in ["exit", "outcome"] {
        let end = Victim::start(exit_functions_hear_what_ends_nothing.told(way)).end();
        end.said(&["exit function"]).exited(3);
    }
}

/// The process ends with a code, and an exit function makes a guard.
fn exit_function_makes_guests_after_an_outcome() {
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    extern "C" fn makes_some() {
        let new = HandleExit::builder().append(true).signals([Signal::HUP]);
        new.install(|| say("new")).unwrap().keep();
        // It joins the exit by a signal that came before, and takes its time.
        let joins = HandleExit::append(|| {
            thread::sleep(A_MOMENT);
            say("joins");
        });
        joins.unwrap().keep();
    }
    let guest = HandleExit::append(|| HAS_RUN.store(true, SeqCst)).unwrap();
    guest.keep();
    let fails = HandleExit::builder().append(true).signals([Signal::HUP]);
    let fails = fails.install(|| panic!("on purpose")).unwrap();
    at_exit(makes_some);
    raise(Signal::TERM);
    until_set("the callback has run", &HAS_RUN);
    fails.finish().end_process();
}

fn guests_that_an_exit_function_makes_run_and_change_no_status() {
    let end = Victim::start(exit_function_makes_guests_after_an_outcome).end();
    end.said(&["joins", "new"]).exited(101);
}

fn observer_makes_a_guest_in_the_last_event() {
    let guest = HandleExit::builder().append(true).grace(Duration::ZERO).observe(|event| {
        if matches!(event, Event::EndingWithCode(_) | Event::EndingBySignal(_)) {
            HandleExit::append(|| say("late")).unwrap().keep();
        }
    });
    let way: String = told();
    let fails = way == "exit";
    let guest = guest.install(move || {
        say("callback");
        assert!(!fails, "on purpose");
    });
    guest.unwrap().keep();
    match &*way {
        "outcome" => HandleExit::append(|| {}).unwrap().finish().end_process(),
        "exit" => std::process::exit(0),
        _ => raise(Signal::TERM),
    }
    park();
}

fn a_guest_that_an_observer_makes_in_the_last_event_runs() {
    let end = |way| {
        let end = Victim::start(observer_makes_a_guest_in_the_last_event.told(way)).end();
        end.said(&["callback", "late"]);
        end
    };
    end("outcome").exited(0);
    end("exit").exited(101);
    end("signal").died_by(Signal::TERM);
}

/// The process ends with a code, and the callback of a guard that an exit function makes panics.
fn exit_function_makes_a_guest_that_panics() {
    extern "C" fn makes_one() {
        HandleExit::append(|| panic!("on purpose")).unwrap().keep();
    }
    let guard = HandleExit::append(|| {}).unwrap();
    at_exit(makes_one);
    guard.finish().end_process();
}

fn a_guest_that_an_exit_function_makes_may_fail() {
    Victim::start(exit_function_makes_a_guest_that_panics).end().exited(101);
}

/// The process ends with a code, and the callback of a guard that an exit function makes exits on the watcher, or ends
/// the process.
fn exit_function_makes_a_guest_that_exits() {
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    static OUTCOME: std::sync::Mutex<Option<Outcome>> = std::sync::Mutex::new(None);
    extern "C" fn makes_one() {
        let main = main_thread();
        let guest = HandleExit::append(move || {
            until_waits(main);
            match OUTCOME.lock().unwrap().take() {
                Some(outcome) => outcome.end_process(),
                None => handle_exit::exit(7),
            }
        });
        guest.unwrap().keep();
    }
    if told::<String>() == "outcome" {
        *OUTCOME.lock().unwrap() = Some(HandleExit::append(|| {}).unwrap().finish());
    }
    HandleExit::append(|| HAS_RUN.store(true, SeqCst)).unwrap().keep();
    let other = HandleExit::builder().append(true).ending(Ending::Code(3)).install(|| {}).unwrap();
    at_exit(makes_one);
    raise(Signal::TERM);
    until_set("the callback has run", &HAS_RUN);
    other.finish().end_process();
}

fn a_guest_that_an_exit_function_makes_may_choose_the_code() {
    for (way, code) in [("exit", 7), ("outcome", 0)] {
        Victim::start(exit_function_makes_a_guest_that_exits.told(way)).end().exited(code);
    }
}

/// Main exits while the watcher tells how the process ends.
fn process_exits_while_its_end_is_told() {
    static TELLS: AtomicBool = AtomicBool::new(false);
    fn tells(builder: Builder, line: &'static str) -> Builder {
        builder.observe(move |event| {
            if matches!(event, Event::EndingBySignal(_)) {
                TELLS.store(true, SeqCst);
                thread::sleep(A_MOMENT / 2);
                say(line);
            }
        })
    }
    let guest = tells(HandleExit::builder().append(true), "guest");
    guest.install(|| {}).unwrap().keep();
    // Each observer with a limit wakes the thread that waits.
    let main = main_thread();
    for _ in 0..told() {
        let wakes = HandleExit::builder().append(true).callback_timeout(DEADLINE);
        let wakes = wakes.observe(move |event| {
            if matches!(event, Event::EndingBySignal(_)) {
                until("the thread waits", || sleeps(main));
            }
        });
        wakes.install(|| {}).unwrap().keep();
    }
    let host = tells(HandleExit::builder().cleanup(), "host");
    host.install(|| {}).unwrap().keep();
    raise(Signal::TERM);
    until_set("the end is told", &TELLS);
    std::process::exit(0);
}

fn a_thread_that_takes_the_end_over_waits_until_it_is_told() {
    for others in ["0", "25"] {
        let end = Victim::start(process_exits_while_its_end_is_told.told(others)).end();
        end.said(&["host", "guest"]).died_by(Signal::TERM);
    }
}

/// The observer that is told how the process ends exits itself, while main does.
fn process_exits_while_an_observer_of_its_end_exits() {
    static TELLS: AtomicBool = AtomicBool::new(false);
    let main = main_thread();
    let host = HandleExit::builder().cleanup().observe(move |event| {
        if matches!(event, Event::EndingBySignal(_)) {
            TELLS.store(true, SeqCst);
            until_waits(main);
            thread::sleep(A_MOMENT);
            handle_exit::exit(7);
        }
    });
    host.install(|| {}).unwrap().keep();
    raise(Signal::TERM);
    until_set("the end is told", &TELLS);
    std::process::exit(0);
}

fn an_observer_of_the_end_that_exits_chooses_the_code() {
    Victim::start(process_exits_while_an_observer_of_its_end_exits).end().exited(7);
}

// -------------------------------------------------------------------------------------- abort

fn abort_has_an_old_handler_that_returns() {
    install_old(Signal::ABRT);
    let guard = HandleExit::builder().append(true).also([Signal::ABRT]);
    let guard = guard.callback_timeout(10 * DEADLINE).install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    std::process::abort();
}

fn an_abort_ends_the_process_when_its_old_handler_has_returned() {
    let end = Victim::start(abort_has_an_old_handler_that_returns).end();
    end.said(&["callback", "old", "deferred"]).died_by(Signal::ABRT);
}

/// An abort waits as long as the callback may take that the watcher has run.
fn abort_begins_no_exit() {
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    let builder = HandleExit::builder().append(true).on(Signal::ABRT, |_| say("on"));
    let _guard = builder.install(|| say("callback")).unwrap();
    let other = HandleExit::builder().append(true).callback_timeout(10 * DEADLINE);
    let other = other.install(|| HAS_RUN.store(true, SeqCst)).unwrap();
    other.request();
    until_set("the callback has run", &HAS_RUN);
    std::process::abort();
}

fn an_abort_that_is_only_heard_waits_for_no_callback() {
    Victim::start(abort_begins_no_exit).end().said(&["on"]).died_by(Signal::ABRT);
}

// ------------------------------------------------------------------------------- the status of another guard

/// A function of `on` ends the process; the callback of another guard waits for it, and has a limit.
fn on_function_exits_though_a_callback_waits_for_it() {
    let limited = HandleExit::builder().append(true).callback_timeout(SOON_OVER);
    let limited = limited.install(|| say("limited")).unwrap();
    let exit = limited.handle();
    let _slow = HandleExit::append(|| {
        // Time is under test: more than twice the limit of the other.
        thread::sleep(3 * SOON_OVER);
        say("slow");
    });
    let hears = HandleExit::builder().append(true).signals([]).on(Signal::USR1, move |_| {
        until("the exit has begun", || exit.is_exiting());
        thread::sleep(A_MOMENT);
        handle_exit::exit(7);
    });
    let _hears = hears.install(|| {}).unwrap();
    raise(Signal::USR1);
    raise(Signal::TERM);
    park();
}

fn an_on_function_that_exits_is_not_waited_for_any_more() {
    let end = Victim::start(on_function_exits_though_a_callback_waits_for_it).end();
    end.said(&["slow", "limited"]).exited(7);
}

/// The oldest guest ends in the callback of another one, after a signal for which it decides; that callback panics.
fn guest_ends_in_a_callback_that_panics() {
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    static HEARS: AtomicBool = AtomicBool::new(false);
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    let oldest = HandleExit::builder().append(true).grace(Duration::MAX);
    let oldest = oldest.install(|| HAS_RUN.store(true, SeqCst)).unwrap();
    let holds = HandleExit::builder().append(true).signals([]).on(Signal::USR1, |_| {
        HEARS.store(true, SeqCst);
        until_set("the panic is over", &IS_OVER);
    });
    let _holds = holds.install(|| {}).unwrap();
    let newest = HandleExit::builder().append(true).signals([Signal::HUP]);
    let newest = newest.install(move || {
        drop(oldest);
        panic!("on purpose");
    });
    let newest = newest.unwrap();
    raise(Signal::TERM);
    until_set("the callback has run", &HAS_RUN);
    // The watcher can see to nothing meanwhile.
    raise(Signal::USR1);
    until_set("the watcher hears", &HEARS);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(newest)));
    assert!(panicked.is_err());
    IS_OVER.store(true, SeqCst);
    park();
}

fn what_a_guest_wants_is_not_lost_by_a_panic_around_it() {
    Victim::start(guest_ends_in_a_callback_that_panics).end().died_by(Signal::TERM);
}

pub(crate) const TESTS: &[Named] = tests![
    a_thread_inside_exit_takes_the_last_step_wherever_it_waits_and_the_end_is_told_once,
    a_callback_decides_the_status_though_its_guard_is_dropped_inside_exit,
    a_thread_in_abort_is_let_go_when_the_guards_have_run,
    a_second_signal_ends_an_exit_function_that_hangs,
    two_signals_that_are_looked_at_together_end_an_exit_function_that_hangs,
    signals_that_came_before_the_exit_functions_end_none_of_them,
    nothing_ends_an_exit_function_where_repeats_are_absorbed,
    an_old_handler_that_never_returns_is_waited_for_once,
    the_time_of_an_old_handler_begins_when_the_callback_is_done,
    a_signal_that_ends_nothing_ends_no_exit_function,
    guests_that_an_exit_function_makes_run_and_change_no_status,
    a_guest_that_an_exit_function_makes_may_fail,
    a_guest_that_an_exit_function_makes_may_choose_the_code,
    a_thread_that_takes_the_end_over_waits_until_it_is_told,
    an_observer_of_the_end_that_exits_chooses_the_code,
    a_guest_that_an_observer_makes_in_the_last_event_runs,
    an_abort_ends_the_process_when_its_old_handler_has_returned,
    an_abort_that_is_only_heard_waits_for_no_callback,
    an_on_function_that_exits_is_not_waited_for_any_more,
    what_a_guest_wants_is_not_lost_by_a_panic_around_it,
];
