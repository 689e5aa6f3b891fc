//! A callback that borrows from the caller of `run`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lock::{Condition, Lock};
use super::process::{self, Process};
use super::thread::{self, Runner};

/// How often the end of a loan looks whether the callback can still return.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

type Callback<'env, A> = Box<dyn FnOnce(&A) + Send + 'env>;

/// A borrowing callback, lent to a guard that wants one that borrows nothing.
///
/// What makes this sound is in this file alone: the callback runs only while the `Loan` lives, for
/// its end takes the callback back, or waits until it has run.
struct Loan<A: ?Sized + 'static> {
    slot: Arc<Slot<A>>,
    process: Process,
}

struct Slot<A: ?Sized + 'static> {
    state: Lock<State<A>>,
    changed: Condition,
}

enum State<A: ?Sized + 'static> {
    /// Really `Callback<'env>`, with the lifetime taken away.
    Lent(Callback<'static, A>),
    /// In this process; a forked child's copy may name the parent.
    Running(Process, Runner),
    Done,
}

/// Lends `callback` to what `body` makes of it, and takes it back when `body` has returned or
/// unwound.
pub(crate) fn lend<'env, A: ?Sized + 'static, R>(
    callback: Callback<'env, A>,
    body: impl FnOnce(Callback<'static, A>) -> R,
) -> R {
    // SAFETY: only the lifetime changes. The callback is called or dropped by `Slot` alone: called
    // in `call` below, under a state that `Loan::drop` waits out, unless the call is in `exit(3)` for good, or
    // dropped by `Loan::drop`. The
    // loan is a local of this function, so that happens before `'env` can end, however `body` ends:
    // nobody else can forget it. A forked child has a copy of the slot that nothing is called from,
    // because the thread that could is not there.
    let callback =
        unsafe { std::mem::transmute::<Callback<'env, A>, Callback<'static, A>>(callback) };
    let slot =
        Arc::new(Slot { state: Lock::new(State::Lent(callback)), changed: Condition::default() });
    let _loan = Loan { slot: Arc::clone(&slot), process: process::this() };
    body(Box::new(move |argument| call(&slot, argument)))
}

fn call<A: ?Sized>(slot: &Slot<A>, argument: &A) {
    let mut state = slot.state.lock();
    let State::Lent(callback) = std::mem::replace(&mut *state, State::Done) else { return };
    *state = State::Running(process::this(), Runner::current());
    drop(state);
    // Also when the callback unwinds.
    let _done = scopeguard::guard((), |()| {
        let mut state = slot.state.lock();
        *state = State::Done;
        slot.changed.notify_all();
    });
    callback(argument);
}

impl<A: ?Sized> Drop for Loan<A> {
    fn drop(&mut self) {
        let this = process::this();
        if self.process != this && !self.slot.state.is_free() {
            // A forked child, whose parent held the lock at that moment: it is never released here.
            std::mem::forget(Arc::clone(&self.slot));
            return;
        }
        let mut state = self.slot.state.lock();
        while let State::Running(process, runner) = *state {
            // A thread that is inside `exit(3)` never comes back to what the callback borrows, and this one is not to
            // wait for it there.
            let never_returns = || thread::is_inside_exit() && runner.is_inside_exit();
            if process != this || never_returns() {
                break;
            }
            (state, _) = self.slot.changed.wait(state, Some(Instant::now() + POLL_INTERVAL));
        }
        let taken_back = std::mem::replace(&mut *state, State::Done);
        drop(state);
        if self.process == this {
            drop(taken_back);
        } else {
            // What the callback captured is the parent's to drop.
            std::mem::forget(taken_back);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_loan_ends_when_the_callback_has() {
        let has_ended = AtomicBool::new(false);
        let (begins, begun) = channel();
        let (ends, end) = channel::<()>();
        let ended = &has_ended;
        let callback = move |_: &str| {
            begins.send(()).unwrap();
            // Until nobody can send any more, and then for a while that others may use.
            let _ = end.recv();
            thread::yield_now();
            ended.store(true, SeqCst);
        };
        let runs = lend(Box::new(callback), |callback| {
            let runs = thread::spawn(move || callback("argument"));
            begun.recv().unwrap();
            thread::spawn(move || drop(ends));
            runs
        });
        assert!(has_ended.load(SeqCst));
        runs.join().unwrap();
    }

    #[test]
    fn a_callback_that_nobody_calls_is_taken_back() {
        let captured = Arc::new(());
        let held = Arc::clone(&captured);
        lend(Box::new(move |_: &str| drop(held)), std::mem::forget);
        assert_eq!(Arc::strong_count(&captured), 1);
    }
}
