//! Puts a scope to work in this process: all of it, or nothing changed.

use std::io;
use std::sync::Arc;

use crate::error::Error;
use crate::policy::Ignored;
use crate::scope::{Scope, living_in};
use crate::signal::Signal;
use crate::sys::exit_hook;
use crate::sys::guarded::{self, Found, Guarded, Mask};
use crate::sys::process::{self, Process};
use crate::sys::siginfo::Arrival;
use crate::{timer, watcher};

/// Which signals, and what may stand there already.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    pub(crate) signals: Vec<Signal>,
    pub(crate) append: bool,
    pub(crate) ignored: Ignored,
}

impl Claims {
    /// Each signal once, all of them guardable, at least one.
    pub(crate) fn validate(mut self) -> Result<Claims, Error> {
        let mut known = Vec::with_capacity(self.signals.len());
        self.signals.retain(|signal| {
            let new = !known.contains(signal);
            known.push(*signal);
            new
        });
        if self.signals.is_empty() {
            return Err(Error::NoSignals);
        }
        for &signal in &self.signals {
            if let Some(reason) = signal.refusal() {
                return Err(Error::Unguardable { signal, reason });
            }
        }
        Ok(self)
    }

    /// Looks at every disposition and changes none.
    fn look(&self) -> Result<Vec<Found>, Error> {
        let mut found = Vec::with_capacity(self.signals.len());
        for &signal in &self.signals {
            let one = Found::query(signal)
                .map_err(|source| Error::system_for(signal, "querying the disposition", source))?;
            if one.is_ignored() && self.ignored == Ignored::Keep {
                continue;
            }
            match one.holder() {
                Some(holder) if !self.append => {
                    return Err(Error::HandlerExists { signal, holder });
                }
                Some(_) if one.is_out_of_levels() => {
                    let buried = "other handlers were installed over the guard's too often";
                    return Err(Error::system_for(
                        signal,
                        "installing over the handler that is there",
                        io::Error::other(buried),
                    ));
                }
                _ => found.push(one),
            }
        }
        Ok(found)
    }
}

/// Makes `make(this process)` the living guard's scope of this process.
pub(crate) fn install(
    claims: &Claims,
    make: impl FnOnce(Process) -> Result<Arc<Scope>, Error>,
) -> Result<Arc<Scope>, Error> {
    let mut made = None;
    let mut late = Vec::new();
    let result = install_locked(claims, make, &mut made, &mut late);
    // After a failure, with no lock held: what the callback captured is dropped, and signals that came
    // meanwhile are handed to whoever has them. Both are other people's code.
    if let (Err(_), Some(scope)) = (&result, made) {
        scope.hand_over(late);
    }
    result
}

fn install_locked(
    claims: &Claims,
    make: impl FnOnce(Process) -> Result<Arc<Scope>, Error>,
    made: &mut Option<Arc<Scope>>,
    late: &mut Vec<Arrival>,
) -> Result<Arc<Scope>, Error> {
    process::count_forks()
        .map_err(|source| Error::system("counting forks (pthread_atfork)", source))?;
    let process = process::this();
    // Held to the end, so that two threads cannot both find nobody there.
    let mut living = living_in(process);
    if living.is_some() {
        return Err(Error::Nested);
    }
    let found = claims.look()?;
    let scope = Arc::clone(made.insert(make(process)?));
    guarded::prepare(&scope.policy, process)
        .map_err(|source| Error::system("making the watcher's wake-up", source))?;
    exit_hook::register()
        .map_err(|source| Error::system("registering the exit function (atexit)", source))?;

    let undo = scopeguard::guard(Vec::with_capacity(found.len()), |installed: Vec<Guarded>| {
        *late = guarded::restore_all(&installed);
        // What came to one that was refused, before it was: it is in place no more.
        late.extend(guarded::disarm(&scope.active().guarded));
        scope.abandon();
    });
    start_threads(&scope, &found)?;
    let undo = put_in_place(&scope, &found, undo)?;
    scopeguard::ScopeGuard::into_inner(undo);

    *living = Some(Arc::clone(&scope));
    scope.set_installed();
    Ok(scope)
}

/// The threads come first: once a handler is in place there is somebody to wake.
fn start_threads(scope: &Arc<Scope>, found: &[Found]) -> Result<(), Error> {
    let guarded: Vec<Guarded> = found.iter().map(Found::guarded).collect();
    scope.active().guarded.clone_from(&guarded);
    let spawning = |source| Error::system("spawning the watcher thread", source);
    let thread = watcher::spawn(Arc::clone(scope), guarded).map_err(spawning)?;
    scope.active().watcher = Some(thread);
    if let Some(timeout) = scope.policy.callback_timeout {
        let spawning = |source| Error::system("spawning the timer thread", source);
        let thread = timer::spawn(Arc::clone(scope), timeout).map_err(spawning)?;
        scope.active().timer = Some(thread);
    }
    Ok(())
}

fn put_in_place<G>(scope: &Scope, found: &[Found], mut undo: G) -> Result<G, Error>
where
    G: std::ops::DerefMut<Target = Vec<Guarded>>,
{
    let mask = Mask::of(found.iter().map(Found::signal));
    for one in found {
        let signal = one.signal();
        let guarded = one.guarded();
        // A repeat cuts nothing for the sake of a signal that its old handler decides about.
        let cut = if guarded.has_old_handler() { None } else { scope.policy.cut(signal) };
        one.install(&mask, cut)
            .map_err(|source| Error::system_for(signal, "installing the handler", source))?;
        undo.push(guarded);
    }
    Ok(undo)
}
