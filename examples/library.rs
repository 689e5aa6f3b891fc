//! A library inside somebody else's program, which has signal handlers of its own.
//!
//! ```text
//! cargo run --example library
//! ```
//!
//! The program renders pages with the library, which keeps its scratch files in a directory of its
//! own. Press ^C while it renders: the library removes the directory, then the program's own handler
//! runs as if the library were not there, and the program ends as it always did. Without ^C it
//! waits after some seconds of rendering; a ^C then is handled by the program alone: the library has left no
//! trace. `cargo run --example library 3` renders 3 pages instead of 50.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod library {
    use std::io::{Error, Result};
    use std::path::{Path, PathBuf};
    use std::{env, fs, process};

    use handle_exit::{ExitHandle, HandleExit};

    /// Renders pages, with scratch files that are gone afterwards, however this ends. Fails with
    /// "interrupted" if a signal came meanwhile.
    ///
    /// # Errors
    /// What the file system says, or that it was interrupted.
    pub(super) fn render(pages: usize) -> Result<()> {
        let scratch = env::temp_dir().join(format!("scratch-{}", process::id()));
        fs::create_dir(&scratch)?;

        // If the program has a guard, there is no second one: what has to be removed is deferred there.
        if let Some(exit) = ExitHandle::current() {
            let staged = exit.defer(remove(&scratch)).map_err(Error::other)?;
            let result = render_in(&scratch, pages, &exit);
            if staged.cancel() {
                remove(&scratch)();
            }
            return result;
        }

        // `append`: this is the program's process and these are the program's signals. On a signal the
        // directory goes first, then the program's handler runs and decides what comes next. Where
        // it has none, `render` returns within the 5 seconds that this guard gives it.
        let guard = HandleExit::append(remove(&scratch)).map_err(Error::other)?;
        render_in(&scratch, pages, &guard)
        // The guard is dropped here: the directory is removed, the program's handlers are back.
    }

    fn remove(scratch: &Path) -> impl FnOnce() + Send + 'static {
        let scratch = PathBuf::from(scratch);
        move || {
            let _ = fs::remove_dir_all(scratch);
            println!("library: scratch files removed");
        }
    }

    fn render_in(scratch: &Path, pages: usize, exit: &ExitHandle) -> Result<()> {
        println!("library: rendering in {}", scratch.display());
        for page in 0..pages {
            if exit.is_exiting() {
                return Err(Error::other("interrupted"));
            }
            fs::write(scratch.join(format!("page-{page}")), "…")?;
            std::thread::sleep(super::PAGE);
        }
        Ok(())
    }
}

/// How long a page takes.
const PAGE: Duration = Duration::from_millis(100);

/// The program knows nothing of guards: it has handlers that set a flag, as many programs do.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pages = std::env::args().nth(1).map_or(Ok(50), |pages| pages.parse())?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }

    match library::render(pages) {
        Ok(()) => println!("program: rendered {pages} pages"),
        Err(error) => println!("program: could not render: {error}"),
    }

    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(PAGE);
    }
    println!("program: my own handler was called, goodbye");
    Ok(())
}
