//! `examples/serve.rs` loses no request: the built example, a real client, real signals.
//!
//! A request is *in flight* when its client has written it. Whether the server has accepted the
//! connection by then is another matter, which the tests vary: a server that is stopped (SIGSTOP)
//! accepts nothing, so all that is written meanwhile waits in the kernel when the signal comes.

#![allow(unsafe_code, reason = "a descriptor of the victim is replaced before it starts")]

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::http::{Clients, connects, get, until_accepted};
use crate::support::*;
use handle_exit::Signal;
use nix::libc;

const CLIENTS: u64 = 64;

// ----------------------------------------------------------------------------------- the server

/// A server on a free port.
fn serve() -> (Victim, u16) {
    let mut server = Victim::start(example("serve", &[&"--port", &0]));
    let port = server.expect_prefix("listening on http://127.0.0.1:").parse().unwrap();
    (server, port)
}

// ---------------------------------------------------------------------------------------- tests

fn requests_that_are_being_answered_are_answered() {
    for signal in [Signal::TERM, Signal::INT] {
        let (server, port) = serve();
        let clients = Clients::in_flight(port, CLIENTS, 1000);
        until_accepted(&server, CLIENTS as usize, &clients);
        server.send(signal);
        clients.are_answered();
        server.end().exited(0).ended_with("served 64 requests");
        assert!(!connects(port));
    }
}

fn requests_that_are_not_accepted_yet_are_answered() {
    for signal in [Signal::TERM, Signal::INT] {
        let (server, port) = serve();
        server.send(Signal::STOP);
        server.wait_stopped();
        let clients = Clients::in_flight(port, CLIENTS, 100);
        server.send(signal);
        server.send(Signal::CONT);
        clients.are_answered();
        server.end().exited(0).ended_with("served 64 requests");
    }
}

fn requests_of_both_kinds_are_answered() {
    let (server, port) = serve();
    let accepted = Clients::in_flight(port, CLIENTS / 2, 2000);
    until_accepted(&server, CLIENTS as usize / 2, &accepted);
    server.send(Signal::STOP);
    server.wait_stopped();
    let queued = Clients::in_flight(port, CLIENTS / 2, 100);
    server.send(Signal::TERM);
    server.send(Signal::CONT);
    accepted.are_answered();
    queued.are_answered();
    server.end().exited(0).ended_with("served 64 requests");
}

fn nobody_can_connect_once_the_signal_has_come() {
    let (server, port) = serve();
    let clients = Clients::in_flight(port, 8, 4000);
    server.send(Signal::TERM);
    until("connecting is refused", || !connects(port));
    assert!(clients.all_wait(), "the server went on accepting until the last answer");
    clients.are_answered();
    server.end().exited(0).ended_with("served 8 requests");
}

fn ten_signals_in_a_row_are_one() {
    let (server, port) = serve();
    let clients = Clients::in_flight(port, CLIENTS, 1000);
    for _ in 0..10 {
        server.send(Signal::INT);
    }
    clients.are_answered();
    server.end().exited(0).ended_with("served 64 requests");
}

fn another_signal_changes_nothing() {
    let (server, port) = serve();
    let clients = Clients::in_flight(port, CLIENTS, 1500);
    server.send(Signal::INT);
    until("connecting is refused", || !connects(port));
    server.send(Signal::TERM);
    clients.are_answered();
    server.end().exited(0).ended_with("served 64 requests");
}

fn the_same_signal_a_while_later_ends_it_at_once() {
    let (server, port) = serve();
    let clients = Clients::in_flight(port, 1, 4500);
    server.send(Signal::INT);
    until("connecting is refused", || !connects(port));
    // The time is what is tested: half a second after the first, a repeat is meant.
    std::thread::sleep(Duration::from_millis(600));
    server.send(Signal::INT);
    server.end().died_by(Signal::INT);
    assert!(clients.all_fail());
}

fn a_request_that_outlasts_the_grace_is_cut() {
    let (server, port) = serve();
    let clients = Clients::in_flight(port, 1, 600_000);
    server.send(Signal::TERM);
    server.end().died_by(Signal::TERM);
    assert!(clients.all_fail());
}

fn an_idle_server_ends() {
    for signal in [Signal::TERM, Signal::INT] {
        let (server, port) = serve();
        server.send(signal);
        server.end().exited(0).ended_with("served 0 requests");
        assert!(!connects(port));
    }
}

fn a_client_that_asks_nothing_does_not_hold_up_the_end() {
    let (server, port) = serve();
    let idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
    server.send(Signal::TERM);
    server.end().exited(0).ended_with("served 0 requests");
    drop(idle);
}

fn pages_and_what_is_no_page() {
    let (server, port) = serve();
    let (written, _wrote) = channel();
    let status = |path: &str| get(port, path, written.clone()).unwrap().0;
    assert_eq!(status("/"), 200);
    assert_eq!(status("/slow?ms=0"), 200);
    assert_eq!(status("/slow"), 400);
    assert_eq!(status("/slow?ms=soon"), 400);
    assert_eq!(status("/nothing"), 404);
    server.send(Signal::TERM);
    server.end().exited(0).ended_with("served 5 requests");
}

fn a_port_that_is_taken_is_a_clear_error() {
    let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    let end = Victim::start(example("serve", &[&"--port", &port])).end();
    end.exited(1).said(&[]);
    let expected = format!("serve: cannot listen on 127.0.0.1:{port}: Address already in use");
    assert!(end.stderr.starts_with(&expected), "{end:#?}");
}

fn bad_arguments_are_explained() {
    let bad: &[&[&str]] =
        &[&["--port"], &["--port", "x"], &["--port", "65536"], &["--porr", "1"], &["8080"]];
    for arguments in bad {
        let shown: Vec<&dyn Display> = arguments.iter().map(|one| one as _).collect();
        let end = Victim::start(example("serve", &shown)).end();
        end.exited(2).said(&[]);
        assert!(end.stderr.contains("usage: serve [--port N]"), "{arguments:?}: {end:#?}");
    }
}

/// As `serve | cat` in a terminal that has gone: only standard error is without reader.
fn requests_are_answered_where_nobody_reads_standard_error() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut command = example("serve", &[&"--port", &0]);
        let nobody = broken_pipe();
        // SAFETY: the closure makes one system call and nothing else; it owns the descriptor.
        unsafe {
            command.pre_exec(move || match libc::dup2(nobody.as_raw_fd(), 2) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            })
        };
        let mut server = Victim::start(command);
        let port = server.expect_prefix("listening on http://127.0.0.1:").parse().unwrap();
        let clients = Clients::in_flight(port, 4, 1000);
        server.send(signal);
        clients.are_answered();
        server.end().exited(0).ended_with("served 4 requests");
    }
}

/// As `serve 2>&1 | head -1`, or `| tee log`, which `^C` ends as well.
fn requests_are_answered_where_nobody_reads_anything() {
    for signal in [Signal::TERM, Signal::INT] {
        let (near, far) = UnixStream::pair().unwrap();
        let far = OwnedFd::from(far);
        let mut command = example("serve", &[&"--port", &0]);
        let mut server = command.stdout(far.try_clone().unwrap()).stderr(far).spawn().unwrap();
        // The command keeps the descriptors.
        drop(command);
        let mut first = String::new();
        // What it printed last is read; from then on nobody reads.
        BufReader::new(near).read_line(&mut first).unwrap();
        let port = first.trim().rsplit(':').next().unwrap().parse().unwrap();
        let clients = Clients::in_flight(port, 4, 1000);
        kill(server.id() as i32, signal);
        clients.are_answered();
        assert_eq!(server.wait().unwrap().code(), Some(0));
        assert!(!connects(port));
    }
}

/// A descriptor to write to, of which nobody reads.
fn broken_pipe() -> OwnedFd {
    let (near, far) = UnixStream::pair().unwrap();
    drop(near);
    far.into()
}

pub(crate) const TESTS: &[Named] = tests![
    requests_that_are_being_answered_are_answered,
    requests_that_are_not_accepted_yet_are_answered,
    requests_of_both_kinds_are_answered,
    nobody_can_connect_once_the_signal_has_come,
    ten_signals_in_a_row_are_one,
    another_signal_changes_nothing,
    the_same_signal_a_while_later_ends_it_at_once,
    a_request_that_outlasts_the_grace_is_cut,
    an_idle_server_ends,
    a_client_that_asks_nothing_does_not_hold_up_the_end,
    pages_and_what_is_no_page,
    a_port_that_is_taken_is_a_clear_error,
    bad_arguments_are_explained,
    requests_are_answered_where_nobody_reads_standard_error,
    requests_are_answered_where_nobody_reads_anything,
];
