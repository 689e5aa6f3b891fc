//! The cases: which threads meet, and what must be true when all are done.

use super::*;

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
            let (begun, ended) = (guard.work.begun.load(SeqCst), guard.work.ended.load(SeqCst));
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
