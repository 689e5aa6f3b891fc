//! **My exit function always runs, however the program ends, and I clobber nobody's signal handler.**
//!
//! [`HandleExit`] is a guard over a scope. However the scope ends (normal end, `?`, panic, TERM or
//! INT, `std::process::exit`, return from `main`), its callback runs exactly once and to its end. The
//! handlers that were there before are put back, and run after the callback if a signal came.
//!
//! # What no guard can catch
//! SIGKILL, SIGSTOP, `_exit`, `quick_exit`, `exec`, a power loss, a stack overflow. `abort` and `panic = "abort"`
//! are caught only where SIGABRT is guarded, and two threads in C `exit` at once only with glibc 2.41 or newer. On Windows,
//! `std::process::exit` is `ExitProcess` and is not caught: call `handle_exit::exit` instead.
//!
//! Nor can it help where a callback waits for what never comes, such as a thread that calls `process::exit`, which
//! waits for the callback: that is what [`callback_timeout`](Builder::callback_timeout) is for. And the watcher is a
//! thread as any other: a process whose `main` has ended by `pthread_exit` lives as long as a guard does.
//!
//! # Which constructor?
//! | constructor | for | on a signal |
//! |---|---|---|
//! | [`HandleExit::new`]`(cb)` | code that can be told to stop (a serve loop) | `cb`, then the scope has 5 s to end by itself; if it does not, the process dies of the signal |
//! | [`HandleExit::cleanup`]`(cb)` | code that cannot | `cb`, then the process dies of the signal |
//! | [`HandleExit::append`]`(cb)` | code that is not alone: a third party's handler is there, or another guard | `cb`, then that handler or guard, which decides what happens next |
//!
//! ```no_run
//! # use std::sync::Arc;
//! # struct Server;
//! # impl Server { fn shutdown(&self) {} fn serve(&self) {} }
//! use handle_exit::HandleExit;
//!
//! fn main() -> Result<(), handle_exit::Error> {
//!     let server = Arc::new(Server);
//!     let stop = Arc::clone(&server);
//!     let _guard = HandleExit::new(move || stop.shutdown())?;
//!     server.serve(); // returns after `shutdown` was called
//!     Ok(())
//! }
//! ```
//!
//! [`HandleExit::builder`] has every other choice, [`HandleExit::run`] takes closures that borrow, and the
//! [`guide`] leads from a situation (server, batch job, library, async service, daemon, worker, terminal)
//! to a few lines of code.
//!
//! **The scope keeps running while the callback runs**, on another thread. **A callback writes with
//! `let _ = writeln!(…)`**, since `println!` and `eprintln!` panic where the terminal is gone. **Async
//! clean-up belongs in the body, after `begun().await`**, not in the callback with `block_on`.
//!
//! # How each way out goes
//! | the scope or the process ends by | the callback runs on | and then |
//! |---|---|---|
//! | end of scope, `?`, [`finish`](HandleExit::finish) | the thread that ends the scope | the program goes on |
//! | panic | the panicking thread | unwinding goes on |
//! | `process::exit` (Windows: `handle_exit::exit`), return from `main` | the exiting thread | the process ends with its code |
//! | TERM or INT, the scope ends within `grace` | the watcher thread | the program goes on after the scope ([`AfterScope`]) |
//! | TERM or INT, the scope does not end | the watcher thread | the process dies of the signal ([`Ending`]; Windows: exit code 0xC000013A) |
//! | TERM or INT that had a handler before (`append`) | the watcher thread | that handler runs, and decides |
//! | [`request`](Exit::request) | the watcher thread | the scope ends in its own time: no deadline applies |
//! | [`disarm`](HandleExit::disarm) | – (dropped uncalled) | the program goes on |
//! | the same signal again during the grace | – (it has run) | the process dies of the signal |
//! | the callback panics on a signal or in `process::exit`, or overruns `callback_timeout` | – | the process ends with code 101 |
//!
//! # On a signal
//! The handler records the signal and wakes the *watcher*, an ordinary thread, which runs the
//! callback: it may allocate, lock, write, spawn and panic. A thread that ends the scope or the
//! process meanwhile waits until the callback has returned. Then the old handlers of the signals that
//! came are run, each once, as a real delivery with the original siginfo. A signal of default
//! disposition starts the grace: if the scope has not begun to end when the grace is over, the deferred
//! functions run and the process dies of the signal. The parent sees `WIFSIGNALED`, so that shell loops
//! and supervisors know.
//!
//! # With several guards
//! The exit is the process's, and a guard is one scope's part in it. The first guard puts the handlers in
//! place and starts the watcher; [`append`](HandleExit::append) adds guards, from any thread, in any order
//! of ending; the last guard to end puts everything back. A signal begins the exit of every guard that
//! has it: their callbacks run on the watcher, newest first. Then the old handler decides what happens, or,
//! where there is none, the oldest guard that has the signal: its grace, repeat, `after_scope` and ending
//! are the process's. A guard that ends without a signal runs its own callback and deferred functions, and the
//! others do not notice. Before a signal, a forced end or `process::exit` ends the process, the callbacks
//! and deferred functions of all living guards run.
//!
//! A scope that ends after the signal came, while the watcher is still in the callback of a newer guard,
//! waits for its turn. That callback may be waiting for this very thread, so after a second the thread that
//! ends the scope runs the scope's callback itself.
//!
//! # On drop
//! The callback runs if it has not, then what was [deferred](Exit::defer), last in first out. With the last
//! guard of a signal, its disposition is put back exactly (handler, flags, mask), unless another handler was
//! installed over the guard's: then that one stays, and the guard's handler below it passes signals straight
//! through. With the last guard, the watcher is joined. A signal that arrives meanwhile is handed to the
//! restored disposition.
//!
//! # In `process::exit` and return from `main`
//! A guard that is alive then (kept, leaked, or in a frame that does not unwind) runs its callback and
//! the deferred functions in an exit function of the C library, on the exiting thread. The thread-locals
//! of that thread are gone by then, and calling `process::exit` there aborts (both are the standard library's
//! rules; [`handle_exit::exit`](exit) ends the process there too). The same holds for a guard that is dropped
//! there, by the destructor of a thread-local or by an exit function. An old handler that is running is waited
//! for, at most ten seconds: it may never return. A callback that waits for a thread which calls
//! `process::exit` never returns either, since that thread waits for the callback; only `callback_timeout` ends
//! this.
//!
//! # What the choices mean together
//! After the callback has returned, for a signal of default disposition:
//!
//! | `grace` | scope | `after_scope` | the process |
//! |---|---|---|---|
//! | zero | – | – | ends as `ending` says, at once |
//! | t | ends within t | `Continue` | goes on after the scope |
//! | t | ends within t | `End` | ends as `ending` says, after the scope |
//! | t | does not | – | ends as `ending` says, after t; sooner on a repeat |
//! | `Duration::MAX` | ends some time | `Continue` / `End` | as within t |
//!
//! `cleanup` is a grace of zero and `AfterScope::End`.
//!
//! | `ending` | status | exit functions of the C library |
//! |---|---|---|
//! | `Signal` | death by the signal (128 + n as PID 1 of a namespace; 0xC000013A on Windows) | do not run |
//! | `Code(c)` | c | run |
//! | `ShellCode` | 128 + n | run |
//!
//! | a repeat of the signal comes | `Repeat::Finish` | `Repeat::Force` | `Repeat::Absorb` |
//! |---|---|---|---|
//! | within 500 ms of the first, and a process sent one of the two | same event, nothing changes | the same | the same |
//! | otherwise, while the callback runs | counts when the callback is done | ends the process at once; nothing else runs | nothing changes |
//! | otherwise, during the grace | ends the process; deferred functions run | the same | nothing changes |
//!
//! `callback_timeout` counts from the start of the callback and beats all of these: when it is over, the
//! deferred functions run and the process ends with code 101, without the exit functions of the C library,
//! since the callback may hold a lock that they need. A callback that panicked on the watcher ends the process
//! with 101 too, after the deferred functions and without a grace. For a signal that had a handler before, there is no grace, no
//! forced end and no `after_scope`.
//!
//! # Threads
//! One thread for all guards of the process, named `handle-exit`, asleep without wake-ups until something
//! happens (and `exit-timer` where there is a `callback_timeout`). The callback runs on the watcher, or on
//! the thread that ends the scope or the process; deferred functions run on the thread that ends the exit.
//!
//! # Features
//! `tracing`: the [`Event`]s of [`Builder::observe`] go to `tracing` too, target `handle_exit`.
//! Without either, the library prints nothing (Rust's panic hook does).
//!
//! # Platforms
//! Runs and is tested on Linux (glibc and musl, 64 and 32 bits) and, under wine, on Windows. Type-checked for macOS
//! and the BSDs, whose paths are tested where Linux can play them. Outside Linux an old handler is run with the
//! siginfo of a signal the process sent to itself.

// RealtimeSanitizer: see .ci/sanitizers.
#![cfg_attr(rtsan, feature(sanitize))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(unix, windows)))]
compile_error!("handle-exit is about the signals of Unix and the console events of Windows");

// The map, from the top to the bottom: each floor knows only of those below it.

// How a guard is made, and how its scope ends.
mod builder; // every setting, and the ways to install them
mod constructors; // HandleExit::new, cleanup, append, run
mod guard; // HandleExit: finish, disarm, rearm, Drop
mod install; // a guard is put in place: all of it, or nothing changed

// Who else comes to the exit.
mod at_exit; // process::exit and return from main
mod handle; // Exit, ExitBegun, Deferred: the guard as the rest of the program sees it
mod watcher; // the guard's own threads

// The process's one exit: who runs which callback, what has come, who decides, how it ends.
mod exit;

// What a user meets on the way.
mod deferred; // the deferred functions of one guard
mod error; // why no guard was made
mod event; // what happens, for observers and `tracing`
mod outcome; // how a scope ended, for `main` to return
mod waiters; // futures and descriptors that wait for the exit

mod cause; // what began an exit
mod settings; // what a guard was told
mod stack; // things in order, any of which can be taken out

// The operating system, and all unsafe code.
mod sys;

mod signal; // Signal, Received, Sender

pub mod guide;

pub use builder::Builder;
pub use cause::Cause;
pub use error::{Error, Holder};
pub use event::Event;
#[cfg(unix)]
pub use guard::exit_with_signal;
pub use guard::{HandleExit, exit};
pub use handle::{Deferred, Exit, ExitBegun};
pub use outcome::Outcome;
pub use settings::{AfterScope, Ending, Ignored, OldHandler, Repeat};
#[cfg(windows)]
#[cfg_attr(docsrs, doc(cfg(windows)))]
pub use signal::ConsoleEvent;
#[cfg(unix)]
#[cfg_attr(docsrs, doc(cfg(unix)))]
pub use signal::Sender;
pub use signal::{NoSuchSignal, ParseSignalError, Received, Signal};

/// The snippets of the README are compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
