//! `callback_timeout` beats everything that can hang: observers, wakers, the callback and the deferred functions.

#![allow(unsafe_code, reason = "a standard stream becomes a pipe that is full")]

use std::future::Future;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::sleep;
use std::time::Duration;

use crate::support::*;
use handle_exit::{Builder, Event, HandleExit, Repeat, Signal};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

/// A limit that is to be overrun. It is over before a thread that exits has waited a second for the watcher, and continues
/// without it.
const SHORT: Duration = or_longer(400);
/// Long enough for what is to be done in time, also on a machine that is busy.
const LONG: Duration = Duration::from_secs(6);

/// A host with this limit, and no other.
fn limited(timeout: Duration) -> Builder {
    HandleExit::builder().grace(Duration::MAX).callback_timeout(timeout)
}

/// Each way in which a scope that is told to stop may behave, and one without a signal.
const WAYS: [&str; 5] = ["stays", "drop", "finish", "exit", "no signal"];

/// Meets what hangs on its way out, in the way that the scenario is told first.
fn meets(guard: HandleExit) {
    let told: String = told();
    let way = told.split_once(": ").map_or(told.as_str(), |(way, _)| way);
    if way != "no signal" {
        kill_this_process(Signal::TERM);
    }
    match way {
        "stays" => park(),
        "no signal" => drop(guard),
        "drop" => {
            guard.wait();
            drop(guard);
        }
        "finish" => {
            guard.wait();
            let _outcome = guard.finish();
        }
        "exit" => {
            guard.wait();
            std::process::exit(3);
        }
        other => panic!("{other}"),
    }
    say("behind");
}

/// What the scenario is told second.
fn told_second() -> String {
    told::<String>().split_once(": ").unwrap().1.to_owned()
}

/// It ends with 101 in each way, and nothing continues after the scope.
#[track_caller]
fn fails_in_each_way(scenario: Scenario, second: &str, judge: impl Fn(&End) + Sync) {
    in_each(&WAYS, |way| {
        let told = format!("{way}: {second}");
        let end = Victim::start(scenario.told(&told)).end();
        assert_eq!(end.count("behind"), 0, "{end:#?}");
        end.exited(101);
        judge(&end);
    });
}

/// A thread that exits has given up the watcher after a second: on a busy machine that may come before the limit.
#[track_caller]
fn exited_at_the_limit(end: &End, way: &str) {
    if way != "exit" || end.status.code() != Some(3) {
        end.exited(101);
    }
}

// ------------------------------------------------------------------------------------------------- observers

/// Makes a standard stream of this process a pipe that is full and that nobody reads.
fn fill_up(stream: libc::c_int) {
    let (reads, writes) = nix::unistd::pipe().unwrap();
    fcntl(&writes, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut pipe = std::fs::File::from(writes);
    // In small pieces: a write is whole, or is none.
    for piece in [&[b' '; 4096][..], b" "] {
        while pipe.write(piece).is_ok() {}
    }
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    // SAFETY: both descriptors are open; the stream's own is nobody else's.
    assert_eq!(unsafe { libc::dup2(pipe.as_raw_fd(), stream) }, stream);
    // The pipe lives as long as the process.
    std::mem::forget::<OwnedFd>(reads);
}

/// The lock of the stream is held meanwhile, by the thread that writes.
fn observer_writes_to_a_full_stderr() {
    let guard = limited(SOON_OVER).observe(|event| eprintln!("{event}"));
    let guard = guard.install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    fill_up(2);
    meets(guard);
}

fn observer_writes_to_a_full_stdout() {
    let guard = limited(SOON_OVER).observe(|event| println!("{event}"));
    let guard = guard.install(|| {}).unwrap();
    fill_up(1);
    meets(guard);
}

fn an_observer_that_writes_to_a_full_pipe_has_the_timeout() {
    fails_in_each_way(Scenario::of(observer_writes_to_a_full_stderr), "-", |end| {
        assert!(end.count("callback") <= 1, "{end:#?}");
        assert_eq!(end.count("deferred"), 1, "{end:#?}");
    });
    fails_in_each_way(Scenario::of(observer_writes_to_a_full_stdout), "-", |_| {});
}

/// The event at which the observer never returns.
fn is_told_event(event: &Event) -> bool {
    let name = match event {
        Event::SignalReceived(_) => "received",
        Event::CallbackStarted(_) => "started",
        Event::CallbackFinished { .. } => "finished",
        Event::CallbackTimedOut { .. } => "timed out",
        Event::GraceOver { .. } => "grace over",
        Event::EndingBySignal(_) => "ending",
        _ => return false,
    };
    told_second() == name
}

fn hanging_observer() -> Builder {
    limited(SHORT).observe(|event| {
        if is_told_event(event) {
            park();
        }
    })
}

fn observer_hangs() {
    let guard = hanging_observer().install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    meets(guard);
}

fn an_observer_that_hangs_has_the_timeout_whatever_it_is_told() {
    for event in ["started", "finished"] {
        fails_in_each_way(Scenario::of(observer_hangs), event, |end| {
            assert_eq!(end.count("deferred"), 1, "{end:#?}");
        });
    }
    in_each(&["stays", "drop", "finish", "exit"], |way| {
        let end = Victim::start(observer_hangs.told(format!("{way}: received"))).end();
        exited_at_the_limit(&end, way);
        assert_eq!((end.count("deferred"), end.count("behind")), (1, 0), "{end:#?}");
    });
}

fn observer_hangs_at_the_end() {
    let builder = hanging_observer();
    let builder = match told_second().as_str() {
        "timed out" => builder,
        _ => builder.grace(SOON_OVER),
    };
    let hangs = told_second() == "timed out";
    let guard = builder.install(move || {
        say("callback");
        if hangs {
            park();
        }
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred")).unwrap();
    meets(guard);
}

/// The process ends, one way or the other.
fn an_observer_that_hangs_at_the_end_of_the_process_does_not_keep_it() {
    for event in ["grace over", "ending"] {
        let told = format!("stays: {event}");
        let end = Victim::start(observer_hangs_at_the_end.told(&told)).end();
        assert_eq!(end.count("callback"), 1, "{end:#?}");
        if end.status.code().is_some() {
            end.exited(101);
        } else {
            end.died_by(Signal::TERM);
        }
    }
    let end = Victim::start(observer_hangs_at_the_end.told("stays: timed out")).end();
    end.said(&["callback", "deferred"]).exited(101);
}

/// Nor does `Repeat::Force` need the observer.
fn observer_hangs_under_force() {
    let builder = HandleExit::builder().grace(Duration::MAX).repeat(Repeat::Force);
    let builder = builder.observe(|event| {
        if is_told_event(event) {
            say("observer hangs");
            park();
        }
    });
    let _guard = builder.install(|| {}).unwrap();
    ready_for_ever();
}

fn force_ends_a_process_whose_observer_hangs() {
    for event in ["received", "started", "finished"] {
        let told = format!("stays: {event}");
        let mut victim = Victim::ready(observer_hangs_under_force.told(&told));
        victim.send(Signal::TERM);
        victim.expect("observer hangs");
        // From a moment at which the first has been handled, so it is never less than the rule says.
        sleep(SECOND_WISH);
        victim.send(Signal::TERM);
        victim.end().died_by(Signal::TERM);
    }
}

// ---------------------------------------------------------------------------------------------------- wakers

/// An executor's code, which hangs.
struct Hangs;

impl Wake for Hangs {
    fn wake(self: Arc<Self>) {
        say("waker hangs");
        park();
    }
}

fn waker_hangs() {
    let guard = limited(SHORT).install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    let mut begun = guard.begun();
    let waker = Waker::from(Arc::new(Hangs));
    assert!(Pin::new(&mut begun).poll(&mut Context::from_waker(&waker)).is_pending());
    meets(guard);
}

fn a_waker_that_hangs_has_the_timeout() {
    in_each(&["stays", "drop", "finish", "exit"], |way| {
        let end = Victim::start(waker_hangs.told(format!("{way}: -"))).end();
        exited_at_the_limit(&end, way);
        assert_eq!((end.count("waker hangs"), end.count("behind")), (1, 0), "{end:#?}");
        assert_eq!(end.count("deferred"), 1, "{end:#?}");
    });
}

// -------------------------------------------------------------------------------------- the callback, and locks

/// Holds the locks of the standard streams, as a clean-up does whose terminal has stopped.
fn callback_holds_the_streams() {
    let guard = limited(SOON_OVER).install(|| {
        let _streams = (std::io::stdout().lock(), std::io::stderr().lock());
        park();
    });
    let guard = guard.unwrap();
    if told_second() == "deferred" {
        // Waits for the lock, and has the time once more.
        guard.defer(|| say("deferred")).unwrap();
    }
    meets(guard);
}

fn a_callback_that_holds_the_locks_of_the_streams_has_the_timeout() {
    for second in ["nothing", "deferred"] {
        fails_in_each_way(Scenario::of(callback_holds_the_streams), second, |_| {});
    }
}

// ----------------------------------------------------------------------------------------- deferred functions

fn hangs(what: &str) {
    say(format!("{what} hangs"));
    park();
}

fn deferred_hangs() {
    let builder = limited(SOON_OVER);
    let builder = if told_second() == "at once" { builder.cleanup() } else { builder };
    let guard = builder.install(|| say("callback")).unwrap();
    guard.defer(|| hangs("deferred")).unwrap();
    meets(guard);
}

fn deferred_functions_that_hang_have_the_timeout() {
    let lines = ["callback", "deferred hangs"];
    // The scope ends, and main runs them.
    in_each(&["drop", "finish", "exit", "no signal"], |way| {
        let end = Victim::start(deferred_hangs.told(format!("{way}: -"))).end();
        end.said(&lines).exited(101);
    });
    // The process ends, and the watcher does.
    let end = Victim::start(deferred_hangs.told("stays: at once")).end();
    end.said(&lines).exited(101);
}

/// Each has less than the limit, and both together have more.
fn callback_and_deferred_take_their_time() {
    let takes_its_time = |what: &'static str| {
        move || {
            // Time is under test.
            sleep(LONG * 2 / 3);
            say(what);
        }
    };
    let guard = limited(LONG).install(takes_its_time("callback")).unwrap();
    guard.defer(takes_its_time("deferred")).unwrap();
    drop(guard);
    say("behind");
}

fn deferred_functions_have_the_time_of_the_callback_and_not_its_rest() {
    ends_well(callback_and_deferred_take_their_time, &["callback", "deferred", "behind"]);
}

/// The limit is one guard's: the deferred functions of the other, which has none, are not counted.
fn deferred_of_another_takes_its_time() {
    let host = limited(SOON_OVER).install(|| say("host")).unwrap();
    host.defer(|| say("host's deferred")).unwrap();
    let guest = HandleExit::append(|| say("guest")).unwrap();
    guest.defer(held_callback).unwrap();
    say("ready");
    drop(host);
    drop(guest);
    say("behind");
}

fn the_timeout_is_none_for_the_deferred_functions_of_another_guard() {
    let mut victim = Victim::ready(deferred_of_another_takes_its_time);
    victim.expect("callback begins");
    // Time is under test: if the limit of the host counted here, the process would be gone.
    sleep(3 * SOON_OVER);
    victim.tell("go on");
    let lines = ["ready", "host", "host's deferred", "guest", "callback begins", "callback ends"];
    victim.end().said(&[&lines[..], &["behind"]].concat()).exited(0);
}

// -------------------------------------------------------------------------------------- once more, after an overrun

/// Three guards, of which the middle one is limited and its callback hangs. What is deferred says so.
fn overruns_among_three(timeout: Duration, of_oldest: fn()) {
    let deferred = |name: &'static str| move || say(format!("{name}'s deferred"));
    let oldest = HandleExit::builder().grace(Duration::MAX).install(|| say("oldest")).unwrap();
    oldest.defer(of_oldest).unwrap();
    let middle = limited(timeout).append(true).install(|| hangs("middle")).unwrap();
    middle.defer(deferred("middle")).unwrap();
    let newest = HandleExit::append(|| say("newest")).unwrap();
    newest.defer(deferred("newest")).unwrap();
    meets(middle);
}

/// Takes long, and less than the limit.
fn deferred_after_an_overrun_takes_its_time() {
    overruns_among_three(LONG, || {
        sleep(LONG * 2 / 3);
        say("oldest's deferred");
    });
}

fn deferred_after_an_overrun_hangs() {
    overruns_among_three(SOON_OVER, || hangs("oldest's deferred"));
}

fn after_an_overrun_the_deferred_functions_of_all_guards_have_the_time_once_more() {
    let all = ["newest's deferred", "middle's deferred", "oldest's deferred"];
    in_each(&["stays", "drop"], |way| {
        let told = format!("{way}: -");
        let end = Victim::start(deferred_after_an_overrun_takes_its_time.told(&told)).end();
        let ran = all.map(|line| end.count(line));
        assert_eq!((ran, end.count("behind")), ([1; 3], 0), "{end:#?}");
        end.exited(101);
    });
    in_each(&WAYS, |way| {
        let told = format!("{way}: -");
        let end = Victim::start(deferred_after_an_overrun_hangs.told(&told)).end();
        let ran = [all[0], all[1], "oldest's deferred hangs"].map(|line| end.count(line));
        assert_eq!((ran, end.count("behind")), ([1; 3], 0), "{end:#?}");
        end.exited(101);
    });
}

pub(crate) const TESTS: &[Named] = tests![
    an_observer_that_writes_to_a_full_pipe_has_the_timeout,
    an_observer_that_hangs_has_the_timeout_whatever_it_is_told,
    an_observer_that_hangs_at_the_end_of_the_process_does_not_keep_it,
    force_ends_a_process_whose_observer_hangs,
    a_waker_that_hangs_has_the_timeout,
    a_callback_that_holds_the_locks_of_the_streams_has_the_timeout,
    deferred_functions_that_hang_have_the_timeout,
    deferred_functions_have_the_time_of_the_callback_and_not_its_rest,
    the_timeout_is_none_for_the_deferred_functions_of_another_guard,
    after_an_overrun_the_deferred_functions_of_all_guards_have_the_time_once_more,
];
