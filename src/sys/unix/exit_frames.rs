//! Whether a thread is inside `std::process::exit` or the C library's `exit(3)`.
//!
//! Neither of them ever returns, so a return address into one on a thread's stack is proof: the frame
//! it belongs to is never left, and so its place on the stack is never used again. Where threads are
//! parked for good differs (std parks a second caller in `pause`, glibc 2.41 on a lock), and so do the
//! ways to see that (`/proc` may be missing); this holds for all of them.
//!
//! The stack may be another thread's, which continues to use it, and may end. So it is not read here, but
//! copied by the kernel, which refuses what is not mapped (`process_vm_readv`). Other systems than
//! Linux, and sandboxes that forbid the call, get the answer "no".
//!
//! What might look like such a return address and is none: a copy that this search itself left on
//! the stack, so it wipes them; and in a forked child, what a thread of the parent's left on a stack
//! that the C library gives to a new thread. That takes a fork by a process which is exiting on two
//! threads, and is not looked for.

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
    use std::ops::Range;

    use nix::errno::Errno;
    use nix::libc;

    use super::super::disposition::KERNEL_MASK;

    const WORD: usize = size_of::<usize>();

    /// What is copied or refused as a whole: no page is smaller.
    const PIECE: usize = 4096;

    /// How many are asked for in one call, which costs more than a copy.
    const PIECES: usize = 4;

    /// No farther than the usual limit of a stack.
    const BOUND: usize = 8 << 20;

    /// Longer than either function, on every target.
    const LONGEST: usize = 1024;

    /// As far as either function reaches on every target, and no return address into the next one:
    /// the answer where nothing tells the functions apart.
    const SHORTEST: usize = 24;

    /// Whether a frame of either function lies between this address and the top of the stack.
    pub(in super::super) fn is_any_above(from: usize) -> bool {
        let from = from & !(WORD - 1);
        let first = from..(from + 1).next_multiple_of(PIECE);
        let found = search(first, |last| last.end..last.end.saturating_add(PIECE), true);
        wipe();
        found
    }

    /// Whether one lies between the bottom of the stack and this address.
    pub(in super::super) fn is_any_below(from: usize) -> bool {
        let from = from & !(WORD - 1);
        let first = (from - 1) & !(PIECE - 1)..from;
        let found = search(first, |last| last.start.saturating_sub(PIECE)..last.start, false);
        wipe();
        found
    }

    /// Searches piece after piece, until one is not mapped.
    #[inline(never)]
    fn search(first: Range<usize>, next: fn(&Range<usize>) -> Range<usize>, is_own: bool) -> bool {
        let entries = [
            std::process::exit as fn(i32) -> ! as usize,
            libc::exit as unsafe extern "C" fn(libc::c_int) -> ! as usize,
        ];
        let mut words = vec![0; PIECES * PIECE / WORD];
        let mut piece = first;
        let mut found = false;
        for _ in 0..BOUND / (PIECES * PIECE) {
            let (mut asked, mut is_mapped) = (0, true);
            let remote = [(); PIECES].map(|()| {
                is_mapped = is_mapped && (is_own || may_be_mapped(piece.start));
                let iov_len = if is_mapped { piece.len() } else { 0 };
                let iovec = libc::iovec { iov_base: piece.start as *mut c_void, iov_len };
                asked += piece.len();
                piece = next(&piece);
                iovec
            });
            let copied = copy(&remote, &mut words[..asked / WORD], is_own);
            // A plain loop: there are half a million words on a stack, and others wait meanwhile.
            for &word in copied {
                let word = without_signature(word);
                for entry in entries {
                    let offset = word.wrapping_sub(entry);
                    found |= offset != 0 && offset <= LONGEST && is_in_function(word, entry);
                }
            }
            if found || copied.len() < asked / WORD {
                break;
            }
        }
        // A stack may end where the heap begins.
        words.fill(0);
        black_box(&words);
        found
    }

    /// Whether there may be memory here, of another thread. A copy from just below the stack of the main thread, where
    /// there is none, has Linux write to its log that a program expects the stack to grow.
    fn may_be_mapped(address: usize) -> bool {
        let mut is_resident = 0;
        // SAFETY: `sysconf` takes no pointer; and `mincore` writes one byte, for one page.
        let asked = unsafe {
            let page = address & !(libc::sysconf(libc::_SC_PAGESIZE) as usize - 1);
            libc::mincore(page as *mut c_void, PIECE, &raw mut is_resident)
        };
        asked == 0 || Errno::last() != Errno::ENOMEM
    }

    /// What lies at `remote`, one after the other, up to the first that is not mapped.
    fn copy<'a>(
        remote: &[libc::iovec; PIECES],
        words: &'a mut [usize],
        is_own: bool,
    ) -> &'a [usize] {
        let local =
            libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(words) };
        let count = PIECES as libc::c_ulong;
        // SAFETY: it writes into `words`, no more than it is long, and any bytes are valid there; where
        // it reads, it checks (EFAULT).
        let copied = unsafe {
            libc::process_vm_readv(libc::getpid(), &raw const local, 1, remote.as_ptr(), count, 0)
        };
        if copied == -1 && is_own && Errno::last() != Errno::EFAULT {
            return copy_own(remote, words);
        }
        &words[..usize::try_from(copied).unwrap_or(0) / WORD]
    }

    /// The same for the stack of the calling thread, which does not go away meanwhile, where a sandbox forbids the
    /// call. No piece crosses the border of a page.
    #[cold]
    fn copy_own<'a>(remote: &[libc::iovec; PIECES], words: &'a mut [usize]) -> &'a [usize] {
        let mut copied = 0;
        for piece in remote {
            // SAFETY: the kernel reads a set of signals there, if it can (else EFAULT), and then refuses the unknown
            // operation (EINVAL): nothing changes.
            let read = unsafe {
                libc::syscall(
                    libc::SYS_rt_sigprocmask,
                    -1,
                    piece.iov_base,
                    std::ptr::null_mut::<libc::c_void>(),
                    KERNEL_MASK,
                )
            };
            if read == -1 && Errno::last() == Errno::EFAULT {
                break;
            }
            for at in 0..piece.iov_len / WORD {
                // SAFETY: the kernel has just read this page, of a stack that stays.
                words[copied] = unsafe { piece.iov_base.cast::<usize>().add(at).read_volatile() };
                copied += 1;
            }
        }
        &words[..copied]
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

    /// Overwrites what a search has left below the caller's frame: the words that it had in registers,
    /// and those that it gave to the unwinder.
    #[inline(never)]
    fn wipe() {
        black_box(&mut [0u64; 4096 / 8]);
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
