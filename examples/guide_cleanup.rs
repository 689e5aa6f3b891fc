//! Shown in the guide: a directory that is being written to, and code that cannot be told to stop.

use handle_exit::HandleExit;
use std::path::{Path, absolute};
use std::{fs, io};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (work, gone) = (absolute("work")?, absolute("work.gone")?);
    fs::create_dir(&work)?;
    let directory = work.clone();
    let _guard = HandleExit::cleanup(move || {
        // The scope keeps running: take the directory away from it, and then remove it.
        if fs::rename(directory, &gone).is_ok() {
            // Try again if a file was created meanwhile.
            while fs::remove_dir_all(&gone).is_err_and(is_not_empty) {}
        }
    })?;
    write_files(&work)?; // fails once `work` is gone; the process is killed by the signal all the same
    Ok(())
}

fn is_not_empty(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::DirectoryNotEmpty
}

fn write_files(work: &Path) -> io::Result<()> {
    use std::io::Write;
    let _ = writeln!(io::stdout(), "writing");
    for file in 0..100_000 {
        fs::write(work.join(format!("file-{}", file % 100)), "…")?;
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    Ok(())
}
