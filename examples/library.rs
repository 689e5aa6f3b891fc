//! A library inside somebody else's program, which has signal handlers of its own.
//!
//! ```text
//! cargo run --example library
//! ```
//!
//! The program renders pages with the library, which keeps its scratch files in a directory of its
//! own. Press ^C while it renders: the library removes the directory, then the program's own handler
//! runs as if the library were not there, and the program ends as it always did. Wait until it has
//! rendered, and ^C is handled by the program alone: the library has put everything back.
//! `cargo run --example library 3` renders 3 pages instead of 50. With `3 guarded` the program has a
//! guard of its own instead of handlers, and the library adds its clean-up to that one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use handle_exit::HandleExit;

mod library {
    use std::io::{Error, Result};
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};
    use std::{env, fs, process};

    use handle_exit::{Exit, HandleExit};

    /// Renders pages, with scratch files that are gone afterwards, however this ends.
    ///
    /// # Errors
    /// What the file system says, or that a signal interrupted it.
    pub(super) fn render(pages: usize) -> Result<()> {
        let scratch = Arc::new(Scratch::create()?);
        let remove = {
            let scratch = Arc::clone(&scratch);
            move || scratch.remove()
        };

        // A process has one guard. If the program made it, the clean-up is added to that one.
        if let Some(exit) = Exit::current() {
            let staged = exit.defer(remove).map_err(Error::other)?;
            let result = render_in(&scratch, pages, &exit);
            if staged.cancel() {
                scratch.remove();
            }
            return result;
        }

        // `append`: this is the program's process and these are the program's signals. On a signal the
        // directory goes first, then the program's handler runs and decides what comes next. Where
        // it has none, `render` returns within the 5 seconds that this guard gives it.
        let guard = HandleExit::append(remove).map_err(Error::other)?;
        render_in(&scratch, pages, &guard)
        // The guard is dropped here: the directory is removed, the program's handlers are back.
    }

    fn render_in(scratch: &Scratch, pages: usize, exit: &Exit) -> Result<()> {
        println!("library: rendering in {}", scratch.path.display());
        for page in 0..pages {
            scratch.write(&format!("page-{page}"), exit)?;
            std::thread::sleep(super::PAGE);
        }
        Ok(())
    }

    struct Scratch {
        path: PathBuf,
        /// On a signal the directory is removed on another thread, which must not happen in the
        /// middle of a write.
        writing: Mutex<()>,
    }

    impl Scratch {
        fn create() -> Result<Scratch> {
            let path = env::temp_dir().join(format!("scratch-{}", process::id()));
            fs::create_dir(&path)?;
            Ok(Scratch { path, writing: Mutex::new(()) })
        }

        fn write(&self, name: &str, exit: &Exit) -> Result<()> {
            let _writing = self.writing.lock().unwrap();
            if exit.is_exiting() {
                return Err(Error::other("interrupted"));
            }
            fs::write(self.path.join(name), "…")
        }

        fn remove(&self) {
            let _writing = self.writing.lock().unwrap();
            match fs::remove_dir_all(&self.path) {
                Ok(()) => println!("library: scratch files removed"),
                Err(error) => eprintln!("library: {}: {error}", self.path.display()),
            }
        }
    }
}

/// How long a page takes.
const PAGE: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pages = std::env::args().nth(1).map_or(Ok(50), |pages| pages.parse())?;
    if std::env::args().nth(2).is_some_and(|second| second == "guarded") {
        let guard = HandleExit::new(|| println!("program: stopping"))?;
        render(pages);
        guard.wait();
    } else {
        // This program knows nothing of guards: it has handlers that set a flag, as many programs do.
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        render(pages);
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(PAGE);
        }
        println!("program: my own handler was called, goodbye");
    }
    Ok(())
}

fn render(pages: usize) {
    match library::render(pages) {
        Ok(()) => println!("program: rendered {pages} pages"),
        Err(error) => println!("program: could not render: {error}"),
    }
}
