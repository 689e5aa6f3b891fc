//! Shown in the guide: an async service with a clean-up that awaits.

use handle_exit::HandleExit;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), handle_exit::Error> {
    let guard = HandleExit::new(|| {})?;
    tokio::select! {
        () = serve() => {}
        () = guard.begun() => {}
    }
    flush().await; // async clean-up belongs here, not into the callback
    Ok(())
}

async fn serve() {
    println!("serving");
    std::future::pending::<()>().await;
}

async fn flush() {
    tokio::time::sleep(Duration::from_millis(100)).await;
    println!("flushed");
}
