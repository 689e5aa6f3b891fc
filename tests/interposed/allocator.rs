//! Nothing is left of a guard, not a byte.

#![allow(unsafe_code, reason = "it stands in the place of the allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::SeqCst};

use handle_exit::{AfterScope, HandleExit, Signal};

use crate::support::*;

/// Counts the bytes that are allocated now.
struct Counting;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is the system allocator's; the count touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as isize, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as isize, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

extern "C" fn quiet(_: nix::libc::c_int) {}

fn two_hundred_guards_leave_nothing() {
    fn guard(round: usize) {
        let builder = HandleExit::builder().append(true).callback_timeout(DEADLINE);
        let builder = builder.after_scope(AfterScope::Continue);
        let guard = builder.install_with(|_| {}).unwrap();
        let handle = guard.handle();
        guard.defer(|| {}).unwrap();
        let readable = guard.readable_fd().unwrap();
        match round % 4 {
            0 => drop(guard),
            1 => drop(guard.finish()),
            2 => assert!(guard.disarm()),
            _ => {
                // One that its old handler decides about, and one that the guard does.
                raise(Signal::TERM);
                raise(Signal::INT);
                handle.wait();
                drop(guard);
            }
        }
        assert!(handle.is_exiting());
        drop(readable);
    }
    /// The thread that ends the scope waits for the watcher, as one or the other of the many may.
    fn guard_that_is_waited_for() {
        let main = std::process::id() as i32;
        let callback = move || until("main waits", || sleeps(main));
        let guard = HandleExit::append(callback).unwrap();
        raise(Signal::TERM);
        drop(guard);
    }
    /// The watcher has done all there is to do for a signal before the scope ends.
    fn guard_that_is_in_time() {
        let before = threads();
        let builder = HandleExit::builder().append(true).after_scope(AfterScope::Continue);
        let guard = builder.install(|| {}).unwrap();
        let watcher = started_since(&before);
        raise(Signal::INT);
        guard.wait();
        until("the watcher sleeps", || sleeps(watcher));
        drop(guard);
    }
    install(Signal::TERM, quiet);
    let (all, tasks, open) = (all_dispositions(), threads(), descriptors());
    // What the process has only once is allocated by now.
    (0..4).for_each(guard);
    guard_that_is_waited_for();
    guard_that_is_in_time();
    let allocated = ALLOCATED.load(SeqCst);
    (0..200).for_each(guard);
    assert_eq!(ALLOCATED.load(SeqCst), allocated, "bytes allocated");
    assert_eq!(all_dispositions(), all);
    assert_eq!(descriptors(), open);
    // A joined thread is gone for its process a moment before /proc says so.
    until("no thread more than before", || threads() == tasks);
}

pub(crate) const TESTS: &[Named] = tests![;
    alone:
    two_hundred_guards_leave_nothing,
];
