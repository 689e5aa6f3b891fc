//! The function the kernel calls, and the statics it may touch.
//!
//! # What the handler does
//! A guarded signal is put into its mailbox and the watcher is woken. Nothing else happens here:
//! no allocation, no lock, no loop, no panic. (One thread waits in here: one that called `abort(3)`, for
//! a bounded time, with nothing left to do but die.) The calls it makes, with the page that allows each:
//!
//! | call | why it may be made |
//! |---|---|
//! | `getpid` (as `std::process::id`), `clock_gettime`, `sem_post` (Apple: `write`) | signal-safety(7) |
//! | `sigaction`, `pthread_sigmask`, `pthread_kill`, `poll`, `_exit` | signal-safety(7); only where the signal is not the guard's to keep |
//! | `pthread_self` | signal-safety(7), POSIX.1-2008 TC1 |
//! | `rt_tgsigqueueinfo` | a plain system call (Linux) |
//!
//! # The mailbox
//! As the kernel does for pending standard signals, a mailbox holds one signal of a kind; those that
//! come while it is full are merged into it, and only the time of the last one is kept.
//!
//! ```text
//! EMPTY ──handler──> WRITING ──handler──> FULL ──take──> EMPTY
//! ```
//!
//! Several threads may be in the handler for one signal at once: the step to WRITING picks the one
//! that writes.
//!
//! # Levels
//! A foreign handler that was installed over the guard's may go on calling the guard's for ever. A
//! later guard must then not use the same function again, or its "handler below" would lead in a
//! circle. So there is one function a level, each with dispositions of its own below it.
//!
//! # Orderings
//! Sequentially consistent throughout: `IN_HANDLER` against `armed`, and `state` against `last`, are
//! store-then-load pairs that need it, and the rest is not worth a second kind.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_void};

use super::disposition::Disposition;
use super::forward;
use super::process::{self, Process};
use super::siginfo::{self, Arrival, SigInfo};
use super::wake;
use crate::policy::{Policy, Status};
use crate::signal::{COUNT, Signal};

/// How often a foreign handler may bury the guard's before a new guard is refused.
pub(super) const LEVELS: usize = 8;

pub(super) type Function = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// The handler of each level. Addresses are taken from here only, so that they compare equal.
pub(super) static FUNCTIONS: [Function; LEVELS] = [
    handle::<0>,
    handle::<1>,
    handle::<2>,
    handle::<3>,
    handle::<4>,
    handle::<5>,
    handle::<6>,
    handle::<7>,
];

/// The process whose guard is armed. Written when one is installed, read by the handler: a forked
/// child has the handler but no watcher, and must not act for its parent.
static OWNER: AtomicU64 = AtomicU64::new(0);

/// Handlers that may be about to fill a mailbox. Written by the handler, awaited by `quiesce`.
static IN_HANDLER: AtomicU32 = AtomicU32::new(0);

/// Counts what is put into mailboxes, to know the order of arrival.
static ORDER: AtomicU64 = AtomicU64::new(0);

/// One slot a signal number, static so that a handler that comes late never meets freed memory.
static SLOTS: Slots = Slots([const { Slot::new() }; COUNT]);

/// Aligned to a page so that the usual signals share the first one: making a guard touches it, and
/// the handler meets no page fault of its own.
#[repr(align(4096))]
struct Slots([Slot; COUNT]);

/// Threads in which an `abort` cannot wait for the callback, because the callback, or what comes
/// after it, runs in them. Written by those threads, read by the handler.
static BUSY: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

/// Whether the callback runs now. Written around it, read by the handler of a guard whose repeats
/// may cut it.
static CALLBACK_RUNS: AtomicBool = AtomicBool::new(false);

/// Set when everything an aborting thread waits for is done. Written by the watcher, or by whoever
/// closes the scope.
static ABORT_RELEASED: AtomicBool = AtomicBool::new(false);

/// Whether a thread waits in `abort`. Written by the handler, read by the timer.
static ABORTS: AtomicBool = AtomicBool::new(false);

/// Longest wait of an aborting thread, in milliseconds. Written when a guard is installed.
static ABORT_WAIT: AtomicU64 = AtomicU64::new(0);

/// The parts of an exit during which `abort` on their thread must not wait.
#[derive(Clone, Copy)]
pub(crate) enum Busy {
    Watching = 0,
    Callback = 1,
    Closing = 2,
}

/// What the crate knows of one signal number.
pub(super) struct Slot {
    /// 1 + the level whose function fills the mailbox, 0 for none.
    armed: AtomicU8,
    /// What each level's function stands in for. Points to interned dispositions, never freed.
    below: [AtomicPtr<Disposition>; LEVELS],
    /// Levels that foreign handlers have buried.
    buried: AtomicU8,
    /// How a repeat ends the process while the callback runs: see `encode`.
    cut: AtomicU64,
    state: AtomicU8,
    info: UnsafeCell<MaybeUninit<libc::siginfo_t>>,
    order: AtomicU64,
    /// Monotonic nanoseconds of the first and the last one since the guard was installed.
    first: AtomicU64,
    last: AtomicU64,
}

// SAFETY: `info` is the only field that is not atomic. It is written only by the one handler that
// moved `state` from EMPTY to WRITING, and read only by `take` while `state` is FULL; `take` is
// called under the lock of the living guard, so by one thread at a time.
unsafe impl Sync for Slot {}

const EMPTY: u8 = 0;
const WRITING: u8 = 1;
const FULL: u8 = 2;

/// What the handler does once the mailbox is dealt with.
enum Then {
    Return,
    /// This thread is in `abort`: wait for the callback, then die.
    Abort,
    /// A repeat cuts the callback.
    End(Status),
    /// The signal is not the guard's: act as what stood below would have.
    Forward(*const Disposition),
}

#[cfg_attr(rtsan, sanitize(realtime = "nonblocking"))]
extern "C" fn handle<const LEVEL: usize>(
    raw: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    let errno = Errno::last_raw();
    let Some(slot) = slot(raw) else { return };
    match slot.arrive(LEVEL, raw, info) {
        Then::Return => {}
        Then::Abort => wait_and_abort(),
        Then::End(Status::Signal(signal)) => forward::die_by(signal.as_raw()),
        Then::End(status) => forward::exit_now(status.code()),
        // SAFETY: the kernel, or a handler that passes on what the kernel gave it, called this
        // function with these arguments; `below` is null or an interned disposition.
        Then::Forward(below) => unsafe {
            let ours = forward::Ours {
                function: FUNCTIONS[LEVEL] as usize,
                is_buried: LEVEL < slot.free_level(),
            };
            forward::as_before(raw, info, context, &ours, below);
        },
    }
    Errno::set_raw(errno);
}

fn slot(raw: c_int) -> Option<&'static Slot> {
    SLOTS.0.get(usize::try_from(raw).ok()?)
}

/// `Slot` of a signal that exists.
pub(super) fn slot_of(signal: Signal) -> &'static Slot {
    slot(signal.as_raw()).expect("a Signal is a signal number of this platform")
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            armed: AtomicU8::new(0),
            below: [const { AtomicPtr::new(ptr::null_mut()) }; LEVELS],
            buried: AtomicU8::new(0),
            cut: AtomicU64::new(NO_CUT),
            state: AtomicU8::new(EMPTY),
            info: UnsafeCell::new(MaybeUninit::zeroed()),
            order: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// Keeps the signal if it is the guard's.
    fn arrive(&self, level: usize, raw: c_int, info: *const libc::siginfo_t) -> Then {
        let process = process::this();
        if self.is_armed(level, process) {
            // Count first, look again: `quiesce` disarms first and then waits for the count.
            IN_HANDLER.fetch_add(1, SeqCst);
            let then = self.is_armed(level, process).then(|| self.record(raw, info));
            IN_HANDLER.fetch_sub(1, SeqCst);
            if let Some(then) = then {
                return then;
            }
        }
        Then::Forward(self.below[level].load(SeqCst))
    }

    fn is_armed(&self, level: usize, process: Process) -> bool {
        usize::from(self.armed.load(SeqCst)) == level.wrapping_add(1)
            && OWNER.load(SeqCst) == process
    }

    fn record(&self, raw: c_int, info: *const libc::siginfo_t) -> Then {
        let now = monotonic_ns();
        let first = self.first.compare_exchange(0, now, SeqCst, SeqCst).err().unwrap_or(now);
        self.last.store(now, SeqCst);

        let after_first = Duration::from_nanos(now.saturating_sub(first));
        if CALLBACK_RUNS.load(SeqCst) && Policy::repeat_forces(after_first) {
            if let Some(status) = decode(self.cut.load(SeqCst)) {
                return Then::End(status);
            }
        }
        // Before the mailbox: the siginfo in there may be that of an earlier SIGABRT.
        // SAFETY: non-null siginfo is the kernel's, valid for the handler's time.
        let aborts =
            raw == libc::SIGABRT && unsafe { info.as_ref() }.is_some_and(siginfo::is_own_abort);
        if aborts {
            ABORTS.store(true, SeqCst);
        }
        if self.state.compare_exchange(EMPTY, WRITING, SeqCst, SeqCst).is_ok() {
            let mailbox = self.info.get().cast::<libc::siginfo_t>();
            if info.is_null() {
                // Called by a handler that has none to pass on.
                // SAFETY: this handler alone has the mailbox in WRITING; zeroes are a valid siginfo.
                unsafe {
                    mailbox.write_bytes(0, 1);
                    (*mailbox).si_code = siginfo::NO_CODE;
                }
            } else {
                // SAFETY: the kernel's siginfo is valid for the handler's time; this handler alone
                // has the mailbox in WRITING, so nobody else touches it.
                unsafe { ptr::copy_nonoverlapping(info, mailbox, 1) };
            }
            self.order.store(ORDER.fetch_add(1, SeqCst), SeqCst);
            self.state.store(FULL, SeqCst);
            wake::post();
        }
        if aborts { Then::Abort } else { Then::Return }
    }

    /// Takes what is in the mailbox.
    fn take(&self, signal: Signal) -> Option<Arrival> {
        if self.state.load(SeqCst) != FULL {
            return None;
        }
        // SAFETY: FULL means written, and no handler writes while it is FULL; one thread at a time
        // takes (see the impl of Sync).
        let info = SigInfo(unsafe { self.info.get().read().assume_init() });
        let order = self.order.load(SeqCst);
        // From here a handler may fill it again. `last` is read after that, so a signal that was
        // merged because the mailbox was still full is seen.
        self.state.store(EMPTY, SeqCst);
        let first = self.first.load(SeqCst);
        let last = self.last.load(SeqCst);
        Some(Arrival {
            signal,
            order,
            after_first: Duration::from_nanos(last.saturating_sub(first)),
            info,
            told: false,
        })
    }

    /// What `level` stands in for, if it was ever installed.
    pub(super) fn below(&self, level: usize) -> Option<&'static Disposition> {
        // SAFETY: null, or an interned disposition, which is never freed or changed.
        unsafe { self.below[level].load(SeqCst).as_ref() }
    }

    /// The lowest level that no foreign handler can still be calling.
    pub(super) fn free_level(&self) -> usize {
        usize::from(self.buried.load(SeqCst))
    }

    /// The level that was installed over exactly this disposition, if a foreign handler buried it:
    /// what was below it then can lead to no level from here up.
    pub(super) fn level_over(&self, disposition: &Disposition) -> Option<usize> {
        (0..self.free_level()).find(|level| self.below(*level) == Some(disposition))
    }

    /// Remembers which levels are buried.
    pub(super) fn bury(&self, levels: usize) {
        self.buried.store(u8::try_from(levels).unwrap_or(u8::MAX), SeqCst);
    }

    /// From now on the function of `level` fills the (emptied) mailbox.
    pub(super) fn arm(&self, level: usize, below: &'static Disposition, cut: Option<Status>) {
        self.below[level].store(ptr::from_ref(below).cast_mut(), SeqCst);
        self.cut.store(encode(cut), SeqCst);
        self.first.store(0, SeqCst);
        self.empty();
        self.armed.store(u8::try_from(level + 1).unwrap_or(0), SeqCst);
    }

    pub(super) fn is_any_armed(&self) -> bool {
        self.armed.load(SeqCst) != 0
    }

    /// From now on every level passes signals through. What is in the mailbox stays there.
    pub(super) fn disarm(&self) {
        self.armed.store(0, SeqCst);
    }

    /// Forgets what is in the mailbox.
    pub(super) fn empty(&self) {
        let _ = self.state.compare_exchange(FULL, EMPTY, SeqCst, SeqCst);
    }
}

const NO_CUT: u64 = u64::MAX;

/// `u64::MAX`: no; high half 1: die by the signal in the low half; high half 0: exit with it.
fn encode(cut: Option<Status>) -> u64 {
    let low = |value: i32| u64::from(u32::from_ne_bytes(value.to_ne_bytes()));
    match cut {
        None => NO_CUT,
        Some(Status::Signal(signal)) => (1 << 32) | low(signal.as_raw()),
        Some(status) => low(status.code()),
    }
}

fn decode(cut: u64) -> Option<Status> {
    let low = i32::from_ne_bytes(((cut & 0xffff_ffff) as u32).to_ne_bytes());
    match cut >> 32 {
        0 => Some(Status::Code(low)),
        1 => Signal::from_raw(low).map(Status::Signal),
        _ => None,
    }
}

/// Takes guards of this process into the handler's care. Call before arming any slot.
pub(super) fn own(policy: &Policy, process: Process) {
    let owner = OWNER.load(SeqCst);
    if owner != 0 && owner != process {
        // What is armed here was armed by the process that this one was forked from.
        SLOTS.0.iter().for_each(Slot::disarm);
        // In a forked child the count is the parent's. Nothing counts here before OWNER is set.
        IN_HANDLER.store(0, SeqCst);
    }
    let wait = u64::try_from(policy.abort_wait().as_millis()).unwrap_or(u64::MAX);
    ABORT_WAIT.store(wait, SeqCst);
    ABORT_RELEASED.store(false, SeqCst);
    ABORTS.store(false, SeqCst);
    CALLBACK_RUNS.store(false, SeqCst);
    for busy in &BUSY {
        busy.store(0, SeqCst);
    }
    OWNER.store(process, SeqCst);
}

/// Whether this process, and not one it was forked from, was the last to arm a guard.
pub(super) fn is_own() -> bool {
    OWNER.load(SeqCst) == process::this()
}

/// Waits until no handler can still be filling a mailbox that was disarmed before. A handler is
/// counted for less than a microsecond, unless its thread loses the processor meanwhile.
pub(super) fn quiesce() {
    quiesce_until(|| false);
}

/// As `quiesce`, for those who can do without. In the exit hook the wait could be for ever: where
/// `exit` was called in a handler that interrupted the guard's.
pub(crate) fn quiesce_at_most(time: Duration) {
    let mut begun = None;
    quiesce_until(|| begun.get_or_insert_with(Instant::now).elapsed() > time);
}

fn quiesce_until(mut gives_up: impl FnMut() -> bool) {
    let mut tries = 0u32;
    while IN_HANDLER.load(SeqCst) != 0 && !gives_up() {
        // To yield helps only threads of the same priority.
        if tries < 16 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
        tries += 1;
    }
}

/// Whether one of these signals came and was not taken yet.
pub(crate) fn any(signals: impl IntoIterator<Item = Signal>) -> bool {
    signals.into_iter().any(|signal| slot_of(signal).state.load(SeqCst) == FULL)
}

/// Takes the signals that came, in the order they came.
pub(crate) fn take(signals: impl IntoIterator<Item = Signal>, into: &mut Vec<Arrival>) {
    let before = into.len();
    into.extend(signals.into_iter().filter_map(|signal| slot_of(signal).take(signal)));
    into[before..].sort_by_key(|arrival| arrival.order);
}

/// Marks this thread as busy with a part of the exit.
pub(crate) fn busy(part: Busy) {
    BUSY[part as usize].store(thread_id(), SeqCst);
}

/// Marks the callback as running on this thread, until the result is dropped.
pub(crate) fn callback_runs() -> impl Drop {
    busy(Busy::Callback);
    CALLBACK_RUNS.store(true, SeqCst);
    scopeguard::guard((), |()| CALLBACK_RUNS.store(false, SeqCst))
}

/// Lets an aborting thread go on to die.
pub(crate) fn release_abort() {
    ABORT_RELEASED.store(true, SeqCst);
}

/// Whether a thread waits in `abort` for the callback.
pub(crate) fn a_thread_aborts() -> bool {
    ABORTS.load(SeqCst)
}

/// Touches what the handler and the watcher will, so that the first signal does not pay for page
/// faults. On the watcher before it sleeps, where nobody waits for it.
pub(crate) fn warm_up() {
    monotonic_ns();
    super::exit_hook::thread();
    super::alternate_stack::populate();
}

/// In the handler of a thread that called `abort(3)`: wait for the callback, at most for the time
/// set, then die of SIGABRT.
fn wait_and_abort() -> ! {
    let me = thread_id();
    if BUSY.iter().all(|busy| busy.load(SeqCst) != me) {
        let begun = monotonic_ns();
        let wait = ABORT_WAIT.load(SeqCst).saturating_mul(1_000_000);
        while !ABORT_RELEASED.load(SeqCst) && monotonic_ns().saturating_sub(begun) < wait {
            // SAFETY: poll(2) of no descriptors only waits, here for a millisecond.
            unsafe { libc::poll(ptr::null_mut(), 0, 1) };
        }
    }
    forward::die_by(libc::SIGABRT)
}

fn thread_id() -> usize {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::pthread_self() as usize }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, at least 1.
fn monotonic_ns() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `now` is valid for a write; the clock exists on every platform of this crate.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr()) };
    // SAFETY: zeroed is a valid timespec, and the call above filled it in.
    let now = unsafe { now.assume_init() };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_read_back() {
        let cuts = [
            None,
            Some(Status::Signal(Signal::TERM)),
            Some(Status::Code(0)),
            Some(Status::Code(-1)),
            Some(Status::Code(i32::MAX)),
            Some(Status::Code(i32::MIN)),
        ];
        for cut in cuts {
            assert_eq!(decode(encode(cut)), cut);
        }
    }
}
