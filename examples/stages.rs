//! A deployment script in stages. Each stage defers what undoes it, so that the script leaves nothing
//! half done, wherever it ends.
//!
//! ```text
//! cargo run --example stages /tmp/site
//! ```
//!
//! Each Enter starts the next of four stages. Press ^C in the middle: what has been done so far is
//! undone, the last stage first, and the script is killed by the signal, so that a script around it stops
//! too. The same happens if a stage fails: try `cargo run --example stages /tmp/site fail`. After
//! the last stage `/tmp/site/current` names the new release, and only the lock and the maintenance page
//! are removed.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{env, fs, io};

use handle_exit::{Deferred, Exit, HandleExit, Outcome};

/// What the script waits for before each stage.
enum Step {
    Go,
    Stop,
}

fn main() -> Result<Outcome, Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let site = PathBuf::from(arguments.next().ok_or("usage: stages DIRECTORY [fail]")?);
    let fails = arguments.next().is_some_and(|argument| argument == "fail");

    // A signal does not cut a stage short: no deadline applies to the stage that is under way. A
    // second ^C ends the wait for it.
    let (enter, steps) = channel();
    let stop = enter.clone();
    let guard =
        HandleExit::builder().grace(Duration::MAX).install(move || drop(stop.send(Step::Stop)))?;

    std::thread::spawn(move || {
        for _ in io::stdin().lines() {
            let _ = enter.send(Step::Go);
        }
        let _ = enter.send(Step::Stop); // Standard input has ended: nobody can press Enter.
    });

    let result = deploy(&site, fails, &guard, &steps);
    let outcome = guard.finish(); // Undoes what is still deferred, the last one first.
    match result {
        Err(error) if outcome.signal().is_none() => Err(error),
        _ => Ok(outcome),
    }
}

fn deploy(
    site: &Path,
    fails: bool,
    exit: &Exit,
    steps: &Receiver<Step>,
) -> Result<(), Box<dyn Error>> {
    stage("1: lock the site", steps)?;
    let lock = site.join("lock");
    fs::create_dir_all(site)?;
    fs::File::create_new(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    undo(exit, "lock the site", move || fs::remove_file(lock))?;

    stage("2: unpack the release", steps)?;
    let release = site.join(format!("release.{}", std::process::id()));
    fs::create_dir(&release)?;
    let gone = release.clone();
    let unpacked = undo(exit, "unpack the release", move || fs::remove_dir_all(gone))?;
    fs::write(release.join("index.html"), "Hello, again.\n")?;

    stage("3: put up the maintenance page", steps)?;
    let page = site.join("maintenance.html");
    fs::write(&page, "Back in a minute.\n")?;
    undo(exit, "put up the maintenance page", move || fs::remove_file(page))?;

    stage("4: switch over", steps)?;
    if fails {
        return Err("the new release does not start".into());
    }
    // This file tells the server where its pages are. The rename is atomic.
    let next = site.join("current.new");
    fs::write(&next, release.to_string_lossy().as_ref())?;
    fs::rename(next, site.join("current"))?;

    unpacked.cancel(); // The release stays.
    let _ = writeln!(io::stdout(), "deployed");
    Ok(())
}

/// Waits for Enter, which stands for the time that a stage takes.
fn stage(name: &str, steps: &Receiver<Step>) -> Result<(), Box<dyn Error>> {
    let _ = writeln!(io::stdout(), "stage {name} (Enter or ^C)");
    match steps.recv()? {
        Step::Go => Ok(()),
        Step::Stop => Err("interrupted".into()),
    }
}

/// Defers what undoes a stage.
fn undo(
    exit: &Exit,
    name: &'static str,
    function: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<Deferred, handle_exit::Error> {
    // `writeln!`, since `println!` panics if the terminal is gone.
    exit.defer(move || {
        let _ = match function() {
            Ok(()) => writeln!(io::stdout(), "undone: {name}"),
            // The others are undone all the same.
            Err(error) => writeln!(io::stderr(), "could not undo: {name}: {error}"),
        };
    })
}
