//! How code with guards is tested: in an ordinary test binary, whose tests run side by side on threads of one
//! process. Code under test makes its guard with `append`; a test asks for the exit with `request`, through a
//! handle, and nothing is seen of it in the other tests.

#![allow(missing_docs, reason = "a test binary")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use handle_exit::{Cause, Error, Exit, HandleExit};

/// As often as it takes for the tests to meet, on few processors too.
const ROUNDS: usize = 100;

/// No healthy step takes this long.
const DEADLINE: Duration = Duration::from_secs(60);

/// The code under test: a server that answers until its exit begins, and then cleans up.
struct Server {
    requests: Sender<u32>,
    handle: Exit,
    thread: thread::JoinHandle<Option<Report>>,
}

#[derive(Debug, PartialEq)]
struct Report {
    answered: Vec<u32>,
    cause: Cause,
    callbacks: usize,
    deferred: usize,
}

impl Server {
    fn start() -> Result<Server, Error> {
        let (requests, received) = channel();
        let (made, is_made) = channel();
        let thread = thread::spawn(move || serve(&received, &made));
        let handle = is_made.recv().expect("the server says how it started")?;
        Ok(Server { requests, handle, thread })
    }

    fn stop(self) -> Report {
        self.handle.request();
        self.thread.join().unwrap().expect("it has started")
    }
}

fn serve(requests: &Receiver<u32>, made: &Sender<Result<Exit, Error>>) -> Option<Report> {
    let [callbacks, deferred] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let counter = |of: &Arc<AtomicUsize>| {
        let of = Arc::clone(of);
        move || {
            of.fetch_add(1, SeqCst);
        }
    };
    let guard = match HandleExit::append(counter(&callbacks)) {
        Ok(guard) => guard,
        Err(error) => {
            made.send(Err(error)).unwrap();
            return None;
        }
    };
    guard.defer(counter(&deferred)).unwrap();
    made.send(Ok(guard.handle())).unwrap();
    let mut answered = Vec::new();
    while !guard.is_exiting() {
        if let Ok(request) = requests.recv_timeout(Duration::from_millis(1)) {
            answered.push(request);
        }
    }
    // What came before the end is answered.
    answered.extend(requests.try_iter());
    let outcome = guard.finish();
    Some(Report {
        answered,
        cause: outcome.cause().clone(),
        callbacks: callbacks.load(SeqCst),
        deferred: deferred.load(SeqCst),
    })
}

fn answered(requests: impl IntoIterator<Item = u32>) -> Report {
    let answered = requests.into_iter().collect();
    Report { answered, cause: Cause::Requested, callbacks: 1, deferred: 1 }
}

#[test]
fn a_server_answers_what_it_was_asked_and_stops() {
    for _ in 0..ROUNDS {
        let server = Server::start().unwrap();
        (0..5).for_each(|request| server.requests.send(request).unwrap());
        assert_eq!(server.stop(), answered(0..5));
    }
}

#[test]
fn a_server_that_nobody_asks_stops() {
    for _ in 0..ROUNDS {
        assert_eq!(Server::start().unwrap().stop(), answered([]));
    }
}

#[test]
fn two_servers_stop_one_by_one() {
    for _ in 0..ROUNDS {
        let (one, other) = (Server::start().unwrap(), Server::start().unwrap());
        one.requests.send(1).unwrap();
        other.requests.send(2).unwrap();
        assert_eq!(one.stop(), answered([1]));
        assert!(!other.handle.is_exiting());
        other.requests.send(3).unwrap();
        assert_eq!(other.stop(), answered([2, 3]));
    }
}

#[test]
fn nothing_is_seen_of_the_exits_of_others() {
    for _ in 0..ROUNDS {
        let guard = HandleExit::append(|| {}).unwrap();
        Server::start().unwrap().stop();
        assert!(!guard.is_exiting());
        assert_eq!(guard.cause(), None);
        assert_eq!(guard.wait_timeout(Duration::from_millis(1)), None);
        assert_eq!(guard.finish().cause(), &Cause::ScopeEnd);
    }
}

#[test]
fn waiters_are_released_by_the_guard_they_wait_for() {
    for _ in 0..ROUNDS {
        let guard = HandleExit::append(|| {}).unwrap();
        let waiters = [guard.handle(), guard.handle()];
        let waiters = waiters.map(|exit| thread::spawn(move || exit.wait()));
        let begun = guard.begun();
        guard.request();
        futures_lite::future::block_on(begun);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Cause::Requested);
        }
    }
}

#[test]
fn a_guard_is_disarmed_while_others_end() {
    for _ in 0..ROUNDS {
        let server = Server::start().unwrap();
        let guard = HandleExit::append(|| unreachable!("disarmed")).unwrap();
        let staged = guard.defer(|| unreachable!("cancelled")).unwrap();
        assert!(staged.cancel());
        server.stop();
        assert!(guard.disarm());
    }
}

#[test]
fn a_panic_in_one_test_is_no_business_of_the_others() {
    for _ in 0..ROUNDS {
        let (ended, cause) = channel();
        let fails = move || {
            let callback = move |cause: &Cause| ended.send(cause.clone()).unwrap();
            let builder = HandleExit::builder().append(true);
            let _guard = builder.install_with(callback).unwrap();
            // As `panic!`, without a word on standard error.
            std::panic::resume_unwind(Box::new("on purpose"));
        };
        assert!(thread::spawn(fails).join().is_err());
        assert_eq!(cause.recv_timeout(DEADLINE).unwrap(), Cause::Panic);
        assert_eq!(Server::start().unwrap().stop(), answered([]));
    }
}

#[test]
fn scopes_that_borrow_run_side_by_side() {
    for round in 0..ROUNDS {
        let mut told = Vec::new();
        let ran = HandleExit::builder().append(true).run_with(
            |cause| told.push(cause.clone()),
            |exit| {
                if round % 2 == 0 {
                    exit.request();
                    exit.wait();
                }
                round
            },
        );
        let (result, outcome) = ran.unwrap();
        assert_eq!(result, round);
        let expected = if round % 2 == 0 { Cause::Requested } else { Cause::ScopeEnd };
        assert_eq!(outcome.cause(), &expected);
        assert_eq!(told, [expected]);
    }
}
