// See ../guide_terminal.rs.

use handle_exit::{HandleExit, Outcome, Signal};
use nix::sys::signal::{SIGSTOP, raise};
use nix::sys::termios::{SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{Write, stdin, stdout};
use std::os::fd::AsFd;
use std::sync::mpsc::channel;

const CTRL_C: u8 = 3;
const CTRL_Z: u8 = 26;

fn main() -> Result<Outcome, Box<dyn std::error::Error>> {
    let terminal = Terminal::open()?; // remembers the mode, and changes nothing
    let mode = terminal.clone();
    let restore = move || mode.restore();
    let (suspend, suspended) = channel();
    let guard = HandleExit::builder()
        .also([Signal::HUP, Signal::QUIT, Signal::ABRT]) // ABRT: a panic with panic = "abort"
        .on(Signal::TSTP, move |_| {
            let _ = suspend.send(());
        })
        .install(|| {})?;
    guard.defer(restore)?; // not in the callback: the loop may be about to read a key
    terminal.take()?; // raw mode, the alternate screen, no cursor
    while !guard.is_exiting() {
        if suspended.try_recv().is_ok() {
            terminal.restore();
            raise(SIGSTOP)?; // the program stops here, until `fg`
            terminal.take()?;
        }
        draw();
        match terminal.key() {
            Some(CTRL_C) => Signal::INT.raise()?, // in raw mode, `^C` is a key and not a signal
            Some(CTRL_Z) => Signal::TSTP.raise()?,
            _ => {}
        }
    }
    Ok(guard.finish())
}

#[derive(Clone)]
struct Terminal(Termios);

impl Terminal {
    fn open() -> nix::Result<Terminal> {
        tcgetattr(stdin()).map(Terminal)
    }

    fn take(&self) -> nix::Result<()> {
        let mut raw = self.0.clone();
        cfmakeraw(&mut raw);
        // A read waits for a key at most for a tenth of a second.
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 1;
        tcsetattr(stdin(), SetArg::TCSANOW, &raw)?;
        write(b"\x1b[?1049h\x1b[?25l");
        Ok(())
    }

    fn restore(&self) {
        write(b"\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.0);
    }

    fn key(&self) -> Option<u8> {
        let mut key = [0];
        (nix::unistd::read(stdin(), &mut key) == Ok(1)).then_some(key[0])
    }
}

/// Writes without a lock: the thread that aborts may hold the one of `stdout`.
fn write(sequence: &[u8]) {
    if let Ok(terminal) = stdout().as_fd().try_clone_to_owned() {
        let _ = File::from(terminal).write_all(sequence);
    }
}

fn draw() {
    write(b"frame\r\n");
}
