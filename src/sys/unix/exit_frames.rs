//! Whether a thread is inside `std::process::exit` or the C library's `exit(3)`.
//!
//! Neither of them ever returns, so a return address into one on a thread's stack is proof: the frame
//! it belongs to is never left, and so its place on the stack is never used again. Where threads are
//! parked for good differs (std parks a second caller in `pause`, glibc 2.41 on a lock), and so do the
//! ways to see that (`/proc` may be missing); this holds for all of them.
//!
//! The stack may be another thread's, which goes on using it, and may end. So it is not read here, but
//! copied by the kernel, which refuses what is not mapped (`process_vm_readv`). Other systems than
//! Linux, and sandboxes that forbid the call, get the answer "no".
//!
//! What might look like such a return address and is none: a copy that this search itself left on
//! the stack. It wipes them.

pub(super) use platform::{is_any_above, is_any_below};

/// An address in the frame of the function that this is called in: all that it calls later lies below.
#[inline(always)]
pub(super) fn stack_pointer() -> usize {
    let here = 0u8;
    std::hint::black_box(&raw const here) as usize
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    use std::ffi::c_void;
    use std::hint::black_box;

    use nix::libc;

    const WORD: usize = size_of::<usize>();

    /// Words that are looked at together. Divides every size of page, so that no chunk is half there.
    const CHUNK: usize = 2048 / WORD;

    /// No farther than the usual limit of a stack.
    const BOUND: usize = 8 << 20;

    /// Longer than either function, on every target.
    const LONGEST: usize = 1024;

    /// As far as either function reaches on every target, and no return address into the next one:
    /// the answer where nothing tells the functions apart.
    const SHORTEST: usize = 24;

    /// Whether a frame of either function lies between this address and the top of the stack.
    pub(in super::super) fn is_any_above(from: usize) -> bool {
        let from = from.next_multiple_of(WORD);
        let found = search_up(from, from.saturating_add(BOUND));
        wipe();
        found
    }

    /// Whether one lies between the bottom of the stack and this address.
    pub(in super::super) fn is_any_below(from: usize) -> bool {
        let from = from & !(WORD - 1);
        let found = search_down(from.saturating_sub(BOUND), from);
        wipe();
        found
    }

    #[inline(never)]
    fn search_up(mut from: usize, limit: usize) -> bool {
        let mut words = [0; CHUNK];
        while from < limit {
            let end = (from + 1).next_multiple_of(CHUNK * WORD);
            let Some(copied) = copy(from, end, &mut words) else { return false };
            if copied.iter().copied().any(is_return_address) {
                return true;
            }
            from = end;
        }
        false
    }

    #[inline(never)]
    fn search_down(limit: usize, mut end: usize) -> bool {
        let mut words = [0; CHUNK];
        while end > limit {
            let from = (end - 1) & !(CHUNK * WORD - 1);
            let Some(copied) = copy(from, end, &mut words) else { return false };
            if copied.iter().copied().any(is_return_address) {
                return true;
            }
            end = from;
        }
        false
    }

    /// What lies at these addresses, less than a chunk apart, or `None` where that is not mapped.
    fn copy(from: usize, end: usize, words: &mut [usize; CHUNK]) -> Option<&[usize]> {
        let length = end - from;
        let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: from as *mut c_void, iov_len: length };
        // SAFETY: it writes `length` bytes into `words`, which is as long as the caller's addresses
        // are apart at most, and any bytes are valid there; where it reads, it checks (EFAULT).
        let copied = unsafe {
            libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0)
        };
        (usize::try_from(copied) == Ok(length)).then(|| &words[..length / WORD])
    }

    fn is_return_address(word: usize) -> bool {
        let entries = [
            std::process::exit as fn(i32) -> ! as usize,
            libc::exit as unsafe extern "C" fn(libc::c_int) -> ! as usize,
        ];
        let word = without_signature(word);
        entries.iter().any(|&entry| {
            let offset = word.wrapping_sub(entry);
            (1..=LONGEST).contains(&offset) && is_in_function(word, entry)
        })
    }

    /// Return addresses that the processor signs (pointer authentication) have the signature in the
    /// bits that no address of a program uses.
    fn without_signature(word: usize) -> usize {
        if cfg!(target_arch = "aarch64") { word & (usize::MAX >> 16) } else { word }
    }

    /// Whether the call before `address`, which is less than `LONGEST` from `entry`, is in the function
    /// that begins there.
    fn is_in_function(address: usize, entry: usize) -> bool {
        match function_around(address - 1) {
            // No unwind tables: musl has none for its functions.
            0 => address - entry <= SHORTEST,
            found => found == entry,
        }
    }

    /// Where the function around this address begins, or 0 if that is not known.
    #[cfg(not(target_arch = "arm"))]
    fn function_around(address: usize) -> usize {
        // Part of every unwinder that std is linked with.
        unsafe extern "C" {
            fn _Unwind_FindEnclosingFunction(pc: *mut c_void) -> *mut c_void;
        }
        // SAFETY: it looks the address up in the unwind tables, whatever it is.
        unsafe { _Unwind_FindEnclosingFunction(address as *mut c_void) as usize }
    }

    /// The unwinder of that target has no such function.
    #[cfg(target_arch = "arm")]
    fn function_around(_address: usize) -> usize {
        0
    }

    /// Overwrites what a search has left below the caller's frame: its chunk, and the words that it
    /// gave to the unwinder.
    #[inline(never)]
    fn wipe() {
        black_box(&mut [0u64; 6144 / 8]);
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod platform {
    pub(in super::super) fn is_any_above(_from: usize) -> bool {
        false
    }

    pub(in super::super) fn is_any_below(_from: usize) -> bool {
        false
    }
}
