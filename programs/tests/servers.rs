//! The servers, with real clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::http::{Clients, connects};
use crate::support::*;
use handle_exit::Signal;

const BOTH: [Signal; 2] = [Signal::TERM, Signal::INT];

/// A server on a free port, and that port.
fn start(program: &str, announces: &str) -> (Victim, u16) {
    let mut command = Command::new(program);
    command.arg("0");
    let mut server = Victim::start(command);
    let port = server.expect_prefix(announces).parse().unwrap();
    (server, port)
}

// ----------------------------------------------------------------------------------------- axum

fn axum() -> (Victim, u16) {
    start(env!("CARGO_BIN_EXE_axum-server"), "listening on http://127.0.0.1:")
}

fn axum_answers_what_is_in_flight() {
    for signal in BOTH {
        let (mut server, port) = axum();
        let clients = Clients::in_flight(port, 16, 1000);
        for _ in 0..16 {
            server.expect_prefix("asked for /slow?ms=");
        }
        server.send(signal);
        clients.are_answered();
        server.end().exited(0).ended_with("goodbye");
        assert!(!connects(port));
    }
}

fn axum_accepts_nobody_once_the_signal_has_come() {
    let (mut server, port) = axum();
    let clients = Clients::in_flight(port, 1, 4000);
    server.expect_prefix("asked for /slow?ms=");
    server.send(Signal::TERM);
    until("connecting is refused", || !connects(port));
    assert!(clients.all_wait(), "the server went on accepting until the last answer");
    clients.are_answered();
    let end = server.end();
    end.exited(0);
    assert!(end.stderr.starts_with("stopping: SIGTERM from process "), "{end:#?}");
}

// ------------------------------------------------------------------------------------------ mio

fn mio() -> (Victim, u16) {
    start(env!("CARGO_BIN_EXE_mio-server"), "listening on 127.0.0.1:")
}

fn client(port: u16) -> TcpStream {
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

/// What comes until the server closes the connection.
fn rest(mut client: TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

fn mio_closes_idle_connections_and_ends() {
    for signal in BOTH {
        let (server, port) = mio();
        let mut talker = client(port);
        talker.write_all(b"hello").unwrap();
        let mut echo = [0; 5];
        talker.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"hello");
        let silent = client(port);

        server.send(signal);
        assert_eq!((rest(talker), rest(silent)), (String::new(), String::new()));
        server.end().exited(0).ended_with("served 2 clients");
        assert!(!connects(port));
    }
}

fn mio_sends_back_what_has_arrived_before_the_signal() {
    for signal in BOTH {
        let (server, port) = mio();
        let mut accepted = client(port);
        accepted.write_all(b"a").unwrap();
        accepted.read_exact(&mut [0]).unwrap();
        // Now it hears nothing until all has arrived.
        server.send(Signal::STOP);
        server.wait_stopped();
        accepted.write_all(b"from a connection that is open").unwrap();
        let mut queued = client(port);
        queued.write_all(b"from one that is not accepted yet").unwrap();
        server.send(signal);
        server.send(Signal::CONT);
        assert_eq!(rest(accepted), "from a connection that is open");
        assert_eq!(rest(queued), "from one that is not accepted yet");
        server.end().exited(0).ended_with("served 2 clients");
    }
}

fn mio_sends_back_what_a_slow_client_has_not_taken_yet() {
    let (mut server, port) = mio();
    let mut client = client(port);
    let own = client.local_addr().unwrap().port();
    // Until the server reads no more, because this client does not.
    let mut sent = 0;
    while unread(port, own) == 0 {
        client.write_all(&[b'x'; 1 << 15]).unwrap();
        sent += 1 << 15;
        until("all has arrived", || unsent(own, port) == 0);
        server.at_rest();
    }
    server.send(Signal::TERM);
    server.at_rest();
    assert_eq!(rest(client).len(), sent);
    server.end().exited(0).ended_with("served 1 clients");
}

/// How many bytes wait to be sent, and to be read, in the connection of these two ports of this machine.
fn queues(local: u16, remote: u16) -> (u64, u64) {
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    for line in connections.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words[1].ends_with(&local) && words[2].ends_with(&remote) {
            let (to_send, to_read) = words[4].split_once(':').unwrap();
            let number = |hex| u64::from_str_radix(hex, 16).unwrap();
            return (number(to_send), number(to_read));
        }
    }
    (0, 0)
}

fn unsent(local: u16, remote: u16) -> u64 {
    queues(local, remote).0
}

fn unread(local: u16, remote: u16) -> u64 {
    queues(local, remote).1
}

pub(crate) const TESTS: &[Named] = tests![
    axum_answers_what_is_in_flight,
    axum_accepts_nobody_once_the_signal_has_come,
    mio_closes_idle_connections_and_ends,
    mio_sends_back_what_has_arrived_before_the_signal,
    mio_sends_back_what_a_slow_client_has_not_taken_yet,
];
