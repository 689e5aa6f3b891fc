// See ../guide_worker.rs.

use handle_exit::{HandleExit, Signal, exit_with_signal};
use std::io::{Write, stdout};

fn main() -> Result<(), handle_exit::Error> {
    HandleExit::cleanup(|| drop(writeln!(stdout(), "cleaned up")))?.keep();
    exit_with_signal(Signal::TERM, || drop(writeln!(stdout(), "job done")))
}
