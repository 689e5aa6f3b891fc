//! What the types of the public interface are: this test passes if it compiles.

#![allow(missing_docs, dead_code, reason = "a test binary, most of which is to compile only")]

use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
#[cfg(unix)]
use std::io;
use std::ops::Deref;
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::process::Termination;
use std::time::Duration;

#[cfg(windows)]
use handle_exit::ConsoleEvent;
#[cfg(unix)]
use handle_exit::Sender;
use handle_exit::{
    AfterScope, Builder, Cause, Deferred, Ending, Error, Event, Exit, ExitBegun, HandleExit,
    Holder, Ignored, OldHandler, Outcome, ParseSignalError, Received, Repeat, Signal,
};

/// Goes to any thread, and may be asked by several, for as long as they like.
const fn shared<T: Send + Sync + Debug + 'static>() {}
const fn compared<T: Clone + Eq>() {}
const fn value<T: Clone + Eq + Hash>() {}
const fn copied<T: Copy + Eq + Hash>() {}
const fn error<T: std::error::Error>() {}

const _: () = {
    shared::<AfterScope>();
    shared::<Builder>();
    shared::<Cause>();
    shared::<Deferred>();
    shared::<Ending>();
    shared::<Error>();
    shared::<Event>();
    shared::<Exit>();
    shared::<ExitBegun>();
    shared::<HandleExit>();
    shared::<Holder>();
    shared::<Ignored>();
    shared::<OldHandler>();
    shared::<Outcome>();
    shared::<ParseSignalError>();
    shared::<Received>();
    shared::<Repeat>();
    #[cfg(unix)]
    shared::<Sender>();
    #[cfg(windows)]
    shared::<ConsoleEvent>();
    shared::<Signal>();

    value::<Cause>();
    value::<Event>();
    compared::<Holder>();
    value::<Outcome>();
    value::<Received>();
    copied::<AfterScope>();
    copied::<Ending>();
    copied::<Ignored>();
    copied::<OldHandler>();
    copied::<Repeat>();
    #[cfg(unix)]
    copied::<Sender>();
    copied::<Signal>();

    error::<Error>();
    error::<ParseSignalError>();
};

/// `fn main() -> Result<Outcome, Error>`.
const _: fn() = || {
    fn a_main_may_return<T: Termination>() {}
    a_main_may_return::<Outcome>();
    a_main_may_return::<Result<Outcome, Error>>();
    fn executor_takes<T: Future<Output = ()> + Send + Unpin + 'static>() {}
    executor_takes::<ExitBegun>();
    fn derefs<T: Deref<Target = Exit>>() {}
    derefs::<HandleExit>();
    fn is_cloned<T: Clone>() {}
    is_cloned::<Exit>();
    fn is_shown<T: Display>() {}
    is_shown::<Cause>();
    is_shown::<Event>();
    is_shown::<Received>();
    is_shown::<Signal>();
    is_shown::<Holder>();
    // A library may guard across `catch_unwind`.
    fn survives_a_panic<T: UnwindSafe + RefUnwindSafe>() {}
    survives_a_panic::<Signal>();
    survives_a_panic::<Outcome>();
    fn from_a_number<T: TryFrom<i32, Error: std::error::Error + Send + Sync>>() {}
    from_a_number::<Signal>();
};

/// Every name and shape, as the documentation promises them.
#[allow(dead_code, clippy::type_complexity, reason = "it is to compile")]
fn names() {
    let _: fn(fn()) -> Result<HandleExit, Error> = HandleExit::new;
    let _: fn(fn()) -> Result<HandleExit, Error> = HandleExit::cleanup;
    let _: fn(fn()) -> Result<HandleExit, Error> = HandleExit::append;
    let _: fn() -> Builder = HandleExit::builder;
    let _: fn(fn(), fn(&Exit) -> u8) -> Result<u8, Error> = HandleExit::run;
    let _: fn(&HandleExit) -> Exit = HandleExit::handle;
    let _: fn(HandleExit) -> Outcome = HandleExit::finish;
    let _: fn(HandleExit) -> bool = HandleExit::disarm;
    let _: fn(HandleExit) = HandleExit::keep;
    #[cfg(unix)]
    let _: fn(&HandleExit) -> Result<(), Error> = HandleExit::rearm;

    let _: fn() -> Option<Exit> = Exit::current;
    let _: fn(&Exit) -> bool = Exit::is_exiting;
    let _: fn(&Exit) -> Option<Cause> = Exit::cause;
    let _: fn(&Exit) -> Cause = Exit::wait;
    let _: fn(&Exit, Duration) -> Option<Cause> = Exit::wait_timeout;
    let _: fn(&Exit) -> ExitBegun = Exit::begun;
    #[cfg(unix)]
    let _: fn(&Exit) -> io::Result<OwnedFd> = Exit::readable_fd;
    let _: fn(&Exit) = Exit::request;
    let _: fn(&Exit, fn()) -> Result<Deferred, Error> = Exit::defer;
    let _: fn(Deferred) -> bool = Deferred::cancel;
    let _: fn(Deferred) -> bool = Deferred::run;

    let _: fn(Builder, [Signal; 1]) -> Builder = Builder::signals;
    let _: fn(Builder, Vec<Signal>) -> Builder = Builder::also;
    let _: fn(Builder, Signal, fn(&Received)) -> Builder = Builder::on;
    let _: fn(Builder, bool) -> Builder = Builder::append;
    let _: fn(Builder, OldHandler) -> Builder = Builder::old_handler;
    let _: fn(Builder, Ignored) -> Builder = Builder::ignored;
    let _: fn(Builder, Duration) -> Builder = Builder::grace;
    let _: fn(Builder, Duration) -> Builder = Builder::callback_timeout;
    let _: fn(Builder, Repeat) -> Builder = Builder::repeat;
    let _: fn(Builder, AfterScope) -> Builder = Builder::after_scope;
    let _: fn(Builder, Ending) -> Builder = Builder::ending;
    let _: fn(Builder, fn(&Event)) -> Builder = Builder::observe;
    let _: fn(Builder, fn()) -> Result<HandleExit, Error> = Builder::install;
    let _: fn(Builder, fn(&Cause)) -> Result<HandleExit, Error> = Builder::install_with;
    let _: fn(Builder, fn(), fn(&Exit) -> u8) -> Result<u8, Error> = Builder::run;
    let _: fn(Builder, fn(&Cause), fn(&Exit) -> u8) -> Result<(u8, Outcome), Error> =
        Builder::run_with;
    #[cfg(unix)]
    let _: fn(Signal, fn()) -> ! = handle_exit::exit_with_signal;
    let _: fn(i32) -> ! = handle_exit::exit;
}

/// Both closures may borrow, and the result may too.
#[allow(dead_code, reason = "it is to compile")]
fn borrows(text: &mut String, list: &[u8]) -> Result<u8, Error> {
    let (result, outcome): (Option<&u8>, Outcome) = HandleExit::builder()
        .run_with(|cause| text.push_str(&cause.to_string()), |_| list.first())?;
    let _: (&Cause, Option<Signal>, bool) =
        (outcome.cause(), outcome.signal(), outcome.callback_panicked());
    HandleExit::run(
        || text.clear(),
        |exit| u8::from(exit.is_exiting()) + result.copied().unwrap_or(0),
    )
}

/// Every variant, by name.
#[allow(dead_code, reason = "it is to compile")]
fn variants(cause: &Cause, error: Error) {
    match cause {
        Cause::ScopeEnd | Cause::Panic | Cause::ProcessExit | Cause::Requested => {}
        Cause::Signal(received) => {
            let _: Signal = received.signal();
            #[cfg(unix)]
            let _: Option<Sender> = received.sender();
            #[cfg(windows)]
            let _: ConsoleEvent = received.console_event();
        }
        _ => {}
    }
    match error {
        Error::Nested | Error::NoSignals | Error::Ended => {}
        Error::HandlerExists { signal, .. } | Error::Unguardable { signal, .. } => {
            drop(signal.to_string());
        }
        Error::Busy { .. } | Error::System { .. } => {}
        _ => {}
    }
    let _ = [Repeat::Finish, Repeat::Force, Repeat::Absorb, Repeat::default()];
}

/// Numbers are signals where the kernel has them.
#[test]
fn a_signal_is_made_of_its_number() {
    assert_eq!(Signal::try_from(15).unwrap(), Signal::TERM);
    assert_eq!(Signal::try_from(Signal::INT.as_raw()).unwrap(), Signal::INT);
    for none in [0, -1, 65, 1000, i32::MIN, i32::MAX] {
        let refused = Signal::try_from(none).unwrap_err();
        assert!(refused.to_string().contains(&none.to_string()), "{refused}");
    }
}
