//! The shortest stop that can be had: a bare loop of seize, interrupt, wait,
//! registers, stack, detach.

use std::{
    io::IoSliceMut,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        ptrace,
        uio::{RemoteIoVec, process_vm_readv},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

/// How long one takes, which holds the thread for most of it; `buffer` is for
/// the stack.
pub(crate) fn stop(pid: Pid, buffer: &mut [u8]) -> nix::Result<Duration> {
    let asked = Instant::now();
    ptrace::seize(pid, ptrace::Options::empty())?;
    ptrace::interrupt(pid)?;
    waitpid(pid, Some(WaitPidFlag::__WALL))?;
    let registers = ptrace::getregs(pid)?;
    let base = usize::try_from(registers.rsp).unwrap_or(0);
    // A stack may end before.
    let remote = [RemoteIoVec { base, len: buffer.len() }];
    process_vm_readv(pid, &mut [IoSliceMut::new(buffer)], &remote)?;
    ptrace::detach(pid, None)?;
    Ok(asked.elapsed())
}
