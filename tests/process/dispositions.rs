//! Every disposition is put back exactly, and a refusal changes none.

#![allow(unsafe_code, reason = "reads a constant of the C library")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier};
use std::thread;

use handle_exit::{AfterScope, Builder, Error, Exit, HandleExit, Ignored, Signal};
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::resource::Resource;

use std::time::Duration;

use crate::support::*;

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
        assert!(matches!(builder.append(false).install(|| {}), Err(Error::Nested)));
    }),
];

fn panics(function: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(function)).is_err());
}

extern "C" fn quiet(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

fn callback() {
    say("callback");
}

fn a_disposition_is_put_back_exactly_by_every_end() {
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

fn a_disposition_is_put_back_exactly_after_a_signal() {
    for (before, handler, flags, mask) in ignored_or_default().into_iter().chain(handlers()) {
        if flags & libc::SA_RESETHAND != 0 {
            // The delivery to it changes the disposition, as it should.
            continue;
        }
        install_exactly(Signal::TERM, handler, flags, mask);
        let all = all_dispositions();
        let builder = HandleExit::builder().append(true).after_scope(AfterScope::Continue);
        let guard = builder.ignored(Ignored::Guard).install(|| {}).unwrap();
        raise(Signal::TERM);
        guard.wait();
        drop(guard);
        assert_eq!(all_dispositions(), all, "{before}");
    }
}

fn only_guarded_signals_are_touched_with_the_flags_and_mask_of_the_contract() {
    let before = all_dispositions();
    let guarded = [Signal::TERM, Signal::INT];
    let guard = HandleExit::new(|| {}).unwrap();
    for ((signal, before), (_, now)) in before.iter().zip(all_dispositions()) {
        if guarded.contains(signal) {
            assert_ne!(now.0, before.0);
            assert_eq!((now.1, now.2), (HANDLER_FLAGS, handler_mask()), "{signal}");
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

/// HUP is ignored. One guard takes it all the same, another one leaves it alone, and they end in the order in which they
/// are made, or the other way round.
fn ignored_beside_one_that_guards_it(keeps_first: bool, is_signalled: bool) {
    install_exactly(Signal::HUP, libc::SIG_IGN, libc::SA_RESTART, &[Signal::USR1]);
    let ignored = disposition(Signal::HUP);
    let make = |how: Ignored| {
        let builder = HandleExit::builder().append(true).after_scope(AfterScope::Continue);
        let builder = builder.grace(Duration::MAX).also([Signal::HUP]).ignored(how);
        builder.install(callback).unwrap()
    };
    let (guards, keeps) = if keeps_first {
        let keeps = make(Ignored::Keep);
        (make(Ignored::Guard), keeps)
    } else {
        let guards = make(Ignored::Guard);
        (guards, make(Ignored::Keep))
    };
    assert_ne!(disposition(Signal::HUP), ignored);
    if is_signalled {
        raise(Signal::HUP);
        guards.wait();
    }
    drop(guards);
    assert!(!keeps.is_exiting(), "it takes what it was to leave alone");
    assert_eq!(disposition(Signal::HUP), ignored);
    raise(Signal::HUP);
    assert!(!keeps.is_exiting());
    drop(keeps);
    assert_eq!(disposition(Signal::HUP), ignored);
}

fn ignored_again_when_the_guard_that_takes_it_is_gone() {
    for keeps_first in [false, true] {
        ignored_beside_one_that_guards_it(keeps_first, false);
    }
}

fn ignored_again_after_a_signal_to_the_guard_that_takes_it() {
    for keeps_first in [false, true] {
        ignored_beside_one_that_guards_it(keeps_first, true);
    }
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

fn a_refusal_changes_nothing_wherever_the_handler_stands() {
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
    assert!(Exit::current().is_none());
    drop(HandleExit::append(callback).unwrap());
}

fn the_holder_is_named() {
    if cfg!(target_feature = "crt-static") {
        return say("skipped: in a static program nobody knows the name of anything");
    }
    // A library's exported function.
    let address = libc::abort as *const () as usize;
    install_exactly(Signal::INT, address, 0, &[]);
    let error = HandleExit::new(|| {}).unwrap_err();
    let message = error.to_string();
    let Error::HandlerExists { signal, holder, .. } = error else { panic!("{message}") };
    assert_eq!((signal, holder.address(), holder.symbol()), (Signal::INT, address, Some("abort")));
    let object = holder.object().unwrap().to_str().unwrap();
    assert!(["libc", "musl"].iter().any(|name| object.contains(name)), "{object}");
    for part in ["SIGINT", "abort", object, &format!("{address:#x}"), "append"] {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
    // What only lies behind an exported function has another name, or none.
    install_exactly(Signal::INT, address + 1, 0, &[]);
    let error = HandleExit::new(|| {}).unwrap_err();
    let Error::HandlerExists { holder, .. } = error else { panic!("{error}") };
    assert_eq!((holder.address(), holder.symbol()), (address + 1, None));
    // A function of the program itself, which is not exported.
    install(Signal::INT, says_old);
    let error = HandleExit::new(|| {}).unwrap_err();
    let message = error.to_string();
    let Error::HandlerExists { holder, .. } = error else { panic!("{message}") };
    assert_eq!((holder.address(), holder.symbol()), (says_old as *const () as usize, None));
    let object = std::fs::canonicalize(holder.object().unwrap()).unwrap();
    assert_eq!(object, std::fs::canonicalize("/proc/self/exe").unwrap());
    assert!(message.contains("a function in ") && message.contains(" (+0x"), "{message}");
}

fn what_cannot_be_guarded_is_refused() {
    let all = all_dispositions();
    let reserved = reserved_signals().filter_map(Signal::from_raw);
    for refused in UNGUARDABLE.into_iter().chain(reserved) {
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
    for allowed in EIGHT
        .into_iter()
        .chain([libc::SIGRTMIN(), libc::SIGRTMAX()].map(|raw| Signal::from_raw(raw).unwrap()))
    {
        assert!(HandleExit::builder().signals([allowed]).install(|| {}).unwrap().disarm());
    }
    assert_eq!(all_dispositions(), all);
}

fn an_empty_set_is_refused() {
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
        let other = HandleExit::builder().signals([Signal::USR1]).install(|| say("never"));
        assert!(matches!(other, Err(Error::Nested)));
        assert_eq!(all_dispositions(), all);
    };
    refused();
    thread::scope(|scope| scope.spawn(refused).join().unwrap());
    drop(guard);
    drop(HandleExit::new(callback).unwrap());
}

fn one_of_two_racing_threads_wins() {
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

fn descriptor_table_full() {
    set_limit(Resource::RLIMIT_NOFILE, 3);
    assert!(std::fs::File::open("/").is_err(), "the table is full");
    let all = all_dispositions();
    drop(HandleExit::new(callback).unwrap());
    assert_eq!(all_dispositions(), all);
    let guard = HandleExit::cleanup(callback).unwrap();
    assert_eq!(guard.readable_fd().unwrap_err().raw_os_error(), Some(libc::EMFILE));
    ready_for_ever();
}

/// Lets one thread more at a time until a guard with its two threads can be made.
fn no_thread_to_be_had() {
    let is_alone = nix::unistd::geteuid().is_root();
    if !is_bound_by_limits() {
        return;
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
        assert!(Exit::current().is_none());
        until("no thread is left behind", || threads() == tasks);
        None
    });
    assert!(steps.iter().all(|step| *step == "spawning the watcher thread"), "{steps:?}");
    // As root it has become a user whom nobody else is: too few for either of the two threads at least.
    assert!(steps.len() >= if is_alone { 2 } else { 1 }, "{steps:?}");
    drop(guard.unwrap());
    assert_eq!(all_dispositions(), all);
}

// -------------------------------------------------------------------------------------- tests

/// For scenarios that judge themselves.
fn an_ignored_signal_is_kept_ignored_unless_it_is_to_be_guarded() {
    ends_well(ignored_is_kept_or_guarded, &["callback", "callback"]);
}

fn every_constructor_but_append_refuses() {
    ends_well(refused_by_each_constructor, &["callback"]);
}

fn a_duplicate_counts_once() {
    ends_well(a_signal_named_twice, &["callback", "old"]);
}

fn nesting_is_refused_from_any_thread() {
    ends_well(nested, &["callback", "callback"]);
}

fn a_full_descriptor_table_does_not_matter() {
    let mut victim = Victim::start(descriptor_table_full);
    victim.expect("ready");
    victim.send(Signal::TERM);
    victim.end().said(&["callback", "ready", "callback"]).died_by(Signal::TERM);
}

fn without_threads_the_error_names_the_step() {
    let end = Victim::start(no_thread_to_be_had).end();
    if end.is_skipped() {
        return;
    }
    end.said(&["callback"]).exited(0);
}

pub(crate) const TESTS: &[Named] = tests![
    an_ignored_signal_is_kept_ignored_unless_it_is_to_be_guarded,
    every_constructor_but_append_refuses,
    a_duplicate_counts_once,
    nesting_is_refused_from_any_thread,
    a_full_descriptor_table_does_not_matter,
    without_threads_the_error_names_the_step;
    alone:
    a_disposition_is_put_back_exactly_by_every_end,
    a_disposition_is_put_back_exactly_after_a_signal,
    only_guarded_signals_are_touched_with_the_flags_and_mask_of_the_contract,
    a_refusal_changes_nothing_wherever_the_handler_stands,
    the_holder_is_named,
    what_cannot_be_guarded_is_refused,
    an_empty_set_is_refused,
    ignored_again_when_the_guard_that_takes_it_is_gone,
    ignored_again_after_a_signal_to_the_guard_that_takes_it,
    one_of_two_racing_threads_wins,
];
