//! Jumps out of a function that is interrupted, as `siglongjmp` does, without one that returns twice.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, missing_docs, unsafe_code, reason = "a module of test binaries")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use nix::libc;

struct Context(UnsafeCell<MaybeUninit<libc::ucontext_t>>);

// SAFETY: the main thread alone uses them.
unsafe impl Sync for Context {}

impl Context {
    const fn new() -> Context {
        Context(UnsafeCell::new(MaybeUninit::uninit()))
    }

    fn get(&self) -> *mut libc::ucontext_t {
        self.0.get().cast()
    }
}

static HERE: Context = Context::new();
static THERE: Context = Context::new();

/// Runs `body` on a stack of its own, until it returns or jumps out.
pub fn until_jump(body: extern "C" fn()) {
    let stack: &'static mut [u8] = vec![0; 1 << 20].leak();
    // SAFETY: the contexts are this thread's, and the stack is nobody else's.
    unsafe {
        assert_eq!(libc::getcontext(THERE.get()), 0);
        (*THERE.get()).uc_stack.ss_sp = stack.as_mut_ptr().cast();
        (*THERE.get()).uc_stack.ss_size = stack.len();
        (*THERE.get()).uc_link = HERE.get();
        libc::makecontext(THERE.get(), body, 0);
        assert_eq!(libc::swapcontext(HERE.get(), THERE.get()), 0);
    }
}

/// Goes on where `until_jump` was called, with the mask of then.
pub fn jump_out() {
    // SAFETY: that context was saved by `until_jump`, whose frame is still there.
    unsafe { libc::setcontext(HERE.get()) };
}
