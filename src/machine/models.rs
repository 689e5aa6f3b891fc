//! Every interleaving of the threads of an exit, in miniature: `.ci/loom` runs these.
//!
//! What `install`, `exit`, `watcher` and `at_exit` do with the machine is done here by a `World`, with
//! the operating system left out: a list for the mailboxes, a flag for the wake-up, a lock for the
//! set-up. "The process ends" is a note, after which the threads of a real process would be gone.

use std::sync::atomic::AtomicU32;

use loom::sync::Arc as LoomArc;
use loom::thread;

use super::*;

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

    fn wait_done(world: &LoomArc<World>, guard: &TestGuard, me: Runner) {
        world.post();
        if let Waited::Run(run) = world.machine.wait_done(guard, me, None, |_| false) {
            World::callback(world, run, me);
        }
    }

    /// `ProcessExit::close`.
    fn close(world: &LoomArc<World>, guard: &TestGuard, me: Runner, by: By) {
        let take = |signals, into: &mut Vec<_>| world.take(signals, into);
        match world.machine.close(guard, me, by, Cause::ScopeEnd, take) {
            Close::Inside => return world.post(),
            Close::Late => return World::wait_done(world, guard, me),
            Close::Wait => World::wait_done(world, guard, me),
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
        let mut late = Vec::new();
        world.take(left.restore.iter().map(Guarded::signal).collect(), &mut late);
        world.notes().late += u32::try_from(late.len()).unwrap();
        if let Some(generation) = left.last {
            *has_watcher = false;
            drop(has_watcher);
            world.post();
            assert!(world.machine.wait_left(generation, me, |_| false));
        }
    }

    /// `ProcessExit::end_guards`.
    fn end_guards(world: &LoomArc<World>, me: Runner) {
        for guard in world.machine.newer_than(0) {
            let take = |signals, into: &mut Vec<_>| world.take(signals, into);
            match world.machine.end_guard(&guard, me, Cause::ProcessExit, take) {
                Close::Run(run) => World::callback(world, run, me),
                Close::Wait => World::wait_done(world, &guard, me),
                Close::Inside | Close::Late | Close::Disarmed => {}
            }
        }
    }

    fn end_process(world: &LoomArc<World>, me: Runner, status: Status) {
        world.machine.decide(me, status);
        World::end_guards(world, me);
        World::dies(world, world.machine.decide(me, status));
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
        let status = world.machine.decided(me, false).unwrap_or(Status::Code(0));
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
                Next::Wait { .. } => world.wait(),
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

type Act = fn(&LoomArc<World>);

/// Runs `threads`, the first of them on the main thread, in a world with these guards, and looks at
/// it when all are done.
fn every_interleaving(
    guards: fn() -> Vec<(Settings, Part)>,
    threads: &'static [Act],
    judge: fn(&World, &Notes),
) {
    loom::model(move || {
        let world = World::new();
        for (settings, part) in guards() {
            World::install(&world, settings, part);
        }
        let start = |run: Act| {
            let world = LoomArc::clone(&world);
            thread::spawn(move || run(&world))
        };
        let started: Vec<_> = threads[1..].iter().map(|run| start(*run)).collect();
        threads[0](&world);
        for thread in started {
            thread.join().unwrap();
        }
        loop {
            let watcher = world.watchers.lock().unwrap().pop();
            let Some(watcher) = watcher else { break };
            watcher.join().unwrap();
        }
        assert_eq!(world.machine.lock().waiting, 0, "nobody waits");
        for guard in world.guards.lock().unwrap().iter() {
            let (begun, ended) =
                (guard.work.begun.load(SeqCst), guard.work.ended.load(SeqCst));
            assert!(begun <= 1 && begun == ended, "begun {begun}, ended {ended}");
        }
        let notes = world.notes().clone();
        judge(&world, &notes);
    });
}

fn each_once(world: &World, notes: &Notes) {
    for guard in world.guards.lock().unwrap().iter() {
        assert_eq!(guard.work.begun.load(SeqCst), 1, "{notes:?}");
    }
}

fn one() -> Vec<(Settings, Part)> {
    vec![(forever(), Part::default())]
}

fn one_cleanup() -> Vec<(Settings, Part)> {
    vec![(cleanup(), Part::default())]
}

fn two() -> Vec<(Settings, Part)> {
    vec![(forever(), Part::default()), (forever(), Part::default())]
}

fn three() -> Vec<(Settings, Part)> {
    let mut guards = two();
    guards.extend(one());
    guards
}

fn drops_first(world: &LoomArc<World>) {
    World::close(world, &world.guard(0), main_thread(), By::Drop);
}

fn drops_second(world: &LoomArc<World>) {
    World::close(world, &world.guard(1), other(), By::Drop);
}

fn drops_both(world: &LoomArc<World>) {
    World::close(world, &world.guard(1), main_thread(), By::Drop);
    World::close(world, &world.guard(0), main_thread(), By::Drop);
}

fn exits(world: &LoomArc<World>) {
    World::exits(world, third());
}

fn term(world: &LoomArc<World>) {
    world.signal(Signal::TERM, false);
}

#[test]
fn a_signal_against_a_drop() {
    every_interleaving(one, &[drops_first, term], |world, notes| {
        each_once(world, notes);
        assert_eq!(notes.deaths, []);
        let held = world.mailbox.lock().unwrap().len();
        let taken = world.guard(0).cause() != Some(&Cause::ScopeEnd);
        assert_eq!(usize::from(taken) + held + notes.late as usize, 1, "{notes:?}");
    });
}

#[test]
fn clean_up_dies_of_the_signal_however_the_scope_ends() {
    every_interleaving(one_cleanup, &[drops_first, term], |world, notes| {
        each_once(world, notes);
        let by_signal = world.guard(0).cause() != Some(&Cause::ScopeEnd);
        let dies = notes.deaths.contains(&Status::Signal(Signal::TERM));
        assert_eq!(by_signal, dies, "{notes:?}");
    });
    every_interleaving(one_cleanup, &[exits, term], |world, notes| {
        each_once(world, notes);
        let by_signal = world.guard(0).cause() != Some(&Cause::ProcessExit);
        let status = if by_signal { Status::Signal(Signal::TERM) } else { Status::Code(0) };
        assert!(notes.deaths.iter().all(|death| *death == status), "{notes:?}");
    });
}

#[test]
fn a_signal_against_two_drops() {
    every_interleaving(two, &[drops_first, drops_second, term], each_once);
}

#[test]
fn a_signal_against_three_guards_that_end_on_one_thread() {
    fn drops_all(world: &LoomArc<World>) {
        for at in [2, 1, 0] {
            World::close(world, &world.guard(at), main_thread(), By::Drop);
        }
    }
    every_interleaving(three, &[drops_all, term], each_once);
}

#[test]
fn the_newest_callback_comes_first() {
    every_interleaving(three, &[exits, term], |world, notes| {
        each_once(world, notes);
        assert_eq!(notes.order, [2, 1, 0]);
    });
}

#[test]
fn process_exit_against_two_drops() {
    every_interleaving(two, &[drops_first, drops_second, exits], |world, notes| {
        each_once(world, notes);
        assert_eq!(notes.deaths, [Status::Code(0)]);
    });
}

#[test]
fn process_exit_against_a_signal_and_a_drop() {
    every_interleaving(two, &[drops_both, exits, term], each_once);
}

#[test]
fn append_against_the_last_drop() {
    fn appends(world: &LoomArc<World>) {
        let guard = World::install(world, forever(), Part::default());
        World::close(world, &guard, other(), By::Drop);
    }
    every_interleaving(one, &[drops_first, appends], |world, notes| {
        each_once(world, notes);
        let state = world.machine.lock();
        assert!(state.guards.is_empty() && state.installed.is_empty() && state.watcher.is_none());
    });
}

#[test]
fn append_against_the_last_drop_and_a_signal() {
    fn appends(world: &LoomArc<World>) {
        let guard = World::install(world, forever(), Part::default());
        World::close(world, &guard, other(), By::Drop);
    }
    every_interleaving(one, &[drops_first, appends, term], each_once);
}

#[test]
fn a_callback_that_drops_another_guard() {
    fn drops_older(world: &LoomArc<World>, me: Runner) {
        World::close(world, &world.guard(0), me, By::Drop);
    }
    fn guards() -> Vec<(Settings, Part)> {
        let does = Some(drops_older as fn(&LoomArc<World>, Runner));
        vec![(forever(), Part::default()), (forever(), Part { does, ..Part::default() })]
    }
    every_interleaving(guards, &[drops_second, term], each_once);
}

#[test]
fn a_callback_that_drops_its_own_guard() {
    fn drops_itself(world: &LoomArc<World>, me: Runner) {
        World::close(world, &world.guard(0), me, By::Drop);
    }
    fn guards() -> Vec<(Settings, Part)> {
        let does = Some(drops_itself as fn(&LoomArc<World>, Runner));
        vec![(forever(), Part { does, ..Part::default() })]
    }
    every_interleaving(guards, &[term], each_once);
    every_interleaving(guards, &[term, exits], each_once);
}

#[test]
fn a_callback_that_makes_a_guard() {
    fn makes_one(world: &LoomArc<World>, me: Runner) {
        let guard = World::install(world, forever(), Part::default());
        World::close(world, &guard, me, By::Drop);
    }
    fn guards() -> Vec<(Settings, Part)> {
        let does = Some(makes_one as fn(&LoomArc<World>, Runner));
        vec![(forever(), Part { does, ..Part::default() })]
    }
    every_interleaving(guards, &[drops_first, term], each_once);
}

#[test]
fn a_callback_that_panics() {
    fn guards() -> Vec<(Settings, Part)> {
        vec![(forever(), Part { panics: true, ..Part::default() })]
    }
    every_interleaving(guards, &[drops_first, term], |world, notes| {
        each_once(world, notes);
        let by_signal = world.guard(0).cause() != Some(&Cause::ScopeEnd);
        assert!(!by_signal || notes.deaths.contains(&Status::Failed), "{notes:?}");
    });
}

#[test]
fn an_old_handler_is_waited_for() {
    fn guards() -> Vec<(Settings, Part)> {
        let signals = [Signal::HUP].into_iter().collect();
        vec![(Settings { signals, ..forever() }, Part::default())]
    }
    fn hup(world: &LoomArc<World>) {
        world.signal(Signal::HUP, false);
    }
    every_interleaving(guards, &[drops_first, hup], |world, notes| {
        each_once(world, notes);
        let by_signal = world.guard(0).cause() != Some(&Cause::ScopeEnd);
        assert_eq!(u32::from(by_signal), notes.old_handlers, "{notes:?}");
    });
}

#[test]
fn a_repeat_ends_the_wait() {
    fn again(world: &LoomArc<World>) {
        world.signal(Signal::TERM, true);
    }
    every_interleaving(one, &[drops_first, again], each_once);
}

#[test]
fn disarm_against_a_signal() {
    fn disarms(world: &LoomArc<World>) {
        World::close(world, &world.guard(0), main_thread(), By::Disarm);
    }
    every_interleaving(one, &[disarms, term], |world, _| {
        let guard = world.guard(0);
        let begun = guard.work.begun.load(SeqCst);
        assert_eq!(begun == 1, guard.cause() != Some(&Cause::ScopeEnd));
    });
}

/// Waiters of two guards, of which one begins.
#[test]
fn who_waits_is_released_by_its_own_guard() {
    loom::model(|| {
        let world = World::new();
        let guards: Vec<_> = two()
            .into_iter()
            .map(|(settings, part)| Arc::new(Guard::new(settings, part)))
            .collect();
        for guard in &guards {
            let guarded = [Guarded::for_model(Signal::TERM, false)];
            let new = if guard.key() == guards[0].key() { &guarded[..] } else { &[] };
            world.machine.enter_with(guard, new, false);
        }
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let (world, guard) = (LoomArc::clone(&world), Arc::clone(&guards[0]));
                thread::spawn(move || {
                    assert_eq!(world.machine.wait_begun(&guard, None), Some(Cause::Requested));
                })
            })
            .collect();
        assert!(world.machine.request(&guards[0]));
        assert_eq!(guards[1].cause(), None);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}
