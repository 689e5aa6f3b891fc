//! [`Event`]: what a guard tells an observer, and the bridge to `tracing`.

use std::fmt;
use std::time::Duration;

use crate::cause::Cause;
use crate::signal::{Received, Signal};
use crate::sys::status::Status;

/// Something that happened on the way out, for [`Builder::observe`](crate::Builder::observe).
///
/// `Display` says it in plain words.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use handle_exit::HandleExit;
///
/// # fn main() -> Result<(), handle_exit::Error> {
/// let log = Arc::new(Mutex::new(Vec::new()));
/// let lines = log.clone();
/// let guard = HandleExit::builder()
///     .observe(move |event| lines.lock().unwrap().push(event.to_string()))
///     .install(|| {})?;
/// drop(guard);
/// assert_eq!(log.lock().unwrap()[0], "callback started: the scope ended");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A guarded signal came, or one of [`Builder::on`](crate::Builder::on).
    SignalReceived(Received),
    /// The callback is about to run.
    CallbackStarted(Cause),
    /// The callback returned.
    #[non_exhaustive]
    CallbackFinished {
        /// How long it ran.
        elapsed: Duration,
    },
    /// The callback panicked.
    #[non_exhaustive]
    CallbackPanicked {
        /// How long it ran.
        elapsed: Duration,
    },
    /// The guard's code had not returned after `callback_timeout`. The process ends with code 101.
    #[non_exhaustive]
    CallbackTimedOut {
        /// The time it had.
        timeout: Duration,
    },
    /// The old handler of this signal has run, and returned.
    OldHandlerRun(Signal),
    /// A repeat of a signal was ignored: it came too soon after the first, or there was no wait for it to end.
    RepeatAbsorbed(Signal),
    /// A repeat of a signal ends the wait for the scope.
    RepeatForces(Signal),
    /// The scope did not end in time.
    #[non_exhaustive]
    GraceOver {
        /// The grace period that was set. On Windows, less time may have been left.
        grace: Duration,
    },
    /// The process ends by this signal.
    EndingBySignal(Signal),
    /// The process ends with this exit code.
    EndingWithCode(i32),
}

impl Event {
    pub(crate) fn repeat(signal: Signal, forces: bool) -> Event {
        if forces { Event::RepeatForces(signal) } else { Event::RepeatAbsorbed(signal) }
    }

    pub(crate) fn ending(status: Status) -> Event {
        match status {
            Status::Signal(signal) => Event::EndingBySignal(signal),
            Status::Code(_) | Status::Failed => Event::EndingWithCode(status.code()),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::SignalReceived(received) => write!(f, "received {received}"),
            Event::CallbackStarted(cause) => write!(f, "callback started: {cause}"),
            Event::CallbackFinished { elapsed } => write!(f, "callback finished after {elapsed:?}"),
            Event::CallbackPanicked { elapsed } => write!(f, "callback panicked after {elapsed:?}"),
            Event::CallbackTimedOut { timeout } => {
                write!(f, "callback has not finished within {timeout:?}")
            }
            Event::OldHandlerRun(signal) => write!(f, "old handler of {signal} has run"),
            Event::RepeatAbsorbed(signal) => write!(f, "{signal} again: ignored"),
            Event::RepeatForces(signal) => write!(f, "{signal} again: no more waiting"),
            Event::GraceOver { grace } => write!(f, "the scope has not ended within {grace:?}"),
            Event::EndingBySignal(signal) => write!(f, "process ends by {signal}"),
            Event::EndingWithCode(code) => write!(f, "process ends with exit code {code}"),
        }
    }
}

type Observe = dyn Fn(&Event) + Send + Sync;

/// The observer of a guard, if it has one.
#[derive(Default)]
pub(crate) struct Observer(pub(crate) Option<Box<Observe>>);

impl Observer {
    /// Whether anybody listens: otherwise, nothing is timed.
    pub(crate) fn listens(&self) -> bool {
        self.0.is_some() || cfg!(feature = "tracing")
    }

    /// `tracing` gets each event once, when the first observer is told.
    pub(crate) fn tell(&self, event: &Event, is_first: bool) {
        #[cfg(feature = "tracing")]
        if is_first {
            trace(event);
        }
        #[cfg(not(feature = "tracing"))]
        let _ = is_first;
        if let Some(observe) = &self.0 {
            observe(event);
        }
    }
}

/// The same event as a `tracing` event with structured fields.
#[cfg(feature = "tracing")]
fn trace(event: &Event) {
    use tracing::{info, warn};
    const TARGET: &str = "handle_exit";
    match event {
        #[cfg(windows)]
        Event::SignalReceived(received) => info!(
            target: TARGET,
            signal = %received.signal(),
            console_event = %received.console_event(),
            "{event}"
        ),
        #[cfg(unix)]
        Event::SignalReceived(received) => info!(
            target: TARGET,
            signal = %received.signal(),
            sender_pid = received.sender().map(|sender| sender.pid),
            sender_uid = received.sender().map(|sender| sender.uid),
            "{event}"
        ),
        Event::CallbackStarted(cause) => info!(target: TARGET, %cause, "{event}"),
        Event::CallbackFinished { elapsed } => info!(target: TARGET, ?elapsed, "{event}"),
        Event::CallbackPanicked { elapsed } => warn!(target: TARGET, ?elapsed, "{event}"),
        Event::CallbackTimedOut { timeout } => warn!(target: TARGET, elapsed = ?timeout, "{event}"),
        Event::OldHandlerRun(signal)
        | Event::RepeatAbsorbed(signal)
        | Event::RepeatForces(signal)
        | Event::EndingBySignal(signal) => info!(target: TARGET, %signal, "{event}"),
        Event::GraceOver { grace } => warn!(target: TARGET, elapsed = ?grace, "{event}"),
        Event::EndingWithCode(code) => info!(target: TARGET, code, "{event}"),
    }
}
