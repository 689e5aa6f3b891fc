//! Every interleaving of the threads of a guard, in miniature: `.ci/loom` runs these.
//!
//! What `scope` and `watcher` do with the machine is done here by a `World`, with
//! the operating system left out: a mailbox for the handler's, a flag for its wake-up. "The process
//! ends" is a note, after which the threads of a real process would be gone.

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic;
use loom::thread;

use super::*;
use crate::signal::Signal;

const DIES: Status = Status::Signal(Signal::TERM);

/// What began an exit: a signal, by its name here, or what else.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Why {
    Signal(u8),
    ScopeEnd,
    ProcessExit,
}

#[derive(Debug)]
struct Came(u8);

impl Arrives<Why> for Came {
    fn cause(&self) -> Why {
        Why::Signal(self.0)
    }
}

// All threads of a model are one of the system's.
pub(crate) const MAIN: Thread = Thread(1);
pub(crate) const WATCHER: Thread = Thread(2);
pub(crate) const OTHER: Thread = Thread(3);

/// What has happened in the world.
#[derive(Debug, Default)]
struct Notes {
    begun: u32,
    ended: u32,
    /// Signals the watcher, or whoever closed the scope, has dealt with.
    dealt_with: u32,
    /// Whose end of the process, or of the scope, this is.
    deaths: Vec<Status>,
    closed: u32,
}

struct World {
    machine: Machine<Why, Came>,
    mailbox: Mutex<Vec<Came>>,
    woken: Mutex<bool>,
    wakes: Condvar,
    notes: Mutex<Notes>,
    panics: bool,
    grace: Grace,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Grace {
    Zero,
    ForEver,
    /// A second signal ends it.
    Repeat,
}

impl World {
    fn new(grace: Grace, panics: bool) -> Arc<World> {
        Arc::new(World {
            machine: Machine::new(),
            mailbox: Mutex::new(Vec::new()),
            woken: Mutex::new(false),
            wakes: Condvar::new(),
            notes: Mutex::new(Notes::default()),
            panics,
            grace,
        })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    fn take(&self, into: &mut Vec<Came>) {
        into.append(&mut self.mailbox.lock().unwrap());
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

    fn signal(&self, name: u8) {
        self.mailbox.lock().unwrap().push(Came(name));
        self.post();
    }

    fn callback(&self) {
        self.notes().begun += 1;
        thread::yield_now();
        self.notes().ended += 1;
        self.machine.finish(self.panics);
    }

    /// The process ends, as far as this thread is concerned.
    fn dies(&self, status: Status) {
        self.notes().deaths.push(status);
    }

    /// `Watcher::run` and `Watcher::see_to_the_end`.
    fn watch(&self) {
        loop {
            match self.machine.watch(WATCHER, |into| self.take(into)) {
                Watch::Idle => self.wait(),
                Watch::Elsewhere => return,
                Watch::Run(_) => break self.callback(),
            }
        }
        let mut came = 0;
        loop {
            let mut arrived = Vec::new();
            let after = self.machine.after(&mut arrived, |into| self.take(into));
            came += arrived.len();
            self.notes().dealt_with += u32::try_from(arrived.len()).unwrap();
            let over = match self.grace {
                Grace::Zero => came > 0,
                Grace::ForEver => false,
                Grace::Repeat => came > 1,
            };
            let status = match after {
                After::Over => return,
                After::Closing(Closer::Inside) => return self.completes(),
                _ if self.panics => Status::Failed,
                After::Closing(_) => return,
                After::Open if over => DIES,
                After::Open => {
                    self.wait();
                    continue;
                }
            };
            if self.machine.force(WATCHER, status) {
                return self.dies(status);
            }
            if after != After::Open {
                return;
            }
        }
    }

    /// `Scope::close`, and `process_exit::at_process_exit`.
    fn close(&self, me: Thread, by: Closer) {
        let cause = match by {
            Closer::ProcessExit => Why::ProcessExit,
            _ => Why::ScopeEnd,
        };
        match self.machine.close(me, by, cause, |into| self.take(into)) {
            Close::Inside | Close::Ending => return,
            Close::Doomed(_) => return,
            Close::Late => {
                self.machine.wait_finished(me, None);
                return;
            }
            Close::Wait => {
                self.post();
                if let Waited::Doomed(_) = self.machine.wait_finished(me, None) {
                    return;
                }
            }
            Close::Disarmed => {}
            Close::Run => {
                self.post();
                self.callback();
            }
        }
        self.completes();
    }

    /// `Scope::complete`: from here on nobody else may be ending anything.
    fn completes(&self) {
        let mut late = Vec::new();
        self.take(&mut late);
        self.post();
        self.machine.end();
        let mut notes = self.notes();
        notes.closed += 1;
        notes.dealt_with += u32::try_from(late.len()).unwrap();
    }
}

/// Runs `threads` beside a watcher and looks at the world when all of them are done.
fn every_interleaving(
    grace: Grace,
    panics: bool,
    threads: &'static [fn(&World)],
    judge: fn(&World, &Notes),
) {
    loom::model(move || {
        let world = World::new(grace, panics);
        let start = |run: fn(&World)| {
            let world = Arc::clone(&world);
            thread::spawn(move || run(&world))
        };
        let mut started = vec![start(World::watch)];
        started.extend(threads[1..].iter().map(|run| start(*run)));
        threads[0](&world);
        for thread in started {
            thread.join().unwrap();
        }
        {
            let inner = world.machine.lock();
            assert_eq!((inner.waiting, inner.waiting_for_cause), (0, 0), "nobody waits");
        }
        let notes = world.notes();
        assert_eq!(notes.begun, notes.ended, "{notes:?}");
        assert!(notes.begun <= 1, "{notes:?}");
        judge(&world, &notes);
    });
}

fn once_and_one_end(_: &World, notes: &Notes) {
    assert_eq!(notes.begun, 1, "{notes:?}");
    assert_eq!(notes.closed + u32::try_from(notes.deaths.len()).unwrap(), 1, "{notes:?}");
}

fn drops(world: &World) {
    world.close(MAIN, Closer::Drop);
}

fn exits(world: &World) {
    world.close(OTHER, Closer::ProcessExit);
}

fn term(world: &World) {
    world.signal(1);
}

fn int(world: &World) {
    world.signal(2);
}

#[test]
fn drop_against_signal() {
    every_interleaving(Grace::Zero, false, &[drops, term], once_and_one_end);
    every_interleaving(Grace::ForEver, false, &[drops, term], |world, notes| {
        once_and_one_end(world, notes);
        assert_eq!(notes.closed, 1, "{notes:?}");
    });
}

#[test]
fn drop_against_process_exit() {
    every_interleaving(Grace::Zero, false, &[drops, exits], once_and_one_end);
}

#[test]
fn drop_against_signal_against_process_exit() {
    every_interleaving(Grace::Zero, false, &[drops, exits, term], once_and_one_end);
}

#[test]
fn no_signal_is_lost() {
    every_interleaving(Grace::ForEver, false, &[drops, term, int], |world, notes| {
        // Those that came after the end are for the restored dispositions.
        let late = u32::try_from(world.mailbox.lock().unwrap().len()).unwrap();
        let held = u32::try_from(world.machine.lock().arrived.len()).unwrap();
        assert_eq!(notes.dealt_with + held + late, 2, "{notes:?}");
        assert_eq!(notes.begun, 1, "{notes:?}");
    });
}

#[test]
fn a_repeat_against_the_end_of_the_grace() {
    every_interleaving(Grace::Repeat, false, &[drops, term, term], once_and_one_end);
}

#[test]
fn disarm_against_signal() {
    fn disarms(world: &World) {
        world.close(MAIN, Closer::Disarm);
    }
    every_interleaving(Grace::Zero, false, &[disarms, term], |world, notes| {
        if notes.begun == 1 {
            return once_and_one_end(world, notes);
        }
        // Disarmed: the signal is for the restored disposition.
        let late = u32::try_from(world.mailbox.lock().unwrap().len()).unwrap();
        assert_eq!((notes.closed, notes.dealt_with + late), (1, 1), "{notes:?}");
    });
}

#[test]
fn a_panicking_callback_with_waiters() {
    fn waits(world: &World) {
        match world.machine.wait_finished(OTHER, None) {
            Waited::Finished { panicked } => assert!(panicked),
            Waited::Doomed(status) => assert_eq!(status, Status::Failed),
            other => panic!("{other:?}"),
        }
    }
    every_interleaving(Grace::Zero, true, &[drops, waits, term], |world, notes| {
        assert_eq!(notes.begun, 1, "{notes:?}");
        // Nothing may go on after it, unless it was `drop` that ran it: there it unwinds.
        let by_watcher = matches!(world.machine.cause(), Some(Why::Signal(_)));
        let failed = notes.deaths == [Status::Failed];
        assert!(notes.closed == 1 || failed, "{notes:?}");
        assert!(!by_watcher || failed || notes.closed == 1, "{notes:?}");
    });
}

#[test]
fn a_timer_that_overruns_against_the_callbacks_end() {
    fn overruns(world: &World) {
        if world.machine.wait_running()
            && world.machine.force_overrun(OTHER, Status::Failed).is_some()
        {
            world.dies(Status::Failed);
        }
    }
    every_interleaving(Grace::Zero, false, &[drops, overruns], |_, notes| {
        assert_eq!(notes.begun, 1, "{notes:?}");
        assert!(notes.deaths.len() <= 1, "{notes:?}");
    });
    every_interleaving(Grace::Zero, false, &[drops, overruns, term], |_, notes| {
        assert_eq!(notes.begun, 1, "{notes:?}");
        assert!(notes.deaths.len() <= 1, "{notes:?}");
    });
}

#[test]
fn a_request_against_drop_against_a_signal() {
    fn requests(world: &World) {
        if world.machine.request(Why::Signal(0)) {
            world.post();
        }
    }
    every_interleaving(Grace::ForEver, false, &[drops, requests, term], once_and_one_end);
}
loom::lazy_static! {
    /// A model's clock: loom's own waits never end by themselves.
    static ref TIME_IS_UP: atomic::AtomicBool = atomic::AtomicBool::new(false);
}

pub(super) fn left_until(_: Instant) -> Duration {
    if TIME_IS_UP.load(Ordering::SeqCst) { Duration::ZERO } else { Duration::MAX }
}

fn time_is_up() {
    TIME_IS_UP.store(true, Ordering::SeqCst);
}

/// `waiters` wait for an exit that main begins; each with a deadline or without.
fn everybody_is_released(waiters: &'static [bool], main: fn(&World), beside: Option<fn()>) {
    loom::model(move || {
        let world = World::new(Grace::ForEver, false);
        let mut started: Vec<_> = waiters
            .iter()
            .map(|has_deadline| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    let deadline = has_deadline.then(Instant::now);
                    let cause = world.machine.wait_begun(deadline);
                    assert!(cause.is_some() || *has_deadline);
                })
            })
            .collect();
        started.extend(beside.map(thread::spawn));
        main(&world);
        for thread in started {
            thread.join().unwrap();
        }
        let inner = world.machine.lock();
        assert_eq!((inner.waiting, inner.waiting_for_cause), (0, 0));
    });
}

fn begins(world: &World) {
    assert!(world.machine.request(Why::Signal(0)));
}

#[test]
fn a_waiter_wakes_the_next() {
    everybody_is_released(&[false, false], begins, None);
    everybody_is_released(&[false, false, false], begins, None);
}

#[test]
fn a_waiter_wakes_the_next_however_the_exit_begins() {
    everybody_is_released(&[false, false], |world| world.close(MAIN, Closer::Disarm), None);
    everybody_is_released(&[false, false], |world| world.close(MAIN, Closer::Drop), None);
    everybody_is_released(
        &[false, false],
        |world| {
            world.signal(1);
            let watch = world.machine.watch(WATCHER, |into| world.take(into));
            assert_eq!(watch, Watch::Run(Why::Signal(1)));
        },
        None,
    );
}

/// The deadline passes while the wake-up is on its way: it must not be lost with that waiter.
#[test]
fn a_waiter_whose_time_is_up_wakes_the_next() {
    everybody_is_released(&[true, false], begins, Some(time_is_up));
    everybody_is_released(&[true, false, false], begins, Some(time_is_up));
}

/// The deadline passes, and then the exit begins.
#[test]
fn a_waiter_that_has_given_up_is_not_the_one_to_be_woken() {
    fn gives_up_then_begins(world: &World) {
        time_is_up();
        // As the timer of one waiter; whoever else it wakes goes back to sleep.
        world.machine.has_cause.notify_all();
        begins(world);
    }
    everybody_is_released(&[true, false], gives_up_then_begins, None);
    everybody_is_released(&[true, false, false], gives_up_then_begins, None);
}
