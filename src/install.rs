//! Puts a guard to work in this process: all of it, or nothing changed.

use std::sync::Arc;

use crate::error::Error;
use crate::exit::{self, Guard, LockedSetup, ProcessExit, Setup};
use crate::machine::Enter;
use crate::settings::{Ignored, Settings};
use crate::signal::SignalSet;
use crate::sys::guarded::{self, Found, Guarded, Refused};
use crate::sys::process::{self, Process};
use crate::sys::siginfo::Arrival;
use crate::sys::{exit_hook, forward, mailbox, wake};
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
    let exit = exit::of(process);
    match exit.machine.enter(guard) {
        Enter::Entered => return Ok(()),
        Enter::Nested => return Err(Error::Nested),
        Enter::Missing(_) => {}
    }
    let mut undone = Undone::default();
    let result = Installation { exit, process, guard }.run(&mut undone);
    // With no lock held: signals that came to a guard that was refused go where they belong.
    if let Some(generation) = undone.dismissed {
        exit.join(undone.threads, generation);
    }
    undone.late.iter().for_each(forward::hand_over);
    result
}

/// What a refusal leaves to be done when the locks are free.
#[derive(Default)]
struct Undone {
    threads: Setup,
    dismissed: Option<usize>,
    late: Vec<Arrival>,
}

/// What there is to undo.
struct Begun<'a> {
    installed: Vec<Guarded>,
    /// Signals that came to a handler which was then refused.
    refused: Vec<Arrival>,
    setup: LockedSetup<'a>,
}

struct Installation<'a> {
    exit: &'static ProcessExit,
    process: Process,
    guard: &'a Arc<Guard>,
}

impl Installation<'_> {
    fn run(&self, undone: &mut Undone) -> Result<(), Error> {
        process::count_forks()
            .map_err(|source| Error::system("counting forks (pthread_atfork)", source))?;
        // Held to the end, so that two threads cannot both find nobody there.
        let setup = self.exit.setup();
        let missing = match self.exit.machine.enter(self.guard) {
            Enter::Entered => return Ok(()),
            Enter::Nested => return Err(Error::Nested),
            Enter::Missing(missing) => missing,
        };
        let found = look(&self.guard.settings, missing)?;
        let is_first = setup.threads.watcher.is_none();
        let abort_wait = self.guard.settings.abort_wait();
        if is_first {
            guarded::prepare(self.process, abort_wait)
                .map_err(|source| Error::system("making the watcher's wake-up", source))?;
        } else if mailbox::ABORT.is_some_and(|abort| missing.contains(abort)) {
            mailbox::set_abort_wait(abort_wait);
        }
        exit_hook::register(at_exit::at_process_exit)
            .map_err(|source| Error::system("registering the exit function (atexit)", source))?;

        let begun =
            Begun { installed: Vec::with_capacity(found.len()), refused: Vec::new(), setup };
        let mut begun = scopeguard::guard(begun, |begun| *undone = self.undo(begun, is_first));
        self.start_threads(&mut begun.setup)?;
        if let Err((signal, refused)) = guarded::install(&found, &mut begun.installed) {
            return Err(match refused {
                Refused::System(source) => {
                    Error::system_for(signal, "installing the handler", source)
                }
                Refused::Changed(late) => {
                    begun.refused = late;
                    Error::busy_for(
                        signal,
                        "another thread changed its disposition at that moment: try again",
                    )
                }
            });
        }
        let Begun { installed, setup, .. } = scopeguard::ScopeGuard::into_inner(begun);
        self.exit.machine.enter_with(self.guard, &installed, setup.threads.timer.is_some());
        // The watcher may be asleep, and has to listen to more signals than before.
        wake::post();
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn undo(&self, mut begun: Begun<'_>, is_first: bool) -> Undone {
        let mut late = guarded::restore_all(&begun.installed);
        late.append(&mut begun.refused);
        if !is_first {
            return Undone { late, ..Undone::default() };
        }
        let generation = self.exit.machine.generation();
        self.exit.machine.dismiss(generation);
        let threads = std::mem::take(&mut *begun.setup.threads);
        Undone { threads, dismissed: Some(generation), late }
    }

    /// The threads come first: once a handler is in place there is somebody to wake.
    fn start_threads(&self, setup: &mut LockedSetup<'_>) -> Result<(), Error> {
        let LockedSetup { threads, held } = setup;
        let spawning = |source| Error::system("spawning the watcher thread", source);
        if threads.watcher.is_none() {
            threads.watcher = Some(watcher::spawn(self.exit, held).map_err(spawning)?);
        }
        let spawning = |source| Error::system("spawning the timer thread", source);
        if let Some(start) =
            self.guard.work.on_request.start_timer.filter(|_| threads.timer.is_none())
        {
            threads.timer = Some(start(self.exit, held).map_err(spawning)?);
        }
        Ok(())
    }
}

/// Looks at the dispositions and changes none. Leaves out what is to stay ignored.
fn look(settings: &Settings, signals: SignalSet) -> Result<Vec<Found>, Error> {
    let mut found = Vec::with_capacity(2);
    for signal in signals.iter() {
        let one = Found::query(signal)
            .map_err(|source| Error::system_for(signal, "querying the disposition", source))?;
        if one.is_ignored() && settings.ignored == Ignored::Keep {
            continue;
        }
        match one.holder() {
            Some(holder) if !settings.append => {
                return Err(Error::HandlerExists { signal, holder });
            }
            Some(_) if one.is_buried_too_deep() => {
                return Err(Error::busy_for(
                    signal,
                    "other handlers were installed over the guard's too often",
                ));
            }
            _ => found.push(one.appending(settings.append)),
        }
    }
    Ok(found)
}
