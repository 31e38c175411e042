//! Waiting for traced threads, and letting them go on, with the kernel's own
//! numbers: nix has no word for a real-time signal, takes the stop that one
//! causes, and then says only that it does not know it.
#![expect(unsafe_code, reason = "nothing safe can hand a real-time signal on")]

use nix::{libc, unistd::Pid};

/// What has become of a traced thread.
pub(super) enum Event {
    /// Nothing yet.
    Nothing,
    /// It has stopped because it was asked to.
    Stopped,
    /// It is about to receive this signal.
    Signal(i32),
    /// It is gone.
    Gone,
}

/// Ask, without waiting, what has become of `tid`.
pub(super) fn poll(tid: Pid) -> Event {
    let mut status = 0;
    // SAFETY: the status is ours, and lives until the call returns.
    let waited =
        unsafe { libc::waitpid(tid.as_raw(), &raw mut status, libc::__WALL | libc::WNOHANG) };
    if waited == 0 {
        Event::Nothing
    } else if waited < 0 || !libc::WIFSTOPPED(status) {
        Event::Gone
    } else if status >> 16 != 0 {
        Event::Stopped
    } else {
        Event::Signal(libc::WSTOPSIG(status))
    }
}

/// Let `tid`, which has stopped for `signal`, go on with it.
pub(super) fn go_on(tid: Pid, signal: i32) {
    // SAFETY: with this request the kernel touches no memory of ours.
    let went = unsafe { libc::ptrace(libc::PTRACE_CONT, tid.as_raw(), 0_usize, i64::from(signal)) };
    // It may have been killed meanwhile, which the next poll tells.
    assert!(went == 0 || nix::errno::Errno::last() == nix::errno::Errno::ESRCH);
}
