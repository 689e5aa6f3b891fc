//! Whether a thread is in user code of the exit, or in what comes after it.

#[cfg(not(handle_exit_loom))]
use std::cell::Cell;
use std::marker::PhantomData;

#[cfg(handle_exit_loom)]
use super::models::EXIT_DEPTH;
#[cfg(not(handle_exit_loom))]
thread_local! {
    /// How many marks live on this thread. Without a destructor, so that it works until
    /// the thread's last instruction.
    static EXIT_DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Until the result is dropped, `abort(3)` on this thread does not wait for the callback: the callback,
/// or what comes after it, runs here.
pub(crate) fn mark() -> impl Drop + use<> {
    EXIT_DEPTH.set(EXIT_DEPTH.get() + 1);
    let on_this_thread = PhantomData::<*const ()>;
    // In a child that user code has forked, none is left.
    scopeguard::guard(on_this_thread, |_| EXIT_DEPTH.set(EXIT_DEPTH.get().saturating_sub(1)))
}

/// In a forked child: user code of the parent's exit is no code of an exit here.
#[cfg(unix)]
pub(super) fn forget_marks() {
    EXIT_DEPTH.set(0);
}

/// Whether a mark is on this thread. No other handler than that of `abort` asks: the first use of
/// a thread-local in a plugin may allocate.
pub(crate) fn is_marked() -> bool {
    EXIT_DEPTH.get() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_counted_for_each_thread() {
        let outer = mark();
        drop(mark());
        assert!(is_marked());
        assert!(!std::thread::spawn(is_marked).join().unwrap());
        drop(outer);
        assert!(!is_marked());
    }
}
