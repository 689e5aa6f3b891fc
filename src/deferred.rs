//! The stack of deferred functions: last in, first out, once, at the end of the exit.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
#[cfg(not(handle_exit_loom))]
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

#[cfg(handle_exit_loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};

use crate::phase::Thread;
use crate::sys::exit_hook;

type Function = Box<dyn FnOnce() + Send>;

/// Functions by the order they came in. A map, so that any of them can be cancelled cheaply.
#[derive(Default)]
pub(crate) struct Stack {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    functions: BTreeMap<u64, Function>,
    next: u64,
    /// The thread that runs one of them now.
    running: Option<Running>,
    closed: bool,
}

#[derive(Clone, Copy)]
struct Running {
    thread: Thread,
    /// The same thread, as `is_parked_in_pause` takes it.
    tid: i32,
}

impl Stack {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
    pub(crate) fn is_free(&self) -> bool {
        self.inner.try_lock().is_ok()
    }

    /// Adds a function and says under which number, or `None` once the exit has ended.
    pub(crate) fn push(&self, function: Function) -> Option<u64> {
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            // What the refused closure captured is dropped outside the lock: that is user code.
            drop(function);
            return None;
        }
        let id = inner.next;
        inner.next += 1;
        inner.functions.insert(id, function);
        Some(id)
    }

    /// Takes a function out again, if it has not run and is not running.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        let cancelled = self.lock().functions.remove(&id);
        cancelled.is_some()
    }

    /// Runs all of them, the last one first, and takes no more. One that another thread has begun is
    /// waited for, except in that very function.
    pub(crate) fn drain(&self, me: Thread) {
        self.drain_while(me, |inner| {
            self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner)
        });
    }

    /// As `drain`, for the thread that is inside `exit(3)`: one that calls `process::exit` in its
    /// function meanwhile is parked there for ever, and not waited for.
    pub(crate) fn drain_at_exit(&self, me: Thread, look: Duration) {
        self.drain_while(me, |inner| {
            let waited = self.changed.wait_timeout(inner, look);
            let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if inner.running.is_some_and(|running| exit_hook::is_parked_in_pause(running.tid)) {
                inner.running = None;
            }
            inner
        });
    }

    fn drain_while<'a>(
        &'a self,
        me: Thread,
        wait: impl Fn(MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner>,
    ) {
        let tid = exit_hook::thread();
        let mut inner = self.lock();
        loop {
            while inner.running.is_some_and(|running| running.thread != me) {
                inner = wait(inner);
            }
            let Some((_, function)) = inner.functions.pop_last() else {
                inner.closed = true;
                return;
            };
            inner.running = Some(Running { thread: me, tid });
            drop(inner);
            contain(function);
            inner = self.lock();
            inner.running = None;
            self.changed.notify_all();
        }
    }

    /// Drops all of them uncalled, and takes no more.
    pub(crate) fn clear(&self) {
        let functions = {
            let mut inner = self.lock();
            inner.closed = true;
            std::mem::take(&mut inner.functions)
        };
        for function in functions.into_values() {
            // What it captured is user code when it is dropped, each on its own.
            contain(|| drop(function));
        }
    }
}

/// Calls `function`; its panic ends here, after the panic hook has reported it.
pub(crate) fn contain(function: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(function)) {
        Ok(()) => true,
        Err(payload) => {
            // A payload whose own destructor panics must not get out either, nor what that panics with.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            std::mem::forget(dropped);
            false
        }
    }
}

/// Every interleaving of threads that stage, cancel and run: `.ci/loom` runs these.
#[cfg(all(handle_exit_loom, test))]
mod models {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::phase::models::{MAIN, OTHER};

    /// What has happened. Not for loom: no thread is preempted while it writes here.
    #[derive(Default)]
    struct Notes {
        ran: std::sync::Mutex<Vec<u8>>,
        is_in_one: AtomicBool,
        in_two: AtomicBool,
    }

    #[derive(Default)]
    struct World {
        stack: Stack,
        notes: std::sync::Arc<Notes>,
    }

    impl World {
        fn function(&self, name: u8) -> Function {
            let notes = std::sync::Arc::clone(&self.notes);
            Box::new(move || {
                // A panic would be contained, so this is judged later.
                notes.in_two.fetch_or(notes.is_in_one.swap(true, SeqCst), SeqCst);
                thread::yield_now();
                notes.ran.lock().unwrap().push(name);
                notes.is_in_one.store(false, SeqCst);
            })
        }

        fn push(&self, name: u8) -> Option<u64> {
            self.stack.push(self.function(name))
        }

        fn ran(&self) -> Vec<u8> {
            self.notes.ran.lock().unwrap().clone()
        }
    }

    /// Runs `main` and `other` against each other in a world with two functions, 1 and 2.
    fn every_interleaving(main: fn(&World), other: fn(&World), judge: fn(&World)) {
        loom::model(move || {
            let world = Arc::new(World::default());
            assert_eq!((world.push(1), world.push(2)), (Some(0), Some(1)));
            let thread = {
                let world = Arc::clone(&world);
                thread::spawn(move || other(&world))
            };
            main(&world);
            thread.join().unwrap();
            judge(&world);
            assert!(!world.notes.in_two.load(SeqCst), "two at once");
            assert_eq!(world.push(9), None);
            assert_eq!(std::sync::Arc::strong_count(&world.notes), 1, "all are freed");
        });
    }

    fn drains(world: &World) {
        world.stack.drain(MAIN);
        // Whoever ran them: none is left when this returns.
        let ran = world.ran();
        assert!(ran.contains(&1), "{ran:?}");
        assert!(!world.notes.is_in_one.load(SeqCst));
    }

    fn drains_at_exit(world: &World) {
        world.stack.drain_at_exit(OTHER, Duration::MAX);
        assert!(world.ran().contains(&1));
        assert!(!world.notes.is_in_one.load(SeqCst));
    }

    #[test]
    fn two_ends_run_each_once_the_last_one_first() {
        every_interleaving(drains, drains_at_exit, |world| assert_eq!(world.ran(), [2, 1]));
    }

    #[test]
    fn what_was_taken_in_is_run() {
        fn stages(world: &World) {
            let is_in = world.push(3).is_some();
            world.stack.drain(OTHER);
            assert_eq!(is_in, world.ran().contains(&3));
        }
        every_interleaving(drains, stages, |world| {
            let ran = world.ran();
            assert!(
                [&[2, 1][..], &[3, 2, 1], &[2, 3, 1], &[2, 1, 3]].contains(&&ran[..]),
                "{ran:?}"
            );
        });
    }

    #[test]
    fn what_was_cancelled_is_not_run() {
        fn cancels(world: &World) {
            let cancelled = world.stack.cancel(1);
            assert!(!world.stack.cancel(1));
            world.stack.drain(OTHER);
            assert_eq!(world.ran(), if cancelled { &[1][..] } else { &[2, 1] });
        }
        every_interleaving(drains, cancels, |_| {});
    }

    #[test]
    fn a_disarmed_guard_frees_all_and_runs_none() {
        fn clears(world: &World) {
            world.stack.clear();
        }
        fn stages_and_cancels(world: &World) {
            if let Some(id) = world.push(3) {
                world.stack.cancel(id);
            }
            world.stack.cancel(0);
            world.push(4);
        }
        every_interleaving(clears, stages_and_cancels, |world| assert!(world.ran().is_empty()));
    }

    /// As one that calls `process::exit`, whose exit function runs those below it.
    #[test]
    fn a_function_may_run_the_others() {
        loom::model(|| {
            let world = Arc::new(World::default());
            let main = thread::current().id();
            let me = move || if thread::current().id() == main { MAIN } else { OTHER };
            let inner = Arc::clone(&world);
            assert!(world.push(1).is_some());
            let exits = move || {
                inner.notes.ran.lock().unwrap().push(2);
                inner.stack.drain(me());
            };
            assert!(world.stack.push(Box::new(exits)).is_some());
            let other = {
                let world = Arc::clone(&world);
                thread::spawn(move || world.stack.drain(me()))
            };
            world.stack.drain(me());
            other.join().unwrap();
            assert_eq!(world.ran(), [2, 1]);
        });
    }
}
