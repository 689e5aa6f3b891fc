//! Everything that is read in `/proc`: Linux only.

use std::path::{Path, PathBuf};

use handle_exit::Signal;
use nix::libc;

use super::{signal_bit, until};

/// A field of a `status` file, empty if there is none.
fn field_of(status: &Path, field: &str) -> String {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

fn status_of(pid: i32, field: &str) -> String {
    field_of(Path::new(&format!("/proc/{pid}/status")), field)
}

/// A set of signals in a `status` file, such as `SigBlk` or `SigIgn`.
fn signals_in(status: &Path, field: &str) -> Option<u64> {
    u64::from_str_radix(&field_of(status, field), 16).ok()
}

fn tasks_in(pid: &str) -> impl Iterator<Item = PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().map(|entry| entry.path())
}

// ------------------------------------------------------------------------------ any process

/// Whether a signal is pending, for a process (`ShdPnd`) or for one thread (`SigPnd`), or in another of the sets that
/// proc(5) has, if that is there.
pub fn is_pending(id: i32, field: &str, signal: Signal) -> Option<bool> {
    let pending = u64::from_str_radix(&status_of(id, field), 16).ok()?;
    Some(pending & signal_bit(signal) != 0)
}

/// Whether a signal is pending for this process.
pub fn is_pending_here(signal: Signal) -> bool {
    is_pending(std::process::id() as i32, "ShdPnd", signal).unwrap()
}

/// Whether a thread of this process takes a signal.
pub fn listens(thread: i32, signal: Signal) -> bool {
    is_pending(thread, "SigBlk", signal) == Some(false)
}

/// Whether any signal is pending for a process as a whole.
pub(super) fn has_any_pending(pid: i32) -> bool {
    !status_of(pid, "ShdPnd").bytes().all(|digit| digit == b'0')
}

/// Whether another process traces this one.
pub fn is_traced(pid: i32) -> bool {
    status_of(pid, "TracerPid") != "0"
}

/// A thread of a process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    pub(super) id: i32,
    /// As proc(5) has it: S sleeps, R runs, T is stopped, Z has ended.
    pub(super) state: char,
    /// How often it has gone to sleep.
    pub(super) sleeps: u64,
}

pub(super) fn tasks_of(pid: i32) -> Vec<Task> {
    let task = |path: PathBuf| {
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
        Some(Task {
            id: field("Pid:")?.trim().parse().ok()?,
            state: field("State:")?.trim().chars().next()?,
            sleeps: field("voluntary_ctxt_switches:")?.trim().parse().ok()?,
        })
    };
    tasks_in(&pid.to_string()).filter_map(task).collect()
}

/// What the threads of a process are in, for a message about a hang.
pub(super) fn describe_threads(pid: i32) -> String {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    tasks_in(&pid.to_string())
        .map(|task| {
            let (name, call) = (read(task.join("comm")), read(task.join("syscall")));
            format!("\n  {} in {}", name.trim(), call.trim())
        })
        .collect()
}

/// The only child of a process, once it has one.
pub fn child_of(pid: i32) -> i32 {
    let children = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|child| status_of(*child, "PPid") == pid.to_string()).collect::<Vec<_>>()
    };
    until("the process has a child", || !children().is_empty());
    children()[0]
}

/// How many open descriptors of a process are sockets.
pub fn sockets_of(pid: i32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

// ----------------------------------------------------------------------------- this process

/// The calling thread: `main`, or its name as the kernel knows it. Works in exit functions too, where
/// `std::thread::current` does not.
pub fn thread_name() -> String {
    // SAFETY: neither call has arguments, and neither can fail.
    if unsafe { libc::getpid() == libc::gettid() } {
        return "main".into();
    }
    std::fs::read_to_string("/proc/thread-self/comm").unwrap().trim().to_owned()
}

/// The ids of this process's threads, in order.
pub fn threads() -> Vec<i32> {
    let id = |task: PathBuf| task.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let mut threads: Vec<i32> = tasks_in("self").map(id).collect();
    threads.sort_unstable();
    threads
}

/// The thread that was started since there were these.
pub fn started_since(before: &[i32]) -> i32 {
    *threads().iter().find(|thread| !before.contains(thread)).unwrap()
}

/// Whether a thread of this process sleeps.
pub fn sleeps(thread: i32) -> bool {
    status_of(thread, "State").starts_with('S')
}

/// The signals that the calling thread blocks.
pub fn blocked() -> u64 {
    signals_in(Path::new("/proc/thread-self/status"), "SigBlk").unwrap()
}

/// Whether some thread is inside a handler that has this signal in its mask, or blocks it otherwise.
pub fn any_thread_blocks(signal: Signal) -> bool {
    tasks_in("self").any(|task| {
        let blocked = signals_in(&task.join("status"), "SigBlk").unwrap_or(0);
        blocked & signal_bit(signal) != 0
    })
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
