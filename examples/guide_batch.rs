//! Shown in the guide: a batch job that stops at a safe point.

use handle_exit::{Error, HandleExit, Outcome};
use std::time::Duration;

fn main() -> Result<Outcome, Error> {
    let guard = HandleExit::builder().grace(Duration::MAX).install(|| {})?;
    for piece in 0..1000 {
        if guard.is_exiting() {
            break; // the safe point: nothing is half done here
        }
        work_on(piece);
    }
    Ok(guard.finish())
}

fn work_on(piece: u32) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "piece {piece}");
    std::thread::sleep(Duration::from_millis(100));
}
