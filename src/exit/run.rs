//! What runs of a user's on the way out: callbacks, old handlers, deferred functions.

use super::*;

impl ProcessExit {
    /// Runs the callback, which this thread has claimed, and says so to everybody. Returns what it
    /// panicked with.
    pub(crate) fn run_callback(&'static self, run: Run<Work>, me: Runner) -> Option<Payload> {
        let Run { guard, cause, cuts } = run;
        let work = &guard.work;
        work.waiters.release();
        tell(&guard, &Event::CallbackStarted(cause.clone()));
        let callback = work.take_callback();
        let began = work.observer.listens().then(Instant::now);
        let exit_thread = thread::mark_exit_thread();
        for (signal, status) in &cuts {
            mailbox::set_cut(*signal, Some(*status));
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            if let Some(callback) = callback {
                callback(&cause);
            }
        }));
        for (signal, _) in &cuts {
            mailbox::set_cut(*signal, None);
        }
        drop(exit_thread);
        if !self.is_here() {
            return None;
        }
        let panicked = result.is_err();
        let elapsed = began.map(|began| began.elapsed()).unwrap_or_default();
        let event = match panicked {
            true => Event::CallbackPanicked { elapsed },
            false => Event::CallbackFinished { elapsed },
        };
        tell(&guard, &event);
        self.machine.finish(&guard, me, panicked);
        result.err()
    }

    /// Waits until the callback and the old handlers of a guard's signals have run. Runs the callback itself
    /// where the watcher was to and cannot.
    pub(super) fn wait_done(
        &'static self,
        guard: &Guard,
        me: Runner,
        by: By,
        patience: Option<Duration>,
    ) -> Option<Payload> {
        wake::post();
        match self.machine.wait_done(guard, me, by, patience, is_stuck) {
            Waited::Done | Waited::Stuck => None,
            Waited::Run(run) => self.run_callback(run, me),
        }
    }

    /// The deferred functions of a guard.
    pub(super) fn run_deferred(&'static self, guard: &Guard, me: Runner) {
        let look = |runner| {
            self.machine.set_waits_for(me, runner);
            runner.is_some_and(|runner| is_stuck(runner, false))
        };
        guard.work.deferred.run_all(me, &look, &|| self.is_here());
    }

    /// Old handlers that are to be run even without a signal.
    pub(crate) fn run_old_handlers(&self, guard: &Guard) {
        let mut to_run = Vec::new();
        let setup = self.setup();
        let given_back = self.machine.give_back_last(guard);
        self.stop_listening();
        for (one, is_to_run) in given_back {
            let restored = one.give_back();
            if is_to_run {
                to_run.push((one, restored));
            }
        }
        drop(setup);
        for (one, restored) in to_run {
            one.run_old_handler(restored, None);
            if !self.is_here() {
                return;
            }
            tell(guard, &Event::OldHandlerRun(one.signal()));
        }
    }

    /// Gives the signal back to its old handler, and runs that.
    ///
    /// Where that may be the system's own, which ends the process and runs nothing, all that is to
    /// run before the end runs now.
    pub(crate) fn run_old_handler(&'static self, one: &Guarded, arrival: &Arrival) {
        if one.old_handler_may_end_process() {
            let cause = Cause::Signal(arrival.received());
            let me = Runner::current();
            if self.end_guards(me, &cause, None) {
                self.end_process(me, Status::Failed, &cause);
            }
        }
        let restored = {
            let _setup = self.setup();
            let restored = one.give_back();
            self.machine.give_back(one.signal());
            restored
        };
        one.run_old_handler(restored, Some(&arrival.info));
        self.tell(Which::With(one.signal()), &Event::OldHandlerRun(one.signal()));
    }
}
