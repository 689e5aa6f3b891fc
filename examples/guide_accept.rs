//! Shown in the guide: a blocking `accept` loop.

use handle_exit::HandleExit;
use std::net::{TcpListener, TcpStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let guard = HandleExit::new(move || drop(TcpStream::connect(address)))?;
    println!("listening on {address}");
    for stream in listener.incoming() {
        if guard.is_exiting() {
            break;
        }
        answer(stream?);
    }
    println!("stopped");
    Ok(())
}

fn answer(stream: TcpStream) {
    let _ = std::io::Write::write_all(&mut &stream, b"hello\n");
}
