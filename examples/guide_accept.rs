//! Shown in the guide: a blocking `accept` loop.

use handle_exit::HandleExit;
use std::io::{Write, stdout};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // Not `connect`: that blocks the callback while too many clients wait to be accepted.
    let wake = move || drop(TcpStream::connect_timeout(&address, Duration::from_secs(1)));
    let guard = HandleExit::new(wake)?;
    let _ = writeln!(stdout(), "listening on {address}");
    for stream in listener.incoming() {
        if guard.is_exiting() {
            break;
        }
        if let Ok(stream) = stream {
            answer(stream);
        }
    }
    let _ = writeln!(stdout(), "stopped");
    Ok(())
}

/// Reads a byte, then answers. A silent client holds the loop up: a real server sets a read timeout.
fn answer(mut stream: TcpStream) {
    let _ = std::io::Read::read(&mut stream, &mut [0]);
    let _ = stream.write_all(b"hello\n");
}
