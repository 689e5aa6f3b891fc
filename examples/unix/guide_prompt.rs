// See ../guide_prompt.rs.

use handle_exit::{HandleExit, Signal};
use std::io::stdin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

static EVALUATING: AtomicBool = AtomicBool::new(false);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let guard = HandleExit::builder()
        .cleanup() // no grace period: `main` waits for a line, and no signal ends this wait
        .also([Signal::HUP])
        .on(Signal::INT, |_| {
            if EVALUATING.load(SeqCst) {
                INTERRUPTED.store(true, SeqCst); // stops the evaluation
            } else {
                let _ = Signal::TERM.raise(); // ends the program
            }
        })
        .install(|| {})?;
    let history = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&history);
    guard.defer(move || save(&lines.lock().unwrap()))?; // on every way out
    say("type a number; ^C stops the count, or the program; ^D ends the program");
    for line in stdin().lines() {
        let line = line?;
        history.lock().unwrap().push(line.clone());
        INTERRUPTED.store(false, SeqCst);
        EVALUATING.store(true, SeqCst);
        evaluate(&line);
        EVALUATING.store(false, SeqCst);
    }
    Ok(())
}

/// Counts to the number.
fn evaluate(line: &str) {
    for count in 1..=line.parse().unwrap_or(0) {
        if INTERRUPTED.load(SeqCst) {
            return say("interrupted");
        }
        say(&format!("count {count}"));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    say("done");
}

fn save(history: &[String]) {
    let _ = std::fs::write("history", history.join("\n"));
    say(&format!("{} in the history", history.len()));
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
