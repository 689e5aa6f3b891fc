//! One exit a process, any number of guards: what each guard brings, and who decides.
//!
//! | file | what it has |
//! |---|---|
//! | `callbacks` | whose callback runs, in which order, however the process ends |
//! | `hosts` | one host, any number of guests: who may be made beside whom, and whose word counts |
//! | `late` | guards that are made when an exit has begun |
//! | `on_top` | guests of a foreign handler that came on top of the guard's own |
//! | `deciders` | who decides what follows a signal, among guests |
//! | `parts` | a guard as a part: what it does not touch, what it costs, in which order guards end |
//! | `inside` | guards that are made and dropped in the callback of another |
//! | `forks` | two guards in a forked child |

pub(crate) mod callbacks;
pub(crate) mod deciders;
pub(crate) mod forks;
pub(crate) mod hosts;
pub(crate) mod inside;
pub(crate) mod late;
pub(crate) mod on_top;
pub(crate) mod parts;

use crate::support::*;
use handle_exit::{AfterScope, Builder, Cause, HandleExit, Signal};

/// Settings of a host.
fn host() -> Builder {
    HandleExit::builder()
}

/// Settings of a guest.
fn beside() -> Builder {
    HandleExit::builder().append(true)
}

/// Settings of a guest after whose scope the program continues.
fn continues() -> Builder {
    beside().after_scope(AfterScope::Continue)
}

/// What began an exit, without the sender.
pub(crate) fn short(cause: &Cause) -> String {
    match cause {
        Cause::Signal(received) => received.signal().to_string(),
        other => other.to_string(),
    }
}

/// A guard whose callback says where it runs and what began its exit, and with a deferred function.
fn guard(name: &'static str, builder: Builder) -> HandleExit {
    let callback =
        move |cause: &Cause| say(format!("{name} on {}: {}", thread_name(), short(cause)));
    let guard = builder.install_with(callback).unwrap();
    guard.defer(move || say(format!("{name}'s deferred"))).unwrap();
    guard
}

/// What the callback of such a guard says on the watcher.
fn on_watcher(name: &str, signal: Signal) -> String {
    format!("{name} on handle-exit: {signal}")
}

/// What such a guard says when it ends on the main thread, without a signal.
fn ends_on_main(name: &str) -> [String; 2] {
    [format!("{name} on main: the scope ended"), deferred(name)]
}

fn deferred(name: &str) -> String {
    format!("{name}'s deferred")
}

/// Lines of several makers, one after the other.
fn lines(parts: &[&[String]]) -> Vec<String> {
    parts.concat()
}

/// A line as `lines` takes it.
fn line(line: &str) -> [String; 1] {
    [line.to_owned()]
}

/// Exactly these lines.
#[track_caller]
fn said<'a>(end: &'a End, parts: &[&[String]]) -> &'a End {
    let expected = lines(parts);
    assert_eq!(end.lines, expected, "{end:#?}");
    end
}

/// Each of these lines once, in this order, and others in between.
#[track_caller]
fn said_among(end: &End, wanted: &[String]) {
    let among: Vec<_> = end.lines.iter().filter(|line| wanted.contains(line)).cloned().collect();
    assert_eq!(among, wanted, "{end:#?}");
}
