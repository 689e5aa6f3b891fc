//! [`Signal`], sets of signals, and what is known of a signal that came ([`Received`]).

use std::fmt;
use std::str::FromStr;

#[cfg(unix)]
use nix::libc;

#[cfg(windows)]
mod console;
#[cfg(unix)]
mod received;
mod set;

#[cfg(windows)]
pub use console::{ConsoleEvent, Received};
#[cfg(unix)]
pub use received::{Received, Sender};
pub(crate) use set::SignalSet;

/// Windows has only these: `^C`, and what the C library calls a request to terminate.
#[cfg(windows)]
mod libc {
    pub(super) const SIGINT: i32 = 2;
    pub(super) const SIGTERM: i32 = 15;
}

/// One more than the highest signal number.
#[cfg(unix)]
pub(crate) const COUNT: usize = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    129
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    65
} else {
    // Real-time signals are not offered there.
    32
};

/// A signal number of this platform.
///
/// A plain number with a name, whether or not the signal can be guarded. A guard for one that cannot is refused with
/// [`Error::Unguardable`](crate::Error::Unguardable).
///
/// ```
/// use handle_exit::Signal;
///
/// assert_eq!("TERM".parse(), Ok(Signal::TERM));
/// assert_eq!("SIGTERM".parse(), Ok(Signal::TERM));
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::try_from(Signal::INT.as_raw()), Ok(Signal::INT));
/// assert_eq!(Signal::from_raw(0), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

macro_rules! signals {
    ($($(#[$attr:meta])* $name:ident = $raw:ident, $long:literal, $doc:literal;)*) => {
        impl Signal {
            $($(#[$attr])* #[doc = $doc] pub const $name: Signal = Signal(libc::$raw);)*
        }

        /// Every named signal of this platform, with its full name.
        const NAMED: &[(Signal, &str)] = &[$($(#[$attr])* (Signal::$name, $long),)*];
    };
}

#[cfg(windows)]
signals! {
    INT = SIGINT, "SIGINT", "Interrupt from the keyboard (`^C`).";
    TERM = SIGTERM, "SIGTERM", "Termination request.";
}

#[cfg(unix)]
signals! {
    HUP = SIGHUP, "SIGHUP", "The terminal was closed, or \"read your configuration again\".";
    INT = SIGINT, "SIGINT", "Interrupt from the keyboard (`^C`).";
    QUIT = SIGQUIT, "SIGQUIT", "Quit from the keyboard (`^\\`); by default with a core dump.";
    ILL = SIGILL, "SIGILL", "Illegal instruction. Cannot be guarded.";
    TRAP = SIGTRAP, "SIGTRAP", "Trace trap. Cannot be guarded.";
    ABRT = SIGABRT, "SIGABRT", "`abort(3)`, which `panic = \"abort\"` calls. A callback has 5 s, or its `callback_timeout`.";
    BUS = SIGBUS, "SIGBUS", "Bus error. Cannot be guarded.";
    FPE = SIGFPE, "SIGFPE", "Arithmetic error. Cannot be guarded.";
    KILL = SIGKILL, "SIGKILL", "Kill. No program can catch it.";
    USR1 = SIGUSR1, "SIGUSR1", "User-defined signal 1.";
    SEGV = SIGSEGV, "SIGSEGV", "Invalid memory reference. Cannot be guarded.";
    USR2 = SIGUSR2, "SIGUSR2", "User-defined signal 2.";
    PIPE = SIGPIPE, "SIGPIPE", "Write to a pipe that nobody reads. Rust programs start with it ignored.";
    ALRM = SIGALRM, "SIGALRM", "Timer of `alarm(2)`.";
    TERM = SIGTERM, "SIGTERM", "Termination request: what `kill`, systemd, Docker and Kubernetes send.";
    CHLD = SIGCHLD, "SIGCHLD", "A child stopped or ended. Does not end a process: only for `Builder::on`.";
    CONT = SIGCONT, "SIGCONT", "Continue. Does not end a process: only for `Builder::on`.";
    STOP = SIGSTOP, "SIGSTOP", "Stop. No program can catch it.";
    TSTP = SIGTSTP, "SIGTSTP", "Stop from the keyboard (`^Z`). Only for `Builder::on`.";
    TTIN = SIGTTIN, "SIGTTIN", "Background read from the terminal. Only for `Builder::on`.";
    TTOU = SIGTTOU, "SIGTTOU", "Background write to the terminal. Only for `Builder::on`.";
    URG = SIGURG, "SIGURG", "Urgent data on a socket. Does not end a process: only for `Builder::on`.";
    XCPU = SIGXCPU, "SIGXCPU", "CPU time limit (`setrlimit(2)`) reached.";
    XFSZ = SIGXFSZ, "SIGXFSZ", "File size limit reached.";
    VTALRM = SIGVTALRM, "SIGVTALRM", "Virtual timer.";
    PROF = SIGPROF, "SIGPROF", "Profiling timer.";
    WINCH = SIGWINCH, "SIGWINCH", "Window size changed. Does not end a process: only for `Builder::on`.";
    IO = SIGIO, "SIGIO", "I/O is possible.";
    SYS = SIGSYS, "SIGSYS", "Bad system call. Cannot be guarded.";
    #[cfg(all(
        any(target_os = "linux", target_os = "android"),
        not(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc64"))
    ))]
    STKFLT = SIGSTKFLT, "SIGSTKFLT", "Stack fault of a coprocessor; unused.";
    #[cfg(any(target_os = "linux", target_os = "android"))]
    PWR = SIGPWR, "SIGPWR", "Power failure.";
}

impl Signal {
    /// The signals by which people and supervisors ask a program to end: HUP, INT, QUIT, TERM.
    #[cfg(unix)]
    pub const TERMINATING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

    /// The signals by which people and supervisors ask a program to end: INT (CTRL_C) and TERM (CTRL_BREAK,
    /// CTRL_CLOSE, CTRL_LOGOFF, CTRL_SHUTDOWN). Windows has no others.
    #[cfg(windows)]
    pub const TERMINATING: [Signal; 2] = [Signal::INT, Signal::TERM];

    /// The signal with this number, or `None` if the platform has no such signal.
    #[must_use]
    pub fn from_raw(raw: i32) -> Option<Signal> {
        #[cfg(unix)]
        let exists = (1..COUNT as i32).contains(&raw);
        // The C libraries of MIPS disagree about the last one.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let exists = exists && raw <= libc::SIGRTMAX();
        #[cfg(windows)]
        let exists = NAMED.iter().any(|(signal, _)| signal.0 == raw);
        exists.then_some(Signal(raw))
    }

    /// The number, as `kill(2)` takes it.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Why a guard refuses this signal, or `None` if it may be guarded.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        let harmless = "its default action does not end a process (Builder::on takes it)";
        self.refusal_on().or_else(|| HARMLESS.contains(self).then_some(harmless))
    }

    /// Why `Builder::on` refuses this signal, or `None`: it also takes signals whose default action
    /// does not end a process.
    #[cfg(unix)]
    pub(crate) fn refusal_on(self) -> Option<&'static str> {
        if matches!(self, Signal::KILL | Signal::STOP) {
            return Some("no program can catch it");
        }
        if FAULTS.contains(self) {
            return Some(
                "it reports a fault of the running instruction, and a program that continues \
                 after it has undefined behaviour",
            );
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.0 > 31 && self.0 < libc::SIGRTMIN() {
            return Some("the C library reserves it for itself");
        }
        None
    }

    /// There are two, and both ask a program to end.
    #[cfg(windows)]
    pub(crate) fn refusal_on(self) -> Option<&'static str> {
        None
    }
}

/// Raised by the running instruction: the kernel delivers these at once, blocked or not.
#[cfg(unix)]
pub(crate) const FAULTS: SignalSet = SignalSet::of(&[
    Signal::SEGV,
    Signal::BUS,
    Signal::FPE,
    Signal::ILL,
    Signal::TRAP,
    Signal::SYS,
]);

/// Signals whose default action does not end a process.
#[cfg(unix)]
const HARMLESS: SignalSet = {
    let everywhere = SignalSet::of(&[
        Signal::CHLD,
        Signal::CONT,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
        Signal::URG,
        Signal::WINCH,
    ]);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let elsewhere = SignalSet::of(&[]);
    // On the BSDs and macOS, SIGIO and SIGINFO are ignored by default.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let elsewhere = SignalSet::of(&[Signal::IO, Signal(libc::SIGINFO)]);
    everywhere.union(elsewhere)
};

#[cfg(windows)]
const HARMLESS: SignalSet = SignalSet::of(&[]);

impl fmt::Display for Signal {
    /// `SIGTERM`; real-time signals as `SIGRTMIN+3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, name)) = NAMED.iter().find(|(signal, _)| signal == self) {
            return f.pad(name);
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.0 >= libc::SIGRTMIN() {
            return f.pad(&format!("SIGRTMIN+{}", self.0 - libc::SIGRTMIN()));
        }
        f.pad(&format!("signal {}", self.0))
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not the name of a signal: see [`Signal`]'s `FromStr`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a signal of this platform: write a name such as TERM or SIGTERM")]
pub struct ParseSignalError {
    name: String,
}

impl FromStr for Signal {
    type Err = ParseSignalError;

    /// Takes `TERM` and `SIGTERM`, in either case, and `RTMIN+3`.
    fn from_str(name: &str) -> Result<Signal, ParseSignalError> {
        let upper = name.trim().to_ascii_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        let signal = NAMED.iter().find(|(_, long)| &long[3..] == short).map(|(signal, _)| *signal);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let signal = signal.or_else(|| real_time(short));
        signal.ok_or_else(|| ParseSignalError { name: name.to_owned() })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn real_time(short: &str) -> Option<Signal> {
    let offset = match short.strip_prefix("RTMIN")? {
        "" => 0,
        // `parse` takes a sign of its own.
        plus => {
            plus.strip_prefix('+').filter(|digits| !digits.starts_with('+'))?.parse::<u8>().ok()?
        }
    };
    Signal::from_raw(libc::SIGRTMIN() + i32::from(offset))
}

/// The number is not the number of a signal: see [`Signal`]'s `TryFrom<i32>`.
///
/// ```
/// use handle_exit::Signal;
///
/// let error = Signal::try_from(-1).unwrap_err();
/// assert_eq!(error.to_string(), "`-1` is not a signal number of this platform");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal number of this platform")]
pub struct NoSuchSignal(i32);

impl TryFrom<i32> for Signal {
    type Error = NoSuchSignal;

    /// As [`Signal::from_raw`].
    fn try_from(raw: i32) -> Result<Signal, NoSuchSignal> {
        Signal::from_raw(raw).ok_or(NoSuchSignal(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for signal in (1..=128).filter_map(Signal::from_raw) {
            let text = signal.to_string();
            if let Some(short) = text.strip_prefix("SIG") {
                assert_eq!(text.parse(), Ok(signal));
                assert_eq!(short.to_lowercase().parse(), Ok(signal));
            }
        }
    }

    #[test]
    fn what_is_not_a_signal_is_refused() {
        for raw in [i32::MIN, -1, 0, 129, i32::MAX] {
            assert_eq!(Signal::from_raw(raw), None);
            let error = Signal::try_from(raw).unwrap_err().to_string();
            assert_eq!(error, format!("`{raw}` is not a signal number of this platform"));
        }
        for name in ["", "SIG", "TERMINATE", "15", "RTMIN+", "RTMIN+99", "RTMIN-1", "RTMIN++1"] {
            let error = name.parse::<Signal>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn terminating_signals_can_be_guarded() {
        assert!(Signal::TERMINATING.iter().all(|signal| signal.refusal().is_none()));
    }

    #[cfg(unix)]
    #[test]
    fn signals_that_do_not_end_a_process_are_only_for_on() {
        assert_eq!(
            HARMLESS.into_iter().count(),
            HARMLESS.into_iter().filter_map(Signal::refusal).count()
        );
        assert_eq!(HARMLESS.into_iter().find_map(Signal::refusal_on), None);
        for signal in FAULTS.into_iter().chain([Signal::KILL, Signal::STOP]) {
            assert!(signal.refusal_on().is_some());
            assert_eq!(signal.refusal(), signal.refusal_on());
        }
    }
}
