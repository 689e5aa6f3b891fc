//! Shown in the guide: a blocking `accept` loop.

use handle_exit::HandleExit;
use std::io::{Write, stdout};
use std::net::{TcpListener, TcpStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let guard = HandleExit::new(move || drop(TcpStream::connect(address)))?;
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

fn answer(mut stream: TcpStream) {
    let _ = stream.write_all(b"hello\n");
}
