//! The exactly-once machine: who runs the callback, and who ends the scope.
//!
//! It makes no call to the operating system and knows no signal, so a model checker can try every
//! interleaving (see the loom tests at the end). Two facts are kept under one lock:
//!
//! ```text
//! callback   Armed ──claim──> Running(thread) ──> Finished
//!              │ └──begin──> Begun ──watcher──┘ └──exit──> Exiting
//!              └────disarm──> Disarmed
//!
//! scope      Open ──> Closing(by) ──> Ended
//!              └──> Forced <──┘
//! ```
//!
//! * A thread claims before it runs, so the callback runs once. `Begun` is a claim on the watcher's
//!   behalf: the exit has a cause, and the watcher is about to run the callback.
//! * Whoever finds it claimed waits for `Finished`, except on the thread that runs the callback,
//!   where waiting for oneself would never end.
//! * The scope is closed by one thread and forced by one thread; who comes second waits for the
//!   first. `Forced` after `Closing` is for a callback that failed: its process must not go on.
//! * A panic in the callback is caught by whoever runs it and lands in `Finished`, so nobody waits
//!   for ever.
//!
//! The lock is never held while code of a user runs, so a poisoned lock means nothing here.

#[cfg(handle_exit_loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(handle_exit_loom))]
use std::sync::{Condvar, Mutex, MutexGuard};

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::policy::Status;

/// A thread, as the machine tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thread(usize);

impl Thread {
    /// The calling thread. Works where `std::thread::current` does not: in exit functions, after
    /// the thread's destructors have run.
    pub(crate) fn current() -> Thread {
        // One byte per thread without a destructor: its address is the thread's name while it lives.
        thread_local!(static MARK: u8 = const { 0 });
        MARK.with(|mark| Thread(std::ptr::from_ref(mark) as usize))
    }
}

/// Who closes a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closer {
    Drop,
    Finish,
    Disarm,
    ProcessExit,
    /// From inside the callback, or elsewhere on the watcher: whoever runs the callback finishes the
    /// closing after it.
    Inside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callback {
    Armed,
    Begun,
    Running(Thread),
    Finished {
        panicked: bool,
    },
    /// It called `process::exit`, and never returns.
    Exiting(Thread),
    Disarmed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Open,
    Closing(Closer),
    Forced(Thread, Status),
    Ended,
}

/// What the watcher is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watch<C> {
    /// Nothing has begun: sleep on.
    Idle,
    /// The watcher has claimed the callback: run it with this cause, then call [`Machine::finish`].
    Run(C),
    /// Another thread runs the callback, or ran it, or nobody will.
    Elsewhere,
}

/// What the thread that closes the scope is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// It has claimed the callback: run it, then call [`Machine::finish`].
    Run,
    /// The callback is, or was, another thread's: wait for it with [`Machine::wait_finished`].
    Wait,
    /// The callback will never run.
    Disarmed,
    /// This thread is inside the callback: leave, the closing happens after it.
    Inside,
    /// Another thread closes the scope, or has closed it: wait for the callback, do nothing else.
    Late,
    /// The process is being ended by another thread, this way: never return.
    Doomed(Status),
    /// The process is being ended by this thread: do nothing.
    Ending,
}

/// How a wait for the callback ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Finished {
        panicked: bool,
    },
    /// This thread runs the callback itself.
    Inside,
    /// The process is being ended by another thread, this way.
    Doomed(Status),
    TimedOut,
}

/// What the scope looks like after the callback, to the watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Open,
    Closing(Closer),
    /// Another thread ends the process, or the scope is over.
    Over,
}

/// `C` is the cause of an exit, `A` a signal that arrived.
#[derive(Debug)]
pub(crate) struct Machine<C, A> {
    inner: Mutex<Inner<C, A>>,
    changed: Condvar,
    /// For threads that wait for the exit to begin. There may be many: each wakes the next, so that
    /// they do not all compete with the callback.
    has_cause: Condvar,
    /// Whether there is a cause: for a look without the lock, which a forked child may never get.
    begun: AtomicBool,
}

#[derive(Debug)]
struct Inner<C, A> {
    callback: Callback,
    scope: Scope,
    cause: Option<C>,
    /// Signals taken from the handler and not yet seen by the watcher.
    arrived: Vec<A>,
    /// Threads in `changed`, so that nobody is notified in vain: that would be a system call.
    waiting: usize,
    /// Threads in `has_cause`.
    waiting_for_cause: usize,
}

/// A signal that arrived can be the cause of an exit.
pub(crate) trait Arrives<C> {
    fn cause(&self) -> C;
}

#[cfg(not(all(handle_exit_loom, test)))]
fn left_until(deadline: Instant) -> std::time::Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(all(handle_exit_loom, test))]
use models::left_until;

/// Waits on `condition`, at most until `deadline`; false once that has passed.
fn wait_on<'a, T>(
    condition: &Condvar,
    inner: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> (MutexGuard<'a, T>, bool) {
    let Some(deadline) = deadline else {
        return (condition.wait(inner).unwrap_or_else(PoisonError::into_inner), true);
    };
    let left = left_until(deadline);
    if left.is_zero() {
        return (inner, false);
    }
    let (inner, _) = condition.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner);
    (inner, true)
}

impl<C: Clone, A: Arrives<C>> Machine<C, A> {
    pub(crate) fn new() -> Machine<C, A> {
        Machine {
            inner: Mutex::new(Inner {
                callback: Callback::Armed,
                scope: Scope::Open,
                cause: None,
                // Now, and not when the first signal comes.
                arrived: Vec::with_capacity(2),
                waiting: 0,
                waiting_for_cause: 0,
            }),
            changed: Condvar::new(),
            has_cause: Condvar::new(),
            begun: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C, A>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock can be had at once. In a forked child no thread could ever give it back.
    pub(crate) fn is_free(&self) -> bool {
        self.inner.try_lock().is_ok()
    }

    /// Waits for the next change, at most until `deadline`; false once that has passed.
    fn wait_until<'a>(
        &self,
        mut inner: MutexGuard<'a, Inner<C, A>>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, Inner<C, A>>, bool) {
        inner.waiting += 1;
        let (mut inner, in_time) = wait_on(&self.changed, inner, deadline);
        inner.waiting -= 1;
        (inner, in_time)
    }

    /// Call after every change, with the lock held.
    fn notify(&self, inner: &Inner<C, A>) {
        if inner.cause.is_some() {
            self.begun.store(true, Ordering::SeqCst);
            if inner.waiting_for_cause > 0 {
                self.has_cause.notify_one();
            }
        }
        if inner.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Begins the exit from code; the watcher runs the callback. False if it had begun already.
    pub(crate) fn request(&self, cause: C) -> bool {
        let mut inner = self.lock();
        let begins = inner.callback == Callback::Armed && inner.scope == Scope::Open;
        if begins {
            inner.callback = Callback::Begun;
            inner.cause = Some(cause);
            self.notify(&inner);
        }
        begins
    }

    /// The watcher woke up: `take` moves the signals that came out of the handler's hands.
    pub(crate) fn watch(&self, me: Thread, take: impl FnOnce(&mut Vec<A>)) -> Watch<C> {
        let mut inner = self.lock();
        match inner.callback {
            // Closing with the callback still armed does not happen: closing claims, begins or
            // disarms it under the same lock.
            Callback::Armed => {
                take(&mut inner.arrived);
                inner.cause = inner.arrived.first().map(Arrives::cause);
            }
            Callback::Begun => {}
            Callback::Running(_)
            | Callback::Exiting(_)
            | Callback::Finished { .. }
            | Callback::Disarmed => {
                return Watch::Elsewhere;
            }
        }
        let Some(cause) = inner.cause.clone() else { return Watch::Idle };
        inner.callback = Callback::Running(me);
        self.notify(&inner);
        Watch::Run(cause)
    }

    /// The scope ends. `cause` is what began the exit if nothing else has; `take` as in
    /// [`watch`](Machine::watch): a signal that came before the scope ended is the exit's, one that
    /// comes later is not.
    pub(crate) fn close(
        &self,
        me: Thread,
        by: Closer,
        cause: C,
        take: impl FnOnce(&mut Vec<A>),
    ) -> Close {
        let mut inner = self.lock();
        if by == Closer::ProcessExit && inner.callback == Callback::Running(me) {
            inner.callback = Callback::Exiting(me);
        }
        match inner.scope {
            Scope::Open => {}
            Scope::Forced(thread, _) if thread == me => return Close::Ending,
            Scope::Forced(_, status) => return Close::Doomed(status),
            Scope::Closing(_) | Scope::Ended => return Close::Late,
        }
        inner.scope = Scope::Closing(by);
        if by == Closer::Inside {
            return Close::Inside;
        }
        take(&mut inner.arrived);
        let close = match inner.callback {
            Callback::Armed => match inner.arrived.first().map(Arrives::cause) {
                Some(signal) => {
                    inner.cause = Some(signal);
                    inner.callback = Callback::Begun;
                    Close::Wait
                }
                None if by == Closer::Disarm => {
                    inner.cause = Some(cause);
                    inner.callback = Callback::Disarmed;
                    Close::Disarmed
                }
                None => {
                    inner.cause = Some(cause);
                    inner.callback = Callback::Running(me);
                    Close::Run
                }
            },
            Callback::Exiting(thread) if thread == me => Close::Inside,
            Callback::Running(thread) if thread == me => {
                inner.scope = Scope::Closing(Closer::Inside);
                Close::Inside
            }
            Callback::Begun
            | Callback::Running(_)
            | Callback::Exiting(_)
            | Callback::Finished { .. }
            | Callback::Disarmed => Close::Wait,
        };
        self.notify(&inner);
        close
    }

    /// The thread that claimed the callback has run it.
    pub(crate) fn finish(&self, panicked: bool) {
        let mut inner = self.lock();
        inner.callback = Callback::Finished { panicked };
        self.notify(&inner);
    }

    /// What the watcher finds after the callback. Signals that came while the scope is open are the
    /// exit's; `take` is not asked for later ones. What has arrived is moved into `arrived`.
    pub(crate) fn after(&self, arrived: &mut Vec<A>, take: impl FnOnce(&mut Vec<A>)) -> After {
        let mut inner = self.lock();
        let after = match inner.scope {
            Scope::Open => {
                take(&mut inner.arrived);
                After::Open
            }
            Scope::Closing(by) => After::Closing(by),
            Scope::Forced(..) | Scope::Ended => After::Over,
        };
        arrived.append(&mut inner.arrived);
        after
    }

    /// This thread is going to end the process. False if the scope has begun to end by itself
    /// (unless the callback failed: after that nothing may go on), or is over.
    pub(crate) fn force(&self, me: Thread, status: Status) -> bool {
        let mut inner = self.lock();
        let may = match inner.scope {
            Scope::Open => true,
            // `finish` reports the failure, and the exit hook ends with 101, on their own threads.
            Scope::Closing(Closer::Finish | Closer::ProcessExit) => false,
            Scope::Closing(_) => status == Status::Failed,
            Scope::Forced(..) | Scope::Ended => false,
        };
        if may {
            inner.scope = Scope::Forced(me, status);
            self.notify(&inner);
        }
        may
    }

    /// The callback has overrun its time: this thread is going to end the process, whoever waits
    /// for the callback. `None` if it has finished after all, or another thread ends the process;
    /// else whether a thread is inside `process::exit`.
    pub(crate) fn force_overrun(&self, me: Thread, status: Status) -> Option<bool> {
        let mut inner = self.lock();
        let exiting = match (inner.callback, inner.scope) {
            (Callback::Running(_), Scope::Open) => false,
            (Callback::Running(_), Scope::Closing(by)) => by == Closer::ProcessExit,
            _ => return None,
        };
        inner.scope = Scope::Forced(me, status);
        self.notify(&inner);
        Some(exiting)
    }

    /// The scope is over: whoever still waits is released.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        inner.scope = Scope::Ended;
        self.notify(&inner);
    }

    /// Makes a scope that was given up before the exit began usable again.
    pub(crate) fn reopen(&self) {
        self.lock().scope = Scope::Open;
    }

    /// Waits until the callback has run, at most until `deadline`.
    pub(crate) fn wait_finished(&self, me: Thread, deadline: Option<Instant>) -> Waited {
        let mut inner = self.lock();
        loop {
            match (inner.callback, inner.scope) {
                (Callback::Finished { panicked }, _) => return Waited::Finished { panicked },
                (Callback::Disarmed, _) | (_, Scope::Ended) => {
                    return Waited::Finished { panicked: false };
                }
                (Callback::Running(thread) | Callback::Exiting(thread), _) if thread == me => {
                    return Waited::Inside;
                }
                (_, Scope::Forced(thread, _)) if thread == me => return Waited::Inside,
                (_, Scope::Forced(_, status)) => return Waited::Doomed(status),
                (
                    Callback::Armed | Callback::Begun | Callback::Running(_) | Callback::Exiting(_),
                    _,
                ) => {}
            }
            let (next, in_time) = self.wait_until(inner, deadline);
            inner = next;
            if !in_time {
                return Waited::TimedOut;
            }
        }
    }

    /// Waits until the callback has run, for a thread of the guard's; whether the guard itself (not
    /// `process::exit`, and not a disarmed one) closes the scope.
    pub(crate) fn wait_closed_by_guard(&self, me: Thread) -> bool {
        let waited = self.wait_finished(me, None);
        let inner = self.lock();
        matches!(waited, Waited::Finished { .. })
            && inner.callback != Callback::Disarmed
            && matches!(inner.scope, Scope::Closing(by) if by != Closer::ProcessExit)
    }

    /// Waits until the callback runs; false if it never will.
    pub(crate) fn wait_running(&self) -> bool {
        let mut inner = self.lock();
        loop {
            match inner.callback {
                Callback::Running(_) | Callback::Exiting(_) => return true,
                Callback::Finished { .. } | Callback::Disarmed => return false,
                Callback::Armed | Callback::Begun if inner.scope == Scope::Ended => return false,
                Callback::Armed | Callback::Begun => inner = self.wait_until(inner, None).0,
            }
        }
    }

    /// Waits until the exit begins, at most until `deadline`.
    pub(crate) fn wait_begun(&self, deadline: Option<Instant>) -> Option<C> {
        let mut inner = self.lock();
        let mut in_time = true;
        while inner.cause.is_none() && in_time {
            inner.waiting_for_cause += 1;
            (inner, in_time) = wait_on(&self.has_cause, inner, deadline);
            inner.waiting_for_cause -= 1;
        }
        // Also passes on a wake-up that came together with the deadline.
        self.notify(&inner);
        inner.cause.clone()
    }

    /// What began the exit, if it has begun.
    pub(crate) fn cause(&self) -> Option<C> {
        self.lock().cause.clone()
    }

    /// Whether the exit has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Whether the callback panicked.
    pub(crate) fn panicked(&self) -> bool {
        self.lock().callback == Callback::Finished { panicked: true }
    }

    /// Whether the scope is over.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().scope == Scope::Ended
    }

    /// Lets `look` see the signals that came and that the watcher has not dealt with yet.
    pub(crate) fn with_arrived(&self, look: impl FnOnce(&mut [A])) {
        look(&mut self.lock().arrived);
    }
}

/// Every interleaving of the threads of a guard, in miniature: `.ci/loom` runs these.
///
/// What `scope` and `watcher` do with the machine is done here by a [`World`](models::World), with
/// the operating system left out: a mailbox for the handler's, a flag for its wake-up. "The process
/// ends" is a note, after which the threads of a real process would be gone.
#[cfg(all(handle_exit_loom, test))]
pub(crate) mod models {
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
}
