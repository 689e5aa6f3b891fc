//! How the process ends: by a signal, by force, or with a failure.

use super::*;

impl ProcessExit {
    /// Runs the callbacks and deferred functions of all living guards that have not run, the newest guard
    /// first. Waits for those that run elsewhere, for old handlers with `patience`. Whether a callback
    /// panicked.
    pub(crate) fn end_guards(
        &'static self,
        me: Runner,
        cause: &Cause,
        patience: Option<Duration>,
    ) -> bool {
        // A guard that a callback makes and keeps has its turn in a further pass; but other threads may go
        // on making some, and this is to end.
        const PASSES: usize = 3;
        let mut failed = false;
        let mut done = 0;
        for _ in 0..PASSES {
            let mut newest = done;
            self.each(Which::All, &mut |guard| {
                let is_new = guard.key() > done;
                if is_new {
                    newest = newest.max(guard.key());
                    failed |= self.end_guard(guard, me, cause, patience);
                }
                is_new && self.is_here()
            });
            if newest == done || !self.is_here() {
                break;
            }
            done = newest;
        }
        failed && self.is_here()
    }

    fn end_guard(
        &'static self,
        guard: &Guard,
        me: Runner,
        cause: &Cause,
        patience: Option<Duration>,
    ) -> bool {
        let payload = match self.machine.close(guard, me, By::End, cause.clone(), mailbox::take) {
            Close::Run(run) => self.run_callback(run, me),
            Close::Wait => self.wait_done(guard, me, By::End, patience),
            Close::Inside | Close::Late | Close::Gone => None,
            Close::Disarmed => return false,
        };
        let failed = payload.is_some() || self.machine.ended(guard).panicked;
        contain(|| drop(payload));
        if self.is_here() {
            self.run_deferred(guard, me);
        }
        failed
    }

    /// Ends the process, after the callbacks and deferred functions of all guards. Returns only in a
    /// child that one of those has forked, and inside `exit(3)`, which another thread has begun too.
    pub(crate) fn end_process(&'static self, me: Runner, status: Status, cause: &Cause) {
        self.machine.decide(me, status);
        let status = if self.end_guards(me, cause, None) { Status::Failed } else { status };
        if !self.is_here() {
            return;
        }
        match self.machine.decide(me, status) {
            Some(status) => {
                self.tell(Which::All, &Event::ending(status));
                process::end(status);
            }
            // Whoever is inside `exit(3)` goes on with that.
            None if thread::is_inside_exit() => {}
            None => loop {
                std::thread::park();
            },
        }
    }
}
