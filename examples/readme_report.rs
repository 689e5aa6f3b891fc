//! The program of the README: `cargo run --example readme_report`, then `^C` or `kill`.

use handle_exit::{HandleExit, Outcome};
use std::fs::{self, File};
use std::io::{Write, stdout};
use std::time::Duration;

fn main() -> Result<Outcome, Box<dyn std::error::Error>> {
    let guard = HandleExit::new(|| {})?; // from here on, TERM and ^C do not kill: they set is_exiting()
    let mut report = File::create("report.part")?;
    let half_done = guard.defer(|| drop(fs::remove_file("report.part")))?;
    for page in 1..=1000 {
        if guard.is_exiting() {
            return Ok(guard.finish()); // removes report.part; returned from main, it kills the process by the signal
        }
        writeln!(report, "page {page}")?;
        let _ = writeln!(stdout(), "page {page}");
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::rename("report.part", "report.txt")?;
    half_done.cancel(); // the report is complete
    Ok(guard.finish())
}
