//! The claim: a callback runs once, and nobody passes it before it has returned.

use super::*;

#[test]
fn a_signal_against_the_end_of_the_scope() {
    every_interleaving(one, &[drops_first, term], each_once_and_on);
}

#[test]
fn a_signal_against_the_end_of_the_scope_that_does_not_wait() {
    every_interleaving(one, &[drops_first_at_once, term], each_once_and_on);
}

#[test]
fn a_request_against_the_end_of_the_scope() {
    fn requests(world: &Arc<World>) {
        world.request(0);
    }
    every_interleaving(one, &[drops_first, requests], |world| {
        each_once_and_on(world);
        let cause = world.guard(0).cause().cloned();
        assert!(matches!(cause, Some(Cause::ScopeEnd | Cause::Requested)), "{cause:?}");
    });
}

#[test]
fn two_scopes_end_in_any_order() {
    every_interleaving(two, &[drops_first, drops_second, term], |world| {
        each_once_and_on(world);
        let by_signal = |at: usize| world.guard(at).cause() != Some(&Cause::ScopeEnd);
        if by_signal(0) && by_signal(1) {
            assert_eq!(world.order(), [1, 0], "the newest first");
        }
    });
}

#[test]
fn the_end_of_the_process_against_the_end_of_the_scope() {
    every_interleaving(one, &[drops_first, ends], |world| one_death(world, Status::Code(3)));
}

#[test]
fn an_exit_against_the_end_of_the_scope() {
    every_interleaving(one, &[drops_first, exits], |world| one_death(world, Status::Code(4)));
}

#[test]
fn an_exit_against_the_end_of_the_scope_and_a_signal() {
    every_interleaving(one, &[drops_first_at_once, exits, term], |world| {
        one_death(world, Status::Code(4));
    });
}

#[test]
fn a_guard_dropped_in_its_own_callback() {
    fn set_up(world: &Arc<World>) {
        world.install(0, forever(), |world| {
            let closed = world.exit.here().close(&world.guard(0), By::Drop, Cause::ScopeEnd);
            assert!(closed.is_ok_and(|closed| closed.ended.is_none()));
        });
        world.spawn_watcher();
    }
    every_interleaving(set_up, &[drops_first, term], each_once_and_on);
}

#[test]
fn disarm_against_a_signal() {
    fn disarms(world: &Arc<World>) {
        world.close(0, By::Disarm);
    }
    every_interleaving(one, &[disarms, term], |world| {
        world.each_has_returned();
        let begun = world.parts[0].begun.load(SeqCst);
        assert_eq!(begun == 1, world.guard(0).cause() != Some(&Cause::ScopeEnd));
    });
}

fn exits_at_the_event(world: &Arc<World>, settings: Settings) {
    let exits = |event: &Event| {
        if matches!(event, Event::CallbackStarted(_)) && !system::thread::is_inside_exit() {
            model::exit(7);
        }
    };
    let observer = Observer(Some(Box::new(exits)));
    world.install_observed(0, settings, nothing, observer);
    world.spawn_watcher();
}

/// Nobody has claimed the callback yet: the exit runs it.
#[test]
fn an_observer_exits_before_the_callback() {
    fn set_up(world: &Arc<World>) {
        exits_at_the_event(world, forever());
    }
    every_interleaving(set_up, &[drops_first, term], |world| one_death(world, Status::Code(7)));
}

/// The standard library keeps the observer's thread waiting, or the other one.
#[test]
fn an_observer_exits_while_another_thread_does() {
    fn set_up(world: &Arc<World>) {
        exits_at_the_event(world, forever());
    }
    every_interleaving(set_up, &[exits, term], |world| {
        each_once(world);
        assert_eq!(model::deaths().len(), 1);
    });
}

#[test]
fn who_waits_for_the_exit_is_released() {
    fn waits(world: &Arc<World>) {
        assert!(world.exit.wait_begun(&world.guard(0), None).is_some());
    }
    every_interleaving(one, &[drops_first, waits, term], each_once_and_on);
}

/// The watcher is in a callback that waits for this very thread, which does not wait for its turn any longer.
#[test]
fn a_callback_that_waits_for_the_end_of_another_scope() {
    fn set_up(world: &Arc<World>) {
        world.install(0, forever(), nothing);
        world.install(1, forever(), |world| {
            let mut state = world.exit.lock();
            let is_there = |state: &State| state.guards.iter().count() > 1;
            while is_there(&state) {
                (state, _) = world.exit.changed.wait(state, None);
            }
        });
        world.spawn_watcher();
    }
    fn drops_both_at_once(world: &Arc<World>) {
        drops_first_at_once(world);
        // The program's own way to tell the callback.
        let state = world.exit.lock();
        world.exit.changed.notify_all();
        drop(state);
        world.close(1, By::Drop);
    }
    fn requests(world: &Arc<World>) {
        world.request(1);
        world.request(0);
    }
    every_interleaving(set_up, &[drops_both_at_once, requests], each_once_and_on);
}

/// A turn is taken from a thread that never comes to the callback, as it seems. If it does, it finds that out.
#[test]
fn a_turn_that_is_taken_over() {
    fn claims(world: &Arc<World>) {
        let me = Runner::current();
        let key = world.guard(0).key();
        let mut state = world.exit.lock();
        let callback = state.guards.get(key).map(|entry| entry.callback);
        if matches!(callback, Some(Stage::Armed | Stage::Turn(_))) {
            state.take_turn(key, me, Cause::ScopeEnd);
        }
        drop(state);
        if world.exit.lock().claim(key, me) {
            world.callback(0, nothing);
        }
    }
    fn set_up(world: &Arc<World>) {
        world.install(0, forever(), nothing);
    }
    every_interleaving(set_up, &[claims, claims, claims], each_once_and_on);
}

/// The outer guard stays: no watcher leaves, and tells those that wait.
#[test]
fn the_end_of_the_process_against_the_end_of_an_inner_scope() {
    every_interleaving(two, &[drops_second, ends], |world| one_death(world, Status::Code(3)));
}
