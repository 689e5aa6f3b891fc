//! Waiting for the exit in every style, beginning it from code, and `run`, the borrowing form.

use std::cell::Cell;
use std::future::Future;
#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::support::*;
use futures_lite::future;
use handle_exit::{Cause, Error, Event, Exit, ExitBegun, HandleExit, Signal};

fn guard() -> HandleExit {
    HandleExit::builder().grace(Duration::MAX).install(|| {}).unwrap()
}

fn assert_is_signal(cause: &Cause, signal: Signal) {
    assert!(matches!(cause, Cause::Signal(received) if received.signal() == signal), "{cause}");
}

// ------------------------------------------------------------------------------------- executors

/// Wakes the thread that made it, and counts.
struct Unparks(Thread, AtomicUsize);

impl Unparks {
    fn new() -> Arc<Unparks> {
        Arc::new(Unparks(thread::current(), AtomicUsize::new(0)))
    }
}

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, SeqCst);
        self.0.unpark();
    }
}

/// The smallest executor there is.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Unparks::new());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn poll(begun: &mut ExitBegun, waker: &Arc<Unparks>) -> Poll<()> {
    Pin::new(begun).poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))))
}

// -------------------------------------------------------------------------------------- blocking

fn wait_returns_what_began_the_exit() {
    for signal in [Signal::TERM, Signal::INT] {
        let guard = guard();
        let handle = guard.handle();
        assert!(!handle.is_exiting());
        assert_eq!(handle.cause(), None);
        let waiter = thread::spawn(move || handle.wait());
        raise(signal);
        let cause = waiter.join().unwrap();
        assert_is_signal(&cause, signal);
        assert!(guard.is_exiting());
        assert_eq!(guard.cause(), Some(cause));
    }
}

fn wait_does_not_wait_for_the_callback() {
    let (release, held) = channel::<()>();
    let guard =
        HandleExit::builder().grace(Duration::MAX).install(move || held.recv().unwrap()).unwrap();
    raise(Signal::TERM);
    assert_is_signal(&guard.wait(), Signal::TERM);
    assert_is_signal(&guard.wait_timeout(Duration::MAX).unwrap(), Signal::TERM);
    block_on(guard.begun());
    release.send(()).unwrap();
}

fn wait_timeout_gives_up_and_can_be_called_again() {
    let guard = guard();
    assert_eq!(guard.wait_timeout(Duration::ZERO), None);
    assert_eq!(guard.wait_timeout(Duration::from_millis(20)), None);
    let handle = guard.handle();
    let waiter = thread::spawn(move || handle.wait_timeout(DEADLINE));
    guard.request();
    assert_eq!(waiter.join().unwrap(), Some(Cause::Requested));
    assert_eq!(guard.wait_timeout(Duration::ZERO), Some(Cause::Requested));
}

/// Every way to wait, each in a thread of its own, and what each was told.
fn everybody_waits(handle: &Exit, end: impl FnOnce()) -> Vec<Cause> {
    type Style = fn(&Exit) -> Cause;
    let styles: &[Style] = &[
        |handle| handle.wait(),
        |handle| handle.wait_timeout(DEADLINE).unwrap(),
        |handle| handle.wait_timeout(Duration::MAX).unwrap(),
        |handle| {
            block_on(handle.begun());
            handle.cause().unwrap()
        },
        |handle| {
            future::block_on(handle.begun());
            handle.cause().unwrap()
        },
        #[cfg(unix)]
        |handle| {
            let readable = handle.readable_fd().unwrap();
            assert!(is_readable(&readable, DEADLINE));
            handle.cause().unwrap()
        },
    ];
    let (about_to_wait, waiting) = channel();
    let waiters: Vec<_> = (0..18)
        .map(|number| {
            let (handle, about_to_wait) = (handle.clone(), about_to_wait.clone());
            thread::spawn(move || {
                about_to_wait.send(()).unwrap();
                styles[number % styles.len()](&handle)
            })
        })
        .collect();
    waiters.iter().for_each(|_| waiting.recv().unwrap());
    end();
    waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect()
}

fn every_waiter_is_released_by_a_signal() {
    let guard = guard();
    for cause in everybody_waits(&guard, || raise(Signal::TERM)) {
        assert_is_signal(&cause, Signal::TERM);
    }
}

fn every_waiter_is_released_by_every_other_end() {
    type End = fn(HandleExit);
    let ends: [(End, Cause); 5] = [
        (|guard| guard.request(), Cause::Requested),
        (drop, Cause::ScopeEnd),
        (|guard| assert_eq!(*guard.finish().cause(), Cause::ScopeEnd), Cause::ScopeEnd),
        (|guard| assert!(guard.disarm()), Cause::ScopeEnd),
        (
            |guard| {
                let panics = std::panic::AssertUnwindSafe(move || {
                    let _guard = guard;
                    panic!("on purpose");
                });
                assert!(std::panic::catch_unwind(panics).is_err());
            },
            Cause::Panic,
        ),
    ];
    for (end, expected) in ends {
        let guard = guard();
        let causes = everybody_waits(&guard.handle(), || end(guard));
        assert!(causes.iter().all(|cause| *cause == expected), "{expected}: {causes:?}");
    }
}

fn waiters_are_released_when_the_process_exits() {
    let guard = guard();
    let handle = guard.handle();
    let waiter = thread::spawn(move || handle.wait());
    let handle = guard.handle();
    // Runs after the callback, while the process exits.
    guard.defer(move || assert_eq!(handle.cause(), Some(Cause::ProcessExit))).unwrap();
    guard.defer(move || say(waiter.join().unwrap())).unwrap();
    guard.keep();
    exit(0);
}

fn process_exit_releases_waiters() {
    let end = Victim::start(waiters_are_released_when_the_process_exits).end();
    end.said(&[&Cause::ProcessExit.to_string()]).exited(0);
    assert!(end.stderr.is_empty(), "{end:#?}");
}

// --------------------------------------------------------------------------------------- futures

fn a_future_is_woken_once_and_ready_as_often_as_it_is_polled() {
    let guard = guard();
    let mut begun = guard.begun();
    let waker = Unparks::new();
    assert!(poll(&mut begun, &waker).is_pending());
    assert!(poll(&mut begun, &waker).is_pending());
    assert_eq!(waker.1.load(SeqCst), 0);
    guard.request();
    until("the future is woken", || waker.1.load(SeqCst) == 1);
    for _ in 0..3 {
        assert_eq!(poll(&mut begun, &waker), Poll::Ready(()));
    }
    drop(guard);
    assert_eq!(poll(&mut begun, &waker), Poll::Ready(()));
    assert_eq!(waker.1.load(SeqCst), 1);
}

fn a_future_wakes_the_waker_of_its_last_poll() {
    let guard = guard();
    let mut begun = guard.begun();
    let (first, last) = (Unparks::new(), Unparks::new());
    assert!(poll(&mut begun, &first).is_pending());
    assert!(poll(&mut begun, &last).is_pending());
    drop(guard);
    assert_eq!((first.1.load(SeqCst), last.1.load(SeqCst)), (0, 1));
}

fn a_future_that_is_dropped_is_not_woken_and_its_waker_is_freed() {
    let guard = guard();
    let (dropped, kept) = (Unparks::new(), Unparks::new());
    let mut begun = [guard.begun(), guard.begun(), guard.begun()];
    assert!(poll(&mut begun[0], &dropped).is_pending());
    assert!(poll(&mut begun[1], &kept).is_pending());
    assert!(poll(&mut begun[2], &dropped).is_pending());
    assert_eq!((Arc::strong_count(&dropped), Arc::strong_count(&kept)), (3, 2));
    let [first, second, third] = begun;
    drop((first, third));
    assert_eq!(Arc::strong_count(&dropped), 1);
    drop(guard);
    assert_eq!((dropped.1.load(SeqCst), kept.1.load(SeqCst)), (0, 1));
    // Nothing holds on to a waker once it was woken.
    assert_eq!(Arc::strong_count(&kept), 1);
    drop(second);
}

fn a_future_moves_between_threads_and_outlives_the_guard() {
    fn is_send<T: Send + 'static>(_: &T) {}
    let guard = guard();
    let early = guard.begun();
    let late = guard.begun();
    is_send(&early);
    let waiter = thread::spawn(move || future::block_on(early));
    guard.request();
    drop(guard);
    waiter.join().unwrap();
    block_on(late);
}

/// What `select!` does: the first of several futures wins, the others are dropped.
fn a_race_is_won_by_whichever_is_ready_first() {
    let guard = guard();
    let work = |result: &'static str| future::ready(result);
    let stopped = async {
        guard.begun().await;
        "stopped"
    };
    assert_eq!(future::block_on(future::or(stopped, work("worked"))), "worked");

    // A loop that makes a new future each time round, as `select!` in a loop does.
    let (rounds, requested) = (Cell::new(0), guard.handle());
    future::block_on(async {
        loop {
            let next = async {
                future::yield_now().await;
                rounds.set(rounds.get() + 1);
                if rounds.get() == 1000 {
                    requested.request();
                }
                false
            };
            let stopped = async {
                guard.begun().await;
                true
            };
            if future::or(stopped, next).await {
                break;
            }
        }
    });
    assert_eq!(guard.cause(), Some(Cause::Requested));
    assert_eq!(rounds.get(), 1000);
}

fn a_race_is_won_by_a_signal_against_work_that_never_ends() {
    let guard = guard();
    let handle = guard.handle();
    let waiter = thread::spawn(move || {
        let begun = async {
            handle.begun().await;
            "begun"
        };
        future::block_on(future::race(future::pending(), begun))
    });
    raise(Signal::INT);
    assert_eq!(waiter.join().unwrap(), "begun");
    assert_is_signal(&guard.cause().unwrap(), Signal::INT);
}

fn a_waker_that_panics_stops_nobody() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }
    let guard = guard();
    let (mut first, mut second) = (guard.begun(), guard.begun());
    let waker = Waker::from(Arc::new(Panics));
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
    let waker = Unparks::new();
    assert!(poll(&mut second, &waker).is_pending());
    guard.request();
    until("the other future is woken", || waker.1.load(SeqCst) == 1);
}

// ----------------------------------------------------------------------------------- descriptors

#[cfg(unix)]
fn is_readable(descriptor: &OwnedFd, within: Duration) -> bool {
    let poll_fd = nix::poll::PollFd::new(descriptor.as_fd(), nix::poll::PollFlags::POLLIN);
    let timeout = nix::poll::PollTimeout::try_from(within).unwrap();
    match nix::poll::poll(&mut [poll_fd], timeout) {
        Err(nix::errno::Errno::EINTR) => is_readable(descriptor, within),
        polled => polled.unwrap() == 1,
    }
}

#[cfg(unix)]
fn descriptors_become_readable_when_the_exit_begins_and_stay_so() {
    let before = descriptors();
    let guard = guard();
    assert_eq!(descriptors(), before, "made on demand");
    let early: Vec<_> = (0..3).map(|_| guard.readable_fd().unwrap()).collect();
    assert!(early.iter().all(|descriptor| !is_readable(descriptor, Duration::ZERO)));
    guard.request();
    assert!(early.iter().all(|descriptor| is_readable(descriptor, DEADLINE)));
    // Readiness does not go away, whoever reads.
    for _ in 0..3 {
        let _ = nix::unistd::read(&early[0], &mut [0; 8]);
        assert!(is_readable(&early[0], Duration::ZERO));
    }
    let late = guard.readable_fd().unwrap();
    assert!(is_readable(&late, Duration::ZERO));
    let handle = guard.handle();
    drop(guard);
    let later = handle.readable_fd().unwrap();
    assert!(is_readable(&later, Duration::ZERO));
    drop((early, late, later));
    assert_eq!(descriptors(), before, "nothing is left");
}

#[cfg(unix)]
fn a_descriptor_is_not_inherited_and_does_not_block() {
    let guard = guard();
    let descriptor = guard.readable_fd().unwrap();
    let flags = |what| nix::fcntl::fcntl(&descriptor, what).unwrap();
    assert_ne!(flags(nix::fcntl::FcntlArg::F_GETFD) & nix::libc::FD_CLOEXEC, 0);
    assert_ne!(flags(nix::fcntl::FcntlArg::F_GETFL) & nix::libc::O_NONBLOCK, 0);
    assert!(nix::unistd::read(&descriptor, &mut [0; 8]).is_err());
}

#[cfg(unix)]
fn a_descriptor_that_was_closed_does_not_disturb_the_exit() {
    let before = descriptors();
    let guard = guard();
    for _ in 0..3 {
        drop(guard.readable_fd().unwrap());
    }
    let kept = guard.readable_fd().unwrap();
    assert!(!is_readable(&kept, Duration::ZERO));
    raise(Signal::TERM);
    assert!(is_readable(&kept, DEADLINE));
    drop((guard, kept));
    assert_eq!(descriptors(), before);
}

#[cfg(unix)]
fn descriptors_that_were_closed_are_not_kept() {
    let guard = guard();
    let before = descriptors();
    for _ in 0..100 {
        drop(guard.readable_fd().unwrap());
    }
    // The last one's other end may be noticed later.
    assert!(descriptors() <= before + 1, "{} of {before}", descriptors());
}

// --------------------------------------------------------------------------------------- request

fn a_request_runs_the_callback_on_the_watcher() {
    let (tell, told) = channel();
    let guard = HandleExit::builder()
        .install_with(move |cause| {
            tell.send((cause.clone(), thread::current().name().map(str::to_owned))).unwrap();
        })
        .unwrap();
    // Any thread may ask, and any number of them.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| guard.request());
        }
    });
    let expected = (Cause::Requested, Some("handle-exit".to_owned()));
    assert_eq!(told.recv().unwrap(), expected);
    drop(guard);
    // The only one, and the end of the channel: the callback is gone.
    assert!(told.recv().is_err());
}

fn a_request_and_a_drop_at_once_run_the_callback_on_the_watcher() {
    for _ in 0..200 {
        let (tell, told) = channel();
        let guard = HandleExit::builder()
            .install_with(move |cause| {
                let on = thread::current().name().map(str::to_owned);
                tell.send((cause.clone(), on)).unwrap();
            })
            .unwrap();
        guard.request();
        let drops = Instant::now();
        drop(guard);
        // It has run by now: here, if the watcher has not come to it for a second.
        let on = if drops.elapsed() < Duration::from_secs(1) { "handle-exit" } else { "main" };
        let (cause, thread) = told.try_recv().unwrap();
        assert_eq!(cause, Cause::Requested);
        assert!(thread.as_deref() == Some("handle-exit") || thread.as_deref() == Some(on));
    }
}

fn a_request_against_a_drop_runs_the_callback_once() {
    for _ in 0..200 {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let guard = HandleExit::new(move || {
            counted.fetch_add(1, SeqCst);
        })
        .unwrap();
        let handle = guard.handle();
        let requester = thread::spawn(move || handle.request());
        drop(guard);
        assert_eq!(calls.load(SeqCst), 1);
        requester.join().unwrap();
        assert_eq!(calls.load(SeqCst), 1);
    }
}

fn a_request_after_the_callback_begins_nothing_again() {
    let (tell, told) = channel();
    let builder = HandleExit::builder().observe(move |event| {
        if matches!(event, Event::CallbackStarted(_) | Event::CallbackFinished { .. }) {
            tell.send(event.to_string()).unwrap();
        }
    });
    let guard = builder.install(|| {}).unwrap();
    guard.request();
    let (_begins, _ends) = (told.recv().unwrap(), told.recv().unwrap());
    guard.request();
    drop(guard);
    assert_eq!(told.recv().ok(), None);
}

fn a_second_cause_does_not_replace_the_first() {
    let guard = guard();
    guard.request();
    raise(Signal::TERM);
    guard.request();
    assert_eq!(guard.wait(), Cause::Requested);
    let outcome = guard.finish();
    assert_eq!(*outcome.cause(), Cause::Requested);
}

// --------------------------------------------------------------------------------------- handles

fn current_is_the_living_guard_everywhere() {
    assert!(Exit::current().is_none());
    let guard = HandleExit::builder()
        .install(|| {
            let current = Exit::current().unwrap();
            assert_eq!(current.cause(), Some(Cause::Requested));
            current.defer(|| assert!(Exit::current().is_some())).unwrap();
        })
        .unwrap();
    thread::spawn(|| Exit::current().unwrap().request()).join().unwrap();
    assert!(!guard.finish().callback_panicked());
    assert!(Exit::current().is_none());
    let next = HandleExit::new(|| {}).unwrap();
    assert!(!Exit::current().unwrap().is_exiting());
    assert!(next.disarm());
    assert!(Exit::current().is_none());
}

fn a_handle_outlives_its_guard_and_tells_of_its_end() {
    let first = guard();
    let handle = first.handle();
    drop(first);
    // Another guard is none of its business.
    let second = guard();
    assert!(handle.is_exiting());
    assert_eq!(handle.cause(), Some(Cause::ScopeEnd));
    assert_eq!(handle.wait(), Cause::ScopeEnd);
    assert_eq!(handle.wait_timeout(Duration::ZERO), Some(Cause::ScopeEnd));
    block_on(handle.begun());
    assert!(matches!(handle.defer(|| {}), Err(Error::Ended)));
    handle.request();
    assert!(!second.is_exiting());
}

/// For a log: short, and without what belongs to the user.
fn debug_says_which_signals_and_what_began_the_exit() {
    let guard = HandleExit::new(|| {}).unwrap();
    let (handle, deferred) = (guard.handle(), guard.defer(|| {}).unwrap());
    let signals = format!("{:?}", [Signal::TERM, Signal::INT]);
    assert_eq!(format!("{guard:?}"), format!("HandleExit {{ signals: {signals}, .. }}"));
    assert_eq!(format!("{handle:?}"), "Exit { cause: None, .. }");
    assert_eq!(format!("{:?}", guard.begun()), "ExitBegun { .. }");
    assert!(format!("{deferred:?}").starts_with("Deferred { key: "));
    drop(guard);
    assert_eq!(format!("{handle:?}"), "Exit { cause: Some(ScopeEnd), .. }");
}

fn a_handle_does_not_keep_what_the_callback_captured() {
    let captured = Arc::new(());
    let kept = Arc::clone(&captured);
    let guard = HandleExit::new(move || drop(kept)).unwrap();
    let handle = guard.handle();
    drop(guard);
    assert_eq!(Arc::strong_count(&captured), 1);

    let kept = Arc::clone(&captured);
    let guard = HandleExit::new(move || drop(kept)).unwrap();
    let other = guard.handle();
    assert!(guard.disarm());
    assert_eq!(Arc::strong_count(&captured), 1);
    drop((handle, other));
}

// ------------------------------------------------------------------------------------------- run

fn run_lends_the_callback_and_the_body_what_the_caller_has() {
    let calls = AtomicUsize::new(0);
    let mut numbers = vec![1, 2];
    let answer = HandleExit::run(
        || {
            calls.fetch_add(1, SeqCst);
        },
        |exit| {
            assert_eq!(calls.load(SeqCst), 0);
            assert!(!exit.is_exiting());
            numbers.push(3);
            numbers.len()
        },
    );
    assert_eq!(answer.unwrap(), 3);
    assert_eq!(calls.into_inner(), 1);
    assert!(Exit::current().is_none());
}

fn run_that_is_refused_runs_neither_and_frees_both() {
    let _guard = guard();
    let (callback, body) = (Arc::new(()), Arc::new(()));
    let (in_callback, in_body) = (Arc::clone(&callback), Arc::clone(&body));
    let refused = HandleExit::run(
        move || unreachable!("{in_callback:?}"),
        move |_| unreachable!("{in_body:?}"),
    );
    assert!(matches!(refused, Err(Error::Nested)));
    assert_eq!((Arc::strong_count(&callback), Arc::strong_count(&body)), (1, 1));
}

fn run_runs_the_callback_when_the_body_panics_and_goes_on_unwinding() {
    let calls = AtomicUsize::new(0);
    let panics = std::panic::AssertUnwindSafe(|| {
        HandleExit::run(
            || {
                calls.fetch_add(1, SeqCst);
            },
            |_| panic!("of the body"),
        )
    });
    let payload = std::panic::catch_unwind(panics).unwrap_err();
    assert_eq!(*payload.downcast_ref::<&str>().unwrap(), "of the body");
    assert_eq!(calls.into_inner(), 1);
    assert!(Exit::current().is_none());
}

fn run_passes_a_panic_of_the_callback_on() {
    let panics = || HandleExit::run(|| panic!("of the callback"), |_| {});
    let payload = std::panic::catch_unwind(panics).unwrap_err();
    assert_eq!(*payload.downcast_ref::<&str>().unwrap(), "of the callback");
    assert!(Exit::current().is_none());
    // Both panic: the body's goes on.
    let panics = || HandleExit::run(|| panic!("of the callback"), |_| panic!("of the body"));
    let payload = std::panic::catch_unwind(panics).unwrap_err();
    assert_eq!(*payload.downcast_ref::<&str>().unwrap(), "of the body");
}

fn run_waits_for_a_callback_that_a_signal_began() {
    let (begun, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let builder = HandleExit::builder().grace(Duration::MAX);
    let cause = builder
        .run(
            || {
                begun.store(true, SeqCst);
                // Long enough for a body that does not wait to be far away. Only a wrong program
                // is late for it.
                thread::sleep(Duration::from_millis(50));
                ended.store(true, SeqCst);
            },
            |exit| {
                raise(Signal::TERM);
                until("the callback runs", || begun.load(SeqCst));
                exit.wait()
            },
        )
        .unwrap();
    assert_is_signal(&cause, Signal::TERM);
    assert!(ended.into_inner());
}

fn run_ends_with_its_body_whoever_keeps_a_handle() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let (go, gone) = channel::<()>();
    let (handle, outlives) = HandleExit::run(
        || {
            counted.fetch_add(1, SeqCst);
        },
        |exit| {
            let handle = exit.clone();
            // A thread that is still there when the body, and all it borrowed, is not.
            let outlives = thread::spawn(move || {
                gone.recv().unwrap();
                handle.request();
                assert!(matches!(handle.defer(|| {}), Err(Error::Ended)));
                handle.cause()
            });
            (exit.clone(), outlives)
        },
    )
    .unwrap();
    assert_eq!(calls.load(SeqCst), 1);
    go.send(()).unwrap();
    assert_eq!(outlives.join().unwrap(), Some(Cause::ScopeEnd));
    handle.request();
    assert_eq!(calls.load(SeqCst), 1);
}

fn run_drops_what_was_captured_exactly_once() {
    struct Counts<'a>(&'a AtomicUsize);
    impl Drop for Counts<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let bodies: [fn(&Exit); 3] = [
        |_| {},
        |exit| {
            exit.request();
            exit.wait();
        },
        |_| panic!("on purpose"),
    ];
    for body in bodies {
        let drops = AtomicUsize::new(0);
        let (in_callback, in_body) = (Counts(&drops), Counts(&drops));
        let run = std::panic::AssertUnwindSafe(|| {
            HandleExit::run(
                move || {
                    let _captured = &in_callback;
                },
                move |exit| {
                    let _captured = in_body;
                    body(exit);
                },
            )
        });
        let _ = std::panic::catch_unwind(run);
        assert_eq!(drops.into_inner(), 2);
    }
}

fn run_can_be_left_by_process_exit() {
    let line = String::from("callback of a borrower");
    let _ = HandleExit::run(|| say(&line), |_| exit(3));
}

fn run_parked() {
    let line = String::from("callback of a borrower");
    let parked =
        HandleExit::builder().grace(Duration::ZERO).run(|| say(&line), |_| ready_for_ever());
    parked.unwrap();
}

fn run_covers_process_exit_and_a_forced_end() {
    let end = Victim::start(run_can_be_left_by_process_exit).end();
    end.said(&["callback of a borrower"]).exited(3);
    let victim = Victim::ready(run_parked);
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback of a borrower"]).died_by(Signal::TERM);
}

pub(crate) const TESTS: &[Named] = tests![
    process_exit_releases_waiters,
    run_covers_process_exit_and_a_forced_end,
    ;
    alone:
    wait_returns_what_began_the_exit,
    wait_does_not_wait_for_the_callback,
    wait_timeout_gives_up_and_can_be_called_again,
    every_waiter_is_released_by_a_signal,
    every_waiter_is_released_by_every_other_end,
    a_future_is_woken_once_and_ready_as_often_as_it_is_polled,
    a_future_wakes_the_waker_of_its_last_poll,
    a_future_that_is_dropped_is_not_woken_and_its_waker_is_freed,
    a_future_moves_between_threads_and_outlives_the_guard,
    a_race_is_won_by_whichever_is_ready_first,
    a_race_is_won_by_a_signal_against_work_that_never_ends,
    a_waker_that_panics_stops_nobody,
    #[cfg(unix)]
    descriptors_become_readable_when_the_exit_begins_and_stay_so,
    #[cfg(unix)]
    a_descriptor_is_not_inherited_and_does_not_block,
    #[cfg(unix)]
    a_descriptor_that_was_closed_does_not_disturb_the_exit,
    #[cfg(unix)]
    descriptors_that_were_closed_are_not_kept,
    a_request_runs_the_callback_on_the_watcher,
    a_request_and_a_drop_at_once_run_the_callback_on_the_watcher,
    a_request_against_a_drop_runs_the_callback_once,
    a_request_after_the_callback_begins_nothing_again,
    a_second_cause_does_not_replace_the_first,
    current_is_the_living_guard_everywhere,
    a_handle_outlives_its_guard_and_tells_of_its_end,
    debug_says_which_signals_and_what_began_the_exit,
    a_handle_does_not_keep_what_the_callback_captured,
    run_lends_the_callback_and_the_body_what_the_caller_has,
    run_that_is_refused_runs_neither_and_frees_both,
    run_runs_the_callback_when_the_body_panics_and_goes_on_unwinding,
    run_passes_a_panic_of_the_callback_on,
    run_waits_for_a_callback_that_a_signal_began,
    run_ends_with_its_body_whoever_keeps_a_handle,
    run_drops_what_was_captured_exactly_once,
];
