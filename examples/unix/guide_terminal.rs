// See ../guide_terminal.rs.

use handle_exit::{Error, HandleExit, Outcome, Signal};
use std::fs::File;
use std::io::{Write, stdout};
use std::os::fd::AsFd;

fn main() -> Result<Outcome, Error> {
    let guard = HandleExit::builder()
        .also([Signal::HUP, Signal::QUIT, Signal::ABRT]) // ABRT: a panic with panic = "abort"
        .install(restore)?;
    guard.defer(restore)?; // once more, after the last frame
    write(b"\x1b[?1049h\x1b[?25l"); // the alternate screen, without a cursor
    while !guard.is_exiting() {
        draw();
    }
    Ok(guard.finish())
}

fn restore() {
    write(b"\x1b[?25h\x1b[?1049l");
}

/// Writes to the terminal without a lock: the thread that aborts may hold the one of `stdout`.
fn write(sequence: &[u8]) {
    if let Ok(terminal) = stdout().as_fd().try_clone_to_owned() {
        let _ = File::from(terminal).write_all(sequence);
    }
}

fn draw() {
    write(b"frame\r\n");
    std::thread::sleep(std::time::Duration::from_millis(50));
}
