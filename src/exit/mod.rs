//! The process's one exit: what its guards bring along, and the steps that more than one thread
//! takes on the way out.

mod end;
mod run;

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::deferred::{Functions, contain};
use crate::event::{Event, Observer};
use crate::machine::{self, By, Close, Ended, Left, Machine, Run, Waited, Which};
use crate::settings::Settings;
use crate::signal::{Received, Signal};
use crate::sys::guarded::{self, Guarded};
use crate::sys::lock::{Lock, Locked};
use crate::sys::per_process::PerProcess;
use crate::sys::process::{self, AtomicProcess, Process};
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread::{self, HeldSignals, JoinHandle, Runner};
use crate::sys::{forward, mailbox, wake};
use crate::waiters::Waiters;

pub(crate) type Callback = Box<dyn FnOnce(&Cause) + Send>;
pub(crate) type OnSignal = Box<dyn Fn(&Received) + Send + Sync>;
pub(crate) type Payload = Box<dyn Any + Send>;

/// One scope's part in the exit.
pub(crate) type Guard = machine::Guard<Work>;

/// What a guard brings along.
pub(crate) struct Work {
    callback: Lock<Option<Callback>>,
    pub(crate) on: Vec<(Signal, OnSignal)>,
    pub(crate) deferred: Functions,
    pub(crate) waiters: Waiters,
    pub(crate) observer: Observer,
    pub(crate) on_request: OnRequest,
    /// The process whose guard it is: of a forked child only after `rearm`.
    pub(crate) process: AtomicProcess,
}

/// What a program has the code of only if it asks for it.
#[derive(Default, Clone, Copy)]
pub(crate) struct OnRequest {
    /// For a `callback_timeout`.
    pub(crate) start_timer:
        Option<fn(&'static ProcessExit, &HeldSignals) -> io::Result<JoinHandle>>,
    /// For `OldHandler::Always`.
    pub(crate) run_old_handlers: Option<fn(&ProcessExit, &Guard)>,
}

impl Work {
    pub(crate) fn new(
        callback: Callback,
        on: Vec<(Signal, OnSignal)>,
        observer: Observer,
        on_request: OnRequest,
    ) -> Work {
        Work {
            callback: Lock::new(Some(callback)),
            on,
            deferred: Functions::default(),
            waiters: Waiters::default(),
            observer,
            on_request,
            process: AtomicProcess::new(),
        }
    }

    /// Takes the callback out, with what it captured.
    pub(crate) fn take_callback(&self) -> Option<Callback> {
        self.callback.lock().take()
    }

    /// Whether anybody may want to be told that the exit has begun.
    pub(crate) fn is_watched(&self) -> bool {
        self.observer.listens() || self.waiters.may_be_any()
    }

    /// Whether no thread is at work on it. In a forked child none could ever be done with that.
    #[cfg(unix)]
    pub(crate) fn is_free(&self) -> bool {
        self.callback.is_free() && self.deferred.is_free() && self.waiters.is_free()
    }
}

/// The exit of each process that has, or had, a guard.
static EXITS: PerProcess<ProcessExit> = PerProcess::new(ProcessExit::new);

pub(crate) struct ProcessExit {
    process: Process,
    pub(crate) machine: Machine<Work>,
    /// Held while signals are installed or restored, and never while code of a user runs.
    setup: Lock<Setup>,
}

/// The threads of the exit.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) watcher: Option<JoinHandle>,
    /// Only where a guard has a `callback_timeout`.
    pub(crate) timer: Option<JoinHandle>,
}

/// Unlocks first, and then lets signals come again.
pub(crate) struct LockedSetup<'a> {
    pub(crate) threads: Locked<'a, Setup>,
    pub(crate) held: HeldSignals,
}

/// How a scope was closed.
#[derive(Default)]
pub(crate) struct Closed {
    /// What the callback panicked with, if this thread ran it.
    pub(crate) payload: Option<Payload>,
    /// Whether the callback will never run.
    pub(crate) disarmed: bool,
    /// How it went, if this call closed the scope, and not an earlier one, nor one that has still to come.
    pub(crate) ended: Option<Ended>,
}

/// The exit of `process`, which is this one.
pub(crate) fn of(process: Process) -> &'static ProcessExit {
    EXITS.get_in(process)
}

/// The exit that this guard is part of, unless this is a forked child.
pub(crate) fn of_guard(guard: &Guard) -> Option<&'static ProcessExit> {
    let this = process::this();
    guard.work.process.is(this).then(|| of(this))
}

impl ProcessExit {
    fn new(process: Process) -> ProcessExit {
        ProcessExit { process, machine: Machine::default(), setup: Lock::default() }
    }

    /// With every signal held off this thread: a foreign handler that exited there would need this very lock.
    #[inline(never)]
    pub(crate) fn setup(&self) -> LockedSetup<'_> {
        let held = thread::hold_signals();
        LockedSetup { threads: self.setup.lock(), held }
    }

    /// As `setup`, unless a thread has it now.
    pub(crate) fn try_setup(&self) -> Option<Locked<'_, Setup>> {
        self.setup.try_lock()
    }

    /// Whether this is still the process whose exit this is: not after a user's function has forked, in
    /// the child.
    pub(crate) fn is_here(&self) -> bool {
        !process::has_forked_from(self.process)
    }

    /// Ends the scope of a guard, with `cause` if nothing has begun its exit before. Returns once the
    /// callback and what was deferred have run, and everything is as it was before the guard; or earlier,
    /// on a thread that all this is waiting for.
    pub(crate) fn close(&'static self, guard: &Arc<Guard>, by: By, cause: Cause) -> Closed {
        let me = Runner::current();
        let mut closed = Closed::default();
        match self.machine.close(guard, me, by, cause, mailbox::take) {
            Close::Inside => {
                // The watcher, which is to complete this, may be about to sleep.
                wake::post();
                return closed;
            }
            Close::Gone => return closed,
            Close::Late => {
                closed.payload = self.wait_done(guard, me, by, None);
                return closed;
            }
            Close::Wait => closed.payload = self.wait_done(guard, me, by, None),
            Close::Disarmed => closed.disarmed = true,
            Close::Run(run) => closed.payload = self.run_callback(run, me),
        }
        self.complete(guard, me, by, &mut closed);
        closed
    }

    /// The steps after the callback, for the thread that closes the scope: old handlers that are
    /// to be run without a signal, deferred functions, the end of the process if that is what follows,
    /// else dispositions, threads, waiters, and at last the signals that came meanwhile.
    pub(crate) fn complete(
        &'static self,
        guard: &Arc<Guard>,
        me: Runner,
        by: By,
        closed: &mut Closed,
    ) {
        if !self.is_here() {
            return;
        }
        let _exit_thread = thread::mark_exit_thread();
        if closed.disarmed {
            guard.work.deferred.clear();
        } else {
            if let Some(run_old_handlers) = guard.work.on_request.run_old_handlers {
                run_old_handlers(self, guard);
            }
            if self.is_here() {
                self.run_deferred(guard, me);
            }
        }
        if !self.is_here() {
            return;
        }
        let ended = self.machine.ended(guard);
        let by_signal = ended.decides.and_then(|signal| guard.settings.status_after_scope(signal));
        // What panicked on this thread goes on unwinding here, and `finish` reports it. After a panic on
        // the watcher nothing may go on.
        let failed = ended.panicked && by != By::Finish;
        let status = if failed { Some(Status::Failed) } else { by_signal };
        if let Some(status) = status.filter(|_| closed.payload.is_none()) {
            let cause = guard.cause().cloned().unwrap_or(Cause::ScopeEnd);
            self.end_process(me, status, &cause);
            return;
        }
        let left = match self.machine.leave(guard) {
            Some(left) => left,
            None => self.leave_last(guard),
        };
        // Others may have the signal, and a further one is no repeat for them.
        ended.decides.into_iter().for_each(mailbox::set_answered);
        guard.work.waiters.release();
        closed.ended = Some(left.ended);
    }

    /// As [`Machine::leave`], for a guard that has something to restore.
    fn leave_last(&self, guard: &Guard) -> Left {
        let mut setup = self.setup();
        let left = self.machine.leave_last(guard);
        self.stop_listening();
        let late = guarded::restore_all(&left.restore);
        let threads = left.last.map(|_| std::mem::take(&mut *setup.threads));
        drop(setup);
        if let (Some(threads), Some(generation)) = (threads, left.last) {
            self.join(threads, generation);
        }
        for arrival in late {
            // A repeat of what the guard has had is the same event.
            if arrival.is_first || arrival.repeats {
                forward::hand_over(&arrival);
            } else {
                tell(guard, &Event::RepeatAbsorbed(arrival.signal));
            }
        }
        left
    }

    /// Call before signals are restored that the machine has no more. The watcher takes the signals of the
    /// guards also for a program that blocks them everywhere; what they do when they are restored is not
    /// for it to take.
    #[inline(never)]
    fn stop_listening(&self) {
        wake::post();
        self.machine.wait_unheard();
    }

    /// Waits for watcher and timer, which are to leave, except on themselves.
    pub(crate) fn join(&self, threads: Setup, generation: usize) {
        wake::post();
        let me = Runner::current();
        let Setup { watcher, timer } = threads;
        // A watcher that is inside `exit(3)`, as this thread is, will never be back.
        if self.machine.wait_left(generation, me, is_stuck) {
            let others = |thread: &JoinHandle| !thread::is_this(thread);
            // They contain every panic of a user's, so there is none to look at.
            for thread in watcher.into_iter().chain(timer).filter(others) {
                let _ = thread.join();
            }
        }
        mailbox::release_abort();
    }

    /// Goes through these guards, from the newest to the oldest, as long as `goes_on` says so. Whether it
    /// came to the end.
    pub(crate) fn each(&self, which: Which, goes_on: &mut dyn FnMut(&Arc<Guard>) -> bool) -> bool {
        let mut key = usize::MAX;
        while let Some(guard) = self.machine.older_than(key, which) {
            key = guard.key();
            if !goes_on(&guard) {
                return false;
            }
        }
        true
    }

    /// Tells the observers of these guards; `tracing` once. In a child that a user's function has forked
    /// before, nobody: the machine's lock may never be free there.
    pub(crate) fn tell(&self, which: Which, event: &Event) {
        if !self.is_here() {
            return;
        }
        let mut is_first = true;
        self.each(which, &mut |guard| {
            guard.work.observer.tell(event, std::mem::take(&mut is_first));
            // An observer may fork.
            !guard.work.observer.listens() || self.is_here()
        });
    }
}

/// Tells the observer of this guard.
#[inline(never)]
pub(crate) fn tell(guard: &Guard, event: &Event) {
    guard.work.observer.tell(event, true);
}

/// Whether that thread will never leave `exit(3)`, and this one is not to wait for the end of the process: it is
/// inside of it too, or that end waits for it.
pub(crate) fn is_stuck(runner: Runner, is_waited_for: bool) -> bool {
    // This one first: its answer is mostly no, and at hand.
    (is_waited_for || thread::is_inside_exit()) && runner.is_inside_exit()
}

/// A guard of this process.
pub(crate) fn new_guard(settings: Settings, work: Work, process: Process) -> Arc<Guard> {
    work.process.set(process);
    Arc::new(Guard::new(settings, work))
}
