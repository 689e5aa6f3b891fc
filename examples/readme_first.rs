//! The first program of the README: `cargo run --example readme_first`, then `^C` or `kill`.

use handle_exit::HandleExit;
use std::io::{Write, stderr};

fn main() -> Result<(), handle_exit::Error> {
    let guard = HandleExit::new(|| {
        let _ = writeln!(stderr(), "stopping after this piece of work");
    })?;
    while !guard.is_exiting() {
        println!("working");
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    println!("stopped cleanly"); // the process exits with 0
    Ok(())
}
