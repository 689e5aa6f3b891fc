//! What signals mean that came, and what the watcher is to do for them.

use super::ending::{End, SAME_EVENT};
use super::state::{Entry, SignalExit, Stage, State};
use crate::settings::Repeat;
use crate::signal::{Signal, SignalSet};
use crate::sys::clock::Moment;
use crate::sys::siginfo::Arrival;
use crate::sys::slot;
use crate::sys::status::Status;

impl State {
    /// Takes in the signals that came, in order.
    #[inline(never)]
    pub(super) fn admit_mail(&mut self) {
        let signals = self.signals();
        // Each signal once, whatever comes meanwhile.
        for _ in signals {
            let Some(arrival) = slot::take_first(signals) else { return };
            self.admit(arrival);
        }
    }

    pub(super) fn admit(&mut self, arrival: Arrival) {
        let signal = arrival.signal;
        let are_gone = self.is_empty();
        let has_old_handler = !are_gone && self.has_old_handler(signal);
        let is_over = |end: &mut End| !has_old_handler && end.is_over(&arrival, are_gone);
        if self.end.as_mut().is_some_and(is_over) {
            return;
        }
        // One whose old handler runs already was another delivery, as it is for the kernel.
        let is_same =
            |exit: &SignalExit| exit.arrival.signal == signal && exit.stage != Stage::OldHandler;
        let open = || self.guards.iter().map(|(_, entry)| entry).filter(|entry| entry.is_open());
        let is_guarded = open().any(|entry| entry.signals.contains(signal));
        let is_heard = open().any(|entry| entry.on.contains(signal));
        self.press(&arrival);
        if is_heard {
            self.heard.push(arrival.clone());
        } else if !is_guarded && self.is_part_of_answered(&arrival) {
            return self.repeats.push((signal, false));
        } else if !is_guarded && !self.exits.iter().any(is_same) {
            return self.hold(arrival);
        }
        let received = arrival.received();
        let is_told = self.is_watched();
        if is_told {
            self.untold.push(received.clone());
        }
        let known = self.exits.iter().rposition(is_same);
        if let Some(at) = known {
            let is_wish = self.repeat(at, &arrival);
            let is_answered = self.exits[at].answered_by.is_some();
            if !is_wish || !is_answered {
                return;
            }
            // To the guards that live on it is the first one. Without any, and if no function of `on` has it, it is for the
            // restored disposition.
            if !is_guarded {
                if !is_heard {
                    self.hold(arrival);
                }
                return;
            }
        } else if !is_guarded {
            return;
        } else if self.is_part_of_answered(&arrival) {
            return self.repeats.push((signal, false));
        }
        self.uncover(signal);
        let has_old_handler = self.has_old_handler(signal);
        let Some(guarded) = self.installed(signal).map(|one| one.guarded) else { return };
        // A host that takes the signal for no exit has decided that nothing ends.
        let hears = |host: &Entry| host.is_open() && host.on.contains(signal);
        let is_final = arrival.aborts || arrival.last_moment().is_some();
        let ends = is_final || !self.host().is_some_and(hears);
        for (_, entry) in self.guards.iter_mut() {
            if entry.is_open() && entry.signals.contains(signal) {
                entry.join(&arrival, has_old_handler || !ends);
            }
        }
        if ends {
            self.exits.push(SignalExit {
                guarded,
                until: self.guards.next_key(),
                has_old_handler,
                wished_by: begins_twice(&arrival).then_some(signal),
                is_granted: false,
                arrival,
                stage: Stage::Callbacks,
                answered_by: None,
            });
        }
        // Somebody may have begun to wait before the guards had their cause.
        if !is_told && self.is_watched() {
            self.untold.push(received);
        }
    }

    fn is_watched(&self) -> bool {
        self.guards.iter().any(|(_, entry)| entry.guard.is_watched())
    }

    /// A signal that came to no open guard. Several are one, as they are for the kernel.
    fn hold(&mut self, arrival: Arrival) {
        let signal = arrival.signal;
        let known = self.held.iter().find(|held| held.signal == signal).map(|held| held.first);
        let is_wish = known.map_or(begins_twice(&arrival), |first| is_second_wish(first, &arrival));
        if is_wish {
            self.cut = self.cut.or(self.cut_of_closing(signal));
        }
        if known.is_none() {
            self.held.push(arrival);
        }
    }

    /// How a repeat cuts a guard whose scope ends, where that says so.
    fn cut_of_closing(&self, signal: Signal) -> Option<Status> {
        let has = |entry: &&Entry| entry.signals.contains(signal);
        let having = self.guards.iter().map(|(_, entry)| entry).find(has);
        let entry = self.host().filter(has).or(having)?;
        let settings = &entry.guard.settings;
        let forces = settings.repeat == Repeat::Force && !self.has_old_handler(signal);
        forces.then(|| settings.status(signal))
    }

    /// Whether it belongs to the event that was answered last.
    #[inline(never)]
    pub(super) fn is_part_of_answered(&self, arrival: &Arrival) -> bool {
        let answered = self.installed(arrival.signal).and_then(|one| one.answered);
        answered.is_some_and(|first| !is_second_wish(first, arrival))
    }

    /// The signal has begun an exit already. Whether this is a second wish to end.
    fn repeat(&mut self, at: usize, arrival: &Arrival) -> bool {
        let exit = &mut self.exits[at];
        let has_old_handler = exit.has_old_handler;
        let is_wish = is_second_wish(exit.arrival.first, arrival);
        exit.arrival.merge(arrival);
        if is_wish && !has_old_handler {
            self.wish(at, arrival.signal);
        }
        if !is_wish || has_old_handler {
            self.repeats.push((arrival.signal, false));
        }
        is_wish
    }

    /// Somebody has pressed a key after the signals that have begun exits.
    fn press(&mut self, arrival: &Arrival) {
        if !is_pressed(arrival) {
            return;
        }
        for at in 0..self.exits.len() {
            if self.exits[at].arrival.signal != arrival.signal {
                self.wish(at, arrival.signal);
            }
        }
    }

    /// A second wish to end came. To a guard that has answered it is one only if it cuts.
    fn wish(&mut self, at: usize, signal: Signal) {
        let answered_by = self.exits[at].answered_by.and_then(|key| self.guards.get(key));
        let cuts = |entry: &Entry| entry.guard.settings.repeat == Repeat::Force;
        if answered_by.is_none_or(cuts) {
            self.exits[at].wished_by = Some(signal);
        }
    }
}

/// Whether the keyboard sends this signal.
fn is_key(signal: Signal) -> bool {
    cfg!(unix) && KEYS.contains(signal)
}

#[cfg(unix)]
const KEYS: SignalSet = SignalSet::of(&[Signal::INT, Signal::QUIT]);
#[cfg(windows)]
const KEYS: SignalSet = SignalSet::of(&[]);

/// Whether a key has sent it, or one that was merged into it.
fn is_pressed(arrival: &Arrival) -> bool {
    is_key(arrival.signal) && (arrival.is_from_kernel || arrival.has_more_from_kernel)
}

/// Whether a signal that came after the first of an event, at `first`, is a second wish to end: it came late enough, or
/// somebody has pressed a key.
fn is_second_wish(first: Moment, arrival: &Arrival) -> bool {
    arrival.last.saturating_duration_since(first) >= SAME_EVENT || is_pressed(arrival)
}

/// As `is_second_wish`, for what was merged into the first one itself.
fn begins_twice(arrival: &Arrival) -> bool {
    let is_late = arrival.last.saturating_duration_since(arrival.first) >= SAME_EVENT;
    is_late || is_key(arrival.signal) && arrival.has_more_from_kernel
}
