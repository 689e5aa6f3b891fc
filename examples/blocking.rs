//! A server without a runtime: a blocking `accept` loop and a thread for each connection.
//!
//! ```text
//! cargo run --example blocking                   # listens on http://127.0.0.1:8080
//! curl 'http://127.0.0.1:8080/slow?ms=3000'      # in a second terminal; now press ^C in the first
//! ```
//!
//! `curl` still gets its answer; then the server says how many requests it answered and exits with 0.
//! `cargo run --example blocking 8081` takes another port, and `0` any free one.

use std::io::{BufRead, BufReader, ErrorKind, Write, stderr, stdout};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handle_exit::HandleExit;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let address = listener.local_addr()?;

    // A signal does not make `accept` return, but a connection does: the callback connects to this
    // server. The callback must not block, as `connect` may if too many clients wait to be accepted.
    let wake = move || drop(TcpStream::connect_timeout(&address, Duration::from_secs(1)));
    let guard = HandleExit::new(wake)?;
    let _ = writeln!(stdout(), "listening on http://{address}");

    let answered = AtomicUsize::new(0);
    // Returns when all of its threads have.
    std::thread::scope(|connections| -> std::io::Result<()> {
        loop {
            if guard.is_exiting() {
                // Clients that have connected, but have not been accepted yet, wait in a queue of the
                // kernel. This loop takes them from it until it is empty, when `accept` would block.
                listener.set_nonblocking(true)?;
            }
            match listener.accept() {
                Ok((stream, _)) => {
                    let answered = &answered;
                    connections.spawn(move || {
                        // An error means that the client has gone away, or has sent no request in time.
                        // The callback's own connection is such a client.
                        if answer(stream).is_ok() {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // For instance too many open files, of which some will be closed soon.
                Err(error) => {
                    let _ = writeln!(stderr(), "cannot accept: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
        drop(listener); // No client can connect any more.
        Ok(())
    })?;

    let _ = writeln!(stdout(), "answered {} requests", answered.into_inner());
    Ok(())
}

/// Answers one request. This is as much HTTP as an example needs; a real server uses a crate, as
/// `serve` does.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    // On some systems a stream inherits from its listener that it does not block.
    stream.set_nonblocking(false)?;
    // A client that sends nothing must not hold up the end.
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;

    // The request line is "GET /path HTTP/1.1"; an empty line ends the headers.
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().ok_or(ErrorKind::UnexpectedEof)??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }

    let path = request.split(' ').nth(1).unwrap_or_default();
    let ms = path.strip_prefix("/slow?ms=").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    std::thread::sleep(Duration::from_millis(ms));
    let body = format!("This took {ms} ms.\n");
    let length = body.len();
    write!(
        &stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
