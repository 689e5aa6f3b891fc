//! A plugin that guards its work.

use std::sync::Mutex;

use handle_exit_copy::HandleExit;

static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);

/// Begins the work. Called on a thread of its own, as plugins often are.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_begins() {
    *GUARD.lock().unwrap() = HandleExit::new(|| {}).ok();
}

/// Ends it. Nothing of the guard's is to be left.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_ends() {
    let guard = GUARD.lock().unwrap().take();
    drop(guard.expect("the guard was made"));
}
