//! What a signal does in this process: query, replace, compare, and name the holder.

use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use nix::libc::{self, c_int, c_void};
use nix::sys::signal::SigSet;

use super::mask;
use crate::sys::holder::Holder;

/// What the kernel calls.
pub(super) type Function = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Set by the C library on Linux for its own return path; it belongs to nobody's comparison.
#[cfg(any(target_os = "linux", target_os = "android"))]
const RESTORER: c_int = 0x0400_0000;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const RESTORER: c_int = 0;

/// The part of a mask that the kernel knows, in bytes; the C library's set is larger, and what
/// lies after this part is not defined after a query.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const KERNEL_MASK: usize =
    if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16 } else { 8 };
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
    #[inline(never)]
    pub(crate) fn query(raw: c_int) -> io::Result<Disposition> {
        let mut current = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a null new action makes this a query; `current` is valid for a write.
        if unsafe { libc::sigaction(raw, ptr::null(), current.as_mut_ptr()) } == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all zeroes is a valid sigaction, and the call above filled it in.
        Ok(Disposition(unsafe { current.assume_init() }))
    }

    /// Puts this disposition in place and returns the one it replaces. Async-signal-safe.
    #[inline(never)]
    pub(crate) fn replace(&self, raw: c_int) -> io::Result<Disposition> {
        let mut replaced = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: `self.0` came from the kernel or from a constructor of this file, so its handler
        // is one for its flags; `replaced` is valid for a write.
        if unsafe { libc::sigaction(raw, &raw const self.0, replaced.as_mut_ptr()) } == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as in `query`.
        Ok(Disposition(unsafe { replaced.assume_init() }))
    }

    /// `SIG_DFL` without flags: what a process starts with.
    // SAFETY: all zeroes is a valid sigaction: SIG_DFL is 0, no flags, an empty mask.
    pub(crate) const DEFAULT: Disposition =
        Disposition(unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() });

    /// A handler that takes siginfo, lets interrupted calls go on, and blocks `mask` while it runs.
    pub(super) fn handler(function: Function, mask: SigSet) -> Disposition {
        let mut action = Disposition::DEFAULT;
        action.0.sa_sigaction = function as usize;
        action.0.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        action.0.sa_mask = mask::raw(mask);
        action
    }

    /// The same, to be run on the alternate stack where the thread has one.
    pub(super) fn on_alternate_stack(mut self) -> Disposition {
        self.0.sa_flags |= libc::SA_ONSTACK;
        self
    }

    /// The same, with what `other` says of children: whether they become zombies, and whether their stopping is
    /// told. A process that ignores CHLD has none.
    pub(super) fn with_children_as(mut self, other: &Disposition) -> Disposition {
        self.0.sa_flags |= other.0.sa_flags & (libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT);
        if other.action() == Action::Ignore {
            self.0.sa_flags |= libc::SA_NOCLDWAIT;
        }
        self
    }

    pub(crate) fn action(&self) -> Action {
        match self.0.sa_sigaction {
            libc::SIG_DFL => Action::Default,
            libc::SIG_IGN => Action::Ignore,
            address => Action::Handler(address),
        }
    }

    pub(crate) fn handler_address(&self) -> Option<usize> {
        match self.action() {
            Action::Handler(address) => Some(address),
            Action::Default | Action::Ignore => None,
        }
    }

    /// Whether the handler wants siginfo and context.
    pub(crate) fn takes_siginfo(&self) -> bool {
        self.0.sa_flags & libc::SA_SIGINFO != 0
    }

    /// Whether the handler is run on the alternate stack.
    pub(crate) fn is_on_alternate_stack(&self) -> bool {
        self.0.sa_flags & libc::SA_ONSTACK != 0
    }

    /// The signals that are blocked while the handler of `raw` runs.
    pub(crate) fn mask(&self, raw: c_int) -> SigSet {
        let mut mask = self.0.sa_mask;
        if self.0.sa_flags & libc::SA_NODEFER == 0 {
            // SAFETY: an initialised set; a number it does not know changes nothing.
            unsafe { libc::sigaddset(&raw mut mask, raw) };
        }
        // SAFETY: every Disposition starts out zeroed, and the kernel's masks have signals that exist.
        unsafe { SigSet::from_sigset_t_unchecked(mask) }
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
    // The set of 32-bit Android has half of them.
    let length = KERNEL_MASK.min(size_of::<libc::sigset_t>());
    // SAFETY: every Disposition starts out zeroed, so all bytes of its mask are initialised; the
    // slice lies in the mask and borrows it.
    unsafe { std::slice::from_raw_parts(ptr::from_ref(mask).cast(), length) }
}

/// Whose code a handler is. Takes locks of the dynamic linker, so call it with none of the crate's held.
pub(crate) fn holder(address: usize) -> Holder {
    let mut holder = Holder::unknown(address);
    let Some(info) = object_of(address) else { return holder };
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

/// What the dynamic linker knows of an address.
pub(super) fn object_of(address: usize) -> Option<libc::Dl_info> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr(3) only looks the address up, whatever it is; `info` is valid for a write.
    let found = unsafe { libc::dladdr(address as *const c_void, info.as_mut_ptr()) } != 0;
    // SAFETY: zeroed Dl_info is valid, and dladdr filled it in.
    found.then(|| unsafe { info.assume_init() })
}

/// Has the object file with this code never unloaded. Nothing happens where the code is part of the
/// program itself.
pub(super) fn pin(address: usize) {
    let Some(info) = object_of(address) else { return };
    if !info.dli_fname.is_null() {
        // SAFETY: dladdr's string (see `holder`), of an object that is loaded: this code runs in it. No
        // constructor runs, for nothing is loaded (RTLD_NOLOAD). The handle is kept forever.
        unsafe { libc::dlopen(info.dli_fname, libc::RTLD_NOLOAD | NODELETE | libc::RTLD_NOW) };
    }
}

#[cfg(not(target_os = "netbsd"))]
const NODELETE: c_int = libc::RTLD_NODELETE;
/// From <dlfcn.h>; the libc crate has none there.
#[cfg(target_os = "netbsd")]
const NODELETE: c_int = 0x1000;

#[cfg(test)]
mod tests {
    use super::super::mask::set_of;
    use super::*;
    use crate::signal::{Signal, SignalSet};

    extern "C" fn handler(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}

    #[test]
    fn what_is_set_is_what_is_queried() {
        let raw = libc::SIGXFSZ;
        let before = Disposition::query(raw).unwrap();
        let ours =
            Disposition::handler(handler, set_of(SignalSet::of(&[Signal::USR1, Signal::ALRM])));
        assert!(ours != before);
        assert!(ours.replace(raw).unwrap() == before);
        assert!(Disposition::query(raw).unwrap() == ours);
        assert!(before.replace(raw).unwrap() == ours);
        assert!(Disposition::query(raw).unwrap() == before);
    }

    #[test]
    fn a_differing_mask_or_flag_is_a_difference() {
        let base = Disposition::handler(handler, set_of(SignalSet::of(&[Signal::USR1])));
        assert!(base != Disposition::handler(handler, set_of(SignalSet::of(&[Signal::USR2]))));
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
