//! Has the guard's handler called on every way through it that is to be real-time safe: the first
//! signal, a repeat while the mailbox is full, another signal, one on a thread that is not main.
//!
//! With `--planted` it allocates where it must not, which the sanitizer is to report.

#![feature(sanitize)]

use handle_exit::{HandleExit, Signal};
use nix::sys::signal::{self, raise};

#[sanitize(realtime = "nonblocking")]
fn planted() {
    drop(std::hint::black_box(Box::new(1)));
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--planted") {
        planted();
        return;
    }
    let (go_on, waits) = std::sync::mpsc::channel();
    let guard = HandleExit::builder()
        .signals([Signal::TERM, Signal::USR1])
        .install(move || waits.recv().unwrap())
        .unwrap();
    let signals = || {
        for _ in 0..1000 {
            raise(signal::SIGTERM).unwrap();
            raise(signal::SIGUSR1).unwrap();
        }
    };
    signals();
    std::thread::spawn(signals).join().unwrap();
    go_on.send(()).unwrap();
    let outcome = guard.finish();
    assert_eq!(outcome.signal(), Some(Signal::TERM));
    println!("handled");
}
