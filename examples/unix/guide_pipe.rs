// See ../guide_pipe.rs.

use handle_exit::{Error, HandleExit, Ignored, Outcome, Signal};
use std::io::{Write, stdout};

fn main() -> Result<Outcome, Error> {
    let guard = HandleExit::new(|| {})?;
    // A guest for PIPE alone: Rust programs start with PIPE ignored.
    let _pipe = HandleExit::builder()
        .append(true)
        .signals([Signal::PIPE])
        .ignored(Ignored::Guard)
        .install(|| {})?;
    let mut line = 0_u64;
    // The write fails once the reader has left, and PIPE has come by then.
    while !guard.is_exiting() && writeln!(stdout(), "line {line}").is_ok() {
        line += 1;
    }
    Ok(guard.finish())
}
