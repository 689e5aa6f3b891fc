//! Where two threads meet in the exit of one guard, two guards in the end of the process, or two handlers in one signal.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::support::*;
use handle_exit::{Ending, Event, HandleExit, Signal};

/// Enough for another thread to come to where it waits. Where it does not, the test shows less than it could.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(200);

pub(crate) fn until_set(what: &str, flag: &AtomicBool) {
    until(what, || flag.load(SeqCst));
}

/// Waits until this thread waits for something that takes longer than a lock.
pub(crate) fn until_waits(thread: i32) {
    until("the thread waits", || {
        let slept = sleeps(thread);
        thread::sleep(A_MOMENT / 10);
        slept && sleeps(thread)
    });
}

// -------------------------------------------------------------------------- two threads, and one time limit

/// Its time limit began with an observer on the watcher, which returns before the callback on main does.
fn observer_returns_before_the_callback() {
    static OBSERVES: AtomicBool = AtomicBool::new(false);
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    let builder = HandleExit::builder().callback_timeout(SOON_OVER).on(Signal::HUP, |_| {});
    let builder = builder.observe(|event| {
        if matches!(event, Event::SignalReceived(_)) {
            OBSERVES.store(true, SeqCst);
            until_set("the callback has begun", &HAS_BEGUN);
        }
    });
    let guard = builder.install(|| {
        HAS_BEGUN.store(true, SeqCst);
        say("callback hangs");
        park();
    });
    raise(Signal::HUP);
    until_set("the observer is told", &OBSERVES);
    drop(guard);
    say("behind");
}

fn an_observer_that_returns_does_not_stop_the_clock_of_the_callback() {
    let end = Victim::start(observer_returns_before_the_callback).end();
    end.said(&["callback hangs"]).exited(101);
}

/// The watcher is in a function of `on`, so main runs the callback after a second.
fn callback_does_not_wait_for_an_on_function() {
    static HEARS: AtomicBool = AtomicBool::new(false);
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    let builder = HandleExit::builder().callback_timeout(3 * SOON_OVER);
    let builder = builder.on(Signal::HUP, |_| {
        HEARS.store(true, SeqCst);
        until_set("the callback has run", &HAS_RUN);
    });
    let guard = builder.install(|| {
        say("callback");
        HAS_RUN.store(true, SeqCst);
    });
    let guard = guard.unwrap();
    raise(Signal::HUP);
    until_set("the function has begun", &HEARS);
    raise(Signal::TERM);
    drop(guard);
    say("behind");
}

fn a_callback_in_time_beside_a_function_of_on_ends_in_time() {
    ends_well(callback_does_not_wait_for_an_on_function, &["callback", "behind"]);
}

/// What comes after `exit` is not the deferred function any more: not in a scope that ends, nor if main is inside
/// `exit(3)`, and so runs the deferred function there.
fn deferred_exits_and_an_older_guard_takes_its_time() {
    let older = HandleExit::append(|| {
        // Time is under test: more than twice the limit of the other.
        thread::sleep(3 * SOON_OVER);
        say("older");
    });
    older.unwrap().keep();
    let guard = HandleExit::builder().callback_timeout(SOON_OVER).install(|| say("callback"));
    let guard = guard.unwrap();
    guard.defer(|| handle_exit::exit(7)).unwrap();
    if told::<String>() == "drop" {
        drop(guard);
        say("behind");
    } else {
        guard.keep();
        std::process::exit(3);
    }
}

fn exit_in_a_deferred_function_stops_its_clock() {
    in_each(&["drop", "exit"], |way| {
        let end = Victim::start(deferred_exits_and_an_older_guard_takes_its_time.told(way)).end();
        end.said(&["callback", "older"]).exited(7);
    });
}

/// Another thread runs this as a deferred function of the guard, and has begun.
pub(crate) fn runs_elsewhere(guard: &HandleExit, function: impl FnOnce() + Send + 'static) {
    let (tell, begun) = channel();
    let deferred = guard.defer(move || {
        tell.send(()).unwrap();
        function();
    });
    let deferred = deferred.unwrap();
    thread::spawn(move || deferred.run());
    begun.recv_timeout(DEADLINE).expect("the function runs");
}

/// As above, and main waits for it already. Seen once is enough: on a busy machine the limit is over before main is seen
/// to sleep twice.
fn runs_when_main_waits(guard: &HandleExit, function: impl FnOnce() + Send + 'static) {
    let (main, exit) = (main_thread(), guard.handle());
    runs_elsewhere(guard, move || {
        until("main waits", || exit.is_exiting() && sleeps(main));
        function();
    });
}

/// The end of the scope, or an exit, has a limit and waits for a function that exits on another thread.
fn deferred_run_exits_and_an_older_guard_takes_its_time() {
    let older = HandleExit::append(|| {
        // Time is under test: more than twice the limit of the other.
        thread::sleep(3 * SOON_OVER);
        say("older");
    });
    older.unwrap().keep();
    let guard = HandleExit::builder().callback_timeout(SOON_OVER).install(|| say("callback"));
    let guard = guard.unwrap();
    let exits = told::<String>() == "exit";
    let outcome = HandleExit::append(|| {}).unwrap().finish();
    runs_when_main_waits(&guard, move || {
        if exits {
            outcome.end_process();
        }
        handle_exit::exit(7);
    });
    if exits {
        guard.keep();
        std::process::exit(3);
    }
    drop(guard);
}

fn a_thread_that_waits_for_a_function_that_exits_overruns_nothing() {
    for (way, code) in [("drop", 7), ("exit", 0)] {
        let victim = Victim::start(deferred_run_exits_and_an_older_guard_takes_its_time.told(way));
        victim.end().said(&["callback", "older"]).exited(code);
    }
}

/// As above, but the observer of the guard takes its time as well.
fn observer_takes_its_time_when_a_function_ends_the_process() {
    // Time is under test: two of them are more than the limit.
    const NEARLY: Duration = Duration::from_millis(SOON_OVER.as_millis() as u64 * 2 / 3);
    let outcome = HandleExit::append(|| {}).unwrap().finish();
    HandleExit::append(|| thread::sleep(NEARLY)).unwrap().keep();
    let guard = HandleExit::builder().callback_timeout(SOON_OVER).observe(|event| {
        if matches!(event, Event::EndingWithCode(_)) {
            thread::sleep(NEARLY);
            say("told");
        }
    });
    let guard = guard.install(|| {}).unwrap();
    runs_when_main_waits(&guard, move || outcome.end_process());
    drop(guard);
}

fn a_thread_that_waits_for_an_observer_of_the_end_overruns_nothing() {
    let end = Victim::start(observer_takes_its_time_when_a_function_ends_the_process).end();
    end.said(&["told"]).exited(0);
}

/// An observer of the end hangs, and so does one with a limit, on another thread.
fn two_observers_hang_when_a_function_ends_the_process() {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    let outcome = HandleExit::append(|| {}).unwrap().finish();
    let limited = HandleExit::builder().callback_timeout(SOON_OVER).observe(|event| {
        if matches!(event, Event::SignalReceived(_)) {
            park();
        }
    });
    let limited = limited.install(|| {}).unwrap();
    let newer = HandleExit::builder().append(true).signals([Signal::USR1]).observe(|event| {
        if matches!(event, Event::EndingWithCode(_)) {
            IS_TOLD.store(true, SeqCst);
            park();
        }
    });
    newer.install(|| {}).unwrap().keep();
    runs_elsewhere(&limited, || outcome.end_process());
    until_set("the end is told", &IS_TOLD);
    raise(Signal::TERM);
    park();
}

fn an_observer_that_hangs_beside_one_of_the_end_has_its_limit() {
    Victim::start(two_observers_hang_when_a_function_ends_the_process).end().exited(101);
}

/// As above, but the function ends the process, and exit functions that run after the guards' take their time.
fn exit_functions_take_their_time_after_a_function_that_ends_the_process() {
    extern "C" fn takes_its_time() {
        // Time is under test: more than the limit.
        thread::sleep(2 * SOON_OVER);
        say("exit function");
    }
    at_exit(takes_its_time);
    let outcome = HandleExit::append(|| {}).unwrap().finish();
    let guard = HandleExit::builder().callback_timeout(SOON_OVER).install(|| {}).unwrap();
    runs_when_main_waits(&guard, move || outcome.end_process());
    drop(guard);
}

fn a_thread_that_waits_for_exit_functions_overruns_nothing() {
    let end =
        Victim::start(exit_functions_take_their_time_after_a_function_that_ends_the_process).end();
    end.said(&["exit function"]).exited(0);
}

/// The end of the process runs a deferred function of the host, which hangs in one of a guest with a limit.
fn end_hangs_in_a_function_for_which_a_scope_waits() {
    let guest = HandleExit::builder().append(true).callback_timeout(SOON_OVER);
    let guest = guest.install(|| {}).unwrap();
    let hangs = guest.defer(|| park()).unwrap();
    let host = HandleExit::cleanup(|| {}).unwrap();
    let runs = host.defer(move || _ = hangs.run());
    runs.unwrap();
    thread::spawn(move || {
        guest.wait();
        thread::sleep(A_MOMENT);
        drop(guest);
    });
    raise(Signal::TERM);
    park();
}

fn a_scope_that_waits_for_a_function_that_hangs_in_the_end_has_its_limit() {
    Victim::start(end_hangs_in_a_function_for_which_a_scope_waits).end().exited(101);
}

/// A deferred function drops a guard with a limit, and waits for a function of it that exits on another thread. That
/// exit waits for the first function.
fn deferred_function_and_an_exit_wait_for_each_other() {
    static DROPS: AtomicBool = AtomicBool::new(false);
    let outer = HandleExit::append(|| {}).unwrap();
    let inner = HandleExit::builder().append(true).callback_timeout(SOON_OVER);
    let inner = inner.install(|| {}).unwrap();
    runs_elsewhere(&inner, || {
        until_set("the other function drops the guard", &DROPS);
        thread::sleep(A_MOMENT);
        std::process::exit(7);
    });
    runs_elsewhere(&outer, move || {
        DROPS.store(true, SeqCst);
        drop(inner);
    });
    park();
}

fn a_circle_of_a_deferred_function_and_an_exit_has_the_limit_of_its_guard() {
    Victim::start(deferred_function_and_an_exit_wait_for_each_other).end().exited(101);
}

/// A host that joins an exit, with a callback that takes longer than its grace.
fn late_host_takes_its_time() {
    const GRACE: Duration = Duration::from_secs(1);
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    static IS_MADE: AtomicBool = AtomicBool::new(false);
    let _guest = HandleExit::append(|| {
        HAS_BEGUN.store(true, SeqCst);
        until_set("there is a host", &IS_MADE);
    });
    raise(Signal::TERM);
    until_set("the exit has begun", &HAS_BEGUN);
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    let host = HandleExit::builder().grace(GRACE).install(|| {
        // Time is under test.
        thread::sleep(2 * GRACE);
        say("callback");
        HAS_RUN.store(true, SeqCst);
    });
    let host = host.unwrap();
    IS_MADE.store(true, SeqCst);
    until_set("the callback has run", &HAS_RUN);
    thread::sleep(A_MOMENT);
    drop(host);
    say("behind");
}

fn a_late_host_has_its_grace_from_the_return_of_its_callback() {
    ends_well(late_host_takes_its_time, &["callback", "behind"]);
}

/// Sleeps, and says whether the process spent its time on anything meanwhile.
fn says_how_it_slept(time: Duration) {
    let before = spent();
    thread::sleep(time);
    say(if spent() - before < Duration::from_millis(50) { "slept" } else { "spun" });
}

/// A host that joins in the grace period of a guest, whose time is over before the host's callback has its turn.
fn host_joins_in_a_grace_that_is_soon_over() {
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    static HAS_RUN: AtomicBool = AtomicBool::new(false);
    const GRACE: Duration = Duration::from_secs(2);
    let guest = HandleExit::builder().append(true).grace(GRACE);
    let _guest = guest.install(|| HAS_BEGUN.store(true, SeqCst)).unwrap();
    raise(Signal::TERM);
    until_set("the exit has begun", &HAS_BEGUN);
    // Until the grace has begun.
    thread::sleep(A_MOMENT);
    let host = HandleExit::builder().grace(Duration::MAX).install(|| HAS_RUN.store(true, SeqCst));
    let host = host.unwrap();
    // The newest first. Time is under test.
    let newest = HandleExit::append(|| thread::sleep(GRACE * 3 / 2)).unwrap();
    until_set("the host's callback has run", &HAS_RUN);
    thread::sleep(A_MOMENT);
    drop(host);
    drop(newest);
    say("behind");
}

fn a_host_that_joins_in_a_grace_that_is_soon_over_has_its_own() {
    let end = Victim::start(host_joins_in_a_grace_that_is_soon_over).end();
    end.said(&["behind"]).exited(0);
}

/// A function of `on` runs beyond the grace period, and somebody enforces a time limit meanwhile.
fn grace_is_over_while_a_function_runs() {
    const GRACE: Duration = Duration::from_millis(500);
    let guest = HandleExit::builder().append(true).signals([]);
    let guest = guest.on(Signal::USR1, |_| says_how_it_slept(4 * GRACE));
    let _guest = guest.install(|| {}).unwrap();
    let host = HandleExit::builder().grace(GRACE).callback_timeout(20 * GRACE);
    let _host = host.install(|| raise(Signal::USR1)).unwrap();
    raise(Signal::TERM);
    park();
}

/// Beside another guard, a guard ends while its function runs.
fn guard_ends_while_its_function_runs() {
    static RUNS: AtomicBool = AtomicBool::new(false);
    let _other = HandleExit::append(|| {}).unwrap();
    let hears = HandleExit::builder().append(true).signals([]).on(Signal::HUP, |_| {
        RUNS.store(true, SeqCst);
        thread::sleep(A_MOMENT);
        say("function ends");
    });
    let hears = hears.install(|| {}).unwrap();
    raise(Signal::HUP);
    until_set("the function runs", &RUNS);
    drop(hears);
    say("behind");
}

fn the_end_of_a_guard_waits_for_its_function_beside_others_too() {
    let end = Victim::start(guard_ends_while_its_function_runs).end();
    end.said(&["function ends", "behind"]).exited(0);
}

/// As above, inside `exit(3)`, and the function exits too: the standard library never lets it continue.
fn guard_is_dropped_inside_exit_while_its_function_exits() {
    static RUNS: AtomicBool = AtomicBool::new(false);
    static EXITS: AtomicBool = AtomicBool::new(false);
    static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);
    extern "C" fn drops() {
        EXITS.store(true, SeqCst);
        drop(GUARD.lock().unwrap().take());
        say("dropped");
    }
    HandleExit::append(|| {}).unwrap().keep();
    let hears = HandleExit::builder().append(true).signals([]).on(Signal::HUP, |_| {
        RUNS.store(true, SeqCst);
        until_set("main exits", &EXITS);
        std::process::exit(7);
    });
    *GUARD.lock().unwrap() = Some(hears.install(|| {}).unwrap());
    // Runs before the guards' own: last in, first out.
    at_exit(drops);
    raise(Signal::HUP);
    until_set("the function runs", &RUNS);
    std::process::exit(0);
}

fn the_end_of_a_guard_does_not_wait_for_a_function_that_never_returns_from_exit() {
    let end = Victim::start(guard_is_dropped_inside_exit_while_its_function_exits).end();
    end.said(&["dropped"]).exited(0);
}

/// The end of the process waits for a callback that has time left, after another has overrun.
fn end_waits_after_an_overrun() {
    let older = HandleExit::builder().append(true).callback_timeout(20 * SOON_OVER);
    let older = older.install(|| says_how_it_slept(3 * SOON_OVER));
    let newer = HandleExit::builder().append(true).callback_timeout(A_MOMENT);
    let newer = newer.install(|| park()).unwrap();
    let _older = older.unwrap();
    drop(newer);
}

fn a_time_that_is_over_after_an_overrun_costs_no_processor_time() {
    Victim::start(end_waits_after_an_overrun).end().said(&["slept"]).exited(101);
}

fn a_grace_that_is_over_while_user_code_runs_costs_no_processor_time() {
    Victim::start(grace_is_over_while_a_function_runs).end().said(&["slept"]).died_by(Signal::TERM);
}

// ------------------------------------------------------------------------------- two guards, and one end

/// The function that the end waits for wants to end the process itself.
fn deferred_run_ends_the_process() {
    static ENDS: AtomicBool = AtomicBool::new(false);
    let way: String = told();
    let oldest = HandleExit::builder().cleanup().append(true);
    let oldest = oldest.install(|| ENDS.store(true, SeqCst)).unwrap();
    let other = HandleExit::append(|| {}).unwrap();
    runs_elsewhere(&other, move || {
        until_set("the process ends", &ENDS);
        thread::sleep(A_MOMENT);
        say("deferred");
        match &*way {
            "drop" => drop(oldest),
            "outcome" => oldest.finish().end_process(),
            "exit" => handle_exit::exit(0),
            other => panic!("{other}"),
        }
    });
    raise(Signal::TERM);
    park();
}

fn a_deferred_function_that_a_thread_runs_may_end_the_process() {
    for way in ["drop", "outcome", "exit"] {
        let end = Victim::start(deferred_run_ends_the_process.told(way)).end();
        // The first decision holds.
        end.said(&["deferred"]).died_by(Signal::TERM);
    }
}

/// The callback, on the watcher, ends the process with a code, and main is inside `exit(3)`, or comes to it.
fn callback_ends_the_process_while_main_exits() {
    static EXITS: AtomicBool = AtomicBool::new(false);
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    let main = main_thread();
    let exits_first = told::<String>() == "first";
    let older = HandleExit::append(move || {
        if !exits_first {
            // The other one ends the process already.
            EXITS.store(true, SeqCst);
            until("main waits", || sleeps(main));
            thread::sleep(A_MOMENT);
        }
        say("older");
    });
    let inner = HandleExit::append(|| {}).unwrap();
    let guard = HandleExit::append(move || {
        HAS_BEGUN.store(true, SeqCst);
        if exits_first {
            until("main exits", || EXITS.load(SeqCst) && sleeps(main));
            thread::sleep(A_MOMENT);
        }
        inner.finish().end_process();
    });
    let (guard, _older) = (guard.unwrap(), older.unwrap());
    guard.request();
    until_set("the callback has begun", &HAS_BEGUN);
    if exits_first {
        EXITS.store(true, SeqCst);
    } else {
        until_set("the process ends", &EXITS);
    }
    std::process::exit(3);
}

fn a_callback_ends_the_process_with_a_code_though_main_exits() {
    for who in ["first", "second"] {
        let end = Victim::start(callback_ends_the_process_while_main_exits.told(who)).end();
        end.said(&["older"]).exited(0);
    }
}

/// Main is inside `exit(3)`, and has not come to the guard's own exit function.
fn callback_exits_before_main_has_come_to_the_guards() {
    static EXITS: AtomicBool = AtomicBool::new(false);
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    extern "C" fn takes_its_time() {
        EXITS.store(true, SeqCst);
        until_set("the callback has begun", &HAS_BEGUN);
        thread::sleep(A_MOMENT);
    }
    let guard = HandleExit::cleanup(|| {
        say("callback");
        HAS_BEGUN.store(true, SeqCst);
        handle_exit::exit(7);
    });
    guard.unwrap().keep();
    // Runs before the guard's own: last in, first out.
    at_exit(takes_its_time);
    thread::spawn(|| {
        until_set("main exits", &EXITS);
        kill_this_process(Signal::TERM);
    });
    std::process::exit(3);
}

fn the_code_of_exit_in_a_callback_holds_at_any_moment_of_an_exit() {
    let end = Victim::start(callback_exits_before_main_has_come_to_the_guards).end();
    end.said(&["callback"]).exited(7);
}

/// The callback exits on the watcher, the exit functions take their time, and main waits for the callback meanwhile.
fn callback_exits_while_its_scope_ends() {
    extern "C" fn takes_its_time() {
        thread::sleep(2 * A_MOMENT);
    }
    let main = main_thread();
    static DROPS: AtomicBool = AtomicBool::new(false);
    at_exit(takes_its_time);
    let _guest = HandleExit::append(|| {}).unwrap();
    let exits = told::<String>() == "exits";
    let host = HandleExit::builder().grace(Duration::MAX).ending(Ending::Code(5));
    let host = host.install(move || {
        until_set("the scope ends", &DROPS);
        until_waits(main);
        if exits {
            handle_exit::exit(5);
        }
        handle_exit::exit_with_signal(Signal::TERM, || {});
    });
    raise(Signal::TERM);
    DROPS.store(true, SeqCst);
    drop(host);
    say("behind");
}

fn nothing_goes_on_behind_a_scope_whose_callback_ends_the_process() {
    for way in ["exits", "ends"] {
        Victim::start(callback_exits_while_its_scope_ends.told(way)).end().said(&[]).exited(5);
    }
}

/// The guard of ABRT ends while the callback of another runs.
fn abort_guard_ends_before_another_callback() {
    static RUNS: AtomicBool = AtomicBool::new(false);
    static IS_GONE: AtomicBool = AtomicBool::new(false);
    let _other = HandleExit::append(|| {
        RUNS.store(true, SeqCst);
        until_set("the guard of ABRT has gone", &IS_GONE);
        thread::sleep(A_MOMENT);
        say("other ends");
    });
    let host = HandleExit::builder().also([Signal::ABRT]).grace(Duration::MAX);
    let host = host.install(|| say("host")).unwrap();
    thread::spawn(|| std::process::abort());
    until_set("the other callback runs", &RUNS);
    drop(host);
    IS_GONE.store(true, SeqCst);
    park();
}

fn an_abort_waits_for_the_callbacks_of_all_though_its_guard_ends() {
    let end = Victim::start(abort_guard_ends_before_another_callback).end();
    end.said(&["host", "other ends"]).died_by(Signal::ABRT);
}

/// The callback wants a lock that the aborting thread has; guards that have nothing to do with it come and go.
fn guests_come_and_go_beside_an_abort() {
    static LOCK: Mutex<()> = Mutex::new(());
    let host = HandleExit::builder().also([Signal::ABRT]).grace(Duration::MAX);
    let _host = host.install(|| drop(LOCK.lock())).unwrap();
    thread::spawn(|| {
        loop {
            drop(HandleExit::append(|| {}));
            thread::sleep(A_MOMENT);
        }
    });
    let _lock = LOCK.lock();
    std::process::abort();
}

fn an_abort_has_its_limit_though_other_guards_come_and_go() {
    Victim::start(guests_come_and_go_beside_an_abort).end().died_by(Signal::ABRT);
}

// ------------------------------------------------------------------------------- one signal, twice or late

/// A repeat comes while the callback runs, and is noticed only as the scope ends.
fn repeat_is_noticed_at_the_end_of_the_scope() {
    static DROPS: AtomicBool = AtomicBool::new(false);
    let main = main_thread();
    let builder = HandleExit::builder().grace(Duration::MAX).observe(|event| {
        if matches!(event, Event::RepeatAbsorbed(_)) {
            say("absorbed");
        }
    });
    let guard = builder.install(move || {
        say("callback");
        until_set("the scope ends", &DROPS);
        until_waits(main);
    });
    say("ready");
    hear();
    DROPS.store(true, SeqCst);
    drop(guard);
    say("behind");
}

fn a_repeat_that_the_end_of_the_scope_notices_is_told() {
    let mut victim = Victim::ready(repeat_is_noticed_at_the_end_of_the_scope);
    victim.send(Signal::TERM);
    victim.expect("callback");
    // From a moment at which the first has been handled: never less than the rule says.
    thread::sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    until("the repeat is delivered", || !victim.has_pending(Signal::TERM));
    victim.tell("drop");
    victim.end().said(&["ready", "callback", "absorbed", "behind"]).exited(0);
}

/// A repeat that a function of `on` hears while the scope of another guard ends.
fn repeat_is_heard_while_a_scope_ends() {
    let hears = HandleExit::builder().append(true).signals([]);
    let hears = hears.on(Signal::TERM, |_| say("heard")).install(|| {}).unwrap();
    let host = HandleExit::builder().grace(Duration::MAX).install(|| say("callback")).unwrap();
    host.defer(|| {
        say("deferred");
        hear();
    })
    .unwrap();
    raise(Signal::TERM);
    host.wait();
    drop(host);
    drop(hears);
    say("behind");
}

fn a_repeat_that_is_heard_is_not_held_as_well() {
    let mut victim = Victim::start(repeat_is_heard_while_a_scope_ends);
    victim.expect("deferred");
    thread::sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim.expect("heard");
    victim.tell("go on");
    victim.end().ended_with("behind").exited(0);
}

/// A guest that only hears a signal, and one that guards it, over an old handler.
fn one_hears_and_one_guards() {
    install_old(Signal::HUP);
    let hears = HandleExit::builder().append(true).on(Signal::HUP, |_| say("heard"));
    let hears = hears.install(|| {}).unwrap();
    let guards = HandleExit::builder().append(true).signals([Signal::HUP]);
    let guards = guards.install(|| say("callback")).unwrap();
    raise(Signal::HUP);
    drop(guards);
    drop(hears);
    say("behind");
}

fn a_function_of_on_hears_a_signal_that_goes_back_to_its_old_handler() {
    ends_well(one_hears_and_one_guards, &["callback", "heard", "old", "behind"]);
}

/// The signal comes again and again, also in the moment in which it is given back.
/// Two signals with old handlers; the first is heard by a function of `on`, too.
fn second_signal_comes_before_the_first_is_heard() {
    extern "C" fn says_int(_: std::ffi::c_int) {
        say_in_handler("old INT\n");
    }
    install_old(Signal::TERM);
    install_exactly(Signal::INT, says_int as *const () as usize, 0, &[]);
    let _guest = HandleExit::append(|| raise(Signal::INT)).unwrap();
    let hears = HandleExit::builder().append(true).signals([]).on(Signal::TERM, |_| say("on"));
    let _hears = hears.install(|| {}).unwrap();
    let last = HandleExit::builder().append(true).signals([Signal::HUP]);
    let _last = last.ending(Ending::Code(7)).cleanup().append(true).install(|| {}).unwrap();
    say("ready");
    park();
}

fn old_handlers_run_in_order_of_arrival_though_a_function_of_on_is_to_hear_the_first() {
    let mut victim = Victim::ready(second_signal_comes_before_the_first_is_heard);
    victim.send(Signal::TERM);
    victim.expect("old INT");
    victim.at_rest();
    victim.send(Signal::HUP);
    victim.end().said(&["ready", "on", "old", "old INT"]).exited(7);
}

fn comes_while_it_is_given_back() {
    extern "C" fn old(_: std::ffi::c_int) {}
    install_exactly(Signal::TERM, old as *const () as usize, 0, &[]);
    for _ in 0..500 {
        let guest = HandleExit::builder().append(true).callback_timeout(DEADLINE);
        let guest = guest.install(|| {}).unwrap();
        let other = HandleExit::builder().append(true).signals([Signal::HUP]);
        let other = other.install(|| {}).unwrap();
        thread::scope(|threads| {
            threads.spawn(|| (0..20).for_each(|_| kill_this_process(Signal::TERM)));
            threads.spawn(|| drop(other));
            guest.wait();
        });
        drop(guest);
    }
}

fn a_signal_that_comes_while_it_is_given_back_holds_nothing_up() {
    ends_well(comes_while_it_is_given_back, &[]);
}

pub(crate) const TESTS: &[Named] = tests![
    an_observer_that_returns_does_not_stop_the_clock_of_the_callback,
    a_callback_in_time_beside_a_function_of_on_ends_in_time,
    exit_in_a_deferred_function_stops_its_clock,
    a_thread_that_waits_for_a_function_that_exits_overruns_nothing,
    a_circle_of_a_deferred_function_and_an_exit_has_the_limit_of_its_guard,
    a_thread_that_waits_for_exit_functions_overruns_nothing,
    a_thread_that_waits_for_an_observer_of_the_end_overruns_nothing,
    an_observer_that_hangs_beside_one_of_the_end_has_its_limit,
    the_end_of_a_guard_waits_for_its_function_beside_others_too,
    the_end_of_a_guard_does_not_wait_for_a_function_that_never_returns_from_exit,
    a_scope_that_waits_for_a_function_that_hangs_in_the_end_has_its_limit,
    a_late_host_has_its_grace_from_the_return_of_its_callback,
    a_host_that_joins_in_a_grace_that_is_soon_over_has_its_own,
    a_time_that_is_over_after_an_overrun_costs_no_processor_time,
    a_grace_that_is_over_while_user_code_runs_costs_no_processor_time,
    a_deferred_function_that_a_thread_runs_may_end_the_process,
    a_callback_ends_the_process_with_a_code_though_main_exits,
    nothing_goes_on_behind_a_scope_whose_callback_ends_the_process,
    the_code_of_exit_in_a_callback_holds_at_any_moment_of_an_exit,
    an_abort_waits_for_the_callbacks_of_all_though_its_guard_ends,
    an_abort_has_its_limit_though_other_guards_come_and_go,
    a_repeat_that_the_end_of_the_scope_notices_is_told,
    a_repeat_that_is_heard_is_not_held_as_well,
    a_function_of_on_hears_a_signal_that_goes_back_to_its_old_handler,
    old_handlers_run_in_order_of_arrival_though_a_function_of_on_is_to_hear_the_first,
    a_signal_that_comes_while_it_is_given_back_holds_nothing_up,
];
