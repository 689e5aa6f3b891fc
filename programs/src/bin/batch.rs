//! A long job with a progress bar. ^C stops it at a safe point; the next start continues from there.
//!
//! ```text
//! cargo run -p handle-exit-programs --bin batch /tmp/batch.checkpoint
//! ```
//!
//! Press ^C: the job finishes the current piece, writes the checkpoint, shows the cursor again, and is killed by
//! the signal, so that `make` and a shell loop around it stop too. Start it again, and it continues from
//! there. `-- /tmp/batch.checkpoint 5000` gives it 5000 pieces to do instead of 500.

use std::error::Error;
use std::fs;
use std::io::{ErrorKind, Write, stdout};
use std::path::Path;
use std::time::Duration;

use console::Term;
use handle_exit::{HandleExit, Outcome};
use indicatif::ProgressBar;

/// How many numbers a piece has.
const PIECE: u64 = 20_000;

fn main() -> Result<Outcome, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let checkpoint = arguments.next().ok_or("usage: batch CHECKPOINT [PIECES]")?;
    let checkpoint = Path::new(&checkpoint);
    let pieces = arguments.next().map_or(Ok(500), |pieces| pieces.parse())?;

    // The loop below sees that it should stop. No deadline applies to the current piece; a second ^C
    // ends the wait for it.
    let guard = HandleExit::builder().grace(Duration::MAX).install(|| {})?;

    // The cursor would blink in the bar. It comes back however this ends, with an error, a panic or the
    // second ^C too.
    let terminal = Term::stderr();
    if terminal.is_term() {
        let shown = terminal.clone();
        guard.defer(move || drop(shown.show_cursor()))?;
        terminal.hide_cursor()?;
    }

    let (mut done, mut primes) = load(checkpoint)?;
    let _ = writeln!(stdout(), "{done} of {pieces} pieces are done");
    let bar = ProgressBar::new(pieces).with_position(done);
    while done < pieces {
        primes += count_primes(done * PIECE, PIECE);
        done += 1;
        bar.set_position(done);
        if guard.is_exiting() {
            break; // the safe point
        }
    }
    bar.abandon(); // The bar stays on the screen as it is.

    if done < pieces {
        save(checkpoint, done, primes)?;
        let _ = writeln!(
            stdout(),
            "stopped after {done} of {pieces} pieces: start it again to continue"
        );
    } else {
        if checkpoint.exists() {
            fs::remove_file(checkpoint)?;
        }
        let _ = writeln!(stdout(), "{primes} primes below {}", pieces * PIECE);
    }
    // If a signal came, it kills the process now.
    Ok(guard.finish())
}

/// How many pieces are done, and how many primes were in them.
fn load(checkpoint: &Path) -> Result<(u64, u64), Box<dyn Error>> {
    let text = match fs::read_to_string(checkpoint) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((0, 0)),
        Err(error) => return Err(error.into()),
    };
    let (done, primes) = text.trim().split_once(' ').ok_or("this is no checkpoint")?;
    Ok((done.parse()?, primes.parse()?))
}

/// The rename replaces the old file at once or not at all, so that a checkpoint is always whole.
fn save(checkpoint: &Path, done: u64, primes: u64) -> std::io::Result<()> {
    let new = checkpoint.with_extension("new");
    fs::write(&new, format!("{done} {primes}\n"))?;
    fs::rename(new, checkpoint)
}

/// The slow way, which is what makes it a long job.
fn count_primes(from: u64, numbers: u64) -> u64 {
    let is_prime = |n: &u64| *n > 1 && (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    (from..from + numbers).filter(is_prime).count() as u64
}
