//! Windows: console control events in the place of signals.
//!
//! * `process`: how the process ends, and whether it is ending
//! * `thread`: threads, told apart and spawned
//! * `siginfo`: an event that came
//! * `slot`: what came and was not taken yet, and who waits for it to be passed on
//! * `clock`: when it came
//! * `abort`: nothing, here
//! * `handler`: the function the system calls
//! * `guarded`: one signal: looked at, installed, restored
//! * `restore`: the handler is passed by again
//! * `forward`: an event for the handlers below the guard's
//! * `exit_hook`: return from `main`, and `handle_exit::exit`
//! * `wake`: from the handler to the watcher
//! * `dll`: functions looked up at run time
//!
//! # How the system calls handlers
//! It makes a thread in the process for each event. That thread runs the handlers, the last registered
//! first, until one returns TRUE; the first of the list is the system's own and ends the process with
//! `STATUS_CONTROL_C_EXIT`. So the guard's handler is an ordinary function on an ordinary thread: it
//! may lock and wait, and a mutex with two condition variables is all there is of machinery here.
//!
//! # The console lock
//! While handlers run, the system holds a lock, and `SetConsoleCtrlHandler` waits for it. Handlers that
//! do not return are usual: for the events after which the process ends, Go, tokio, .NET and this
//! crate stay in theirs. A call to `SetConsoleCtrlHandler` may then never come back. Therefore:
//!
//! * the guard's handler, once registered, stays registered. Without a guard it returns FALSE, which
//!   is as if it were not there. (.NET came to the same end after several deadlocks:
//!   dotnet/runtime#124893.)
//! * a new guard takes it out and registers it anew, so as to be called before those that were
//!   registered since.
//! * nothing here waits for a handler below to return.
//!
//! `AllocConsole`, `AttachConsole` and `FreeConsole` forget all handlers; the next guard's is
//! registered anew, a living one's is lost.

pub(crate) mod abort;
pub(crate) mod clock;
mod dll;
pub(crate) mod exit_hook;
pub(crate) mod forward;
pub(crate) mod guarded;
mod handler;
pub(crate) mod process;
pub(crate) mod restore;
pub(crate) mod siginfo;
pub(crate) mod slot;
pub(crate) mod thread;
pub(crate) mod wake;
