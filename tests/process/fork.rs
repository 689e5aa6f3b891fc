//! Forked children: they neither run the parent's callback nor wake the parent nor swallow a signal.

#![allow(unsafe_code, reason = "fork and its relatives are the test's subject")]

use std::future::Future;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::task::{Context, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::{Duration, Instant};

use crate::support::*;
use handle_exit::{Cause, Error, Event, Exit, HandleExit, Ignored, Signal};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, clone, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid, pause, setsid};

/// Runs `child` in a forked child, which ends with `_exit`: 0, or 101 after a panic.
fn fork(child: impl FnOnce()) -> Pid {
    // SAFETY: no other thread of these scenarios holds a lock that the child needs.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            end_at_the_deadline();
            let code = if catch_unwind(AssertUnwindSafe(child)).is_ok() { 0 } else { 101 };
            // SAFETY: ends the child at once, with nothing of the parent's run.
            unsafe { libc::_exit(code) }
        }
    }
}

/// A child that hangs must not outlive its test.
fn end_at_the_deadline() {
    // SAFETY: no handler of ALRM is installed: it ends the process.
    unsafe { libc::alarm(DEADLINE.as_secs() as u32) };
}

/// How a child ended, in one line.
fn reap(child: Pid) -> String {
    match waitpid(child, None).unwrap() {
        WaitStatus::Exited(_, code) => format!("exited with {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("died of {signal}"),
        other => panic!("{other:?}"),
    }
}

fn pause_for_ever() -> ! {
    loop {
        pause();
    }
}

/// Says whether it runs in the process that it was made in.
fn callback() -> impl FnOnce(&Cause) + Send + 'static {
    let made_in = getpid();
    move |cause: &Cause| {
        let place = if getpid() == made_in { "where it was made" } else { "in the child" };
        let cause = match cause {
            Cause::Signal(received) => received.signal().to_string(),
            other => other.to_string(),
        };
        say(format!("callback {place}: {cause}"));
    }
}

const AT_SCOPE_END: &str = "callback where it was made: the scope ended";

fn guard() -> HandleExit {
    HandleExit::builder().grace(Duration::ZERO).install_with(callback()).unwrap()
}

// -------------------------------------------------------- scenarios: a child that knows of nothing

fn signal_to_the_child() {
    let guard = guard();
    for signal in [Signal::TERM, Signal::INT] {
        let child = fork(|| pause_for_ever());
        kill(child.as_raw(), signal);
        say(reap(child));
        assert!(!guard.is_exiting());
    }
}

fn signal_to_the_child_with_an_old_handler() {
    install(Signal::TERM, says_old);
    let before = disposition(Signal::TERM);
    let guard = HandleExit::append(callback_with_a_cause()).unwrap();
    let child = fork(|| {
        raise(Signal::TERM);
        // It stays so: the next one needs nothing of the guard's.
        assert_eq!(disposition(Signal::TERM), before);
        raise(Signal::TERM);
        say("the child lives on");
    });
    say(reap(child));
    assert!(!guard.is_exiting());
    assert_ne!(disposition(Signal::TERM), before);
}

fn callback_with_a_cause() -> impl FnOnce() + Send + 'static {
    let callback = callback();
    move || callback(&Cause::ScopeEnd)
}

fn signal_to_the_child_where_it_was_ignored() {
    install_exactly(Signal::TERM, libc::SIG_IGN, 0, &[]);
    let _guard = HandleExit::builder().ignored(Ignored::Guard).install_with(callback()).unwrap();
    let child = fork(|| {
        raise(Signal::TERM);
        assert_eq!(disposition(Signal::TERM).0, libc::SIG_IGN);
        say("the child lives on");
    });
    say(reap(child));
}

/// In the child the guard ends in some way; nothing of the parent's happens, and all is put back.
fn ends_in_the_child(end: fn(HandleExit)) {
    install_exactly(Signal::TERM, libc::SIG_DFL, libc::SA_RESTART, &[Signal::USR1]);
    let before = [disposition(Signal::TERM), disposition(Signal::INT)];
    let captured = SaysWhenFreed("captured dropped");
    let callback = callback();
    let guard = HandleExit::builder().install_with(move |cause| {
        callback(cause);
        drop(captured);
    });
    let guard = guard.unwrap();
    guard.defer(|| say("deferred")).unwrap();
    let mut guard = Some(guard);
    let child = fork(|| {
        end(guard.take().unwrap());
        assert_eq!([disposition(Signal::TERM), disposition(Signal::INT)], before);
        say("the child goes on");
        raise(Signal::TERM);
    });
    say(reap(child));
    assert_ne!(disposition(Signal::TERM), before[0]);
    drop(guard);
    assert_eq!([disposition(Signal::TERM), disposition(Signal::INT)], before);
}

fn drop_in_the_child() {
    ends_in_the_child(drop);
}

fn finish_in_the_child() {
    ends_in_the_child(|guard| drop(guard.finish()));
}

fn disarm_in_the_child() {
    ends_in_the_child(|guard| assert!(guard.disarm()));
}

/// The borrowing form: the child unwinds or returns through it.
fn run_in_the_child() {
    let mut borrowed = "nothing";
    let (parent, captured, slot) = (getpid(), SaysWhenFreed("captured dropped"), &mut borrowed);
    let callback = move || {
        *slot = "callback";
        drop(captured);
    };
    let child = HandleExit::run(callback, |_| fork_and_return(parent));
    match child.unwrap() {
        Some(child) => {
            say(borrowed);
            say(reap(child));
        }
        // SAFETY: ends the child at once.
        None => unsafe { libc::_exit(if borrowed == "nothing" { 9 } else { 8 }) },
    }
}

/// The child comes back out of here, with `None`.
fn fork_and_return(parent: Pid) -> Option<Pid> {
    // SAFETY: as in `fork`.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => Some(child),
        ForkResult::Child => {
            assert_ne!(getpid(), parent);
            end_at_the_deadline();
            None
        }
    }
}

fn exit_in_the_child() {
    let guard = guard();
    guard.defer(|| say("deferred")).unwrap();
    let child = fork(|| std::process::exit(3));
    say(reap(child));
    assert!(!guard.is_exiting());
}

fn return_from_main_in_the_child() {
    let _guard = guard();
    if let Some(child) = fork_and_return(getpid()) {
        say(reap(child));
    }
}

fn handle_in_the_child() {
    let guard = guard();
    let child = fork(|| {
        assert!(Exit::current().is_none());
        assert!(matches!(guard.defer(|| say("never")), Err(Error::Ended)));
        guard.request();
        assert!(!guard.is_exiting());
    });
    say(reap(child));
    assert!(!guard.is_exiting());
}

/// Parent and child have the same process id, each in a namespace of its own.
fn pid_1_of_pid_1() {
    let guard = guard();
    unshare(CloneFlags::CLONE_NEWPID).unwrap();
    let child = fork(|| {
        assert_eq!(getpid(), Pid::from_raw(1));
        // A default does not end a PID 1, but it is that which the signal has met.
        raise(Signal::TERM);
        assert_eq!(disposition(Signal::TERM), (libc::SIG_DFL, 0, 0));
    });
    say(format!("{} {}", getpid(), reap(child)));
    drop(guard);
}

/// What began the parent's exit before the fork began none of the child's.
fn handle_in_the_child_of_an_exit() {
    let before = threads();
    let guard = HandleExit::new(|| {}).unwrap();
    let watcher = started_since(&before);
    let deferred = guard.defer(|| say("deferred")).unwrap();
    guard.request();
    assert_eq!(guard.wait(), Cause::Requested);
    until("the watcher sleeps", || sleeps(watcher));
    let child = fork(|| {
        assert!(!guard.is_exiting());
        assert_eq!(guard.cause(), None);
        assert_eq!(guard.wait_timeout(Duration::from_millis(1)), None);
        let mut begun = guard.begun();
        let waker = Waker::from(Arc::new(SaysWhenWoken));
        assert!(Pin::new(&mut begun).poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(!deferred.cancel());
    });
    say(reap(child));
}

// ------------------------------------------------------------- scenarios: a guard of the child's own

fn new_guard_in_the_child() {
    let parents = guard();
    let child = fork(|| {
        let own = guard();
        assert!(matches!(HandleExit::new(|| {}), Err(Error::Nested)));
        assert!(own.cause().is_none());
        raise(Signal::TERM);
        pause_for_ever();
    });
    say(reap(child));
    assert!(!parents.is_exiting());
    let child = fork(|| {
        drop(guard());
        assert_eq!(disposition(Signal::TERM), (libc::SIG_DFL, 0, 0));
        raise(Signal::TERM);
    });
    say(reap(child));
    let child = fork(|| {
        let _own = guard();
        std::process::exit(4);
    });
    say(reap(child));
    let mut parents = Some(parents);
    let child = fork(|| {
        // The parent's guard ends while the child's own is at work, which it must not disturb.
        let own = guard();
        let at_work = disposition(Signal::TERM);
        drop(parents.take());
        assert_eq!(disposition(Signal::TERM), at_work);
        drop(own);
    });
    say(reap(child));
    let child = fork(|| {
        // The parent's signals are not the child's own guard's.
        let _own = HandleExit::builder().signals([Signal::USR1]).install(|| {}).unwrap();
        raise(Signal::TERM);
    });
    say(reap(child));
    let child = fork(|| {
        let own = HandleExit::builder().signals([Signal::USR1]).install(|| {}).unwrap();
        let at_work = disposition(Signal::USR1);
        drop(parents.take());
        assert_eq!(disposition(Signal::TERM), (libc::SIG_DFL, 0, 0));
        assert_eq!(disposition(Signal::USR1), at_work);
        drop(own);
    });
    say(reap(child));
    assert!(!parents.unwrap().is_exiting());
}

static EXITING: AtomicBool = AtomicBool::new(false);

extern "C" fn note_exiting() {
    EXITING.store(true, SeqCst);
}

/// The callback runs on the thread that came through the fork, and calls `exit` while another exits.
fn callback_exits_in_the_child() {
    let _parents = guard();
    let child = fork(|| {
        let own = HandleExit::new(|| {
            say("callback in the child");
            std::thread::spawn(|| std::process::exit(3));
            until("the other thread exits", || EXITING.load(SeqCst));
            std::process::exit(7);
        });
        at_exit(note_exiting);
        drop(own.unwrap());
    });
    say(reap(child));
}

fn rearm() {
    let guard = guard();
    let rearmed = || {
        assert!(Exit::current().is_none());
        guard.rearm().unwrap();
        guard.rearm().unwrap();
        assert!(Exit::current().is_some());
    };
    let by_signal = fork(|| {
        rearmed();
        raise(Signal::TERM);
        pause_for_ever();
    });
    say(reap(by_signal));
    let by_process_exit = fork(|| {
        rearmed();
        guard.defer(|| say("deferred in the child")).unwrap();
        std::process::exit(5);
    });
    say(reap(by_process_exit));
    let by_request = fork(|| {
        rearmed();
        guard.request();
        assert_eq!(guard.wait(), Cause::Requested);
        std::process::exit(6);
    });
    say(reap(by_request));
    assert!(!guard.is_exiting());
}

fn a_guard_can_be_rearmed_in_a_child_that_is_forked_at_once() {
    let started = Instant::now();
    for (trial, microseconds) in (0..100).cycle().take(2000).enumerate() {
        // Each moment twice, and then for as long as the machine can afford.
        if trial >= 200 && started.elapsed() > DEADLINE / 4 {
            return;
        }
        let guard = HandleExit::new(|| {}).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(microseconds) {}
        let child = fork(|| guard.rearm().unwrap());
        assert_eq!(reap(child), "exited with 0");
        assert!(guard.disarm());
    }
}

fn rearm_and_drop() {
    let before = [disposition(Signal::TERM), disposition(Signal::INT)];
    let mut guard = Some(guard());
    let child = fork(|| {
        let guard = guard.take().unwrap();
        guard.rearm().unwrap();
        drop(guard);
        assert_eq!([disposition(Signal::TERM), disposition(Signal::INT)], before);
    });
    say(reap(child));
    assert!(!guard.as_ref().unwrap().is_exiting());
    drop(guard);
    assert_eq!([disposition(Signal::TERM), disposition(Signal::INT)], before);
}

fn rearm_with_an_old_handler() {
    install(Signal::TERM, says_old);
    let before = disposition(Signal::TERM);
    let mut guard = Some(HandleExit::append(callback_with_a_cause()).unwrap());
    let child = fork(|| {
        let guard = guard.take().unwrap();
        guard.rearm().unwrap();
        raise(Signal::TERM);
        guard.wait();
        drop(guard);
        assert_eq!(disposition(Signal::TERM), before);
    });
    say(reap(child));
}

struct SaysWhenWoken;

impl Wake for SaysWhenWoken {
    fn wake(self: Arc<Self>) {
        say("woken");
    }
}

/// Who waited before the fork waits for the parent's exit.
fn rearm_beside_the_parents_waiters() {
    let guard = HandleExit::new(|| {}).unwrap();
    let readable = guard.readable_fd().unwrap();
    let is_readable = || {
        let mut polled = [PollFd::new(readable.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).unwrap() > 0
    };
    let mut begun = guard.begun();
    let waker = Waker::from(Arc::new(SaysWhenWoken));
    assert!(Pin::new(&mut begun).poll(&mut Context::from_waker(&waker)).is_pending());
    let child = fork(|| {
        guard.rearm().unwrap();
        guard.request();
        assert_eq!(guard.wait(), Cause::Requested);
    });
    say(reap(child));
    assert!(!is_readable());
    drop(guard);
    assert!(is_readable());
}

static IS_BEING_CLONED: AtomicBool = AtomicBool::new(false);
static MAY_BE_CLONED: AtomicBool = AtomicBool::new(false);

/// A waker of no task, whose clone takes as long as the test says.
static SLOW_TO_CLONE: RawWakerVTable =
    RawWakerVTable::new(clone_slowly, nothing_to_do, nothing_to_do, nothing_to_do);

fn clone_slowly(task: *const ()) -> RawWaker {
    IS_BEING_CLONED.store(true, SeqCst);
    until("the waker may be cloned", || MAY_BE_CLONED.load(SeqCst));
    RawWaker::new(task, &SLOW_TO_CLONE)
}

fn nothing_to_do(_: *const ()) {}

/// Each child finds the locks as these threads had them at the time of its fork.
fn rearm_while_other_threads_use_the_guard() {
    let guard = guard();
    let goes_on = AtomicBool::new(true);
    let failed = std::thread::scope(|threads| {
        threads.spawn(|| {
            while goes_on.load(SeqCst) {
                assert_eq!(guard.cause(), None);
            }
        });
        threads.spawn(|| {
            while goes_on.load(SeqCst) {
                assert!(guard.defer(|| {}).unwrap().cancel());
            }
        });
        let mut ends = (0..FORKS).map(|_| {
            reap(fork(|| match guard.rearm() {
                // A lock that nobody gives back would keep it in here.
                Ok(()) => {
                    assert_eq!(guard.cause(), None);
                    assert!(guard.defer(|| {}).unwrap().cancel());
                }
                Err(refused) => {
                    let refused = refused.to_string();
                    assert!(refused.contains("another thread was using"), "{refused}");
                }
            }))
        });
        let failed = ends.find(|end| end != "exited with 0");
        goes_on.store(false, SeqCst);
        failed
    });
    assert_eq!(failed, None);
}

/// Enough for each lock to be held at some of them, also where there is one processor.
const FORKS: usize = 300;

fn rearm_again_where_no_thread_was_to_be_had() {
    let guard = guard();
    let child = fork(|| {
        if !is_bound_by_limits() {
            return;
        }
        let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
        setrlimit(Resource::RLIMIT_NPROC, 0, hard).unwrap();
        let refused = guard.rearm().unwrap_err();
        let no_thread =
            matches!(refused, Error::System { step: "spawning the watcher thread", .. });
        assert!(no_thread, "{refused}");
        setrlimit(Resource::RLIMIT_NPROC, soft, hard).unwrap();
        guard.rearm().unwrap();
        raise(Signal::TERM);
        pause_for_ever();
    });
    say(reap(child));
}

/// Two threads of the child rearm at once: that makes one guard, which leaves nothing when it ends.
fn rearm_on_two_threads() {
    static READY: AtomicUsize = AtomicUsize::new(0);
    let make = if told() { HandleExit::append } else { HandleExit::new };
    let mut guard = Some(make(|| {}).unwrap());
    for _ in 0..100 {
        let child = fork(|| {
            let before = threads().len();
            let guard = guard.take().unwrap();
            let rearm = || {
                READY.fetch_add(1, SeqCst);
                while READY.load(SeqCst) < 2 {
                    std::hint::spin_loop();
                }
                guard.rearm().is_ok()
            };
            let is_rearmed = std::thread::scope(|threads| {
                let both = [threads.spawn(rearm), threads.spawn(rearm)];
                both.map(|one| one.join().unwrap())
            });
            assert!(is_rearmed.contains(&true), "{is_rearmed:?}");
            assert!(Exit::current().is_some());
            drop(guard);
            assert!(Exit::current().is_none(), "there is a second guard");
            assert!(is_default(Signal::TERM) && is_default(Signal::INT));
            until("no thread is left", || threads().len() == before);
        });
        assert_eq!(reap(child), "exited with 0");
    }
    assert!(guard.unwrap().disarm());
}

struct CountsWakes(AtomicUsize);

impl Wake for CountsWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// What becomes of a future from before the fork takes nothing from one of after `rearm`.
fn futures_from_before_and_after_a_rearm() {
    let guard = HandleExit::new(|| {}).unwrap();
    let wakers = [const { CountsWakes(AtomicUsize::new(0)) }; 3].map(Arc::new);
    let [early, late, later] = wakers.each_ref().map(|wakes| Waker::from(Arc::clone(wakes)));
    let mut before = Box::pin(guard.begun());
    assert!(before.as_mut().poll(&mut Context::from_waker(&early)).is_pending());
    let child = fork(|| {
        guard.rearm().unwrap();
        let mut after = Box::pin(guard.begun());
        assert!(after.as_mut().poll(&mut Context::from_waker(&late)).is_pending());
        if told::<String>() == "polled" {
            let _ = before.as_mut().poll(&mut Context::from_waker(&later));
        } else {
            drop(before);
        }
        guard.request();
        until("the new future is woken", || wakers[1].0.load(SeqCst) == 1);
        assert!(after.as_mut().poll(&mut Context::from_waker(&late)).is_ready());
        assert_eq!(wakers[0].0.load(SeqCst), 0, "the parent's waker was woken");
    });
    say(reap(child));
}

/// The parent's thread is in a waker of this program's, which the guard clones: what it may hold then is held in the
/// child for ever.
fn readable_fd_in_the_child_of_a_thread_that_begins_to_wait() {
    let guard = guard();
    let mut begun = guard.begun();
    let waits = std::thread::spawn(move || {
        // SAFETY: the functions of the table do nothing with the task.
        let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &SLOW_TO_CLONE)) };
        assert!(Pin::new(&mut begun).poll(&mut Context::from_waker(&waker)).is_pending());
    });
    until("the other thread begins to wait", || IS_BEING_CLONED.load(SeqCst));
    let child = fork(|| {
        let refused = guard.readable_fd().unwrap_err();
        say(format!("refused: {}", !refused.to_string().is_empty()));
    });
    say(reap(child));
    MAY_BE_CLONED.store(true, SeqCst);
    waits.join().unwrap();
    assert!(guard.readable_fd().is_ok());
}

/// Each child finds the lock as that thread had it at the time of its fork.
fn readable_fd_in_children_of_a_busy_thread() {
    let guard = guard();
    let goes_on = AtomicBool::new(true);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while goes_on.load(SeqCst) {
                drop(guard.readable_fd().unwrap());
            }
        });
        for _ in 0..200 {
            assert_eq!(reap(fork(|| assert!(guard.readable_fd().is_err()))), "exited with 0");
        }
        goes_on.store(false, SeqCst);
    });
    assert!(guard.disarm());
}

fn rearm_where_it_is_at_home() {
    let guard = guard();
    let (before, tasks) = (disposition(Signal::TERM), threads());
    guard.rearm().unwrap();
    assert_eq!((disposition(Signal::TERM), threads()), (before, tasks));
}

fn rearm_beside_a_new_guard() {
    let parents = guard();
    let child = fork(|| {
        let own = guard();
        assert!(matches!(parents.rearm(), Err(Error::Nested)));
        drop(own);
        // Its place is free again.
        parents.rearm().unwrap();
        raise(Signal::TERM);
        pause_for_ever();
    });
    say(reap(child));
}

fn rearm_after_the_exit_had_begun() {
    let (called, has_run) = channel();
    let before = threads();
    let guard = HandleExit::new(move || called.send(()).unwrap()).unwrap();
    let watcher = started_since(&before);
    guard.request();
    has_run.recv().unwrap();
    // A watcher that still holds a lock at the fork would be another refusal.
    until("the watcher sleeps", || sleeps(watcher));
    let child = fork(|| {
        assert!(matches!(guard.rearm(), Err(Error::Ended)));
        raise(Signal::TERM);
    });
    say(reap(child));
}

/// `daemon(3)` by hand, after the guard was made. This process only stands by to see how it ends.
fn daemon() {
    // SAFETY: makes this process the one that reaps its orphaned grandchildren.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
    let starter = fork(|| {
        let guard = guard();
        fork(|| {
            setsid().unwrap();
            fork(|| {
                guard.rearm().unwrap();
                say(format!("daemon {}", getpid()));
                pause_for_ever();
            });
        });
        // The process that stays behind ends without the callback.
        guard.keep();
    });
    say(reap(starter));
    // The session leader in between, and the daemon.
    for _ in 0..2 {
        say(reap(Pid::from_raw(-1)));
    }
    assert_eq!(waitpid(Pid::from_raw(-1), None), Err(Errno::ECHILD));
}

// ------------------------------------------------------------------------------ scenarios: commands

/// What a command finds: no guarded signal ignored, none blocked.
fn assert_clean(mut command: Command) {
    let status = command.output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    for field in ["SigBlk", "SigIgn", "SigCgt"] {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let set = u64::from_str_radix(line.split_once(':').unwrap().1.trim(), 16).unwrap();
        for signal in [Signal::TERM, Signal::INT] {
            assert_eq!(set & 1 << (signal.as_raw() - 1), 0, "{signal} in {line}");
        }
    }
}

fn own_status() -> Command {
    let mut command = Command::new("cat");
    command.arg("/proc/self/status");
    command
}

/// Started with `posix_spawn`, and with `fork` and `exec`.
fn commands_are_clean() {
    assert_clean(own_status());
    let mut forked = own_status();
    // SAFETY: the closure makes no call.
    unsafe { forked.pre_exec(|| Ok(())) };
    assert_clean(forked);
}

fn commands() {
    let guard = HandleExit::builder().grace(Duration::MAX).install(|| {
        commands_are_clean();
        say("callback");
    });
    let guard = guard.unwrap();
    commands_are_clean();
    let mut lives = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    kill(lives.id() as i32, Signal::TERM);
    assert_eq!(lives.wait().unwrap().signal(), Some(libc::SIGTERM));
    assert!(!guard.is_exiting());
    // In the callback on the watcher, and after it, with the signal held.
    raise(Signal::TERM);
    guard.wait();
    commands_are_clean();
    let outcome = guard.finish();
    assert!(!outcome.callback_panicked());

    let guard = HandleExit::new(|| {
        commands_are_clean();
        say("callback");
    });
    assert!(!guard.unwrap().finish().callback_panicked());
}

/// A child that shares its parent's memory, as between `vfork` or `posix_spawn` and `exec`.
fn child_in_the_parents_memory() {
    let guard = guard();
    let mut stack = vec![0; 256 * 1024];
    for signal in [Signal::TERM, Signal::INT] {
        let raise_in_child = || {
            // Not raise(3): musl keeps the number of its thread in memory, which is the parent's here.
            kill_this_process(signal);
            7
        };
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        // SAFETY: the parent is suspended until the child is gone, and the child only sends itself a
        // signal.
        let child =
            unsafe { clone(Box::new(raise_in_child), &mut stack, flags, Some(libc::SIGCHLD)) };
        say(reap(child.unwrap()));
        assert!(!guard.is_exiting());
    }
    assert_eq!(disposition(Signal::TERM).1, HANDLER_FLAGS, "the parent's is still in place");
}

/// Children that are forked while another thread waits in the guard's machinery.
fn fork_while_others_wait() {
    let guard = guard();
    let handle = Arc::new(guard.handle());
    let waits = Arc::clone(&handle);
    let waiter = std::thread::spawn(move || waits.wait());
    let child = fork(|| {
        let own = HandleExit::cleanup(|| say("callback in the child")).unwrap();
        raise(Signal::TERM);
        own.wait();
        pause_for_ever();
    });
    say(reap(child));
    assert!(!guard.is_exiting());
    drop(guard);
    assert_eq!(waiter.join().unwrap(), Cause::ScopeEnd);
}

// ---------------------------------------------------------------------------------------- tests

/// An observer forks, and returns in the child, while another thread takes the lock that the watcher takes next.
fn observer_forks() {
    static CHILDREN: AtomicUsize = AtomicUsize::new(0);
    let forks = |event: &Event| {
        if !matches!(event, Event::SignalReceived(_)) {
            return;
        }
        // SAFETY: the child only returns. It blocks every signal then, and must not outlive its test.
        unsafe {
            match nix::unistd::fork().unwrap() {
                ForkResult::Child => {
                    assert_eq!(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), 0);
                }
                ForkResult::Parent { child } => {
                    assert_eq!(reap(child), "exited with 0");
                    CHILDREN.fetch_add(1, SeqCst);
                }
            }
        }
    };
    let builder = HandleExit::builder().callback_timeout(DEADLINE * 2).on(Signal::USR1, |_| {});
    let guard = builder.observe(forks).install(|| say("callback")).unwrap();
    std::thread::spawn(|| while Exit::current().is_some() {});
    for count in 1..=200 {
        raise(Signal::USR1);
        until("the child has ended", || CHILDREN.load(SeqCst) == count);
    }
    drop(guard);
    std::process::exit(0);
}

fn a_signal_to_the_child_ends_the_child_alone() {
    ends_well(signal_to_the_child, &["died of SIGTERM", "died of SIGINT", AT_SCOPE_END]);
}

fn a_signal_to_the_child_runs_the_childs_old_handler() {
    ends_well(
        signal_to_the_child_with_an_old_handler,
        &["old", "old", "the child lives on", "exited with 0", AT_SCOPE_END],
    );
}

fn a_signal_to_the_child_is_ignored_where_it_was_ignored() {
    ends_well(
        signal_to_the_child_where_it_was_ignored,
        &["the child lives on", "exited with 0", AT_SCOPE_END],
    );
}

fn the_guards_end_in_the_child_only_restores() {
    for scenario in scenarios![drop_in_the_child, finish_in_the_child, disarm_in_the_child] {
        ends_well(
            scenario,
            &["the child goes on", "died of SIGTERM", AT_SCOPE_END, "captured dropped", "deferred"],
        );
    }
}

fn run_that_returns_in_the_child_as_well_calls_back_in_the_parent_alone() {
    ends_well(run_in_the_child, &["captured dropped", "callback", "exited with 9"]);
}

fn process_exit_in_the_child_runs_nothing_of_the_parents() {
    ends_well(exit_in_the_child, &["exited with 3", AT_SCOPE_END, "deferred"]);
}

fn main_that_returns_in_the_child_runs_nothing_of_the_parents() {
    ends_well(return_from_main_in_the_child, &["exited with 0", AT_SCOPE_END]);
}

fn the_parents_handle_does_nothing_in_the_child() {
    ends_well(handle_in_the_child, &["exited with 0", AT_SCOPE_END]);
}

fn a_child_that_has_the_process_id_of_its_parent_is_a_child() {
    match as_pid_1() {
        Err(why) => println!("{why}"),
        Ok(as_pid_1) => {
            let victim = Victim::start(pid_1_of_pid_1.under("unshare", as_pid_1));
            victim.end().said(&["1 exited with 0", AT_SCOPE_END]).exited(0);
        }
    }
}

fn the_parents_handle_tells_the_child_nothing_of_the_parents_exit() {
    ends_well(handle_in_the_child_of_an_exit, &["exited with 0", "deferred"]);
}

fn a_new_guard_in_the_child_is_the_childs() {
    let lines = [
        "callback where it was made: SIGTERM",
        "died of SIGTERM",
        AT_SCOPE_END,
        "died of SIGTERM",
        "callback where it was made: the process exits",
        "exited with 4",
        AT_SCOPE_END,
        "exited with 0",
        "died of SIGTERM",
        "exited with 0",
        AT_SCOPE_END,
    ];
    ends_well(new_guard_in_the_child, &lines);
}

fn exit_in_the_callback_does_not_hang_a_child_that_exits() {
    let lines = ["callback in the child", "exited with 3", AT_SCOPE_END];
    ends_well(callback_exits_in_the_child, &lines);
}

fn a_rearmed_guard_is_the_childs() {
    let lines = [
        "callback in the child: SIGTERM",
        "died of SIGTERM",
        "callback in the child: the process exits",
        "deferred in the child",
        "exited with 5",
        "callback in the child: requested by the program",
        "exited with 6",
        AT_SCOPE_END,
    ];
    ends_well(rearm, &lines);
}

fn a_rearmed_guard_that_is_dropped_restores_in_the_child() {
    let lines = ["callback in the child: the scope ended", "exited with 0", AT_SCOPE_END];
    ends_well(rearm_and_drop, &lines);
}

fn a_rearmed_guard_runs_the_old_handler() {
    let lines = ["callback in the child: the scope ended", "old", "exited with 0", AT_SCOPE_END];
    ends_well(rearm_with_an_old_handler, &lines);
}

fn a_rearmed_guards_exit_wakes_nobody_who_waits_for_the_parents() {
    ends_well(rearm_beside_the_parents_waiters, &["exited with 0", "woken"]);
}

fn rearm_beside_busy_threads_is_refused_or_the_childs_and_never_hangs() {
    ends_well(rearm_while_other_threads_use_the_guard, &[AT_SCOPE_END]);
}

fn a_rearm_on_two_threads_makes_one_guard() {
    for is_a_guest in [true, false] {
        ends_well(rearm_on_two_threads.told(is_a_guest), &[]);
    }
}

fn a_future_of_before_a_rearm_takes_no_wake_up_of_a_later_one() {
    for end in ["dropped", "polled"] {
        ends_well(futures_from_before_and_after_a_rearm.told(end), &["exited with 0"]);
    }
}

/// The descriptor would tell of the parent's exit, which the child knows nothing of.
fn readable_fd_is_refused_in_a_child_and_does_not_hang() {
    let lines = ["refused: true", "exited with 0", AT_SCOPE_END];
    ends_well(readable_fd_in_the_child_of_a_thread_that_begins_to_wait, &lines);
    ends_well(readable_fd_in_children_of_a_busy_thread, &[]);
}

fn rearm_that_failed_can_be_tried_again() {
    let end = Victim::start(rearm_again_where_no_thread_was_to_be_had).end();
    end.exited(0);
    if end.is_skipped() {
        return;
    }
    end.said(&["callback in the child: SIGTERM", "died of SIGTERM", AT_SCOPE_END]);
}

fn rearm_does_nothing_in_the_guards_own_process() {
    ends_well(rearm_where_it_is_at_home, &[AT_SCOPE_END]);
}

fn rearm_is_refused_while_the_child_has_a_guard_of_its_own() {
    let lines = [AT_SCOPE_END, "callback in the child: SIGTERM", "died of SIGTERM", AT_SCOPE_END];
    ends_well(rearm_beside_a_new_guard, &lines);
}

fn rearm_is_refused_when_the_exit_had_begun() {
    ends_well(rearm_after_the_exit_had_begun, &["died of SIGTERM"]);
}

fn a_daemon_that_forks_after_new_is_guarded_once_it_rearms() {
    let mut victim = Victim::start(daemon);
    let daemon = victim.expect_prefix("daemon ").parse().unwrap();
    kill(daemon, Signal::TERM);
    let end = victim.end();
    end.exited(0);
    assert_eq!(end.count("exited with 0"), 2, "starter and session leader: {end:#?}");
    let daemons: Vec<_> = end.lines.iter().filter(|line| *line != "exited with 0").collect();
    let wanted =
        [&*format!("daemon {daemon}"), "callback in the child: SIGTERM", "died of SIGTERM"];
    assert_eq!(daemons, wanted, "{end:#?}");
}

fn a_command_has_default_dispositions_and_a_clean_mask() {
    ends_well(commands, &["callback", "callback"]);
}

fn a_signal_to_a_child_in_the_parents_memory_ends_the_child_alone() {
    let lines = ["died of SIGTERM", "died of SIGINT", AT_SCOPE_END];
    ends_well(child_in_the_parents_memory, &lines);
}

fn a_fork_while_another_thread_waits_leaves_the_child_free() {
    let lines = ["callback in the child", "died of SIGTERM", AT_SCOPE_END];
    ends_well(fork_while_others_wait, &lines);
}

/// Nothing of the parent's is done in it, the clock that is stopped included.
fn a_child_of_code_that_has_a_time_limit_is_left_alone() {
    ends_well(observer_forks, &["callback"]);
}

pub(crate) const TESTS: &[Named] = tests![
    a_signal_to_the_child_ends_the_child_alone,
    a_signal_to_the_child_runs_the_childs_old_handler,
    a_signal_to_the_child_is_ignored_where_it_was_ignored,
    the_guards_end_in_the_child_only_restores,
    run_that_returns_in_the_child_as_well_calls_back_in_the_parent_alone,
    process_exit_in_the_child_runs_nothing_of_the_parents,
    main_that_returns_in_the_child_runs_nothing_of_the_parents,
    the_parents_handle_does_nothing_in_the_child,
    a_child_that_has_the_process_id_of_its_parent_is_a_child,
    the_parents_handle_tells_the_child_nothing_of_the_parents_exit,
    a_new_guard_in_the_child_is_the_childs,
    exit_in_the_callback_does_not_hang_a_child_that_exits,
    a_rearmed_guard_is_the_childs,
    a_rearmed_guard_that_is_dropped_restores_in_the_child,
    a_rearmed_guard_runs_the_old_handler,
    a_rearmed_guards_exit_wakes_nobody_who_waits_for_the_parents,
    rearm_beside_busy_threads_is_refused_or_the_childs_and_never_hangs,
    a_rearm_on_two_threads_makes_one_guard,
    a_future_of_before_a_rearm_takes_no_wake_up_of_a_later_one,
    readable_fd_is_refused_in_a_child_and_does_not_hang,
    rearm_that_failed_can_be_tried_again,
    rearm_does_nothing_in_the_guards_own_process,
    rearm_is_refused_while_the_child_has_a_guard_of_its_own,
    rearm_is_refused_when_the_exit_had_begun,
    a_daemon_that_forks_after_new_is_guarded_once_it_rearms,
    a_command_has_default_dispositions_and_a_clean_mask,
    a_signal_to_a_child_in_the_parents_memory_ends_the_child_alone,
    a_fork_while_another_thread_waits_leaves_the_child_free,
    a_child_of_code_that_has_a_time_limit_is_left_alone;
    alone:
    a_guard_can_be_rearmed_in_a_child_that_is_forked_at_once,
];
