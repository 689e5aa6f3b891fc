//! Scenarios: what a victim runs. A function says where it is in this program, and the victim, which is the
//! same program, finds it there; so there is no list of them, and no name that is written twice.

use std::fmt::{self, Display};
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::sync::{Condvar, Mutex};

use handle_exit::{HandleExit, Signal};

use super::{DEADLINE, park, raise};

/// Which scenario this process is to run: how far behind `landmark` it lies, and its name.
const SCENARIO: &str = "HANDLE_EXIT_SCENARIO";

/// What the scenario is told, for those that act out a row of a table.
const ARGUMENT: &str = "HANDLE_EXIT_ARGUMENT";

/// A function that a victim runs in its `main`.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    function: fn(),
    name: &'static str,
}

impl Scenario {
    /// A function by its own name, or a closure that captures nothing.
    pub fn of<F: Fn() + Copy>(_: F) -> Scenario {
        Scenario { function: call::<F>, name: std::any::type_name::<F>() }
    }

    pub fn named(function: fn(), name: &'static str) -> Scenario {
        Scenario { function, name }
    }
}

/// Calls a function that is known by its type alone.
fn call<F: Fn() + Copy>() {
    const { assert!(size_of::<F>() == 0, "it captures something, or is a pointer") };
    // SAFETY: a value without bytes, of a type that has a value and is Copy.
    let function = unsafe { std::ptr::NonNull::<F>::dangling().read() };
    function();
}

/// For tables and lists of scenarios: `scenarios![a, b]`.
macro_rules! scenarios {
    ($($scenario:expr),* $(,)?) => { [$($crate::support::Scenario::of($scenario)),*] };
}
pub(crate) use scenarios;

impl Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A victim that is about to be started.
pub struct Start {
    pub name: String,
    pub command: Command,
}

/// What can be started as a victim: a function, `Scenario::of` one, any other command, or one of them with more
/// around it.
pub trait Play: Sized {
    fn start(self) -> Start;

    /// Saying more of itself than a name, in the message of a test that fails.
    fn named(self, what: impl Display) -> Start {
        let mut start = self.start();
        start.name = format!("{}: {what}", start.name);
        start
    }

    /// With an argument, which the scenario is `told`.
    fn told(self, argument: impl Display) -> Start {
        let mut start = self.start();
        start.name = format!("{}, told {argument}", start.name);
        start.command.env(ARGUMENT, argument.to_string());
        start
    }

    /// Under another program, such as a shell, which gets this one as its last argument.
    fn under(self, program: &str, arguments: &[&str]) -> Start {
        let Start { name, command: inner } = self.start();
        let mut command = Command::new(program);
        command.args(arguments).arg(inner.get_program());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Start { name: format!("{name}, under {program}"), command }
    }
}

impl<F: Fn() + Copy> Play for F {
    fn start(self) -> Start {
        Scenario::of(self).start()
    }
}

impl Play for Scenario {
    fn start(self) -> Start {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let distance = (self.function as usize).wrapping_sub(place_of_landmark());
        command.env(SCENARIO, format!("{distance} {}", self.name));
        Start { name: self.name.into(), command }
    }
}

impl Play for Command {
    fn start(self) -> Start {
        let program = Path::new(self.get_program()).file_name().unwrap().to_string_lossy();
        Start { name: program.into_owned(), command: self }
    }
}

impl Play for Start {
    fn start(self) -> Start {
        self
    }
}

/// A place in the program, wherever that has been loaded.
fn landmark() {}

fn place_of_landmark() -> usize {
    landmark as fn() as usize
}

/// Runs the scenario of this process, if it has one.
pub(super) fn run_as_victim() -> bool {
    let Ok(scenario) = std::env::var(SCENARIO) else { return false };
    let (distance, _name) = scenario.split_once(' ').unwrap();
    let place = place_of_landmark().wrapping_add(distance.parse().unwrap());
    // SAFETY: the same program said so, about a function of this type.
    let function = unsafe { std::mem::transmute::<usize, fn()>(place) };
    #[cfg(unix)]
    super::privileges::no_core_file();
    #[cfg(windows)]
    super::windows::no_core_file();
    function();
    true
}

// ------------------------------------------------------------------------------ in the scenario

/// Says a line to the test, at once.
pub fn say(line: impl Display) {
    println!("{line}");
}

/// Waits for a line from the test.
pub fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// What the test told this scenario with `Play::told`.
pub fn told<T: FromStr<Err: std::fmt::Debug>>() -> T {
    std::env::var(ARGUMENT).unwrap().parse().unwrap()
}

/// Ends as the scenario is told: by `drop`, `exit` (with 3), or a `signal` that it sends itself.
pub fn end_as_told(guard: HandleExit) {
    match told::<String>().as_str() {
        "drop" => drop(guard),
        "exit" => exit(3),
        "signal" => {
            raise(Signal::TERM);
            park();
        }
        other => panic!("{other}"),
    }
}

/// Says that the scenario is ready for signals, and waits for ever.
pub fn ready_for_ever() -> ! {
    say("ready");
    park()
}

/// How far `held_callback` has come. Waited for without polling: a victim that polls is never at rest.
static HELD: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

fn held_has_come_to(step: usize) {
    *HELD.0.lock().unwrap() = step;
    HELD.1.notify_all();
}

fn until_held_comes_to(step: usize) {
    let held = HELD.0.lock().unwrap();
    let waited = HELD.1.wait_timeout_while(held, DEADLINE, |come_to| *come_to < step).unwrap();
    assert!(!waited.1.timed_out(), "the callback is not at step {step} in time");
}

/// A callback that says when it begins and, once the test has told it to go on, when it ends.
pub fn held_callback() {
    say("callback begins");
    held_has_come_to(1);
    hear();
    say("callback ends");
    held_has_come_to(2);
}

/// Waits until `held_callback` has begun, on another thread.
pub fn until_held() {
    until_held_comes_to(1);
}

/// Waits until `held_callback` has ended, on another thread.
pub fn until_let_go() {
    until_held_comes_to(2);
}

/// Says a line when it is dropped: proof that what a closure captured was freed.
pub struct SaysWhenFreed<T: Display>(pub T);

impl<T: Display> Drop for SaysWhenFreed<T> {
    fn drop(&mut self) {
        say(&self.0);
    }
}

/// Ends this process with a code in the way that runs the guards: on Windows that is the crate's own.
pub fn exit(code: i32) -> ! {
    #[cfg(unix)]
    std::process::exit(code);
    #[cfg(windows)]
    handle_exit::exit(code);
}

/// Whether `exit` runs what is registered with `at_exit`. Return from `main` does, everywhere.
pub const EXIT_RUNS_EXIT_FUNCTIONS: bool = cfg!(unix);

/// Registers an exit function with the C library.
pub fn at_exit(function: extern "C" fn()) {
    unsafe extern "C" {
        fn atexit(function: extern "C" fn()) -> std::ffi::c_int;
    }
    // SAFETY: a function without arguments that does not unwind.
    assert_eq!(unsafe { atexit(function) }, 0);
}

/// An exit function that says it has run.
pub extern "C" fn says_exit_function() {
    super::say_in_handler("libc exit function\n");
}
