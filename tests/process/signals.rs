//! What signals do: sent once, often, together, at bad moments, from terminals and shells, to a
//! process that ignores or blocks them.

#![allow(unsafe_code, reason = "handlers, masks and stacks are looked at as the kernel has them")]

use std::cell::Cell;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{Builder, Cause, Ending, HandleExit, Ignored, Signal};
use nix::errno::Errno;
use nix::libc;

/// Says what began the exit, and on which thread it runs.
fn callback(cause: &Cause) {
    let cause = match cause {
        Cause::Signal(received) => received.signal().to_string(),
        other => other.to_string(),
    };
    say(format!("callback on {}: {cause}", thread_name()));
}

const BY_TERM: &str = "callback on handle-exit: SIGTERM";
const BY_INT: &str = "callback on handle-exit: SIGINT";
const BY_HUP: &str = "callback on handle-exit: SIGHUP";

fn by(signal: Signal) -> String {
    format!("callback on handle-exit: {signal}")
}

fn cleanup_guard() -> Builder {
    HandleExit::builder().grace(Duration::ZERO)
}

/// What a guard that waits for the test says.
const HELD: [&str; 2] = ["callback begins", "callback ends"];

// ------------------------------------------------------------------------------- scenarios: plain

fn parked_new() {
    let _guard = HandleExit::builder().install_with(callback).unwrap();
    ready_for_ever();
}

fn parked_with_short_grace() {
    let grace = Duration::from_millis(300);
    let _guard = HandleExit::builder().grace(grace).install_with(callback).unwrap();
    ready_for_ever();
}

fn parked_with_long_grace() {
    let _guard = HandleExit::builder().grace(DEADLINE).install_with(callback).unwrap();
    ready_for_ever();
}

/// Says how much of the processor's time its wait for the scope took.
fn parked_with_some_grace() {
    const GRACE: Duration = Duration::from_secs(2);
    let guard = HandleExit::builder().grace(GRACE).install_with(callback).unwrap();
    let before = spent();
    guard.defer(move || say(if spent() - before < GRACE / 4 { "slept" } else { "spun" })).unwrap();
    ready_for_ever();
}

fn parked_without_limit() {
    let _guard = HandleExit::builder().grace(Duration::MAX).install_with(callback).unwrap();
    ready_for_ever();
}

fn parked_cleanup() {
    let _guard = cleanup_guard().install_with(callback).unwrap();
    ready_for_ever();
}

fn parked_cleanup_held() {
    let _guard = HandleExit::cleanup(held_callback).unwrap();
    ready_for_ever();
}

/// The callback tells `main` to stop, as a server is told.
fn told_to_stop() {
    let (stop, stopped) = channel();
    {
        let stop = move |cause: &Cause| {
            callback(cause);
            stop.send(()).unwrap();
        };
        let _guard = HandleExit::builder().install_with(stop).unwrap();
        say("ready");
        stopped.recv().unwrap();
    }
    say("behind");
}

/// The scope goes on after the callback, and ends when the test says so.
fn ends_when_told() {
    {
        let _guard = HandleExit::builder().grace(Duration::MAX).install(held_callback).unwrap();
        say("ready");
        until_let_go();
        say("goes on");
        hear();
    }
    say("behind");
}

/// A signal that this very thread raises has been delivered when `raise` returns, so it is the
/// exit's, however soon the scope ends. Many times, as this is a race of Drop with the watcher.
fn raised_inside() {
    for signal in [Signal::TERM, Signal::INT].repeat(50) {
        // On which thread does not matter here: main runs it where the watcher has not begun within a second.
        let guard = HandleExit::builder().install_with(|cause| {
            let Cause::Signal(received) = cause else { panic!("{cause}") };
            say(format!("callback: {}", received.signal()));
        });
        let guard = guard.unwrap();
        raise(signal);
        drop(guard);
        say("behind");
    }
}

fn says_the_sender() {
    let report = |cause: &Cause| {
        let Cause::Signal(received) = cause else { panic!("{cause}") };
        match received.sender() {
            Some(sender) => say(format!("{} {} {}", received.signal(), sender.pid, sender.uid)),
            None => say(format!("{} from nobody", received.signal())),
        }
    };
    let _guard = cleanup_guard().install_with(report).unwrap();
    ready_for_ever();
}

fn signalled_again_and_again() {
    let guard = HandleExit::cleanup(|| {
        say("callback begins");
        for _ in 0..10 {
            raise(Signal::TERM);
            raise(Signal::INT);
        }
        say("callback ends");
    })
    .unwrap();
    guard
        .defer(|| {
            raise(Signal::TERM);
            say("deferred");
        })
        .unwrap();
    ready_for_ever();
}

// ------------------------------------------------------------- scenarios: while something else ends

fn drop_held() {
    drop(HandleExit::new(held_callback).unwrap());
    say("behind");
}

fn finish_held() {
    let outcome = HandleExit::new(held_callback).unwrap().finish();
    say(format!("behind {}", outcome.cause()));
}

fn panics_held() {
    let _guard = HandleExit::new(held_callback).unwrap();
    panic!("on purpose");
}

fn process_exit_held() {
    let _guard = HandleExit::new(held_callback).unwrap();
    std::process::exit(3);
}

// ------------------------------------------------------------------- scenarios: blocked and ignored

fn blocked_on_main() {
    block(Signal::TERM);
    parked_cleanup();
}

fn pending_before_the_guard() {
    block(Signal::TERM);
    kill_this_process(Signal::TERM);
    parked_cleanup();
}

/// Says its process id too: a shell or a namespace stands between it and the test.
fn parked_hup() {
    let guard = cleanup_guard().signals(Signal::TERMINATING);
    let _guard = guard.install_with(callback).unwrap();
    say(format!("pid {}", std::process::id()));
    ready_for_ever();
}

fn parked_hup_ignored_or_not() {
    let guard = cleanup_guard().signals(Signal::TERMINATING).ignored(Ignored::Guard);
    let _guard = guard.install_with(callback).unwrap();
    say(format!("pid {}", std::process::id()));
    ready_for_ever();
}

/// Under `nohup`: the end of the scope puts the ignore back, with all that belongs to it.
fn puts_the_ignore_back() {
    let before = disposition(Signal::HUP);
    assert_eq!(before.0, libc::SIG_IGN, "this is to be run under nohup");
    let guard = HandleExit::builder().signals([Signal::HUP]).ignored(Ignored::Guard);
    let guard = guard.install_with(callback).unwrap();
    assert_ne!(disposition(Signal::HUP).0, libc::SIG_IGN);
    drop(guard);
    assert_eq!(disposition(Signal::HUP), before);
    raise(Signal::HUP);
    say("behind");
}

/// For a shell's loop: ends with the code a shell makes of SIGINT, which is not a death by it.
fn parked_shell_code() {
    let _guard = cleanup_guard().ending(Ending::ShellCode).install_with(callback).unwrap();
    ready_for_ever();
}

// --------------------------------------------------------------------- scenarios: the handler itself

fn the_handler_has_its_flags_and_mask_while_installed() {
    let before = [Signal::TERM, Signal::INT].map(disposition);
    let guard = HandleExit::new(|| {}).unwrap();
    for (signal, before) in [Signal::TERM, Signal::INT].into_iter().zip(before) {
        let (handler, now, mask) = disposition(signal);
        assert_ne!(handler, before.0);
        assert_eq!(now, HANDLER_FLAGS);
        assert_eq!(mask, handler_mask());
    }
    drop(guard);
    assert_eq!([Signal::TERM, Signal::INT].map(disposition), before);
}

fn errno_stays() {
    let _guard = HandleExit::new(|| {}).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        Errno::ERANGE.set();
        raise(signal);
        assert_eq!(Errno::last(), Errno::ERANGE);
    }
}

extern "C" fn spoils_errno(_: libc::c_int) {
    Errno::EBADF.set();
    say_in_handler("spoils errno\n");
}

/// A foreign handler on top keeps calling the guard's when the guard is gone, which passes the call
/// to the old handler, which changes errno.
fn errno_stays_where_the_signal_is_passed_on() {
    install(Signal::TERM, spoils_errno);
    let guard = HandleExit::append(|| {}).unwrap();
    put_silently_on_top();
    drop(guard);
    Errno::ERANGE.set();
    raise(Signal::TERM);
    assert_eq!(Errno::last(), Errno::ERANGE);
}

/// The handler leaves its traces on the alternate stack of the thread where the disposition that it found had
/// `SA_ONSTACK`, and nowhere else: the standard library unmaps that stack in `process::exit`.
fn the_handler_runs_on_the_alternate_stack_by_need() {
    let stack = Box::leak(vec![Cell::new(0_u8); 1 << 16].into_boxed_slice());
    // SAFETY: the memory is never freed and may be changed behind our back.
    unsafe {
        let mut alternate = std::mem::zeroed::<libc::stack_t>();
        alternate.ss_sp = stack.as_mut_ptr().cast();
        alternate.ss_size = stack.len();
        assert_eq!(libc::sigaltstack(&raw const alternate, std::ptr::null_mut()), 0);
    }
    let used = || stack.iter().filter(|byte| byte.get() != 0).count();
    let guard = HandleExit::new(|| {}).unwrap();
    raise(Signal::TERM);
    assert_eq!(used(), 0, "the handler has run on the alternate stack");
    drop(guard);
    install_exactly(Signal::TERM, libc::SIG_DFL, libc::SA_ONSTACK, &[]);
    let _guard = HandleExit::new(|| {}).unwrap();
    raise(Signal::TERM);
    assert_ne!(used(), 0, "the handler has run on another stack");
}

/// Sends TERM to the main thread, and waits until that has taken it.
fn signal_main() {
    let pid = std::process::id();
    // SAFETY: a system call without memory; the main thread has the id of its process.
    assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGTERM) }, 0);
    until("the main thread takes the signal", || {
        !is_pending(pid as i32, "SigPnd", Signal::TERM).unwrap()
    });
}

/// `process::exit` may have unmapped the alternate stack of the main thread by then.
fn main_is_signalled_while_another_thread_exits() {
    let guard = HandleExit::new(|| {
        say("callback");
        signal_main();
    });
    guard.unwrap().keep();
    std::thread::spawn(|| std::process::exit(3));
    park();
}

extern "C" fn signal_main_again() {
    signal_main();
    say("signalled again");
}

/// The same before the guard's exit function is reached, where it is the guard that calls `exit`.
fn main_is_signalled_while_the_guard_exits() {
    let _guard = cleanup_guard().ending(Ending::Code(3)).install_with(callback).unwrap();
    // Last in, first out.
    at_exit(signal_main_again);
    ready_for_ever();
}

extern "C" fn foreign(_: libc::c_int) {}

/// A handler on top of the guard's stays what it is, with its own wish for the alternate stack.
fn exits_under_a_foreign_handler() {
    let guard = HandleExit::new(|| {
        let flags = libc::SA_ONSTACK | libc::SA_RESTART;
        assert_eq!(disposition(Signal::TERM), (foreign as *const () as usize, flags, 0));
        // The guard's own handler does without it from here on.
        assert_eq!(disposition(Signal::INT).1, libc::SA_SIGINFO | libc::SA_RESTART);
        say("callback");
    });
    guard.unwrap().keep();
    let handler = foreign as *const () as usize;
    install_exactly(Signal::TERM, handler, libc::SA_ONSTACK | libc::SA_RESTART, &[]);
    std::process::exit(3);
}

fn reads_through_a_signal() {
    let _guard = HandleExit::builder().grace(Duration::MAX).install_with(callback).unwrap();
    say("ready");
    let mut bytes = [0_u8; 16];
    // SAFETY: reads at most 16 bytes into 16 bytes.
    let read = unsafe { libc::read(0, bytes.as_mut_ptr().cast(), bytes.len()) };
    assert!(read > 0, "read(2) was cut short: {}", std::io::Error::last_os_error());
    say("read");
}

fn say_mask_of_a_command() {
    // Rust's own Command would give it a clean mask whatever ours is; the C library does not.
    // SAFETY: a NUL-terminated command.
    let status = unsafe { libc::system(c"grep '^Sig[BI]' /proc/self/status".as_ptr()) };
    assert_eq!(status, 0);
}

fn command_on_a_signal() {
    let _guard = HandleExit::cleanup(say_mask_of_a_command).unwrap();
    ready_for_ever();
}

fn command_on_a_signal_that_main_blocks() {
    block(Signal::TERM);
    block(Signal::INT);
    let _guard = HandleExit::cleanup(say_mask_of_a_command).unwrap();
    ready_for_ever();
}

fn command_on_drop() {
    drop(HandleExit::new(say_mask_of_a_command).unwrap());
}

fn command_on_process_exit() {
    HandleExit::new(say_mask_of_a_command).unwrap().keep();
}

// ----------------------------------------------------------------------------------- tests: plain

fn cleanup_dies_by_the_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let victim = Victim::ready(parked_cleanup);
        victim.send(signal);
        victim.end().said(&["ready", &by(signal)]).died_by(signal);
    }
}

/// That it did wait is the point: the time itself is under test, from below only.
fn dies_not_before(scenario: impl Play, grace: Duration) {
    let victim = Victim::ready(scenario);
    let begun = Instant::now();
    victim.send(Signal::TERM);
    victim.end().said(&["ready", BY_TERM]).died_by(Signal::TERM);
    let waited = begun.elapsed();
    assert!(waited >= grace, "ended after {waited:?}");
}

fn new_dies_by_the_signal_after_five_seconds() {
    dies_not_before(parked_new, Duration::from_secs(5));
}

fn a_scope_that_does_not_end_dies_after_the_grace() {
    dies_not_before(parked_with_short_grace, Duration::from_millis(300));
}

fn a_guard_sleeps_until_something_happens() {
    let mut victim = Victim::ready(parked_with_long_grace);
    victim.at_rest();
    victim.send(Signal::TERM);
    victim.expect(BY_TERM);
    victim.at_rest();
    victim.send(Signal::KILL);
    victim.end().said(&["ready", BY_TERM]).died_by(Signal::KILL);

    let victim = Victim::ready(parked_with_some_grace);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", BY_TERM, "slept"]).died_by(Signal::TERM);
}

fn a_scope_that_ends_in_time_goes_on() {
    for signal in [Signal::TERM, Signal::INT] {
        let victim = Victim::ready(told_to_stop);
        victim.send(signal);
        victim.end().said(&["ready", &by(signal), "behind"]).exited(0);
    }
}

fn a_signal_raised_just_before_the_scope_ends_is_the_exits() {
    let rounds = ["callback: SIGTERM", "behind", "callback: SIGINT", "behind"].repeat(50);
    Victim::start(raised_inside).end().said(&rounds).exited(0);
}

fn the_sender_is_the_process_that_sent() {
    let victim = Victim::ready(says_the_sender);
    victim.send(Signal::TERM);
    let us = format!("SIGTERM {} {}", std::process::id(), nix::unistd::getuid());
    victim.end().said(&["ready", &us]).died_by(Signal::TERM);
}

fn a_key_has_no_sender() {
    let mut terminal = Terminal::open();
    let victim = Victim::ready(terminal.control(says_the_sender));
    terminal.press_ctrl_c();
    victim.end().said(&["ready", "SIGINT from nobody"]).died_by(Signal::INT);
}

// ------------------------------------------------------------------------------- tests: more than one

/// Sends each of the signals, the first of which begins the callback, and lets that run to its end
/// when all of them have been delivered. Returns how long they took.
fn send_into_the_callback(victim: &mut Victim, signals: &[Signal], apart: Duration) -> Duration {
    let begun = Instant::now();
    for signal in signals {
        victim.send(*signal);
        std::thread::sleep(apart);
    }
    victim.expect("callback begins");
    victim.at_rest();
    let took = begun.elapsed();
    victim.tell("go on");
    took
}

/// A scope that outlives all of these signals, and then ends by itself.
fn one_event(signals: &[Signal], apart: Duration) {
    // From 500 ms on a repeat is a second wish to end. The first attempt is quick enough unless the
    // machine is very busy.
    until("signals sent quickly", || {
        let mut victim = Victim::ready(ends_when_told);
        if send_into_the_callback(&mut victim, signals, apart) >= Duration::from_millis(450) {
            return false;
        }
        victim.expect("goes on");
        victim.at_rest();
        victim.tell("go on");
        victim.end().said(&["ready", HELD[0], HELD[1], "goes on", "behind"]).exited(0);
        true
    });
}

fn ten_terms_are_one_callback_and_one_death() {
    let mut victim = Victim::ready(parked_cleanup_held);
    send_into_the_callback(&mut victim, &[Signal::TERM; 10], Duration::from_millis(1));
    victim.end().said(&["ready", HELD[0], HELD[1]]).died_by(Signal::TERM);

    let victim = Victim::ready(parked_cleanup);
    for _ in 0..10 {
        victim.send(Signal::TERM);
    }
    victim.end().said(&["ready", BY_TERM]).died_by(Signal::TERM);
}

fn ten_terms_leave_a_scope_its_time_to_end() {
    one_event(&[Signal::TERM; 10], Duration::from_millis(1));
}

fn ctrl_c_delivered_twice_is_one_event() {
    // As npm does.
    one_event(&[Signal::INT; 2], Duration::from_millis(2));
}

fn int_then_term_is_one_exit_by_int() {
    let mut victim = Victim::ready(parked_cleanup_held);
    victim.send(Signal::INT);
    victim.expect("callback begins");
    victim.send(Signal::TERM);
    victim.at_rest();
    victim.tell("go on");
    victim.end().said(&["ready", HELD[0], HELD[1]]).died_by(Signal::INT);

    one_event(&[Signal::INT, Signal::TERM], Duration::ZERO);
}

fn a_later_repeat_ends_the_wait_for_the_scope() {
    let mut victim = Victim::ready(parked_without_limit);
    victim.send(Signal::INT);
    victim.expect(BY_INT);
    // The rule is about time: from 500 ms on a repeat is a second wish.
    std::thread::sleep(Duration::from_millis(600));
    victim.send(Signal::INT);
    victim.end().said(&["ready", BY_INT]).died_by(Signal::INT);
}

fn a_function_is_not_entered_again_by_signals_that_come_while_it_runs() {
    let victim = Victim::ready(signalled_again_and_again);
    victim.send(Signal::TERM);
    victim
        .end()
        .said(&["ready", "callback begins", "callback ends", "deferred"])
        .died_by(Signal::TERM);
}

// ------------------------------------------------------------------------------ tests: at bad moments

fn term_to_a_stopped_process_comes_when_it_goes_on() {
    let mut victim = Victim::ready(parked_cleanup);
    victim.send(Signal::STOP);
    victim.wait_stopped();
    victim.send(Signal::TERM);
    assert!(victim.has_pending(Signal::TERM));
    victim.send(Signal::CONT);
    victim.expect(BY_TERM);
    victim.end().said(&["ready", BY_TERM]).died_by(Signal::TERM);
}

/// TERM meets a callback that the end of the scope has begun.
fn term_meets(scenario: impl Play) -> End {
    let mut victim = Victim::start(scenario);
    victim.expect("callback begins");
    victim.send(Signal::TERM);
    victim.at_rest();
    victim.tell("go on");
    victim.end()
}

fn term_while_drop_cleans_up_is_held_and_then_kills() {
    for scenario in scenarios![drop_held, finish_held, panics_held] {
        term_meets(scenario).said(&HELD).died_by(Signal::TERM);
    }
}

fn term_while_the_process_exits_changes_nothing() {
    term_meets(process_exit_held).said(&HELD).exited(3);
}

// ------------------------------------------------------------------------ tests: blocked and ignored

fn a_signal_that_every_other_thread_blocks_is_heard() {
    let victim = Victim::ready(blocked_on_main);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", BY_TERM]).died_by(Signal::TERM);
}

fn a_signal_that_is_pending_when_the_guard_is_made_is_heard() {
    let end = Victim::start(pending_before_the_guard).end();
    assert_eq!(end.count(BY_TERM), 1, "{end:#?}");
    end.died_by(Signal::TERM);
}

fn nohup(scenario: impl Play) -> Victim {
    Victim::start(scenario.under("nohup", &[]))
}

fn nohup_keeps_hup_ignored() {
    let mut victim = nohup(parked_hup);
    victim.expect("ready");
    victim.send(Signal::HUP);
    victim.send(Signal::TERM);
    let end = victim.end();
    assert_eq!(end.lines[1..], ["ready", BY_TERM], "{end:#?}");
    end.died_by(Signal::TERM);
}

fn ignored_signals_are_guarded_on_request() {
    let mut victim = nohup(parked_hup_ignored_or_not);
    victim.expect("ready");
    victim.send(Signal::HUP);
    let end = victim.end();
    assert_eq!(end.lines[1..], ["ready", BY_HUP], "{end:#?}");
    end.died_by(Signal::HUP);

    let end = nohup(puts_the_ignore_back).end();
    end.said(&["callback on main: the scope ended", "behind"]).exited(0);
}

/// Starts a scenario in the background of a shell, which then ignores INT and QUIT, and sends
/// `signals`; the shell ends as the scenario does.
fn in_the_background(scenario: impl Play, signals: &[Signal]) -> End {
    let mut shell = Victim::start(scenario.under("sh", &["-c", "\"$0\" & wait $!"]));
    let pid = shell.expect_prefix("pid ").parse().unwrap();
    shell.expect("ready");
    for signal in signals {
        kill(pid, *signal);
    }
    shell.end()
}

fn a_job_in_the_background_of_a_shell_keeps_int_ignored() {
    let signals = [Signal::INT, Signal::QUIT, Signal::TERM];
    let end = in_the_background(parked_hup, &signals);
    assert_eq!(end.lines[1..], ["ready", BY_TERM], "{end:#?}");
    end.exited(128 + Signal::TERM.as_raw());

    let end = in_the_background(parked_hup_ignored_or_not, &[Signal::INT]);
    assert_eq!(end.lines[1..], ["ready", BY_INT], "{end:#?}");
    end.exited(128 + Signal::INT.as_raw());
}

// ------------------------------------------------------------------- tests: namespaces, terminals

fn pid_1_exits_with_128_and_the_signal() {
    let unshare = match as_pid_1() {
        Ok(unshare) => unshare,
        Err(why) => return println!("{why}"),
    };
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut victim = Victim::start(parked_hup.under("unshare", unshare));
        victim.expect("pid 1");
        victim.expect("ready");
        kill(child_of(victim.pid()), signal);
        victim.end().said(&["pid 1", "ready", &by(signal)]).exited(code);
    }
}

/// A shell's loop in the foreground of a terminal.
fn loop_on_a_terminal(terminal: &Terminal, scenario: impl Play) -> Victim {
    let script = "for round in 1 2; do \"$0\"; echo \"round $round\"; done";
    Victim::start(terminal.control(scenario.under("bash", &["-c", script])))
}

fn ctrl_c_ends_a_shell_loop() {
    let mut terminal = Terminal::open();
    let mut bash = loop_on_a_terminal(&terminal, parked_cleanup);
    bash.expect("ready");
    // If it does not wait for the command yet, it dies before that does.
    bash.at_rest();
    terminal.press_ctrl_c();
    bash.end().said(&["ready", BY_INT]).died_by(Signal::INT);
}

/// Why it is a true death by default.
fn an_exit_code_does_not_end_a_shell_loop() {
    let mut terminal = Terminal::open();
    let mut bash = loop_on_a_terminal(&terminal, parked_shell_code);
    for _ in 0..2 {
        bash.expect("ready");
        bash.at_rest();
        terminal.press_ctrl_c();
    }
    bash.end().said(&["ready", BY_INT, "round 1", "ready", BY_INT, "round 2"]).exited(0);
}

// --------------------------------------------------------------------------- tests: the handler itself

fn the_handler_keeps_errno() {
    Victim::start(errno_stays).end().exited(0);
    let end = Victim::start(errno_stays_where_the_signal_is_passed_on).end();
    end.said(&["spoils errno"]).exited(0);
}

fn the_main_thread_can_take_a_signal_while_the_process_exits() {
    let end = Victim::start(main_is_signalled_while_another_thread_exits).end();
    end.said(&["callback"]).exited(3);
    let victim = Victim::ready(main_is_signalled_while_the_guard_exits);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", BY_TERM, "signalled again"]).exited(3);
}

fn a_foreign_handler_keeps_its_stack_while_the_process_exits() {
    Victim::start(exits_under_a_foreign_handler).end().said(&["callback"]).exited(3);
}

fn a_blocking_call_is_restarted() {
    let mut victim = Victim::ready(reads_through_a_signal);
    victim.at_rest();
    victim.send(Signal::TERM);
    victim.expect(BY_TERM);
    victim.at_rest();
    victim.tell("hello");
    victim.end().said(&["ready", BY_TERM, "read"]).exited(0);
}

fn commands_started_in_the_callback_have_a_clean_mask() {
    let guarded = signal_bits(&[Signal::TERM, Signal::INT]);
    for (scenario, signal) in [
        (Scenario::of(command_on_a_signal), Some(Signal::TERM)),
        (Scenario::of(command_on_a_signal_that_main_blocks), Some(Signal::TERM)),
        (Scenario::of(command_on_drop), None),
        (Scenario::of(command_on_process_exit), None),
    ] {
        let mut victim = Victim::start(scenario);
        if let Some(signal) = signal {
            victim.expect("ready");
            victim.send(signal);
        }
        for set in ["SigBlk:\t", "SigIgn:\t"] {
            let shown = u64::from_str_radix(&victim.expect_prefix(set), 16).unwrap();
            assert_eq!(shown & guarded, 0, "{scenario}: {set}{shown:x}");
        }
        let end = victim.end();
        match signal {
            Some(signal) => end.died_by(signal),
            None => end.exited(0),
        };
    }
}

pub(crate) const TESTS: &[Named] = tests![
    cleanup_dies_by_the_signal,
    new_dies_by_the_signal_after_five_seconds,
    a_scope_that_does_not_end_dies_after_the_grace,
    a_guard_sleeps_until_something_happens,
    a_scope_that_ends_in_time_goes_on,
    a_signal_raised_just_before_the_scope_ends_is_the_exits,
    the_sender_is_the_process_that_sent,
    a_key_has_no_sender,
    ten_terms_are_one_callback_and_one_death,
    ten_terms_leave_a_scope_its_time_to_end,
    int_then_term_is_one_exit_by_int,
    ctrl_c_delivered_twice_is_one_event,
    a_later_repeat_ends_the_wait_for_the_scope,
    a_function_is_not_entered_again_by_signals_that_come_while_it_runs,
    term_to_a_stopped_process_comes_when_it_goes_on,
    term_while_drop_cleans_up_is_held_and_then_kills,
    term_while_the_process_exits_changes_nothing,
    a_signal_that_every_other_thread_blocks_is_heard,
    a_signal_that_is_pending_when_the_guard_is_made_is_heard,
    nohup_keeps_hup_ignored,
    ignored_signals_are_guarded_on_request,
    a_job_in_the_background_of_a_shell_keeps_int_ignored,
    pid_1_exits_with_128_and_the_signal,
    ctrl_c_ends_a_shell_loop,
    an_exit_code_does_not_end_a_shell_loop,
    the_handler_keeps_errno,
    the_main_thread_can_take_a_signal_while_the_process_exits,
    a_foreign_handler_keeps_its_stack_while_the_process_exits,
    a_blocking_call_is_restarted,
    commands_started_in_the_callback_have_a_clean_mask;
    alone:
    the_handler_has_its_flags_and_mask_while_installed,
    the_handler_runs_on_the_alternate_stack_by_need,
];
