//! The neighbours: how each takes a signal, and how one sees that it has heard it. Each of them makes
//! its process say `neighbour`.

pub(crate) mod cpython;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use gix_tempfile::{AutoRemove, ContainingDirectory, signal::handler::Mode};
use handle_exit::Signal;
use libloading::{Library, Symbol};
use nix::libc::c_int;

use crate::support::{at_exit, say, until};

/// Where a handler lies.
pub(crate) enum Object {
    /// Linked into the program.
    Program,
    /// A shared library whose file name begins so.
    Library(&'static str),
}

pub(crate) struct Neighbour {
    pub(crate) name: &'static str,
    /// The first of TERM and INT that it takes.
    pub(crate) signal: Signal,
    /// Takes the signal; from its return on the process says `neighbour` each time that it comes.
    pub(crate) start: fn(),
    /// Whose handler it is,
    pub(crate) object: Object,
    /// and its name, where the dynamic linker knows it.
    pub(crate) symbol: Option<&'static str>,
    /// Whether this machine has it; if not, why.
    pub(crate) available: fn() -> Result<(), String>,
}

impl Neighbour {
    pub(crate) const ALL: &[Neighbour] = &[
        linked("ctrlc", ctrlc),
        linked("signal-hook, flag", signal_hook_flag),
        linked("signal-hook, iterator", signal_hook_iterator),
        linked("tokio::signal", tokio_signal),
        linked("async-signal", async_signal),
        linked("gix-tempfile", gix_tempfile),
        linked("C, signal()", || {
            // SAFETY: installs a handler that only calls write(2).
            unsafe { c_signal(Signal::TERM.as_raw()) };
        }),
        linked("C, sigaction()", || {
            // SAFETY: as above.
            unsafe { c_sigaction(Signal::TERM.as_raw()) };
        }),
        Neighbour {
            object: Object::Library("libc_neighbour.so"),
            symbol: Some("on_signal"),
            ..linked("shared library, signal()", || call_c_library("c_signal"))
        },
        Neighbour {
            object: Object::Library("libc_neighbour.so"),
            symbol: Some("on_sigaction"),
            ..linked("shared library, sigaction()", || call_c_library("c_sigaction"))
        },
        Neighbour {
            signal: Signal::INT,
            object: Object::Library("libpython3"),
            available: || cpython::library().map(drop),
            ..linked("CPython", cpython::start)
        },
        Neighbour {
            object: Object::Library("libgo_neighbour.so"),
            available: || go_library().map(drop),
            ..linked("Go", go)
        },
    ];

    pub(crate) fn named(name: &str) -> &'static Neighbour {
        let known = Neighbour::ALL.iter().find(|neighbour| neighbour.name == name);
        known.unwrap_or_else(|| panic!("no neighbour {name}"))
    }
}

/// A neighbour that is part of the test program and takes TERM.
const fn linked(name: &'static str, start: fn()) -> Neighbour {
    let (signal, object, symbol) = (Signal::TERM, Object::Program, None);
    Neighbour { name, signal, start, object, symbol, available: || Ok(()) }
}

fn ctrlc() {
    ctrlc::set_handler(|| say("neighbour")).unwrap();
}

fn signal_hook_flag() {
    let heard = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(Signal::TERM.as_raw(), Arc::clone(&heard)).unwrap();
    thread::spawn(move || {
        loop {
            until("for as long as the test lasts", || heard.swap(false, SeqCst));
            say("neighbour");
        }
    });
}

fn signal_hook_iterator() {
    let mut signals = signal_hook::iterator::Signals::new([Signal::TERM.as_raw()]).unwrap();
    thread::spawn(move || signals.forever().for_each(|_| say("neighbour")));
}

fn tokio_signal() {
    let (listens, listening) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async move {
            let mut term =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            listens.send(()).unwrap();
            while term.recv().await.is_some() {
                say("neighbour");
            }
        });
    });
    listening.recv().unwrap();
}

fn async_signal() {
    use futures_lite::{StreamExt, future::block_on};
    let mut signals = async_signal::Signals::new([async_signal::Signal::Term]).unwrap();
    thread::spawn(move || {
        block_on(async {
            while signals.next().await.is_some() {
                say("neighbour");
            }
        });
    });
}

/// In the mode in which its handler returns: each signal takes the file away.
fn gix_tempfile() {
    gix_tempfile::signal::setup(Mode::DeleteTempfilesOnTermination);
    at_exit(remove_the_last_file);
    let mut file = registered_file();
    thread::spawn(move || {
        loop {
            until("for as long as the test lasts", || !file.exists());
            let _going_on = GOES_ON.lock().unwrap();
            // Ready for the next one before it speaks.
            file = registered_file();
            say("neighbour");
        }
    });
}

/// Held by who looks after the file, in the end for ever.
static GOES_ON: Mutex<()> = Mutex::new(());

extern "C" fn remove_the_last_file() {
    std::mem::forget(GOES_ON.lock());
    gix_tempfile::registry::cleanup_tempfiles();
}

/// In the mode in which its handler then dies of the signal.
pub(crate) fn gix_tempfile_in_its_default_mode() {
    gix_tempfile::signal::setup(Mode::default());
    say(format!("file {}", registered_file().display()));
}

/// A new file that gix-tempfile is to remove.
fn registered_file() -> PathBuf {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let name =
        format!("handle-exit-neighbours-{}-{}", std::process::id(), MADE.fetch_add(1, SeqCst));
    let path = std::env::temp_dir().join(name);
    let file =
        gix_tempfile::mark_at(&path, ContainingDirectory::Exists, AutoRemove::Tempfile).unwrap();
    // Its Drop would remove it.
    std::mem::forget(file);
    path
}

unsafe extern "C" {
    fn c_signal(number: c_int);
    fn c_sigaction(number: c_int);
}

/// Loads a library for as long as the process lives: handlers lie in it.
pub(crate) fn load(path: impl AsRef<Path>) -> Result<&'static Library, libloading::Error> {
    // SAFETY: the libraries of these tests do nothing of concern when they are loaded.
    let library = unsafe { Library::new(path.as_ref()) }?;
    Ok(Box::leak(Box::new(library)))
}

fn call_c_library(name: &str) {
    let library = load(env!("C_NEIGHBOUR")).unwrap();
    // SAFETY: that is the type of both functions in c/handlers.c.
    unsafe {
        let take: Symbol<unsafe extern "C" fn(c_int)> = library.get(name.as_bytes()).unwrap();
        take(Signal::TERM.as_raw());
    }
}

pub(crate) fn go_library() -> Result<&'static str, String> {
    option_env!("GO_NEIGHBOUR").ok_or_else(|| {
        option_env!("NO_GO_NEIGHBOUR").unwrap_or("the build did not look for Go").to_owned()
    })
}

fn go() {
    call_go("go_notify");
}

/// Starts Go, and goroutines that never rest. It takes no signal of its own.
pub(crate) fn go_spin() {
    call_go("go_spin");
}

fn call_go(name: &str) {
    let library = load(go_library().unwrap()).unwrap();
    // SAFETY: that is the type of both functions in go/notify.go.
    unsafe {
        let function: Symbol<unsafe extern "C" fn()> = library.get(name.as_bytes()).unwrap();
        function();
    }
}
