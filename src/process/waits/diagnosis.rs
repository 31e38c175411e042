//! What only `NETLINK_SOCK_DIAG` says of a socket within the machine: its
//! other end, and how many wait to be accepted (`man 7 sock_diag`).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::wait::Queue;

/// What it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The other end.
    pub(super) peer: Option<u64>,
    /// What waits, if the socket listens.
    pub(super) queue: Option<Queue>,
}

/// Asks about the sockets of our own network namespace.
#[derive(Debug)]
pub(super) struct Diagnosis(OwnedFd);

/// `SOCK_DIAG_BY_FAMILY` of `include/uapi/linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;

/// `UDIAG_SHOW_PEER` and `UDIAG_SHOW_RQLEN` of
/// `include/uapi/linux/unix_diag.h`, and the attributes that they ask for.
const SHOW: u32 = 4 | 16;
const PEER: u16 = 2;
const QUEUE: u16 = 4;

/// The lengths of `struct nlmsghdr` and `struct unix_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 16;

impl Diagnosis {
    /// `None` where the kernel has no such thing, or forbids it.
    pub(super) fn open() -> Option<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkSockDiag;
        socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).ok().map(Self)
    }

    /// Ask about a socket. The kernel answers within the call, or not at all.
    pub(super) fn ask(&self, inode: u64) -> Option<Answer> {
        let kernel = NetlinkAddr::new(0, 0);
        let request = request(u32::try_from(inode).ok()?);
        sendto(self.0.as_raw_fd(), &request, &kernel, MsgFlags::empty()).ok()?;
        let mut bytes = [0; 1024];
        let len = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).ok()?;
        parse(bytes.get(..len)?, inode)
    }
}

/// `struct nlmsghdr` and `struct unix_diag_req`.
fn request(inode: u32) -> Vec<u8> {
    const LEN: u32 = 16 + 24;
    const NLM_F_REQUEST: u16 = 1;
    let family = u32::from(libc::AF_UNIX.unsigned_abs().to_le_bytes()[0]);
    let mut bytes = LEN.to_ne_bytes().to_vec();
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // A number and a sender, of which we need none.
    bytes.extend([0; 8]);
    // The family is a byte, and three zeros follow it.
    bytes.extend(family.to_le_bytes());
    // In any state; with any cookie.
    for word in [u32::MAX, inode, SHOW, u32::MAX, u32::MAX] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn parse(bytes: &[u8], inode: u64) -> Option<Answer> {
    let len = usize::try_from(word(bytes, 0)?).ok()?.min(bytes.len());
    let is_answer =
        half(bytes, 4)? == BY_FAMILY && word(bytes, HEADER + 4).map(u64::from) == Some(inode);
    let mut rest = bytes.get(HEADER + MESSAGE..len).filter(|_| is_answer)?;
    // `TCP_LISTEN`, which sockets of this family use, too.
    let listens = bytes.get(HEADER + 2) == Some(&10);
    let mut answer = Answer::default();
    // Each is its length, its kind, and that many bytes less these four; the
    // next one begins at a multiple of four.
    while let Some(len) = half(rest, 0).map(usize::from).filter(|len| *len >= 4) {
        match (half(rest, 2), word(rest, 4), word(rest, 8)) {
            (Some(PEER), Some(peer), _) if len >= 8 && peer != 0 => {
                answer.peer = Some(peer.into());
            }
            (Some(QUEUE), Some(waiting), Some(limit)) if len >= 12 && listens => {
                answer.queue = Some(Queue { waiting, limit: Some(limit) });
            }
            _ => {}
        }
        let Some(next) = rest.get(len.next_multiple_of(4)..) else { break };
        rest = next;
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixStream};

    use super::*;

    fn inode(file: &impl AsRawFd) -> u64 {
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let text = link.to_str().unwrap().strip_prefix("socket:[").unwrap();
        text.strip_suffix(']').unwrap().parse().unwrap()
    }

    /// Asks the kernel about sockets of this very process.
    #[test]
    fn the_other_end_of_a_pair_is_found() {
        let (one, other) = UnixStream::pair().unwrap();
        let diagnosis = Diagnosis::open().unwrap();
        let answer = diagnosis.ask(inode(&one));
        assert_eq!(answer, Some(Answer { peer: Some(inode(&other)), queue: None }));
        let none = u64::from(u32::MAX);
        assert_eq!([diagnosis.ask(none), diagnosis.ask(none + 1)], [None; 2]);
    }

    #[test]
    fn odd_answers_are_none() {
        let mut whole = vec![0; HEADER + MESSAGE];
        whole[..4].copy_from_slice(&48_u32.to_ne_bytes());
        whole[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        whole[HEADER + 4..HEADER + 8].copy_from_slice(&7_u32.to_ne_bytes());
        whole.extend([8, 0, 2, 0, 9, 0, 0, 0]);
        whole.extend([3, 0, 2, 0, 5, 0, 0, 0]);
        assert_eq!(parse(&whole, 7).and_then(|answer| answer.peer), Some(9));
        assert_eq!(parse(&whole, 8), None);
        for len in 0..whole.len() {
            assert!(parse(&whole[..len], 7).is_none_or(|answer| answer.queue.is_none()), "{len}");
        }
    }
}
