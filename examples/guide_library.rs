//! Shown in the guide: a library inside somebody's program.

use handle_exit::{Error, HandleExit};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The library's function. It may be called on several threads at once.
fn render(pages: u32) -> Result<u32, Error> {
    let scratch = Arc::new(Mutex::new(Scratch::create()));
    let removed = Arc::clone(&scratch);
    let guard = HandleExit::append(move || lock(&removed).remove())?;
    for page in 0..pages {
        // Each step holds the lock, so that the callback removes the directory between two of them.
        let scratch = lock(&scratch);
        if guard.is_exiting() {
            return Ok(page);
        }
        scratch.write(page);
    }
    Ok(pages)
}

fn main() -> Result<(), Error> {
    println!("{} pages", render(1000)?);
    Ok(())
}

/// After a panic of the thread that held it, too: there is still something to remove.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Scratch(std::path::PathBuf);

impl Scratch {
    fn create() -> Scratch {
        let path =
            std::path::absolute(format!("scratch-{:?}", std::thread::current().id())).unwrap();
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn write(&self, page: u32) {
        std::fs::write(self.0.join(format!("page-{page}")), "…").unwrap();
        println!("page {page}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }

    fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where no guard was made, too.
impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}
