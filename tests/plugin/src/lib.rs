//! A plugin that guards its work.

use std::sync::Mutex;

use handle_exit_copy::HandleExit;

static GUARD: Mutex<Option<HandleExit>> = Mutex::new(None);
static SECOND: Mutex<Option<HandleExit>> = Mutex::new(None);

/// Begins the work. Called on a thread of its own, as plugins often are.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_begins() {
    *GUARD.lock().unwrap() = HandleExit::new(|| {}).ok();
}

/// More of it, while the first guard lives.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_goes_on() {
    *SECOND.lock().unwrap() = HandleExit::append(|| {}).ok();
}

/// What [`plugin_goes_on`] has begun ends.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_ends_second() {
    let guard = SECOND.lock().unwrap().take();
    drop(guard.expect("the second guard was made"));
}

/// Ends it. Nothing of the guard's is to be left.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_ends() {
    let guard = GUARD.lock().unwrap().take();
    drop(guard.expect("the guard was made"));
}
