//! What came and was not taken yet, and the handler threads that wait.
//!
//! A mailbox holds one event of a signal; those that come while it is full are merged into it. That is
//! what Unix does, and what the floors above are made for.
//!
//! # Handlers that wait
//! Where a host guards the signal, the handler keeps the event and returns TRUE at once: the host decides.
//! Where only guests do, it stays, with the system's thread, until the event is
//!
//! * *passed on*, once the guards' part is done: it returns FALSE, and the system calls the next handler;
//! * or *kept*: a host has come to guard the signal, or nobody here has the event any more (the last clone of
//!   its `Arrival` is gone), because it was part of one that is passed on or was answered.
//!
//! An event that is final (`CTRL_CLOSE` and the like) is never kept, since the system ends the process when its
//! handler returns TRUE, and in five seconds anyway. Its handler stays for ever, unless the event is passed on:
//! `main` has that time.
//!
//! Each event has a number. What is taken out of a mailbox stands for all events from its own number up to the
//! last that was merged into it.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use super::clock::Moment;
use super::siginfo::{Arrival, SigInfo};
use super::wake;
use crate::signal::{ConsoleEvent, Signal, SignalSet};
use crate::sys::lock::{Condition, Lock};

/// All there is to know of events. Locked for a few instructions at a time, by handlers and others. No `Arrival` is
/// dropped under it: that takes the lock.
static STATE: LazyLock<Lock<State>> = LazyLock::new(Lock::default);

/// Told when a handler may leave.
static RELEASED: LazyLock<Condition> = LazyLock::new(Condition::default);

#[derive(Default)]
struct State {
    /// How many events have come.
    came: u64,
    /// One of them was final.
    is_ending: bool,
    /// Of INT and TERM.
    slots: [Slot; 2],
}

#[derive(Default)]
struct Slot {
    /// Whether a guard wants the signal; else the handler passes it on at once.
    is_armed: bool,
    /// Whether a host does.
    is_hosted: bool,
    mail: Option<Mail>,
    waiting: Vec<Waiting>,
}

struct Mail {
    info: SigInfo,
    /// When the last one came that was merged into it.
    last: Moment,
}

/// A handler that waits.
struct Waiting {
    order: u64,
    is_final: bool,
    /// What it was told: it is about to leave.
    verdict: Option<Verdict>,
}

/// What the handler tells the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No other handler is to hear of the event.
    Keep,
    /// The next handler is asked.
    PassOn,
}

impl Slot {
    /// Tells the handlers that wait with these events, except with final ones that would be kept. Whether there are
    /// any.
    fn release(&mut self, orders: RangeInclusive<u64>, verdict: Verdict) -> bool {
        let mut any = false;
        let mine = |one: &&mut Waiting| {
            let may = verdict == Verdict::PassOn || !one.is_final;
            may && one.verdict.is_none() && orders.contains(&one.order)
        };
        for one in self.waiting.iter_mut().filter(mine) {
            one.verdict = Some(verdict);
            any = true;
        }
        if any {
            RELEASED.notify_all();
        }
        any
    }

    fn take(&mut self, signal: Signal, came: u64) -> Option<Arrival> {
        let Mail { mut info, last } = self.mail.take()?;
        info.up_to = came;
        Some(Arrival::new(signal, info, last, keep))
    }

    /// What the handler of this event was told, if it may leave.
    fn leave(&mut self, order: u64) -> Option<Verdict> {
        let at = self.waiting.iter().position(|one| one.order == order)?;
        let verdict = self.waiting[at].verdict?;
        self.waiting.swap_remove(at);
        Some(verdict)
    }
}

impl State {
    fn slot(&mut self, signal: Signal) -> &mut Slot {
        &mut self.slots[usize::from(signal == Signal::TERM)]
    }
}

/// In the handler: an event has come.
pub(super) fn arrive(event: ConsoleEvent) -> Verdict {
    let signal = event.signal();
    let mut state = STATE.lock();
    state.is_ending |= event.is_final();
    if !state.slot(signal).is_armed {
        return Verdict::PassOn;
    }
    state.came += 1;
    let order = state.came;
    let slot = state.slot(signal);
    let at = Moment::now();
    let info = SigInfo { event, order, up_to: order, at };
    let mail = slot.mail.get_or_insert(Mail { info, last: at });
    mail.info.merge(info);
    mail.last = at;
    wake::post();
    if slot.is_hosted && !event.is_final() {
        return Verdict::Keep;
    }
    slot.waiting.push(Waiting { order, is_final: event.is_final(), verdict: None });
    loop {
        if let Some(verdict) = state.slot(signal).leave(order) {
            return verdict;
        }
        (state, _) = RELEASED.wait(state, None);
    }
}

/// Takes the event of these that came first.
pub(crate) fn take_first(signals: SignalSet) -> Option<Arrival> {
    let mut state = STATE.lock();
    let came = state.came;
    let mut order = |signal| Some((state.slot(signal).mail.as_ref()?.info.order, signal));
    let (_, first) = signals.into_iter().filter_map(&mut order).min_by_key(|(order, _)| *order)?;
    state.slot(first).take(first, came)
}

/// From now on events of this signal are the guards'.
pub(super) fn arm(signal: Signal) {
    let mut state = STATE.lock();
    let slot = state.slot(signal);
    (slot.is_armed, slot.is_hosted) = (true, false);
}

/// Whether a host has the signal, and decides, from now on.
pub(super) fn set_hosted(signal: Signal, is_hosted: bool) {
    let mut state = STATE.lock();
    let slot = state.slot(signal);
    slot.is_hosted = is_hosted;
    if is_hosted {
        slot.release(0..=u64::MAX, Verdict::Keep);
    }
}

/// Whether events of this signal are a guard's.
pub(super) fn is_armed(signal: Signal) -> bool {
    STATE.lock().slot(signal).is_armed
}

/// Whether the handler can be moved among the handlers: not while a guard lives, which has it in its place; nor while
/// one waits, here or in a handler below, which stay with a final event. The system would not return from the call.
pub(super) fn is_movable() -> bool {
    let state = STATE.lock();
    let is_free = |slot: &Slot| !slot.is_armed && slot.waiting.is_empty();
    !state.is_ending && state.slots.iter().all(is_free)
}

/// From now on events of this signal are passed on at once. Returns what came too late for the guards.
pub(super) fn disarm(signal: Signal) -> Option<Arrival> {
    let mut state = STATE.lock();
    let came = state.came;
    let slot = state.slot(signal);
    (slot.is_armed, slot.is_hosted) = (false, false);
    slot.take(signal, came)
}

/// Passes on these events, as far as their handlers wait with them; says whether there are any.
pub(super) fn pass_on(signal: Signal, orders: RangeInclusive<u64>) -> bool {
    STATE.lock().slot(signal).release(orders, Verdict::PassOn)
}

/// Nobody here has these events any more.
pub(super) fn keep(signal: Signal, orders: RangeInclusive<u64>) {
    STATE.lock().slot(signal).release(orders, Verdict::Keep);
}
