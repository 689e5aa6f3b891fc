//! The threads of the exit: the watcher, which runs what signals ask for, and the timer, which ends a
//! process whose callback overruns its `callback_timeout`.

use std::io;

use crate::cause::Cause;
use crate::deferred::contain;
use crate::event::Event;
use crate::exit::{self, Closed, ProcessExit, Work};
use crate::machine::{By, Next, Which};
use crate::signal::{Received, Signal, SignalSet};
use crate::sys::guarded::Guarded;
use crate::sys::process;
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread::{self, HeldSignals, JoinHandle, Runner, UserMask};
use crate::sys::{mailbox, wake};

/// Starts the watcher. It hears no signal before the first guard has entered the machine.
pub(crate) fn spawn(exit: &'static ProcessExit, held: &HeldSignals) -> io::Result<JoinHandle> {
    let generation = exit.machine.generation();
    thread::spawn("handle-exit", held, move |mask| {
        let _exit_thread = thread::mark_exit_thread();
        Watcher { exit, generation, mask, me: Runner::current() }.watch();
    })
}

/// Starts the timer: with the guard, not with the callback. By then a thread might no longer be had.
pub(crate) fn spawn_timer(
    exit: &'static ProcessExit,
    held: &HeldSignals,
) -> io::Result<JoinHandle> {
    let generation = exit.machine.generation();
    // At most 15 bytes, which is what Linux keeps.
    thread::spawn("exit-timer", held, move |mask| {
        let _exit_thread = thread::mark_exit_thread();
        time(exit, generation, &mask);
    })
}

struct Watcher {
    exit: &'static ProcessExit,
    generation: usize,
    mask: UserMask,
    me: Runner,
}

impl Watcher {
    fn watch(&self) {
        // Everything else is blocked, and outside of user code so is all that is a foreign handler's again.
        loop {
            let next = self.exit.machine.next(self.me, self.generation, mailbox::take);
            match next {
                Next::Wait { signals, deadline } => {
                    // Not before the handlers are in place: a signal that is pending because everybody
                    // blocks it would meet the old disposition. And no longer than the machine says:
                    // when it is asked next, those who restore a disposition wait no more.
                    thread::set_listening(signals);
                    wake::wait(deadline);
                    thread::set_listening(SignalSet::default());
                    continue;
                }
                Next::Leave => {
                    // The wake-up may have been for the watcher after this one.
                    wake::post();
                    return;
                }
                Next::Tell(received) if !self.is_watched(received.signal()) => continue,
                next => {
                    thread::set_mask(&self.mask);
                    self.work(next);
                    thread::set_listening(SignalSet::default());
                }
            }
            if !self.exit.is_here() {
                // A child that a user's function has forked on this thread: there is nothing of the
                // parent's to return to.
                process::end_now(Status::Code(0));
            }
        }
    }

    fn work(&self, next: Next<Work>) {
        match next {
            Next::Tell(received) => self.tell(received),
            Next::Callback(run) => {
                let payload = self.exit.run_callback(run, self.me);
                // The destructor of a panic's payload is a user's code as well.
                contain(|| drop(payload));
            }
            Next::On { arrival, old_handler } => self.on(&arrival, old_handler),
            Next::OldHandler { arrival, guarded } => {
                self.exit.run_old_handler(&guarded, &arrival);
                if self.exit.is_here() {
                    self.exit.machine.old_handler_has_run(&arrival);
                }
            }
            Next::Repeat { signal, forces } => {
                let event = match forces {
                    true => Event::RepeatForces(signal),
                    false => Event::RepeatAbsorbed(signal),
                };
                self.exit.tell(Which::With(signal), &event);
            }
            Next::Complete(guard) => {
                self.exit.complete(&guard, self.me, By::Drop, &mut Closed::default());
            }
            Next::End { status, cause, grace_over } => {
                if let Some((signal, grace)) = grace_over {
                    self.exit.tell(Which::With(signal), &Event::GraceOver { grace });
                }
                self.exit.end_process(self.me, status, &cause);
            }
            Next::Wait { .. } | Next::Leave => {}
        }
    }

    /// Whether anybody may want to be told of this signal.
    fn is_watched(&self, signal: Signal) -> bool {
        !self.exit.each(Which::With(signal), &mut |guard| !guard.work.is_watched())
    }

    fn tell(&self, received: Received) {
        let which = Which::With(received.signal());
        self.exit.each(which, &mut |guard| {
            if guard.cause().is_some() {
                guard.work.waiters.release();
            }
            self.exit.is_here()
        });
        if self.exit.is_here() {
            self.exit.tell(which, &Event::SignalReceived(received));
        }
    }

    /// A signal that is no exit.
    fn on(&self, arrival: &Arrival, old_handler: Option<Guarded>) {
        let received = arrival.received();
        let signal = arrival.signal;
        self.exit.each(Which::Hearing(signal), &mut |guard| {
            for (_, function) in guard.work.on.iter().filter(|(one, _)| *one == signal) {
                // An exit that has begun stops it: one of these functions may have asked for it.
                if guard.cause().is_none() {
                    contain(|| function(&received));
                }
            }
            self.exit.is_here()
        });
        if let Some(guarded) = old_handler.filter(|_| self.exit.is_here()) {
            guarded.call_old_handler(&arrival.info);
            self.exit.tell(Which::With(signal), &Event::OldHandlerRun(signal));
        }
    }
}

fn time(exit: &'static ProcessExit, generation: usize, mask: &UserMask) {
    let me = Runner::current();
    let Some(overrun) = exit.machine.wait_overrun(me, generation) else { return };
    // What this thread goes on to run may hang as well.
    let _ = spawn_timer(exit, &thread::hold_signals());
    thread::set_mask(mask);
    // A thread that called `abort` waits as long as the callback may run: that is what it dies of.
    let abort = mailbox::ABORT.filter(|_| mailbox::a_thread_aborts());
    let status = abort.map_or(Status::Failed, Status::Signal);
    let timeout = overrun.timeout;
    exit::tell(&overrun.guard, &Event::CallbackTimedOut { timeout });
    exit.end_guards(me, &Cause::ProcessExit, None);
    if exit.is_here() {
        exit.tell(Which::All, &Event::ending(status));
    }
    // Without a flush: what hangs may hang in a stream, with its lock.
    process::end_now(status);
}
