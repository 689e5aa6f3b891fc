//! Every disposition is put back exactly, a refusal changes none, and what others install stays.

#![allow(unsafe_code, reason = "handlers, limits and a counting allocator are the test's subject")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use handle_exit::{Builder, Error, ExitHandle, HandleExit, Ignored, OldHandler, Signal};
use nix::errno::Errno;
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, Uid, geteuid, setuid};
use support::*;

/// A disposition: what it is called here, handler, flags, mask.
type Before = (&'static str, usize, c_int, &'static [Signal]);

fn ignored_or_default() -> Vec<Before> {
    vec![
        ("default", libc::SIG_DFL, 0, &[]),
        ("default, flags and mask", libc::SIG_DFL, libc::SA_RESTART, &[Signal::USR1]),
        ("ignored", libc::SIG_IGN, 0, &[]),
        ("ignored, flags and mask", libc::SIG_IGN, libc::SA_NODEFER, &[Signal::HUP]),
    ]
}

fn handlers() -> Vec<Before> {
    let handler = quiet as *const () as usize;
    let everything = libc::SA_NODEFER | libc::SA_RESTART | libc::SA_SIGINFO | libc::SA_ONSTACK;
    vec![
        ("plain", handler, 0, &[]),
        ("SA_NODEFER", handler, libc::SA_NODEFER, &[]),
        ("SA_RESETHAND", handler, libc::SA_RESETHAND, &[]),
        ("SA_RESTART", handler, libc::SA_RESTART, &[]),
        ("a mask", handler, 0, &[Signal::USR1, Signal::INT]),
        ("everything", handler, everything, &[Signal::HUP, Signal::TERM, Signal::USR2]),
    ]
}

/// A way in which a guard, or the attempt to make one, ends.
type End = (&'static str, fn(Builder));

const ENDS: &[End] = &[
    ("drop", |builder| drop(builder.install(|| {}).unwrap())),
    ("finish", |builder| drop(builder.install(|| {}).unwrap().finish())),
    ("disarm", |builder| assert!(builder.install(|| {}).unwrap().disarm())),
    ("run", |builder| builder.run(|| {}, |_| {}).unwrap()),
    ("request", |builder| {
        let guard = builder.install(|| {}).unwrap();
        guard.request();
        guard.wait();
    }),
    ("a callback timeout", |builder| {
        drop(builder.callback_timeout(DEADLINE).install(|| {}).unwrap());
    }),
    ("panic", |builder| {
        panics(|| {
            let _guard = builder.install(|| {}).unwrap();
            panic!("on purpose");
        });
    }),
    ("panic in the callback", |builder| {
        panics(|| drop(builder.install(|| panic!("on purpose")).unwrap()));
    }),
    ("panic in the callback while unwinding", |builder| {
        panics(|| {
            let _guard = builder.install(|| panic!("in the callback")).unwrap();
            panic!("on purpose");
        });
    }),
    ("refused signal", |builder| {
        let refused = builder.signals([Signal::TERM, Signal::INT, Signal::KILL]).install(|| {});
        assert!(matches!(refused, Err(Error::Unguardable { signal: Signal::KILL, .. })));
    }),
    ("nested", |builder| {
        let _guard = HandleExit::builder().signals([Signal::USR1]).install(|| {}).unwrap();
        assert!(matches!(builder.install(|| {}), Err(Error::Nested)));
    }),
];

fn panics(function: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(function)).is_err());
}

extern "C" fn quiet(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

/// Every disposition of this process. The C library keeps signals 32 and 33 for itself.
fn all_dispositions() -> Vec<(Signal, (usize, i32, u64))> {
    let signals = (1..=64).filter(|raw| ![32, 33].contains(raw)).filter_map(Signal::from_raw);
    signals.map(|signal| (signal, disposition(signal))).collect()
}

fn bits(signals: &[Signal]) -> u64 {
    signals.iter().fold(0, |bits, signal| bits | 1 << (signal.as_raw() - 1))
}

fn set_limit(resource: Resource, soft: u64) {
    let (_, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, soft, hard).unwrap();
}

// ----------------------------------------------------------------------------------- allocations

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

// ----------------------------------------------------------------------------- foreign handlers

/// How often foreign handlers may bury a guard's in these tests.
const FOREIGN: usize = 9;

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

static FOREIGN_HANDLERS: [Handler; FOREIGN] = [
    foreign::<0>,
    foreign::<1>,
    foreign::<2>,
    foreign::<3>,
    foreign::<4>,
    foreign::<5>,
    foreign::<6>,
    foreign::<7>,
    foreign::<8>,
];

const FOREIGN_LINES: [&str; FOREIGN] = [
    "foreign 0\n",
    "foreign 1\n",
    "foreign 2\n",
    "foreign 3\n",
    "foreign 4\n",
    "foreign 5\n",
    "foreign 6\n",
    "foreign 7\n",
    "foreign 8\n",
];

/// What each foreign handler displaced, and calls.
static DISPLACED: [AtomicUsize; FOREIGN] = [const { AtomicUsize::new(0) }; FOREIGN];

/// Says its line and then chains, as a well-behaved library does.
extern "C" fn foreign<const N: usize>(raw: c_int, info: *mut siginfo_t, context: *mut c_void) {
    say_in_handler(FOREIGN_LINES[N]);
    let displaced = DISPLACED[N].load(SeqCst);
    if displaced != libc::SIG_DFL && displaced != libc::SIG_IGN {
        // SAFETY: every handler of TERM in these tests takes siginfo.
        let displaced = unsafe { std::mem::transmute::<usize, Handler>(displaced) };
        displaced(raw, info, context);
    }
}

/// Installs foreign handler `n` on TERM, over whatever is there.
fn put_on_top(n: usize) {
    DISPLACED[n].store(disposition(Signal::TERM).0, SeqCst);
    install_exactly(Signal::TERM, FOREIGN_HANDLERS[n] as usize, libc::SA_SIGINFO, &[Signal::USR1]);
}

/// Puts back the handler that foreign handler `n` displaced, which takes siginfo.
fn take_away(n: usize) {
    install_exactly(Signal::TERM, DISPLACED[n].load(SeqCst), libc::SA_SIGINFO, &[]);
}

extern "C" fn old(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    say_in_handler("old\n");
}

fn install_old(signal: Signal) {
    install_exactly(signal, old as *const () as usize, libc::SA_SIGINFO, &[Signal::USR2]);
}

fn callback() {
    say("callback");
}

// ------------------------------------------------------------------- at the worst of moments

/// What happens just before the next installation of a handler of TERM: a `fn()`, or 0.
static MEANWHILE: AtomicUsize = AtomicUsize::new(0);

/// What of TERM fails the next time: `QUERY`, `INSTALLATION`, or 0.
static FAILS: AtomicUsize = AtomicUsize::new(0);
const QUERY: usize = 1;
const INSTALLATION: usize = 2;

/// What Rust code of this process calls instead of the C library's: between a query of the guard's
/// and what it installs then, other threads do what they like, and handlers interrupt it.
#[unsafe(no_mangle)]
extern "C" fn sigaction(
    raw: c_int,
    new: *const libc::sigaction,
    displaced: *mut libc::sigaction,
) -> c_int {
    let kind = if new.is_null() { QUERY } else { INSTALLATION };
    if raw == libc::SIGTERM && FAILS.compare_exchange(kind, 0, SeqCst, SeqCst).is_ok() {
        Errno::EINVAL.set();
        return -1;
    }
    if raw == libc::SIGTERM && !new.is_null() {
        let happens = MEANWHILE.swap(0, SeqCst);
        if happens != 0 {
            // SAFETY: `meanwhile` stored it.
            let happens = unsafe { std::mem::transmute::<usize, fn()>(happens) };
            happens();
        }
    }
    // SAFETY: the caller's arguments.
    unsafe { sigaction_of_libc(raw, new, displaced) }
}

fn meanwhile(happens: fn()) {
    MEANWHILE.store(happens as usize, SeqCst);
}

/// As `put_on_top`, but when the guard has looked and is about to install.
fn will_intrude<const N: usize>() {
    DISPLACED[N].store(disposition(Signal::TERM).0, SeqCst);
    meanwhile(|| {
        let intruder = FOREIGN_HANDLERS[N] as usize;
        install_exactly(Signal::TERM, intruder, libc::SA_SIGINFO, &[Signal::USR1]);
    });
}

// ------------------------------------------------------------------------------------ scenarios

fn every_end_restores() {
    for (before, handler, flags, mask) in ignored_or_default().into_iter().chain(handlers()) {
        for signal in [Signal::TERM, Signal::INT] {
            install_exactly(signal, handler, flags, mask);
        }
        let all = all_dispositions();
        for ignored in [Ignored::Keep, Ignored::Guard] {
            for (end, run) in ENDS {
                run(HandleExit::builder().append(true).ignored(ignored));
                assert_eq!(all_dispositions(), all, "{before}, {ignored:?}, {end}");
            }
        }
    }
}

fn a_signal_and_then_drop_restores() {
    for (before, handler, flags, mask) in ignored_or_default().into_iter().chain(handlers()) {
        if flags & libc::SA_RESETHAND != 0 {
            // The delivery to it changes the disposition, as it should.
            continue;
        }
        install_exactly(Signal::TERM, handler, flags, mask);
        let all = all_dispositions();
        let guard = HandleExit::builder().append(true).ignored(Ignored::Guard).install(|| {});
        let guard = guard.unwrap();
        raise(Signal::TERM);
        guard.wait();
        drop(guard);
        assert_eq!(all_dispositions(), all, "{before}");
    }
}

fn only_the_guarded_are_touched() {
    let before = all_dispositions();
    let guarded = [Signal::TERM, Signal::INT];
    let guard = HandleExit::new(|| {}).unwrap();
    let flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    for ((signal, before), (_, now)) in before.iter().zip(all_dispositions()) {
        if guarded.contains(signal) {
            assert_ne!(now.0, before.0);
            assert_eq!((now.1, now.2), (flags, bits(&guarded)), "{signal}");
        } else {
            assert_eq!(now, *before, "{signal}");
        }
    }
    drop(guard);
    assert_eq!(all_dispositions(), before);
}

fn ignored_is_kept_or_guarded() {
    install_exactly(Signal::INT, libc::SIG_IGN, libc::SA_RESTART, &[]);
    let ignored = disposition(Signal::INT);
    let guard = HandleExit::new(callback).unwrap();
    assert_eq!(disposition(Signal::INT), ignored);
    drop(guard);
    let guard = HandleExit::builder().ignored(Ignored::Guard).install(callback).unwrap();
    assert_ne!(disposition(Signal::INT), ignored);
    drop(guard);
    assert_eq!(disposition(Signal::INT), ignored);
}

const EIGHT: [Signal; 8] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALRM,
    Signal::PROF,
];

fn refused_at_each_place() {
    for (before, handler, flags, mask) in handlers() {
        for taken in EIGHT {
            for signal in EIGHT {
                install_exactly(signal, libc::SIG_DFL, libc::SA_RESTART, &[Signal::PIPE]);
            }
            install_exactly(taken, handler, flags, mask);
            let (all, tasks) = (all_dispositions(), threads());
            let captured = Arc::new(());
            let held = Arc::clone(&captured);
            let refused = HandleExit::builder().signals(EIGHT).install(move || drop(held));
            let Err(Error::HandlerExists { signal, holder, .. }) = refused else {
                panic!("{before} on {taken}: {refused:?}");
            };
            assert_eq!((signal, holder.address()), (taken, handler));
            assert_eq!(all_dispositions(), all, "{before} on {taken}");
            assert_eq!(threads(), tasks);
            assert_eq!(Arc::strong_count(&captured), 1, "the refused callback is dropped");
        }
    }
}

fn refused_by_each_constructor() {
    install_old(Signal::INT);
    let all = all_dispositions();
    let refused = |result: Result<HandleExit, Error>| match result {
        Err(Error::HandlerExists { signal, .. }) => assert_eq!(signal, Signal::INT),
        other => panic!("{other:?}"),
    };
    refused(HandleExit::new(callback));
    refused(HandleExit::cleanup(callback));
    refused(HandleExit::builder().install_with(|_| callback()));
    let run = HandleExit::run(callback, |_| unreachable!("a body without a guard"));
    assert!(matches!(run, Err(Error::HandlerExists { signal: Signal::INT, .. })));
    assert_eq!(all_dispositions(), all);
    assert!(ExitHandle::current().is_none());
    drop(HandleExit::append(callback).unwrap());
}

fn names_the_holder() {
    // A library's exported function.
    let address = libc::abort as *const () as usize;
    install_exactly(Signal::INT, address, 0, &[]);
    let error = HandleExit::new(|| {}).unwrap_err();
    let message = error.to_string();
    let Error::HandlerExists { signal, holder, .. } = error else { panic!("{message}") };
    assert_eq!((signal, holder.address(), holder.symbol()), (Signal::INT, address, Some("abort")));
    let object = holder.object().unwrap().to_str().unwrap();
    assert!(object.contains("libc"), "{object}");
    for part in ["SIGINT", "abort", object, &format!("{address:#x}"), "append"] {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
    // What only lies behind an exported function has another name, or none.
    install_exactly(Signal::INT, address + 1, 0, &[]);
    let error = HandleExit::new(|| {}).unwrap_err();
    let Error::HandlerExists { holder, .. } = error else { panic!("{error}") };
    assert_eq!((holder.address(), holder.symbol()), (address + 1, None));
    // A function of the program itself, which is not exported.
    install_old(Signal::INT);
    let error = HandleExit::new(|| {}).unwrap_err();
    let message = error.to_string();
    let Error::HandlerExists { holder, .. } = error else { panic!("{message}") };
    assert_eq!((holder.address(), holder.symbol()), (old as *const () as usize, None));
    let object = std::fs::canonicalize(holder.object().unwrap()).unwrap();
    assert_eq!(object, std::fs::canonicalize("/proc/self/exe").unwrap());
    assert!(message.contains("a function in ") && message.contains(" (+0x"), "{message}");
}

fn unguardable_signals() {
    let all = all_dispositions();
    let named = [
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
    let reserved = [32, 33].map(|raw| Signal::from_raw(raw).unwrap());
    for refused in named.into_iter().chain(reserved) {
        let error = HandleExit::builder()
            .append(true)
            .ignored(Ignored::Guard)
            .signals([Signal::TERM, refused])
            .install(callback)
            .unwrap_err();
        let message = error.to_string();
        let Error::Unguardable { signal, reason, .. } = error else { panic!("{message}") };
        assert_eq!(signal, refused);
        assert!(message.contains(&refused.to_string()) && message.contains(reason), "{message}");
        assert_eq!(all_dispositions(), all, "{refused}");
    }
    for allowed in EIGHT.into_iter().chain([34, 64].map(|raw| Signal::from_raw(raw).unwrap())) {
        assert!(HandleExit::builder().signals([allowed]).install(|| {}).unwrap().disarm());
    }
    assert_eq!(all_dispositions(), all);
}

fn no_signals() {
    let refused = HandleExit::builder().signals([]).install(callback);
    assert!(matches!(refused, Err(Error::NoSignals)));
}

fn a_signal_named_twice() {
    install_old(Signal::TERM);
    let all = all_dispositions();
    let twice = [Signal::TERM, Signal::INT, Signal::TERM, Signal::INT, Signal::TERM];
    let guard = HandleExit::builder().signals(twice).append(true).install(callback).unwrap();
    raise(Signal::TERM);
    guard.wait();
    drop(guard);
    assert_eq!(all_dispositions(), all);
}

fn nested() {
    let guard = HandleExit::new(callback).unwrap();
    let all = all_dispositions();
    let refused = || {
        assert!(matches!(HandleExit::new(|| say("never")), Err(Error::Nested)));
        assert!(matches!(HandleExit::cleanup(|| say("never")), Err(Error::Nested)));
        assert!(matches!(HandleExit::append(|| say("never")), Err(Error::Nested)));
        let other = HandleExit::builder().signals([Signal::USR1]).install(|| say("never"));
        assert!(matches!(other, Err(Error::Nested)));
        assert_eq!(all_dispositions(), all);
    };
    refused();
    thread::scope(|scope| scope.spawn(refused).join().unwrap());
    drop(guard);
    drop(HandleExit::new(callback).unwrap());
}

fn two_threads_race() {
    for _ in 0..50 {
        let (start, tried) = (Barrier::new(2), Barrier::new(2));
        let racer = || {
            start.wait();
            let made = HandleExit::new(|| {});
            tried.wait();
            match made {
                Ok(_guard) => true,
                Err(Error::Nested) => false,
                Err(other) => panic!("{other}"),
            }
        };
        let (one, other) = thread::scope(|scope| {
            let (one, other) = (scope.spawn(racer), scope.spawn(racer));
            (one.join().unwrap(), other.join().unwrap())
        });
        assert!(one != other, "both won: {}", one && other);
    }
}

fn two_hundred_guards() {
    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
    fn guard(round: usize) {
        let builder = HandleExit::builder().append(true).callback_timeout(DEADLINE);
        let guard = builder.install_with(|_| {}).unwrap();
        let handle = guard.handle();
        guard.defer(|| {}).unwrap();
        let readable = guard.readiness().unwrap();
        match round % 4 {
            0 => drop(guard),
            1 => drop(guard.finish()),
            2 => assert!(guard.disarm()),
            _ => {
                raise(Signal::TERM);
                handle.wait();
                drop(guard);
            }
        }
        assert!(handle.is_exiting());
        drop(readable);
    }
    install_exactly(Signal::TERM, quiet as *const () as usize, 0, &[Signal::USR1]);
    let (all, tasks, open) = (all_dispositions(), threads(), descriptors());
    // What the process has only once is allocated by now.
    (0..4).for_each(guard);
    let allocated = ALLOCATED.load(SeqCst);
    (0..200).for_each(guard);
    assert_eq!(ALLOCATED.load(SeqCst), allocated, "bytes allocated");
    assert_eq!(all_dispositions(), all);
    assert_eq!(descriptors(), open);
    // A joined thread is gone for its process a moment before /proc says so.
    until("no thread more than before", || threads() == tasks);
}

fn descriptor_table_full() {
    set_limit(Resource::RLIMIT_NOFILE, 3);
    assert!(std::fs::File::open("/").is_err(), "the table is full");
    let all = all_dispositions();
    drop(HandleExit::new(callback).unwrap());
    assert_eq!(all_dispositions(), all);
    let guard = HandleExit::cleanup(callback).unwrap();
    assert_eq!(guard.readiness().unwrap_err().raw_os_error(), Some(libc::EMFILE));
    ready_for_ever();
}

/// Lets one thread more at a time until a guard with its two threads can be made.
fn no_thread_to_be_had() {
    // The limit does not hold for root, so root becomes a user whom nobody else is.
    let alone = geteuid().is_root();
    if alone {
        let unused = 1_000_000 + std::process::id();
        if let Err(error) = setuid(Uid::from_raw(unused)) {
            say(format!("skipped: root cannot become user {unused}: {error}"));
            return;
        }
    }
    let (all, tasks) = (all_dispositions(), threads());
    let mut steps = Vec::new();
    let guard = (0..100_000).find_map(|limit| {
        set_limit(Resource::RLIMIT_NPROC, limit);
        match HandleExit::builder().callback_timeout(DEADLINE).install(callback) {
            Ok(guard) => return Some(guard),
            Err(Error::System { step, signal, source, .. }) => {
                assert_eq!((signal, source.raw_os_error()), (None, Some(libc::EAGAIN)));
                steps.push(step);
            }
            Err(other) => panic!("{other}"),
        }
        assert_eq!(all_dispositions(), all);
        assert!(ExitHandle::current().is_none());
        until("no thread is left behind", || threads() == tasks);
        None
    });
    steps.dedup();
    assert_eq!(steps.first(), Some(&"spawning the watcher thread"));
    if alone {
        assert_eq!(steps, ["spawning the watcher thread", "spawning the timer thread"]);
    }
    drop(guard.unwrap());
    assert_eq!(all_dispositions(), all);
}

fn on_top_of_a_default() {
    let guard = HandleExit::new(callback).unwrap();
    put_on_top(0);
    let foreign = disposition(Signal::TERM);
    drop(guard);
    assert_eq!(disposition(Signal::TERM), foreign);
    assert_eq!(disposition(Signal::INT), (libc::SIG_DFL, 0, 0));
    say("ready");
    hear();
    // Nothing but the foreign handler: what it displaced would have done no more than that.
    drop(HandleExit::append(callback).unwrap());
    assert_eq!(disposition(Signal::TERM), foreign);
}

fn on_top_of_an_old_handler() {
    install_old(Signal::TERM);
    let guard = HandleExit::append(callback).unwrap();
    put_on_top(0);
    let foreign = disposition(Signal::TERM);
    say("ready");
    hear();
    drop(guard);
    assert_eq!(disposition(Signal::TERM), foreign);
    say("dropped");
    hear();
}

fn buried_again_and_again() {
    install_old(Signal::TERM);
    for n in 0..8 {
        let guard = HandleExit::append(move || say(format!("callback {n}"))).unwrap();
        put_on_top(n);
        let foreign = disposition(Signal::TERM);
        drop(guard);
        assert_eq!(disposition(Signal::TERM), foreign);
        raise(Signal::TERM);
    }
    let all = all_dispositions();
    let refused = HandleExit::append(callback).unwrap_err();
    assert!(matches!(refused, Error::System { signal: Some(Signal::TERM), .. }), "{refused}");
    assert_eq!(all_dispositions(), all);
    raise(Signal::TERM);
}

fn guarded_over_buried_guards() {
    install_old(Signal::TERM);
    for n in 0..7 {
        let guard = HandleExit::append(|| {}).unwrap();
        put_on_top(n);
        drop(guard);
    }
    let foreign = disposition(Signal::TERM);
    let guard = HandleExit::append(callback).unwrap();
    say("ready");
    hear();
    drop(guard);
    assert_eq!(disposition(Signal::TERM), foreign);
    say("dropped");
    raise(Signal::TERM);
}

/// A handler that is gone, or that has its place back, or that was there before the guard, cannot lead to
/// the guard's.
fn many_handlers_one_after_the_other() {
    let install = |handler: Handler| {
        install_exactly(Signal::TERM, handler as usize, libc::SA_SIGINFO, &[]);
        HandleExit::append(|| {}).unwrap()
    };
    for handler in FOREIGN_HANDLERS {
        let guard = install(handler);
        install_exactly(Signal::TERM, libc::SIG_DFL, 0, &[]);
        drop(guard);
        assert_eq!(disposition(Signal::TERM), (libc::SIG_DFL, 0, 0));
    }
    for handler in FOREIGN_HANDLERS {
        let guard = install(handler);
        raise(Signal::TERM);
        guard.wait();
        drop(guard);
    }
    for _ in FOREIGN_HANDLERS {
        install_old(Signal::TERM);
        let guard = HandleExit::append(|| {}).unwrap();
        put_on_top(0);
        drop(guard);
    }
}

fn intruded_upon_while_it_is_made() {
    install_old(Signal::INT);
    let before = disposition(Signal::INT);
    will_intrude::<0>();
    let refused = HandleExit::append(callback).unwrap_err();
    assert!(matches!(refused, Error::System { signal: Some(Signal::TERM), .. }), "{refused}");
    assert_eq!(disposition(Signal::INT), before);
    assert_eq!(disposition(Signal::TERM).0, FOREIGN_HANDLERS[0] as usize);
    raise(Signal::TERM);
}

fn intruded_upon_while_it_is_dropped() {
    install_old(Signal::TERM);
    let intrusions: [fn(); 2] = [will_intrude::<0>, will_intrude::<1>];
    for (intrusion, intruder) in intrusions.into_iter().zip(FOREIGN_HANDLERS) {
        let guard = HandleExit::append(callback).unwrap();
        intrusion();
        drop(guard);
        assert_eq!(disposition(Signal::TERM).0, intruder as usize);
        raise(Signal::TERM);
    }
    // The handlers that came in go on calling those of the guards that were.
    let guard = HandleExit::append(callback).unwrap();
    raise(Signal::TERM);
    guard.wait();
    drop(guard);
}

fn making_a_guard_fails() {
    let all = all_dispositions();
    for what in [QUERY, INSTALLATION] {
        FAILS.store(what, SeqCst);
        let Err(Error::System { signal, source, .. }) = HandleExit::new(callback) else {
            panic!("{what} did not fail")
        };
        assert_eq!((signal, source.raw_os_error()), (Some(Signal::TERM), Some(libc::EINVAL)));
        assert_eq!(all_dispositions(), all);
    }
}

/// What stays is the guard's handler, and passes signals through.
fn putting_back_fails() {
    let guard = HandleExit::new(callback).unwrap();
    let ours = disposition(Signal::TERM);
    FAILS.store(told(), SeqCst);
    drop(guard);
    assert_eq!(FAILS.load(SeqCst), 0);
    assert_eq!(disposition(Signal::TERM), ours);
    say("behind");
    raise(Signal::TERM);
}

/// In a forked child: the guard stays the parent's.
fn intruded_upon_while_it_is_rearmed() {
    let before = threads();
    let guard = HandleExit::new(callback).unwrap();
    let watcher = started_since(&before);
    // A watcher that still holds a lock at the fork would be another refusal.
    until("the watcher sleeps", || sleeps(watcher));
    // SAFETY: no other thread holds a lock that the child needs.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => {
            let ended = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(ended, WaitStatus::Exited(child, 0));
        }
        ForkResult::Child => {
            let refused = catch_unwind(AssertUnwindSafe(|| {
                will_intrude::<0>();
                let refused = guard.rearm().unwrap_err();
                assert!(matches!(refused, Error::System { signal: Some(Signal::TERM), .. }));
                assert!(ExitHandle::current().is_none());
                drop(guard);
                assert_eq!(disposition(Signal::TERM).0, FOREIGN_HANDLERS[0] as usize);
                assert_eq!(disposition(Signal::INT).0, libc::SIG_DFL);
            }));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if refused.is_ok() { 0 } else { 101 }) }
        }
    }
}

/// The watcher is there before the first handler, and takes no signal until the last is in place.
fn pending_while_a_guard_is_made() {
    block(Signal::TERM);
    kill(std::process::id() as i32, Signal::TERM);
    meanwhile(|| {
        let main = std::process::id() as i32;
        until("the watcher waits", || {
            threads().iter().any(|thread| *thread != main && sleeps(*thread))
        });
        say("installing");
    });
    let _guard = HandleExit::cleanup(callback).unwrap();
    loop {
        thread::park();
    }
}

/// As a handler does that calls what it must not, and interrupts the making of a guard.
fn exits_while_it_makes_a_guard() {
    meanwhile(|| {
        std::process::exit(3);
    });
    let _guard = HandleExit::new(callback);
    unreachable!("the process has ended");
}

fn exits_while_another_thread_makes_a_guard() {
    static BEING_MADE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
    meanwhile(|| {
        *BEING_MADE.0.lock().unwrap() = true;
        BEING_MADE.1.notify_all();
        let pid = std::process::id();
        let waits = libc::SYS_clock_nanosleep.to_string();
        until("the main thread waits for the guard", || {
            let call = std::fs::read_to_string(format!("/proc/self/task/{pid}/syscall")).unwrap();
            call.split(' ').next() == Some(&waits)
        });
    });
    thread::spawn(|| HandleExit::new(callback).unwrap().keep());
    let being_made = BEING_MADE.0.lock().unwrap();
    drop(BEING_MADE.1.wait_while(being_made, |being_made| !*being_made).unwrap());
    std::process::exit(3);
}

/// Ours is on top again, without a guard.
fn on_top_and_away_again() {
    install_old(Signal::TERM);
    let old = disposition(Signal::TERM);
    for n in 0..FOREIGN {
        let guard = HandleExit::append(|| {}).unwrap();
        put_on_top(n);
        drop(guard);
        take_away(n);
        say(format!("round {n}"));
        if n % 2 == 0 {
            raise(Signal::TERM);
        }
        let guard = HandleExit::append(callback).unwrap();
        raise(Signal::TERM);
        guard.wait();
        drop(guard);
        assert_eq!(disposition(Signal::TERM), old);
    }
}

fn away_again_over_a_default() {
    let guard = HandleExit::new(|| {}).unwrap();
    put_on_top(0);
    drop(guard);
    take_away(0);
    // There is no handler but ours, which stands for the default.
    drop(HandleExit::new(callback).unwrap());
    assert_eq!(disposition(Signal::TERM), (libc::SIG_DFL, 0, 0));
    let guard = HandleExit::new(|| {}).unwrap();
    put_on_top(0);
    drop(guard);
    take_away(0);
    ready_for_ever();
}

// ------------------------------------------------------------------------- scenarios: neighbours

fn register_signal_hook() {
    // SAFETY: the action only writes to a descriptor.
    unsafe {
        let action = || say_in_handler("signal-hook\n");
        signal_hook::low_level::register(Signal::TERM.as_raw(), action).unwrap();
    }
}

fn a_default_over_a_chain_to_a_buried_guard() {
    let guard = HandleExit::builder().signals([Signal::TERM]).install(callback).unwrap();
    put_on_top(0);
    drop(guard);
    let guard = HandleExit::builder().signals([Signal::TERM]).append(true);
    let guard = guard.old_handler(OldHandler::Always).install(callback).unwrap();
    install_exactly(Signal::TERM, libc::SIG_DFL, 0, &[]);
    // Runs the foreign handler, which chains to the first guard's. Nobody has sent a signal.
    drop(guard);
    say("goes on");
}

fn signal_hook_before() {
    register_signal_hook();
    let all = all_dispositions();
    let refused = HandleExit::new(callback);
    assert!(matches!(refused, Err(Error::HandlerExists { signal: Signal::TERM, .. })));
    assert_eq!(all_dispositions(), all);
    let guard = HandleExit::append(callback).unwrap();
    say("ready");
    hear();
    drop(guard);
    assert_eq!(all_dispositions(), all);
    say("dropped");
    hear();
}

fn signal_hook_on_top() {
    install_old(Signal::TERM);
    let guard = HandleExit::append(callback).unwrap();
    register_signal_hook();
    let theirs = disposition(Signal::TERM);
    drop(guard);
    assert_eq!(disposition(Signal::TERM), theirs);
    say("ready");
    hear();
    // It goes on calling the first guard's handler, and another guard comes over it.
    let guard = HandleExit::append(callback).unwrap();
    say("again");
    hear();
    drop(guard);
    assert_eq!(disposition(Signal::TERM), theirs);
}

fn signal_hook_on_top_of_a_default() {
    let stopped = Arc::new(AtomicBool::new(false));
    let guard = HandleExit::builder().grace(Duration::MAX).install(callback).unwrap();
    signal_hook::flag::register(Signal::TERM.as_raw(), Arc::clone(&stopped)).unwrap();
    say("ready");
    guard.wait();
    until("signal-hook hears it too", || stopped.swap(false, SeqCst));
    drop(guard);
    say("dropped");
    until("signal-hook hears it alone", || stopped.load(SeqCst));
}

fn ctrlc_before() {
    ctrlc::set_handler(|| say("ctrlc")).unwrap();
    let all = all_dispositions();
    let refused = HandleExit::new(callback);
    assert!(matches!(refused, Err(Error::HandlerExists { signal: Signal::INT, .. })));
    assert_eq!(all_dispositions(), all);
    let guard = HandleExit::append(callback).unwrap();
    say("ready");
    hear();
    drop(guard);
    assert_eq!(all_dispositions(), all);
    say("dropped");
    hear();
}

fn ctrlc_on_top() {
    let guard = HandleExit::builder().grace(Duration::MAX).install(callback).unwrap();
    let ours = all_dispositions();
    // It puts back what it finds.
    assert!(ctrlc::try_set_handler(|| say("never")).is_err());
    assert_eq!(all_dispositions(), ours);
    // It overwrites what it finds: INT is its own from then on.
    ctrlc::set_handler(|| say("ctrlc")).unwrap();
    let theirs = disposition(Signal::INT);
    say("ready");
    hear();
    assert!(!guard.is_exiting());
    raise(Signal::TERM);
    guard.wait();
    drop(guard);
    assert_eq!(disposition(Signal::INT), theirs);
    assert_eq!(disposition(Signal::TERM), (libc::SIG_DFL, 0, 0));
    say("dropped");
    hear();
}

// ---------------------------------------------------------------------------------------- tests

/// For scenarios that judge themselves.
#[track_caller]
fn ends_well(scenario: &str, lines: &[&str]) {
    Victim::start(scenario).end().said(lines).exited(0);
}

fn a_disposition_is_put_back_exactly_by_every_end() {
    ends_well("every_end_restores", &[]);
}

fn a_disposition_is_put_back_exactly_after_a_signal() {
    ends_well("a_signal_and_then_drop_restores", &[]);
}

fn only_guarded_signals_are_touched_with_the_flags_and_mask_of_the_contract() {
    ends_well("only_the_guarded_are_touched", &[]);
}

fn an_ignored_signal_is_kept_ignored_unless_it_is_to_be_guarded() {
    ends_well("ignored_is_kept_or_guarded", &["callback", "callback"]);
}

fn a_refusal_changes_nothing_wherever_the_handler_stands() {
    ends_well("refused_at_each_place", &[]);
}

fn every_constructor_but_append_refuses() {
    ends_well("refused_by_each_constructor", &["callback"]);
}

fn the_holder_is_named() {
    ends_well("names_the_holder", &[]);
}

fn what_cannot_be_guarded_is_refused() {
    ends_well("unguardable_signals", &[]);
}

fn an_empty_set_is_refused() {
    ends_well("no_signals", &[]);
}

fn a_duplicate_counts_once() {
    ends_well("a_signal_named_twice", &["callback", "old"]);
}

fn nesting_is_refused_from_any_thread() {
    ends_well("nested", &["callback", "callback"]);
}

fn one_of_two_racing_threads_wins() {
    ends_well("two_threads_race", &[]);
}

fn two_hundred_guards_leave_nothing() {
    ends_well("two_hundred_guards", &[]);
}

fn a_full_descriptor_table_does_not_matter() {
    let mut victim = Victim::start("descriptor_table_full");
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.end().said(&["callback", "ready", "callback"]).died_by(Signal::TERM);
}

fn without_threads_the_error_names_the_step() {
    let end = Victim::start("no_thread_to_be_had").end();
    if let Some(skipped) = end.lines.first().filter(|line| line.starts_with("skipped")) {
        return eprintln!("{skipped}");
    }
    end.said(&["callback"]).exited(0);
}

fn a_foreign_handler_on_top_of_a_default_stays() {
    let mut victim = Victim::ready("on_top_of_a_default");
    victim.send(Signal::TERM);
    victim.expect("foreign 0");
    victim.tell("go");
    victim.end().said(&["callback", "ready", "foreign 0", "callback"]).exited(0);
}

fn a_foreign_handler_on_top_stays_and_the_old_one_is_reached_through_ours() {
    let mut victim = Victim::ready("on_top_of_an_old_handler");
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.tell("drop");
    victim.expect("dropped");
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.tell("end");
    let end = victim.end();
    end.exited(0);
    let (guarded, after) = end.lines.split_at(5);
    // The foreign handler says its line in the main thread, before it wakes the watcher.
    assert_eq!(guarded, ["ready", "foreign 0", "callback", "old", "dropped"]);
    assert_eq!(after, ["foreign 0", "old"]);
}

fn burying_again_and_again_never_recurses() {
    let mut lines = Vec::new();
    let chain = |n: usize| (0..=n).rev().map(|n| format!("foreign {n}")).chain(["old".into()]);
    for n in 0..8 {
        lines.push(format!("callback {n}"));
        lines.extend(chain(n));
    }
    lines.extend(chain(7));
    let end = Victim::start("buried_again_and_again").end();
    end.exited(0);
    assert_eq!(end.lines, lines, "{end:#?}");
}

fn a_guard_over_buried_guards_runs_each_handler_once() {
    let mut victim = Victim::ready("guarded_over_buried_guards");
    victim.send(Signal::TERM);
    victim.expect("old");
    victim.tell("drop");
    let chain = (0..7).rev().map(|n| format!("foreign {n}")).chain(["old".to_owned()]);
    let mut lines = vec!["ready".to_owned(), "callback".to_owned()];
    lines.extend(chain.clone());
    lines.push("dropped".to_owned());
    lines.extend(chain);
    let end = victim.end();
    end.exited(0);
    assert_eq!(end.lines, lines, "{end:#?}");
}

fn a_handler_that_cannot_lead_to_ours_takes_no_level() {
    let ran: Vec<String> = (0..FOREIGN).map(|n| format!("foreign {n}")).collect();
    let end = Victim::start("many_handlers_one_after_the_other").end();
    end.exited(0);
    assert_eq!(end.lines, ran, "{end:#?}");
}

fn a_handler_that_comes_in_while_a_guard_is_made_has_it_refused() {
    ends_well("intruded_upon_while_it_is_made", &["foreign 0"]);
}

fn a_handler_that_comes_in_while_a_guard_is_rearmed_leaves_it_the_parents() {
    ends_well("intruded_upon_while_it_is_rearmed", &["callback"]);
}

fn a_handler_that_comes_in_while_a_guard_is_dropped_stays() {
    let lines = [
        "callback",
        "foreign 0",
        "old",
        "callback",
        "foreign 1",
        "foreign 0",
        "old",
        "callback",
        "foreign 1",
        "foreign 0",
        "old",
    ];
    ends_well("intruded_upon_while_it_is_dropped", &lines);
}

fn a_disposition_that_the_kernel_refuses_is_an_error_with_everything_as_it_was() {
    ends_well("making_a_guard_fails", &[]);
}

fn a_disposition_that_cannot_be_put_back_passes_through() {
    for what in [QUERY, INSTALLATION] {
        let end =
            Victim::spawn("putting_back_fails", victim_told("putting_back_fails", what)).end();
        end.said(&["callback", "behind"]).died_by(Signal::TERM);
    }
}

fn a_signal_that_is_pending_waits_until_the_guard_is_made() {
    let end = Victim::start("pending_while_a_guard_is_made").end();
    end.said(&["installing", "callback"]).died_by(Signal::TERM);
}

fn a_process_may_exit_while_a_guard_is_made() {
    Victim::start("exits_while_it_makes_a_guard").end().said(&[]).exited(3);
    let end = Victim::start("exits_while_another_thread_makes_a_guard").end();
    end.said(&["callback"]).exited(3);
}

fn a_foreign_handler_that_goes_away_leaves_a_pass_through() {
    let rounds = (0..FOREIGN).flat_map(|n| {
        let passed_through: &[&str] = if n % 2 == 0 { &["old"] } else { &[] };
        [format!("round {n}")]
            .into_iter()
            .chain(passed_through.iter().copied().chain(["callback", "old"]).map(String::from))
    });
    let end = Victim::start("on_top_and_away_again").end();
    end.exited(0);
    assert_eq!(end.lines, rounds.collect::<Vec<_>>(), "{end:#?}");
}

fn a_foreign_handler_that_goes_away_leaves_the_default() {
    let mut victim = Victim::start("away_again_over_a_default");
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.end().said(&["callback", "ready"]).died_by(Signal::TERM);
}

fn a_chain_to_a_buried_guard_ends_at_a_default() {
    let end = Victim::start("a_default_over_a_chain_to_a_buried_guard").end();
    end.exited(0).said(&["callback", "callback", "foreign 0", "goes on"]);
}

fn signal_hook_registered_before_is_refused_or_appended_and_goes_on() {
    let mut victim = Victim::ready("signal_hook_before");
    victim.send(Signal::TERM);
    victim.expect("signal-hook");
    victim.tell("drop");
    victim.expect("dropped");
    victim.send(Signal::TERM);
    victim.expect("signal-hook");
    victim.tell("end");
    let lines = ["ready", "callback", "signal-hook", "dropped", "signal-hook"];
    victim.end().said(&lines).exited(0);
}

fn signal_hook_on_top_calls_ours_for_ever() {
    let mut victim = Victim::ready("signal_hook_on_top");
    victim.send(Signal::TERM);
    victim.expect("signal-hook");
    victim.tell("guard");
    victim.expect("again");
    victim.send(Signal::TERM);
    victim.expect("signal-hook");
    victim.tell("end");
    let lines =
        ["callback", "ready", "old", "signal-hook", "again", "callback", "old", "signal-hook"];
    victim.end().said(&lines).exited(0);
}

fn signal_hook_on_top_and_the_guard_both_hear_a_signal() {
    let mut victim = Victim::ready("signal_hook_on_top_of_a_default");
    victim.send(Signal::TERM);
    victim.expect("dropped");
    victim.send(Signal::TERM);
    victim.end().said(&["ready", "callback", "dropped"]).exited(0);
}

fn ctrlc_registered_before_is_refused_or_appended_and_goes_on() {
    let mut victim = Victim::ready("ctrlc_before");
    victim.send(Signal::INT);
    victim.expect("ctrlc");
    victim.tell("drop");
    victim.expect("dropped");
    victim.send(Signal::INT);
    victim.expect("ctrlc");
    victim.tell("end");
    victim.end().said(&["ready", "callback", "ctrlc", "dropped", "ctrlc"]).exited(0);
}

fn ctrlc_on_top_keeps_its_signal() {
    let mut victim = Victim::ready("ctrlc_on_top");
    victim.send(Signal::INT);
    victim.expect("ctrlc");
    victim.tell("drop");
    victim.expect("dropped");
    victim.send(Signal::INT);
    victim.expect("ctrlc");
    victim.tell("end");
    victim.end().said(&["ready", "ctrlc", "callback", "dropped", "ctrlc"]).exited(0);
}

fn main() {
    support::main(
        all![
            every_end_restores,
            a_signal_and_then_drop_restores,
            only_the_guarded_are_touched,
            ignored_is_kept_or_guarded,
            refused_at_each_place,
            refused_by_each_constructor,
            names_the_holder,
            unguardable_signals,
            no_signals,
            a_signal_named_twice,
            nested,
            two_threads_race,
            two_hundred_guards,
            descriptor_table_full,
            no_thread_to_be_had,
            on_top_of_a_default,
            on_top_of_an_old_handler,
            buried_again_and_again,
            guarded_over_buried_guards,
            many_handlers_one_after_the_other,
            intruded_upon_while_it_is_made,
            intruded_upon_while_it_is_dropped,
            intruded_upon_while_it_is_rearmed,
            making_a_guard_fails,
            putting_back_fails,
            pending_while_a_guard_is_made,
            exits_while_it_makes_a_guard,
            exits_while_another_thread_makes_a_guard,
            on_top_and_away_again,
            away_again_over_a_default,
            a_default_over_a_chain_to_a_buried_guard,
            signal_hook_before,
            signal_hook_on_top,
            signal_hook_on_top_of_a_default,
            ctrlc_before,
            ctrlc_on_top,
        ],
        all![
            a_disposition_is_put_back_exactly_by_every_end,
            a_disposition_is_put_back_exactly_after_a_signal,
            only_guarded_signals_are_touched_with_the_flags_and_mask_of_the_contract,
            an_ignored_signal_is_kept_ignored_unless_it_is_to_be_guarded,
            a_refusal_changes_nothing_wherever_the_handler_stands,
            every_constructor_but_append_refuses,
            the_holder_is_named,
            what_cannot_be_guarded_is_refused,
            an_empty_set_is_refused,
            a_duplicate_counts_once,
            nesting_is_refused_from_any_thread,
            one_of_two_racing_threads_wins,
            two_hundred_guards_leave_nothing,
            a_full_descriptor_table_does_not_matter,
            without_threads_the_error_names_the_step,
            a_foreign_handler_on_top_of_a_default_stays,
            a_foreign_handler_on_top_stays_and_the_old_one_is_reached_through_ours,
            burying_again_and_again_never_recurses,
            a_guard_over_buried_guards_runs_each_handler_once,
            a_handler_that_cannot_lead_to_ours_takes_no_level,
            a_handler_that_comes_in_while_a_guard_is_made_has_it_refused,
            a_handler_that_comes_in_while_a_guard_is_rearmed_leaves_it_the_parents,
            a_handler_that_comes_in_while_a_guard_is_dropped_stays,
            a_disposition_that_the_kernel_refuses_is_an_error_with_everything_as_it_was,
            a_disposition_that_cannot_be_put_back_passes_through,
            a_signal_that_is_pending_waits_until_the_guard_is_made,
            a_process_may_exit_while_a_guard_is_made,
            a_foreign_handler_that_goes_away_leaves_a_pass_through,
            a_foreign_handler_that_goes_away_leaves_the_default,
            a_chain_to_a_buried_guard_ends_at_a_default,
            signal_hook_registered_before_is_refused_or_appended_and_goes_on,
            signal_hook_on_top_calls_ours_for_ever,
            signal_hook_on_top_and_the_guard_both_hear_a_signal,
            ctrlc_registered_before_is_refused_or_appended_and_goes_on,
            ctrlc_on_top_keeps_its_signal,
        ],
    );
}
