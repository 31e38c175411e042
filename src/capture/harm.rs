//! What a stop would do to a thread that is blocked in a system call.
//!
//! Most calls go on after a stop as if nothing had been. Some fail with
//! `EINTR`, as after a signal (`man 7 signal`, "Interruption of system calls
//! by stop signals", and measured); and those that go on through
//! `restart_syscall` kill a target whose seccomp filter does not know it.

use crate::{
    process::Process,
    snapshot::Registers,
    task::{Syscall, Tid},
};

/// What a stop would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Nothing that the target could see.
    None,
    /// Nothing, if the call is made to start again: it waits for ever, so
    /// that it does not matter when it began.
    Restart,
    /// The call would fail, or begin its time again; or the target would die.
    Real,
}

/// What a stop would do to `tid`, which is blocked in `call` with the
/// arguments in `registers`.
pub fn harm(process: &Process, tid: Tid, call: Option<Syscall>, registers: &Registers) -> Harm {
    if process.is_filtered(tid) {
        return Harm::Real;
    }
    let Some(name) = call.and_then(Syscall::name) else { return Harm::Real };
    let argument = |index: usize| {
        super::gate::ARGUMENTS.get(index).and_then(|&register| registers.get(register))
    };
    let forever = match name {
        // A timeout in milliseconds; any negative number is none.
        "epoll_wait" | "epoll_pwait" => {
            argument(3).is_some_and(|ms| ms.to_le_bytes().get(3).is_some_and(|high| high >> 7 == 1))
        }
        // A pointer to the timeout, or none.
        "epoll_pwait2" | "semtimedop" => argument(3) == Some(0),
        "rt_sigtimedwait" => argument(2) == Some(0),
        "io_getevents" | "io_pgetevents" => argument(4) == Some(0),
        "semop" => true,
        // What has no timeout of its own may have one of its socket.
        "read" | "readv" | "recvfrom" | "recvmsg" | "recvmmsg" | "accept" | "accept4" | "write"
        | "writev" | "connect" | "sendto" | "sendmsg" | "sendmmsg" => {
            return match argument(0).and_then(|fd| i32::try_from(fd).ok()) {
                Some(fd) => socket_harm(process, fd),
                None => Harm::Real,
            };
        }
        _ => return if RESUMED.contains(&name) { Harm::None } else { Harm::Real },
    };
    if forever && cfg!(target_arch = "x86_64") { Harm::Restart } else { Harm::Real }
}

/// Calls that were measured to go on after a stop.
const RESUMED: &[&str] = &[
    "nanosleep",
    "clock_nanosleep",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "futex",
    "futex_waitv",
    "pause",
    "rt_sigsuspend",
    "wait4",
    "waitid",
    "flock",
    "fcntl",
    "msgrcv",
    "mq_timedreceive",
    "open",
    "openat",
    "restart_syscall",
    "fsync",
    "fdatasync",
];

fn socket_harm(process: &Process, fd: i32) -> Harm {
    match process.socket_timeouts(fd) {
        Ok([receive, send]) if receive.is_zero() && send.is_zero() => Harm::None,
        Ok(_) => Harm::Real,
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => Harm::None,
        Err(_) => Harm::Real,
    }
}

/// Calls that fail with `EINTR` after a stop, and that may start again when
/// they have just begun.
pub(super) fn fails_when_stopped(call: Syscall) -> bool {
    matches!(
        call.name(),
        Some(
            "epoll_wait"
                | "epoll_pwait"
                | "epoll_pwait2"
                | "semop"
                | "semtimedop"
                | "rt_sigtimedwait"
                | "io_getevents"
                | "io_pgetevents"
                | "read"
                | "readv"
                | "recvfrom"
                | "recvmsg"
                | "recvmmsg"
                | "accept"
                | "accept4"
                | "connect"
                | "write"
                | "writev"
                | "sendto"
                | "sendmsg"
        )
    )
}
