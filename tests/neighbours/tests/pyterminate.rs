//! What README.md and docs/neighbours.md say of the Python package pyterminate, checked on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::*;
use handle_exit::Signal;

const VERSION: &str = "0.0.8";

/// The directory with the package, or why there is none. Fetched once, into the target directory.
fn package() -> &'static Result<PathBuf, String> {
    static PACKAGE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let package = directory.join(format!("pyterminate-{VERSION}"));
        if package.exists() {
            return Ok(package);
        }
        // Under its name once it is whole.
        let half = directory.join(format!("pyterminate-{}", std::process::id()));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--retries=1", "--timeout=10"]);
        pip.args(["--disable-pip-version-check", "--target"]).arg(&half);
        pip.arg(format!("pyterminate=={VERSION}")).stdin(Stdio::null());
        let output = pip.output().map_err(|error| format!("no python3: {error}"))?;
        if !output.status.success() {
            return Err(format!("pip: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        match std::fs::rename(&half, &package) {
            // Somebody else was quicker.
            Err(_) if package.exists() => {}
            renamed => renamed.map_err(|error| error.to_string())?,
        }
        Ok(package)
    })
}

/// A Python program that uses the package, once it has said `ready`; nothing where it is not to be had.
fn python(test: &str, program: &str) -> Option<Victim> {
    let package = match package() {
        Ok(package) => package,
        Err(why) => {
            println!("skipped: {test}: {why}");
            return None;
        }
    };
    let mut command = Command::new("python3");
    command.args(["-c", program]).env("PYTHONPATH", package);
    Some(Victim::ready(command.named(test)))
}

fn commands_that_the_clean_up_of_pyterminate_starts_inherit_the_ignored_signal() {
    let program = "
import pyterminate, subprocess, time

@pyterminate.register
def clean_up():
    subprocess.run(['grep', 'SigIgn', '/proc/self/status'])

print('ready', flush=True)
while True:
    time.sleep(0.001)
";
    let Some(mut victim) = python("inherits", program) else { return };
    victim.send(Signal::TERM);
    let ignored = victim.expect_prefix("SigIgn:");
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    assert_ne!(ignored & signal_bit(Signal::TERM), 0, "{ignored:x}");
}

fn pyterminate_ignores_the_signal_for_ever_when_the_function_raises() {
    let program = "
import pyterminate, signal, time

@pyterminate.register
def clean_up():
    raise ValueError

try:
    print('ready', flush=True)
    while True:
        time.sleep(0.001)
except ValueError:
    print('ignored:', signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)
";
    let Some(victim) = python("raises", program) else { return };
    victim.send(Signal::TERM);
    victim.end().exited(0).ended_with("ignored: True");
}

fn pyterminate_exits_with_the_number_of_the_signal_and_does_not_die_of_it() {
    let program = "
import pyterminate, time

@pyterminate.register
def clean_up():
    print('callback', flush=True)

print('ready', flush=True)
while True:
    time.sleep(0.001)
";
    let Some(victim) = python("exits", program) else { return };
    victim.send(Signal::TERM);
    victim.end().exited(Signal::TERM.as_raw()).said(&["ready", "callback"]);
}

pub(crate) const TESTS: &[Named] = tests![
    commands_that_the_clean_up_of_pyterminate_starts_inherit_the_ignored_signal,
    pyterminate_ignores_the_signal_for_ever_when_the_function_raises,
    pyterminate_exits_with_the_number_of_the_signal_and_does_not_die_of_it,
];
