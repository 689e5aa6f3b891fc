//! A deployment script in stages. Each stage defers what undoes it, so that the script leaves nothing
//! half done, wherever it ends.
//!
//! ```text
//! cargo run --example stages /tmp/site
//! ```
//!
//! Each Enter starts the next of four stages. Press ^C in the middle: what has been done so far is
//! undone, the last stage first, and the script dies of the signal, so that a script around it stops
//! too. A stage that fails is undone in the same way: try `cargo run --example stages /tmp/site fail`.
//! After the last stage `/tmp/site/current` is the new release; only the maintenance page goes.

use std::error::Error;
use std::io::{BufRead, ErrorKind, Result};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs};

use handle_exit::{Deferred, ExitHandle, HandleExit};

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let site = PathBuf::from(arguments.next().ok_or("usage: stages DIRECTORY [fail]")?);
    let fails = arguments.next().is_some_and(|argument| argument == "fail");
    fs::create_dir_all(&site)?;

    // `cleanup`, because nobody can tell this script to stop: a signal ends it where it stands. What
    // has been deferred runs after the callback, the last one first.
    let guard = HandleExit::cleanup(|| println!("cleaning up"))?;

    // A stage may be cut short at any point, so it is deferred *before* it is done, and what undoes it
    // has to bear that nothing was done yet.
    stage("1: unpack the release")?;
    let release = site.join(format!("release.{}", std::process::id()));
    let unpacked = undo(&guard, "remove the release", {
        let release = release.clone();
        move || fs::remove_dir_all(release)
    })?;
    fs::create_dir(&release)?;
    fs::write(release.join("index.html"), "Hello, again.\n")?;

    stage("2: put up the maintenance page")?;
    let page = site.join("maintenance.html");
    undo(&guard, "take down the maintenance page", {
        let page = page.clone();
        move || fs::remove_file(page)
    })?;
    fs::write(&page, "Back in a minute.\n")?;

    stage("3: switch over")?;
    let current = site.join("current");
    let before = fs::read_link(&current).ok();
    let switched = undo(&guard, "switch back", {
        let current = current.clone();
        move || match before {
            Some(before) => switch(&current, &before),
            None => fs::remove_file(current),
        }
    })?;
    switch(&current, &release)?;

    stage("4: try it")?;
    if fails {
        return Err("the new release does not work".into()); // The guard is dropped: all is undone.
    }

    // What is not to be undone any more. A signal may come in between here too: the release must not
    // be removed while it is the current one.
    let _ = unpacked.cancel();
    let _ = switched.cancel();
    println!("deployed");
    Ok(())
}

/// Waits for Enter, which stands for the time that a stage takes.
fn stage(name: &str) -> Result<()> {
    println!("stage {name} (Enter or ^C)");
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// Defers what undoes a stage.
fn undo(
    exit: &ExitHandle,
    name: &'static str,
    function: impl FnOnce() -> Result<()> + Send + 'static,
) -> std::result::Result<Deferred, handle_exit::Error> {
    exit.defer(move || match function() {
        Ok(()) => println!("undone: {name}"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        // The others run all the same.
        Err(error) => eprintln!("could not {name}: {error}"),
    })
}

/// Lets the link point at another release. Renaming makes it happen at once or not at all.
fn switch(link: &Path, target: &Path) -> Result<()> {
    let new = link.with_extension("new");
    symlink(target, &new)?;
    fs::rename(new, link)
}
