//! An echo server: one thread with an event loop of its own, made with mio.
//!
//! ```text
//! cargo run -p handle-exit-programs --bin mio-server     # listens on 127.0.0.1:8080
//! nc 127.0.0.1 8080                                      # in a second terminal: type something
//! ```
//!
//! What you type comes back. Press ^C in the first terminal: what has arrived by then is still sent
//! back, the connections are closed, and the server exits with 0. `-- 8081` takes another port, and
//! `-- 0` any free one.

use std::io::{ErrorKind, Read, Result, Write, stderr, stdout};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use handle_exit::HandleExit;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);
const EXIT: Token = Token(1);
const CLIENT: Token = Token(2);

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

    // A descriptor that becomes readable when the exit begins: one more thing to wait for.
    let guard = HandleExit::new(|| drop(writeln!(stderr(), "stopping")))?;
    let exit = guard.readable_fd()?;
    poll.registry().register(&mut SourceFd(&exit.as_raw_fd()), EXIT, Interest::READABLE)?;
    let _ = writeln!(stdout(), "listening on {}", listener.local_addr()?);

    let mut listener = Some(listener);
    let mut clients = Vec::new();
    let mut served = 0;
    let mut events = Events::with_capacity(64);
    while listener.is_some() || !clients.is_empty() {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue, // by a signal
            result => result?,
        }

        if let Some(open) = &listener {
            while let Ok((mut stream, _)) = open.accept() {
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, CLIENT, interest)?;
                clients.push(Client { stream, unsent: Vec::new() });
                served += 1;
            }
        }
        if events.iter().any(|event| event.token() == EXIT) {
            listener = None; // No client can connect any more.
        }

        // A server for more than a few clients would give each a token, and serve only those with events.
        clients.retain_mut(|client| match client.echo() {
            Ok(State::Waiting) => listener.is_some(),
            Ok(State::Sending) => true,
            Ok(State::Closed) | Err(_) => false,
        });
    }

    let _ = writeln!(stdout(), "served {served} clients");
    Ok(())
}

struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
}

enum State {
    /// All that has arrived has been sent back.
    Waiting,
    /// The client does not read as fast as it writes.
    Sending,
    Closed,
}

impl Client {
    /// Sends back what has arrived, as far as that goes without waiting.
    fn echo(&mut self) -> Result<State> {
        let mut buffer = [0; 4096];
        loop {
            while !self.unsent.is_empty() {
                match self.stream.write(&self.unsent) {
                    Ok(sent) => drop(self.unsent.drain(..sent)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Ok(State::Sending);
                    }
                    Err(error) => return Err(error),
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(State::Closed),
                Ok(read) => self.unsent.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(State::Waiting),
                Err(error) => return Err(error),
            }
        }
    }
}
