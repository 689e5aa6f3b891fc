//! What a test may do as root, in a namespace, or as nobody.

use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::unistd::{Uid, geteuid, setuid};

use super::say;

/// The arguments with which unshare(1) runs a command as PID 1 of a namespace of its own, or why that
/// cannot be done here.
pub fn as_pid_1() -> Result<&'static [&'static str], String> {
    // Without privilege, a user namespace gives the right to make the other one.
    const WAYS: [&[&str]; 2] = [
        &["--fork", "--pid", "--kill-child"],
        &["--user", "--map-root-user", "--fork", "--pid", "--kill-child"],
    ];
    let attempt = |way: &[&str]| Command::new("unshare").args(way).arg("true").output();
    let works = |way: &&&[&str]| attempt(way).is_ok_and(|output| output.status.success());
    WAYS.iter().find(works).copied().ok_or_else(|| {
        format!("skipped: PID 1: no pid namespace can be made here: {:?}", attempt(WAYS[1]))
    })
}

/// Sets how much of something this process may have; what it could set it to stays.
pub fn set_limit(resource: Resource, soft: rlim_t) {
    let (_, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, soft, hard).unwrap();
}

/// Some victims die of signals that would leave a core file in the working directory.
pub(super) fn no_core_file() {
    set_limit(Resource::RLIMIT_CORE, 0);
}

/// Limits on threads do not hold for root, so root becomes a user whom nobody else is. Says so and returns
/// false where that cannot be done.
pub fn is_bound_by_limits() -> bool {
    if geteuid().is_root() {
        let unused = 1_000_000 + std::process::id();
        if let Err(error) = setuid(Uid::from_raw(unused)) {
            say(format!("skipped: root cannot become user {unused}: {error}"));
            return false;
        }
    }
    true
}
