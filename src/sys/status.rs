//! [`Status`]: how a process ends.

use crate::signal::Signal;

/// A way for the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Signal(Signal),
    Code(i32),
    /// After a callback that panicked or overran its time: code 101, what Rust's own panics end a
    /// process with, and nothing a supervisor takes for a clean stop.
    Failed,
}

impl Status {
    /// The code that stands for it: what `$?` would be, but for the eight bits that wait(2) keeps.
    pub(crate) fn code(self) -> i32 {
        match self {
            Status::Signal(signal) => 128 + signal.as_raw(),
            Status::Code(code) => code,
            Status::Failed => 101,
        }
    }
}
