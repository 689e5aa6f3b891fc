//! Filters of system calls (seccomp(2)), as sandboxes have them.

use nix::libc::{self, sock_filter};

/// What a step of a filter does: loads 32 bits of what is known of the call, compares them, or decides.
pub const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub const IS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where the number of the call is.
pub const NUMBER: u32 = 0;

/// A step. After `IS`, the next `jt` steps are left out where it is so, else the next `jf`.
pub fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// From here on this filter decides about each system call of the calling thread. False where the kernel has no such
/// filter.
pub fn filter_calls(program: &mut [sock_filter]) -> bool {
    let filter =
        libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    // SAFETY: the filter is valid for the call, which copies it.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    }
}
