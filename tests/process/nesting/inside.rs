//! Guards that are made and dropped in the callback of another.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use handle_exit::Exit;

static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);

fn put(guard: HandleExit) {
    *GUARD.lock().unwrap() = Some(guard);
}

fn take() -> Option<HandleExit> {
    GUARD.lock().unwrap().take()
}

/// A guard whose callback does something between two lines.
fn around(name: &'static str, builder: Builder, inside: fn()) -> HandleExit {
    let callback = move || {
        say(format!("{name} begins"));
        inside();
        say(format!("{name} ends"));
    };
    let guard = builder.install(callback).unwrap();
    guard.defer(move || say(deferred(name))).unwrap();
    guard
}

fn begins_and_ends(name: &str, between: &[String]) -> Vec<String> {
    lines(&[&[format!("{name} begins")], between, &[format!("{name} ends")]])
}

fn make_and_keep() {
    guard("made", beside().grace(Duration::ZERO)).keep();
}

fn make_and_drop() {
    drop(guard("made", beside()));
}

fn make_and_put() {
    put(guard("made", beside().grace(Duration::ZERO)));
}

fn drop_what_was_put() {
    drop(take().expect("it is taken once"));
}

// -------------------------------------------------------------------------------------------- made inside

fn at_once(inside: fn()) {
    let _outer = around("outer", beside().grace(Duration::ZERO), inside);
    ready_for_ever();
}

fn made_and_kept_on_a_signal() {
    at_once(make_and_keep);
}

fn made_and_dropped_on_a_signal() {
    at_once(make_and_drop);
}

fn a_guard_that_a_callback_makes_on_the_watcher_runs_before_the_process_ends() {
    let victim = Victim::ready(made_and_kept_on_a_signal);
    victim.send(Signal::TERM);
    let end = victim.end();
    let made = [on_watcher("made", Signal::TERM), deferred("made")];
    let outer = begins_and_ends("outer", &[]);
    said(&end, &[&line("ready"), &outer, &made, &[deferred("outer")]]).died_by(Signal::TERM);

    let victim = Victim::ready(made_and_dropped_on_a_signal);
    victim.send(Signal::TERM);
    let end = victim.end();
    // It has joined the exit that the signal began.
    let made = [on_watcher("made", Signal::TERM), deferred("made")];
    let outer = begins_and_ends("outer", &made);
    said(&end, &[&line("ready"), &outer, &[deferred("outer")]]).died_by(Signal::TERM);
}

/// What is made in the callback of a guard that ends by its scope outlives that guard.
fn made_and_put_on_drop() {
    drop(around("outer", beside(), make_and_put));
    assert!(Exit::current().is_some_and(|exit| !exit.is_exiting()));
    assert!(!is_default(Signal::TERM) && !is_default(Signal::INT));
    say("goes on");
    ready_for_ever();
}

fn made_and_put_on_drop_and_dropped() {
    drop(around("outer", beside(), make_and_put));
    say("goes on");
    drop(take());
    assert!(Exit::current().is_none());
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
}

fn a_guard_that_a_callback_makes_on_drop_outlives_the_one_that_ends() {
    let outer = lines(&[&begins_and_ends("outer", &[]), &[deferred("outer")], &line("goes on")]);
    let victim = Victim::ready(made_and_put_on_drop);
    victim.send(Signal::TERM);
    let end = victim.end();
    let made = [on_watcher("made", Signal::TERM), deferred("made")];
    said(&end, &[&outer, &line("ready"), &made]).died_by(Signal::TERM);

    let end = Victim::start(made_and_put_on_drop_and_dropped).end();
    said(&end, &[&outer, &ends_on_main("made")]).exited(0);
}

fn made_and_kept_in_process_exit() {
    let _outer = around("outer", beside(), make_and_keep);
    std::process::exit(3);
}

fn a_guard_that_a_callback_makes_in_process_exit_runs_too() {
    let end = Victim::start(made_and_kept_in_process_exit).end();
    let made = ["made on main: the process exits".into(), deferred("made")];
    said_among(&end, &begins_and_ends("outer", &[]));
    said_among(&end, &made);
    assert_eq!(end.lines.len(), 5, "{end:#?}");
    end.exited(3);
}

fn new_is_refused_in_a_callback() {
    let inside = || match HandleExit::new(|| say("never")) {
        Err(error) => say(format!("{error:?}").split(':').next().unwrap()),
        Ok(_) => say("made"),
    };
    drop(around("outer", host(), inside));
    // With the guard gone there is nothing to be nested in.
    drop(HandleExit::new(|| say("after it")).unwrap());
}

fn new_is_refused_in_the_callback_of_a_host() {
    let end = Victim::start(new_is_refused_in_a_callback).end();
    let outer = begins_and_ends("outer", &line("Nested"));
    said(&end, &[&outer, &[deferred("outer")], &line("after it")]).exited(0);
}

// ---------------------------------------------------------------------------------------- dropped inside

fn inner_is_dropped_by_the_outer(signals: &[Signal]) {
    let builder = continues().signals(signals.iter().copied()).grace(Duration::MAX);
    let outer = around("outer", builder, drop_what_was_put);
    put(guard("inner", beside()));
    say("ready");
    outer.wait();
    drop(outer);
    assert!([Signal::TERM, Signal::INT, Signal::HUP].into_iter().all(is_default));
    say("behind");
}

fn inner_is_dropped_and_has_not_run() {
    inner_is_dropped_by_the_outer(&[Signal::HUP]);
}

fn inner_is_dropped_and_has_run() {
    inner_is_dropped_by_the_outer(&[Signal::TERM]);
}

fn a_callback_may_drop_a_younger_guard() {
    let outer = |inner: &[String]| {
        let outer = begins_and_ends("outer", inner);
        lines(&[&outer, &[deferred("outer")], &line("behind")])
    };
    let victim = Victim::ready(inner_is_dropped_and_has_not_run);
    victim.send(Signal::HUP);
    let inner = ["inner on handle-exit: the scope ended".into(), deferred("inner")];
    said(&victim.end(), &[&line("ready"), &outer(&inner)]).exited(0);

    let victim = Victim::ready(inner_is_dropped_and_has_run);
    victim.send(Signal::TERM);
    let inner = [on_watcher("inner", Signal::TERM)];
    said(&victim.end(), &[&line("ready"), &inner, &outer(&[deferred("inner")])]).exited(0);
}

fn outer_is_put() -> HandleExit {
    put(guard("outer", continues()));
    around("inner", beside(), drop_what_was_put)
}

fn outer_is_dropped_on_a_signal() {
    let inner = outer_is_put();
    say("ready");
    inner.wait();
    drop(inner);
    assert!(Exit::current().is_none());
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
    say("behind");
}

fn outer_is_dropped_without_a_signal() {
    drop(outer_is_put());
    assert!(Exit::current().is_none());
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
    say("behind");
}

/// The older one decides: with its scope ended, the signal is answered.
fn a_callback_may_drop_an_older_guard() {
    let victim = Victim::ready(outer_is_dropped_on_a_signal);
    victim.send(Signal::TERM);
    let outer = [on_watcher("outer", Signal::TERM), deferred("outer")];
    let inner = lines(&[&begins_and_ends("inner", &outer), &[deferred("inner")]]);
    said(&victim.end(), &[&line("ready"), &inner, &line("behind")]).exited(0);

    let end = Victim::start(outer_is_dropped_without_a_signal).end();
    let inner = begins_and_ends("inner", &ends_on_main("outer"));
    said(&end, &[&inner, &[deferred("inner")], &line("behind")]).exited(0);
}

fn outer_is_dropped_in_process_exit() {
    outer_is_put().keep();
    std::process::exit(3);
}

fn a_callback_may_drop_an_older_guard_in_process_exit() {
    let end = Victim::start(outer_is_dropped_in_process_exit).end();
    end.exited(3);
    assert_eq!((end.count("inner begins"), end.count("inner ends")), (1, 1), "{end:#?}");
    let outer = end.lines.iter().filter(|line| line.starts_with("outer on main: "));
    assert_eq!(outer.count(), 1, "{end:#?}");
    for name in ["inner", "outer"] {
        assert_eq!(end.count(&deferred(name)), 1, "{end:#?}");
    }
}

/// The younger one's callback, on the watcher, drops the older one when main is in `process::exit`.
fn outer_is_dropped_while_the_process_exits() {
    put(guard("outer", continues()));
    let callback = || {
        held_callback();
        drop_what_was_put();
        say("inner ends");
    };
    HandleExit::append(callback).unwrap().keep();
    say("ready");
    until_held();
    say("main ends");
    std::process::exit(3);
}

fn a_callback_on_the_watcher_may_drop_an_older_guard_while_the_process_exits() {
    let mut victim = Victim::ready(outer_is_dropped_while_the_process_exits);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    victim.expect("main ends");
    victim.has_looked();
    victim.tell("go on");
    let end = victim.end();
    end.exited(3);
    let outer = end.lines.iter().filter(|line| line.starts_with("outer on "));
    assert_eq!(outer.count(), 1, "{end:#?}");
    for line in ["inner ends", "outer's deferred"] {
        assert_eq!(end.count(line), 1, "{end:#?}");
    }
}

/// A worker with a guard of its own, which ends when its exit has begun. The younger guard's callback waits for
/// the worker, as programs do before they clean up.
fn callback_waits_for_a_worker(end: fn(HandleExit)) {
    static WORKER: Mutex<Option<thread::JoinHandle<()>>> = Mutex::new(None);
    static STOP: AtomicBool = AtomicBool::new(false);
    let (made, is_made) = channel();
    let work = move || {
        let worker = guard("worker", continues());
        made.send(()).unwrap();
        while !STOP.load(SeqCst) && worker.wait_timeout(Duration::from_millis(1)).is_none() {
            thread::yield_now();
        }
        drop(worker);
        say("worker gone");
    };
    *WORKER.lock().unwrap() = Some(thread::spawn(work));
    is_made.recv().unwrap();
    let waits = || {
        STOP.store(true, SeqCst);
        WORKER.lock().unwrap().take().unwrap().join().unwrap();
    };
    let younger = around("younger", beside(), waits);
    say("ready");
    end(younger);
    say("behind");
}

fn waits_for_a_worker_on_a_signal() {
    callback_waits_for_a_worker(|younger| {
        younger.wait();
    });
}

fn waits_for_a_worker_on_drop() {
    callback_waits_for_a_worker(drop);
}

fn waits_for_a_worker_in_process_exit() {
    callback_waits_for_a_worker(|_younger| std::process::exit(3));
}

#[track_caller]
fn worker_and_younger_have_run(end: &End) {
    let worker = end.lines.iter().filter(|line| line.starts_with("worker on "));
    assert_eq!(worker.count(), 1, "{end:#?}");
    let once = ["worker's deferred", "worker gone", "younger begins", "younger ends"];
    for line in once.into_iter().chain(["younger's deferred"]) {
        assert_eq!(end.count(line), 1, "{line}: {end:#?}");
    }
}

fn a_callback_may_wait_for_a_thread_that_ends_an_older_guard() {
    let victim = Victim::ready(waits_for_a_worker_on_a_signal);
    victim.send(Signal::TERM);
    let end = victim.end();
    end.exited(0).ended_with("behind");
    worker_and_younger_have_run(&end);

    let end = Victim::start(waits_for_a_worker_on_drop).end();
    end.exited(0).ended_with("behind");
    worker_and_younger_have_run(&end);
}

fn a_callback_in_process_exit_may_wait_for_a_thread_that_ends_an_older_guard() {
    let end = Victim::start(waits_for_a_worker_in_process_exit).end();
    end.exited(3);
    worker_and_younger_have_run(&end);
}

/// How long a thread waits for the watcher to come to a callback, which is in the way of none of these.
const WATCHER_TIMEOUT: Duration = Duration::from_secs(1);

/// A trial that took less, sooner or later: this machine may be busy.
fn waits_for_no_watcher(trial: impl Fn()) {
    let begun = Instant::now();
    loop {
        let trial_begun = Instant::now();
        trial();
        if trial_begun.elapsed() < WATCHER_TIMEOUT {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "it waits, or this machine is too slow");
    }
}

fn who_may_run_the_callback_of_an_older_guard_waits_for_nobody() {
    waits_for_no_watcher(|| {
        let victim = Victim::ready(outer_is_dropped_on_a_signal);
        victim.send(Signal::TERM);
        victim.end().exited(0);
    });
    waits_for_no_watcher(|| {
        Victim::start(waits_for_a_worker_in_process_exit).end().exited(3);
    });
    waits_for_no_watcher(a_callback_on_the_watcher_may_drop_an_older_guard_while_the_process_exits);
}

/// The old handler, which decides, ends both.
fn both_are_dropped_in_the_old_handler() {
    extern "C" fn ends_all(_: nix::libc::c_int) {
        // On the watcher, which is a thread like any other.
        say("old begins");
        drop_what_was_put();
        drop(SECOND.lock().unwrap().take());
        say("old ends");
    }
    static SECOND: Mutex<Option<HandleExit>> = Mutex::new(None);
    install(Signal::TERM, ends_all);
    put(guard("first", beside()));
    *SECOND.lock().unwrap() = Some(guard("second", beside()));
    let before = disposition(Signal::TERM);
    say("ready");
    until("both are gone", || Exit::current().is_none());
    until("all is put back", || disposition(Signal::TERM) != before && is_default(Signal::INT));
    say("behind");
}

fn an_old_handler_may_drop_all_guards() {
    let victim = Victim::ready(both_are_dropped_in_the_old_handler);
    victim.send(Signal::TERM);
    let end = victim.end();
    end.exited(0);
    let callbacks = ["second", "first"].map(|name| on_watcher(name, Signal::TERM));
    said_among(&end, &lines(&[&callbacks, &["old begins".into(), "old ends".into()]]));
    for name in ["first", "second"] {
        said_among(&end, &["old ends".into(), deferred(name)]);
    }
    end.ended_with("behind");
}

/// The handler is that of the first, and drops the other.
fn another_is_dropped_in_the_old_handler() {
    extern "C" fn ends_the_other(_: nix::libc::c_int) {
        say("old begins");
        drop_what_was_put();
        say("old ends");
    }
    install(Signal::TERM, ends_the_other);
    let first = guard("first", beside().signals([Signal::TERM]));
    let other = guard("other", beside().signals([Signal::HUP]));
    // Its callback has run when the handler does.
    other.request();
    put(other);
    raise(Signal::TERM);
    drop(first);
    say("behind");
}

fn an_old_handler_may_drop_a_guard_that_does_not_have_its_signal() {
    let end = Victim::start(another_is_dropped_in_the_old_handler).end();
    let old = ["old begins".into(), deferred("other"), "old ends".into()];
    said_among(&end, &lines(&[&old, &[deferred("first"), "behind".into()]]));
    end.exited(0);
}

/// While the old handler of the first's signal runs, the other ends.
fn another_ends_beside_an_old_handler() {
    extern "C" fn held(_: nix::libc::c_int) {
        held_callback();
    }
    install(Signal::TERM, held);
    let first = guard("first", beside().signals([Signal::TERM]));
    let other = guard("other", beside().signals([Signal::HUP]));
    // Its callback has run when the handler does.
    other.request();
    raise(Signal::TERM);
    until_held();
    drop(other);
    say("other gone");
    drop(first);
    say("behind");
}

fn a_guard_does_not_wait_for_an_old_handler_of_another() {
    let mut victim = Victim::start(another_ends_beside_an_old_handler);
    victim.expect("other gone");
    victim.at_rest();
    victim.tell("go on");
    let end = victim.end();
    let first = ["callback ends".into(), deferred("first"), "behind".into()];
    said_among(&end, &lines(&[&["callback begins".into(), "other gone".into()], &first]));
    end.exited(0);
}

// --------------------------------------------------------------------------------- in deferred functions

fn deferred_is_dropped_and_made() {
    let outer = HandleExit::append(|| say("outer")).unwrap();
    put(guard("inner", beside()));
    let inside = || {
        drop_what_was_put();
        make_and_put();
    };
    outer.defer(inside).unwrap();
    drop(outer);
    say("goes on");
    drop(take());
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
}

fn a_deferred_function_may_drop_and_make_guards() {
    let end = Victim::start(deferred_is_dropped_and_made).end();
    let [inner, made] = ["inner", "made"].map(ends_on_main);
    said(&end, &[&line("outer"), &inner, &line("goes on"), &made]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    a_guard_that_a_callback_makes_on_the_watcher_runs_before_the_process_ends,
    a_guard_that_a_callback_makes_on_drop_outlives_the_one_that_ends,
    a_guard_that_a_callback_makes_in_process_exit_runs_too,
    new_is_refused_in_the_callback_of_a_host,
    a_callback_may_drop_a_younger_guard,
    a_callback_may_drop_an_older_guard,
    a_callback_may_drop_an_older_guard_in_process_exit,
    a_callback_on_the_watcher_may_drop_an_older_guard_while_the_process_exits,
    a_callback_may_wait_for_a_thread_that_ends_an_older_guard,
    a_callback_in_process_exit_may_wait_for_a_thread_that_ends_an_older_guard,
    who_may_run_the_callback_of_an_older_guard_waits_for_nobody,
    an_old_handler_may_drop_all_guards,
    an_old_handler_may_drop_a_guard_that_does_not_have_its_signal,
    a_guard_does_not_wait_for_an_old_handler_of_another,
    a_deferred_function_may_drop_and_make_guards,
];
