//! Stopping threads, and letting them go (`man 2 ptrace`).
//!
//! The numbers of a stop are kept as the kernel gives them: nix has no word
//! for a real-time signal, and one that is lost on the way through here would
//! be missing in the target.

use std::{io, mem::MaybeUninit};

use nix::sys::ptrace;

use crate::task::Tid;

/// What became of a traced thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It has stopped. `signal` must be given back to [`detach`].
    Stopped {
        /// The thread.
        tid: Tid,
        /// The signal that it was about to receive; 0 for none.
        signal: i32,
    },
    /// It has ended, and waits to be [reaped](reap).
    Ended(Tid),
}

/// Become the tracer of `tid`, which goes on running.
///
/// No option is set: with none of them the kernel lets every thread go
/// unharmed when this program ends, however it ends.
pub(crate) fn seize(tid: Tid) -> io::Result<()> {
    Ok(ptrace::seize(pid(tid), ptrace::Options::empty())?)
}

/// Ask `tid` to stop. Whether and when it did, [`poll`] says.
pub(crate) fn interrupt(tid: Tid) -> io::Result<()> {
    Ok(ptrace::interrupt(pid(tid))?)
}

/// Stop tracing `tid`, which must have stopped, and let it run with `signal`.
pub(crate) fn detach(tid: Tid, signal: i32) -> io::Result<()> {
    let signal = usize::try_from(signal).unwrap_or(0);
    // SAFETY: with this request the kernel touches no memory of ours.
    let result = unsafe { libc::ptrace(libc::PTRACE_DETACH, tid.0, 0_usize, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The general registers of a stopped thread.
pub(crate) fn registers(tid: Tid) -> io::Result<libc::user_regs_struct> {
    Ok(ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(pid(tid))?)
}

/// Set the general registers of a stopped thread.
pub(crate) fn set_registers(tid: Tid, registers: libc::user_regs_struct) -> io::Result<()> {
    Ok(ptrace::setregset::<ptrace::regset::NT_PRSTATUS>(pid(tid), registers)?)
}

/// What has become of any thread that the calling thread traces, without
/// waiting; `None` when nothing has.
///
/// A stop is looked at and not taken (`WNOWAIT`): if this program died between
/// taking it and [`detach`], the signal that caused it would be lost.
pub(crate) fn poll() -> io::Result<Option<Event>> {
    look(libc::P_ALL, 0)
}

fn look(which: libc::idtype_t, id: u32) -> io::Result<Option<Event>> {
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT | WHOSE;
    let Some(info) = waitid(which, id, options)? else { return Ok(None) };
    let (tid, code, status) = info;
    if matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) {
        return Ok(Some(Event::Ended(tid)));
    }
    Ok(Some(Event::Stopped { tid, signal: signal_of(status) }))
}

/// The same of one thread.
pub(crate) fn poll_one(tid: Tid) -> io::Result<Option<Event>> {
    look(libc::P_PID, u32::try_from(tid.0).unwrap_or(0))
}

/// Let a traced thread that has ended go; whether there is nothing left of it
/// to wait for.
pub(crate) fn reap(tid: Tid) -> bool {
    let id = u32::try_from(tid.0).unwrap_or(0);
    match waitid(libc::P_PID, id, libc::WEXITED | libc::WNOHANG | WHOSE) {
        Ok(ended) => ended.is_some(),
        // Somebody else was faster, or it is not ours any more.
        Err(error) => error.raw_os_error() == Some(libc::ECHILD),
    }
}

/// The signal that a thread was about to receive when it stopped, from the
/// `si_status` of the stop. In the high byte stands the event of a stop that
/// was asked for, and of a group-stop, which detaching does not end; neither
/// holds a signal back.
const fn signal_of(status: i32) -> i32 {
    if status >> 8 == 0 { status & 0x7f } else { 0 }
}

/// Threads of any kind, but only those that the calling thread itself traces:
/// a child that another thread of this program has started is not ours to reap.
const WHOSE: i32 = libc::__WALL | libc::__WNOTHREAD;

/// Thread, `si_code` and `si_status` of what happened.
fn waitid(which: libc::idtype_t, id: u32, options: i32) -> io::Result<Option<(Tid, i32, i32)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is ours, and lives until the call returns.
    let result = unsafe { libc::waitid(which, id, info.as_mut_ptr(), options) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, which is a valid value, before the kernel wrote it.
    let info = unsafe { info.assume_init() };
    // SAFETY: the field lies in every siginfo_t that waitid fills or leaves 0.
    let tid = Tid(unsafe { info.si_pid() });
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok((tid.0 != 0).then_some((tid, info.si_code, status)))
}

fn pid(tid: Tid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(tid.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_signal_that_is_held_back_is_given_back() {
        let event = libc::PTRACE_EVENT_STOP << 8;
        for (status, signal) in [
            (libc::SIGTRAP, 5),
            (libc::SIGUSR1, 10),
            (64, 64),
            (event | libc::SIGTRAP, 0),
            (event | libc::SIGSTOP, 0),
        ] {
            assert_eq!(signal_of(status), signal, "{status:#x}");
        }
    }
}
