//! The system as loom's models have it: threads, the wake-up, the clock of those who wait, and the end of the
//! process. `.ci/loom` builds the crate with it.
//!
//! The handler is the real one, but as one step. A thread that ends the process is given as much time for
//! that as all others can make use of: what they do meanwhile is looked at too. Then they are gone, each where it
//! is: it unwinds, and is taken for a forked child where user code returns.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdMutexGuard};
use std::time::{Duration, Instant};

use loom::sync::{Condvar, Mutex};

use super::siginfo::{Delivery, SigInfo};
use super::{process, slot};
use crate::signal::Signal;
use crate::sys::status::Status;

type Hook = Arc<dyn Fn() + Send + Sync>;

/// What is known of the process. Only `word` and `woken` are loom's: no thread is preempted while it looks at the
/// rest.
#[derive(Default)]
struct System {
    threads: AtomicUsize,
    /// Those inside `exit(3)`, the one that `std` lets in first.
    inside_exit: StdMutex<Vec<usize>>,
    /// A wake-up is due.
    word: Mutex<bool>,
    woken: Condvar,
    /// How many sleep, and the most that ever did.
    asleep: AtomicUsize,
    most_asleep: AtomicUsize,
    /// How the process has ended; two if two threads came to the last step.
    deaths: StdMutex<Vec<Status>>,
    is_over: AtomicBool,
    /// Signals that were handed to the restored disposition.
    late: StdMutex<Vec<Signal>>,
    hooks: StdMutex<Option<Hooks>>,
}

#[derive(Clone)]
struct Hooks {
    /// Wakes all that wait, as if their time were over.
    wake_all: Hook,
    /// The exit function.
    at_exit: Hook,
    /// Looks at what has run when the process ends.
    at_death: Hook,
}

loom::lazy_static! {
    static ref SYSTEM: System = System::default();
}

loom::thread_local! {
    static THREAD: Cell<usize> = Cell::new(0);
    static DEPTH: Cell<u32> = Cell::new(0);
    static IS_IMPATIENT: Cell<bool> = Cell::new(false);
}

/// Whether the handler runs, which posts when it is done. All threads of a model are one of the system's.
static IN_HANDLER: AtomicBool = AtomicBool::new(false);

fn locked<T>(mutex: &StdMutex<T>) -> StdMutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn hooks() -> Hooks {
    locked(&SYSTEM.hooks).clone().expect("begin was called")
}

/// A process begins, with these signals at rest.
pub(crate) fn begin(signals: &[Signal], wake_all: Hook, at_exit: Hook, at_death: Hook) {
    slot::claim_process(process::this());
    for signal in signals {
        slot::slot_of(*signal).disarm();
    }
    *locked(&SYSTEM.hooks) = Some(Hooks { wake_all, at_exit, at_death });
}

/// Runs a thread until it returns, or is gone with the process.
pub(crate) fn run(thread: impl FnOnce()) {
    let result = catch_unwind(AssertUnwindSafe(thread));
    if let Err(payload) = result {
        if !payload.is::<Gone>() {
            resume_unwind(payload);
        }
    }
}

/// What a thread unwinds with that is gone with the process.
struct Gone;

fn vanish() -> ! {
    resume_unwind(Box::new(Gone))
}

pub(crate) fn is_over() -> bool {
    SYSTEM.is_over.load(SeqCst)
}

/// Before and after a wait: with its process the thread is gone, and `lock` is free.
pub(crate) fn unless_over<T>(lock: T) -> T {
    if is_over() {
        drop(lock);
        vanish();
    }
    lock
}

/// Which thread this is, from 1.
pub(crate) fn thread() -> usize {
    THREAD.with(|thread| {
        if thread.get() == 0 {
            thread.set(SYSTEM.threads.fetch_add(1, SeqCst) + 1);
        }
        thread.get()
    })
}

pub(crate) struct Depth;

/// In place of the thread-local of the same name.
pub(crate) static EXIT_DEPTH: Depth = Depth;

impl Depth {
    pub(crate) fn get(&self) -> u32 {
        DEPTH.with(Cell::get)
    }

    pub(crate) fn set(&self, depth: u32) {
        DEPTH.with(|kept| kept.set(depth));
    }
}

pub(crate) fn is_inside_exit(thread: usize) -> bool {
    locked(&SYSTEM.inside_exit).contains(&thread)
}

/// From now on this thread waits for nothing longer than that may take.
pub(crate) fn be_impatient() {
    IS_IMPATIENT.with(|is_impatient| is_impatient.set(true));
}

/// How long this thread has waited: long enough to look whether what it waits for can still come.
pub(crate) fn waited() -> Duration {
    let is_impatient = IS_IMPATIENT.with(Cell::get);
    if is_impatient { Duration::from_secs(100) } else { Duration::from_millis(900) }
}

/// The kernel calls the handler. False if the signal is the old disposition's.
pub(crate) fn signal(signal: Signal, is_from_kernel: bool) -> bool {
    let mut info = SigInfo::unknown();
    if is_from_kernel {
        info.0.si_code = 0x80;
    }
    IN_HANDLER.store(true, SeqCst);
    let (info, context) = (&raw mut info.0, std::ptr::null_mut());
    let delivery = Delivery { raw: signal.as_raw(), info, context };
    let arrived = slot::slot_of(signal).arrive(Some(0), &delivery);
    IN_HANDLER.store(false, SeqCst);
    if arrived.is_some() {
        post();
    }
    arrived.is_some()
}

pub(crate) fn post() {
    if IN_HANDLER.load(SeqCst) {
        return;
    }
    let mut word = SYSTEM.word.lock().unwrap();
    *word = true;
    SYSTEM.woken.notify_all();
}

/// There is no time: a deadline has passed already, or never does.
pub(crate) fn wait(deadline: Option<Instant>) {
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return;
    }
    let mut word = SYSTEM.word.lock().unwrap();
    if !*word && !is_over() {
        let asleep = SYSTEM.asleep.fetch_add(1, SeqCst) + 1;
        SYSTEM.most_asleep.fetch_max(asleep, SeqCst);
        word = SYSTEM.woken.wait(word).unwrap();
        SYSTEM.asleep.fetch_sub(1, SeqCst);
    }
    *word = false;
    unless_over(word);
}

/// The most threads that slept at once.
pub(crate) fn most_asleep() -> usize {
    SYSTEM.most_asleep.load(SeqCst)
}

pub(crate) fn hand_over(signal: Signal) {
    locked(&SYSTEM.late).push(signal);
}

pub(crate) fn late() -> Vec<Signal> {
    locked(&SYSTEM.late).clone()
}

/// `std::process::exit`, which keeps a second thread waiting.
pub(crate) fn exit(code: i32) -> ! {
    let me = thread();
    let is_first = {
        let mut inside_exit = locked(&SYSTEM.inside_exit);
        assert!(!inside_exit.contains(&me), "std aborts");
        inside_exit.push(me);
        inside_exit.len() == 1
    };
    if !is_first {
        // Others look at times whether this thread is here.
        (hooks().wake_all)();
        park();
    }
    (hooks().at_exit)();
    dies(Status::Code(code))
}

/// Until the process is over.
pub(crate) fn park() -> ! {
    let mut word = SYSTEM.word.lock().unwrap();
    while !is_over() {
        word = SYSTEM.woken.wait(word).unwrap();
    }
    drop(word);
    vanish()
}

/// The process ends like that.
pub(crate) fn dies(status: Status) -> ! {
    if is_over() {
        vanish();
    }
    locked(&SYSTEM.deaths).push(status);
    (hooks().at_death)();
    // Only when no other thread can go on, this one does.
    loom::thread::yield_now();
    SYSTEM.is_over.store(true, SeqCst);
    post();
    (hooks().wake_all)();
    vanish()
}

pub(crate) fn deaths() -> Vec<Status> {
    locked(&SYSTEM.deaths).clone()
}
