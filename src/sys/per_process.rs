//! A static value that a forked child does not share with its parent.

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::process::Process;

/// One `T` per process, made at the first use.
///
/// `fork(2)` copies memory but not threads, so a lock that another thread held stays locked in the
/// child forever. A child therefore gets a new `T`; the parent's copy is left alone, and with it
/// whatever its lock protects.
pub(crate) struct PerProcess<T> {
    /// Written by the first use in each process, read by every use. What it points to is never
    /// freed, so that a reader needs no lock: a small leak in each generation of forks.
    current: AtomicPtr<Owned<T>>,
    make: fn(Process) -> T,
}

struct Owned<T> {
    process: Process,
    /// Never dropped: its destructor would be a kilobyte of code for nothing.
    value: ManuallyDrop<T>,
}

impl<T: Sync> PerProcess<T> {
    pub(crate) const fn new(make: fn(Process) -> T) -> PerProcess<T> {
        PerProcess { current: AtomicPtr::new(ptr::null_mut()), make }
    }

    /// That of `process`, which is this one: the caller knows it, and asking is a system call.
    #[inline(never)]
    pub(crate) fn get(&'static self, process: Process) -> &'static T {
        let mut current = self.current.load(Ordering::Acquire);
        loop {
            // SAFETY: the pointer is null or came from Box::into_raw below and is never freed.
            match unsafe { current.as_ref() } {
                Some(owned) if owned.process == process => return &owned.value,
                _ => {}
            }
            let value = ManuallyDrop::new((self.make)(process));
            let new = Box::into_raw(Box::new(Owned { process, value }));
            // Release publishes the new value to the Acquire loads of other threads.
            match self.current.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => current = new,
                // What has lost the race is a small leak too.
                Err(theirs) => current = theirs,
            }
        }
    }
}
