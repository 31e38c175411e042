//! What a stop does to a thread that is blocked in a system call.
//!
//! Most calls go on after a stop as if nothing had been. Some fail with
//! `EINTR`, as after a signal (`man 7 signal`, "Interruption of system calls
//! by stop signals", and measured); and those that go on through
//! `restart_syscall` kill a target whose seccomp filter does not know it.

use super::gate::ARGUMENTS;
use crate::{
    process::Process,
    snapshot::Registers,
    task::{Syscall, Tid},
};

/// What a call does after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterStop {
    /// It goes on.
    Resumes,
    /// It fails with `EINTR`. Started again it waits for its whole time again,
    /// which does not matter where it waits for ever.
    Fails(Forever),
    /// On a socket with a timeout it fails; otherwise it goes on, unless the
    /// argument of this number says to wait for all (`MSG_WAITALL`), when it
    /// ends with what there is.
    Socket { flags: Option<usize> },
    /// Where a part is done it ends with that, which a careless caller takes
    /// for all of it.
    Ends,
    /// Not known.
    Unknown,
}

/// How a call says that it waits for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forever {
    /// It has no timeout.
    Always,
    /// This argument, in milliseconds, is negative.
    Negative(usize),
    /// This argument, a pointer to the timeout, is null.
    Null(usize),
}

impl AfterStop {
    fn of(name: &str) -> Self {
        match name {
            "nanosleep" | "clock_nanosleep" | "poll" | "ppoll" | "select" | "pselect6"
            | "futex" | "futex_waitv" | "pause" | "rt_sigsuspend" | "wait4" | "waitid"
            | "flock" | "fcntl" | "msgrcv" | "mq_timedreceive" | "open" | "openat"
            | "restart_syscall" | "fsync" | "fdatasync" => Self::Resumes,
            "epoll_wait" | "epoll_pwait" => Self::Fails(Forever::Negative(3)),
            "epoll_pwait2" | "semtimedop" => Self::Fails(Forever::Null(3)),
            "rt_sigtimedwait" => Self::Fails(Forever::Null(2)),
            "io_getevents" | "io_pgetevents" => Self::Fails(Forever::Null(4)),
            "semop" => Self::Fails(Forever::Always),
            "read" | "readv" | "accept" | "accept4" | "connect" => Self::Socket { flags: None },
            "recvmsg" => Self::Socket { flags: Some(2) },
            "recvfrom" | "recvmmsg" => Self::Socket { flags: Some(3) },
            "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" => Self::Ends,
            _ => Self::Unknown,
        }
    }
}

/// Whether a stop of a blocked thread would go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Unnoticed,
    Noticed,
    /// If the socket behind this descriptor has no timeout.
    WithoutTimeout(i32),
}

fn judge(after: AfterStop, arguments: &[u64; 6]) -> Verdict {
    let argument = |index: usize| arguments.get(index).copied().unwrap_or_default();
    let forever = match after {
        AfterStop::Resumes => return Verdict::Unnoticed,
        AfterStop::Ends | AfterStop::Unknown => return Verdict::Noticed,
        AfterStop::Socket { flags } => {
            let all = u64::from(libc::MSG_WAITALL.unsigned_abs());
            let waits_for_all = flags.is_some_and(|index| argument(index) & all != 0);
            let fd = u32::try_from(argument(0) & u64::from(u32::MAX)).unwrap_or_default();
            return match waits_for_all {
                true => Verdict::Noticed,
                false => Verdict::WithoutTimeout(fd.cast_signed()),
            };
        }
        AfterStop::Fails(Forever::Always) => true,
        AfterStop::Fails(Forever::Null(index)) => argument(index) == 0,
        // An int: its sign is bit 31.
        AfterStop::Fails(Forever::Negative(index)) => argument(index) >> 31 & 1 == 1,
    };
    // Elsewhere the call cannot be started again: see `registers::unnoticed`.
    if forever && cfg!(target_arch = "x86_64") { Verdict::Unnoticed } else { Verdict::Noticed }
}

/// Whether `tid`, which is blocked in `call` with the arguments in
/// `registers`, would not notice a stop.
pub fn is_unnoticed(process: &Process, tid: Tid, call: Syscall, registers: &Registers) -> bool {
    let Some(after) = call.name().map(AfterStop::of) else { return false };
    let arguments = ARGUMENTS.map(|register| registers.get(register).unwrap_or_default());
    let unnoticed = match judge(after, &arguments) {
        Verdict::Unnoticed => true,
        Verdict::Noticed => false,
        Verdict::WithoutTimeout(fd) => match process.socket_timeouts(fd) {
            Ok([receive, send]) => receive.is_zero() && send.is_zero(),
            Err(error) => error.raw_os_error() == Some(libc::ENOTSOCK),
        },
    };
    unnoticed && !process.is_filtered(tid)
}

/// Whether a call that fails with `EINTR` after a stop may start again, if it
/// has just begun or waits for ever.
pub(super) fn may_start_again(call: Syscall) -> bool {
    match call.name().map(AfterStop::of) {
        Some(AfterStop::Fails(_) | AfterStop::Socket { .. } | AfterStop::Ends) => true,
        Some(AfterStop::Resumes | AfterStop::Unknown) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_unnoticed_is_stopped() {
        let minus_one = u64::from(u32::MAX);
        let table = [
            ("nanosleep", [1, 0, 0, 0, 0, 0], Verdict::Unnoticed),
            ("epoll_wait", [4, 1, 1, minus_one, 0, 0], Verdict::Unnoticed),
            ("epoll_wait", [4, 1, 1, u64::MAX, 0, 0], Verdict::Unnoticed),
            ("epoll_wait", [4, 1, 1, 500, 0, 0], Verdict::Noticed),
            ("epoll_wait", [4, 1, 1, 0, 0, 0], Verdict::Noticed),
            ("rt_sigtimedwait", [1, 1, 0, 8, 0, 0], Verdict::Unnoticed),
            ("rt_sigtimedwait", [1, 1, 7, 8, 0, 0], Verdict::Noticed),
            ("semop", [1, 1, 1, 0, 0, 0], Verdict::Unnoticed),
            ("recvfrom", [5, 1, 9, 0, 0, 0], Verdict::WithoutTimeout(5)),
            ("recvfrom", [5, 1, 9, 0x100, 0, 0], Verdict::Noticed),
            ("read", [minus_one, 1, 9, 0x100, 0, 0], Verdict::WithoutTimeout(-1)),
            ("write", [1, 1, 9, 0, 0, 0], Verdict::Noticed),
            ("reboot", [0; 6], Verdict::Noticed),
        ];
        for (name, arguments, expected) in table {
            assert_eq!(judge(AfterStop::of(name), &arguments), expected, "{name} {arguments:x?}");
        }
    }

    #[test]
    fn calls_that_fail_may_start_again_and_others_not() {
        let call = |number: libc::c_long| Syscall(u32::try_from(number).unwrap());
        assert!(may_start_again(call(libc::SYS_epoll_pwait)));
        assert!(may_start_again(call(libc::SYS_sendmmsg)));
        assert!(!may_start_again(call(libc::SYS_close)));
        assert!(!may_start_again(call(libc::SYS_futex)));
        assert!(!may_start_again(Syscall(99_999)));
    }
}
