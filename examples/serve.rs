//! A web server that finishes, when told to stop, the requests that have reached it: all within 5 seconds.
//!
//! ```text
//! cargo run --example serve                      # listens on http://127.0.0.1:8080
//! curl 'http://127.0.0.1:8080/slow?ms=3000'      # in a second terminal; now press ^C in the first
//! ```
//!
//! On ^C the server stops accepting connections. `curl` still gets its answer; then the server says how
//! many requests it served and exits with 0. `kill` does the same as ^C.

use std::convert::Infallible;
use std::error::Error;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handle_exit::HandleExit;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long a client has to send its request once it has connected, so that one that never sends any
/// cannot hold up the end.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::main]
async fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;

    // From here on ^C and `kill` do not end the process. They run this callback, once, and
    // `guard.begun()` tells the code below to stop. That code has 5 seconds: then the process is killed
    // by the signal, and a request that takes longer is cut off. If yours may take longer, write
    // `HandleExit::builder().grace(Duration::from_secs(30)).install(...)`. The callback does not use
    // `eprintln!`, which panics if the terminal is gone.
    let guard = HandleExit::new(|| {
        let _ = writeln!(std::io::stderr(), "stopping: answering what is in flight");
    })?;
    println!("listening on http://{}", listener.local_addr()?);

    let served = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = guard.begun() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(answer(stream, Arc::clone(&served)))),
                // For instance too many open files, of which some will be closed soon.
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "serve: cannot accept: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            // Forgets the connections that have ended.
            Some(_) = connections.join_next() => {}
        }
    }

    // Some clients may have connected, and may have sent their request, without having been accepted:
    // the kernel keeps them in the listener's queue. Closing the listener would lose them.
    let listener = listener.into_std()?;
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        connections.spawn(answer(TcpStream::from_std(stream)?, Arc::clone(&served)));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}

    let _ = writeln!(std::io::stdout(), "served {} requests", served.load(Ordering::Relaxed));
    drop(guard); // The scope has ended in time: the program continues, and exits with 0.
    Ok(())
}

/// Answers the request of a connection: one for each connection (no keep-alive), so an open connection
/// always has a request in progress.
async fn answer(stream: TcpStream, served: Arc<AtomicUsize>) {
    let service = service_fn(async |request| {
        let response = respond(request).await;
        served.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(response)
    });
    // An error means that the client has gone away, or has sent no request in time.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(request: Request<Incoming>) -> Response<String> {
    let ms = request.uri().query().and_then(|query| query.strip_prefix("ms=")?.parse().ok());
    let (status, body) = match (request.uri().path(), ms) {
        ("/", _) => (StatusCode::OK, "Hello. Try /slow?ms=3000 and ^C.\n".to_owned()),
        ("/slow", Some(ms)) => {
            sleep(Duration::from_millis(ms)).await;
            (StatusCode::OK, format!("This took {ms} ms.\n"))
        }
        ("/slow", None) => (StatusCode::BAD_REQUEST, "Say how slow: /slow?ms=3000\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "There is only / and /slow?ms=N\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn main() -> ExitCode {
    let port = match port() {
        Ok(port) => port,
        Err(error) => {
            eprintln!("serve: {error}");
            eprintln!("usage: serve [--port N]    (N is 8080 by default, 0 takes any free port)");
            return ExitCode::from(2);
        }
    };
    match serve(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line.
fn port() -> Result<u16, lexopt::Error> {
    use lexopt::prelude::*;
    let mut port = 8080;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("port") => port = arguments.value()?.parse()?,
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(port)
}
