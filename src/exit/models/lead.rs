//! The lead: one watcher leads, what there is to do is not lost, and in the end all go.

use super::*;

/// A leader and a standby.
fn two_and_a_standby(world: &Arc<World>) {
    two(world);
    world.spawn_watcher();
}

fn requests_both(world: &Arc<World>) {
    world.request(0);
    world.request(1);
}

fn one_led(world: &World) {
    each_once_and_on(world);
    assert!(model::most_asleep() <= 1, "two lead");
}

#[test]
fn a_leader_and_a_standby() {
    every_interleaving(two_and_a_standby, &[drops_both, requests_both], one_led);
}

#[test]
fn a_signal_comes_while_a_callback_runs() {
    fn requests_and_term(world: &Arc<World>) {
        world.request(1);
        term(world);
    }
    every_interleaving(two_and_a_standby, &[drops_both, requests_and_term], one_led);
}

/// Nobody ends a scope: what the watchers do is all that is done.
#[test]
fn no_task_is_lost() {
    fn waits(world: &Arc<World>) {
        let mut state = world.exit.lock();
        let is_done = |state: &State| {
            let done = |(_, entry): (usize, &Entry)| entry.callback == Stage::Done;
            state.guards.iter().all(done)
        };
        while !is_done(&state) {
            (state, _) = world.exit.changed.wait(state, None);
        }
        state.watchers.dismiss();
        drop(state);
        wake::post();
    }
    every_interleaving(two_and_a_standby, &[waits, requests_both], one_led);
}

/// The watchers of the guard before may still be there.
#[test]
fn a_new_guard_after_the_last_one() {
    fn drops_and_makes_one(world: &Arc<World>) {
        world.close(0, By::Drop);
        world.install(1, forever(), nothing);
        world.spawn_watcher();
        world.request(1);
        world.close(1, By::Drop);
    }
    every_interleaving(one, &[drops_and_makes_one, term], each_once_and_on);
}

fn hangs(_: &Arc<World>) {
    model::park()
}

fn keys(_: &Arc<World>) {
    model::signal(Signal::INT, true);
    model::signal(Signal::INT, true);
}

#[test]
fn a_repeat_cuts_a_callback_that_hangs() {
    fn set_up(world: &Arc<World>) {
        let signals = SignalSet::of(&[Signal::INT]);
        world.install(0, Settings { repeat: Repeat::Force, signals, ..forever() }, hangs);
        world.may_cut.store(true, SeqCst);
        world.spawn_watcher();
        world.spawn_watcher();
    }
    every_interleaving(set_up, &[keys], |_| {
        assert_eq!(model::deaths(), [Status::Signal(Signal::INT)]);
    });
}

/// Nobody waits for it any more.
#[test]
fn a_callback_that_overruns() {
    fn set_up(world: &Arc<World>) {
        let callback_timeout = Some(Duration::ZERO);
        world.install(0, forever(), nothing);
        world.install(1, Settings { callback_timeout, ..forever() }, hangs);
        world.may_cut.store(true, SeqCst);
        world.spawn_watcher();
        world.spawn_watcher();
    }
    every_interleaving(set_up, &[requests_both], |world| {
        let deaths = model::deaths();
        assert!(deaths.iter().all(|status| *status == Status::Code(101)), "{deaths:?}");
        assert!(!deaths.is_empty());
    });
}
