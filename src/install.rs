//! Puts a guard in place in this process: all of it, or nothing changed.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use crate::error::Error;
use crate::exit::{self, Guard, ProcessExit, State};
use crate::settings::{Ignored, Settings};
use crate::signal::SignalSet;
use crate::sys::guarded::{self, Found, Guarded};
use crate::sys::holder::Holder;
use crate::sys::lock::Locked;
use crate::sys::process::{self, Process};
use crate::sys::siginfo::Arrival;
use crate::sys::{exit_hook, wake};

/// Refuses settings that no process could fulfil.
pub(crate) fn validate(settings: &Settings) -> Result<(), Error> {
    if settings.all_signals().is_empty() {
        return Err(Error::NoSignals);
    }
    let refusals = settings.signals.into_iter().map(|signal| (signal, signal.refusal()));
    let refusals_on = settings.on.into_iter().map(|signal| (signal, signal.refusal_on()));
    for (signal, refusal) in refusals.chain(refusals_on) {
        if let Some(reason) = refusal {
            return Err(Error::Unguardable { signal, reason });
        }
    }
    Ok(())
}

/// Makes the guard part of the exit of this process. In a forked child, it may be the parent's guard.
pub(crate) fn install(guard: &Arc<Guard>) -> Result<(), Error> {
    process::count_forks()
        .map_err(|source| Error::system(None, "counting forks (pthread_atfork)", source))?;
    let process = process::this();
    enter(exit::of(process), process, guard).map_err(|error| match error {
        // Who that is takes locks to find out.
        Error::HandlerExists { signal, holder } => {
            Error::HandlerExists { signal, holder: guarded::holder(holder.address) }
        }
        other => other,
    })
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
fn enter(exit: &'static ProcessExit, process: Process, guard: &Arc<Guard>) -> Result<(), Error> {
    let settings = &guard.settings;
    let mut state = exit.lock();
    if guard.process.load(SeqCst) == process {
        // Another thread of the child has rearmed it.
        return Ok(());
    }
    #[cfg(unix)]
    if guard.key() != 0 {
        guard.abandon_parents()?;
    }
    if state.ends_elsewhere() {
        return Err(Error::Ended);
    }
    if settings.is_host() && state.host.is_some() {
        return Err(Error::Nested);
    }
    let is_first = state.watchers.handles.is_empty();
    if is_first {
        guarded::prepare(process)
            .map_err(|source| Error::system(None, "making the watcher's wake-up", source))?;
    }
    let plan = look(settings, &mut state)?;
    exit_hook::register(exit::at_process_exit)
        .map_err(|source| Error::system(None, "registering the exit function (atexit)", source))?;
    let threads = if settings.needs_standby() { 2 } else { 1 };
    let adds_thread = state.watchers.handles.len() < threads;
    let begun =
        Begun { state, installed: Vec::with_capacity(plan.missing.len()), late: Vec::new() };
    let mut begun = scopeguard::guard(begun, |Begun { mut state, installed, mut late }| {
        let mut undone = state.restore(&installed);
        undone.arrivals.append(&mut late);
        let threads = if is_first { state.watchers.dismiss() } else { Vec::new() };
        // With no lock held: threads are joined, and signals that came to a guard that was refused go where they belong.
        drop(state);
        exit.here().join(threads);
        undone.hand_over();
    });
    let Begun { state, installed, late } = &mut *begun;
    // The threads come first: once a handler is in place there is somebody to wake.
    while state.watchers.handles.len() < threads {
        exit::spawn(exit, &mut state.watchers)
            .map_err(|source| Error::system(None, "spawning the watcher thread", source))?;
    }
    guarded::install(&plan.missing, installed, late).map_err(|(signal, source)| match source {
        Some(source) => Error::system(Some(signal), "installing the handler", source),
        None => {
            let reason = "another thread changed its disposition at that moment: try again";
            Error::Busy { signal: Some(signal), reason }
        }
    })?;
    let Begun { mut state, installed, .. } = scopeguard::ScopeGuard::into_inner(begun);
    state.end_is_over();
    guard.process.store(process, SeqCst);
    state.add_installed(&installed);
    let has_news = state.enter(guard, plan.ignored);
    drop(state);
    // The leader may be asleep, and has to listen to more signals than before.
    if has_news || adds_thread || !installed.is_empty() {
        wake::post();
    }
    Ok(())
}

/// Looks at the dispositions and changes none.
fn look(settings: &Settings, state: &mut State) -> Result<Plan, Error> {
    let mut plan = Plan { missing: Vec::new(), ignored: SignalSet::default() };
    for signal in settings.all_signals() {
        let failed = |source| Error::system(Some(signal), "querying the disposition", source);
        let newest = state.installed(signal).map(|one| one.guarded);
        let is_on_top = newest.map(|one| one.is_on_top()).transpose().map_err(failed)?;
        let ours = if is_on_top == Some(false) { state.uncover(signal) } else { newest };
        let (guarded, found) = match ours {
            Some(ours) => (ours, None),
            None => {
                let layers = state.handlers(&|_, one| one.signal() == signal);
                let found = Found::query(signal, &layers).map_err(failed)?;
                (found.guarded, Some(found))
            }
        };
        if guarded.was_ignored() && settings.ignored == Ignored::Keep {
            plan.ignored.insert(signal);
            continue;
        }
        if let Some(address) = guarded.old_handler().filter(|_| settings.is_host()) {
            return Err(Error::HandlerExists { signal, holder: Holder::unknown(address) });
        }
        if found.as_ref().is_some_and(Found::is_buried_too_deep) {
            let reason = "other handlers were installed over the guard's too often";
            return Err(Error::Busy { signal: Some(signal), reason });
        }
        plan.missing.extend(found);
    }
    Ok(plan)
}
