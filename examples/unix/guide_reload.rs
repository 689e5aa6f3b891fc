// See ../guide_reload.rs.

use handle_exit::{HandleExit, Signal};
use std::sync::{Arc, Mutex};

fn main() -> Result<(), handle_exit::Error> {
    let config = Arc::new(Mutex::new(read_config()));
    let current = Arc::clone(&config);
    let guard = HandleExit::builder()
        .on(Signal::HUP, move |_| *current.lock().unwrap() = read_config())
        .install(|| {})?;
    serve_until(&guard, &config);
    Ok(())
}

/// What the configuration file says: here, how often it was read.
fn read_config() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static READ: AtomicU32 = AtomicU32::new(0);
    READ.fetch_add(1, Ordering::Relaxed) + 1
}

fn serve_until(exit: &handle_exit::Exit, config: &Mutex<u32>) {
    let mut used = 0;
    while !exit.is_exiting() {
        let config = *config.lock().unwrap();
        if config != used {
            say(&format!("configuration {config}"));
            used = config;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    say("stopped");
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
