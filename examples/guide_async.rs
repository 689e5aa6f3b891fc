//! Shown in the guide: an async service with a clean-up that awaits.

use handle_exit::HandleExit;
use std::time::Duration;
use tokio::runtime::Runtime;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let guard = HandleExit::new(|| {})?; // made before the runtime, and dropped after it
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        tokio::select! {
            () = serve() => {}
            () = guard.begun() => {} // cancels `serve`
        }
        flush().await; // async clean-up belongs here, not in the callback
    });
    runtime.shutdown_background(); // does not wait for a read of standard input
    Ok(()) // the process exits with 0
}

async fn serve() {
    // A read that nobody answers occupies a thread of the runtime until Enter is pressed.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    say("serving");
    std::future::pending::<()>().await;
}

async fn flush() {
    tokio::time::sleep(Duration::from_millis(100)).await;
    say("flushed");
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
