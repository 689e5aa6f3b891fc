//! The `main` of a test binary, and its list of tests.

use libtest_mimic::{Arguments, Failed, Trial};

use super::Victim;
use super::scenario::{Scenario, run_as_victim};
#[cfg(unix)]
use super::signals::reset_signals;
#[cfg(windows)]
use super::windows::reset_signals;

/// A test, under its name with all modules, such as `process::routes::scope_end_runs_the_callback`.
#[derive(Clone, Copy)]
pub struct Named {
    pub name: &'static str,
    pub test: fn(),
    /// Whether it is run in a process of its own, because it judges what happens inside of one.
    pub alone: bool,
}

/// The tests of a module: `tests![a, b]`. Those that are to be run in a process of their own, which then has
/// to end with 0, come last: `tests![a, b; alone: c, d]`. A function in no list is dead code.
macro_rules! tests {
    ($($(#[$attr:meta])* $test:ident),* $(,)? $(; alone: $($(#[$own:meta])* $alone:ident),* $(,)?)?) => { &[
        $($(#[$attr])* $crate::support::Named {
            name: concat!(module_path!(), "::", stringify!($test)),
            test: $test,
            alone: false,
        },)*
        $($($(#[$own])* $crate::support::Named {
            name: concat!(module_path!(), "::", stringify!($alone)),
            test: $alone,
            alone: true,
        },)*)?
    ] };
}
pub(crate) use tests;

/// The `main` of a test binary: what its modules have to test, or one scenario.
pub fn main(modules: &[&[Named]]) {
    run(modules, Arguments::from_args);
}

/// As `main`, with one test at a time, so that each may press ^C, which this process does not hear.
#[cfg(windows)]
pub fn main_one_by_one(modules: &[&[Named]]) {
    run(modules, || {
        super::hear_no_ctrl_c();
        Arguments { test_threads: Some(1), ..Arguments::from_args() }
    });
}

fn run(modules: &[&[Named]], arguments: fn() -> Arguments) {
    if run_as_victim() {
        return;
    }
    // Victims inherit what this process ignores and blocks: nothing, also where the tests themselves
    // run under `nohup` or in the background of a shell.
    reset_signals();
    let tests = modules.iter().copied().flatten().map(|named| {
        let Named { name, test, alone } = *named;
        // Without the name of the binary, which cargo says.
        let short = name.split_once("::").map_or(name, |(_, rest)| rest);
        Trial::test(short, move || -> Result<(), Failed> {
            // A failed assertion is a panic, which libtest-mimic reports.
            if alone {
                let end = Victim::start(Scenario::named(test, name)).end();
                end.exited(0);
                end.is_skipped();
            } else {
                test();
            }
            Ok(())
        })
    });
    let mut arguments = arguments();
    // The tests wait for events of other processes most of the time.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(TESTS_A_PROCESSOR * processors);
    libtest_mimic::run(&arguments, tests.collect()).exit();
}

/// How many tests run at once. An event of the console reaches them all: on Windows they take turns anyway.
const TESTS_A_PROCESSOR: usize = if cfg!(windows) { 1 } else { 4 };
