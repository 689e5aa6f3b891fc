//! Every policy, and every combination of policies: the table in `expected` is the whole meaning.
//!
//! Time is the thing under test in some of these: there a test sleeps, and says why the margin holds
//! on a machine that is busy.

#![allow(unsafe_code, reason = "an interval timer that sends SIGALRM")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::*;
#[cfg(unix)]
use handle_exit::Ignored;
use handle_exit::{AfterScope, Builder, Cause, Ending, Event, HandleExit, Repeat, Signal};
#[cfg(unix)]
use nix::libc;

/// Longer than any healthy step, shorter than the deadline of a test: a wait for the scope that is
/// not supposed to end.
const LONG: Duration = Duration::from_secs(300);
/// Over before anybody has noticed.
const SHORT: Duration = or_longer(20);
/// A second delivery of the first wish.
const SAME_WISH: Duration = Duration::from_millis(100);
/// From when on a repeat counts as a second wish.
const RULE: Duration = Duration::from_millis(500);

// ------------------------------------------------------------------------------------- the table

/// What the code in the scope does when it is told to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Body {
    /// Goes on for ever.
    Stays,
    /// Leaves the scope.
    Leaves,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    body: Body,
    signal: Option<Signal>,
    grace: Duration,
    after_scope: AfterScope,
    ending: Ending,
}

/// What each row means: whether the code behind the scope is reached, and how the process ends.
fn expected(row: Row) -> (bool, Ends) {
    match (row.signal, row.body, row.after_scope, row.ending) {
        // Without a signal there is nothing to end for.
        (None, ..) => (true, Ends::With(0)),
        // In time, and the program goes on.
        (_, Body::Leaves, AfterScope::Continue, _) => (true, Ends::With(0)),
        // Not in time, or in time and the scope was all there is.
        (Some(signal), _, _, Ending::Signal) => (false, Ends::By(signal)),
        (_, _, _, Ending::Code(code)) => (false, Ends::With(code)),
        (Some(signal), _, _, Ending::ShellCode) => (false, Ends::With(128 + signal.as_raw())),
        other => panic!("a policy without a meaning in this table: {other:?}"),
    }
}

#[cfg(unix)]
const SIGNALS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::ABRT];
#[cfg(windows)]
const SIGNALS: [Signal; 2] = [Signal::TERM, Signal::INT];

fn table() -> Vec<Row> {
    let bodies = [
        (Body::Stays, Duration::ZERO),
        (Body::Stays, SHORT),
        (Body::Leaves, LONG),
        (Body::Leaves, Duration::MAX),
    ];
    let endings = [Ending::Signal, Ending::Code(0), Ending::Code(9), Ending::ShellCode];
    let mut rows = Vec::new();
    for (body, grace) in bodies {
        for after_scope in [AfterScope::Continue, AfterScope::End] {
            for ending in endings {
                for signal in SIGNALS.map(Some).into_iter().chain([None]) {
                    // Nobody tells a body to stop without a signal: it leaves by itself.
                    if signal.is_some() || body == Body::Leaves {
                        rows.push(Row { body, signal, grace, after_scope, ending });
                    }
                }
            }
        }
    }
    rows
}

fn acts_out_a_row() {
    let row = table()[told::<usize>()];
    at_exit(says_exit_function);
    {
        let guard = HandleExit::builder()
            .signals(SIGNALS)
            .grace(row.grace)
            .after_scope(row.after_scope)
            .ending(row.ending)
            .install(|| say("callback"))
            .unwrap();
        guard.defer(|| say("deferred")).unwrap();
        say("ready");
        if row.signal.is_some() {
            guard.wait();
        }
        if row.body == Body::Stays {
            park();
        }
    }
    say("behind");
}

fn walk(part: impl Fn(&Row) -> bool) {
    let mut walked = 0;
    for (index, row) in table().into_iter().enumerate().filter(|(_, row)| part(row)) {
        let victim = Victim::ready(acts_out_a_row.told(index).named(format_args!("{row:?}")));
        if let Some(signal) = row.signal {
            victim.send(signal);
        }
        let end = victim.end();
        let (goes_on, ends) = expected(row);
        let mut lines = vec!["ready", "callback", "deferred"];
        if goes_on {
            lines.push("behind");
        }
        // A death by signal runs nothing more; every other end is an exit of the C library, or a return.
        if matches!(ends, Ends::With(_)) && (goes_on || EXIT_RUNS_EXIT_FUNCTIONS) {
            lines.push("libc exit function");
        }
        end.said(&lines);
        end.ended(ends);
        walked += 1;
    }
    assert!(walked > 0);
}

fn a_scope_that_is_not_left_ends_the_process_as_ending_says() {
    walk(|row| row.body == Body::Stays);
}

fn a_scope_that_is_left_in_time_goes_on_or_ends_as_after_scope_says() {
    walk(|row| row.body == Body::Leaves && row.signal.is_some());
}

fn a_scope_that_ends_without_a_signal_goes_on_whatever_the_policy() {
    walk(|row| row.signal.is_none());
}

// ----------------------------------------------------------------------------- repeats: scenarios

fn is_told_of_repeats(builder: Builder) -> Builder {
    builder.observe(|event| match event {
        Event::RepeatAbsorbed(signal) => say(format!("{signal} absorbed")),
        Event::RepeatForces(signal) => say(format!("{signal} forces")),
        Event::SignalReceived(received) => say(format!("got {}", received.signal())),
        _ => {}
    })
}

fn waits_for_ever() {
    let guard = is_told_of_repeats(HandleExit::builder())
        .grace(Duration::MAX)
        .install(held_callback)
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn requested_and_waits_for_ever() {
    let guard = is_told_of_repeats(HandleExit::builder())
        .grace(Duration::MAX)
        .install(held_callback)
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    say("ready");
    guard.request();
    park();
}

fn forced_callback(ending: Ending) {
    at_exit(says_exit_function);
    let guard = HandleExit::builder()
        .repeat(Repeat::Force)
        .grace(Duration::ZERO)
        .ending(ending)
        .install(held_callback)
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn force_by_signal() {
    forced_callback(Ending::Signal);
}

fn force_by_code() {
    forced_callback(Ending::Code(9));
}

fn force_by_shell_code() {
    forced_callback(Ending::ShellCode);
}

fn force_in_the_grace() {
    let builder = HandleExit::builder().repeat(Repeat::Force).grace(Duration::MAX);
    let guard = builder.install(held_callback).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn force_on_drop() {
    let guard = HandleExit::builder().repeat(Repeat::Force).install(held_callback).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    drop(guard);
    say("behind");
}

/// The repeat comes when the scope is closing already.
fn repeated_while_the_scope_ends() {
    let guard = HandleExit::builder().grace(Duration::MAX).install(|| say("callback")).unwrap();
    let (begun, apart) = (Instant::now(), Duration::from_millis(told()));
    let repeat = move || {
        std::thread::sleep(apart);
        raise(Signal::TERM);
        say(if begun.elapsed() < Duration::from_millis(500) { "quickly" } else { "later" });
    };
    guard.defer(repeat).unwrap();
    raise(Signal::TERM);
    guard.wait();
    drop(guard);
    say("behind");
}

fn finish_cleanup() {
    let guard = HandleExit::cleanup(held_callback).unwrap();
    guard.defer(held_callback).unwrap();
    ready_for_ever();
}

// --------------------------------------------------------------------------------- repeats: tests

/// Starts the scenario and holds it in its callback, after a TERM.
fn held_in_callback(scenario: impl Play) -> Victim {
    let mut victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    victim
}

fn let_callback_end(victim: &mut Victim) {
    victim.tell("end");
    victim.expect("callback ends");
}

/// Runs a trial in which a repeat has to come within the 500 ms, until the machine was fast enough
/// for that. The trial returns what was observed, and the moment before the first signal.
fn quick<T>(trial: impl Fn() -> (T, Instant)) -> T {
    let begun = Instant::now();
    loop {
        let (observed, first) = trial();
        // Between the two deliveries lies less time than this, whoever lost the processor when.
        if first.elapsed() < RULE {
            return observed;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "this machine is too slow for a repeat within {RULE:?}"
        );
    }
}

fn a_repeat_after_100_ms_in_the_grace_is_absorbed() {
    let verdict = quick(|| {
        let mut victim = Victim::ready(waits_for_ever);
        let first = Instant::now();
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        let_callback_end(&mut victim);
        sleep(SAME_WISH.saturating_sub(first.elapsed()));
        victim.send(Signal::TERM);
        (victim.expect_prefix("SIGTERM "), first)
    });
    assert_eq!(verdict, "absorbed");
}

fn a_repeat_after_700_ms_in_the_grace_forces() {
    let mut victim = held_in_callback(waits_for_ever);
    let_callback_end(&mut victim);
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    let end = victim.end();
    assert_eq!(end.lines[4..], ["got SIGTERM", "SIGTERM forces", "deferred"], "{end:#?}");
    end.died_by(Signal::TERM);
}

/// The callback, which it would cut, has ended: what is deferred still runs.
fn a_repeat_in_the_grace_cuts_nothing() {
    let mut victim = held_in_callback(force_in_the_grace);
    let_callback_end(&mut victim);
    victim.at_rest();
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    let lines = ["ready", "callback begins", "callback ends", "deferred"];
    victim.end().said(&lines).died_by(Signal::TERM);
}

fn a_third_signal_forces_after_a_second_was_absorbed() {
    let (verdict, mut victim) = quick(|| {
        let first = Instant::now();
        let mut victim = held_in_callback(waits_for_ever);
        let_callback_end(&mut victim);
        victim.send(Signal::TERM);
        ((victim.expect_prefix("SIGTERM "), victim), first)
    });
    assert_eq!(verdict, "absorbed");
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim.expect("SIGTERM forces");
    victim.end().died_by(Signal::TERM);
}

fn a_quick_repeat_while_the_callback_runs_is_absorbed_after_it() {
    let verdict = quick(|| {
        let mut victim = Victim::ready(waits_for_ever);
        let first = Instant::now();
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        victim.send(Signal::TERM);
        let_callback_end(&mut victim);
        (victim.expect_prefix("SIGTERM "), first)
    });
    assert_eq!(verdict, "absorbed");
}

fn a_late_repeat_while_the_callback_runs_forces_after_it() {
    let mut victim = held_in_callback(waits_for_ever);
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    let_callback_end(&mut victim);
    let end = victim.end();
    assert_eq!(end.lines[4..], ["got SIGTERM", "SIGTERM forces", "deferred"], "{end:#?}");
    end.died_by(Signal::TERM);
}

/// Both of the second kind come while the callback runs for another cause, so that the watcher sees
/// them at once.
fn two_late_signals_while_the_callback_runs_for_another_cause_force_after_it() {
    for (scenario, cause) in [
        (Scenario::of(waits_for_ever), Some(Signal::TERM)),
        (Scenario::of(requested_and_waits_for_ever), None),
    ] {
        let mut victim = Victim::ready(scenario);
        if let Some(cause) = cause {
            victim.send(cause);
        }
        victim.expect("callback begins");
        send_unseen(&victim, Signal::INT);
        victim.send(Signal::INT);
        let_callback_end(&mut victim);
        victim.expect("SIGINT forces");
        let end = victim.end();
        assert_eq!(end.lines.last().unwrap(), "deferred", "{end:#?}");
        end.died_by(cause.unwrap_or(Signal::INT));
    }
}

/// Sends a signal that nobody tells of, and waits until a repeat of it is a second wish. How long the
/// handler takes to run after the kernel has delivered the signal is unknown: hence twice the time.
fn send_unseen(victim: &Victim, signal: Signal) {
    victim.send(signal);
    until("the signal is delivered", || !victim.has_pending(signal));
    sleep(2 * SECOND_WISH);
}

fn a_different_signal_does_not_force() {
    let mut victim = held_in_callback(waits_for_ever);
    let_callback_end(&mut victim);
    sleep(SECOND_WISH);
    victim.send(Signal::INT);
    victim.expect("got SIGINT");
    // It still waits for a repeat, of either.
    sleep(SECOND_WISH);
    victim.send(Signal::INT);
    victim.expect("SIGINT forces");
    victim.end().died_by(Signal::TERM);
}

fn by_default_no_repeat_cuts_the_callback_or_a_deferred_function() {
    let mut victim = held_in_callback(finish_cleanup);
    for _ in 0..2 {
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
    }
    let_callback_end(&mut victim);
    victim.expect("callback begins");
    for _ in 0..2 {
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
    }
    let_callback_end(&mut victim);
    victim.end().died_by(Signal::TERM);
}

fn force_cuts_the_callback_and_nothing_else_runs() {
    let said = ["ready", "callback begins"];
    for (scenario, ends) in [
        (Scenario::of(force_by_signal), Ends::By(Signal::TERM)),
        (Scenario::of(force_by_code), Ends::With(9)),
        (Scenario::of(force_by_shell_code), Ends::With(128 + Signal::TERM.as_raw())),
    ] {
        let victim = held_in_callback(scenario);
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
        let end = victim.end();
        end.said(&said);
        end.ended(ends);
    }
}

fn force_cuts_a_callback_on_drop_too() {
    let mut victim = Victim::start(force_on_drop);
    victim.expect("callback begins");
    send_unseen(&victim, Signal::TERM);
    victim.send(Signal::TERM);
    victim.end().said(&["callback begins"]).died_by(Signal::TERM);
}

fn a_repeat_while_the_scope_ends_is_absorbed_or_a_second_wish_to_end() {
    let repeated = |apart| Victim::start(repeated_while_the_scope_ends.told(apart)).end();
    // Handed to whoever handles the signal now: on Windows by a thread, which `main` may outrun.
    #[cfg(unix)]
    repeated(700).said(&["callback", "later"]).was_left_to(Signal::TERM);
    // The first attempt is quick enough unless the machine is very busy.
    until("a signal repeated quickly", || {
        let end = repeated(0);
        let quickly = end.count("quickly") == 1;
        if quickly {
            end.said(&["callback", "quickly", "behind"]).exited(0);
        }
        quickly
    });
}

fn a_quick_repeat_does_not_cut_even_with_force() {
    let end = quick(|| {
        let mut victim = Victim::ready(force_by_signal);
        let first = Instant::now();
        victim.send(Signal::TERM);
        victim.expect("callback begins");
        victim.send(Signal::TERM);
        victim.tell("end");
        (victim.end(), first)
    });
    end.said(&["ready", "callback begins", "callback ends", "deferred"]).died_by(Signal::TERM);
}

fn a_different_signal_does_not_cut_even_with_force() {
    let mut victim = held_in_callback(force_by_signal);
    sleep(SECOND_WISH);
    victim.send(Signal::INT);
    until("INT is delivered", || !victim.has_pending(Signal::INT));
    let_callback_end(&mut victim);
    victim
        .end()
        .said(&["ready", "callback begins", "callback ends", "deferred"])
        .died_by(Signal::TERM);
}

// ----------------------------------------------------------------------------------------- grace

static CALLBACK_DONE: AtomicBool = AtomicBool::new(false);

/// The scope is left only after the callback, which takes longer than the grace.
fn grace_after_a_slow_callback() {
    {
        let guard = HandleExit::builder()
            .grace(Duration::from_secs(2))
            .install(|| {
                held_callback();
                CALLBACK_DONE.store(true, SeqCst);
            })
            .unwrap();
        say("ready");
        guard.wait();
        until("the callback is done", || CALLBACK_DONE.load(SeqCst));
    }
    say("behind");
}

fn the_grace_counts_from_the_end_of_the_callback() {
    let mut victim = held_in_callback(grace_after_a_slow_callback);
    // The time under test: longer than the grace, so that nothing of it would be left.
    sleep(Duration::from_millis(2500));
    let_callback_end(&mut victim);
    victim.end().said(&["ready", "callback begins", "callback ends", "behind"]).exited(0);
}

/// Drop has begun in time; what it still does takes longer than the grace.
fn drop_takes_longer_than_the_grace() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            say("destructor");
        }
    }
    {
        let _slow = Slow;
        let guard = HandleExit::builder()
            .grace(GRACE_OF_A_SLOW_DROP)
            .install(|| {
                say("callback begins");
                until("the scope ends", || LEAVING.load(SeqCst));
            })
            .unwrap();
        guard.defer(longer_than_the_grace).unwrap();
        say("ready");
        guard.wait();
        LEAVING.store(true, SeqCst);
    }
    say("behind");
}

/// Also the margin in which the main thread, told to leave, has to get from one line to the next.
const GRACE_OF_A_SLOW_DROP: Duration = Duration::from_secs(2);

/// A clean-up that takes it.
fn longer_than_the_grace() {
    // The time under test.
    sleep(GRACE_OF_A_SLOW_DROP + SECOND_WISH);
    say("deferred");
}

static LEAVING: AtomicBool = AtomicBool::new(false);

fn exit_takes_longer_than_the_grace() {
    let guard = HandleExit::builder()
        .grace(GRACE_OF_A_SLOW_DROP)
        .install(|| {
            say("callback begins");
            until("the process exits", || LEAVING.load(SeqCst));
        })
        .unwrap();
    guard.defer(longer_than_the_grace).unwrap();
    say("ready");
    guard.wait();
    LEAVING.store(true, SeqCst);
    exit(3);
}

fn what_a_scope_does_in_its_end_is_not_timed() {
    let victim = Victim::ready(drop_takes_longer_than_the_grace);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback begins", "deferred", "destructor", "behind"]).exited(0);
    let victim = Victim::ready(exit_takes_longer_than_the_grace);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback begins", "deferred"]).exited(3);
}

/// The program exits when the grace is over, and before anybody has ended the process for that.
fn exits_after_the_grace() {
    let (tell, is_over) = channel();
    let builder = HandleExit::builder().grace(SHORT).observe(move |event| {
        if matches!(event, Event::GraceOver { .. }) {
            tell.send(()).unwrap();
            park();
        }
    });
    builder.install(|| say("callback")).unwrap().keep();
    raise(Signal::TERM);
    is_over.recv().unwrap();
    exit(3);
}

fn an_exit_after_the_grace_comes_too_late() {
    Victim::start(exits_after_the_grace).end().said(&["callback"]).died_by(Signal::TERM);
}

/// The grace is over and the end of the process is on its way: the end of the scope comes too late.
fn left_after_the_grace() {
    let (begins, begun) = channel();
    let guard = HandleExit::builder().grace(SHORT).install(|| say("callback")).unwrap();
    guard
        .defer(move || {
            begins.send(()).unwrap();
            hear();
            say("deferred");
        })
        .unwrap();
    say("ready");
    begun.recv().unwrap();
    say("main ends");
    drop(guard);
    say("behind");
}

fn a_scope_that_ends_behind_its_grace_does_not_go_on() {
    let mut victim = Victim::ready(left_after_the_grace);
    victim.send(Signal::TERM);
    victim.expect("main ends");
    victim.at_rest();
    victim.tell("go on");
    victim.end().said(&["ready", "callback", "main ends", "deferred"]).died_by(Signal::TERM);
}

fn requested_with_a_short_grace() {
    let guard = HandleExit::builder()
        .grace(SHORT)
        .observe(|event| {
            if matches!(event, Event::GraceOver { .. }) {
                say("grace over");
            }
        })
        .install_with(|cause| say(format!("callback: {cause}")))
        .unwrap();
    let handle = guard.handle();
    guard.defer(move || say(format!("deferred: {}", handle.cause().unwrap()))).unwrap();
    say("ready");
    guard.request();
    // The scope has all the time it likes.
    sleep(10 * SHORT);
    say("still here");
    assert_eq!(guard.cause(), Some(Cause::Requested));
    ready_for_ever();
}

fn a_signal_after_a_request_starts_the_grace_and_the_cause_stays() {
    let mut victim = Victim::start(requested_with_a_short_grace);
    victim.expect("still here");
    victim.expect("ready");
    victim.send(Signal::TERM);
    let requested = Cause::Requested;
    let end = victim.end();
    assert!(end.lines.contains(&format!("callback: {requested}")), "{end:#?}");
    assert_eq!(end.lines[4..], ["grace over".into(), format!("deferred: {requested}")], "{end:#?}");
    end.died_by(Signal::TERM);
}

// ------------------------------------------------------------------------------ callback_timeout

fn hangs() {
    say("callback hangs");
    park();
}

fn guard_of_a_callback_that_hangs() -> HandleExit {
    guard_with_a_short_time_for(hangs)
}

fn guard_with_a_short_time_for(callback: fn()) -> HandleExit {
    let guard = HandleExit::builder()
        .callback_timeout(SOON_OVER)
        // Whatever these say: this is no clean stop.
        .ending(Ending::Code(0))
        .after_scope(AfterScope::End)
        .install(callback)
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    at_exit(says_exit_function);
    guard
}

fn hangs_on_a_signal() {
    let _guard = guard_of_a_callback_that_hangs();
    raise(Signal::TERM);
    park();
}

/// The time counts from the callback's start, and is over long before here if it counts from anything
/// else.
fn hangs_long_after_the_guard_was_made() {
    let _guard = guard_of_a_callback_that_hangs();
    // The time under test.
    sleep(2 * SOON_OVER);
    raise(Signal::TERM);
    park();
}

fn hangs_behind_its_own_drop() {
    static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);
    *GUARD.lock().unwrap() = Some(guard_with_a_short_time_for(|| {
        drop(GUARD.lock().unwrap().take());
        hangs();
    }));
    raise(Signal::TERM);
    park();
}

fn hangs_on_a_request() {
    guard_of_a_callback_that_hangs().request();
    park();
}

fn hangs_while_drop_waits() {
    let guard = guard_of_a_callback_that_hangs();
    raise(Signal::TERM);
    drop(guard);
    say("behind");
}

fn hangs_on_drop() {
    drop(guard_of_a_callback_that_hangs());
    say("behind");
}

fn hangs_on_finish() {
    let _ = guard_of_a_callback_that_hangs().finish();
    say("behind");
}

fn hangs_in_process_exit() {
    guard_of_a_callback_that_hangs().keep();
    exit(0);
}

fn hangs_when_main_returns() {
    guard_of_a_callback_that_hangs().keep();
}

fn a_callback_that_hangs_ends_the_process_with_101() {
    // Without the C library's exit functions: what hangs may hold what they need.
    let outside = scenarios![
        hangs_on_a_signal,
        hangs_long_after_the_guard_was_made,
        hangs_behind_its_own_drop,
        hangs_on_a_request,
        hangs_while_drop_waits,
        hangs_on_drop,
        hangs_on_finish
    ];
    in_each(&outside, |scenario| {
        let end = Victim::start(scenario).end();
        end.said(&["callback hangs", "deferred"]).exited(101);
    });
    in_each(&scenarios![hangs_in_process_exit, hangs_when_main_returns], |scenario| {
        // The exit function was registered after the guard's, so it has run before it.
        let end = Victim::start(scenario).end();
        let lines = ["libc exit function", "callback hangs", "deferred"];
        let returns = scenario.to_string().ends_with("returns");
        let from = usize::from(!returns && !EXIT_RUNS_EXIT_FUNCTIONS);
        end.said(&lines[from..]).exited(101);
    });
}

/// Whoever finds out that the time is over is held up: the thread that exits ends the process.
fn hangs_and_so_does_the_observer() {
    let guard = HandleExit::builder()
        .callback_timeout(SOON_OVER)
        .observe(|event| {
            if matches!(event, Event::CallbackTimedOut { .. }) {
                park();
            }
        })
        .install(hangs)
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    guard.keep();
    raise(Signal::TERM);
    exit(3);
}

fn a_callback_that_hangs_ends_a_process_that_exits_with_101_too() {
    let end = Victim::start(hangs_and_so_does_the_observer).end();
    end.said(&["callback hangs", "deferred"]).exited(101);
}

/// The callback hangs in a stream of the C library, with its lock.
#[cfg(target_os = "linux")]
fn hangs_in_a_stream_and_so_does_the_observer() {
    unsafe extern "C" {
        static stdout: *mut libc::FILE;
        fn flockfile(stream: *mut libc::FILE);
    }
    let guard = HandleExit::builder()
        .callback_timeout(SOON_OVER)
        .observe(|event| {
            if matches!(event, Event::CallbackTimedOut { .. }) {
                park();
            }
        })
        .install(|| {
            // SAFETY: a stream of the C library's, which nobody closes.
            unsafe { flockfile(stdout) };
            hangs();
        })
        .unwrap();
    guard.keep();
    raise(Signal::TERM);
    exit(3);
}

#[cfg(target_os = "linux")]
fn a_callback_that_hangs_in_a_stream_does_not_hang_the_process() {
    let end = Victim::start(hangs_in_a_stream_and_so_does_the_observer).end();
    end.said(&["callback hangs"]).exited(101);
}

/// The scope ends when the time is over, and the end of the process is still at work.
fn drops_when_the_time_is_over() {
    let builder = HandleExit::builder().callback_timeout(TIME_FOR_THE_TEST);
    let guard = builder.install(hangs).unwrap();
    guard.defer(held_callback).unwrap();
    raise(Signal::TERM);
    until_held();
    say("main ends");
    drop(guard);
    say("behind");
    park();
}

/// In which a deferred function that the test holds is let go, also on a machine that is busy.
const TIME_FOR_THE_TEST: Duration = Duration::from_secs(3);

fn nothing_goes_on_behind_a_scope_whose_callback_hangs() {
    let mut victim = Victim::start(drops_when_the_time_is_over);
    victim.expect("callback hangs");
    victim.expect_both("callback begins", "main ends");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    end.exited(101).ended_with("callback ends");
    assert_eq!(end.lines.len(), 4, "{end:#?}");
}

/// A callback with a limit, and time left, when somebody else begins to wait for it.
fn drops_while_a_callback_with_a_limit_runs() {
    let (leave, leaves) = channel();
    let (end, ends) = channel();
    let guard = HandleExit::builder().callback_timeout(LONG).install(move || {
        say("callback begins");
        ends.recv().unwrap();
        say("callback ends");
    });
    std::thread::spawn(move || {
        hear();
        leave.send(()).unwrap();
        hear();
        end.send(()).unwrap();
    });
    say("ready");
    leaves.recv().unwrap();
    drop(guard.unwrap());
    say("behind");
}

fn a_limit_is_not_over_because_somebody_else_waits() {
    let mut victim = held_in_callback(drops_while_a_callback_with_a_limit_runs);
    victim.at_rest();
    victim.tell("leave");
    victim.at_rest();
    let_callback_end(&mut victim);
    victim.end().said(&["ready", "callback begins", "callback ends", "behind"]).exited(0);
}

/// Less than the limit, and more than half of it.
const MOST_OF_THE_LIMIT: Duration = Duration::from_millis(2000);
const LIMIT: Duration = Duration::from_millis(3000);

/// What comes behind `exit` in the callback is not the callback.
fn exits_in_the_callback_and_takes_its_time() {
    let guard = HandleExit::builder()
        .callback_timeout(LIMIT)
        .observe(|event| {
            if matches!(event, Event::CallbackTimedOut { .. }) {
                say("timed out");
            }
        })
        .install(|| {
            // The time under test.
            sleep(MOST_OF_THE_LIMIT);
            say("callback exits");
            exit(7);
        })
        .unwrap();
    let takes_its_time = || {
        sleep(MOST_OF_THE_LIMIT);
        say("deferred");
    };
    guard.defer(takes_its_time).unwrap();
    guard.request();
    park();
}

fn exit_in_the_callback_stops_its_clock() {
    let end = Victim::start(exits_in_the_callback_and_takes_its_time).end();
    end.said(&["callback exits", "deferred"]).exited(7);
}

fn returns_in_time() {
    let guard = HandleExit::builder().callback_timeout(LONG).install(|| say("callback")).unwrap();
    drop(guard);
    // Nor does a time beyond the clock's range hurt.
    let guard = HandleExit::builder()
        .callback_timeout(Duration::MAX)
        .grace(Duration::ZERO)
        .install(|| say("callback"))
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    raise(Signal::TERM);
    park();
}

fn a_callback_that_returns_in_time_is_not_hurt_by_its_limit() {
    let end = Victim::start(returns_in_time).end();
    end.said(&["callback", "callback", "deferred"]).died_by(Signal::TERM);
}

// --------------------------------------------------------------------------- a callback that fails

fn panics_in_the_callback() {
    at_exit(says_exit_function);
    let told: String = told();
    let (way, policy) = told.split_once(", ").unwrap();
    let builder = match policy {
        "by default" => HandleExit::builder(),
        // Whatever these say: this is no clean stop.
        "leniently" => HandleExit::builder()
            .ending(Ending::Code(0))
            .after_scope(AfterScope::End)
            .grace(Duration::MAX),
        other => panic!("{other}"),
    };
    let guard = builder.install(|| panic!("the clean-up failed")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    say("ready");
    match way {
        "scope end" => drop(guard),
        "exit" => exit(0),
        "return from main" => guard.keep(),
        // Without waiting for the scope, which never ends.
        "TERM" => park(),
        "TERM in time" => {
            guard.wait();
            drop(guard);
        }
        other => panic!("{other}"),
    }
}

fn a_callback_that_panics_ends_the_process_with_101_whatever_the_policy() {
    for policy in ["by default", "leniently"] {
        for way in ["scope end", "exit", "return from main", "TERM", "TERM in time"] {
            let victim =
                Victim::ready(panics_in_the_callback.told(format_args!("{way}, {policy}")));
            if way.starts_with("TERM") {
                victim.send(Signal::TERM);
            }
            let end = victim.end();
            // Not in a nested exit.
            let exits = ["exit", "return from main"].contains(&way);
            let lines = ["ready", "deferred", "libc exit function"];
            // `way` is told by a panic that main's thread takes on, or by the exit.
            let is_last = exits || (way.starts_with("TERM") && !EXIT_RUNS_EXIT_FUNCTIONS);
            end.said(&lines[..if is_last { 2 } else { 3 }]).exited(101);
            assert!(end.stderr.contains("the clean-up failed"), "{end:#?}");
        }
    }
}

// ------------------------------------------------------------------------------------ the signals

#[cfg(unix)]
fn alarmed() {
    let guard = HandleExit::builder()
        .signals([Signal::ALRM])
        .grace(Duration::ZERO)
        .install_with(|cause| say(cause))
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    let soon = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 1000 },
    };
    // SAFETY: `soon` is valid for the call; the old value is not wanted.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const soon, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    ready_for_ever();
}

#[cfg(unix)]
fn an_alarm_of_the_kernel_ends_as_any_signal() {
    let end = Victim::start(alarmed).end();
    assert_eq!(end.count("SIGALRM from the kernel"), 1, "{end:#?}");
    assert_eq!(end.lines.last().unwrap(), "deferred", "{end:#?}");
    end.died_by(Signal::ALRM);
}

#[cfg(unix)]
fn guarded_pipe() {
    // Rust programs start with it ignored.
    let kept = HandleExit::builder().signals([Signal::PIPE]).install(|| {}).unwrap();
    raise(Signal::PIPE);
    assert!(!kept.is_exiting());
    drop(kept);
    let _guard = HandleExit::builder()
        .signals([Signal::PIPE])
        .ignored(Ignored::Guard)
        .grace(Duration::ZERO)
        .install(|| say("callback"))
        .unwrap();
    ready_for_ever();
}

#[cfg(unix)]
fn an_ignored_signal_is_guarded_when_the_policy_says_so() {
    let victim = Victim::ready(guarded_pipe);
    victim.send(Signal::PIPE);
    victim.end().said(&["ready", "callback"]).died_by(Signal::PIPE);
}

// ----------------------------------------------------------------------------------- the builder

fn a_builder_shows_what_it_was_told() {
    let builder = HandleExit::builder().signals([Signal::INT]).grace(Duration::from_secs(7));
    let shown = format!("{builder:?}");
    assert!(shown.contains("[SIGINT]") && shown.contains("grace: 7s"), "{shown}");
}

pub(crate) const TESTS: &[Named] = tests![
    a_scope_that_is_not_left_ends_the_process_as_ending_says,
    a_scope_that_is_left_in_time_goes_on_or_ends_as_after_scope_says,
    a_scope_that_ends_without_a_signal_goes_on_whatever_the_policy,
    a_repeat_after_100_ms_in_the_grace_is_absorbed,
    a_repeat_after_700_ms_in_the_grace_forces,
    a_repeat_in_the_grace_cuts_nothing,
    a_third_signal_forces_after_a_second_was_absorbed,
    a_quick_repeat_while_the_callback_runs_is_absorbed_after_it,
    a_late_repeat_while_the_callback_runs_forces_after_it,
    two_late_signals_while_the_callback_runs_for_another_cause_force_after_it,
    a_different_signal_does_not_force,
    by_default_no_repeat_cuts_the_callback_or_a_deferred_function,
    force_cuts_the_callback_and_nothing_else_runs,
    force_cuts_a_callback_on_drop_too,
    a_repeat_while_the_scope_ends_is_absorbed_or_a_second_wish_to_end,
    a_quick_repeat_does_not_cut_even_with_force,
    a_different_signal_does_not_cut_even_with_force,
    the_grace_counts_from_the_end_of_the_callback,
    what_a_scope_does_in_its_end_is_not_timed,
    an_exit_after_the_grace_comes_too_late,
    a_scope_that_ends_behind_its_grace_does_not_go_on,
    a_signal_after_a_request_starts_the_grace_and_the_cause_stays,
    a_callback_that_hangs_ends_the_process_with_101,
    a_callback_that_hangs_ends_a_process_that_exits_with_101_too,
    #[cfg(target_os = "linux")]
    a_callback_that_hangs_in_a_stream_does_not_hang_the_process,
    nothing_goes_on_behind_a_scope_whose_callback_hangs,
    a_limit_is_not_over_because_somebody_else_waits,
    exit_in_the_callback_stops_its_clock,
    a_callback_that_returns_in_time_is_not_hurt_by_its_limit,
    a_callback_that_panics_ends_the_process_with_101_whatever_the_policy,
    #[cfg(unix)]
    an_alarm_of_the_kernel_ends_as_any_signal,
    #[cfg(unix)]
    an_ignored_signal_is_guarded_when_the_policy_says_so,
    a_builder_shows_what_it_was_told,
];
