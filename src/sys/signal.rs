//! Waiting for the signal that says that a traced thread has stopped.

use std::{mem::MaybeUninit, time::Duration};

/// Have SIGCHLD sent again, if whoever started this program ignored it.
pub(crate) fn hear_children() {
    // SAFETY: the default action is no function of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Wait until a SIGCHLD comes, at most for `timeout`.
///
/// It is seen only if every thread of this program blocks it; where one does
/// not, this just waits for `timeout`.
pub(crate) fn wait_for_child(timeout: Duration) {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call fills the set it is given, which is ours.
    let filled = unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    if filled != 0 {
        return;
    }
    // SAFETY: `sigemptyset` has filled it.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: the set is ours, and SIGCHLD is a signal.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    let timeout = libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // SAFETY: set and time live until the call returns, and the kernel may be
    // told to write its answer nowhere.
    unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout) };
}
