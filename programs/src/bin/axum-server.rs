//! A web server with axum on tokio, which answers what is in flight before it stops.
//!
//! ```text
//! cargo run -p handle-exit-programs --bin axum-server    # listens on http://127.0.0.1:8080
//! curl 'http://127.0.0.1:8080/slow?ms=3000'              # in a second terminal; now ^C in the first
//! ```
//!
//! `curl` still gets its answer, then the server says goodbye and exits with 0. `-- 8081` takes another
//! port, and `-- 0` any free one.

use std::io::{Write, stderr, stdout};
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use handle_exit::HandleExit;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    let app = Router::new()
        .route("/", get(async || "Hello. Try /slow?ms=3000 and ^C.\n"))
        .route("/slow", get(slow));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;

    // Requests that are being answered have 25 seconds: less than the 30 that Kubernetes gives.
    let guard = HandleExit::builder()
        .grace(Duration::from_secs(25))
        .install_with(|cause| drop(writeln!(stderr(), "stopping: {cause}")))?;

    let _ = writeln!(stdout(), "listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(guard.begun()).await?;

    let _ = writeln!(stdout(), "goodbye");
    Ok(())
}

#[derive(Deserialize)]
struct Slow {
    ms: u64,
}

async fn slow(Query(Slow { ms }): Query<Slow>) -> String {
    let _ = writeln!(stdout(), "asked for /slow?ms={ms}");
    sleep(Duration::from_millis(ms)).await;
    format!("This took {ms} ms.\n")
}
