//! What a signal does in this process: query, replace, compare, and name the holder.

use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use nix::libc::{self, c_int, c_void};

use crate::error::Holder;
use crate::signal::Signal;

/// Set by the C library on Linux for its own return path; it belongs to nobody's comparison.
#[cfg(any(target_os = "linux", target_os = "android"))]
const RESTORER: c_int = 0x0400_0000;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const RESTORER: c_int = 0;

/// The part of a mask that the kernel knows, in bytes; the C library's set is larger, and what is
/// behind this part is not defined after a query.
#[cfg(any(target_os = "linux", target_os = "android"))]
const KERNEL_MASK: usize = if cfg!(target_arch = "mips64") { 16 } else { 8 };
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const KERNEL_MASK: usize = size_of::<libc::sigset_t>();

/// What a disposition does, in the words of signal(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Default,
    Ignore,
    /// The address of the handler function.
    Handler(usize),
}

/// A signal's handler, flags and mask, exactly as the kernel has them.
#[derive(Clone, Copy)]
pub(crate) struct Disposition(libc::sigaction);

impl Disposition {
    /// The current disposition. Async-signal-safe, as `sigaction(2)` is (signal-safety(7)).
    pub(crate) fn query(raw: c_int) -> io::Result<Disposition> {
        let mut current = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a null new action makes this a query; `current` is valid for a write.
        if unsafe { libc::sigaction(raw, ptr::null(), current.as_mut_ptr()) } == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all zeroes is a valid sigaction, and the call above filled it in.
        Ok(Disposition(unsafe { current.assume_init() }))
    }

    /// Puts this disposition in place and returns the one it displaces. Async-signal-safe.
    pub(crate) fn put(&self, raw: c_int) -> io::Result<Disposition> {
        let mut displaced = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: `self.0` came from the kernel or from a constructor of this file, so its handler
        // is one for its flags; `displaced` is valid for a write.
        if unsafe { libc::sigaction(raw, &raw const self.0, displaced.as_mut_ptr()) } == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as in `query`.
        Ok(Disposition(unsafe { displaced.assume_init() }))
    }

    /// `SIG_DFL` without flags: what a process starts with.
    // SAFETY: all zeroes is a valid sigaction: SIG_DFL is 0, no flags, an empty mask.
    pub(crate) const DEFAULT: Disposition =
        Disposition(unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() });

    /// A handler that takes siginfo, is run on the alternate stack, lets interrupted calls go on,
    /// and blocks `mask` while it runs.
    pub(crate) fn handler(
        function: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void),
        mask: libc::sigset_t,
    ) -> Disposition {
        let mut action = Disposition::DEFAULT;
        action.0.sa_sigaction = function as usize;
        action.0.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        action.0.sa_mask = mask;
        action
    }

    /// The same, to be run on the interrupted thread's own stack.
    pub(crate) fn on_ordinary_stack(mut self) -> Disposition {
        self.0.sa_flags &= !libc::SA_ONSTACK;
        self
    }

    pub(crate) fn action(&self) -> Action {
        match self.0.sa_sigaction {
            libc::SIG_DFL => Action::Default,
            libc::SIG_IGN => Action::Ignore,
            address => Action::Handler(address),
        }
    }

    pub(crate) fn is_handler(&self) -> bool {
        matches!(self.action(), Action::Handler(_))
    }

    /// Whether the handler wants siginfo and context.
    pub(crate) fn takes_siginfo(&self) -> bool {
        self.0.sa_flags & libc::SA_SIGINFO != 0
    }

    /// The signals that are blocked while the handler runs, beside its own.
    pub(crate) fn mask(&self) -> &libc::sigset_t {
        &self.0.sa_mask
    }
}

impl PartialEq for Disposition {
    /// Same handler, same flags, same mask.
    fn eq(&self, other: &Disposition) -> bool {
        self.0.sa_sigaction == other.0.sa_sigaction
            && self.0.sa_flags & !RESTORER == other.0.sa_flags & !RESTORER
            && kernel_mask(&self.0.sa_mask) == kernel_mask(&other.0.sa_mask)
    }
}

fn kernel_mask(mask: &libc::sigset_t) -> &[u8] {
    // SAFETY: every Disposition starts out zeroed, so all bytes of its mask are initialised; the
    // slice lies in the mask and borrows it.
    unsafe { std::slice::from_raw_parts(ptr::from_ref(mask).cast(), KERNEL_MASK) }
}

/// The set of these signals.
pub(crate) fn set_of(signals: impl IntoIterator<Item = Signal>) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is valid for a write.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set was initialised above. A number it does not know changes nothing.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal.as_raw()) };
    }
    // SAFETY: sigemptyset initialised it.
    unsafe { set.assume_init() }
}

/// Whose code a handler is.
pub(crate) fn holder(address: usize) -> Holder {
    let mut holder = Holder { address, object: None, offset: None, symbol: None };
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr(3) only looks the address up, whatever it is; `info` is valid for a write.
    let found = unsafe { libc::dladdr(address as *const c_void, info.as_mut_ptr()) } != 0;
    if !found {
        return holder;
    }
    // SAFETY: zeroed Dl_info is valid, and dladdr filled it in.
    let info = unsafe { info.assume_init() };
    if !info.dli_fname.is_null() {
        // SAFETY: dladdr gives a NUL-terminated string that lives as long as the object is loaded,
        // which it is while its handler is installed.
        let name = unsafe { CStr::from_ptr(info.dli_fname) };
        holder.object = Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
        holder.offset = address.checked_sub(info.dli_fbase as usize);
    }
    // dladdr gives the nearest exported symbol below the address. Only an exact one is the handler.
    if !info.dli_sname.is_null() && info.dli_saddr as usize == address {
        // SAFETY: as for dli_fname.
        let name = unsafe { CStr::from_ptr(info.dli_sname) };
        holder.symbol = Some(name.to_string_lossy().into_owned());
    }
    holder
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn handler(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}

    #[test]
    fn what_is_put_is_what_is_queried() {
        let raw = libc::SIGXFSZ;
        let before = Disposition::query(raw).unwrap();
        let ours = Disposition::handler(handler, set_of([Signal::USR1, Signal::ALRM]));
        assert!(ours != before);
        assert!(ours.put(raw).unwrap() == before);
        assert!(Disposition::query(raw).unwrap() == ours);
        assert!(before.put(raw).unwrap() == ours);
        assert!(Disposition::query(raw).unwrap() == before);
    }

    #[test]
    fn a_differing_mask_or_flag_is_a_difference() {
        let base = Disposition::handler(handler, set_of([Signal::USR1]));
        assert!(base != Disposition::handler(handler, set_of([Signal::USR2])));
        let mut flags = base;
        flags.0.sa_flags |= libc::SA_NODEFER;
        assert!(base != flags);
    }

    #[test]
    fn an_exported_function_is_named() {
        let holder = holder(libc::abort as *const () as usize);
        assert_eq!(holder.symbol(), Some("abort"));
        assert!(holder.object().is_some());
        assert_eq!(super::holder(1).object(), None);
    }
}
