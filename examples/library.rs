//! A library inside somebody else's program, which has signal handlers or a host of its own. The library makes a guest.
//!
//! ```text
//! cargo run --example library
//! ```
//!
//! The program renders pages with the library, which keeps its scratch files in a directory of its
//! own. Press ^C while it renders: the library removes the directory, then the program's own handler
//! runs as if the library were not there, and the program ends as it always did. Wait until it has
//! rendered, and ^C is handled by the program alone: the library has restored everything.
//! `cargo run --example library 3` renders 3 pages instead of 50. With `3 guarded` the program has a
//! host instead of handlers: the library's callback runs first, then the program's. The library does
//! not notice the difference.

use std::io::{Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use handle_exit::HandleExit;

mod library {
    use std::io::{Error, Result, Write, stderr, stdout};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::{env, fs, process};

    use handle_exit::HandleExit;

    /// Renders pages, with scratch files that are gone afterwards, however this ends. May be called
    /// on several threads at once.
    ///
    /// # Errors
    /// What the file system says, or that a signal interrupted it.
    pub(super) fn render(pages: usize) -> Result<()> {
        let scratch = Arc::new(Mutex::new(None)); // no directory before there is a guard
        let removed = Arc::clone(&scratch);

        // `append`: this is the program's process, and these are the program's signals. On a signal
        // the directory is removed first. Then the program's handler or host decides what comes next.
        // If the program has neither, the process is killed by the signal when the guard is dropped:
        // `render` does not return.
        let guard = HandleExit::append(move || *lock(&removed) = None).map_err(Error::other)?;

        for page in 0..pages {
            // The callback runs on another thread, while this one continues. The lock makes the callback
            // wait until a page is written, and no further page is begun.
            let mut scratch = lock(&scratch);
            if guard.is_exiting() {
                return Err(Error::other("interrupted"));
            }
            let directory = match &mut *scratch {
                Some(directory) => directory,
                none => none.insert(Scratch::create()?),
            };
            directory.write(&format!("page-{page}"))?;
            drop(scratch);
            std::thread::sleep(super::PAGE);
        }
        Ok(())
        // The guard is dropped here: the directory is removed, and the program's handlers are restored.
    }

    /// Also after a panic of the thread that held it: there is still something to remove.
    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    struct Scratch {
        path: PathBuf,
    }

    impl Scratch {
        fn create() -> Result<Scratch> {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("scratch-{}-{number}", process::id()));
            fs::create_dir(&path)?;
            let _ = writeln!(stdout(), "library: rendering in {}", path.display());
            Ok(Scratch { path })
        }

        fn write(&self, name: &str) -> Result<()> {
            fs::write(self.path.join(name), "…")
        }
    }

    impl Drop for Scratch {
        /// Part of the clean-up, so it must not panic if the terminal is gone, as `println!` does.
        fn drop(&mut self) {
            let _ = match fs::remove_dir_all(&self.path) {
                Ok(()) => writeln!(stdout(), "library: scratch files removed"),
                Err(error) => writeln!(stderr(), "library: {}: {error}", self.path.display()),
            };
        }
    }
}

/// How long a page takes.
const PAGE: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pages = std::env::args().nth(1).map_or(Ok(50), |pages| pages.parse())?;
    if std::env::args().nth(2).is_some_and(|second| second == "guarded") {
        let guard = HandleExit::new(|| drop(writeln!(stdout(), "program: stopping")))?;
        render(pages);
        guard.wait();
    } else {
        // This program knows nothing of guards: it has handlers that set a flag, as many programs do.
        let stop = Arc::new(AtomicBool::new(false));
        set_on_signals(&stop)?;
        render(pages);
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(PAGE);
        }
        let _ = writeln!(stdout(), "program: my own handler was called, goodbye");
    }
    Ok(())
}

fn render(pages: usize) {
    let _ = match library::render(pages) {
        Ok(()) => writeln!(stdout(), "program: rendered {pages} pages"),
        Err(error) => writeln!(stdout(), "program: could not render: {error}"),
    };
}

#[cfg(unix)]
fn set_on_signals(flag: &Arc<AtomicBool>) -> std::io::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

#[cfg(windows)]
fn set_on_signals(flag: &Arc<AtomicBool>) -> Result<(), ctrlc::Error> {
    let flag = Arc::clone(flag);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
}
