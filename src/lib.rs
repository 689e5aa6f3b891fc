//! Runs your clean-up exactly once, however the scope or the process ends, without clobbering anyone's signal handler.
//!
//! **No guard can catch** SIGKILL, SIGSTOP, `_exit`, `quick_exit`, `exec`, a power loss or a stack overflow
//! (unless it becomes an `abort` and ABRT is guarded).
//! **By default, only TERM and INT are guarded.** Any other signal that ends a process, such as USR1, does so without a
//! clean-up. Closing a terminal sends HUP, and `^\` sends QUIT; [`Signal::TERMINATING`], given to [`Builder::signals`],
//! guards all four. On Unix, `abort` and `panic = "abort"` are caught only if `Signal::ABRT` is guarded, and then the callback
//! has 5 s, or its [`callback_timeout`](Builder::callback_timeout). Windows has only TERM and INT, and `std::process::exit`
//! runs no callback there: call [`handle_exit::exit`](exit) instead.
//!
//! [`HandleExit`] is a guard over a scope. Its callback and its deferred functions run when the scope ends (normally,
//! by `?` or by a panic), on a guarded signal, in `std::process::exit`, and on return from `main`. Then the old signal
//! handlers, those from before the guard, are restored.
//!
//! *The exit* of a guard begins when its scope ends, when a guarded signal comes, when the process exits, or when
//! [`request`](Exit::request) is called. It ends when the callback and the deferred functions have run. The process may
//! continue after that.
//!
//! # Which constructor?
//! A process has at most one **host**, which decides how the process ends, and any number of **guests**, which leave
//! that to others.
//!
//! | constructor | for | on TERM or INT |
//! |---|---|---|
//! | [`HandleExit::new`]`(cb)`, a host | a program that can be told to stop, such as a server | `cb` runs, and then the scope has 5 s to end by itself (the grace period). If the scope ends, the program continues after it; if not, the process is killed by the signal |
//! | [`HandleExit::cleanup`]`(cb)`, a host | a program that cannot be told to stop, such as one that waits for a line of input | `cb` runs, and then the process is killed by the signal, whatever the scope does meanwhile |
//! | [`HandleExit::append`]`(cb)`, a guest | a library, or a program in which a third party handles the signals | `cb` runs, and then the old handler or the host decides. If there is neither, the process is killed by the signal when the scope has ended or after 5 s |
//!
//! A host is refused if there is another host ([`Error::Nested`]), or if a guarded signal has a foreign handler, one that
//! this crate did not install ([`Error::HandlerExists`]).
//! Guests are no obstacle to a host, and neither a host nor a handler is an obstacle to a guest. This holds for guards
//! of the same copy of the crate: those of a plugin with its own copy are foreign handlers. On Windows, a guest without a
//! host gives its scope no time: see [`append`](HandleExit::append).
//!
//! The code in the scope learns that it should stop from the callback, or by [`is_exiting`](Exit::is_exiting) in a loop, by
//! [`wait`](Exit::wait) on a thread, by [`begun`](Exit::begun)`().await`, or from [`readable_fd`](Exit::readable_fd) (Unix).
//! After [`keep`](HandleExit::keep), the scope is the rest of the process.
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
//! **A callback that blocks forever keeps the process alive.** The guard waits for the callback, and no number of `^C`
//! ends this wait. [`callback_timeout`](Builder::callback_timeout) ends the process with code 101 instead. With
//! [`Repeat::Force`] a second `^C` ends it, without the deferred functions. `^\` still kills the process, unless QUIT
//! is guarded.
//!
//! [`HandleExit::builder`] has every other choice, [`HandleExit::run`] takes closures that borrow, and the [`guide`]
//! leads from a situation to a few lines of code. **Before you write a callback**, read its
//! [five rules for clean-ups](guide#five-rules-for-clean-ups).
//!
//! # Every way out
//! | the scope or the process ends by | the callback runs on | and then |
//! |---|---|---|
//! | end of scope, `?`, [`finish`](HandleExit::finish) | the thread that ends the scope | the program continues |
//! | panic | the panicking thread | unwinding continues |
//! | `process::exit` (Windows: `handle_exit::exit`), return from `main` | the exiting thread | the process ends with its code |
//! | a guarded signal, the scope ends within the grace period | the watcher, the guard's own thread | the program continues after the scope of a host; after that of a guest, the process is killed by the signal ([`AfterScope`]) |
//! | a guarded signal, the scope does not end | the watcher | the process is killed by the signal ([`Ending`]; Windows: exit code 0xC000013A) |
//! | a guarded signal that had a handler before (`append`) | the watcher | that handler runs, and decides |
//! | [`request`](Exit::request) | the watcher | the scope ends in its own time: no deadline applies, not even with `cleanup` |
//! | [`disarm`](HandleExit::disarm) | – (dropped uncalled) | the program continues |
//! | a repeat of the signal during the grace period | – (it has run) | the process is killed by the signal |
//! | the callback panics after a signal or a request, or in `process::exit`, or `callback_timeout` expires | – | the process ends with code 101 (a `finish` that waits for the callback reports the panic instead) |
//!
//! The deferred functions run after the callback: at the end of the scope, or just before the process ends. They do not
//! run if the old handler of a guest kills the process or calls `_exit`.
//!
//! # On a signal
//! The signal handler wakes the *watcher*, an ordinary thread, which runs the callback. A callback may allocate, lock,
//! write, spawn and panic. Your threads keep running meanwhile. A thread that ends the scope or the process waits for the
//! callback. Then the old handler runs, on Linux with the original siginfo. Without an
//! old handler, the scope has the grace period to begin its end; otherwise the deferred functions run, and the process is
//! killed by the signal (`WIFSIGNALED`).
//!
//! # With several guards
//! A signal begins the exit of every guard that guards it, even of a guard that is made meanwhile. The callbacks run
//! newest first. Then the old handler decides what happens; if there is none, the host, if it guards the signal;
//! otherwise the oldest guest that does. The grace period, `repeat`, `after_scope` and `ending` of the other guards do
//! not count.
//!
//! A guard that ends without a signal runs its own callback and deferred functions, and nothing else. Before the
//! process ends, those of all living guards run, newest first. After a signal, the thread that ends a scope waits for the watcher
//! to run the callback of this scope. If the watcher has been busy with other user code for a second, that thread runs the
//! callback itself.
//!
//! # On drop
//! The callback runs if it has not, and then the [deferred functions](Exit::defer), last in first out. With the last
//! guard of a signal, the old disposition is restored exactly: handler, flags and mask. If another handler was
//! installed over the guard's, that one stays. The guard's handler below it then calls the old handler, or does
//! nothing if there was none. With
//! the last guard, the watcher is joined. A signal that arrives meanwhile is handed to the restored disposition.
//!
//! # In `process::exit` and return from `main`
//! Guards that are still alive run their callbacks and deferred functions in an exit function of the C library (`atexit`). The
//! thread-locals of the exiting thread are gone by then. The standard library aborts there if a callback, a deferred
//! function or an observer calls `std::process::exit`: call [`handle_exit::exit`](exit) instead. On the
//! watcher, both functions end the process with the given code, but only `handle_exit::exit` is sure to if another thread is
//! already exiting. The exiting thread waits without limit for callbacks on other threads, and at most
//! ten seconds for old handlers. If a signal has already
//! decided how the process ends, it ends that way. A guard that another thread makes is refused with
//! [`Error::Ended`]. Two threads that call C `exit` at once are safe only with glibc 2.41 or newer.
//!
//! # How the settings combine
//! After the callback has returned, for a signal without an old handler:
//!
//! | `grace` | scope | `after_scope` | the process |
//! |---|---|---|---|
//! | zero | – | – | ends as `ending` says, at once |
//! | t | ends within t | `Continue` | continues after the scope |
//! | t | ends within t | `End` | ends as `ending` says, after the scope |
//! | t | does not | – | ends as `ending` says, after t; sooner on a repeat |
//! | `Duration::MAX` | ends at some time | `Continue` / `End` | as within t |
//!
//! `cleanup` is a grace period of zero and `AfterScope::End`. `append` is `AfterScope::End` unless you set it.
//!
//! | `ending` | status | exit functions of the C library |
//! |---|---|---|
//! | `Signal` | killed by the signal (128 + n as PID 1 of a namespace; 0xC000013A on Windows) | do not run |
//! | `Code(c)` | c | run (Unix) |
//! | `ShellCode` | 128 + n | run (Unix) |
//!
//! If the guard is still alive in `process::exit` or after the return from `main`, and a signal ends the process there,
//! exit functions that were registered before the guard do not run.
//!
//! | a repeat comes | `Repeat::Finish` | `Repeat::Force` | `Repeat::Absorb` |
//! |---|---|---|---|
//! | while the callback runs | counts when the callback has returned | ends the process at once; nothing else runs | is ignored |
//! | during the grace period | ends the process; the deferred functions run | the same | is ignored |
//! | while a deferred function runs | ends the process after the deferred functions | ends the process at once; nothing else runs | ends the process after the deferred functions |
//! | while other exit functions run, after those of the guards | the first does nothing; the same signal at least 500 ms later ends the process at once, typed or not | the same | is ignored |
//!
//! A signal is a repeat if the same signal came at least 500 ms before: after TERM, the first INT is no repeat, and the
//! second one is. A quicker one is the same event, because a shell and npm both deliver one `^C`. A key (an INT or QUIT
//! that the kernel sent; Unix) is a repeat at once, whichever signal came first, except in the last row.
//!
//! [`callback_timeout`](Builder::callback_timeout) takes precedence over all of these. A callback that panicked on the watcher ends the
//! process with 101 after the deferred functions, without a grace period; a `finish` that waits for it reports the panic instead. A signal with an old handler has no
//! grace period, no forced end and no `after_scope`.
//!
//! # Threads
//! One thread for all guards of the process, named `handle-exit`, asleep without wake-ups until something happens. A
//! `callback_timeout` or `Repeat::Force` costs a second one. User code on the watcher runs with the signal mask that the
//! guard's thread had when it made the guard. While other guards live, it may be the mask of an earlier guard of that
//! thread. A process whose `main` has ended by `pthread_exit` lives as long as a guard does.
//!
//! # Features
//! `tracing`: the [`Event`]s of [`Builder::observe`] go to `tracing` too, target `handle_exit`. Without either, the
//! library prints nothing (Rust's panic hook does).
//!
//! # Platforms
//! Tested on Linux (glibc and musl, 64 and 32 bits) and, under wine, on Windows. Type-checked for macOS and the BSDs,
//! whose paths are tested as far as Linux can emulate them. Outside Linux, an old handler runs with the siginfo of a
//! signal that the process sent to itself.

// RealtimeSanitizer: see .ci/sanitizers.
#![cfg_attr(rtsan, feature(sanitize))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(unix, windows)))]
compile_error!("handle-exit is about the signals of Unix and the console events of Windows");

// The map, from the top to the bottom: each floor knows only of those below it.

// How a guard is made, and how its scope ends.
mod builder; // every setting, and the ways to install them
mod constructors; // HandleExit::new, cleanup, append, run
mod guard; // HandleExit: finish, disarm, rearm, Drop; how to end the process, and Signal::raise
mod install; // installs a guard: all of it, or nothing is changed

// The guard as the rest of the program sees it.
mod handle; // Exit, ExitBegun, Deferred

// The process's one exit: the guards and their callbacks, the watcher, the signals that came, and how the process ends.
mod exit;

// What users of the crate see.
mod deferred; // the deferred functions of one guard
mod error; // why no guard was made
mod event; // what happens, for observers and `tracing`
mod outcome; // how a scope ended, for `main` to return
mod waiters; // futures and descriptors that wait for the exit

mod cause; // what began an exit
mod settings; // what a guard was told
mod stack; // an ordered list whose items can be taken out anywhere

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
