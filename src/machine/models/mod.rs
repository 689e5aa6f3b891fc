//! Every interleaving of the threads of an exit, in miniature: `.ci/loom` runs these.
//!
//! What `install`, `exit`, `watcher` and `at_exit` do with the machine is done here by a `World`, with
//! the operating system left out: a list for the mailboxes, a flag for the wake-up, a lock for the
//! set-up. "The process ends" is a note, after which the threads of a real process would be gone.

use std::sync::atomic::AtomicU32;

use loom::sync::Arc as LoomArc;
use loom::sync::Mutex;
use loom::thread;

use super::*;

mod cases;

/// What became of one guard's callback.
#[derive(Debug, Default)]
struct Part {
    begun: AtomicU32,
    ended: AtomicU32,
    /// What the callback does besides.
    does: Option<fn(&LoomArc<World>, Runner)>,
    panics: bool,
}

type TestGuard = Arc<Guard<Part>>;

// All threads of a model are one of the system's.
fn main_thread() -> Runner {
    Runner::for_model(1)
}
fn other() -> Runner {
    Runner::for_model(2)
}
fn third() -> Runner {
    Runner::for_model(3)
}

struct World {
    machine: Machine<Part>,
    /// Whether there is a watcher.
    setup: Mutex<bool>,
    watchers: std::sync::Mutex<Vec<thread::JoinHandle<()>>>,
    mailbox: Mutex<Vec<Arrival>>,
    woken: Mutex<bool>,
    wakes: Condvar,
    /// What the watcher takes now.
    listening: std::sync::Mutex<SignalSet>,
    guards: std::sync::Mutex<Vec<TestGuard>>,
    notes: std::sync::Mutex<Notes>,
}

#[derive(Debug, Default, Clone)]
struct Notes {
    deaths: Vec<Status>,
    /// Guards in the order in which their callbacks began, by their place in `guards`.
    order: Vec<usize>,
    old_handlers: u32,
    /// Signals that came too late for every guard.
    late: u32,
}

impl World {
    fn new() -> LoomArc<World> {
        LoomArc::new(World {
            machine: Machine::default(),
            setup: Mutex::new(false),
            watchers: std::sync::Mutex::default(),
            mailbox: Mutex::new(Vec::new()),
            woken: Mutex::new(false),
            wakes: Condvar::new(),
            listening: std::sync::Mutex::default(),
            guards: std::sync::Mutex::default(),
            notes: std::sync::Mutex::default(),
        })
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    fn guard(&self, at: usize) -> TestGuard {
        Arc::clone(&self.guards.lock().unwrap()[at])
    }

    fn take(&self, signals: SignalSet, into: &mut Vec<Arrival>) {
        let mut mailbox = self.mailbox.lock().unwrap();
        let (taken, left) = mailbox.drain(..).partition(|one| signals.contains(one.signal));
        *mailbox = left;
        let _: &Vec<_> = &taken;
        into.extend::<Vec<_>>(taken);
    }

    fn post(&self) {
        *self.woken.lock().unwrap() = true;
        self.wakes.notify_one();
    }

    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.wakes.wait(woken).unwrap();
        }
        *woken = false;
    }

    fn signal(&self, signal: Signal, repeats: bool) {
        self.mailbox.lock().unwrap().push(Arrival::for_model(signal, repeats));
        self.post();
    }

    /// `install::install`.
    fn install(world: &LoomArc<World>, settings: Settings, part: Part) -> TestGuard {
        let guard = Arc::new(Guard::new(settings, part));
        world.guards.lock().unwrap().push(Arc::clone(&guard));
        if world.machine.enter(&guard) == Enter::Entered {
            return guard;
        }
        let mut has_watcher = world.setup.lock().unwrap();
        match world.machine.enter(&guard) {
            Enter::Entered => {}
            Enter::Nested => panic!("every guard of a model appends"),
            Enter::Missing(missing) => {
                if !std::mem::replace(&mut *has_watcher, true) {
                    let generation = world.machine.generation();
                    let watched = LoomArc::clone(world);
                    let watcher = thread::spawn(move || World::watch(&watched, generation));
                    world.watchers.lock().unwrap().push(watcher);
                }
                let has_old = |signal| signal == Signal::HUP;
                let new = missing.iter().map(|signal| Guarded::for_model(signal, has_old(signal)));
                world.machine.enter_with(&guard, &new.collect::<Vec<_>>(), false);
                world.post();
            }
        }
        guard
    }

    fn callback(world: &LoomArc<World>, run: Run<Part>, me: Runner) {
        let part = &run.guard.work;
        part.begun.fetch_add(1, SeqCst);
        let at = world.guards.lock().unwrap().iter().position(|one| Arc::ptr_eq(one, &run.guard));
        world.notes().order.push(at.unwrap());
        if let Some(does) = part.does {
            does(world, me);
        }
        part.ended.fetch_add(1, SeqCst);
        world.machine.finish(&run.guard, me, part.panics);
    }

    fn wait_done(world: &LoomArc<World>, guard: &TestGuard, me: Runner, by: By) {
        world.post();
        if let Waited::Run(run) = world.machine.wait_done(guard, me, by, None, |_, _| false) {
            World::callback(world, run, me);
        }
    }

    /// `ProcessExit::close`.
    fn close(world: &LoomArc<World>, guard: &TestGuard, me: Runner, by: By) {
        let take = |signals, into: &mut Vec<_>| world.take(signals, into);
        match world.machine.close(guard, me, by, Cause::ScopeEnd, take) {
            Close::Inside => return world.post(),
            Close::Gone => return,
            Close::Late => return World::wait_done(world, guard, me, by),
            Close::Wait => World::wait_done(world, guard, me, by),
            Close::Disarmed => {}
            Close::Run(run) => World::callback(world, run, me),
        }
        assert_eq!(
            guard.work.begun.load(SeqCst),
            guard.work.ended.load(SeqCst),
            "nobody passes a callback that runs"
        );
        World::complete(world, guard, me);
    }

    /// `ProcessExit::complete`.
    fn complete(world: &LoomArc<World>, guard: &TestGuard, me: Runner) {
        let ended = world.machine.ended(guard);
        let status = ended.decides.and_then(|signal| guard.settings.status_after_scope(signal));
        if let Some(status) = status.or(ended.panicked.then_some(Status::Failed)) {
            return World::end_process(world, me, status);
        }
        if world.machine.leave(guard).is_some() {
            return;
        }
        let mut has_watcher = world.setup.lock().unwrap();
        let left = world.machine.leave_last(guard);
        world.post();
        let restored: SignalSet = left.restore.iter().map(Guarded::signal).collect();
        world.machine.wait_unheard();
        let listening = *world.listening.lock().unwrap();
        // Where the process has ended, nobody waits for the watcher.
        if world.notes().deaths.is_empty() {
            assert_eq!(listening.minus(restored), listening, "the watcher takes what is restored");
        }
        let mut late = Vec::new();
        world.take(restored, &mut late);
        world.notes().late += u32::try_from(late.len()).unwrap();
        if let Some(generation) = left.last {
            *has_watcher = false;
            drop(has_watcher);
            world.post();
            assert!(world.machine.wait_left(generation, me, |_, _| false));
        }
    }

    /// `ProcessExit::end_guards`.
    fn end_guards(world: &LoomArc<World>, me: Runner) {
        let mut key = usize::MAX;
        while let Some(guard) = world.machine.older_than(key, Which::All) {
            key = guard.key();
            let take = |signals, into: &mut Vec<_>| world.take(signals, into);
            match world.machine.close(&guard, me, By::End, Cause::ProcessExit, take) {
                Close::Run(run) => World::callback(world, run, me),
                Close::Wait => World::wait_done(world, &guard, me, By::End),
                Close::Inside | Close::Late | Close::Gone | Close::Disarmed => {}
            }
        }
    }

    fn end_process(world: &LoomArc<World>, me: Runner, status: Status) {
        world.machine.decide(me, status);
        World::end_guards(world, me);
        if let Some(status) = world.machine.decide(me, status) {
            World::dies(world, status);
        }
    }

    /// At this moment no living guard may have a callback that has not run to its end, but for the one that ends the
    /// process itself.
    fn dies(world: &LoomArc<World>, status: Status) {
        world.notes().deaths.push(status);
        // The threads would be gone; those that wait for the watcher here must not wait forever.
        world.machine.leave_for_model();
        world.post();
    }

    /// `at_exit::at_process_exit`.
    fn exits(world: &LoomArc<World>, me: Runner) {
        let take = |signals, into: &mut Vec<_>| world.take(signals, into);
        world.machine.close_all(me, take);
        world.post();
        World::end_guards(world, me);
        let status = world.machine.decided(me, false, false).unwrap_or(Status::Code(0));
        World::dies(world, status);
        world.machine.clear();
    }

    /// `Watcher::watch`.
    fn watch(world: &LoomArc<World>, generation: usize) {
        let me = Runner::for_model(100 + generation);
        loop {
            let take = |signals, into: &mut Vec<_>| world.take(signals, into);
            match world.machine.next(me, generation, take) {
                Next::Tell(_) | Next::Repeat { .. } | Next::On { .. } => {}
                Next::Callback(run) => World::callback(world, run, me),
                Next::OldHandler { arrival, .. } => {
                    world.notes().old_handlers += 1;
                    world.machine.give_back(arrival.signal);
                    world.machine.old_handler_has_run(&arrival);
                }
                Next::Complete(guard) => World::complete(world, &guard, me),
                Next::End { status, .. } => {
                    World::end_process(world, me, status);
                    return;
                }
                Next::Wait { signals, .. } => {
                    *world.listening.lock().unwrap() = signals;
                    world.wait();
                    *world.listening.lock().unwrap() = SignalSet::default();
                }
                Next::Leave => return world.post(),
            }
        }
    }
}

impl<W> Machine<W> {
    fn leave_for_model(&self) {
        let mut state = self.lock();
        state.watcher = None;
        state.generation += 1;
        self.notify(&state);
    }
}

fn settings(grace: Duration) -> Settings {
    Settings {
        append: true,
        grace,
        signals: [Signal::TERM].into_iter().collect(),
        ..Settings::default()
    }
}

/// `new`, with all the time in the world.
fn forever() -> Settings {
    settings(Duration::MAX)
}

/// `cleanup`.
fn cleanup() -> Settings {
    let after_scope = crate::settings::AfterScope::End;
    Settings { after_scope, ..settings(Duration::ZERO) }
}
