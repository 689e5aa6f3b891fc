//! The end of the process: one thread comes to it, and a failure beats every status.

use super::*;

/// `Outcome::end_process`, with another status than `ends`.
fn ends_otherwise(world: &Arc<World>) {
    let status = Status::Code(5);
    let _ = world.exit.here().end_process(status, &Cause::ScopeEnd);
    process::end(status)
}

/// One thread came to the last step, with one of these. Or two, with the same signal: a thread inside `exit(3)` takes
/// the end over from one that is about to raise it.
fn one_death_of(world: &World, statuses: &[Status]) {
    each_once(world);
    let mut deaths = model::deaths();
    if matches!(deaths[..], [Status::Signal(one), Status::Signal(other)] if one == other) {
        deaths.pop();
    }
    assert!(matches!(deaths[..], [status] if statuses.contains(&status)), "{deaths:?}");
}

#[test]
fn two_threads_end_the_process() {
    every_interleaving(one, &[ends, ends_otherwise], |world| {
        one_death_of(world, &[Status::Code(3), Status::Code(5)]);
    });
}

#[test]
fn one_of_them_exits() {
    every_interleaving(one, &[ends, exits], |world| {
        one_death_of(world, &[Status::Code(3), Status::Code(4)]);
    });
}

#[test]
fn two_exit() {
    fn exits_otherwise(_: &Arc<World>) {
        model::exit(5)
    }
    every_interleaving(one, &[exits, exits_otherwise], |world| {
        one_death_of(world, &[Status::Code(4), Status::Code(5)]);
    });
}

#[test]
fn a_signal_ends_the_process_unless_the_scope_has_ended() {
    fn set_up(world: &Arc<World>) {
        world.install(0, cleanup(), nothing);
        world.spawn_watcher();
    }
    every_interleaving(set_up, &[drops_first, term], |world| {
        each_once(world);
        let by_signal = world.guard(0).cause() != Some(&Cause::ScopeEnd);
        let deaths: &[Status] = if by_signal { &[Status::Signal(Signal::TERM)] } else { &[] };
        assert_eq!(model::deaths(), deaths);
    });
}

#[test]
fn a_signal_ends_the_process_while_it_exits() {
    fn set_up(world: &Arc<World>) {
        world.install(0, cleanup(), nothing);
        world.spawn_watcher();
    }
    every_interleaving(set_up, &[exits, term], |world| {
        one_death_of(world, &[Status::Code(4), Status::Signal(Signal::TERM)]);
    });
}

#[test]
fn three_threads_end_the_process() {
    fn set_up(world: &Arc<World>) {
        world.install(0, cleanup(), nothing);
        world.spawn_watcher();
    }
    every_interleaving(set_up, &[exits, ends, term], |world| {
        let statuses = [Status::Code(3), Status::Code(4), Status::Signal(Signal::TERM)];
        one_death_of(world, &statuses);
    });
}

fn panics(world: &Arc<World>) {
    world.parts[0].ended.fetch_add(1, SeqCst);
    std::panic::resume_unwind(Box::new("the callback panics"));
}

fn one_that_panics(world: &Arc<World>) {
    world.install(0, forever(), panics);
    world.spawn_watcher();
}

fn requests(world: &Arc<World>) {
    world.request(0);
}

#[test]
fn a_failure_beats_a_status() {
    every_interleaving(one_that_panics, &[ends, requests], |world| {
        one_death(world, Status::Code(101));
    });
}

#[test]
fn a_failure_beats_an_exit() {
    every_interleaving(one_that_panics, &[exits, requests], |world| {
        one_death(world, Status::Code(101));
    });
}

/// Once the callback has been called by the watcher nothing may continue.
#[test]
fn a_failure_against_the_end_of_the_scope() {
    every_interleaving(one_that_panics, &[drops_first, requests], |world| {
        each_once(world);
        let requested = world.guard(0).cause() == Some(&Cause::Requested);
        let deaths: &[Status] = if requested { &[Status::Code(101)] } else { &[] };
        assert_eq!(model::deaths(), deaths);
    });
}

/// On a watcher; inside `process::exit` the standard library would abort.
fn exits_itself(world: &Arc<World>) {
    if !system::thread::is_inside_exit() {
        world.parts[0].ended.fetch_add(1, SeqCst);
        world.has_exited.store(true, SeqCst);
        model::exit(7);
    }
}

fn one_that_exits(world: &Arc<World>) {
    world.install(0, forever(), exits_itself);
    world.spawn_watcher();
}

#[test]
fn a_callback_that_exits_against_the_end_of_the_scope() {
    every_interleaving(one_that_exits, &[drops_first, requests], |world| {
        one_death(world, Status::Code(7));
    });
}

#[test]
fn a_callback_that_exits_against_the_end_of_the_process() {
    every_interleaving(one_that_exits, &[ends, requests], |world| {
        one_death(world, Status::Code(7));
    });
}

/// Where the standard library keeps it waiting, the other one continues without it.
#[test]
fn a_callback_that_exits_against_another_exit() {
    every_interleaving(one_that_exits, &[exits, requests], |world| {
        let has_exited = world.has_exited.load(SeqCst);
        let statuses = [Status::Code(4), Status::Code(7)];
        one_death_of(world, if has_exited { &statuses } else { &statuses[..1] });
    });
}

/// `handle_exit::exit` and the like: on a thread inside of `exit(3)`, too.
fn ends_itself(world: &Arc<World>) {
    world.parts[0].ended.fetch_add(1, SeqCst);
    world.has_exited.store(true, SeqCst);
    world.exit.here().end_here(Status::Code(5), &Cause::Requested)
}

fn one_that_ends_itself(world: &Arc<World>) {
    world.install(0, forever(), ends_itself);
    world.spawn_watcher();
}

/// The thread that exits first takes the last step, if the callback runs at all on the watcher.
#[test]
fn a_callback_that_ends_the_process_against_an_exit() {
    every_interleaving(one_that_ends_itself, &[exits, requests], |world| {
        one_death(world, Status::Code(5));
    });
}

#[test]
fn a_callback_that_ends_the_process_against_the_end_of_the_scope_and_an_exit() {
    bounded(2, one_that_ends_itself, &[drops_first, exits, requests], |world| {
        one_death(world, Status::Code(5));
    });
}

#[test]
fn an_overrun_beats_a_status() {
    fn set_up(world: &Arc<World>) {
        let callback_timeout = Some(Duration::ZERO);
        world.install(0, Settings { callback_timeout, ..forever() }, |_| model::park());
        world.may_cut.store(true, SeqCst);
        world.request(0);
        world.spawn_watcher();
        world.spawn_watcher();
    }
    bounded(1, set_up, &[ends], |_| {
        let deaths = model::deaths();
        assert!(deaths.iter().all(|status| *status == Status::Code(101)), "{deaths:?}");
        assert!(!deaths.is_empty());
    });
}
