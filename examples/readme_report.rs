//! The second program of the README: `cargo run --example readme_report`, then `^C` or `kill`.

use handle_exit::{Error, HandleExit, Outcome};
use std::fs::{self, File};
use std::io::{Write, stderr};
use std::time::Duration;

fn main() -> Result<Outcome, Error> {
    let guard = HandleExit::builder()
        .grace(Duration::from_secs(30))
        // "received SIGTERM from process 4711 of user 0", and what happens next
        .observe(|event| drop(writeln!(stderr(), "{event}")))
        .install(|| {})?;

    let mut report = File::create("report.part").unwrap();
    let half_done = guard.defer(|| drop(fs::remove_file("report.part")))?;
    for page in 1..=1000 {
        if guard.is_exiting() {
            return Ok(guard.finish()); // removes report.part; then the process dies of the signal
        }
        writeln!(report, "page {page}").unwrap();
        println!("page {page}");
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::rename("report.part", "report.txt").unwrap();
    half_done.cancel(); // there is nothing left to remove
    Ok(guard.finish())
}
