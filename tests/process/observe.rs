//! What an observer hears, in order and in plain words; the same through `tracing`; and silence
//! where nobody listens.

use std::time::Duration;

use crate::support::*;
use handle_exit::{AfterScope, Builder, Ending, Event, HandleExit, Repeat, Signal};

/// An observer that says each event, with every duration as `T`.
fn tells(builder: Builder) -> Builder {
    builder.observe(|event| {
        let text = event.to_string();
        say(match event {
            Event::CallbackFinished { elapsed, .. } | Event::CallbackPanicked { elapsed, .. } => {
                text.replace(&format!("{elapsed:?}"), "T")
            }
            _ => text,
        });
    })
}

/// What is told of a signal that a process of this user sent.
fn sent_by(signal: Signal, sender: i32) -> String {
    with_sender(&format!("{signal} from SELF"), sender)
}

/// With the sender in the place of `SELF`.
#[cfg(unix)]
fn with_sender(line: &str, sender: i32) -> String {
    line.replace("SELF", &format!("process {sender} of user {}", nix::unistd::getuid()))
}

/// An event has no sender.
#[cfg(windows)]
fn with_sender(line: &str, _sender: i32) -> String {
    line.replace("SIGINT from SELF", "SIGINT (CTRL_C)")
        .replace("SIGTERM from SELF", "SIGTERM (CTRL_BREAK)")
}

/// With the sender in the place of `SELF`, and the timeout in that of `LIMIT`.
fn filled_in(line: &str, sender: i32) -> String {
    with_sender(line, sender).replace("LIMIT", &format!("{SOON_OVER:?}"))
}

// ------------------------------------------------------------------------------- each way out

type Way = fn(Builder);

/// Each way out, and what an observer hears of it. `SELF` stands for this process and user, `LIMIT` for the timeout.
const WAYS: &[(&str, Way, &[&str])] = &[
    (
        "scope end",
        |builder| drop(builder.install(|| {}).unwrap()),
        &["callback started: the scope ended", "callback finished after T"],
    ),
    (
        "panic",
        |builder| {
            let _guard = builder.install(|| {}).unwrap();
            panic!("on purpose");
        },
        &["callback started: a panic", "callback finished after T"],
    ),
    (
        "callback panics",
        |builder| drop(builder.install(|| panic!("on purpose")).unwrap()),
        &["callback started: the scope ended", "callback panicked after T"],
    ),
    (
        "process exit",
        |builder| {
            let _guard = builder.install(|| {}).unwrap();
            exit(0);
        },
        &["callback started: the process exits", "callback finished after T"],
    ),
    (
        "request",
        |builder| {
            let guard = builder.install(|| {}).unwrap();
            guard.request();
        },
        &["callback started: requested by the program", "callback finished after T"],
    ),
    ("disarm", |builder| assert!(builder.install(|| {}).unwrap().disarm()), &[]),
    (
        "signal, scope ends in time",
        |builder| {
            let guard = builder.install(|| {}).unwrap();
            raise(Signal::TERM);
            guard.wait();
        },
        &[
            "received SIGTERM from SELF",
            "callback started: SIGTERM from SELF",
            "callback finished after T",
        ],
    ),
    (
        "signal, and the end behind the scope",
        |builder| {
            let builder = builder.after_scope(AfterScope::End).ending(Ending::Code(0));
            let guard = builder.install(|| {}).unwrap();
            raise(Signal::INT);
            guard.wait();
        },
        &[
            "received SIGINT from SELF",
            "callback started: SIGINT from SELF",
            "callback finished after T",
            "process ends with exit code 0",
        ],
    ),
    (
        "signal, no grace",
        |builder| {
            let _guard = builder.grace(Duration::ZERO).install(|| {}).unwrap();
            raise(Signal::TERM);
            park();
        },
        &[
            "received SIGTERM from SELF",
            "callback started: SIGTERM from SELF",
            "callback finished after T",
            "process ends by SIGTERM",
        ],
    ),
    (
        "signal, grace over",
        |builder| {
            let _guard = builder.grace(Duration::from_millis(20)).install(|| {}).unwrap();
            raise(Signal::TERM);
            park();
        },
        &[
            "received SIGTERM from SELF",
            "callback started: SIGTERM from SELF",
            "callback finished after T",
            "the scope has not ended within 20ms",
            "process ends by SIGTERM",
        ],
    ),
    (
        "signal, callback panics",
        |builder| {
            let _guard = builder.install(|| panic!("on purpose")).unwrap();
            raise(Signal::TERM);
            park();
        },
        &[
            "received SIGTERM from SELF",
            "callback started: SIGTERM from SELF",
            "callback panicked after T",
            "process ends with exit code 101",
        ],
    ),
    (
        "signal, callback hangs",
        |builder| {
            let builder = builder.callback_timeout(SOON_OVER);
            let _guard = builder.install(|| park()).unwrap();
            raise(Signal::TERM);
            park();
        },
        &[
            "received SIGTERM from SELF",
            "callback started: SIGTERM from SELF",
            "callback has not finished within LIMIT",
            "process ends with exit code 101",
        ],
    ),
    #[cfg(unix)]
    (
        "signal with a handler of its own",
        |builder| {
            extern "C" fn old_handler(_: nix::libc::c_int) {
                say_in_handler("old handler\n");
            }
            install(Signal::TERM, old_handler);
            let guard = builder.append(true).install(|| {}).unwrap();
            raise(Signal::TERM);
            guard.wait();
        },
        &[
            "received SIGTERM from SELF",
            "callback started: SIGTERM from SELF",
            "callback finished after T",
            "old handler",
            "old handler of SIGTERM has run",
        ],
    ),
    #[cfg(unix)]
    (
        "abort",
        |builder| {
            let _guard = builder.signals([Signal::ABRT]).install(|| {}).unwrap();
            std::process::abort();
        },
        &[
            "received SIGABRT from SELF",
            "callback started: SIGABRT from SELF",
            "callback finished after T",
            "process ends by SIGABRT",
        ],
    ),
    (
        "two signals",
        |builder| {
            let builder = builder.grace(Duration::ZERO);
            let guard = builder.install(|| raise(Signal::INT)).unwrap();
            raise(Signal::TERM);
            guard.keep();
            park();
        },
        &[
            "received SIGTERM from SELF",
            "callback started: SIGTERM from SELF",
            "callback finished after T",
            "received SIGINT from SELF",
            "process ends by SIGTERM",
        ],
    ),
];

fn way_out() {
    WAYS[told::<usize>()].1(tells(HandleExit::builder()));
}

fn every_way_out_is_told_in_order_and_in_plain_words() {
    for (index, (name, _, expected)) in WAYS.iter().enumerate() {
        let victim = Victim::start(way_out.told(index).named(name));
        let itself = victim.pid();
        let end = victim.end();
        let expected: Vec<_> = expected.iter().map(|line| filled_in(line, itself)).collect();
        assert_eq!(end.lines, expected, "{name}: {end:#?}");
    }
}

// ---------------------------------------------------------------------------------- from outside

fn repeats() {
    let _guard = tells(HandleExit::builder())
        .grace(Duration::MAX)
        .repeat(Repeat::Finish)
        .install(|| {})
        .unwrap();
    ready_for_ever();
}

fn a_signal_from_outside_names_its_sender_and_its_repeats_what_they_do() {
    let mut victim = Victim::ready(repeats);
    let sender = sent_by(Signal::TERM, std::process::id() as i32);
    victim.send(Signal::TERM);
    victim.expect("callback finished after T");
    // A second wish to end: the 500 ms are the thing under test.
    std::thread::sleep(Duration::from_millis(700));
    victim.send(Signal::TERM);
    let received = format!("received {sender}");
    let started = format!("callback started: {sender}");
    victim
        .end()
        .said(&[
            "ready",
            &received,
            &started,
            "callback finished after T",
            &received,
            "SIGTERM again: no more waiting",
            "process ends by SIGTERM",
        ])
        .died_by(Signal::TERM);
    assert_eq!(Event::RepeatAbsorbed(Signal::INT).to_string(), "SIGINT again: ignored");
}

// -------------------------------------------------------------------------- observers that fail

fn panicking_observer() {
    let guard = HandleExit::builder()
        .observe(|event| panic!("observer of `{event}`"))
        .grace(Duration::from_millis(20))
        .install(|| say("callback"))
        .unwrap();
    guard.defer(|| say("deferred")).unwrap();
    end_as_told(guard);
    say("behind");
}

fn an_observer_that_panics_changes_nothing() {
    let end = Victim::start(panicking_observer.told("drop")).end();
    end.said(&["callback", "deferred", "behind"]).exited(0);
    assert!(end.stderr.contains("observer of `callback started"), "{end:#?}");
    let end = Victim::start(panicking_observer.told("signal")).end();
    end.said(&["callback", "deferred"]).died_by(Signal::TERM);
    assert!(end.stderr.contains("observer of `process ends by SIGTERM`"), "{end:#?}");
}

// ---------------------------------------------------------------------------------------- silence

fn nobody_listens() {
    let _guard = HandleExit::builder().grace(Duration::from_millis(20)).install(|| {}).unwrap();
    ready_for_ever();
}

fn without_an_observer_nothing_is_printed() {
    let victim = Victim::ready(nobody_listens);
    victim.send(Signal::TERM);
    let end = victim.end();
    end.said(&["ready"]).died_by(Signal::TERM);
    assert_eq!(end.stderr, "", "{end:#?}");
}

pub(crate) const TESTS: &[Named] = tests![
    every_way_out_is_told_in_order_and_in_plain_words,
    a_signal_from_outside_names_its_sender_and_its_repeats_what_they_do,
    an_observer_that_panics_changes_nothing,
    without_an_observer_nothing_is_printed,
];

// ---------------------------------------------------------------------------------------- tracing

#[cfg(all(unix, feature = "tracing"))]
pub(crate) mod traced {
    use super::*;

    fn way_out_traced() {
        tracing_subscriber::fmt().with_ansi(false).without_time().init();
        WAYS[told::<usize>()].1(HandleExit::builder());
    }

    /// The same ways out; each event as `LEVEL handle_exit: text fields`.
    fn tracing_gets_the_same_events_with_fields() {
        for (index, (name, _, expected)) in WAYS.iter().enumerate() {
            let victim = Victim::start(way_out_traced.told(index).named(name));
            let (pid, uid) = (victim.pid(), nix::unistd::getuid());
            let end = victim.end();
            assert_eq!(end.lines.len(), expected.len(), "{name}: {end:#?}");
            for (line, expected) in end.lines.iter().zip(*expected) {
                let text = filled_in(expected, pid);
                if text == "old handler" {
                    assert_eq!(*line, text);
                    continue;
                }
                let (text, _) = text.split_once(" after T").unwrap_or((&text, ""));
                let (level, said) = line.trim().split_once(' ').unwrap();
                let said = said.trim().strip_prefix("handle_exit: ").unwrap();
                assert!(said.starts_with(text), "{name}: `{text}` in {line}");
                let warns = ["panicked", "not finished", "not ended"]
                    .iter()
                    .any(|word| text.contains(word));
                assert_eq!(level, if warns { "WARN" } else { "INFO" }, "{line}");
                for field in fields_of(text, pid, uid.as_raw()) {
                    assert!(said.contains(&field), "{name}: no `{field}` in {line}");
                }
            }
        }
    }

    /// The fields that belong to an event, from its text.
    fn fields_of(text: &str, pid: i32, uid: u32) -> Vec<String> {
        let signal = text.split(' ').find(|word| word.starts_with("SIG"));
        let signal = signal.map(|signal| format!("signal={signal}"));
        match text.split(' ').next().unwrap() {
            "received" => {
                vec![signal.unwrap(), format!("sender_pid={pid}"), format!("sender_uid={uid}")]
            }
            "old" => vec![signal.unwrap()],
            "process" if signal.is_some() => vec![signal.unwrap()],
            "process" => vec![format!("code={}", text.rsplit(' ').next().unwrap())],
            "callback" if text.contains("started") => {
                vec![format!("cause={}", text.strip_prefix("callback started: ").unwrap())]
            }
            "callback" | "the" => vec!["elapsed=".to_owned()],
            other => panic!("{other}"),
        }
    }

    pub(crate) const TESTS: &[Named] = tests![tracing_gets_the_same_events_with_fields];
}
