//! A descriptor that stands for one process, whatever becomes of its number.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{getsockopt, sockopt},
        time::TimeVal,
    },
};

use crate::task::Pid;

/// `struct pidfd_info` of `<linux/pidfd.h>` in its first size.
#[derive(Debug, Default)]
#[repr(C)]
struct Info {
    mask: u64,
    control_group: u64,
    /// Numbers of the process and of its users.
    numbers: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<Info>() == 64);

/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;

/// A process, held by a descriptor (`man 2 pidfd_open`).
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// Take hold of the process that has this number now. `EINVAL` means that
    /// the number is that of a thread that leads no process.
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        // SAFETY: the kernel reads two integers, and no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) };
        let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// A copy of the target's descriptor `fd` (`man 2 pidfd_getfd`).
    fn copy(&self, fd: i32) -> io::Result<OwnedFd> {
        // SAFETY: the kernel reads three integers, and no memory of ours.
        let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), fd, 0) };
        let copy = i32::try_from(copy).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(copy) })
    }

    /// Of the listening TCP socket behind the target's descriptor `fd`: how
    /// many connections wait to be accepted, and how many it wants at most. An
    /// error where it is none.
    pub(crate) fn listen_queue(&self, fd: i32) -> io::Result<(u32, u32)> {
        /// `TCP_LISTEN` of `include/net/tcp_states.h`.
        const LISTEN: u8 = 10;
        /// The states of `struct tcp_info`, and the counts that stand for these
        /// two while it listens (`tcp_get_info` of `net/ipv4/tcp.c`).
        const WAITING: usize = 24;
        const LIMIT: usize = 28;
        let copy = self.copy(fd)?;
        let mut bytes = [0_u8; 32];
        let mut len: libc::socklen_t = 32;
        // SAFETY: the kernel writes up to `len` bytes to `bytes`, which has as
        // many, and then to `len`; both live until it returns.
        let result = unsafe {
            libc::getsockopt(
                copy.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                bytes.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let word = |at: usize| {
            let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
            bytes.map(|bytes| u32::from_ne_bytes(*bytes)).unwrap_or_default()
        };
        if len < 32 || bytes.first() != Some(&LISTEN) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok((word(WAITING), word(LIMIT)))
    }

    /// The receive and send timeouts of the socket behind the target's
    /// descriptor `fd`; zero for none. An error where it is no socket.
    pub(crate) fn socket_timeouts(&self, fd: i32) -> io::Result<[Duration; 2]> {
        let copy = self.copy(fd)?;
        let duration = |value: TimeVal| {
            Duration::from_secs(u64::try_from(value.tv_sec()).unwrap_or(0))
                + Duration::from_micros(u64::try_from(value.tv_usec()).unwrap_or(0))
        };
        let receive = duration(getsockopt(&copy, sockopt::ReceiveTimeout)?);
        let send = duration(getsockopt(&copy, sockopt::SendTimeout)?);
        Ok([receive, send])
    }

    /// How the process ended, in the kernel's words (`man 2 wait`): `None`
    /// before its parent has taken note of that, and from a kernel before
    /// Linux 6.15, which does not say.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        let mut info = Info { mask: INFO_EXIT, ..Info::default() };
        // SAFETY: the kernel writes no more than the size that the request
        // holds, which is that of `info`.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), GET_INFO, &raw mut info) };
        (done == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
    }

    /// Whether the process has ended: every thread of it.
    pub(crate) fn has_ended(&self) -> bool {
        let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut ready, PollTimeout::ZERO), Ok(1..))
    }
}
