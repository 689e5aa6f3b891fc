//! An exit guard for Unix.

#[cfg(not(unix))]
compile_error!("handle-exit is about Unix signals and builds for Unix only");

mod builder;
mod cause;
mod deferred;
mod error;
mod event;
mod guard;
mod handle;
mod install;
mod phase;
mod policy;
mod process_exit;
mod scope;
mod signal;
mod sys;
mod timer;
mod waiters;
mod watcher;

pub use builder::Builder;
pub use cause::{Cause, Outcome, Received, Sender};
pub use error::{Error, Holder};
pub use event::Event;
pub use guard::{HandleExit, exit_with_signal};
pub use handle::{Deferred, ExitBegun, ExitHandle};
pub use policy::{AfterScope, Ending, Ignored, OldHandler, Repeat};
pub use signal::{ParseSignalError, Signal};
