//! The guard's own threads: one leads, runs what signals ask for, and sleeps.
//!
//! If a living guard has a `callback_timeout` or `Repeat::Force`, a second thread stands by. Before the leader runs
//! user code it hands the lead over, and then stands by itself: so somebody counts repeats and sees time pass
//! whatever user code does.
//!
//! ```text
//! stands by ──nobody leads──> leads ──user code──> runs it ──> stands by
//!                             leads ──last guard is gone──> leaves
//! ```

use std::ffi::c_void;
use std::io;
use std::ptr;

use crate::event::Event;
use crate::exit::{self, By, Closed, Forked, ProcessExit, Task, Watchers, Which};
use crate::sys::process;
use crate::sys::status::Status;
use crate::sys::thread::{self, Runner};

/// Starts one more, for the guards that live now.
pub(crate) fn spawn(exit: &'static ProcessExit, watchers: &mut Watchers) -> io::Result<()> {
    let generation = watchers.generation;
    let thread = thread::spawn("handle-exit", Box::new(move || watch(exit, generation)))?;
    watchers.handles.push(thread);
    Ok(())
}

fn watch(exit: &'static ProcessExit, generation: usize) {
    let me = Runner::current().watcher();
    while let Some(task) = exit.next_task(me, generation) {
        if perform(exit, me, task).is_err() {
            // A child that user code has forked on this thread: there is nothing of the parent's to
            // return to.
            process::end_now(Status::Code(0));
        }
        exit.end_task(me);
    }
}

/// Leads while exit functions run on the only watcher: one of them may hang, and a second signal is to end that.
pub(crate) extern "C" fn lead(_: *mut c_void) -> *mut c_void {
    let exit = exit::of(process::this());
    let generation = exit.lock().watchers.generation;
    watch(exit, generation);
    ptr::null_mut()
}

pub(crate) fn perform(exit: &'static ProcessExit, me: Runner, task: Task) -> Result<(), Forked> {
    match task {
        Task::Tell(received) => exit.announce(me, received),
        Task::Callback(guard) => exit.run_pending(me, guard),
        Task::OldHandler { arrival, guarded, guard } => {
            exit.run_old_handler(me, &arrival, &guarded, guard)
        }
        Task::Hear { arrival, old_handler, guard } => exit.hear(me, &arrival, old_handler, guard),
        Task::Repeat(signal, forces) => {
            exit.tell(me, Which::With(signal), &Event::repeat(signal, forces))
        }
        Task::Complete(guard) => {
            exit.complete(&guard, me, By::Drop, &mut Closed::default())?;
            exit.drop_guard(me, guard)
        }
        Task::End { status, cause, grace_over } => {
            exit.end_for_signal(me, status, &cause, grace_over)
        }
        Task::Overrun { guard, needs_successor } => {
            // What this thread is going to run may hang as well.
            if needs_successor && spawn(exit, &mut exit.lock().watchers).is_err() {
                process::end_now(Status::Failed);
            }
            exit.end_after_overrun(me, &guard)
        }
        Task::Cut(status) => process::end_now(status),
    }
}
