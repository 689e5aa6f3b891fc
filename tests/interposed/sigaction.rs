//! `sigaction`, in place of the C library's: Rust code of this process calls this one. A scenario says what is to
//! happen at the next call for a signal; otherwise it does what the C library's does.

#![allow(unsafe_code, reason = "it stands in the place of a function of the C library")]

use std::sync::Mutex;

use handle_exit::Signal;
use nix::errno::Errno;
use nix::libc::{self, c_int};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Call {
    /// Asks for the disposition.
    Query,
    /// Installs one.
    Installation,
}

/// What happens at a call.
pub(crate) struct Next {
    pub(crate) signal: Signal,
    pub(crate) call: Call,
    /// What other threads and handlers do just before,
    pub(crate) before: fn(),
    /// and right behind.
    pub(crate) behind: fn(),
    /// Whether the kernel refuses.
    pub(crate) fails: bool,
}

impl Next {
    /// An installation for this signal, which nothing happens to.
    pub(crate) fn installation(signal: Signal) -> Next {
        Next { signal, call: Call::Installation, before: || {}, behind: || {}, fails: false }
    }
}

static NEXT: Mutex<Option<Next>> = Mutex::new(None);

/// The calls of `calls_of`, while it is at work.
static CALLS: Mutex<Option<Vec<(c_int, Call)>>> = Mutex::new(None);

/// The calls that are made for this, by the number of the signal.
pub(crate) fn calls_of(what: impl FnOnce()) -> Vec<(c_int, Call)> {
    *CALLS.lock().unwrap() = Some(Vec::new());
    what();
    let mut calls = CALLS.lock().unwrap().take().unwrap();
    calls.sort_by_key(|(raw, _)| *raw);
    calls
}

pub(crate) fn next(next: Next) {
    *NEXT.lock().unwrap() = Some(next);
}

/// Whether the call has not come yet.
pub(crate) fn is_still_to_come() -> bool {
    NEXT.lock().unwrap().is_some()
}

fn take_if_it_is(raw: c_int, call: Call) -> Option<Next> {
    // Handlers call this too, and must not wait.
    let mut next = NEXT.try_lock().ok()?;
    next.take_if(|next| next.signal.as_raw() == raw && next.call == call)
}

/// # Safety
/// As sigaction(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(
    raw: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    let call = if new.is_null() { Call::Query } else { Call::Installation };
    // Handlers call this too, and must not wait.
    if let Ok(Some(calls)) = CALLS.try_lock().as_deref_mut() {
        calls.push((raw, call));
    }
    // SAFETY: the caller's arguments.
    let of_libc = || unsafe { sigaction_of_libc(raw, new, old) };
    let Some(next) = take_if_it_is(raw, call) else { return of_libc() };
    (next.before)();
    let result = if next.fails {
        Errno::EINVAL.set();
        -1
    } else {
        of_libc()
    };
    (next.behind)();
    result
}

/// # Safety
/// As sigaction(2).
unsafe fn sigaction_of_libc(
    raw: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    type Function =
        unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;
    // SAFETY: a NUL-terminated name, of a function that has this signature; the caller's arguments.
    unsafe {
        let found = libc::dlsym(libc::RTLD_NEXT, c"sigaction".as_ptr());
        std::mem::transmute::<*mut libc::c_void, Function>(found)(raw, new, old)
    }
}
