//! What two testers found who attacked the crate: each of these programs hung, lost a signal, or left something
//! undone.

#![allow(unsafe_code, reason = "forks, and a filter of system calls")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::encounters::{A_MOMENT, runs_elsewhere, until_set};
use crate::support::seccomp::{IS, LOAD, NUMBER, RETURN, filter_calls, step};
use crate::support::*;
use handle_exit::{AfterScope, Builder, Cause, Event, HandleExit, Repeat, Signal};
use nix::libc;

/// What is to end soon, on a busy machine.
const A_FEW_SECONDS: Duration = Duration::from_secs(15);

/// A guest that nothing hurries.
fn guest() -> Builder {
    HandleExit::builder().append(true).grace(Duration::MAX)
}

/// Forks. The child ends with `_exit`: 0, unless `child` panics, or hangs up to the deadline.
fn child_ends_well(child: impl FnOnce()) {
    // SAFETY: no other thread of these scenarios holds a lock that the child needs; the status is valid for a write.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            // No handler of ALRM is installed: it ends a child that hangs.
            libc::alarm(DEADLINE.as_secs() as u32);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            libc::_exit(if result.is_ok() { 0 } else { 101 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        assert_eq!(status, 0, "the child ended with the status {status:#x}");
    }
}

// --------------------------------------------------------------------------- guests that come and go

/// There is hardly a moment at which nobody's callback runs. Each takes as many milliseconds as is told.
fn guests_come_and_go() {
    const THREADS: usize = 3;
    static LOOPING: AtomicUsize = AtomicUsize::new(0);
    let takes = Duration::from_millis(told());
    let _host = HandleExit::cleanup(|| say("callback")).unwrap();
    for _ in 0..THREADS {
        thread::spawn(move || {
            while let Ok(guest) = HandleExit::append(move || thread::sleep(takes)) {
                drop(guest);
                LOOPING.fetch_add(1, SeqCst);
            }
        });
    }
    until("they come and go", || LOOPING.load(SeqCst) >= 10 * THREADS);
    ready_for_ever();
}

fn guests_that_come_and_go_do_not_hold_up_the_end() {
    for takes in [0, 1, 5] {
        let victim = Victim::ready(guests_come_and_go.told(takes));
        let begun = Instant::now();
        victim.send(Signal::TERM);
        victim.end().said(&["ready", "callback"]).died_by(Signal::TERM);
        assert!(begun.elapsed() < A_FEW_SECONDS, "{takes} ms each: {:?}", begun.elapsed());
    }
}

static ASKED: AtomicUsize = AtomicUsize::new(0);
static MADE: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Does not return before there is another guest, which joins the exit.
fn asks_for_another_guest() {
    let asked = ASKED.fetch_add(1, SeqCst) + 1;
    until("there is another", || MADE.load(SeqCst) >= asked || REFUSED.load(SeqCst));
}

/// At each moment one waits that is newer than all that were there when the signal came.
fn guests_follow_each_other() {
    let _host = HandleExit::cleanup(|| say("callback")).unwrap();
    HandleExit::append(asks_for_another_guest).unwrap().keep();
    thread::spawn(|| {
        loop {
            until("one is asked for", || ASKED.load(SeqCst) > MADE.load(SeqCst));
            let Ok(guest) = HandleExit::append(asks_for_another_guest) else { break };
            guest.keep();
            MADE.fetch_add(1, SeqCst);
        }
        REFUSED.store(true, SeqCst);
    });
    ready_for_ever();
}

fn guests_that_join_do_not_go_before_those_that_the_end_waits_for() {
    let victim = Victim::ready(guests_follow_each_other);
    let begun = Instant::now();
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback"]).died_by(Signal::TERM);
    assert!(begun.elapsed() < A_FEW_SECONDS, "{:?}", begun.elapsed());
}

// -------------------------------------------------------------------------------------- forked children

/// A thread of the parent's is in `Deferred::run` for as long as the child lives.
fn forks_beside_a_deferred_function() {
    let made_in = std::process::id();
    let callback = move || say(format!("callback in the child: {}", std::process::id() != made_in));
    let guard = HandleExit::new(callback).unwrap();
    let (begins, begun) = channel();
    let (ends, ended) = channel::<()>();
    let deferred = guard.defer(move || {
        begins.send(()).unwrap();
        ended.recv().unwrap();
    });
    let deferred = deferred.unwrap();
    let runs = thread::spawn(move || deferred.run());
    begun.recv_timeout(DEADLINE).unwrap();
    let mut guard = Some(guard);
    child_ends_well(|| {
        let guard = guard.take().unwrap();
        guard.rearm().unwrap();
        drop(guard);
        say("dropped in the child");
    });
    ends.send(()).unwrap();
    runs.join().unwrap();
    drop(guard);
}

fn a_rearmed_guard_does_not_wait_for_a_deferred_function_that_the_parent_runs() {
    let lines =
        ["callback in the child: true", "dropped in the child", "callback in the child: false"];
    ends_well(forks_beside_a_deferred_function, &lines);
}

/// Counts how often it is woken.
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// In each of many children two threads rearm at once, and wait for the same exit: one with a future, both with `wait`.
fn two_threads_rearm() {
    const CHILDREN: usize = 100;
    let before = threads();
    let guard = HandleExit::new(|| {}).unwrap();
    let watcher = started_since(&before);
    // In the child nothing could ever be done with what it is at.
    until("the watcher sleeps", || sleeps(watcher));
    for _ in 0..CHILDREN {
        child_ends_well(|| {
            let counts = Arc::new(Counts(AtomicUsize::new(0)));
            let (at_once, waiting) = (Barrier::new(2), Barrier::new(3));
            let rearms_and_waits = || {
                let waker = Waker::from(Arc::clone(&counts));
                at_once.wait();
                let rearmed = guard.rearm();
                let mut begun = pin!(guard.begun());
                let is_ready = begun.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
                // Before anything fails, so that nobody is kept here.
                waiting.wait();
                rearmed.unwrap();
                assert!(!is_ready);
                assert_eq!(guard.wait(), Cause::Requested);
                // The waker stays registered as long as the future lives.
                until("both are woken", || counts.0.load(SeqCst) == 2);
            };
            thread::scope(|threads| {
                threads.spawn(rearms_and_waits);
                threads.spawn(rearms_and_waits);
                waiting.wait();
                guard.request();
            });
        });
    }
    say("all were woken");
}

fn two_threads_that_rearm_a_guard_at_once_are_both_woken() {
    ends_well(two_threads_rearm, &["all were woken"]);
}

// --------------------------------------------------------------------------------------- a held signal

/// HUP comes when the only guard that listens to it is on its way out, and waits for another one.
fn hup_is_held() {
    static HEARS: Mutex<Option<HandleExit>> = Mutex::new(None);
    static HEARD: AtomicBool = AtomicBool::new(false);
    let outer = HandleExit::builder().grace(Duration::MAX).install(|| {}).unwrap();
    let first = guest().on(Signal::HUP, |_| say("the first hears")).install(|| {
        raise(Signal::HUP);
        say("held");
        hear();
        let hears = |_: &handle_exit::Received| {
            say("the second hears");
            HEARD.store(true, SeqCst);
        };
        let second = guest().on(Signal::HUP, hears).install(|| {}).unwrap();
        *HEARS.lock().unwrap() = Some(second);
        // Nothing else happens that would have the watcher look.
        until("it is heard", || HEARD.load(SeqCst));
    });
    drop(first.unwrap());
    let second = HEARS.lock().unwrap().take();
    drop(second);
    drop(outer);
    say("behind");
}

fn a_held_signal_is_heard_by_a_guard_that_enters_inside_a_living_one() {
    let mut victim = Victim::start(hup_is_held);
    victim.expect("held");
    // The watcher has looked at it, and sleeps.
    victim.at_rest();
    victim.tell("go on");
    victim.end().said(&["held", "the second hears", "behind"]).exited(0);
}

// ------------------------------------------------------------------------- a sandbox around an exit

/// From here on this process may not make that system call, as in many sandboxes; and is killed by SIGSYS if it sends a
/// signal to all processes. Says so where the kernel has no such filter, and returns false.
fn may_not(call: libc::c_long) -> bool {
    // The half of the first argument that an `int` is in.
    const FIRST: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    let mut program = [
        step(LOAD, 0, 0, NUMBER),
        step(IS, 0, 1, call as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(IS, 0, 3, libc::SYS_kill as u32),
        step(LOAD, 0, 0, FIRST),
        step(IS, 0, 1, u32::MAX),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    if !filter_calls(&mut program) {
        say("skipped: no filter of system calls");
        return false;
    }
    // SAFETY: without arguments, neither of those that are asked for does anything.
    let made = unsafe { libc::syscall(call, 0, 0, 0, 0, 0, 0) };
    assert_eq!((made, nix::errno::Errno::last()), (-1, nix::errno::Errno::EPERM));
    true
}

fn exits_with_3() {
    say("callback");
    handle_exit::exit(3);
}

extern "C" fn drops_a_guard_that_exits() {
    drop(HandleExit::new(exits_with_3).unwrap());
}

/// The guard that exits inside the exit is kept, or made and dropped in an exit function.
fn exits_inside_an_exit_in_a_sandbox() {
    if !may_not(libc::SYS_process_vm_readv) {
        return;
    }
    match told::<String>().as_str() {
        "kept" => HandleExit::new(exits_with_3).unwrap().keep(),
        "dropped" => at_exit(drops_a_guard_that_exits),
        other => panic!("{other}"),
    }
    std::process::exit(0);
}

fn an_exit_inside_an_exit_has_its_code_where_a_filter_forbids_to_read_the_stack() {
    for way in ["kept", "dropped"] {
        let end = Victim::start(exits_inside_an_exit_in_a_sandbox.told(way)).end();
        if !end.is_skipped() {
            end.said(&["callback"]).exited(3);
        }
    }
}

/// The callback of the host drops a guest with a limit, and waits for a function of it that exits on another thread.
/// That exit waits for the callback.
fn callback_waits_for_a_function_that_exits_in_a_sandbox() {
    static DROPS: AtomicBool = AtomicBool::new(false);
    if !may_not(libc::SYS_process_vm_readv) {
        return;
    }
    let guest = HandleExit::builder().append(true).callback_timeout(SOON_OVER);
    let guest = guest.install(|| {}).unwrap();
    runs_elsewhere(&guest, || {
        until_set("the callback drops the guest", &DROPS);
        thread::sleep(A_MOMENT);
        std::process::exit(7);
    });
    let host = HandleExit::new(move || {
        DROPS.store(true, SeqCst);
        drop(guest);
    });
    let _host = host.unwrap();
    raise(Signal::TERM);
    park();
}

fn a_callback_and_an_exit_that_wait_for_each_other_end_in_a_sandbox_too() {
    let end = Victim::start(callback_waits_for_a_function_that_exits_in_a_sandbox).end();
    if !end.is_skipped() {
        end.exited(101);
    }
}

/// A process that does not know its id: `kill` takes the error for all processes.
fn is_killed_in_a_sandbox_without_getpid() {
    if !may_not(libc::SYS_getpid) {
        return;
    }
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn a_process_that_may_not_ask_for_its_id_ends_alone() {
    let mut victim = Victim::start(is_killed_in_a_sandbox_without_getpid);
    if victim.next_line().as_deref() == Some("ready") {
        victim.send(Signal::TERM);
        victim.end().said(&["ready", "callback", "deferred"]).exited(143);
    }
}

// ----------------------------------------------------------------- a guard that its own code drops

static OWN: Mutex<Option<HandleExit>> = Mutex::new(None);

fn drop_own() {
    let own = OWN.lock().unwrap().take();
    if own.is_some() {
        say("drops");
    }
}

struct DropsOwn;

impl Wake for DropsOwn {
    fn wake(self: Arc<Self>) {
        drop_own();
    }
}

/// It is told who drops the guard, and what begins the exit.
fn own_code_drops_the_guard() {
    static RAN: AtomicBool = AtomicBool::new(false);
    let told: String = told();
    let (who, what) = told.split_once(' ').unwrap();
    let observes = who == "observer";
    let builder = HandleExit::builder().grace(Duration::MAX);
    let builder = if what == "ends" { builder.after_scope(AfterScope::End) } else { builder };
    let builder = builder.observe(move |event| {
        if observes && matches!(event, Event::CallbackStarted(_)) {
            drop_own();
        }
    });
    let guard = builder.install(|| say("callback")).unwrap();
    let deferred = || {
        say("deferred");
        RAN.store(true, SeqCst);
    };
    guard.defer(deferred).unwrap();
    let (exit, mut begun) = (guard.handle(), guard.begun());
    if !observes {
        let waker = Waker::from(Arc::new(DropsOwn));
        assert!(Pin::new(&mut begun).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    *OWN.lock().unwrap() = Some(guard);
    match what {
        "request" => exit.request(),
        _ => kill_this_process(Signal::TERM),
    }
    if what == "ends" {
        park();
    }
    until("the deferred function has run", || RAN.load(SeqCst));
    say("behind");
}

fn ends_though_its_own_code_drops_the_guard(who: &str, what: &str, ends: Ends) {
    let end = Victim::start(own_code_drops_the_guard.told(format!("{who} {what}"))).end();
    // The waker runs on the thread that requests, and the watcher does not wait for it.
    let counts = ["drops", "callback", "deferred"].map(|line| end.count(line));
    assert_eq!(counts, [1; 3], "{end:#?}");
    end.ended_with(if what == "ends" { "deferred" } else { "behind" }).ended(ends);
}

fn a_guard_that_its_own_observer_drops_ends_and_runs_once() {
    ends_though_its_own_code_drops_the_guard("observer", "continues", Ends::With(0));
    ends_though_its_own_code_drops_the_guard("observer", "request", Ends::With(0));
    ends_though_its_own_code_drops_the_guard("observer", "ends", Ends::By(Signal::TERM));
}

fn a_guard_that_its_own_waker_drops_ends_and_runs_once() {
    ends_though_its_own_code_drops_the_guard("waker", "continues", Ends::With(0));
    ends_though_its_own_code_drops_the_guard("waker", "request", Ends::With(0));
}

fn a_guard_that_its_own_waker_drops_ends_the_process_if_it_is_to() {
    ends_though_its_own_code_drops_the_guard("waker", "ends", Ends::By(Signal::TERM));
}

// -------------------------------------------------------------------------------------- Repeat::Force

fn is_forced_beside_an_observer() {
    let builder = HandleExit::builder().grace(Duration::MAX).repeat(Repeat::Force);
    let builder = builder.observe(|event| match event {
        Event::RepeatForces(_) => eprintln!("forced"),
        Event::CallbackFinished { .. } => say("in the grace period"),
        _ => {}
    });
    let guard = builder.install(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    ready_for_ever();
}

fn forced_beside_an_observer() -> End {
    let mut victim = Victim::ready(is_forced_beside_an_observer);
    victim.send(Signal::TERM);
    victim.expect("in the grace period");
    victim.at_rest();
    // From a moment at which the first has been handled, so it is never less than the rule says.
    thread::sleep(SECOND_WISH);
    victim.send(Signal::TERM);
    victim.end()
}

fn a_repeat_that_forces_runs_the_deferred_functions_beside_an_observer() {
    let lines = ["ready", "callback", "in the grace period", "deferred"];
    forced_beside_an_observer().said(&lines).died_by(Signal::TERM);
}

fn a_repeat_that_forces_is_told_to_the_observer() {
    let end = forced_beside_an_observer();
    assert_eq!(end.stderr, "forced", "{end:#?}");
}

// --------------------------------------------------------------------------------- what has overrun

/// Each way in which the exit of a guard begins.
const WAYS: [&str; 4] = ["stays", "drop", "exit", "no signal"];

/// Ends in the way that the scenario is told.
fn meets(guard: HandleExit) {
    let way = told::<String>();
    if way != "no signal" {
        kill_this_process(Signal::TERM);
        if way == "stays" {
            park();
        }
        guard.wait();
    }
    if way == "exit" {
        std::process::exit(3);
    }
    drop(guard);
    say("behind");
}

/// The function that blocks is the middle one's.
fn deferred_function_blocks_among_three() {
    let says = |name: &'static str| move || say(name);
    let oldest = guest().install(says("oldest")).unwrap();
    oldest.defer(says("oldest's deferred")).unwrap();
    let middle = HandleExit::builder().grace(Duration::MAX).callback_timeout(SOON_OVER);
    let middle = if told::<String>() == "stays" { middle.cleanup() } else { middle };
    let middle = middle.install(says("middle")).unwrap();
    middle.defer(says("middle's deferred")).unwrap();
    let blocks = || {
        say("blocks");
        park();
    };
    middle.defer(blocks).unwrap();
    let newest = guest().install(says("newest")).unwrap();
    newest.defer(says("newest's deferred")).unwrap();
    meets(middle);
}

fn a_deferred_function_that_blocks_leaves_the_other_guards_theirs() {
    let lines = ["oldest", "middle", "newest", "blocks", "oldest's deferred", "newest's deferred"];
    in_each(&WAYS, |way| {
        let end = Victim::start(deferred_function_blocks_among_three.told(way)).end();
        let ran = lines.map(|line| end.count(line));
        assert_eq!((ran, end.count("behind")), ([1; 6], 0), "{end:#?}");
        end.exited(101);
    });
}

fn observer_blocks_before_the_callback() {
    let builder = guest().callback_timeout(SOON_OVER).observe(|event| {
        if matches!(event, Event::CallbackStarted(_)) {
            say(format!("observer on {:?}", thread::current().id()));
            park();
        }
    });
    let callback = || say(format!("callback on {:?}", thread::current().id()));
    let guard = builder.install(callback).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    meets(guard);
}

fn a_callback_whose_observer_blocks_runs_on_another_thread() {
    in_each(&WAYS, |way| {
        let end = Victim::start(observer_blocks_before_the_callback.told(way)).end();
        let threads = |who: &str| -> Vec<&str> {
            end.lines.iter().filter_map(|line| line.strip_prefix(who)).collect()
        };
        let (observer, callback) = (threads("observer on "), threads("callback on "));
        assert_eq!((callback.len(), end.count("deferred")), (1, 1), "{end:#?}");
        assert!(!observer.is_empty() && observer[0] != callback[0], "{end:#?}");
        assert_eq!(end.count("behind"), 0, "{end:#?}");
        end.exited(101);
    });
}

// ------------------------------------------------------------------- a failure in a deferred function

/// The guard is dropped by the deferred function, or kept.
fn deferred_function_makes_a_guard_that_panics() {
    let keeps = told::<String>() == "kept";
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    let makes = move || {
        say("deferred");
        let made = HandleExit::append(|| {
            say("made");
            panic!("on purpose");
        });
        match made.unwrap() {
            made if keeps => made.keep(),
            made => drop(made),
        }
    };
    guard.defer(makes).unwrap();
    ready_for_ever();
}

fn a_panic_of_a_guard_that_a_deferred_function_makes_ends_with_101() {
    for way in ["dropped", "kept"] {
        let victim = Victim::ready(deferred_function_makes_a_guard_that_panics.told(way));
        victim.send(Signal::TERM);
        victim.end().said(&["ready", "callback", "deferred", "made"]).exited(101);
    }
}

// ------------------------------------------------------------------- a signal while an old handler runs

/// How often the old handler has run. The first time it takes until the second signal has come.
static HANDLED: AtomicUsize = AtomicUsize::new(0);
static SECOND: AtomicBool = AtomicBool::new(false);

extern "C" fn slow_the_first_time(_: libc::c_int) {
    if HANDLED.fetch_add(1, SeqCst) == 0 {
        while !SECOND.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The first signal is given back to its old handler, which runs; a younger guest takes the second one.
fn second_signal_while_the_old_handler_runs() {
    install(Signal::TERM, slow_the_first_time);
    let older = HandleExit::append(|| say("older")).unwrap();
    raise(Signal::TERM);
    until("the old handler runs", || HANDLED.load(SeqCst) == 1);
    let younger = HandleExit::builder().append(true).callback_timeout(DEADLINE * 2);
    let younger = younger.install(|| say("younger")).unwrap();
    raise(Signal::TERM);
    let _ = younger.wait_timeout(Duration::from_millis(500));
    SECOND.store(true, SeqCst);
    until("the old handler has run twice", || HANDLED.load(SeqCst) == 2);
    drop(younger);
    drop(older);
    say("behind");
}

fn a_signal_that_comes_while_the_old_handler_runs_is_another_one() {
    ends_well(second_signal_while_the_old_handler_runs, &["older", "younger", "behind"]);
}

// ------------------------------------------------------------------- two callbacks that panic

/// Two callbacks of the watcher panic, and a thread finishes the guard of the second one meanwhile.
fn two_callbacks_panic() {
    static FINISHES: AtomicBool = AtomicBool::new(false);
    let _host = HandleExit::builder().grace(Duration::MAX).install(|| say("host")).unwrap();
    let second = HandleExit::append(|| {
        until("the guard is finished", || FINISHES.load(SeqCst));
        thread::sleep(Duration::from_millis(100));
        panic!("second");
    });
    let second = second.unwrap();
    let first = HandleExit::append(|| panic!("first")).unwrap();
    raise(Signal::TERM);
    second.wait();
    FINISHES.store(true, SeqCst);
    let _ = second.finish();
    first.keep();
    park();
}

fn the_first_of_two_panics_ends_the_process() {
    Victim::start(two_callbacks_panic).end().said(&["host"]).exited(101);
}

// ------------------------------------------------------------------- destructors

struct Blocks;

impl Drop for Blocks {
    fn drop(&mut self) {
        park();
    }
}

fn payload_blocks() {
    // Enough for the panic itself.
    let builder = HandleExit::builder().callback_timeout(SOON_OVER);
    let guard = builder.install(|| std::panic::panic_any(Blocks)).unwrap();
    match told::<String>().as_str() {
        "signal" => raise(Signal::TERM),
        "finish" => drop(guard.finish()),
        "panic" => {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _guard = guard;
                panic!("the scope panics");
            }));
        }
        other => panic!("{other}"),
    }
    park();
}

/// It is user code as well.
fn a_payload_whose_destructor_blocks_is_ended_by_the_timeout() {
    in_each(&["signal", "finish", "panic"], |way| {
        Victim::start(payload_blocks.told(way)).end().exited(101);
    });
}

/// Whether USR2 is blocked where it is dropped.
struct SaysMask(&'static str);

impl Drop for SaysMask {
    fn drop(&mut self) {
        let mask = nix::sys::signal::SigSet::thread_get_mask().unwrap();
        let blocks = mask.contains(nix::sys::signal::Signal::SIGUSR2);
        say(format!("{} {}", self.0, if blocks { "blocks" } else { "does not block" }));
    }
}

/// The guard is dropped in its own callback, and goes with the watcher's last look at it.
fn captures_go_on_the_watcher() {
    static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);
    let host = HandleExit::builder().grace(Duration::MAX).install(|| ()).unwrap();
    let (of_observer, of_callback) = (SaysMask("observer"), SaysMask("callback"));
    let builder = HandleExit::builder().append(true).observe(move |_| _ = &of_observer);
    let guest = builder.install(move || {
        let _of_callback = of_callback;
        drop(GUARD.lock().unwrap().take());
    });
    let exit = guest.as_ref().unwrap().handle();
    *GUARD.lock().unwrap() = Some(guest.unwrap());
    exit.request();
    drop(exit);
    hear();
    drop(host);
}

fn what_a_guard_captured_is_dropped_with_the_mask_of_its_maker() {
    let mut victim = Victim::start(captures_go_on_the_watcher);
    victim.expect("callback does not block");
    victim.expect("observer does not block");
    victim.tell("end");
    victim.end().exited(0);
}

// ------------------------------------------------------------------- children that user code forks

/// A guest of a child that a callback has forked decides there, as everywhere else.
fn guest_in_the_child_of_a_callback() {
    let forks = || {
        // SAFETY: no other thread holds a lock that the child needs.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no handler of ALRM is installed: it ends a child that hangs.
            unsafe { libc::alarm(DEADLINE.as_secs() as u32) };
            let guest = HandleExit::append(|| say("child's callback")).unwrap();
            raise(Signal::TERM);
            guest.wait();
            drop(guest);
            say("the child goes on");
            // SAFETY: the child ends here.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: the status is valid for a write.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        say(format!("the child died of {}", status & 0x7f));
    };
    drop(HandleExit::new(forks).unwrap());
}

fn a_guest_in_the_child_of_a_callback_decides() {
    let lines = ["child's callback", "the child died of 15"];
    ends_well(guest_in_the_child_of_a_callback, &lines);
}

// ------------------------------------------------------------------- two exits

fn callback_exits_by_the_crate_while_main_exits() {
    let callback = || {
        say("callback");
        until("main exits", || MAIN_EXITS.load(SeqCst));
        // Until main is inside.
        thread::sleep(Duration::from_millis(300));
        match told::<String>().as_str() {
            "exit" => handle_exit::exit(6),
            _ => handle_exit::exit_with_signal(Signal::USR1, || {}),
        }
    };
    static MAIN_EXITS: AtomicBool = AtomicBool::new(false);
    let older = HandleExit::append(|| say("older")).unwrap();
    older.defer(|| say("older deferred")).unwrap();
    older.keep();
    let guard = HandleExit::new(callback).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    raise(Signal::TERM);
    guard.wait();
    guard.keep();
    MAIN_EXITS.store(true, SeqCst);
    std::process::exit(4);
}

fn exit_in_a_callback_has_its_code_while_main_exits() {
    let said = ["callback", "deferred", "older", "older deferred"];
    let exits = Scenario::of(callback_exits_by_the_crate_while_main_exits);
    Victim::start(exits.told("exit")).end().said(&said).exited(6);
    let end = Victim::start(exits.told("exit_with_signal")).end();
    end.said(&said).died_by(Signal::USR1);
}

pub(crate) const TESTS: &[Named] = tests![
    guests_that_come_and_go_do_not_hold_up_the_end,
    guests_that_join_do_not_go_before_those_that_the_end_waits_for,
    a_rearmed_guard_does_not_wait_for_a_deferred_function_that_the_parent_runs,
    two_threads_that_rearm_a_guard_at_once_are_both_woken,
    a_held_signal_is_heard_by_a_guard_that_enters_inside_a_living_one,
    an_exit_inside_an_exit_has_its_code_where_a_filter_forbids_to_read_the_stack,
    a_callback_and_an_exit_that_wait_for_each_other_end_in_a_sandbox_too,
    a_guard_that_its_own_observer_drops_ends_and_runs_once,
    a_guard_that_its_own_waker_drops_ends_and_runs_once,
    a_guard_that_its_own_waker_drops_ends_the_process_if_it_is_to,
    a_repeat_that_forces_runs_the_deferred_functions_beside_an_observer,
    a_repeat_that_forces_is_told_to_the_observer,
    a_deferred_function_that_blocks_leaves_the_other_guards_theirs,
    a_callback_whose_observer_blocks_runs_on_another_thread,
    a_panic_of_a_guard_that_a_deferred_function_makes_ends_with_101,
    a_signal_that_comes_while_the_old_handler_runs_is_another_one,
    the_first_of_two_panics_ends_the_process,
    a_payload_whose_destructor_blocks_is_ended_by_the_timeout,
    what_a_guard_captured_is_dropped_with_the_mask_of_its_maker,
    a_guest_in_the_child_of_a_callback_decides,
    exit_in_a_callback_has_its_code_while_main_exits,
    a_process_that_may_not_ask_for_its_id_ends_alone,
];
