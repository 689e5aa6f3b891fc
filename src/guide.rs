//! Which one do I want? From a situation to five lines of code.
//!
//! This module holds nothing but this page.
//!
//! # A server with a stop method
//! The serve loop returns when it is told to. TERM and `^C` tell it; requests under way are finished;
//! the program goes on behind the loop and exits with its own code.
//! ```no_run
//! # use std::sync::Arc;
//! # struct Server;
//! # impl Server { fn shutdown(&self) {} fn serve(&self) {} }
//! # let server = Arc::new(Server);
//! # fn example(server: Arc<Server>) -> Result<(), handle_exit::Error> {
//! let stop = server.clone();
//! let _guard = handle_exit::HandleExit::new(move || stop.shutdown())?;
//! server.serve();
//! # Ok(())
//! # }
//! ```
//! A request may take longer than 5 s? `HandleExit::builder().grace(Duration::from_secs(30))`; keep it
//! below what the supervisor allows (Docker 10 s, Kubernetes 30 s, systemd 90 s).
//!
//! # A server that cannot be told: a blocking `accept` loop
//! Let the loop look at the handle, and wake it with a connection of your own, or poll the listener
//! together with [`readiness`](crate::ExitHandle::readiness).
//! ```no_run
//! use std::net::{TcpListener, TcpStream};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let guard = handle_exit::HandleExit::new(move || drop(TcpStream::connect(address)))?;
//! for stream in listener.incoming() {
//!     if guard.is_exiting() { break }
//!     // … serve `stream` …
//! #   let _ = stream;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A batch job that stops at a safe point
//! Look between two pieces of work. The outcome makes `make` and shell loops stop too.
//! ```no_run
//! use handle_exit::{Error, HandleExit, Outcome};
//!
//! fn main() -> Result<Outcome, Error> {
//!     let guard = HandleExit::builder().grace(std::time::Duration::MAX).install(|| {})?;
//!     for piece in 0..1000 {
//!         if guard.is_exiting() { break }
//!         // … work on `piece` …
//! #       let _ = piece;
//!     }
//!     Ok(guard.finish())
//! }
//! ```
//!
//! # A script in stages
//! Each stage defers its clean-up. They run last in first out, however the script ends.
//! ```no_run
//! # fn start() {} fn stop() {} fn link() {} fn unlink() {}
//! # fn main() -> Result<(), handle_exit::Error> {
//! let guard = handle_exit::HandleExit::cleanup(|| eprintln!("cleaning up"))?;
//! start();
//! guard.defer(stop)?;
//! link();
//! guard.defer(unlink)?;
//! # Ok(())
//! # }
//! ```
//!
//! # A library inside somebody's program
//! The program may have handlers of its own: `append` runs yours first and theirs after it. If the
//! program has a guard already, add to that one.
//! ```no_run
//! use handle_exit::{Error, ExitHandle, HandleExit};
//!
//! # fn remove() {}
//! # fn work() {}
//! fn with_temporary_files() -> Result<(), Error> {
//!     if let Some(exit) = ExitHandle::current() {
//!         let staged = exit.defer(remove)?;
//!         work();
//!         if staged.cancel() { remove() }
//!         return Ok(());
//!     }
//!     let _guard = HandleExit::builder()
//!         .append(true)
//!         .grace(std::time::Duration::ZERO) // `work` cannot be told to stop
//!         .install(remove)?;
//!     work();
//!     Ok(())
//! }
//! ```
//!
//! # An async service
//! [`begun`](crate::ExitHandle::begun) is a future for any executor.
//! ```no_run
//! # struct Server;
//! # impl Server { async fn with_graceful_shutdown<F: std::future::Future>(self, _: F) {} }
//! # async fn example(server: Server) -> Result<(), handle_exit::Error> {
//! let guard = handle_exit::HandleExit::new(|| {})?;
//! let begun = guard.begun();
//! server.with_graceful_shutdown(async { let _ = begun.await; }).await;
//! # Ok(())
//! # }
//! ```
//!
//! # A daemon
//! It forks after the guard was made: the guard stays the parent's until the child takes it over.
//! ```no_run
//! # fn daemonize() {}
//! # fn serve() {}
//! # fn main() -> Result<(), handle_exit::Error> {
//! let guard = handle_exit::HandleExit::cleanup(|| { let _ = std::fs::remove_file("daemon.pid"); })?;
//! daemonize(); // forks; the parent leaves with _exit
//! guard.rearm()?;
//! serve();
//! # Ok(())
//! # }
//! ```
//!
//! # A worker that forks, or ends by `_exit`
//! A child starts with nothing of the parent's guard and may make one of its own. A worker whose pool
//! ends it behind the back of all exit hooks ends itself by a signal.
//! ```no_run
//! use handle_exit::{Signal, exit_with_signal};
//!
//! # fn job() {}
//! exit_with_signal(Signal::TERM, job)
//! ```
//!
//! # A program that must not die with its terminal
//! ```no_run
//! use handle_exit::{HandleExit, Signal};
//!
//! # fn main() -> Result<(), handle_exit::Error> {
//! let _guard = HandleExit::builder().signals(Signal::TERMINATING).install(|| {})?;
//! # Ok(())
//! # }
//! ```
//! Under `nohup`, HUP is ignored and stays so.
