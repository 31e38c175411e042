//! Getting a processor before others do.

/// Let the calling thread run before every ordinary thread of the machine, or
/// end that; whether that was possible. Threads that it starts are ordinary
/// ones.
///
/// It needs CAP_SYS_NICE or a limit on real-time priority (`man 7 sched`).
pub(crate) fn set_urgent(urgent: bool) -> bool {
    let (policy, priority) = match urgent {
        true => (libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1),
        // Without the flag the kernel would take this for a change of it,
        // which needs a privilege that the way there did not need.
        false => (libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0),
    };
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: 0 is the calling thread, and the parameter lives until the call
    // returns.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    result == 0
}

/// Whether the calling thread has the ordinary policy: one that somebody has
/// given it instead is to be left as it is.
pub(crate) fn is_ordinary() -> bool {
    // SAFETY: 0 is the calling thread, and no memory of ours is touched.
    let policy = unsafe { libc::sched_getscheduler(0) };
    policy & !libc::SCHED_RESET_ON_FORK == libc::SCHED_OTHER
}
