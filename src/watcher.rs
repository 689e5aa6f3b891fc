//! The watcher thread: wake, claim, callback, old handlers, grace, end.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::phase::{After, Close, Closer, Thread, Watch};
use crate::policy::{OldHandler, Policy, Status};
use crate::scope::{Scope, park_for_ever};
use crate::signal::Signal;
use crate::sys::guarded::Guarded;
use crate::sys::handler::{self, Busy};
use crate::sys::siginfo::Arrival;
use crate::sys::{mask, wake};

/// Starts the watcher of `scope`. It waits until everything is installed.
pub(crate) fn spawn(scope: Arc<Scope>, guarded: Vec<Guarded>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("handle-exit".into()).spawn(move || {
        let me = Thread::current();
        scope.watcher_thread.set(me);
        handler::busy(Busy::Watching);
        Watcher { scope: &scope, guarded: &guarded, me }.run();
    })
}

/// How long code of a user's, which may call `process::exit`, waits for a handler that is just being
/// left: the standard library unmaps the stack that it runs on (see `leave_alternate_stack`).
const LET_HANDLERS_LEAVE: Duration = Duration::from_millis(1);

struct Watcher<'a> {
    scope: &'a Scope,
    guarded: &'a [Guarded],
    me: Thread,
}

/// What the signals that came mean for the wait that follows.
#[derive(Default)]
struct Verdict {
    /// The scope has until then, or for ever.
    deadline: Option<Instant>,
    /// A repeat ends the wait.
    forced: bool,
    /// A thread waits in `abort`.
    aborting: bool,
}

impl Watcher<'_> {
    /// Takes no lock before something happens: in a child that is forked right after the guard was
    /// made, it would never be given back, and the guard could not be rearmed there.
    fn run(&self) {
        while !self.scope.is_installed() {
            if self.scope.is_abandoned() {
                return;
            }
            wake::wait(None);
        }
        let mut is_set_up = false;
        loop {
            if !self.scope.machine.has_begun() && !handler::any(self.signals()) {
                match is_set_up {
                    true => wake::wait(None),
                    // Then look again: that took a moment.
                    false => self.set_up(&mut is_set_up),
                }
                continue;
            }
            match self.scope.machine.watch(self.me, |into| self.take(into)) {
                Watch::Idle => {}
                Watch::Elsewhere => return self.leave(),
                Watch::Run(cause) => {
                    self.set_up(&mut is_set_up);
                    self.scope.callback_is_mine();
                    self.tell_of_arrived();
                    handler::quiesce_at_most(LET_HANDLERS_LEAVE);
                    let payload = self.scope.run_callback(&cause);
                    let returned = Instant::now();
                    let failed = payload.is_some();
                    // The destructor of a panic's payload is a user's code as well.
                    crate::deferred::contain(|| drop(payload));
                    return self.see_to_the_end(failed, returned);
                }
            }
        }
    }

    /// What the first wait, or the callback, needs. Not before the handlers are in place: a signal
    /// that is pending because everybody blocks it would meet the old disposition.
    fn set_up(&self, is_set_up: &mut bool) {
        if !std::mem::replace(is_set_up, true) {
            mask::unblock(self.signals());
            handler::warm_up();
        }
    }

    fn take(&self, into: &mut Vec<Arrival>) {
        handler::take(self.signals(), into);
    }

    fn signals(&self) -> impl Iterator<Item = Signal> {
        self.guarded.iter().map(|one| one.signal)
    }

    /// Tells of the signals before the callback, if anybody listens.
    fn tell_of_arrived(&self) {
        let observer = &self.scope.observer;
        if !observer.listens() {
            return;
        }
        let mut received = Vec::new();
        self.scope.machine.with_arrived(|arrived| {
            for arrival in arrived {
                arrival.told = true;
                received.push(arrival.received());
            }
        });
        for received in received {
            observer.tell(|| Event::SignalReceived(received));
        }
    }

    /// After the callback: old handlers, then the wait for the scope.
    fn see_to_the_end(&self, failed: bool, returned: Instant) {
        let mut verdict = Verdict::default();
        let mut grace_begins = returned;
        loop {
            let mut arrived = Vec::new();
            let after = self.scope.machine.after(&mut arrived, |into| self.take(into));
            if after == After::Closing(Closer::ProcessExit) {
                // An old handler that calls `exit` does not find the hook again that is running.
                self.scope.deferred.drain(self.me);
            }
            for arrival in arrived {
                self.deal_with(arrival, grace_begins, &mut verdict);
            }
            let status = match after {
                After::Over => return,
                After::Closing(_) if failed => Some(Status::Failed),
                After::Closing(Closer::Inside) => return self.close_from_inside(),
                After::Closing(_) => return self.leave(),
                After::Open if failed => Some(Status::Failed),
                After::Open => self.due(&verdict),
            };
            if let Some(status) = status {
                if verdict.aborting && !failed {
                    self.let_abort();
                } else {
                    self.scope.force(self.me, status);
                }
                if after != After::Open {
                    return;
                }
                // The scope has begun to end after all: look again.
                continue;
            }
            wake::wait(verdict.deadline);
            grace_begins = Instant::now();
        }
    }

    /// How the process ends now, if it does.
    fn due(&self, verdict: &Verdict) -> Option<Status> {
        if verdict.aborting {
            return Some(Status::Signal(Signal::ABRT));
        }
        let signal = self.scope.active().ended_by?;
        let over = verdict.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if over && !verdict.forced && !self.scope.policy.grace.is_zero() {
            let grace = self.scope.policy.grace;
            self.scope.observer.tell(|| Event::GraceOver { grace });
        }
        (over || verdict.forced).then(|| self.scope.policy.status(signal))
    }

    /// A signal that is the exit's, after the callback.
    fn deal_with(&self, arrival: Arrival, grace_begins: Instant, verdict: &mut Verdict) {
        let observer = &self.scope.observer;
        let signal = arrival.signal;
        if !arrival.told {
            observer.tell(|| Event::SignalReceived(arrival.received()));
        }
        verdict.aborting |= signal == Signal::ABRT && handler::a_thread_aborts();
        let repeated = {
            let mut active = self.scope.active();
            let repeated = active.seen.contains(&signal);
            if !repeated {
                active.seen.push(signal);
            }
            repeated
        };
        let Some(guarded) = self.guarded.iter().find(|one| one.signal == signal) else { return };
        if guarded.has_old_handler() {
            if !repeated {
                handler::quiesce_at_most(LET_HANDLERS_LEAVE);
                guarded.run_old_handler(Some(&arrival.info));
                observer.tell(|| Event::OldHandlerRun(signal));
            } else {
                observer.tell(|| Event::RepeatAbsorbed(signal));
            }
            return;
        }
        if self.scope.is_first_to_end(signal) {
            verdict.deadline = self.scope.policy.deadline(grace_begins);
        }
        // The first of a signal is no repeat of itself, but a repeat may be merged into it.
        if Policy::repeat_forces(arrival.after_first) {
            verdict.forced = true;
            observer.tell(|| Event::RepeatForces(signal));
        } else if repeated {
            observer.tell(|| Event::RepeatAbsorbed(signal));
        }
    }

    /// Lets the thread that called `abort` die, after the deferred functions.
    fn let_abort(&self) {
        let status = Status::Signal(Signal::ABRT);
        if self.scope.machine.force(self.me, status) {
            self.scope.deferred.drain(self.me);
            self.scope.observer.tell(|| Event::ending(status));
            handler::release_abort();
            park_for_ever();
        }
    }

    /// The guard was dropped on this thread, inside the callback or an observer: do what a drop does.
    fn close_from_inside(&self) {
        self.leave();
        self.scope.complete(self.me, &Close::Wait);
        self.scope.end_after_scope(false);
    }

    /// The scope ends without the watcher. All that may be left are the old handlers that are to be
    /// run even without a signal.
    fn leave(&self) {
        if self.scope.policy.old_handler == OldHandler::OnSignal
            || !self.scope.machine.wait_closed_by_guard(self.me)
        {
            return;
        }
        let seen = self.scope.active().seen.clone();
        let old = || self.guarded.iter().filter(|one| one.has_old_handler());
        for (index, one) in old().enumerate() {
            let has_run = |other: &Guarded| seen.contains(&other.signal);
            let same_before = old().take(index).any(|other| one.same_old_handler(other));
            if !same_before && !old().any(|other| has_run(other) && one.same_old_handler(other)) {
                one.run_old_handler(None);
                self.scope.observer.tell(|| Event::OldHandlerRun(one.signal));
            }
        }
    }
}
