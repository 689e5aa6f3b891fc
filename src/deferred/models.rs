//! Every interleaving of threads that defer, cancel and run: `.ci/loom` runs these.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use loom::sync::Arc;
use loom::thread;

use super::*;

/// What has happened. Not for loom, except for `touched`: no thread is preempted while it writes here.
#[derive(Default)]
struct Notes {
    ran: std::sync::Mutex<Vec<u8>>,
    running: AtomicUsize,
    two_ran: AtomicBool,
}

#[derive(Default)]
struct World {
    functions: Functions,
    notes: std::sync::Arc<Notes>,
    /// Orders what a function does against those that look at it.
    touched: std::sync::Arc<Lock<()>>,
}

impl World {
    fn function(&self, name: u8) -> Function {
        let (notes, touched) =
            (std::sync::Arc::clone(&self.notes), std::sync::Arc::clone(&self.touched));
        Box::new(move || {
            notes.two_ran.fetch_or(notes.running.fetch_add(1, SeqCst) > 0, SeqCst);
            drop(touched.lock());
            notes.ran.lock().unwrap().push(name);
            notes.running.fetch_sub(1, SeqCst);
        })
    }

    /// `Exit::defer`.
    fn push(&self, name: u8) -> Option<usize> {
        self.functions.push(Runner::current(), self.function(name)).ok()
    }

    /// `Deferred::cancel`
    fn cancel(&self, key: usize) -> bool {
        self.functions.take(key, None).is_some()
    }

    /// `Deferred::run`
    fn run(&self, key: usize) -> bool {
        let me = Runner::current();
        let function = self.functions.take(key, Some(me));
        function.map(|function| function()).is_some_and(|()| {
            self.functions.done(me);
            true
        })
    }

    /// `ProcessExit::run_deferred`. None is left when this returns, on whichever thread they ran.
    fn run_all(&self) {
        let me = Runner::current();
        while let Some(function) = self.functions.next_to_run(me, &|_| false) {
            function();
            self.functions.done(me);
        }
        drop(self.touched.lock());
        assert_eq!(self.notes.running.load(SeqCst), 0, "one runs still");
        assert!(self.ran().contains(&1));
    }

    /// What has run, one after the other.
    fn ran_in_turn(&self) -> Vec<u8> {
        assert!(!self.notes.two_ran.load(SeqCst), "two at once");
        self.ran()
    }

    fn ran(&self) -> Vec<u8> {
        self.notes.ran.lock().unwrap().clone()
    }
}

/// Runs `main` and `other` against each other in a world with two functions, 1 and 2.
fn every_interleaving(main: fn(&World), other: fn(&World), judge: fn(&World)) {
    loom::model(move || {
        let world = Arc::new(World::default());
        assert_eq!((world.push(1), world.push(2)), (Some(1), Some(2)));
        let thread = {
            let world = Arc::clone(&world);
            thread::spawn(move || other(&world))
        };
        main(&world);
        thread.join().unwrap();
        judge(&world);
        assert_eq!(world.push(9), None);
        assert_eq!(std::sync::Arc::strong_count(&world.notes), 1, "all are freed");
    });
}

#[test]
fn two_ends_run_each_once_the_last_one_first() {
    every_interleaving(World::run_all, World::run_all, |world| {
        assert_eq!(world.ran_in_turn(), [2, 1]);
    });
}

#[test]
fn what_was_deferred_is_run_unless_it_is_handed_back() {
    fn defers(world: &World) {
        let is_in = world.push(3).is_some();
        world.run_all();
        assert_eq!(is_in, world.ran().contains(&3));
    }
    every_interleaving(World::run_all, defers, |world| {
        let ran = world.ran_in_turn();
        assert!([&[2, 1][..], &[3, 2, 1]].contains(&&ran[..]), "{ran:?}");
    });
}

#[test]
fn one_that_runs_may_defer_more() {
    loom::model(|| {
        let world = Arc::new(World::default());
        let inner = Arc::clone(&world);
        world.push(1);
        let defers = move || assert!(inner.push(2).is_some());
        assert!(world.functions.push(Runner::current(), Box::new(defers)).is_ok());
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.run_all())
        };
        world.run_all();
        other.join().unwrap();
        assert_eq!(world.ran(), [2, 1]);
    });
}

#[test]
fn what_was_cancelled_is_not_run() {
    fn cancels(world: &World) {
        let cancelled = world.cancel(2);
        assert!(!world.cancel(2));
        world.run_all();
        assert_eq!(world.ran(), if cancelled { &[1][..] } else { &[2, 1] });
    }
    every_interleaving(World::run_all, cancels, |world| _ = world.ran_in_turn());
}

#[test]
fn what_is_run_early_is_run_once_and_waited_for() {
    fn runs(world: &World) {
        let ran = world.run(1);
        assert!(!world.run(1));
        assert!(!ran || world.ran().contains(&1));
    }
    every_interleaving(World::run_all, runs, |world| {
        // The one who runs it early waits for no other.
        let ran = world.ran();
        assert!([&[2, 1][..], &[1, 2]].contains(&&ran[..]), "{ran:?}");
    });
}

#[test]
fn a_disarmed_guard_frees_all_and_runs_none() {
    fn drops(world: &World) {
        while world.functions.next_to_drop().is_some() {}
    }
    fn defers_and_cancels(world: &World) {
        if let Some(key) = world.push(3) {
            world.cancel(key);
        }
        world.cancel(1);
        world.push(4);
    }
    every_interleaving(drops, defers_and_cancels, |world| assert!(world.ran().is_empty()));
}

/// As one that calls `process::exit`, whose exit function runs those below it.
#[test]
fn a_function_may_run_the_others() {
    loom::model(|| {
        let world = Arc::new(World::default());
        let inner = Arc::clone(&world);
        assert!(world.push(1).is_some());
        let exits = move || {
            inner.notes.ran.lock().unwrap().push(2);
            inner.run_all();
        };
        assert!(world.functions.push(Runner::current(), Box::new(exits)).is_ok());
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.run_all())
        };
        world.run_all();
        other.join().unwrap();
        assert_eq!(world.ran(), [2, 1]);
    });
}
