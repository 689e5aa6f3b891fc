//! `std::process::exit`, and return from `main`, with the guard still alive.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::event::Event;
use crate::phase::{Close, Closer, Thread, Waited};
use crate::policy::Status;
use crate::scope::{Scope, living_at_exit};
use crate::sys::guarded;
use crate::sys::handler::{self, Busy};
use crate::sys::{exit_hook, forward, wake};

/// How long an exiting process waits for the old handlers that the watcher is running. Long enough
/// for any that returns; one that calls `exit` itself may never do so in an exiting process.
const OLD_HANDLERS: Duration = Duration::from_secs(1);

/// How long it waits for a lock that an `exit` in a signal handler may hold up for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it looks whether the code it waits for is stuck.
const LOOK: Duration = Duration::from_millis(50);

/// The exit hook: runs on the thread that exits, inside `exit(3)`.
pub(crate) fn at_process_exit() {
    let Some(scope) = living_at_exit(PATIENCE).as_deref().and_then(Option::clone) else { return };
    scope.leave_alternate_stack();
    let me = Thread::current();
    let failed = match run_or_wait(&scope, me) {
        Callback::Returned => false,
        Callback::Panicked => true,
        // The deferred functions still run: this thread is on its way out, whoever closes the scope.
        Callback::Elsewhere => {
            scope.deferred.drain_at_exit(me, LOOK);
            return;
        }
    };
    scope.deferred.drain_at_exit(me, LOOK);
    if failed {
        scope.observer.tell(|| Event::ending(Status::Failed));
        forward::exit_inside_exit(Status::Failed.code());
    }
    let guarded = scope.active().guarded.clone();
    let late = guarded::restore_all_at_exit(&guarded, PATIENCE);
    if let Some(mut living) = living_at_exit(PATIENCE) {
        *living = None;
    }
    scope.machine.end();
    scope.waiters.release();
    handler::release_abort();
    // A signal that would have ended the process has what it wants, and the rest of the exit
    // functions still run. One with a handler goes there.
    for arrival in late {
        if guarded.iter().any(|one| one.signal == arrival.signal && one.has_old_handler()) {
            forward::hand_over(arrival.signal, &arrival.info);
        }
    }
}

enum Callback {
    Returned,
    Panicked,
    /// This thread is inside the callback, or another one closes the scope.
    Elsewhere,
}

fn run_or_wait(scope: &Scope, me: Thread) -> Callback {
    let cause = Cause::ProcessExit;
    let take = |into: &mut Vec<_>| scope.take_arrived(into);
    let claimed = scope.machine.close(me, Closer::ProcessExit, cause.clone(), take);
    match claimed {
        Close::Run => {
            handler::busy(Busy::Closing);
            scope.callback_is_mine();
            match scope.run_callback(&cause) {
                None => Callback::Returned,
                Some(payload) => {
                    std::mem::forget(payload);
                    Callback::Panicked
                }
            }
        }
        Close::Wait => {
            handler::busy(Busy::Closing);
            wake::post();
            match wait(scope, me) {
                Callback::Returned => {
                    // First: a handler that calls `exit` itself does not find this hook again.
                    scope.deferred.drain_at_exit(me, LOOK);
                    wait_for_old_handlers(scope, me);
                    Callback::Returned
                }
                other => other,
            }
        }
        Close::Late => match wait(scope, me) {
            Callback::Panicked => Callback::Panicked,
            Callback::Returned | Callback::Elsewhere => Callback::Elsewhere,
        },
        Close::Doomed(status) => doomed(scope, me, status),
        Close::Inside | Close::Ending | Close::Disarmed => Callback::Elsewhere,
    }
}

/// Waits for a callback that another thread runs.
fn wait(scope: &Scope, me: Thread) -> Callback {
    loop {
        match scope.machine.wait_finished(me, Some(Instant::now() + LOOK)) {
            Waited::Finished { panicked: false } => return Callback::Returned,
            Waited::Finished { panicked: true } => return Callback::Panicked,
            Waited::Inside => return Callback::Elsewhere,
            Waited::Doomed(status) => return doomed(scope, me, status),
            // The callback called `process::exit` too: it was parked for ever, because this thread
            // was first. It has come as far as it will.
            Waited::TimedOut => {
                if exit_hook::is_parked_in_pause(scope.callback_thread.load(SeqCst)) {
                    return Callback::Elsewhere;
                }
            }
        }
    }
}

fn wait_for_old_handlers(scope: &Scope, me: Thread) {
    let begun = Instant::now();
    let running = || {
        let active = scope.active();
        // On the watcher itself this is an old handler that called `exit`.
        !scope.watcher_thread.is(me)
            && active.guarded.iter().any(|one| one.has_old_handler())
            && active.watcher.as_ref().is_some_and(|watcher| !watcher.is_finished())
    };
    while running() && begun.elapsed() < OLD_HANDLERS {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Another thread is ending the process, but this one holds the exit.
fn doomed(scope: &Scope, me: Thread, status: Status) -> Callback {
    scope.deferred.drain_at_exit(me, LOOK);
    match status {
        // That needs nobody's leave, and that thread may itself be parked in `process::exit`.
        Status::Signal(_) => status.end(),
        // That thread was parked by the standard library: end the process in its place.
        Status::Failed => forward::exit_now(status.code()),
        // Two exit codes, and ours was there first.
        Status::Code(_) => Callback::Elsewhere,
    }
}
