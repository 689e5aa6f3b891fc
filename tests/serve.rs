//! `examples/serve.rs` loses no request: the built example, a real client, real signals.
//!
//! A request is *in flight* when its client has written it. Whether the server has accepted the
//! connection by then is another matter, which the tests vary: a server that is stopped (SIGSTOP)
//! accepts nothing, so all that is written meanwhile waits in the kernel when the signal comes.

mod support;

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use handle_exit::Signal;
use support::*;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};

const CLIENTS: u64 = 64;

// ----------------------------------------------------------------------------------- the server

/// The example with these arguments.
fn example(arguments: &[&str]) -> Command {
    // target/debug/deps/serve-… -> target/debug/examples/serve
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("examples").join("serve");
    assert!(program.exists(), "{} is missing: cargo build --examples", program.display());
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// A server on a free port.
fn serve() -> (Victim, u16) {
    let mut server = Victim::spawn("serve", example(&["--port", "0"]));
    let port = server.expect_prefix("listening on http://127.0.0.1:").parse().unwrap();
    (server, port)
}

/// Waits until the server has accepted so many connections, or on a machine so busy that this is
/// seen too late, until it has answered some.
fn until_accepted(server: &Victim, connections: usize, clients: &Clients) {
    let sockets = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    };
    // One more is the listener.
    until("the connections are accepted", || sockets() > connections || !clients.all_wait());
}

fn connects(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

// ---------------------------------------------------------------------------------- the clients

type Answer = Result<(u16, String), ureq::Error>;

/// Clients that all have written their request.
struct Clients {
    ms: u64,
    answers: Vec<JoinHandle<Answer>>,
    answered: Receiver<()>,
}

impl Clients {
    /// So many clients, each with a connection and an URL of its own; returns when all have written.
    fn in_flight(port: u16, clients: u64, ms: u64) -> Clients {
        let (written, wrote) = channel();
        let (done, answered) = channel();
        let answers = (ms..ms + clients)
            .map(|ms| {
                let (written, done) = (written.clone(), done.clone());
                std::thread::spawn(move || {
                    let answer = get(port, &format!("/slow?ms={ms}"), written);
                    let _ = done.send(());
                    answer
                })
            })
            .collect();
        for _ in 0..clients {
            wrote.recv_timeout(DEADLINE).expect("a request is not written in time");
        }
        Clients { ms, answers, answered }
    }

    /// Whether no client has its answer yet.
    fn all_wait(&self) -> bool {
        self.answered.try_recv().is_err()
    }

    /// Every client was answered with 200 and the whole body of its own request.
    #[track_caller]
    fn are_answered(self) {
        for (ms, answer) in (self.ms..).zip(self.answers) {
            let (status, body) = answer.join().unwrap().unwrap_or_else(|error| {
                panic!("the request that takes {ms} ms got no answer: {error}")
            });
            assert_eq!((status, body), (200, format!("This took {ms} ms.\n")));
        }
    }
}

/// Asks once; tells `written` when the request is on its way.
fn get(port: u16, path: &str, written: Sender<()>) -> Answer {
    let config = ureq::config::Config::builder()
        .http_status_as_error(false)
        .timeout_global(Some(DEADLINE))
        .proxy(None)
        .build();
    let connector = DefaultConnector::default().chain(Tell(written));
    let agent = ureq::Agent::with_parts(config, connector, DefaultResolver::default());
    let mut response = agent.get(format!("http://127.0.0.1:{port}{path}")).call()?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

/// The end of ureq's connector chain: tells when the request has been written to the socket.
#[derive(Debug)]
struct Tell(Sender<()>);

#[derive(Debug)]
struct Told<T>(T, Option<Sender<()>>);

impl<In: Transport> Connector<In> for Tell {
    type Out = Told<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Told<In>>, ureq::Error> {
        Ok(chained.map(|transport| Told(transport, Some(self.0.clone()))))
    }
}

impl<T: Transport> Transport for Told<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, timeout)?;
        self.1.take().map(|written| written.send(()));
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }
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
    assert!(clients.answers.into_iter().all(|answer| answer.join().unwrap().is_err()));
}

fn a_request_that_outlasts_the_grace_is_cut() {
    let (server, port) = serve();
    let clients = Clients::in_flight(port, 1, 600_000);
    server.send(Signal::TERM);
    server.end().died_by(Signal::TERM);
    assert!(clients.answers.into_iter().all(|answer| answer.join().unwrap().is_err()));
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
    let end = Victim::spawn("serve", example(&["--port", &port.to_string()])).end();
    end.exited(1).said(&[]);
    let expected = format!("serve: cannot listen on 127.0.0.1:{port}: Address already in use");
    assert!(end.stderr.starts_with(&expected), "{end:#?}");
}

fn bad_arguments_are_explained() {
    let bad: &[&[&str]] =
        &[&["--port"], &["--port", "x"], &["--port", "65536"], &["--porr", "1"], &["8080"]];
    for arguments in bad {
        let end = Victim::spawn("serve", example(arguments)).end();
        end.exited(2).said(&[]);
        assert!(end.stderr.contains("usage: serve [--port N]"), "{arguments:?}: {end:#?}");
    }
}

fn main() {
    support::main(
        &[],
        all![
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
        ],
    );
}
