//! Shown in the guide: tests of code that makes a guard, which run side by side.

use handle_exit::{Cause, Error, Exit, HandleExit};
use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, spawn};

/// The code under test.
fn serve(started: Sender<Exit>) -> Result<Cause, Error> {
    let guard = HandleExit::append(|| {})?; // with `new`, the second test would get `Error::Nested`
    started.send(guard.handle()).unwrap();
    Ok(guard.wait())
}

fn start() -> (Exit, JoinHandle<Result<Cause, Error>>) {
    let (started, exit) = channel();
    let server = spawn(|| serve(started));
    (exit.recv().unwrap(), server)
}

#[test]
fn serves_until_it_is_told_to_stop() {
    let (exit, server) = start();
    assert!(!exit.is_exiting());
    exit.request();
    assert_eq!(server.join().unwrap().unwrap(), Cause::Requested);
}

#[test]
fn leaves_another_server_alone() {
    let ((one, first), (other, second)) = (start(), start());
    one.request();
    first.join().unwrap().unwrap();
    assert!(!other.is_exiting());
    other.request();
    second.join().unwrap().unwrap();
}
