//! Puts a guard in place in this process: all of it, or nothing changed.

use std::sync::Arc;

use crate::error::Error;
use crate::exit::{self, Guard, ProcessExit, State};
use crate::settings::{Ignored, Settings};
use crate::signal::{Signal, SignalSet};
use crate::sys::guarded::{self, Found, Guarded, Refused};
use crate::sys::lock::Locked;
use crate::sys::process::{self, Process};
use crate::sys::restore::{self, Late};
use crate::sys::siginfo::Arrival;
use crate::sys::thread::JoinHandle;
use crate::sys::{exit_hook, wake};
use crate::{at_exit, watcher};

/// Refuses settings that no process could fulfil.
pub(crate) fn validate(settings: &Settings) -> Result<(), Error> {
    if settings.all_signals().is_empty() {
        return Err(Error::NoSignals);
    }
    let refusals = settings.signals.iter().map(|signal| (signal, signal.refusal()));
    let refusals_on = settings.on.iter().map(|signal| (signal, signal.refusal_on()));
    for (signal, refusal) in refusals.chain(refusals_on) {
        if let Some(reason) = refusal {
            return Err(Error::Unguardable { signal, reason });
        }
    }
    Ok(())
}

/// Makes the guard part of the exit of `process`, which is this one.
pub(crate) fn install(guard: &Arc<Guard>, process: Process) -> Result<(), Error> {
    process::count_forks()
        .map_err(|source| Error::system("counting forks (pthread_atfork)", source))?;
    let exit = exit::of(process);
    let mut undone = Undone::default();
    let result = enter(exit, process, guard, &mut undone);
    // With no lock held: threads are joined, and signals that came to a guard that was refused go where they belong.
    exit.join(undone.threads);
    exit.hand_over(undone.late);
    result.map_err(|refusal| match refusal {
        Refusal::Held { signal, address } => {
            Error::HandlerExists { signal, holder: guarded::holder(address) }
        }
        Refusal::Error(error) => error,
    })
}

/// In a forked child: makes a guard of the parent's this process's own.
#[cfg(unix)]
pub(crate) fn rearm(guard: &Arc<Guard>) -> Result<(), Error> {
    install(guard, process::this())
}

/// What a refusal leaves to be done when the lock is free.
#[derive(Default)]
struct Undone {
    threads: Vec<JoinHandle>,
    late: Late,
}

enum Refusal {
    /// Who that is takes locks to find out.
    Held {
        signal: Signal,
        address: usize,
    },
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Error(error)
    }
}

/// What there is to undo.
struct Begun<'a> {
    state: Locked<'a, State>,
    installed: Vec<Guarded>,
    /// Signals that came to a handler which was then refused.
    late: Vec<Arrival>,
}

/// What a guard finds when it is made.
struct Plan {
    /// Handlers to put in place.
    missing: Vec<Found>,
    /// Signals that stay ignored.
    ignored: SignalSet,
}

/// The lock is held to the end, so that two threads cannot both find nobody there.
fn enter(
    exit: &'static ProcessExit,
    process: Process,
    guard: &Arc<Guard>,
    undone: &mut Undone,
) -> Result<(), Refusal> {
    let settings = &guard.settings;
    let mut state = exit.lock();
    if state.has(guard) {
        // Another thread of the child has rearmed it.
        return Ok(());
    }
    #[cfg(unix)]
    if guard.is_parents() {
        guard.abandon_parents()?;
    }
    if state.ends_elsewhere() {
        return Err(Error::Ended.into());
    }
    if settings.is_host() && state.has_host() {
        return Err(Error::Nested.into());
    }
    let plan = look(settings, &state)?;
    let is_first = state.watchers.handles.is_empty();
    let threads = if settings.needs_standby() { 2 } else { 1 };
    if plan.missing.is_empty() && state.watchers.handles.len() >= threads {
        state.end_is_over();
        guard.process.set(process);
        if state.enter(guard, plan.ignored) {
            wake::post();
        }
        return Ok(());
    }
    if is_first {
        guarded::prepare(process)
            .map_err(|source| Error::system("making the watcher's wake-up", source))?;
    }
    exit_hook::register(at_exit::at_process_exit)
        .map_err(|source| Error::system("registering the exit function (atexit)", source))?;

    let begun =
        Begun { state, installed: Vec::with_capacity(plan.missing.len()), late: Vec::new() };
    let mut begun = scopeguard::guard(begun, |mut begun| {
        undone.late = undo(&begun.state, &begun.installed);
        undone.late.arrivals.append(&mut begun.late);
        if is_first {
            undone.threads = begun.state.watchers.dismiss();
        }
    });
    let Begun { state, installed, late } = &mut *begun;
    // The threads come first: once a handler is in place there is somebody to wake.
    while state.watchers.handles.len() < threads {
        let thread = watcher::spawn(exit, state.watchers.generation)
            .map_err(|source| Error::system("spawning the watcher thread", source))?;
        state.watchers.handles.push(thread);
    }
    guarded::install(&plan.missing, installed).map_err(|(signal, refused)| match refused {
        Refused::System(source) => Error::system_for(signal, "installing the handler", source),
        Refused::Changed(came) => {
            *late = came;
            Error::busy_for(
                signal,
                "another thread changed its disposition at that moment: try again",
            )
        }
    })?;
    let Begun { mut state, installed, .. } = scopeguard::ScopeGuard::into_inner(begun);
    state.end_is_over();
    guard.process.set(process);
    state.add_installed(&installed);
    state.enter(guard, plan.ignored);
    drop(state);
    // The leader may be asleep, and has to listen to more signals than before.
    wake::post();
    Ok(())
}

#[cold]
#[inline(never)]
fn undo(state: &State, installed: &[Guarded]) -> Late {
    restore::restore_all(installed, &state.handlers(&|_, _| true))
}

/// Looks at the dispositions and changes none.
fn look(settings: &Settings, state: &State) -> Result<Plan, Refusal> {
    let mut plan = Plan { missing: Vec::new(), ignored: SignalSet::default() };
    for signal in settings.all_signals().iter() {
        let found = Found::query(signal)
            .map_err(|source| Error::system_for(signal, "querying the disposition", source))?;
        let ours = state.installed(signal).map(|one| one.guarded).filter(|one| found.is(one));
        let is_ignored = ours.map_or(found.is_ignored(), |ours| ours.was_ignored());
        if is_ignored && settings.ignored == Ignored::Keep {
            plan.ignored.insert(signal);
            continue;
        }
        let handler = ours.map_or(found.handler(), |ours| ours.old_handler());
        match handler {
            Some(address) if settings.is_host() => return Err(Refusal::Held { signal, address }),
            _ if ours.is_none() && found.is_buried_too_deep() => {
                return Err(Error::busy_for(
                    signal,
                    "other handlers were installed over the guard's too often",
                )
                .into());
            }
            _ if ours.is_none() => plan.missing.push(found),
            _ => {}
        }
    }
    Ok(plan)
}
