//! Old handlers run after the callback, as real deliveries, and decide what happens next.

#![allow(unsafe_code, reason = "old handlers are the test's subject")]

use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst,
};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{Builder, HandleExit, OldHandler, Signal};
use nix::libc::{self, c_int, c_void, siginfo_t};

fn callback() {
    say("callback");
}

/// A builder that appends, and whose signals of default disposition end the process at once.
fn append() -> Builder {
    HandleExit::builder().append(true).grace(Duration::ZERO)
}

// ----------------------------------------------------------------------------------- old handlers

extern "C" fn old_of_int(_: c_int) {
    say_in_handler("old of INT\n");
}

/// Returns long after an exit that does not wait for it would be over, and long before the second is
/// that one which waits gives it.
extern "C" fn old_and_slow(_: c_int) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    // SAFETY: nanosleep(2) is async-signal-safe; the time is valid, and nobody asks for what is left.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
    say_in_handler("old\n");
}

extern "C" fn never_returns(_: c_int) {
    say_in_handler("old\n");
    loop {
        // SAFETY: pause(2) is async-signal-safe.
        unsafe { libc::pause() };
    }
}

extern "C" fn exits_directly(_: c_int) {
    say_in_handler("old\n");
    // SAFETY: _exit(2) ends the process.
    unsafe { libc::_exit(66) };
}

extern "C" fn exits_through_libc(_: c_int) {
    say_in_handler("old\n");
    // SAFETY: as badly behaved as many handlers are; on the watcher thread it interrupts nothing.
    unsafe { libc::exit(66) };
}

extern "C" fn exits_through_std(_: c_int) {
    say_in_handler("old\n");
    std::process::exit(66);
}

/// What a handler does that cleans up and then wants the default: it must still die truthfully.
extern "C" fn raises_again(signal: c_int) {
    say_in_handler("old\n");
    // SAFETY: both are async-signal-safe.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// What the old handler was told and where it ran; `RAN` is set when all of it is there.
static CODE: AtomicI32 = AtomicI32::new(0);
static PID: AtomicI32 = AtomicI32::new(0);
static UID: AtomicU32 = AtomicU32::new(u32::MAX);
static VALUE: AtomicUsize = AtomicUsize::new(0);
static THREAD: AtomicI32 = AtomicI32::new(0);
static MASK: AtomicU64 = AtomicU64::new(0);
static RAN: AtomicBool = AtomicBool::new(false);

extern "C" fn looks_around(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: siginfo is the kernel's; the calls are async-signal-safe and write to locals.
    unsafe {
        let info = &*info;
        CODE.store(info.si_code, SeqCst);
        PID.store(info.si_pid(), SeqCst);
        UID.store(info.si_uid(), SeqCst);
        VALUE.store(info.si_value().sival_ptr as usize, SeqCst);
        THREAD.store(libc::gettid(), SeqCst);
        let mut mask = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask);
        MASK.store(bits_of(&mask), SeqCst);
    }
    RAN.store(true, SeqCst);
}

fn install_looks_around(flags: c_int, mask: &[Signal]) {
    let handler = looks_around as *const () as usize;
    install_exactly(Signal::TERM, handler, libc::SA_SIGINFO | flags, mask);
}

// ------------------------------------------------------------------------------------ scenarios

/// The process lives on after a signal that has a handler of its own.
fn returns() {
    install(Signal::TERM, says_old);
    let guard = append().install(callback).unwrap();
    say("ready");
    hear();
    drop(guard);
    say("behind");
}

fn term_has_a_handler_int_has_none() {
    install(Signal::TERM, says_old);
    let _guard = append().install(callback).unwrap();
    ready_for_ever();
}

fn with_deferred(handler: extern "C" fn(c_int)) -> ! {
    let signal: Signal = told();
    install(signal, handler);
    let guard = append().signals([signal]).install(callback).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn old_exits_directly() {
    with_deferred(exits_directly);
}

fn old_exits_through_libc() {
    with_deferred(exits_through_libc);
}

fn old_exits_through_std() {
    with_deferred(exits_through_std);
}

fn old_raises_again() {
    with_deferred(raises_again);
}

fn old_looks_around() {
    install_looks_around(libc::SA_RESTART, &[Signal::USR1]);
    let guard = append().install(callback).unwrap();
    say("ready");
    until("the old handler ran", || RAN.load(SeqCst));
    let (code, pid, uid) = (CODE.load(SeqCst), PID.load(SeqCst), UID.load(SeqCst));
    say(format!("code {code} pid {pid} uid {uid} value {}", VALUE.load(SeqCst)));
    drop(guard);
}

fn old_runs_on_the_watcher_with_its_mask() {
    install_looks_around(0, &[Signal::USR1, Signal::HUP]);
    let before = threads();
    let guard = append().install(callback).unwrap();
    let watcher = started_since(&before);
    raise(Signal::TERM);
    until("the old handler ran", || RAN.load(SeqCst));
    assert_eq!(THREAD.load(SeqCst), watcher);
    let blocked = signal_bits(&[Signal::TERM, Signal::USR1, Signal::HUP]);
    assert_eq!(MASK.load(SeqCst), blocked, "its own mask and its signal, not the guard's");
    drop(guard);
}

fn old_runs_with_its_flags() {
    install_looks_around(libc::SA_NODEFER | libc::SA_RESETHAND, &[Signal::USR1]);
    let guard = append().install(callback).unwrap();
    raise(Signal::TERM);
    until("the old handler ran", || RAN.load(SeqCst));
    assert_eq!(
        MASK.load(SeqCst),
        signal_bit(Signal::USR1),
        "SA_NODEFER leaves its signal unblocked"
    );
    // Used up by the delivery, and not put back: TERM kills.
    drop(guard);
    raise(Signal::TERM);
    unreachable!("SA_RESETHAND had put the default back");
}

/// A callback that waits until the main thread is done with what it does.
fn waits_for(sender: Sender<()>) -> (impl FnOnce() + Send, Sender<()>) {
    let (done, wait) = channel::<()>();
    let callback = move || {
        callback();
        sender.send(()).unwrap();
        // An error: the other end is dropped, which is what it waits for.
        let _ = wait.recv();
    };
    (callback, done)
}

fn ten_while_the_callback_runs() {
    while_the_callback_runs(|_| raise(Signal::TERM), &[Signal::TERM; 9]);
    say("behind");
}

/// Something begins the exit, and the rest comes while the callback runs.
fn while_the_callback_runs(begin: impl FnOnce(&HandleExit), rest: &[Signal]) {
    install(Signal::TERM, says_old);
    install(Signal::INT, old_of_int);
    let (begins, begun) = channel();
    let (callback, done) = waits_for(begins);
    let guard = append().install(callback).unwrap();
    begin(&guard);
    begun.recv().unwrap();
    rest.iter().copied().for_each(raise);
    drop(done);
    drop(guard);
}

fn int_then_term() {
    while_the_callback_runs(|_| raise(Signal::INT), &[Signal::TERM]);
}

fn term_then_int() {
    while_the_callback_runs(|_| raise(Signal::TERM), &[Signal::INT]);
}

/// The watcher finds both at once.
fn int_and_term() {
    while_the_callback_runs(|guard| guard.request(), &[Signal::INT, Signal::TERM]);
}

fn term_and_int() {
    while_the_callback_runs(|guard| guard.request(), &[Signal::TERM, Signal::INT]);
}

fn two_from_outside() {
    install(Signal::TERM, says_old);
    install(Signal::INT, old_of_int);
    let guard = append().install(|| {
        callback();
        hear();
    });
    let _guard = guard.unwrap();
    ready_for_ever();
}

fn always_shared() {
    install(Signal::TERM, says_old);
    install(Signal::INT, says_old);
    drop(append().old_handler(OldHandler::Always).install(callback).unwrap());
    say("behind");
    let _ = append().old_handler(OldHandler::Always).install(callback).unwrap().finish();
    say("behind");
}

fn always_distinct() {
    install(Signal::TERM, says_old);
    install(Signal::INT, old_of_int);
    drop(append().old_handler(OldHandler::Always).install(callback).unwrap());
    say("behind");
}

fn always_after_a_signal() {
    install(Signal::TERM, says_old);
    install(Signal::INT, says_old);
    let guard = append().old_handler(OldHandler::Always).install(callback).unwrap();
    raise(Signal::TERM);
    guard.wait();
    drop(guard);
    say("behind");
}

fn a_disarmed_guard_runs_no_old_handler() {
    install(Signal::TERM, says_old);
    assert!(append().old_handler(OldHandler::Always).install(callback).unwrap().disarm());
}

fn on_signal_without_a_signal() {
    install(Signal::TERM, says_old);
    drop(append().install(callback).unwrap());
    let _ = append().install(callback).unwrap().finish();
    panics_through_a_scope();
    let guard = append().install(callback).unwrap();
    guard.request();
    drop(guard);
    say("behind");
}

fn panics_through_a_scope() {
    let panicked = std::panic::catch_unwind(|| {
        let _guard = append().install(callback).unwrap();
        panic!("on purpose");
    });
    assert!(panicked.is_err());
}

/// Set by an exit function that runs before the guard's: `main` has returned.
static EXITING: AtomicBool = AtomicBool::new(false);

extern "C" fn note_exiting() {
    EXITING.store(true, SeqCst);
}

/// The callback ends only when the process is already exiting, so the old handler comes after that.
fn returning_from_main(handler: extern "C" fn(c_int), end: impl FnOnce()) {
    install(Signal::TERM, handler);
    let (begins, begun) = channel();
    let guard = append().install(move || {
        callback();
        begins.send(()).unwrap();
        until("main returns", || EXITING.load(SeqCst));
    });
    guard.unwrap().keep();
    // Last in, first out.
    at_exit(note_exiting);
    say("ready");
    begun.recv().unwrap();
    end();
}

fn main_returns() {
    returning_from_main(old_and_slow, || {});
}

fn main_exits() {
    returning_from_main(old_and_slow, || std::process::exit(3));
}

fn main_exits_beside_one_that_never_returns() {
    returning_from_main(never_returns, || std::process::exit(3));
}

/// Signals that come behind the callback, in a process that is exiting.
fn signals_in_an_exit() {
    at_exit(says_exit_function);
    install(Signal::TERM, says_old);
    let guard = append().install(callback).unwrap();
    guard
        .defer(|| {
            raise(Signal::TERM);
            raise(Signal::INT);
        })
        .unwrap();
    guard.keep();
    std::process::exit(3);
}

/// A signal would run the handler on top, so the old one is called by hand.
fn old_looks_around_below_a_foreign_one() {
    install_looks_around(0, &[Signal::USR1]);
    let guard = append().install(callback).unwrap();
    put_silently_on_top();
    raise(Signal::TERM);
    until("the old handler ran", || RAN.load(SeqCst));
    assert_eq!((CODE.load(SeqCst), PID.load(SeqCst)), (libc::SI_TKILL, std::process::id() as i32));
    assert_eq!(MASK.load(SeqCst), signal_bits(&[Signal::TERM, Signal::USR1]));
    drop(guard);
}

/// Runs on the watcher, which it interrupts nowhere.
extern "C" fn takes_its_time(_: c_int) {
    say("old begins");
    hear();
    say("old ends");
}

fn old_takes_its_time() {
    install(Signal::TERM, takes_its_time);
    let always = told::<String>() == "always";
    let when = if always { OldHandler::Always } else { OldHandler::OnSignal };
    let guard = append().old_handler(when).install(callback).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    if !always {
        raise(Signal::TERM);
    }
    drop(guard);
    say("behind");
}

/// The signal comes when the callback that the end of the scope began is at work.
fn signalled_while_the_scope_ends() {
    install_looks_around(0, &[]);
    drop(append().install(|| raise(Signal::TERM)).unwrap());
    assert!(RAN.load(SeqCst));
    assert_eq!((CODE.load(SeqCst), PID.load(SeqCst)), (libc::SI_TKILL, std::process::id() as i32));
}

/// Of all threads, the one that ends the scope blocks the signal.
fn signalled_while_a_thread_that_blocks_it_ends_the_scope() {
    std::thread::spawn(|| {
        park();
    });
    block(Signal::TERM);
    let guard = HandleExit::new(|| {
        callback();
        kill_this_process(Signal::TERM);
        until("another thread takes it", || !is_pending_here(Signal::TERM));
    });
    drop(guard.unwrap());
    park();
}

/// The signal comes when the callback that the end of the process began is at work.
fn signalled_while_the_process_exits() {
    install(Signal::TERM, says_old);
    static BEFORE: OnceLock<(usize, i32, u64)> = OnceLock::new();
    BEFORE.set(disposition(Signal::TERM)).unwrap();
    extern "C" fn says_whether_it_is_back() {
        let is_back = BEFORE.get() == Some(&disposition(Signal::TERM));
        say(if is_back { "put back" } else { "not put back" });
    }
    // Behind the guard's: last in, first out.
    at_exit(says_whether_it_is_back);
    let guard = append().install(|| {
        callback();
        raise(Signal::TERM);
        say("callback ends");
    });
    guard.unwrap().keep();
    std::process::exit(3);
}

// ---------------------------------------------------------------------------------------- tests

fn a_signal_with_a_handler_of_its_own_does_not_end_the_process() {
    let mut victim = Victim::ready(returns);
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.tell("go on");
    victim.end().said(&["ready", "callback", "old", "behind"]).exited(0);
}

fn after_its_handler_ran_the_signal_is_its_own() {
    let mut victim = Victim::ready(returns);
    for _ in 0..3 {
        victim.send(Signal::TERM);
        victim.expect("old");
    }
    victim.tell("go on");
    victim.end().said(&["ready", "callback", "old", "old", "old", "behind"]).exited(0);
}

fn exiting_with_66(scenario: Scenario, lines: &[&str]) {
    for signal in [Signal::TERM, Signal::INT, Signal::ABRT] {
        let victim = Victim::ready(scenario.told(signal));
        victim.send(signal);
        victim.end().said(lines).exited(66);
    }
}

fn an_old_handler_that_calls_underscore_exit_decides_the_status() {
    exiting_with_66(Scenario::of(old_exits_directly), &["ready", "callback", "old"]);
}

fn an_old_handler_that_calls_exit_decides_the_status_and_deferred_functions_run() {
    exiting_with_66(
        Scenario::of(old_exits_through_libc),
        &["ready", "callback", "old", "deferred"],
    );
    exiting_with_66(Scenario::of(old_exits_through_std), &["ready", "callback", "old", "deferred"]);
}

fn an_old_handler_that_raises_again_dies_of_the_signal() {
    let victim = Victim::ready(old_raises_again.told(Signal::TERM));
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback", "old"]).died_by(Signal::TERM);
}

fn an_old_handler_gets_the_senders_siginfo() {
    let victim = Victim::ready(old_looks_around);
    victim.send(Signal::TERM);
    let end = victim.end();
    end.exited(0);
    let (pid, uid) = (nix::unistd::getpid(), nix::unistd::getuid());
    let sent_by_us = format!("code {} pid {pid} uid {uid} ", libc::SI_USER);
    assert!(end.lines[2].starts_with(&sent_by_us), "no `{sent_by_us}`: {end:#?}");
}

fn an_old_handler_gets_the_value_of_sigqueue() {
    let victim = Victim::ready(old_looks_around);
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(0x1234_5678) };
    // SAFETY: sigqueue(3) to a child that is not waited for yet.
    assert_eq!(unsafe { libc::sigqueue(victim.pid(), libc::SIGTERM, value) }, 0);
    let (pid, uid) = (nix::unistd::getpid(), nix::unistd::getuid());
    let queued = format!("code {} pid {pid} uid {uid} value {}", libc::SI_QUEUE, 0x1234_5678);
    victim.end().said(&["ready", "callback", &queued]).exited(0);
}

fn an_old_handler_runs_on_the_watcher_with_its_own_mask() {
    Victim::start(old_runs_on_the_watcher_with_its_mask).end().said(&["callback"]).exited(0);
}

fn an_old_handler_below_a_foreign_one_gets_siginfo_and_mask() {
    Victim::start(old_looks_around_below_a_foreign_one).end().said(&["callback"]).exited(0);
}

fn an_old_handlers_flags_hold() {
    let end = Victim::start(old_runs_with_its_flags).end();
    end.said(&["callback"]).died_by(Signal::TERM);
}

fn ten_signals_in_a_row_are_one() {
    let end = Victim::start(ten_while_the_callback_runs).end();
    end.said(&["callback", "old", "behind"]).exited(0);
}

fn ten_signals_from_outside_run_the_callback_once_and_first() {
    let mut victim = Victim::ready(returns);
    for _ in 0..10 {
        victim.send(Signal::TERM);
    }
    victim.expect("old");
    victim.tell("go on");
    let end = victim.end();
    end.exited(0);
    // Those that came after the old handler was handed its signal are its own.
    assert_eq!(end.lines[..3], ["ready", "callback", "old"], "{end:#?}");
    assert_eq!(end.count("callback"), 1, "{end:#?}");
    assert!(end.count("old") <= 10, "{end:#?}");
}

fn two_signals_run_their_handlers_in_order_of_arrival() {
    for scenario in scenarios![int_then_term, int_and_term] {
        Victim::start(scenario).end().said(&["callback", "old of INT", "old"]).exited(0);
    }
    for scenario in scenarios![term_then_int, term_and_int] {
        Victim::start(scenario).end().said(&["callback", "old", "old of INT"]).exited(0);
    }
}

fn two_signals_from_outside_run_their_handlers_in_order_of_arrival() {
    for (first, second, lines) in [
        (Signal::INT, Signal::TERM, ["ready", "callback", "old of INT", "old"]),
        (Signal::TERM, Signal::INT, ["ready", "callback", "old", "old of INT"]),
    ] {
        let mut victim = Victim::ready(two_from_outside);
        victim.send(first);
        victim.expect("callback");
        victim.send(second);
        victim.tell("end the callback");
        victim.expect(lines[3]);
        victim.send(Signal::KILL);
        victim.end().said(&lines).died_by(Signal::KILL);
    }
}

fn a_signal_without_a_handler_ends_the_process_though_another_has_one() {
    let mut victim = Victim::ready(term_has_a_handler_int_has_none);
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.send(Signal::INT);
    victim.end().said(&["ready", "callback", "old"]).died_by(Signal::INT);

    let victim = Victim::ready(term_has_a_handler_int_has_none);
    victim.send(Signal::INT);
    victim.end().said(&["ready", "callback"]).died_by(Signal::INT);
}

fn without_a_signal_no_old_handler_runs() {
    let end = Victim::start(on_signal_without_a_signal).end();
    end.said(&["callback", "callback", "callback", "callback", "behind"]).exited(0);
}

fn always_runs_a_shared_handler_once_at_the_scopes_end() {
    let end = Victim::start(always_shared).end();
    end.said(&["callback", "old", "behind", "callback", "old", "behind"]).exited(0);
}

fn always_runs_each_distinct_handler_at_the_scopes_end() {
    let end = Victim::start(always_distinct).end();
    end.said(&["callback", "old", "old of INT", "behind"]).exited(0);
}

fn always_does_not_run_a_handler_twice_after_a_signal() {
    let end = Victim::start(always_after_a_signal).end();
    end.said(&["callback", "old", "behind"]).exited(0);
}

fn main_that_returns_waits_for_the_old_handler() {
    let victim = Victim::ready(main_returns);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback", "old"]).exited(0);
    let victim = Victim::ready(main_exits);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback", "old"]).exited(3);
}

fn an_exit_waits_a_second_for_the_old_handler_and_no_longer() {
    let victim = Victim::ready(main_exits_beside_one_that_never_returns);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback", "old"]).exited(3);
}

/// The time is what is tested: once in a while any machine is fast enough.
fn an_old_handler_that_calls_exit_does_not_wait_for_itself() {
    until("an exit took less than a second", || {
        let victim = Victim::ready(old_exits_through_libc.told(Signal::TERM));
        let begun = Instant::now();
        victim.send(Signal::TERM);
        victim.end().exited(66);
        begun.elapsed() < Duration::from_secs(1)
    });
}

fn a_signal_in_an_exit_goes_to_its_old_handler_and_ends_nothing() {
    let end = Victim::start(signals_in_an_exit).end();
    end.said(&["callback", "old", "libc exit function"]).exited(3);
}

fn a_signal_while_the_scope_ends_is_handed_over_as_it_came() {
    Victim::start(signalled_while_the_scope_ends).end().said(&[]).exited(0);
    let end = Victim::start(signalled_while_a_thread_that_blocks_it_ends_the_scope).end();
    end.said(&["callback"]).died_by(Signal::TERM);
}

fn a_signal_while_the_process_exits_runs_its_old_handler_and_that_is_put_back() {
    let end = Victim::start(signalled_while_the_process_exits).end();
    end.said(&["callback", "callback ends", "old", "put back"]).exited(3);
}

/// However long it takes.
fn deferred_functions_run_behind_the_old_handler() {
    for when in ["on signal", "always"] {
        let mut victim = Victim::start(old_takes_its_time.told(when));
        victim.expect("old begins");
        victim.at_rest();
        victim.tell("go on");
        let end = victim.end();
        end.said(&["callback", "old begins", "old ends", "deferred", "behind"]).exited(0);
    }
}

pub(crate) const TESTS: &[Named] = tests![
    a_signal_with_a_handler_of_its_own_does_not_end_the_process,
    after_its_handler_ran_the_signal_is_its_own,
    an_old_handler_that_calls_underscore_exit_decides_the_status,
    an_old_handler_that_calls_exit_decides_the_status_and_deferred_functions_run,
    an_old_handler_that_raises_again_dies_of_the_signal,
    an_old_handler_gets_the_senders_siginfo,
    an_old_handler_gets_the_value_of_sigqueue,
    an_old_handler_runs_on_the_watcher_with_its_own_mask,
    an_old_handler_below_a_foreign_one_gets_siginfo_and_mask,
    an_old_handlers_flags_hold,
    ten_signals_in_a_row_are_one,
    ten_signals_from_outside_run_the_callback_once_and_first,
    two_signals_run_their_handlers_in_order_of_arrival,
    two_signals_from_outside_run_their_handlers_in_order_of_arrival,
    a_signal_without_a_handler_ends_the_process_though_another_has_one,
    without_a_signal_no_old_handler_runs,
    always_runs_a_shared_handler_once_at_the_scopes_end,
    always_runs_each_distinct_handler_at_the_scopes_end,
    always_does_not_run_a_handler_twice_after_a_signal,
    main_that_returns_waits_for_the_old_handler,
    an_exit_waits_a_second_for_the_old_handler_and_no_longer,
    an_old_handler_that_calls_exit_does_not_wait_for_itself,
    a_signal_in_an_exit_goes_to_its_old_handler_and_ends_nothing,
    a_signal_while_the_scope_ends_is_handed_over_as_it_came,
    a_signal_while_the_process_exits_runs_its_old_handler_and_that_is_put_back,
    deferred_functions_run_behind_the_old_handler;
    alone:
    a_disarmed_guard_runs_no_old_handler,
];
