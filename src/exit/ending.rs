//! That the process ends: which thread ends it, and how.

use std::time::{Duration, Instant};

use crate::signal::{Signal, SignalSet};
use crate::sys::abort;
use crate::sys::clock::Moment;
use crate::sys::siginfo::Arrival;
use crate::sys::status::Status;
use crate::sys::thread::Runner;

/// A second wish to end that comes sooner after the first belongs to the same event, unless it is a key: a shell and a
/// parent may both deliver one.
pub(super) const SAME_EVENT: Duration = Duration::from_millis(500);

/// The process ends.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) thread: Runner,
    pub(super) rank: Rank,
    /// `None`: with the code that `exit` was called with.
    pub(super) status: Option<Status>,
    /// The thread that has begun the last step, which may lead through `exit(3)`, and with which status.
    pub(super) last_step: Option<(Runner, Status)>,
    /// How the observers were told that it ends.
    pub(super) told: Option<Status>,
    /// The thread that tells them now.
    pub(super) teller: Option<Runner>,
    /// When the time is over that user code has after an overrun.
    pub(super) deadline: Option<Instant>,
    /// The exit functions that run now are other people's.
    pub(super) after: Option<After>,
    cut: Option<Status>,
}

/// All guards have run, and the process exits.
#[derive(Debug, Default)]
pub(super) struct After {
    /// Those that would end the process, if no old handler decides.
    pub(super) ends: SignalSet,
    /// The first key of the guards that were made since, by observers and exit functions.
    pub(super) first: usize,
    /// The signals that came since.
    pub(super) came: Vec<(Signal, Moment)>,
    /// Callbacks that have not returned, by their guards' keys.
    pub(super) running: Vec<(usize, Runner)>,
}

/// Of two threads that end the process, the one of the higher rank does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    #[default]
    Outside,
    InsideExit,
    OwnCode,
}

impl End {
    pub(super) fn new(thread: Runner, rank: Rank, status: Option<Status>) -> End {
        End { thread, rank, status, ..End::default() }
    }

    pub(super) fn is_in_last_step(&self, thread: Runner) -> bool {
        self.last_step.is_some_and(|(other, _)| other == thread)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.status == Some(Status::Failed)
    }

    /// How the process is to end at once, if it is.
    /// User code whose own time is not over yet (`ticks`) has that.
    pub(super) fn cut(&self, now: Instant, ticks: bool) -> Option<Status> {
        let is_over = self.deadline.is_some_and(|deadline| now >= deadline) && !ticks;
        self.cut.or(is_over.then(failed))
    }

    /// The thread that runs the callback of this guard, which is gone with the process.
    pub(super) fn exits_in_callback(&self, key: usize) -> Option<Runner> {
        let running = &self.after.as_ref()?.running;
        running.iter().find(|(other, _)| *other == key).map(|(_, runner)| *runner)
    }

    /// Whether all guards have run, so that this signal is nobody's. It would end the process, which ends: its
    /// status does not change any more. But an exit function that is still to run may hang, so a second wish to
    /// end is granted at once. `are_gone`: the guards, which might hear others.
    pub(super) fn is_over(&mut self, arrival: &Arrival, are_gone: bool) -> bool {
        let Some(after) = &mut self.after else { return false };
        let signal = arrival.signal;
        if !after.ends.contains(signal) {
            return are_gone;
        }
        let known = after.came.iter().find(|(other, _)| *other == signal).map(|(_, first)| *first);
        if known.is_none() {
            after.came.push((signal, arrival.first));
        }
        // Two that came in this phase, before anybody looked, are one arrival.
        if arrival.last.saturating_duration_since(known.unwrap_or(arrival.first)) >= SAME_EVENT {
            self.cut = Some(Status::Signal(signal));
        }
        true
    }
}

/// A thread that calls `abort` waits for the callback: that is what the process is killed by.
pub(super) fn failed() -> Status {
    let aborts = abort::ABORT.filter(|_| abort::a_thread_aborts());
    aborts.map_or(Status::Failed, Status::Signal)
}
