//! Shown in the guide: a script in stages.

use handle_exit::{Error, HandleExit, Outcome};
use std::time::Duration;

fn main() -> Result<Outcome, Error> {
    let guard = HandleExit::builder().grace(Duration::MAX).install(|| {})?;
    for stage in ["create", "mount", "fill", "check"] {
        if guard.is_exiting() {
            break;
        }
        run(stage);
        guard.defer(move || undo(stage))?; // on every way out, the last stage first
    }
    Ok(guard.finish())
}

fn run(stage: &str) {
    say(stage);
    std::thread::sleep(Duration::from_millis(200));
}

fn undo(stage: &str) {
    say(&format!("undo {stage}"));
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
