//! What the threads of a model do, and what has to be so in the end.

use super::*;

/// With all the time in the world.
pub(super) fn forever() -> Settings {
    Settings {
        append: true,
        grace: Duration::MAX,
        signals: SignalSet::of(&[Signal::TERM]),
        after_scope: Some(AfterScope::Continue),
        ..Settings::default()
    }
}

/// `HandleExit::cleanup`
pub(super) fn cleanup() -> Settings {
    Settings { grace: Duration::ZERO, after_scope: Some(AfterScope::End), ..forever() }
}

pub(super) fn nothing(_: &Arc<World>) {}

/// One guard and a watcher.
pub(super) fn one(world: &Arc<World>) {
    world.install(0, forever(), nothing);
    world.spawn_watcher();
}

/// One guard inside another.
pub(super) fn two(world: &Arc<World>) {
    world.install(0, forever(), nothing);
    world.install(1, forever(), nothing);
    world.spawn_watcher();
}

pub(super) fn drops_first(world: &Arc<World>) {
    world.close(0, By::Drop);
}

pub(super) fn drops_second(world: &Arc<World>) {
    world.close(1, By::Drop);
}

pub(super) fn drops_both(world: &Arc<World>) {
    world.close(1, By::Drop);
    world.close(0, By::Drop);
}

/// It does not wait for the watcher: a second has passed.
pub(super) fn drops_first_at_once(world: &Arc<World>) {
    model::be_impatient();
    world.close(0, By::Drop);
}

pub(super) fn term(_: &Arc<World>) {
    model::signal(Signal::TERM, false);
}

/// `std::process::exit`
pub(super) fn exits(_: &Arc<World>) {
    model::exit(4)
}

/// `Outcome::end_process`
pub(super) fn ends(world: &Arc<World>) {
    let status = Status::Code(3);
    let _ = world.exit.here().end_process(status, &Cause::ScopeEnd);
    process::end(status)
}

/// Every callback has run once.
pub(super) fn each_once(world: &World) {
    world.each_has_returned();
    for at in 0..world.guards.lock().unwrap().len() {
        assert_eq!(world.parts[at].begun.load(SeqCst), 1, "callback {at}");
    }
}

/// That, and nobody has ended the process.
pub(super) fn each_once_and_on(world: &World) {
    each_once(world);
    assert_eq!(model::deaths(), []);
}

/// One thread ends the process, after every callback has run once.
pub(super) fn one_death(world: &World, status: Status) {
    each_once(world);
    assert_eq!(model::deaths(), [status]);
}
