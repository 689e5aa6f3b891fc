//! The thread that ends a process whose callback overruns its `callback_timeout`.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::phase::{Thread, Waited};
use crate::policy::Status;
use crate::scope::Scope;
use crate::signal::Signal;
use crate::sys::{forward, handler};

/// At most 15 bytes, which is what Linux keeps.
const NAME: &str = "exit-timer";

/// Starts it with the guard, not with the callback: by then a thread might no longer be had.
pub(crate) fn spawn(scope: Arc<Scope>, timeout: Duration) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(NAME.into()).spawn(move || watch(&scope, timeout))
}

fn watch(scope: &Scope, timeout: Duration) {
    let me = Thread::current();
    if !scope.machine.wait_running() {
        return;
    }
    let Some(deadline) = Instant::now().checked_add(timeout) else { return };
    if scope.machine.wait_finished(me, Some(deadline)) != Waited::TimedOut {
        return;
    }
    // A thread that called `abort` waits as long as the callback may run: that is what it dies of.
    let status = match handler::a_thread_aborts() {
        true => Status::Signal(Signal::ABRT),
        false => Status::Failed,
    };
    let Some(exiting) = scope.machine.force_overrun(me, status) else { return };
    scope.observer.tell(|| Event::CallbackTimedOut { timeout });
    scope.deferred.drain(me);
    if exiting && status == Status::Failed {
        scope.observer.tell(|| Event::ending(status));
        // Without a flush: what hangs may hang in a stream, with its lock.
        forward::exit_now(status.code());
    }
    scope.end_process(status)
}
