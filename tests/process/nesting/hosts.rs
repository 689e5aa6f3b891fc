//! One host, any number of guests: a host decides, and a guest takes the decision away from nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::*;
use handle_exit::{Ending, Error, Exit, Repeat};

/// Over before anybody has noticed.
const SHORT: Duration = Duration::from_millis(20);

/// The code of a process that ended as a guest said.
const SAID_BY_THE_GUEST: i32 = 7;

/// A host that limits nothing, and after whose scope the program continues.
fn patient_host() -> Builder {
    host().grace(Duration::MAX)
}

/// A guest that would end the process at once.
fn deadly_guest() -> Builder {
    beside().cleanup().ending(Ending::Code(SAID_BY_THE_GUEST)).repeat(Repeat::Force)
}

/// A guest that would let the program continue.
fn patient_guest() -> Builder {
    let guest = continues().grace(Duration::MAX).repeat(Repeat::Absorb);
    guest.ending(Ending::Code(SAID_BY_THE_GUEST))
}

/// A name, and the settings of the guard that has it.
type Part = (&'static str, Builder);

/// Two guards, made in this order; main ends both scopes, the newer first, when the test says so.
fn two([(first, its_settings), (second, other_settings)]: [Part; 2]) {
    let first = guard(first, its_settings);
    let second = guard(second, other_settings);
    say("ready");
    hear();
    drop(second);
    say("newer gone");
    drop(first);
    say("behind");
}

/// The callbacks of these guards, newest first, on the watcher.
fn callbacks(newest_first: &[&str], signal: Signal) -> Vec<String> {
    newest_first.iter().map(|name| on_watcher(name, signal)).collect()
}

fn all_deferred(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| deferred(name)).collect()
}

/// Sends TERM, and expects the end of the process without a word from the test.
#[track_caller]
fn ends_at_once(scenario: impl Play, newest_first: [&str; 2], how: Ends) {
    let victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    let end = victim.end();
    let callbacks = callbacks(&newest_first, Signal::TERM);
    said(&end, &[&line("ready"), &callbacks, &all_deferred(&newest_first)]).ended(how);
}

/// Sends TERM, which ends nothing; then the test has both scopes end. Returns what is said from there on.
#[track_caller]
fn after_both_scopes(scenario: impl Play, newest_first: [&str; 2]) -> End {
    let mut victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    victim.expect(&on_watcher(newest_first[1], Signal::TERM));
    victim.at_rest();
    victim.tell("go on");
    let mut end = victim.end();
    let callbacks = callbacks(&newest_first, Signal::TERM);
    let begins = lines(&[&line("ready"), &callbacks]);
    assert!(end.lines.starts_with(&begins), "{end:#?}");
    end.lines.drain(..begins.len());
    end
}

/// As `after_both_scopes`, for a program that then continues.
#[track_caller]
fn continues_after_both_scopes(scenario: impl Play, newest_first: [&str; 2]) {
    let end = after_both_scopes(scenario, newest_first);
    let [newer, older] = newest_first.map(deferred);
    said(&end, &[&[newer, "newer gone".into(), older, "behind".into()]]).exited(0);
}

// ----------------------------------------------------------------------------------- a guest without a host

fn library_ends_in_time() {
    let guest = guard("guest", beside().grace(Duration::MAX));
    say("ready");
    guest.wait();
    match told::<String>().as_str() {
        "drop" => drop(guest),
        "finish" => drop(guest.finish()),
        "exit" => std::process::exit(3),
        "return" => return guest.keep(),
        "panic" => panic!("in the body"),
        other => panic!("{other}"),
    }
    say("behind");
}

fn a_library_alone_that_ends_its_scope_leaves_the_process_to_the_signal() {
    for way in ["drop", "finish", "exit", "return", "panic"] {
        for signal in [Signal::TERM, Signal::INT] {
            let victim = Victim::ready(library_ends_in_time.told(way));
            victim.send(signal);
            let end = victim.end();
            let guest = [on_watcher("guest", signal), deferred("guest")];
            said(&end, &[&line("ready"), &guest]).died_by(signal);
        }
    }
}

/// As a library does it that knows no setting.
fn library_does_not_end() {
    let _guest = HandleExit::append(|| say("callback")).unwrap();
    ready_for_ever();
}

/// Time is under test: the grace period is 5 s unless the guest says otherwise.
fn a_library_alone_that_does_not_end_its_scope_has_its_grace_period() {
    let mut victim = Victim::ready(library_does_not_end);
    victim.send(Signal::TERM);
    victim.expect("callback");
    let begun = Instant::now();
    let end = victim.end();
    // The line arrives here a moment after the callback returned.
    assert!(begun.elapsed() > Duration::from_millis(4500), "{:?}", begun.elapsed());
    end.said(&["ready", "callback"]).died_by(Signal::TERM);
}

fn library_alone(guest: Builder) {
    let _guest = guard("guest", guest);
    ready_for_ever();
}

fn the_settings_of_a_guest_count_where_nobody_else_decides() {
    for (scenario, how) in [
        (Scenario::of(|| library_alone(beside().grace(SHORT))), Ends::By(Signal::TERM)),
        (Scenario::of(|| library_alone(deadly_guest())), Ends::With(SAID_BY_THE_GUEST)),
        (
            Scenario::of(|| library_alone(continues().cleanup().ending(Ending::ShellCode))),
            Ends::With(128 + Signal::TERM.as_raw()),
        ),
        // That the program would continue after the scope does not help one that does not end.
        (Scenario::of(|| library_alone(continues().grace(SHORT))), Ends::By(Signal::TERM)),
    ] {
        let victim = Victim::ready(scenario);
        victim.send(Signal::TERM);
        let end = victim.end();
        let guest = [on_watcher("guest", Signal::TERM), deferred("guest")];
        said(&end, &[&line("ready"), &guest]).ended(how);
    }
}

fn library_ends_and_continues() {
    let guest = guard("guest", patient_guest());
    say("ready");
    guest.wait();
    drop(guest);
    say("behind");
}

fn after_a_guest_that_is_set_to_continue_the_program_does() {
    let victim = Victim::ready(library_ends_and_continues);
    victim.send(Signal::TERM);
    let guest = [on_watcher("guest", Signal::TERM), deferred("guest")];
    said(&victim.end(), &[&line("ready"), &guest, &line("behind")]).exited(0);
}

/// Without a signal, a guest is as silent as any guard.
fn library_ends_without_a_signal() {
    drop(guard("guest", beside()));
    say("behind");
    let guest = guard("guest", beside());
    guest.request();
    assert_eq!(guest.wait(), Cause::Requested);
    drop(guest);
    say("behind");
}

fn without_a_signal_the_program_continues_after_a_guest() {
    let requested = "guest on handle-exit: requested by the program".to_owned();
    let end = Victim::start(library_ends_without_a_signal).end();
    let behind = line("behind");
    said(&end, &[&ends_on_main("guest"), &behind, &[requested, deferred("guest")], &behind])
        .exited(0);
}

// ------------------------------------------------------------------------------- two libraries, two threads

/// A guard on a thread of its own, whose scope ends when told.
fn elsewhere((name, settings): Part) -> Sender<()> {
    let (made, is_made) = channel();
    let (ends, end) = channel();
    thread::spawn(move || {
        let guard = guard(name, settings);
        made.send(()).unwrap();
        end.recv().unwrap();
        drop(guard);
        say(format!("{name} gone"));
        // Not the thread that ended it, which could be seen while it ends.
        park();
    });
    is_made.recv().unwrap();
    ends
}

fn two_libraries() {
    let libraries =
        ["older", "newer"].map(|name| (name, elsewhere((name, beside().grace(Duration::MAX)))));
    say("ready");
    loop {
        let told = hear();
        let (_, ends) = libraries.iter().find(|(name, _)| *name == told).unwrap();
        ends.send(()).unwrap();
    }
}

fn two_libraries_are_signalled() -> Victim {
    let mut victim = Victim::ready(two_libraries);
    victim.send(Signal::TERM);
    for name in ["newer", "older"] {
        victim.expect(&on_watcher(name, Signal::TERM));
    }
    victim.at_rest();
    victim
}

/// The older one decides, whichever thread it is on.
fn of_two_libraries_the_scope_of_the_older_is_what_the_process_ends_with() {
    let begins = lines(&[&line("ready"), &callbacks(&["newer", "older"], Signal::TERM)]);

    let mut victim = two_libraries_are_signalled();
    victim.tell("newer");
    victim.expect("newer gone");
    victim.at_rest();
    victim.tell("older");
    let end = victim.end();
    let newer = [deferred("newer"), "newer gone".into()];
    said(&end, &[&begins, &newer, &[deferred("older")]]).died_by(Signal::TERM);

    let mut victim = two_libraries_are_signalled();
    victim.tell("older");
    let end = victim.end();
    said(&end, &[&begins, &all_deferred(&["older", "newer"])]).died_by(Signal::TERM);
}

// --------------------------------------------------------------------------------- a host decides over guests

const OUTSIDE: [&str; 2] = ["guest", "host"];
const BEFORE: [&str; 2] = ["host", "guest"];

/// The guest says that the process ends at once, and the host that the program continues.
fn a_host_lets_the_program_continue_whatever_a_guest_says() {
    continues_after_both_scopes(
        || two([("host", patient_host()), ("guest", deadly_guest())]),
        OUTSIDE,
    );
    continues_after_both_scopes(
        || two([("guest", deadly_guest()), ("host", patient_host())]),
        BEFORE,
    );
    // A guest that says nothing: the system's default is what it would do alone.
    continues_after_both_scopes(|| two([("host", patient_host()), ("guest", beside())]), OUTSIDE);
    continues_after_both_scopes(|| two([("guest", beside()), ("host", patient_host())]), BEFORE);
}

/// The guest says that the program continues, and the host that the process ends at once.
fn a_host_ends_the_process_whatever_a_guest_says() {
    let how = Ends::By(Signal::TERM);
    ends_at_once(|| two([("host", host().cleanup()), ("guest", patient_guest())]), OUTSIDE, how);
    ends_at_once(|| two([("guest", patient_guest()), ("host", host().cleanup())]), BEFORE, how);
}

fn the_grace_period_is_the_hosts() {
    let how = Ends::By(Signal::TERM);
    ends_at_once(|| two([("host", host().grace(SHORT)), ("guest", patient_guest())]), OUTSIDE, how);
    ends_at_once(|| two([("guest", patient_guest()), ("host", host().grace(SHORT))]), BEFORE, how);
}

fn the_ending_is_the_hosts() {
    let how = Ends::With(128 + Signal::TERM.as_raw());
    ends_at_once(|| two([("host", ends_by_code()), ("guest", deadly_guest())]), OUTSIDE, how);
    ends_at_once(|| two([("guest", deadly_guest()), ("host", ends_by_code())]), BEFORE, how);
}

fn ends_by_code() -> Builder {
    host().cleanup().ending(Ending::ShellCode)
}

fn ends_after_its_scope() -> Builder {
    patient_host().after_scope(AfterScope::End).ending(Ending::Code(3))
}

fn what_follows_the_scope_is_said_by_the_host() {
    let end = after_both_scopes(
        || two([("host", ends_after_its_scope()), ("guest", patient_guest())]),
        OUTSIDE,
    );
    said(&end, &[&[deferred("guest"), "newer gone".into(), deferred("host")]]).exited(3);

    // The guest's scope is still open.
    let end = after_both_scopes(
        || two([("guest", patient_guest()), ("host", ends_after_its_scope())]),
        BEFORE,
    );
    said(&end, &[&all_deferred(&["host", "guest"])]).exited(3);
}

/// A host and a guest, of which the newer one holds its callback.
fn held_under([(first, its_settings), (_, other_settings)]: [Part; 2]) {
    let _first = guard(first, its_settings.grace(Duration::MAX));
    let second = other_settings.grace(Duration::MAX).install(held_callback).unwrap();
    second.defer(|| say(deferred("second"))).unwrap();
    ready_for_ever();
}

/// A second TERM that is a second wish, while the callback of the newer is held.
fn repeated_in_the_callback(scenario: impl Play) -> Victim {
    let mut victim = Victim::ready(scenario);
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    // From a moment at which the first has been handled, so it is never less than the rule says.
    sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim
}

fn forcing_host() -> Builder {
    host().repeat(Repeat::Force)
}

fn absorbing_host() -> Builder {
    host().repeat(Repeat::Absorb)
}

fn forcing() -> Builder {
    beside().repeat(Repeat::Force)
}

fn absorbing() -> Builder {
    beside().repeat(Repeat::Absorb)
}

fn what_a_repeat_does_is_said_by_the_host() {
    // It cuts the callback, whoever else would not.
    for scenario in scenarios![
        || held_under([("host", forcing_host()), ("guest", absorbing())]),
        || held_under([("guest", absorbing()), ("host", forcing_host())])
    ] {
        let victim = repeated_in_the_callback(scenario);
        victim.end().said(&["ready", "callback begins"]).died_by(Signal::TERM);
    }
    // It ends the wait and cuts nothing.
    for (scenario, older) in [
        (Scenario::of(|| held_under([("host", host()), ("guest", forcing())])), "host"),
        (Scenario::of(|| held_under([("guest", forcing()), ("host", host())])), "guest"),
        (Scenario::of(|| held_under([("guest", absorbing()), ("host", host())])), "guest"),
    ] {
        let mut victim = repeated_in_the_callback(scenario);
        victim.at_rest();
        victim.tell("go on");
        let end = victim.end();
        let older = [on_watcher(older, Signal::TERM), deferred("second"), deferred(older)];
        let held = ["ready", "callback begins", "callback ends"].map(String::from);
        said(&end, &[&held, &older]).died_by(Signal::TERM);
    }
    // It ends nothing at all.
    for (scenario, older) in [
        (Scenario::of(|| held_under([("host", absorbing_host()), ("guest", forcing())])), "host"),
        (Scenario::of(|| held_under([("guest", forcing()), ("host", absorbing_host())])), "guest"),
    ] {
        let mut victim = repeated_in_the_callback(scenario);
        victim.at_rest();
        victim.tell("go on");
        victim.expect(&on_watcher(older, Signal::TERM));
        victim.at_rest();
        victim.send(Signal::KILL);
        victim.end().died_by(Signal::KILL);
    }
}

/// The guest is a library's, on a thread that has nothing to do with the program's.
fn host_beside_a_library_elsewhere() {
    let library = elsewhere(("guest", deadly_guest()));
    let host = guard("host", patient_host());
    say("ready");
    host.wait();
    hear();
    drop(host);
    say("host gone");
    hear();
    library.send(()).unwrap();
    until("all is restored", || is_default(Signal::TERM) && is_default(Signal::INT));
    hear();
}

/// The signal is answered by the end of the host's scope: the guest's scope ends nothing when it is left.
fn a_library_that_lives_longer_than_the_host_does_not_end_the_program() {
    let mut victim = Victim::ready(host_beside_a_library_elsewhere);
    victim.send(Signal::TERM);
    for name in ["host", "guest"] {
        victim.expect(&on_watcher(name, Signal::TERM));
    }
    victim.at_rest();
    victim.tell("go on");
    victim.expect("host gone");
    victim.at_rest();
    victim.tell("go on");
    victim.expect("guest gone");
    victim.tell("end");
    let callbacks = callbacks(&["host", "guest"], Signal::TERM);
    let host = [deferred("host"), "host gone".into()];
    let guest = [deferred("guest"), "guest gone".into()];
    said(&victim.end(), &[&line("ready"), &callbacks, &host, &guest]).exited(0);
}

// ---------------------------------------------------------------------------- a signal that only a guest guards

fn of_hup(guest: Builder) -> Builder {
    guest.signals([Signal::HUP])
}

/// The guest's scope ends in time; what stands there of the host is its own.
fn guest_with_a_signal_of_its_own_ends() {
    let _host = guard("host", patient_host());
    let guest = guard("guest", of_hup(beside().grace(Duration::MAX)));
    say("ready");
    guest.wait();
    drop(guest);
    say("behind");
}

fn guest_with_a_signal_of_its_own_does_not_end([first, second]: [Part; 2]) {
    let _first = guard(first.0, first.1);
    let _second = guard(second.0, second.1);
    ready_for_ever();
}

/// A signal that the host does not guard is decided by the guest, and the host runs before the process ends.
fn a_signal_that_only_a_guest_guards_is_decided_by_the_guest() {
    let victim = Victim::ready(guest_with_a_signal_of_its_own_ends);
    victim.send(Signal::HUP);
    let end = victim.end();
    let guest = [on_watcher("guest", Signal::HUP), deferred("guest")];
    let host = ["host on main: SIGHUP".into(), deferred("host")];
    said(&end, &[&line("ready"), &guest, &host]).died_by(Signal::HUP);

    let [guest, host] =
        ["guest", "host"].map(|name| [on_watcher(name, Signal::HUP), deferred(name)]);
    let victim = Victim::ready(|| {
        guest_with_a_signal_of_its_own_does_not_end([
            ("host", patient_host()),
            ("guest", of_hup(deadly_guest())),
        ]);
    });
    victim.send(Signal::HUP);
    said(&victim.end(), &[&line("ready"), &guest, &host]).exited(SAID_BY_THE_GUEST);

    let victim = Victim::ready(|| {
        guest_with_a_signal_of_its_own_does_not_end([
            ("guest", of_hup(beside().grace(SHORT))),
            ("host", patient_host()),
        ]);
    });
    victim.send(Signal::HUP);
    let [callback, deferred] = guest;
    said(&victim.end(), &[&line("ready"), &[callback], &host, &[deferred]]).died_by(Signal::HUP);
}

fn guest_continues_under_a_cleanup() {
    let host = guard("host", host().cleanup());
    let guest = guard("guest", of_hup(patient_guest()));
    say("ready");
    guest.wait();
    drop(guest);
    assert!(!host.is_exiting() && host.cause().is_none());
    say("continues");
    park();
}

/// What a guest is set to counts for its own signal only.
fn a_guest_that_continues_after_its_own_signal_leaves_the_others_to_the_host() {
    let mut victim = Victim::ready(guest_continues_under_a_cleanup);
    victim.send(Signal::HUP);
    victim.expect("continues");
    victim.send(Signal::TERM);
    let guest = [on_watcher("guest", Signal::HUP), deferred("guest")];
    let host = [on_watcher("host", Signal::TERM), deferred("host")];
    said(&victim.end(), &[&line("ready"), &guest, &line("continues"), &host]).died_by(Signal::TERM);
}

// ------------------------------------------------------------------------------------ one host after the other

fn hosts_one_after_the_other() {
    let guest = guard("guest", deadly_guest().also([Signal::HUP]));
    for name in ["first", "second"] {
        let host = guard(name, patient_host());
        // Nothing of the exit before is left.
        assert!(!host.is_exiting());
        say("ready");
        host.wait();
        // The test has seen the callback of the guest.
        hear();
        drop(host);
        say(format!("{name} gone"));
    }
    assert!(guest.is_exiting());
    ready_for_ever();
}

/// Each decides in its own time, and the guest where no host is.
fn hosts_may_come_and_go_beside_a_living_guest() {
    let mut victim = Victim::ready(hosts_one_after_the_other);
    // Three signals, none of which is a repeat.
    victim.send(Signal::TERM);
    victim.expect(&on_watcher("guest", Signal::TERM));
    victim.at_rest();
    victim.tell("go on");
    victim.expect("ready");
    victim.send(Signal::INT);
    victim.expect(&on_watcher("second", Signal::INT));
    victim.at_rest();
    victim.tell("go on");
    victim.expect("ready");
    victim.send(Signal::HUP);
    let end = victim.end();
    let gone = |name: &str| [deferred(name), format!("{name} gone")];
    let first = callbacks(&["first", "guest"], Signal::TERM);
    let second = callbacks(&["second"], Signal::INT);
    let ready = &line("ready");
    let of_hosts = lines(&[ready, &first, &gone("first"), ready, &second, &gone("second")]);
    said(&end, &[&of_hosts, ready, &[deferred("guest")]]).exited(SAID_BY_THE_GUEST);
}

// ------------------------------------------------------------------------------------------------ who is refused

type Making = fn(Arc<()>) -> Result<HandleExit, Error>;

/// Each way to make a host.
const HOSTS: [Making; 5] = [
    |captured| HandleExit::new(move || drop(captured)),
    |captured| HandleExit::cleanup(move || drop(captured)),
    |captured| host().install(move || drop(captured)),
    |captured| host().cleanup().install(move || drop(captured)),
    // One that would need a handler more.
    |captured| host().also([Signal::HUP]).install(move || drop(captured)),
];

/// Makes a host in each way, each time with this result, and without a trace of it.
fn each_way_to_make_a_host(judge: fn(Result<HandleExit, Error>)) {
    let (before, threads_before) = (all_dispositions(), threads());
    for make in HOSTS {
        let captured = Arc::new(());
        judge(make(Arc::clone(&captured)));
        assert_eq!(all_dispositions(), before);
        // One that was joined before may have been listed for a moment longer.
        assert!(threads().iter().all(|thread| threads_before.contains(thread)));
        assert_eq!(Arc::strong_count(&captured), 1);
    }
}

fn is_nested(made: Result<HandleExit, Error>) {
    assert!(matches!(made, Err(Error::Nested)), "{made:?}");
}

fn is_made(made: Result<HandleExit, Error>) {
    drop(made.unwrap());
}

fn a_host_inside_another_host_is_refused() {
    for make in HOSTS {
        let outer = make(Arc::new(())).unwrap();
        each_way_to_make_a_host(is_nested);
        thread::spawn(|| each_way_to_make_a_host(is_nested)).join().unwrap();
        // Nor does a guest in between help.
        let guest = HandleExit::append(|| {}).unwrap();
        each_way_to_make_a_host(is_nested);
        assert!(matches!(HandleExit::run(|| {}, |_| unreachable!()), Err::<(), _>(Error::Nested)));
        assert!(!outer.is_exiting() && !guest.is_exiting());
        drop(outer);
        // With the host gone the guest is no obstacle.
        each_way_to_make_a_host(is_made);
    }
}

fn a_host_may_be_made_beside_living_guests_on_any_thread() {
    let guests: Vec<_> = (0..3).map(|_| HandleExit::append(|| {}).unwrap()).collect();
    let elsewhere = thread::spawn(|| HandleExit::append(|| {}).unwrap()).join().unwrap();
    each_way_to_make_a_host(is_made);
    thread::spawn(|| each_way_to_make_a_host(is_made)).join().unwrap();
    assert_eq!(HandleExit::run(|| {}, |_| 42).unwrap(), 42);
    assert!(guests.iter().chain([&elsewhere]).all(|guest| !guest.is_exiting()));
    // The host may outlive them.
    let host = HandleExit::new(|| {}).unwrap();
    drop(guests);
    drop(elsewhere);
    assert!(!is_default(Signal::TERM));
    each_way_to_make_a_host(is_nested);
    drop(host);
    assert!(is_default(Signal::TERM) && is_default(Signal::INT));
}

/// The holder is whoever handles the signal, and not the guard that stands over it.
fn a_foreign_handler_is_refused_by_a_host_and_accepted_by_a_guest() {
    fn handler_exists(made: Result<HandleExit, Error>) {
        match made {
            Err(Error::HandlerExists { signal: Signal::TERM, holder, .. }) => {
                assert_eq!(holder.address(), HOLDER.load(SeqCst));
            }
            other => panic!("{other:?}"),
        }
    }
    static HOLDER: AtomicUsize = AtomicUsize::new(0);
    install_old(Signal::TERM);
    HOLDER.store(disposition(Signal::TERM).0, SeqCst);
    each_way_to_make_a_host(handler_exists);
    let guest = HandleExit::append(|| {}).unwrap();
    // The guest stands over it, and changes nothing for a host.
    each_way_to_make_a_host(handler_exists);
    let second = HandleExit::append(|| {}).unwrap();
    drop(guest);
    each_way_to_make_a_host(handler_exists);
    assert!(!second.is_exiting());
    // A host that leaves the signal out takes the decision away from nobody.
    drop(host().signals([Signal::INT, Signal::HUP]).install(|| {}).unwrap());
    drop(second);
    each_way_to_make_a_host(handler_exists);
}

// -------------------------------------------------------------------------------- the end of the process runs all

/// A guest, the host and a guest, made in this order, of which each guards another signal.
fn three_with_different_signals(settings: Builder) -> [HandleExit; 3] {
    let first = guard("first", beside().signals([Signal::USR1]));
    let host = guard("host", settings);
    [first, host, guard("third", beside().signals([Signal::HUP]))]
}

fn signalled_among_three(settings: Builder) {
    let _guards = three_with_different_signals(settings);
    ready_for_ever();
}

fn scope_ends_among_three() {
    let [_first, host, _third] = three_with_different_signals(ends_after_its_scope());
    say("ready");
    host.wait();
    drop(host);
    say("behind");
}

fn exits_among_three() {
    let _guards = three_with_different_signals(patient_host());
    std::process::exit(3);
}

fn exits_elsewhere_among_three() {
    let _guards = three_with_different_signals(patient_host());
    let exits = thread::Builder::new().name("exiter".into());
    exits.spawn(|| std::process::exit(3)).unwrap().join().unwrap();
}

fn returns_among_three() {
    three_with_different_signals(patient_host()).into_iter().for_each(HandleExit::keep);
}

const NEWEST_FIRST: [&str; 3] = ["third", "host", "first"];

/// What each says that the end of the process ends.
fn each_ends(thread: &str, cause: &str, names: &[&str]) -> Vec<String> {
    let ends = |name: &&str| [format!("{name} on {thread}: {cause}"), deferred(name)];
    names.iter().flat_map(ends).collect()
}

fn before_a_signal_ends_the_process_all_living_guards_run_newest_first() {
    // At once; when the grace period is over; when a second wish ends the wait.
    for (scenario, repeats) in [
        (Scenario::of(|| signalled_among_three(host().cleanup())), false),
        (Scenario::of(|| signalled_among_three(host().grace(SHORT))), false),
        (Scenario::of(|| signalled_among_three(patient_host())), true),
    ] {
        let mut victim = Victim::ready(scenario);
        victim.send(Signal::TERM);
        if repeats {
            victim.expect(&on_watcher("host", Signal::TERM));
            sleep(SECOND_WISH);
            victim.send(Signal::TERM);
        }
        let end = victim.end();
        let by = |names| each_ends("handle-exit", "SIGTERM", names);
        let host = [on_watcher("host", Signal::TERM)];
        let then = lines(&[&by(&["third"]), &[deferred("host")], &by(&["first"])]);
        said(&end, &[&line("ready"), &host, &then]).died_by(Signal::TERM);
    }
    // After the scope.
    let victim = Victim::ready(scope_ends_among_three);
    victim.send(Signal::TERM);
    let end = victim.end();
    let host = [on_watcher("host", Signal::TERM), deferred("host")];
    let others = each_ends("main", "SIGTERM", &["third", "first"]);
    said(&end, &[&line("ready"), &host, &others]).exited(3);
}

fn before_the_process_exits_all_living_guards_run_newest_first() {
    for (scenario, thread, code) in [
        (Scenario::of(exits_among_three), "main", 3),
        (Scenario::of(exits_elsewhere_among_three), "exiter", 3),
        (Scenario::of(returns_among_three), "main", 0),
    ] {
        let end = Victim::start(scenario).end();
        said(&end, &[&each_ends(thread, "the process exits", &NEWEST_FIRST)]).exited(code);
    }
}

fn each_ends_without_a_signal() {
    let ends: [fn(HandleExit); 3] = [
        drop,
        |guard| assert_eq!(guard.finish().cause(), &Cause::ScopeEnd),
        |guard| {
            let unwinds = std::panic::AssertUnwindSafe(move || {
                let _guard = guard;
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            std::panic::catch_unwind(unwinds).unwrap_err();
        },
    ];
    for (order, end) in [[0, 1, 2], [1, 2, 0], [2, 0, 1]].into_iter().zip(ends) {
        let guards = [("first", beside()), ("host", host()), ("third", beside())];
        let mut guards = guards.map(|(name, settings)| Some(guard(name, settings)));
        for place in order {
            end(guards[place].take().unwrap());
            // Nothing has begun for the others.
            assert!(guards.iter().flatten().all(|guard| guard.cause().is_none()));
            say("ended");
        }
        assert!(is_default(Signal::TERM) && is_default(Signal::INT));
    }
}

fn a_guard_that_ends_without_a_signal_runs_its_own_and_nothing_else() {
    let end = Victim::start(each_ends_without_a_signal).end();
    let ended = |cause: &str, names: [&str; 3]| -> Vec<String> {
        let one = |name: &str| lines(&[&each_ends("main", cause, &[name]), &line("ended")]);
        names.into_iter().flat_map(one).collect()
    };
    let scope = |names| ended("the scope ended", names);
    let dropped = scope(["first", "host", "third"]);
    let finished = scope(["host", "third", "first"]);
    let panicked = ended("a panic", ["third", "first", "host"]);
    said(&end, &[&dropped, &finished, &panicked]).exited(0);
}

/// A supervisor, or a prompt: the host takes the signal for no exit.
fn host_only_hears() {
    let _host = guard("host", host().cleanup().on(Signal::HUP, |_| say("host hears")));
    let guest = guard("guest", beside().cleanup().signals([Signal::HUP]));
    say("ready");
    hear();
    drop(guest);
    let _late = guard("late", beside().cleanup().signals([Signal::HUP]));
    say("behind");
    hear();
}

fn a_guest_does_not_end_a_program_whose_host_takes_the_signal_for_no_exit() {
    let mut victim = Victim::ready(host_only_hears);
    for _ in 0..2 {
        victim.send(Signal::HUP);
        victim.expect("host hears");
        victim.at_rest();
    }
    victim.tell("go on");
    victim.expect("behind");
    victim.tell("go on");
    let end = victim.end();
    let callback = on_watcher("guest", Signal::HUP);
    let hears = line("host hears");
    let behind = [deferred("guest"), "behind".into()];
    let ends = [ends_on_main("late"), ends_on_main("host")].concat();
    said(&end, &[&line("ready"), &[callback], &hears, &hears, &behind, &ends]).exited(0);
}

// --------------------------------------------------------------------------------------------------- Exit::current

/// Whether `Exit::current` is this guard, of which nothing is asked that others hear of.
#[track_caller]
fn is_current(guard: &HandleExit) {
    let current = Exit::current().unwrap();
    let deferred = current.defer(|| {}).unwrap();
    assert!(deferred.cancel());
    assert_eq!(current.is_exiting(), guard.is_exiting());
    // A request is of one guard only.
    current.request();
    assert!(guard.is_exiting());
}

fn current_is_the_host_or_else_the_oldest_guest() {
    assert!(Exit::current().is_none());
    let [oldest, younger] = [(); 2].map(|()| HandleExit::append(|| {}).unwrap());
    let first_host = HandleExit::new(|| {}).unwrap();
    let youngest = HandleExit::append(|| {}).unwrap();
    // From any thread.
    let current = thread::spawn(|| Exit::current().unwrap()).join().unwrap();
    current.request();
    assert!(first_host.is_exiting());
    assert!(![&oldest, &younger, &youngest].iter().any(|guest| guest.is_exiting()));
    drop(first_host);
    is_current(&oldest);
    // Whatever the oldest is in, a host comes first.
    let second_host = HandleExit::cleanup(|| {}).unwrap();
    assert!(!Exit::current().unwrap().is_exiting());
    drop(oldest);
    is_current(&second_host);
    assert!(!younger.is_exiting() && !youngest.is_exiting());
    drop(second_host);
    is_current(&younger);
    assert!(!youngest.is_exiting());
    drop(younger);
    is_current(&youngest);
    drop(youngest);
    assert!(Exit::current().is_none());
}

pub(crate) const TESTS: &[Named] = tests![
    a_library_alone_that_ends_its_scope_leaves_the_process_to_the_signal,
    a_library_alone_that_does_not_end_its_scope_has_its_grace_period,
    the_settings_of_a_guest_count_where_nobody_else_decides,
    after_a_guest_that_is_set_to_continue_the_program_does,
    without_a_signal_the_program_continues_after_a_guest,
    of_two_libraries_the_scope_of_the_older_is_what_the_process_ends_with,
    a_host_lets_the_program_continue_whatever_a_guest_says,
    a_host_ends_the_process_whatever_a_guest_says,
    the_grace_period_is_the_hosts,
    the_ending_is_the_hosts,
    what_follows_the_scope_is_said_by_the_host,
    what_a_repeat_does_is_said_by_the_host,
    a_library_that_lives_longer_than_the_host_does_not_end_the_program,
    a_signal_that_only_a_guest_guards_is_decided_by_the_guest,
    a_guest_that_continues_after_its_own_signal_leaves_the_others_to_the_host,
    a_guest_does_not_end_a_program_whose_host_takes_the_signal_for_no_exit,
    hosts_may_come_and_go_beside_a_living_guest,
    before_a_signal_ends_the_process_all_living_guards_run_newest_first,
    before_the_process_exits_all_living_guards_run_newest_first,
    a_guard_that_ends_without_a_signal_runs_its_own_and_nothing_else;
    alone:
    a_host_inside_another_host_is_refused,
    a_host_may_be_made_beside_living_guests_on_any_thread,
    a_foreign_handler_is_refused_by_a_host_and_accepted_by_a_guest,
    current_is_the_host_or_else_the_oldest_guest,
];
