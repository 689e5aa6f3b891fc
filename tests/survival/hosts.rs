//! Odd hosts: plugins that are unloaded, limits, closed ends, and a main thread that is gone.

#![allow(unsafe_code, reason = "limits and loaded code are the test's subject")]

use std::ffi::{CString, c_char, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::support::*;
use handle_exit::{HandleExit, Signal};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

// ----------------------------------------------------------------------------- scenarios: a plugin

static CHAINED: AtomicUsize = AtomicUsize::new(0);

/// A foreign handler that goes on to call the one that it found.
extern "C" fn foreign(raw: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut c_void);
    say_in_handler("foreign handler\n");
    // SAFETY: a handler of three arguments was found.
    let found = unsafe { std::mem::transmute::<usize, Handler>(CHAINED.load(SeqCst)) };
    found(raw, info, context);
}

fn plugin() -> std::path::PathBuf {
    std::env::current_exe().unwrap().with_file_name("libhandle_exit_plugin.so")
}

fn unloads_a_plugin() {
    let path = CString::new(plugin().into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: the library's initialisers do nothing; those are its functions, without arguments.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null());
        let library = library as usize;
        let call = move |name: *const c_char| {
            let function = libc::dlsym(library as *mut c_void, name);
            assert!(!function.is_null());
            std::mem::transmute::<*mut c_void, extern "C" fn()>(function)();
        };
        // On threads that end: what they had thread-local does not keep the library.
        std::thread::spawn(move || call(c"plugin_begins".as_ptr())).join().unwrap();
        CHAINED.store(disposition(Signal::TERM).0, SeqCst);
        install_exactly(Signal::TERM, foreign as *const () as usize, libc::SA_SIGINFO, &[]);
        let ways: &[&std::ffi::CStr] = match told::<String>().as_str() {
            "one" => &[c"plugin_ends"],
            "oldest first" => &[c"plugin_goes_on", c"plugin_ends", c"plugin_ends_second"],
            "newest first" => &[c"plugin_goes_on", c"plugin_ends_second", c"plugin_ends"],
            other => panic!("{other}"),
        };
        for &function in ways {
            std::thread::spawn(move || call(function.as_ptr())).join().unwrap();
        }
        assert_eq!(libc::dlclose(library as *mut c_void), 0);
    }
    raise(Signal::TERM);
    say("behind");
}

// ------------------------------------------------------------------- scenarios: limits and closed ends

fn may_have_no_pending_signal() {
    let signal = Signal::from_raw(libc::SIGRTMIN() + 1).unwrap();
    let guard = HandleExit::builder().signals([signal]).grace(Duration::ZERO);
    let _guard = guard.install(|| say("callback")).unwrap();
    setrlimit(Resource::RLIMIT_SIGPENDING, 0, 0).unwrap();
    ready_for_ever();
}

/// Only Rust up to 1.87 writes to a socket without `MSG_NOSIGNAL`.
fn closes_its_descriptor() {
    install_exactly(Signal::PIPE, libc::SIG_DFL, 0, &[]);
    let guard = HandleExit::new(|| say("callback")).unwrap();
    drop(guard.readable_fd().unwrap());
    guard.request();
    drop(guard);
    say("behind");
}

// -------------------------------------------------------------------- scenarios: main has ended

unsafe extern "C-unwind" {
    fn pthread_exit(value: *mut c_void) -> !;
}

/// Ends the main thread.
extern "C-unwind" fn end_main() {
    // SAFETY: there is nothing on this stack that is to be dropped.
    unsafe { pthread_exit(std::ptr::null_mut()) }
}

/// glibc unwinds, which Rust's frames do not let pass: from a stack that has none.
#[cfg(target_env = "gnu")]
fn end_main_here() {
    // SAFETY: the same but for the unwinding, which ends at the first frame.
    crate::support::until_jump(unsafe {
        std::mem::transmute::<extern "C-unwind" fn(), extern "C" fn()>(end_main)
    });
}

#[cfg(not(target_env = "gnu"))]
fn end_main_here() {
    end_main();
}

fn main_has_ended() {
    let what: String = told();
    let guard = HandleExit::cleanup(|| say("callback")).unwrap();
    guard.defer(|| say("deferred")).unwrap();
    guard.keep();
    let main = std::process::id();
    std::thread::spawn(move || {
        let stat = format!("/proc/self/task/{main}/stat");
        until("main has ended", || std::fs::read_to_string(&stat).unwrap().contains(") Z "));
        say("ready");
        if what == "signal" {
            park()
        }
        std::process::exit(3);
    });
    end_main_here();
}

// ---------------------------------------------------------------------------------------- tests

fn a_handler_outlives_its_plugin() {
    if !plugin().exists() {
        return say("skipped: plugin: this target has no shared libraries");
    }
    for guards in ["one", "oldest first", "newest first"] {
        let end = Victim::start(unloads_a_plugin.told(guards)).end();
        end.said(&["foreign handler", "behind"]).exited(0);
    }
}

fn a_real_time_signal_kills_without_a_queue() {
    let victim = Victim::ready(may_have_no_pending_signal);
    let signal = Signal::from_raw(libc::SIGRTMIN() + 1).unwrap();
    victim.send(signal);
    victim.end().said(&["ready", "callback"]).died_by(signal);
}

fn a_closed_descriptor_is_no_sigpipe() {
    Victim::start(closes_its_descriptor).end().said(&["callback", "behind"]).exited(0);
}

fn main_ends(what: &str) -> Victim {
    Victim::ready(main_has_ended.told(what))
}

const ENDED: [&str; 3] = ["ready", "callback", "deferred"];

fn a_signal_is_heard_after_the_end_of_main() {
    let victim = main_ends("signal");
    victim.send(Signal::TERM);
    victim.end().said(&ENDED).died_by(Signal::TERM);
}

fn another_thread_exits_after_the_end_of_main() {
    main_ends("exit").end().said(&ENDED).exited(3);
}

pub(crate) const TESTS: &[Named] = tests![
    a_handler_outlives_its_plugin,
    a_real_time_signal_kills_without_a_queue,
    a_closed_descriptor_is_no_sigpipe,
    a_signal_is_heard_after_the_end_of_main,
    another_thread_exits_after_the_end_of_main,
];
