//! Handlers that somebody else installs.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use handle_exit::Signal;
use nix::libc::{self, c_int, c_void, siginfo_t};

use super::{InfoHandler, call_handler, disposition, install_exactly, say_in_handler};

/// How often foreign handlers may bury a guard's in these tests.
pub const FOREIGN: usize = 9;

pub static FOREIGN_HANDLERS: [InfoHandler; FOREIGN] = [
    foreign::<0>,
    foreign::<1>,
    foreign::<2>,
    foreign::<3>,
    foreign::<4>,
    foreign::<5>,
    foreign::<6>,
    foreign::<7>,
    foreign::<8>,
];

const FOREIGN_LINES: [&str; FOREIGN] = [
    "foreign 0\n",
    "foreign 1\n",
    "foreign 2\n",
    "foreign 3\n",
    "foreign 4\n",
    "foreign 5\n",
    "foreign 6\n",
    "foreign 7\n",
    "foreign 8\n",
];

/// What each foreign handler displaced, and calls.
static DISPLACED: [AtomicUsize; FOREIGN] = [const { AtomicUsize::new(0) }; FOREIGN];

/// Says its line and then chains, as a well-behaved library does.
extern "C" fn foreign<const N: usize>(raw: c_int, info: *mut siginfo_t, context: *mut c_void) {
    say_in_handler(FOREIGN_LINES[N]);
    let displaced = DISPLACED[N].load(SeqCst);
    if displaced != libc::SIG_DFL && displaced != libc::SIG_IGN {
        // SAFETY: every handler of TERM in these tests takes siginfo.
        unsafe { call_handler(displaced, raw, info, context) };
    }
}

/// Installs foreign handler `n` on TERM, over whatever is there.
pub fn put_on_top(n: usize) {
    will_displace(n, disposition(Signal::TERM).0);
    install_foreign(n);
}

/// Says what foreign handler `n` is to chain to.
pub fn will_displace(n: usize, handler: usize) {
    DISPLACED[n].store(handler, SeqCst);
}

/// Installs foreign handler `n` on TERM.
pub fn install_foreign(n: usize) {
    install_exactly(Signal::TERM, FOREIGN_HANDLERS[n] as usize, libc::SA_SIGINFO, &[Signal::USR1]);
}

/// Puts back the handler that foreign handler `n` displaced, which takes siginfo.
pub fn take_away(n: usize) {
    install_exactly(Signal::TERM, DISPLACED[n].load(SeqCst), libc::SA_SIGINFO, &[]);
}

/// An old handler that says `old`.
pub extern "C" fn says_old(_: c_int) {
    say_in_handler("old\n");
}

/// The same, installed with siginfo and a mask.
pub fn install_old(signal: Signal) {
    extern "C" fn old(raw: c_int, _: *mut siginfo_t, _: *mut c_void) {
        says_old(raw);
    }
    install_exactly(signal, old as *const () as usize, libc::SA_SIGINFO, &[Signal::USR2]);
}

/// Installs a handler of TERM that says nothing, and calls the one that is there.
pub fn put_silently_on_top() {
    static BELOW: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn calls_what_was_below(raw: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: it was installed with SA_SIGINFO.
        unsafe { call_handler(BELOW.load(SeqCst), raw, info, context) };
    }
    BELOW.store(disposition(Signal::TERM).0, SeqCst);
    let handler = calls_what_was_below as *const () as usize;
    install_exactly(Signal::TERM, handler, libc::SA_SIGINFO, &[]);
}
