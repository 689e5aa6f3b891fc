//! Every interleaving of the threads of an exit: `.ci/loom` runs these.
//!
//! The core is the real one, watchers included. What `install` does with it, and the threads, is done here by a
//! `World`; the system is `sys::models`.

mod claim;
mod end;
mod lead;
mod steps;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use loom::thread;

use steps::*;

use super::state::{Callback as Stage, Entry};
use super::task::Task;
use super::*;
use crate::event::{Event, Observer};
use crate::settings::{AfterScope, Repeat, Settings};
use crate::signal::{Signal, SignalSet};
use crate::sys::guarded::Guarded;
use crate::sys::status::Status;
use crate::sys::{self as system, models as model, wake};

/// What became of a guard's callback, by its name.
#[derive(Default)]
struct Part {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

/// What a callback does besides.
type Does = fn(&Arc<World>);

struct World {
    exit: &'static ProcessExit,
    guards: StdMutex<Vec<Arc<Guard>>>,
    parts: [Part; 3],
    /// Names in the order in which callbacks began.
    order: StdMutex<Vec<usize>>,
    /// Orders what user code does against those that look at it.
    touched: Lock<()>,
    /// How many watchers are in a task.
    tasks: AtomicUsize,
    /// Watchers that were started after an overrun.
    successors: AtomicUsize,
    /// Callbacks hang, and the process ends in spite of that.
    may_cut: AtomicBool,
    /// A callback has called `exit`.
    has_exited: AtomicBool,
    threads: StdMutex<Vec<thread::JoinHandle<()>>>,
}

impl World {
    fn new() -> Arc<World> {
        let exit: &'static ProcessExit = Box::leak(Box::new(ProcessExit::new(process::this())));
        let world = Arc::new(World {
            exit,
            guards: StdMutex::default(),
            parts: Default::default(),
            order: StdMutex::default(),
            touched: Lock::default(),
            tasks: AtomicUsize::new(0),
            successors: AtomicUsize::new(0),
            may_cut: AtomicBool::new(false),
            has_exited: AtomicBool::new(false),
            threads: StdMutex::default(),
        });
        let (at_exit, at_death) = (Arc::clone(&world), Arc::clone(&world));
        model::begin(
            &[Signal::TERM, Signal::INT],
            Arc::new(move || {
                let state = exit.lock();
                exit.changed.notify_all();
                exit.lead.notify_all();
                for (_, entry) in state.guards.iter() {
                    entry.guard.has_cause.notify_all();
                }
            }),
            Arc::new(move || at_exit.at_process_exit()),
            Arc::new(move || at_death.each_has_returned()),
        );
        world
    }

    /// `install::enter`, for a guard whose callback has this name.
    fn install(self: &Arc<World>, name: usize, settings: Settings, does: Does) -> Arc<Guard> {
        self.install_observed(name, settings, does, Observer::default())
    }

    fn install_observed(
        self: &Arc<World>,
        name: usize,
        settings: Settings,
        does: Does,
        observer: Observer,
    ) -> Arc<Guard> {
        let world = Arc::clone(self);
        let callback = Box::new(move |_: &Cause| world.callback(name, does));
        let guard = Arc::new(Guard::new(settings, callback, Vec::new(), observer));
        guard.process.store(self.exit.process, SeqCst);
        let mut state = self.exit.lock();
        if state.ends_elsewhere() {
            return guard;
        }
        let missing = guard.settings.all_signals().minus(state.signals());
        let installed: Vec<_> =
            missing.into_iter().map(|signal| Guarded::for_model(signal, false)).collect();
        state.end_is_over();
        state.add_installed(&installed);
        if state.enter(&guard, SignalSet::default()) {
            wake::post();
        }
        self.guards.lock().unwrap().push(Arc::clone(&guard));
        guard
    }

    fn callback(self: &Arc<World>, name: usize, does: Does) {
        let part = &self.parts[name];
        part.begun.fetch_add(1, SeqCst);
        self.order.lock().unwrap().push(name);
        drop(self.touched.lock());
        does(self);
        part.ended.fetch_add(1, SeqCst);
    }

    fn guard(&self, at: usize) -> Arc<Guard> {
        Arc::clone(&self.guards.lock().unwrap()[at])
    }

    /// A thread of the program's.
    fn spawn(self: &Arc<World>, run: fn(&Arc<World>)) {
        let world = Arc::clone(self);
        let thread = thread::spawn(move || model::run(|| run(&world)));
        self.threads.lock().unwrap().push(thread);
    }

    /// `spawn`
    fn spawn_watcher(self: &Arc<World>) {
        let world = Arc::clone(self);
        let generation = self.exit.lock().watchers.generation;
        let thread = thread::spawn(move || model::run(|| world.watch(generation)));
        self.threads.lock().unwrap().push(thread);
    }

    fn watch(self: &Arc<World>, generation: usize) {
        let watcher = self.exit.here().watcher();
        while let Some(task) = watcher.next_task(generation) {
            let ends = matches!(task, Task::Overrun { .. } | Task::Cut(_));
            assert!(self.tasks.fetch_add(1, SeqCst) == 0 || ends, "two watchers run user code");
            let task = match task {
                // loom has few threads: as at the limit of threads, the process ends then.
                Task::Overrun { needs_successor: true, .. }
                    if self.successors.fetch_add(1, SeqCst) > 0 =>
                {
                    Task::Cut(Status::Failed)
                }
                Task::Overrun { guard, needs_successor: true } => {
                    self.spawn_watcher();
                    Task::Overrun { guard, needs_successor: false }
                }
                task => task,
            };
            if watcher.perform(task).is_err() {
                return;
            }
            if self.exit.lock().is_empty() {
                wake::post();
            }
            self.tasks.fetch_sub(1, SeqCst);
            watcher.end_task();
        }
    }

    /// `HandleExit::close`, and what follows if the program continues.
    fn close(self: &Arc<World>, at: usize, by: By) {
        let guard = self.guard(at);
        if self.exit.here().close(&guard, by, Cause::ScopeEnd).is_ok() {
            self.has_returned(&self.parts[at]);
            self.join_watchers();
        }
    }

    /// `Worker::join`: with the last guard the watchers go.
    fn join_watchers(&self) {
        let mut state = self.exit.lock();
        if !state.is_empty() {
            return;
        }
        drop(state);
        wake::post();
        state = self.exit.lock();
        while !state.watchers.present.is_empty() {
            (state, _) = self.exit.changed.wait(state, None);
        }
    }

    /// Nobody passes a callback that runs.
    fn has_returned(&self, part: &Part) {
        drop(self.touched.lock());
        assert_eq!(part.begun.load(SeqCst), part.ended.load(SeqCst), "a callback runs still");
    }

    fn each_has_returned(&self) {
        if self.may_cut.load(SeqCst) {
            return;
        }
        self.parts.iter().for_each(|part| self.has_returned(part));
    }

    fn request(&self, at: usize) -> bool {
        let begins = self.exit.request(&self.guard(at));
        if begins {
            wake::post();
        }
        begins
    }

    /// `at_process_exit`
    fn at_process_exit(&self) {
        let state = self.exit.lock();
        if state.is_empty() && !state.is_last_step_elsewhere() {
            return;
        }
        drop(state);
        let in_own_code = system::exit_thread::is_marked();
        let _exit_thread = system::exit_thread::mark();
        let _ = self.exit.here().end_inside_exit(in_own_code);
    }

    /// Waits for all threads.
    fn join(&self) {
        loop {
            let Some(thread) = self.threads.lock().unwrap().pop() else { return };
            thread.join().unwrap();
        }
    }

    fn order(&self) -> Vec<usize> {
        self.order.lock().unwrap().clone()
    }
}

/// Runs these threads against each other, and against those that `set_up` starts.
fn every_interleaving(
    set_up: fn(&Arc<World>),
    threads: &'static [fn(&Arc<World>)],
    judge: fn(&World),
) {
    bounded(usize::MAX, set_up, threads, judge);
}

/// As `every_interleaving`, with no more preemptions than that.
fn bounded(
    preemptions: usize,
    set_up: fn(&Arc<World>),
    threads: &'static [fn(&Arc<World>)],
    judge: fn(&World),
) {
    /// The mailboxes are real ones: one process at a time.
    static PROCESS: StdMutex<()> = StdMutex::new(());
    let _process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.map(|bound| bound.min(preemptions));
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executions);
    model.check(move || {
        executions.fetch_add(1, SeqCst);
        let world = World::new();
        set_up(&world);
        for run in &threads[1..] {
            world.spawn(*run);
        }
        model::run(|| threads[0](&world));
        world.join();
        judge(&world);
        world.guards.lock().unwrap().clear();
        *world.exit.lock() = State::default();
    });
    eprintln!("{} executions", counted.load(SeqCst));
}
