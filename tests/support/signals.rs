//! Signals and dispositions, as the kernel has them.

use std::time::Duration;

use handle_exit::Signal;
use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// `kill(2)` of a process that belongs to this test.
pub fn kill(pid: i32, signal: Signal) {
    try_kill(pid, signal).unwrap_or_else(|error| panic!("kill {pid} {signal}: {error}"));
}

/// As `kill`, for a signal that may not be sent here.
pub fn try_kill(pid: i32, signal: Signal) -> std::io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::kill(pid, signal.as_raw()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// How much of the processor's time this process has spent.
pub fn spent() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let times = [usage.user_time(), usage.system_time()];
    times.iter().map(|time| Duration::from_micros(time.num_microseconds() as u64)).sum()
}

/// Sends a signal to this process as a whole.
pub fn kill_this_process(signal: Signal) {
    kill(std::process::id() as i32, signal);
}

/// Sends a signal to this very thread; it has been delivered when this returns.
pub fn raise(signal: Signal) {
    // SAFETY: raise(3) of a valid signal.
    assert_eq!(unsafe { libc::raise(signal.as_raw()) }, 0);
}

/// The bit of a signal in the masks of proc(5).
pub fn signal_bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// The bits of several signals.
pub fn signal_bits(signals: &[Signal]) -> u64 {
    signals.iter().fold(0, |bits, signal| bits | signal_bit(*signal))
}

/// A set of signals, as bits.
pub fn bits_of(set: &libc::sigset_t) -> u64 {
    (1..=64)
        // SAFETY: an initialised set.
        .filter(|number| unsafe { libc::sigismember(set, *number) == 1 })
        .fold(0, |bits, number| bits | 1 << (number - 1))
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal.as_raw());
        }
        set
    }
}

fn change_mask(how: libc::c_int, signals: &[Signal]) {
    let set = set_of(signals);
    // SAFETY: a valid set; the old one is not wanted.
    let changed = unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) };
    assert_eq!(changed, 0);
}

/// Blocks a signal in the calling thread, and in those it starts.
pub fn block(signal: Signal) {
    change_mask(libc::SIG_BLOCK, &[signal]);
}

/// From here on the calling thread blocks nothing.
pub fn unblock_all() {
    change_mask(libc::SIG_SETMASK, &[]);
}

/// Every signal that would end this process does so, and none is blocked.
pub(super) fn reset_signals() {
    for signal in Signal::TERMINATING {
        install_exactly(signal, libc::SIG_DFL, 0, &[]);
    }
    unblock_all();
}

/// Handler, flags without the C library's restorer, mask without what nobody can block (the kernel takes
/// that out, qemu does not).
pub type Disposition = (usize, libc::c_int, u64);

/// A disposition as the kernel has it.
pub fn disposition(signal: Signal) -> Disposition {
    // SAFETY: a null action makes it a query; a zeroed sigaction is valid.
    let current = unsafe {
        let mut current = std::mem::zeroed::<libc::sigaction>();
        assert_eq!(libc::sigaction(signal.as_raw(), std::ptr::null(), &raw mut current), 0);
        current
    };
    let mask = bits_of(&current.sa_mask) & !signal_bits(&[Signal::KILL, Signal::STOP]);
    (current.sa_sigaction, current.sa_flags & !0x0400_0000, mask)
}

/// The numbers that the C library keeps for itself.
pub fn reserved_signals() -> std::ops::Range<libc::c_int> {
    32..libc::SIGRTMIN()
}

/// Those that no guard takes: nobody can, a fault of the program would come again and again, or their default does
/// not end a process.
pub const UNGUARDABLE: [Signal; 15] = [
    Signal::KILL,
    Signal::STOP,
    Signal::SEGV,
    Signal::BUS,
    Signal::FPE,
    Signal::ILL,
    Signal::TRAP,
    Signal::SYS,
    Signal::CHLD,
    Signal::CONT,
    Signal::URG,
    Signal::WINCH,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
];

/// Every disposition of this process.
pub fn all_dispositions() -> Vec<(Signal, Disposition)> {
    let signals = (1..=64).filter(|raw| !reserved_signals().contains(raw));
    signals.filter_map(Signal::from_raw).map(|signal| (signal, disposition(signal))).collect()
}

pub fn is_default(signal: Signal) -> bool {
    disposition(signal).0 == libc::SIG_DFL
}

/// Installs any disposition that is to stay: handler (or `SIG_DFL`, `SIG_IGN`), flags, and mask.
pub fn install_exactly(signal: Signal, handler: usize, flags: libc::c_int, mask: &[Signal]) {
    // SAFETY: a zeroed sigaction is valid; a handler is one for its flags and async-signal-safe.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        action.sa_mask = set_of(mask);
        assert_eq!(libc::sigaction(signal.as_raw(), &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Installs a handler without flags that is to stay.
pub fn install(signal: Signal, handler: extern "C" fn(libc::c_int)) {
    install_exactly(signal, handler as *const () as usize, 0, &[]);
}

/// A handler that is installed with `SA_SIGINFO`.
pub type InfoHandler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// Calls the handler at this address, as the kernel would.
///
/// # Safety
/// A handler that was installed with `SA_SIGINFO`.
pub unsafe fn call_handler(
    address: usize,
    raw: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the caller's promise.
    let handler = unsafe { std::mem::transmute::<usize, InfoHandler>(address) };
    handler(raw, info, context);
}

/// Writes a line to standard output, from a signal handler.
pub fn say_in_handler(line: &'static str) {
    // SAFETY: write(2) is async-signal-safe; the slice is valid.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}

/// The flags of the guard's handlers.
pub const HANDLER_FLAGS: libc::c_int = libc::SA_SIGINFO | libc::SA_RESTART;

/// The mask of the guard's handlers, as `disposition` has it: everything but the faults, of which none
/// can be held back, and what the C library keeps for itself.
pub fn handler_mask() -> u64 {
    let is_fault = |raw: &i32| {
        use libc::{SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP};
        [SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP].contains(raw)
    };
    let held = (1..=libc::SIGRTMAX()).filter(|raw| *raw < 32 || *raw >= libc::SIGRTMIN());
    held.filter(|raw| !is_fault(raw)).fold(0, |mask, raw| mask | 1 << (raw - 1))
}

/// Sends TERM twice into `held_callback`, the second time as a second wish, and lets that end.
pub fn wish_twice(victim: &mut super::Victim) {
    victim.send(Signal::TERM);
    victim.expect("callback begins");
    std::thread::sleep(super::SECOND_WISH);
    victim.send(Signal::TERM);
    victim.at_rest();
    victim.tell("go on");
}
