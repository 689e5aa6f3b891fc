//! From a situation to a few lines of code.
//!
//! This module holds nothing but this page. Every program on it is an example in the package
//! (`cargo run --example guide_server`), which a test runs, signals and judges.
//!
//! | situation | what to use |
//! |---|---|
//! | [a server with a stop method](#a-server-with-a-stop-method) | [`HandleExit::new`] |
//! | [a blocking `accept` loop](#a-blocking-accept-loop) | [`HandleExit::new`], and a connection that wakes the loop |
//! | [an async service](#an-async-service) | [`Exit::begun`] |
//! | [several servers in one process](#several-servers-in-one-process) | [`HandleExit::append`], [`Exit::request`] |
//! | [a batch job that stops at a safe point](#a-batch-job-that-stops-at-a-safe-point) | [`Exit::is_exiting`], [`Outcome`] |
//! | [a script in stages](#a-script-in-stages) | [`Exit::defer`] |
//! | [code that cannot be told to stop](#code-that-cannot-be-told-to-stop) | [`HandleExit::cleanup`] |
//! | [a library](#a-library) | [`HandleExit::append`] |
//! | [a terminal that must be restored](#a-terminal-that-must-be-restored) | [`Builder::also`], `Signal::ABRT` |
//! | [a program that forwards signals to a child](#a-program-that-forwards-signals-to-a-child) | [`Repeat::Absorb`] |
//! | [a reload on HUP](#a-reload-on-hup) | [`Builder::on`] |
//! | [a daemon](#a-daemon) | `HandleExit::rearm` |
//! | [a worker in a pool](#a-worker-in-a-pool) | `exit_with_signal` |
//! | [a terminal that goes away](#a-terminal-that-goes-away) | [`Signal::TERMINATING`] |
//! | [tests of your own code](#tests-of-your-own-code) | [`HandleExit::append`], [`Exit::request`] |
//!
//! # Four rules for clean-ups
//!
//! 1. **The scope keeps running while the callback runs.** The callback runs on another thread, and nothing
//!    stops yours. A callback that removes what the scope still uses races with it: see
//!    [code that cannot be told to stop](#code-that-cannot-be-told-to-stop). What the scope uses until its end is
//!    better removed by a [deferred function](crate::Exit::defer), which runs when the scope has ended or, if it does not
//!    end in time, just before the process does.
//! 2. **A callback writes with `let _ = writeln!(std::io::stderr(), …)`.** The terminal or the pipe may be what went away, and
//!    `eprintln!` and `println!` panic then: the clean-up would stop there, and the process would end with code 101.
//! 3. **Async clean-up belongs in the body, after `begun().await`.** A callback that calls `block_on` waits for a runtime whose
//!    threads may be waiting for the callback.
//! 4. **The callback and the grace together must take less time than the supervisor allows**: Docker 10 s, Kubernetes 30 s,
//!    systemd 90 s, a Windows console about 5 s after it was closed.
//!
//! # A server with a stop method
//! The serve loop returns when it is told to stop. TERM and `^C` tell it, requests under way are finished, and the
//! program goes on after the loop and exits with a code of its own.
//! ```no_run
//! use handle_exit::HandleExit;
//! use std::sync::{Arc, Condvar, Mutex};
//!
//! fn main() -> Result<(), handle_exit::Error> {
//!     let server = Arc::new(Server::default());
//!     let stop = Arc::clone(&server);
//!     let _guard = HandleExit::new(move || stop.shutdown())?;
//!     server.serve(); // returns after `shutdown` was called
//!     println!("every request is answered"); // the process exits with 0
//!     Ok(())
//! }
//! #
//! # #[derive(Default)]
//! # struct Server {
//! #     stopped: Mutex<bool>,
//! #     changed: Condvar,
//! # }
//! #
//! # impl Server {
//! #     fn shutdown(&self) {
//! #         *self.stopped.lock().unwrap() = true;
//! #         self.changed.notify_all();
//! #     }
//! #
//! #     fn serve(&self) {
//! #         println!("serving");
//! #         let stopped = self.stopped.lock().unwrap();
//! #         drop(self.changed.wait_while(stopped, |stopped| !*stopped).unwrap());
//! #     }
//! # }
//! ```
//! If a request may take longer than 5 s, write `HandleExit::builder().grace(Duration::from_secs(25))`.
//!
//! # A blocking `accept` loop
//! `accept` does not return because a signal came. Wake it with a connection of your own, or wait for the listener and
//! for `guard.readable_fd()` together, with `poll`, `epoll` or mio (Unix).
//! ```no_run
//! use handle_exit::HandleExit;
//! use std::net::{TcpListener, TcpStream};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = TcpListener::bind("127.0.0.1:0")?;
//!     let address = listener.local_addr()?;
//!     let guard = HandleExit::new(move || drop(TcpStream::connect(address)))?;
//!     println!("listening on {address}");
//!     for stream in listener.incoming() {
//!         if guard.is_exiting() {
//!             break;
//!         }
//!         answer(stream?);
//!     }
//!     println!("stopped");
//!     Ok(())
//! }
//! #
//! # fn answer(stream: TcpStream) {
//! #     let _ = std::io::Write::write_all(&mut &stream, b"hello\n");
//! # }
//! ```
//! `examples/blocking.rs` also serves the clients that had connected and were not accepted yet.
//!
//! # An async service
//! [`begun`](crate::Exit::begun) is a future for any executor. It gives `()` and borrows nothing, so axum takes it as it is, and the guard stays
//! where it was made:
//! ```no_run
//! # mod axum {
//! #     pub struct Serve;
//! #     impl Serve {
//! #         pub async fn with_graceful_shutdown(
//! #             self,
//! #             _: impl Future<Output = ()> + Send + 'static,
//! #         ) -> Result<(), handle_exit::Error> {
//! #             Ok(())
//! #         }
//! #     }
//! #     pub fn serve(_: (), _: ()) -> Serve {
//! #         Serve
//! #     }
//! # }
//! # async fn example(listener: (), app: ()) -> Result<(), handle_exit::Error> {
//! let guard = handle_exit::HandleExit::new(|| {})?;
//! axum::serve(listener, app).with_graceful_shutdown(guard.begun()).await?;
//! # Ok(())
//! # }
//! ```
//! **Clean-up that awaits comes after `begun().await`, in the body.** The grace covers it.
//! ```no_run
//! use handle_exit::HandleExit;
//! use std::time::Duration;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), handle_exit::Error> {
//!     let guard = HandleExit::new(|| {})?;
//!     tokio::select! {
//!         () = serve() => {}
//!         () = guard.begun() => {}
//!     }
//!     flush().await; // async clean-up belongs here, not into the callback
//!     Ok(())
//! }
//! #
//! # async fn serve() {
//! #     println!("serving");
//! #     std::future::pending::<()>().await;
//! # }
//! #
//! # async fn flush() {
//! #     tokio::time::sleep(Duration::from_millis(100)).await;
//! #     println!("flushed");
//! # }
//! ```
//!
//! # Several servers in one process
//! Each has a guard of its own, made with [`append`](crate::HandleExit::append). A signal begins the exit of all of them;
//! [`request`](crate::Exit::request) begins the exit of one.
//! ```no_run
//! use handle_exit::{Error, Exit, HandleExit};
//! use std::thread::{JoinHandle, spawn};
//!
//! fn start(name: &'static str) -> Result<(Exit, JoinHandle<()>), Error> {
//!     let guard = HandleExit::append(|| {})?;
//!     let exit = guard.handle();
//!     let server = spawn(move || {
//!         guard.wait(); // stands for a serve loop: the guard lives as long as its server
//!         println!("{name} has stopped");
//!     });
//!     Ok((exit, server))
//! }
//!
//! fn main() -> Result<(), Error> {
//!     let (api, api_server) = start("api")?;
//!     let (_, metrics_server) = start("metrics")?;
//!     api.request(); // stops this one alone
//!     api_server.join().unwrap();
//!     println!("metrics goes on");
//!     metrics_server.join().unwrap(); // TERM and ^C stop every server that is left
//!     Ok(())
//! }
//! ```
//! The oldest guard, the program's, decides the rest: the grace, what a repeat does, and how the process ends. Where it is gone, the
//! oldest of those that are left decides.
//!
//! # A batch job that stops at a safe point
//! Ask between two pieces of work. `main` returns the outcome, so that the process dies of the signal and `make` and shell loops
//! stop too. With `Duration::MAX` no deadline applies; a second `^C` ends the wait.
//! ```no_run
//! use handle_exit::{Error, HandleExit, Outcome};
//! use std::time::Duration;
//!
//! fn main() -> Result<Outcome, Error> {
//!     let guard = HandleExit::builder().grace(Duration::MAX).install(|| {})?;
//!     for piece in 0..1000 {
//!         if guard.is_exiting() {
//!             break; // the safe point: nothing is half done here
//!         }
//!         work_on(piece);
//!     }
//!     Ok(guard.finish())
//! }
//! #
//! # fn work_on(piece: u32) {
//! #     println!("piece {piece}");
//! #     std::thread::sleep(Duration::from_millis(100));
//! # }
//! ```
//!
//! # A script in stages
//! Each stage defers what undoes it. Deferred functions run last in, first out, however the script ends.
//! ```no_run
//! use handle_exit::{Error, HandleExit, Outcome};
//! use std::time::Duration;
//!
//! fn main() -> Result<Outcome, Error> {
//!     let guard = HandleExit::builder().grace(Duration::MAX).install(|| {})?;
//!     for stage in ["create", "mount", "fill", "check"] {
//!         if guard.is_exiting() {
//!             break;
//!         }
//!         run(stage);
//!         guard.defer(move || undo(stage))?; // on every way out, the last stage first
//!     }
//!     Ok(guard.finish())
//! }
//! #
//! # fn run(stage: &str) {
//! #     println!("{stage}");
//! #     std::thread::sleep(Duration::from_millis(200));
//! # }
//! #
//! # fn undo(stage: &str) {
//! #     use std::io::Write;
//! #     let _ = writeln!(std::io::stdout(), "undo {stage}");
//! # }
//! ```
//! What is to stay when all went well is taken back with [`Deferred::cancel`], and what is to be undone earlier with
//! [`Deferred::run`]. Neither `cleanup` nor a grace of zero fits here: the script would go on while its stages are undone.
//!
//! # Code that cannot be told to stop
//! `cleanup` runs the callback, and then the process dies of the signal. **Meanwhile the code goes on**, and often fails because
//! of the clean-up. That changes nothing: the process dies of the signal, whatever `main` returns by then. But `remove_dir_all`
//! fails in a directory to which files are being added. Rename the directory first, so that the code no longer finds it.
//! ```no_run
//! use handle_exit::HandleExit;
//! use std::path::{Path, absolute};
//! use std::{fs, io};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (work, gone) = (absolute("work")?, absolute("work.gone")?);
//!     fs::create_dir(&work)?;
//!     let directory = work.clone();
//!     let _guard = HandleExit::cleanup(move || {
//!         // The scope keeps running: take the directory away from it, and then remove it.
//!         if fs::rename(directory, &gone).is_ok() {
//!             // Again if a file that was being created at that moment has come in meanwhile.
//!             while fs::remove_dir_all(&gone).is_err_and(is_not_empty) {}
//!         }
//!     })?;
//!     write_files(&work)?; // fails once `work` is gone; the process dies of the signal all the same
//!     Ok(())
//! }
//! #
//! # fn is_not_empty(error: io::Error) -> bool {
//! #     error.kind() == io::ErrorKind::DirectoryNotEmpty
//! # }
//! #
//! # fn write_files(work: &Path) -> io::Result<()> {
//! #     println!("writing");
//! #     for file in 0..100_000 {
//! #         fs::write(work.join(format!("file-{}", file % 100)), "…")?;
//! #         std::thread::sleep(std::time::Duration::from_micros(500));
//! #     }
//! #     Ok(())
//! # }
//! ```
//! Better still, tell the work to stop, and remove the directory in a deferred function, as the [script](#a-script-in-stages) does; or
//! let the work hold a lock for each step, as the [library](#a-library) does. On Windows one of these is needed, since a
//! directory with an open file can be neither renamed nor removed there.
//!
//! # A library
//! The program may have a guard or handlers of its own, or neither. [`append`](crate::HandleExit::append) is right in each case: the library's
//! callback runs first, then what the program has. In a program that has neither, the scope has 5 s to end by itself.
//! ```no_run
//! use handle_exit::{Error, HandleExit};
//! use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
//!
//! /// The library's function. It may be called on several threads at once.
//! fn render(pages: u32) -> Result<u32, Error> {
//!     let scratch = Arc::new(Mutex::new(Scratch::create()));
//!     let removed = Arc::clone(&scratch);
//!     let guard = HandleExit::append(move || lock(&removed).remove())?;
//!     for page in 0..pages {
//!         // Each step holds the lock, so that the callback removes the directory between two of them.
//!         let scratch = lock(&scratch);
//!         if guard.is_exiting() {
//!             return Ok(page);
//!         }
//!         scratch.write(page);
//!     }
//!     Ok(pages)
//! }
//!
//! fn main() -> Result<(), Error> {
//!     println!("{} pages", render(1000)?);
//!     Ok(())
//! }
//! #
//! # /// After a panic of the thread that held it, too: there is still something to remove.
//! # fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
//! #     mutex.lock().unwrap_or_else(PoisonError::into_inner)
//! # }
//! #
//! # struct Scratch(std::path::PathBuf);
//! #
//! # impl Scratch {
//! #     fn create() -> Scratch {
//! #         let path =
//! #             std::path::absolute(format!("scratch-{:?}", std::thread::current().id())).unwrap();
//! #         std::fs::create_dir(&path).unwrap();
//! #         Scratch(path)
//! #     }
//! #
//! #     fn write(&self, page: u32) {
//! #         std::fs::write(self.0.join(format!("page-{page}")), "…").unwrap();
//! #         println!("page {page}");
//! #         std::thread::sleep(std::time::Duration::from_millis(50));
//! #     }
//! #
//! #     fn remove(&self) {
//! #         let _ = std::fs::remove_dir_all(&self.0);
//! #     }
//! # }
//! #
//! # /// Where no guard was made, too.
//! # impl Drop for Scratch {
//! #     fn drop(&mut self) {
//! #         self.remove();
//! #     }
//! # }
//! ```
//! What the library keeps until the program ends is removed by the program's guard, if it has one:
//! `Exit::current().map(|exit| exit.defer(remove))`.
//!
//! # A terminal that must be restored
//! A terminal program leaves raw mode and the alternate screen on every way out. With `panic = "abort"`, which many release profiles
//! set, a panic runs no destructors: **guard `Signal::ABRT` as well**. The aborting thread may hold any lock, so this callback
//! takes none.
//! ```no_run
//! use handle_exit::{Error, HandleExit, Outcome, Signal};
//! use std::fs::File;
//! use std::io::{Write, stdout};
//! use std::os::fd::AsFd;
//!
//! fn main() -> Result<Outcome, Error> {
//!     let guard = HandleExit::builder()
//!         .also([Signal::HUP, Signal::QUIT, Signal::ABRT]) // ABRT: a panic with panic = "abort"
//!         .install(restore)?;
//!     guard.defer(restore)?; // once more, after the last frame
//!     write(b"\x1b[?1049h\x1b[?25l"); // the alternate screen, without a cursor
//!     while !guard.is_exiting() {
//!         draw();
//!     }
//!     Ok(guard.finish())
//! }
//! #
//! # fn restore() {
//! #     write(b"\x1b[?25h\x1b[?1049l");
//! # }
//! #
//! # /// Writes to the terminal without a lock: the thread that aborts may hold the one of `stdout`.
//! # fn write(sequence: &[u8]) {
//! #     if let Ok(terminal) = stdout().as_fd().try_clone_to_owned() {
//! #         let _ = File::from(terminal).write_all(sequence);
//! #     }
//! # }
//! #
//! # fn draw() {
//! #     write(b"frame\r\n");
//! #     std::thread::sleep(std::time::Duration::from_millis(50));
//! # }
//! ```
//! On Windows there is no ABRT: a program with `panic = "abort"` restores the terminal in a panic hook.
//!
//! # A program that forwards signals to a child
//! It must not die before the child, however often somebody presses `^C`.
//! ```no_run
//! use handle_exit::{Cause, HandleExit, Received, Repeat};
//! use std::process::{Child, Command, ExitCode};
//! use std::time::Duration;
//!
//! fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
//!     let guard = HandleExit::builder()
//!         .grace(Duration::MAX)
//!         .repeat(Repeat::Absorb) // nothing ends the wait for the child
//!         .install(|| {})?;
//!     let mut child = command().spawn()?;
//!     let mut told = false;
//!     loop {
//!         if let Some(status) = child.try_wait()? {
//!             return Ok(ExitCode::from(status.code().unwrap_or(1) as u8));
//!         }
//!         match guard.cause() {
//!             Some(Cause::Signal(received)) if !told => {
//!                 forward(&received, &child);
//!                 told = true;
//!             }
//!             _ => std::thread::sleep(Duration::from_millis(20)),
//!         }
//!     }
//! }
//! #
//! # /// The terminal sends `^C` to the child as well; a process sends a signal to this process alone.
//! # fn forward(received: &Received, child: &Child) {
//! #     if received.sender().is_some() {
//! #         let (pid, signal) = (child.id() as i32, received.signal().as_raw());
//! #         let signal = signal.try_into().expect("no real-time signal is guarded");
//! #         let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Some(signal));
//! #     }
//! # }
//! #
//! # /// A child that ends in its own time, with a status of its own.
//! # fn command() -> Command {
//! #     let script =
//! #         "trap 'sleep 1; echo cleaned up; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
//! #     let mut command = Command::new("sh");
//! #     command.args(["-c", script]);
//! #     command
//! # }
//! ```
//!
//! # A reload on HUP
//! [`Builder::on`] takes a signal that is no exit. The function runs on the watcher each time the signal comes, and everything is put back
//! with the guard.
//! ```no_run
//! use handle_exit::{HandleExit, Signal};
//! use std::sync::{Arc, Mutex};
//!
//! fn main() -> Result<(), handle_exit::Error> {
//!     let config = Arc::new(Mutex::new(read_config()));
//!     let current = Arc::clone(&config);
//!     let guard = HandleExit::builder()
//!         .on(Signal::HUP, move |_| *current.lock().unwrap() = read_config())
//!         .install(|| {})?;
//!     serve_until(&guard, &config);
//!     Ok(())
//! }
//! #
//! # /// What stands in the configuration file: here, how often it was read.
//! # fn read_config() -> u32 {
//! #     use std::sync::atomic::{AtomicU32, Ordering};
//! #     static READ: AtomicU32 = AtomicU32::new(0);
//! #     READ.fetch_add(1, Ordering::Relaxed) + 1
//! # }
//! #
//! # fn serve_until(exit: &handle_exit::Exit, config: &Mutex<u32>) {
//! #     let mut used = 0;
//! #     while !exit.is_exiting() {
//! #         let config = *config.lock().unwrap();
//! #         if config != used {
//! #             println!("configuration {config}");
//! #             used = config;
//! #         }
//! #         std::thread::sleep(std::time::Duration::from_millis(10));
//! #     }
//! #     println!("stopped");
//! # }
//! ```
//! A HUP that was ignored when the guard was made (`nohup`) stays ignored. Windows has no HUP.
//!
//! # A daemon
//! It forks after the guard was made. The guard stays the parent's until the child takes it over. (Unix; `examples/daemon.rs` is a
//! complete one.)
//! ```no_run
//! # fn daemonize() {}
//! # fn serve() {}
//! # fn example() -> Result<(), handle_exit::Error> {
//! let guard = handle_exit::HandleExit::cleanup(|| drop(std::fs::remove_file("daemon.pid")))?;
//! daemonize(); // forks; the parent leaves with `_exit`
//! guard.rearm()?;
//! serve();
//! # Ok(())
//! # }
//! ```
//!
//! # A worker in a pool
//! Some pools end a worker with `_exit`, which runs nothing. A worker that ends itself by a signal runs its guard first. (Unix; `examples/worker.rs`
//! shows the other side, a master that lets its workers finish.)
//! ```no_run
//! use handle_exit::{HandleExit, Signal, exit_with_signal};
//! use std::io::{Write, stdout};
//!
//! fn main() -> Result<(), handle_exit::Error> {
//!     HandleExit::cleanup(|| drop(writeln!(stdout(), "cleaned up")))?.keep();
//!     exit_with_signal(Signal::TERM, || println!("job done"))
//! }
//! ```
//! A forked child has none of its parent's guards, and may make one of its own.
//!
//! # A terminal that goes away
//! Closing a terminal sends HUP. Guard all four signals by which people and supervisors end a program; under `nohup`, HUP is ignored and
//! stays so. (Unix.) On Windows, the closing of the console is a [`Signal::TERM`], which is guarded by default.
//! ```no_run
//! use handle_exit::{HandleExit, Signal};
//!
//! # fn example() -> Result<(), handle_exit::Error> {
//! let _guard = HandleExit::builder().signals(Signal::TERMINATING).install(|| {})?;
//! # Ok(())
//! # }
//! ```
//!
//! # Tests of your own code
//! Tests run side by side in one process, so the code under test makes its guard with `append`, or is handed an [`Exit`]. A test
//! then does with [`request`](crate::Exit::request) what a signal would do, for one guard alone.
//! ```
//! use handle_exit::{Cause, Error, Exit, HandleExit};
//! use std::sync::mpsc::{Sender, channel};
//! use std::thread::{JoinHandle, spawn};
//!
//! /// The code under test.
//! fn serve(started: Sender<Exit>) -> Result<Cause, Error> {
//!     let guard = HandleExit::append(|| {})?; // `new` would refuse the second test's
//!     started.send(guard.handle()).unwrap();
//!     Ok(guard.wait())
//! }
//!
//! fn start() -> (Exit, JoinHandle<Result<Cause, Error>>) {
//!     let (started, exit) = channel();
//!     let server = spawn(|| serve(started));
//!     (exit.recv().unwrap(), server)
//! }
//!
//! #[test]
//! fn serves_until_it_is_told_to_stop() {
//!     let (exit, server) = start();
//!     assert!(!exit.is_exiting());
//!     exit.request();
//!     assert_eq!(server.join().unwrap().unwrap(), Cause::Requested);
//! }
//!
//! #[test]
//! fn leaves_another_server_alone() {
//!     let ((one, first), (other, second)) = (start(), start());
//!     one.request();
//!     first.join().unwrap().unwrap();
//!     assert!(!other.is_exiting());
//!     other.request();
//!     second.join().unwrap().unwrap();
//! }
//! ```
//! A test that sends real signals starts a process of its own: a signal is for the whole process, and would begin the exit of every
//! guard in it.
//!
//! [`Builder::also`]: crate::Builder::also
//! [`Builder::on`]: crate::Builder::on
//! [`Deferred::cancel`]: crate::Deferred::cancel
//! [`Deferred::run`]: crate::Deferred::run
//! [`Exit`]: crate::Exit
//! [`Exit::begun`]: crate::Exit::begun
//! [`Exit::defer`]: crate::Exit::defer
//! [`Exit::is_exiting`]: crate::Exit::is_exiting
//! [`Exit::request`]: crate::Exit::request
//! [`HandleExit::append`]: crate::HandleExit::append
//! [`HandleExit::cleanup`]: crate::HandleExit::cleanup
//! [`HandleExit::new`]: crate::HandleExit::new
//! [`Outcome`]: crate::Outcome
//! [`Repeat::Absorb`]: crate::Repeat::Absorb
//! [`Signal::TERM`]: crate::Signal::TERM
//! [`Signal::TERMINATING`]: crate::Signal::TERMINATING

#![allow(
    clippy::test_attr_in_doctest,
    reason = "tests/doc_programs.rs runs the tests that this page shows"
)]

/// The snippets of the other pages are compiled with this one's.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../docs/from-ctrlc.md")]
    struct FromCtrlc;
    #[doc = include_str!("../docs/python.md")]
    struct Python;
}
