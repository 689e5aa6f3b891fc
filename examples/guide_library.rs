//! Shown in the guide: a library inside somebody's program.

use handle_exit::HandleExit;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The library's function. Several threads may call it at once.
fn render(pages: u32) -> io::Result<()> {
    let scratch = Arc::new(Mutex::new(None)); // no directory before there is a guard
    let removed = Arc::clone(&scratch);
    let guard = HandleExit::append(move || *lock(&removed) = None).map_err(io::Error::other)?;
    for page in 0..pages {
        // One step: the callback waits for it, removes the directory, and no further step begins.
        let mut scratch = lock(&scratch);
        if guard.is_exiting() {
            return Err(io::Error::other("interrupted"));
        }
        let directory = match &mut *scratch {
            Some(directory) => directory,
            none => none.insert(Scratch::create()?),
        };
        directory.write(page)?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    render(1000)
}

/// Also after a panic of the thread that held it: there is still something to remove.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Scratch(std::path::PathBuf);

impl Scratch {
    fn create() -> io::Result<Scratch> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::path::absolute(format!("scratch-{process}-{number}"))?;
        std::fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    fn write(&self, page: u32) -> io::Result<()> {
        std::fs::write(self.0.join(format!("page-{page}")), "…")?;
        say(&format!("page {page}"));
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(io::stdout(), "{text}");
}
