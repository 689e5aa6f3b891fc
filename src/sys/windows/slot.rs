//! What came and was not taken yet, and the handler threads that wait.
//!
//! A mailbox holds one event of a signal; those that come while it is full are merged into it. That is
//! what Unix does, and what the floors above are made for.
//!
//! # Handlers that wait
//! The handler keeps most events and returns at once. It stays, with the system's thread, where
//!
//! * the signal is passed on (`append`): until the guard's part is done. Then it returns FALSE, and the
//!   system calls the next handler.
//! * the event is final (`CTRL_CLOSE` and the like): for ever. The system ends the process when the last
//!   handler returns, or in five seconds; `main` has that time.
//!
//! Each event has a number, and a handler waits as long as its event's is among `waiting`. A guard lets go
//! only those that came since it armed the signal: a final event that an earlier guard has answered stays.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::clock::Moment;
use super::siginfo::{Arrival, SigInfo};
use super::wake;
use crate::signal::{ConsoleEvent, Signal, SignalSet};

/// All there is to know of events. Locked for a few instructions at a time, by handlers and others.
static STATE: Mutex<State> = Mutex::new(State { came: 0, slots: [Slot::NEW; 2] });

/// Told when a handler may leave.
static RELEASED: Condvar = Condvar::new();

struct State {
    /// How many events have come.
    came: u64,
    /// Of INT and TERM.
    slots: [Slot; 2],
}

struct Slot {
    /// Whether a guard wants the signal; else the handler passes it on at once.
    is_armed: bool,
    /// How many events had come when it was armed.
    armed_at: u64,
    /// Whether the handlers below the guard's get it after the guard.
    is_passed_on: bool,
    mail: Option<Arrival>,
    /// The events whose handlers wait.
    waiting: Vec<u64>,
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
    const NEW: Slot =
        Slot { is_armed: false, armed_at: 0, is_passed_on: false, mail: None, waiting: Vec::new() };
}

impl State {
    fn slot(&mut self, signal: Signal) -> &mut Slot {
        &mut self.slots[usize::from(signal == Signal::TERM)]
    }

    /// Lets the handlers leave that wait with an event of this signal that came since it was armed; says
    /// whether there are any.
    fn release(&mut self, signal: Signal) -> bool {
        let slot = self.slot(signal);
        let before = slot.waiting.len();
        slot.waiting.retain(|&order| order <= slot.armed_at);
        RELEASED.notify_all();
        slot.waiting.len() < before
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In the handler: an event has come.
pub(super) fn arrive(event: ConsoleEvent) -> Verdict {
    let signal = event.signal();
    let mut state = state();
    if !state.slot(signal).is_armed {
        return Verdict::PassOn;
    }
    state.came += 1;
    let order = state.came;
    let slot = state.slot(signal);
    let at = Moment::now();
    let info = SigInfo { event, order, at };
    slot.mail.get_or_insert(Arrival::new(signal, info)).last = at;
    wake::post();
    if !slot.is_passed_on && !event.is_final() {
        return Verdict::Keep;
    }
    slot.waiting.push(order);
    while state.slot(signal).waiting.contains(&order) {
        state = RELEASED.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    Verdict::PassOn
}

/// Takes the events that came, in the order they came.
pub(crate) fn take(signals: SignalSet, into: &mut Vec<Arrival>) {
    let before = into.len();
    let mut state = state();
    into.extend(signals.iter().filter_map(|signal| state.slot(signal).mail.take()));
    // There are two at most.
    if let [first, second] = &mut into[before..] {
        if second.info.order < first.info.order {
            std::mem::swap(first, second);
        }
    }
}

/// From now on events of this signal are the guard's.
pub(super) fn arm(signal: Signal, is_passed_on: bool) {
    let mut state = state();
    let armed_at = state.came;
    let slot = state.slot(signal);
    let waiting = std::mem::take(&mut slot.waiting);
    *slot = Slot { is_armed: true, armed_at, is_passed_on, waiting, ..Slot::NEW };
}

/// Whether the handlers below the guard's get the signal after the guard.
pub(super) fn pass_on(signal: Signal, is_passed_on: bool) {
    state().slot(signal).is_passed_on = is_passed_on;
}

/// Whether it is so.
pub(super) fn is_passed_on(signal: Signal) -> bool {
    state().slot(signal).is_passed_on
}

/// Whether events of this signal are a guard's.
pub(super) fn is_armed(signal: Signal) -> bool {
    state().slot(signal).is_armed
}

/// Whether events of any signal are a guard's.
pub(super) fn is_any_armed() -> bool {
    state().slots.iter().any(|slot| slot.is_armed)
}

/// Whether a handler waits, and with it everybody who would change the list of handlers.
pub(super) fn is_any_waiting() -> bool {
    state().slots.iter().any(|slot| !slot.waiting.is_empty())
}

/// From now on events of this signal are passed on at once. Returns what came too late for the guard,
/// unless that is passed on as well.
///
/// A final event that was kept stays where it is: the guard has answered it, or the caller is going to
/// hand it over.
pub(super) fn disarm(signal: Signal) -> Option<Arrival> {
    let mut state = state();
    let slot = state.slot(signal);
    slot.is_armed = false;
    let late = slot.mail.take();
    let is_passed_on = slot.is_passed_on && state.release(signal);
    late.filter(|_| !is_passed_on)
}

/// As `disarm`, with what came kept where it is.
pub(super) fn give_back(signal: Signal) {
    let mut state = state();
    let slot = state.slot(signal);
    slot.is_armed = false;
    // Repeats that came before are part of the one delivery.
    slot.mail = None;
}

/// Passes on the events of this signal that the handler waits with; says whether there are any.
pub(super) fn release(signal: Signal) -> bool {
    state().release(signal)
}
