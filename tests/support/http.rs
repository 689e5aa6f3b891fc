//! Real HTTP clients for the servers among the examples and programs, which all answer
//! `/slow?ms=N` after N milliseconds.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};

use crate::support::{DEADLINE, Victim, leave, sockets_of, until};

/// Waits until the server has accepted so many connections, or on a machine so busy that this is
/// seen too late, until it has answered some.
pub fn until_accepted(server: &Victim, connections: usize, clients: &Clients) {
    // One more is the listener.
    until("the connections are accepted", || {
        sockets_of(server.pid()) > connections || !clients.all_wait()
    });
}

pub fn connects(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

pub type Answer = Result<(u16, String), ureq::Error>;

/// Clients that all have written their request.
pub struct Clients {
    ms: u64,
    pub answers: Vec<JoinHandle<Answer>>,
    answered: Receiver<()>,
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.answers.drain(..).for_each(leave);
    }
}

impl Clients {
    /// So many clients, each with a connection and an URL of its own; returns when all have written.
    pub fn in_flight(port: u16, clients: u64, ms: u64) -> Clients {
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
    pub fn all_wait(&self) -> bool {
        self.answered.try_recv().is_err()
    }

    /// Whether no client gets its answer.
    pub fn all_fail(mut self) -> bool {
        let answers = std::mem::take(&mut self.answers);
        answers.into_iter().all(|answer| answer.join().unwrap().is_err())
    }

    /// Every client was answered with 200 and the whole body of its own request.
    #[track_caller]
    pub fn are_answered(mut self) {
        for (ms, answer) in (self.ms..).zip(std::mem::take(&mut self.answers)) {
            let (status, body) = answer.join().unwrap().unwrap_or_else(|error| {
                panic!("the request that takes {ms} ms got no answer: {error}")
            });
            assert_eq!((status, body), (200, format!("This took {ms} ms.\n")));
        }
    }
}

/// Asks once; tells `written` when the request is on its way.
pub fn get(port: u16, path: &str, written: Sender<()>) -> Answer {
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
