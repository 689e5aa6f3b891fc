//! Every interleaving of threads that stage, cancel and run: `.ci/loom` runs these.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::sys::thread::Runner;

fn main_thread() -> Runner {
    Runner::for_model(1)
}
fn other() -> Runner {
    Runner::for_model(2)
}

/// What has happened. Not for loom: no thread is preempted while it writes here.
#[derive(Default)]
struct Notes {
    ran: std::sync::Mutex<Vec<u8>>,
    is_in_one: AtomicBool,
    in_two: AtomicBool,
}

#[derive(Default)]
struct World {
    stack: Functions,
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

    fn push(&self, name: u8) -> Option<usize> {
        self.stack.push(main_thread().id(), self.function(name))
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
        assert!(!world.notes.in_two.load(SeqCst), "two at once");
        assert_eq!(world.push(9), None);
        assert_eq!(std::sync::Arc::strong_count(&world.notes), 1, "all are freed");
    });
}

fn drains(world: &World) {
    world.stack.run_all(main_thread(), &|_| false, &|| true);
    // Whoever ran them: none is left when this returns.
    let ran = world.ran();
    assert!(ran.contains(&1), "{ran:?}");
    assert!(!world.notes.is_in_one.load(SeqCst));
}

fn drains_at_exit(world: &World) {
    world.stack.run_all(other(), &|_| false, &|| true);
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
        world.stack.run_all(other(), &|_| false, &|| true);
        assert_eq!(is_in, world.ran().contains(&3));
    }
    every_interleaving(drains, stages, |world| {
        let ran = world.ran();
        assert!([&[2, 1][..], &[3, 2, 1], &[2, 3, 1], &[2, 1, 3]].contains(&&ran[..]), "{ran:?}");
    });
}

#[test]
fn what_was_cancelled_is_not_run() {
    fn cancels(world: &World) {
        let cancelled = world.stack.take(2).is_some();
        assert!(world.stack.take(2).is_none());
        world.stack.run_all(other(), &|_| false, &|| true);
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
            drop(world.stack.take(id));
        }
        drop(world.stack.take(1));
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
        let me = move || if thread::current().id() == main { main_thread() } else { other() };
        let inner = Arc::clone(&world);
        assert!(world.push(1).is_some());
        let exits = move || {
            inner.notes.ran.lock().unwrap().push(2);
            inner.stack.run_all(me(), &|_| false, &|| true);
        };
        assert!(world.stack.push(main_thread().id(), Box::new(exits)).is_some());
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.stack.run_all(me(), &|_| false, &|| true))
        };
        world.stack.run_all(me(), &|_| false, &|| true);
        other.join().unwrap();
        assert_eq!(world.ran(), [2, 1]);
    });
}
