// See ../guide_terminal.rs.

use handle_exit::{Exit, HandleExit, Outcome, Signal};
use nix::sys::signal::{SIGTTOU, kill};
use nix::sys::termios::{SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const CTRL_C: u8 = 3;
const CTRL_Z: u8 = 26;

fn main() -> Result<Outcome, Box<dyn std::error::Error>> {
    let terminal = Terminal::open()?; // remembers the mode, and changes nothing
    let mode = terminal.clone();
    let (suspend, suspended) = channel();
    let guard = HandleExit::builder()
        .also([Signal::HUP, Signal::QUIT, Signal::ABRT]) // ABRT: a panic with panic = "abort"
        .on(Signal::TSTP, move |_| {
            let _ = suspend.send(());
        })
        .install(|| {})?;
    guard.defer(move || mode.restore())?; // not in the callback: the loop may be about to read a key
    let result = interact(&terminal, &guard, &suspended);
    if result.is_err() {
        let _ = guard.wait_timeout(Duration::from_secs(1)); // a closed terminal: HUP follows the error
    }
    let outcome = guard.finish();
    if outcome.signal().is_none() {
        result?;
    }
    Ok(outcome)
}

fn interact(terminal: &Terminal, exit: &Exit, suspended: &Receiver<()>) -> io::Result<()> {
    terminal.take()?; // raw mode, the alternate screen, no cursor
    while !exit.is_exiting() {
        if suspended.try_recv().is_ok() {
            terminal.restore();
            kill(Pid::from_raw(0), SIGTTOU)?; // the process group stops here, until `fg`
            terminal.take()?;
        }
        draw();
        match terminal.key()? {
            Some(CTRL_C) => Signal::INT.raise()?, // in raw mode, `^C` is a key and not a signal
            Some(CTRL_Z) => Signal::TSTP.raise()?,
            _ => {}
        }
    }
    Ok(())
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
        // A read waits for a key for at most a tenth of a second.
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

    fn key(&self) -> nix::Result<Option<u8>> {
        let mut key = [0];
        if nix::unistd::read(stdin(), &mut key)? == 1 {
            return Ok(Some(key[0]));
        }
        tcgetattr(stdin())?; // an error if the terminal was closed, which may read like no key
        Ok(None)
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
