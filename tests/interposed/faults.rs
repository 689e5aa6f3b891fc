//! System calls that fail, one use after the other: a clear error with everything as it was, or the
//! contract kept. Never a hang, never a lost or second callback.
//!
//! strace(1) attaches to a victim that stands before its guard, and makes the N-th use of one system
//! call fail, in each thread; N grows until nothing is left to fail. What stays out, and why:
//!
//! * Errors of futex(2): the C library takes the kernel's word that a wake has woken, and ends the
//!   process on errors that the kernel does not return. Its calls are delayed instead.
//! * `getpid`, `gettid`, `clock_gettime`, `exit_group`: they cannot fail (or are no system calls).
//! * rseq(2): where it fails in a new thread, the C library ends the process.
//! * brk(2): the allocator falls back to mmap(2), and an allocation that fails ends any Rust program.

#![allow(unsafe_code, reason = "the victims set limits and count their own threads")]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::sigaction::{Next, next};
use crate::support::*;
use handle_exit::{Error, HandleExit, Signal};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

fn callback() {
    say("callback begins");
    say("callback ends");
}

const WHOLE: [&str; 3] = ["callback begins", "callback ends", "deferred"];
const EXIT_CODE: i32 = 3;

// ------------------------------------------------------------------------------------ scenarios

/// Where the faults begin, for whoever may trace this process.
fn before_the_faults() {
    // SAFETY: lets any process of this user trace this one, where a security module asks for that.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
    say("ready");
    hear();
}

/// Stages a function, and says what was made.
fn constructed(guard: Result<HandleExit, Error>) -> Option<HandleExit> {
    match guard {
        Ok(guard) => {
            guard.defer(|| say("deferred")).unwrap();
            say("constructed");
            Some(guard)
        }
        Err(error) => {
            say(refused(&error));
            None
        }
    }
}

/// With what the operating system said, which is the error's source.
fn refused(error: &Error) -> String {
    let source = std::error::Error::source(error);
    let source = source.map_or(String::new(), |source| format!(": {source}"));
    format!("refused: {error}{source}")
}

fn dispositions() -> [Disposition; 2] {
    [Signal::TERM, Signal::INT].map(disposition)
}

#[derive(PartialEq)]
struct Everything {
    dispositions: [Disposition; 2],
    threads: usize,
    /// What this thread blocks.
    mask: u64,
}

fn everything() -> Everything {
    Everything { dispositions: dispositions(), threads: threads().len(), mask: blocked() }
}

/// Behind the faults: is everything as it was? Then waits for a signal.
fn behind_the_faults(before: Everything) -> ! {
    say("done");
    hear();
    // A joined thread is listed until the kernel is done with it.
    until("threads leave", || everything().threads == before.threads);
    say(if everything() == before { "as it was" } else { "changed" });
    unblock_all();
    park();
}

fn construct_and_drop() {
    let before = everything();
    before_the_faults();
    // With both threads a guard can have.
    drop(constructed(HandleExit::builder().callback_timeout(DEADLINE).install(callback)));
    behind_the_faults(before);
}

fn dies_of_a_signal() {
    let before = everything();
    before_the_faults();
    let Some(_guard) = constructed(HandleExit::cleanup(callback)) else {
        behind_the_faults(before)
    };
    park();
}

static OLD_HANDLER_RAN: AtomicBool = AtomicBool::new(false);

extern "C" fn old_handler(_: libc::c_int) {
    say_in_handler("old handler\n");
    OLD_HANDLER_RAN.store(true, SeqCst);
}

fn an_old_handler_runs() {
    install(Signal::TERM, old_handler);
    let before = everything();
    before_the_faults();
    if let Some(guard) = constructed(HandleExit::append(callback)) {
        guard.wait();
        until("the old handler runs", || OLD_HANDLER_RAN.load(SeqCst));
    }
    behind_the_faults(before);
}

fn exits() {
    let before = everything();
    before_the_faults();
    let Some(guard) = constructed(HandleExit::new(callback)) else { behind_the_faults(before) };
    guard.keep();
    std::process::exit(EXIT_CODE);
}

fn say_whether_it_is_kept() {
    say(if OLD_HANDLER_RAN.load(SeqCst) { "not kept" } else { "kept" });
}

/// Somebody installs a handler while the guard does, and the signal comes.
fn beaten_by_a_handler() {
    // At the last moment; the signal comes right behind, and finds the handler that is being put.
    next(Next {
        before: || install(Signal::USR1, old_handler),
        behind: || {
            raise(Signal::USR1);
            say_whether_it_is_kept();
        },
        ..Next::installation(Signal::USR1)
    });
    let guard = HandleExit::builder().signals([Signal::USR1]).install(callback);
    say(refused(&guard.unwrap_err()));
    assert_eq!(disposition(Signal::USR1).0, old_handler as *const () as usize);
}

/// The second of two signals is refused, when the first one has come already. The higher number comes first.
fn refused_behind_a_signal() {
    install(Signal::USR2, old_handler);
    let before = disposition(Signal::USR2);
    next(Next {
        before: || {
            raise(Signal::USR2);
            say_whether_it_is_kept();
        },
        fails: true,
        ..Next::installation(Signal::USR1)
    });
    let both = HandleExit::builder().signals([Signal::USR1, Signal::USR2]).append(true);
    let guard = both.install(callback);
    say(refused(&guard.unwrap_err()));
    assert_eq!(disposition(Signal::USR2), before);
}

/// At the limit of descriptors, with standard input, output and error open.
fn no_descriptor_left() {
    let before = everything();
    setrlimit(Resource::RLIMIT_NOFILE, 3, 3).unwrap();
    let guard = constructed(HandleExit::new(callback)).unwrap();
    assert!(guard.readable_fd().is_err());
    drop(guard);
    // Without a descriptor the threads cannot be counted: the dispositions are what is left.
    say(if before.dispositions == dispositions() { "as it was" } else { "changed" });
}

/// At the limit of threads, as a user whom it binds.
fn no_thread_left() {
    let before = everything();
    if !is_bound_by_limits() {
        return;
    }
    setrlimit(Resource::RLIMIT_NPROC, 0, 0).unwrap();
    constructed(HandleExit::new(callback));
    say(if everything() == before { "as it was" } else { "changed" });
}

// ---------------------------------------------------------------------------------------- tests

/// How a system call misbehaves, in strace's words.
type Fault = (&'static str, &'static str);

const FAULTS: [Fault; 16] = [
    ("rt_sigaction", "error=EINVAL"),
    ("rt_sigprocmask", "error=EINVAL"),
    ("rt_tgsigqueueinfo", "error=EAGAIN"),
    ("tgkill", "error=EAGAIN"),
    // Of each the same use: the one stands in for the other.
    ("rt_tgsigqueueinfo,tgkill", "error=EAGAIN"),
    ("clone3", "error=EAGAIN"),
    ("clone3", "error=ENOSYS"),
    ("mmap", "error=ENOMEM"),
    ("mprotect", "error=ENOMEM"),
    ("munmap", "error=ENOMEM"),
    ("madvise", "error=EINVAL"),
    ("sigaltstack", "error=ENOMEM"),
    ("prctl", "error=EINVAL"),
    ("set_robust_list", "error=EINVAL"),
    ("sched_getaffinity", "error=EINVAL"),
    ("futex", "delay_exit=5000"),
];

/// More uses than this no thread makes: that would be a loop.
const MOST_USES: usize = 40;

/// A victim with a fault before it.
struct Faulty {
    victim: Victim,
    strace: Victim,
}

impl Faulty {
    fn start(scenario: Scenario, (call, fault): Fault, when: usize) -> Faulty {
        let mut victim = Victim::ready(scenario);
        let mut command = Command::new("sh");
        let inject = format!("inject={call}:{fault}:when={when}");
        command
            .args([
                "-c",
                "exec strace -f -q -e trace=\"$2\" -e \"$3\" -e signal=none -p \"$1\" 2>&1",
                "sh",
            ])
            .args([&victim.pid().to_string(), call, &inject]);
        let strace = Victim::start(command.named(format_args!("strace {inject} on {scenario}")));
        // Attached, and the read that it waits in begun anew.
        until("strace attaches", || is_traced(victim.pid()));
        victim.tell("go on");
        Faulty { victim, strace }
    }

    /// Ends the faults; the victim goes on without them.
    fn release(&mut self) {
        let pid = self.victim.pid();
        until("strace lets go", || {
            // Again and again: one that comes just before strace waits for an event is noticed at the next event.
            self.strace.send(Signal::INT);
            !is_traced(pid)
        });
        self.victim.tell("go on");
    }

    /// How the victim ended, and whether any call had failed.
    fn end(self) -> (End, bool) {
        let end = self.victim.end();
        let injected = self
            .strace
            .end()
            .lines
            .iter()
            .any(|line| line.contains("(INJECTED)") || line.contains("(DELAYED)"));
        (end, injected)
    }
}

/// Runs the scenario with each use of each call failing in turn.
fn every_fault(
    scenario: Scenario,
    lines: &[&str],
    then: fn(&Victim),
    is_end: fn(Fault, &End) -> bool,
) {
    if Command::new("strace").arg("--version").output().is_err() {
        return println!("skipped: {scenario}: no strace(1)");
    }
    for fault in FAULTS {
        for when in 1.. {
            assert!(when < MOST_USES, "{scenario} calls {} in a loop", fault.0);
            let mut faulty = Faulty::start(scenario, fault, when);
            while let Some(line) = faulty.victim.next_line() {
                match line.as_str() {
                    "constructed" => then(&faulty.victim),
                    "done" => faulty.release(),
                    "as it was" | "changed" => faulty.victim.send(Signal::INT),
                    _ => {}
                }
            }
            let (end, injected) = faulty.end();
            judge(
                &format!("{scenario}, {} {} at use {when}", fault.0, fault.1),
                fault,
                &end,
                lines,
                is_end,
            );
            if !injected {
                break;
            }
        }
    }
}

fn judge(what: &str, fault: Fault, end: &End, lines: &[&str], is_end: fn(Fault, &End) -> bool) {
    // std ends a process in which a new thread finds no memory for its signal stack.
    if end.stderr.contains("alternative stack") || end.stderr.contains("alternate signal stack") {
        return;
    }
    let said: Vec<&str> = end.lines.iter().map(String::as_str).collect();
    if let ["ready", refused, "done", "as it was"] = said[..] {
        assert!(
            refused.starts_with("refused: ") && refused.contains(" failed: "),
            "{what}: {end:#?}"
        );
        end.died_by(Signal::INT);
        return;
    }
    // Where the kernel would not put a disposition back, it stays the guard's, which passes through.
    // Where it would not put a mask back, that was pthread_create(3), which blocks all for a moment.
    let said = said.into_iter().map(|line| match line {
        "changed" if matches!(fault.0, "rt_sigaction" | "rt_sigprocmask") => "as it was",
        line => line,
    });
    assert_eq!(said.collect::<Vec<_>>(), lines, "{what}: {end:#?}");
    assert!(is_end(fault, end), "{what}: {end:#?}");
}

fn died_by(end: &End, signal: Signal) -> bool {
    end.status.signal() == Some(signal.as_raw())
}

fn faults_around_construction_and_drop() {
    let lines = ["ready", "constructed", WHOLE[0], WHOLE[1], WHOLE[2], "done", "as it was"];
    every_fault(
        Scenario::of(construct_and_drop),
        &lines,
        |_| {},
        |_, end| died_by(end, Signal::INT),
    );
}

fn faults_around_a_death_by_signal() {
    let lines = ["ready", "constructed", WHOLE[0], WHOLE[1], WHOLE[2]];
    let send = |victim: &Victim| victim.send(Signal::TERM);
    every_fault(Scenario::of(dies_of_a_signal), &lines, send, |fault, end| {
        // What makes a death by signal may be what failed: then it is the code that stands for it.
        let may_be_code = ["rt_sigaction", "tgkill", "rt_sigprocmask"];
        let may_be_code = may_be_code.iter().any(|call| fault.0.contains(call));
        died_by(end, Signal::TERM) || (may_be_code && end.status.code() == Some(128 + 15))
    });
}

fn faults_around_an_old_handler() {
    let lines =
        ["ready", "constructed", WHOLE[0], WHOLE[1], "old handler", WHOLE[2], "done", "as it was"];
    let send = |victim: &Victim| victim.send(Signal::TERM);
    every_fault(Scenario::of(an_old_handler_runs), &lines, send, |_, end| {
        died_by(end, Signal::INT)
    });
}

fn faults_around_process_exit() {
    let lines = ["ready", "constructed", WHOLE[0], WHOLE[1], WHOLE[2]];
    every_fault(Scenario::of(exits), &lines, |_| {}, |_, end| end.status.code() == Some(EXIT_CODE));
}

fn a_signal_before_the_guard_is_beaten_goes_to_the_handler_that_beat_it() {
    let changed = "SIGUSR1: another thread changed its disposition at that moment: try again";
    let refused = format!("refused: {changed}");
    let end = Victim::start(beaten_by_a_handler).end();
    end.said(&["kept", "old handler", &refused]).exited(0);
}

fn a_signal_before_a_refusal_goes_to_the_handler_that_is_put_back() {
    let end = Victim::start(refused_behind_a_signal).end();
    let reason = std::io::Error::from_raw_os_error(libc::EINVAL);
    let refused = format!("refused: installing the handler for SIGUSR1 failed: {reason}");
    end.said(&["kept", "old handler", &refused]).exited(0);
}

fn no_descriptor_is_needed() {
    let end = Victim::start(no_descriptor_left).end();
    end.said(&["constructed", WHOLE[0], WHOLE[1], WHOLE[2], "as it was"]).exited(0);
}

fn without_a_thread_the_guard_is_refused() {
    let end = Victim::start(no_thread_left).end();
    end.exited(0);
    if end.is_skipped() {
        return;
    }
    let [refused, as_it_was] = &end.lines[..] else { panic!("{end:#?}") };
    assert!(refused.starts_with("refused: spawning the watcher thread failed: "), "{end:#?}");
    assert_eq!(as_it_was, "as it was", "{end:#?}");
}

pub(crate) const TESTS: &[Named] = tests![
    faults_around_construction_and_drop,
    faults_around_a_death_by_signal,
    faults_around_an_old_handler,
    faults_around_process_exit,
    a_signal_before_the_guard_is_beaten_goes_to_the_handler_that_beat_it,
    a_signal_before_a_refusal_goes_to_the_handler_that_is_put_back,
    no_descriptor_is_needed,
    without_a_thread_the_guard_is_refused,
];
