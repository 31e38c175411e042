//! The words for what a thread waits for, the only place that has them.

use std::fmt::{self, Display, Formatter};

use super::{
    Child, Connection, Count, Descriptor, End, FileLock, Futex, LockKind, Object, Parties, Party,
    Place, Polled, Protocol, Queue, RuntimeLock, Socket, Subject, Timeout, Wait,
};
use crate::style::{escape, time};

impl Display for Wait {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)?;
        if let Some(descriptor) = &self.descriptor {
            write!(f, "({}", descriptor.fd)?;
            if let Subject::Lock(lock) = &self.subject {
                lock.manner(f)?;
            }
            f.write_str(")")?;
            match &descriptor.object {
                Object::Unknown => {}
                Object::Epoll(count) => write!(f, " on {}", count.of("descriptor"))?,
                object => write!(f, " of {object}")?,
            }
        }
        match &self.subject {
            Subject::Nothing | Subject::Time => {}
            Subject::Lock(lock) => {
                if let Some(holder) = &lock.holder {
                    write!(f, ", held by {holder}")?;
                }
            }
            Subject::Futex(Futex::Plain) => {}
            Subject::Futex(futex) => write!(f, ": {futex}")?,
            Subject::Poll(polled) => polled.fmt(f)?,
            Subject::Child(child) => write!(f, " for {child}")?,
            Subject::Signals(set) => write!(f, " for {}", Signals(*set))?,
        }
        let comma = if self.subject == Subject::Time { "" } else { "," };
        match self.timeout {
            None | Some(Timeout::At(None)) => Ok(()),
            Some(Timeout::After(span)) if span.is_zero() => write!(f, "{comma} 0 ms"),
            Some(Timeout::After(span)) => write!(f, "{comma} {}", time(span)),
            Some(Timeout::At(Some(left))) => write!(f, "{comma} {} left", time(left)),
        }
    }
}

impl Count {
    /// `3 descriptors`.
    fn of(self, what: &str) -> String {
        let least = if self.more { "at least " } else { "" };
        let plural = match (self.number, what) {
            (1, _) => "",
            (_, "watch") => "es",
            _ => "s",
        };
        format!("{least}{} {what}{plural}", self.number)
    }
}

impl Display for Object {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("an unknown file"),
            Self::File(path) => f.write_str(&escape(path)),
            Self::Pipe { inode, end, others } => {
                write!(f, "pipe [{inode}]")?;
                let way = match end {
                    End::Reading => "from",
                    End::Writing => "to",
                };
                if others.is_known() { write!(f, " {way} {others}") } else { Ok(()) }
            }
            Self::EventFd { .. } => f.write_str("eventfd"),
            Self::TimerFd { due: Some(due) } => write!(f, "timerfd, due in {}", time(*due)),
            Self::TimerFd { due: None } => f.write_str("timerfd, not set"),
            Self::SignalFd(set) => write!(f, "signalfd for {}", Signals(*set)),
            Self::Inotify(count) => write!(f, "inotify with {}", count.of("watch")),
            Self::Epoll(count) => write!(f, "epoll on {}", count.of("descriptor")),
            Self::PidFd(Some(party)) => write!(f, "pidfd of {party}"),
            Self::PidFd(None) => f.write_str("pidfd"),
            Self::Socket(socket) => socket.fmt(f),
            Self::Other(name) => f.write_str(&escape(name)),
        }
    }
}

impl Display for Socket {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.protocol.map_or("socket", Protocol::name))?;
        match (&self.local, &self.remote) {
            (None, None) => write!(f, " [{}]", self.inode)?,
            (local, remote) => {
                if let Some(local) = local {
                    write!(f, " {local}")?;
                }
                if let Some(remote) = remote {
                    write!(f, " -> {remote}")?;
                }
            }
        }
        // Of other protocols the state says no more than the addresses do.
        let is_tcp = self.protocol == Some(Protocol::Tcp);
        let state = self.state.filter(|state| is_tcp || *state == Connection::Listening);
        if let Some(state) = state {
            write!(f, " {}", state.name().replace('_', " "))?;
        }
        if let Some(Queue { waiting, limit }) = self.queue {
            match limit {
                Some(limit) => write!(f, ", {waiting} of {limit} wait")?,
                None => write!(f, ", {waiting} wait")?,
            }
        }
        if self.peer.is_known() {
            write!(f, ", {}", self.peer)?;
        }
        if self.unaccepted {
            f.write_str(", not accepted yet")?;
        }
        Ok(())
    }
}

impl Protocol {
    /// `tcp`, `unix stream`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UnixStream => "unix stream",
            Self::UnixDatagram => "unix datagram",
            Self::UnixSeqpacket => "unix seqpacket",
        }
    }
}

impl Connection {
    /// Its key in JSON: `established`, `syn_sent`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::FinWait1 => "fin_wait_1",
            Self::FinWait2 => "fin_wait_2",
            Self::TimeWait => "time_wait",
            Self::Closed => "closed",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Listening => "listening",
            Self::Closing => "closing",
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Path(path) => f.write_str(&escape(path)),
        }
    }
}

impl Display for Party {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "PID {}", self.pid)?;
        let name = self.name();
        if name.is_empty() { Ok(()) } else { write!(f, " {}", escape(name)) }
    }
}

impl Parties {
    /// Whether anybody is known.
    pub const fn is_known(&self) -> bool {
        self.own || !self.others.is_empty()
    }
}

impl Display for Parties {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(first) = self.others.first() else { return f.write_str("this process itself") };
        first.fmt(f)?;
        match self.others.len() - 1 + self.more {
            0 => Ok(()),
            1 => f.write_str(" and 1 other"),
            more => write!(f, " and {more} others"),
        }
    }
}

impl FileLock {
    /// How it is wanted, after the descriptor: `, exclusive`.
    fn manner(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.exclusive {
            Some(true) => f.write_str(", exclusive")?,
            Some(false) => f.write_str(", shared")?,
            None => {}
        }
        match self.range {
            Some((first, Some(last))) if first == last => write!(f, ", byte {first}"),
            Some((first, Some(last))) => write!(f, ", bytes {first} to {last}"),
            Some((0, None)) | None => Ok(()),
            Some((first, None)) => write!(f, ", from byte {first}"),
        }
    }
}

impl LockKind {
    /// Its key in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flock => "flock",
            Self::Posix => "posix",
            Self::Open => "ofd",
        }
    }
}

impl Display for Futex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("a futex"),
            Self::Mutex(owner) => write!(f, "pthread mutex owned by thread {owner}"),
            Self::PriorityInheriting(Some(owner)) => {
                write!(f, "priority-inheriting lock owned by thread {owner}")
            }
            Self::PriorityInheriting(None) => f.write_str("priority-inheriting lock"),
            Self::End(tid) => write!(f, "the end of thread {tid}"),
            Self::Runtime(RuntimeLock { name, owner }) => {
                f.write_str(&escape(name))?;
                owner.map_or(Ok(()), |owner| write!(f, ", held by thread {owner}"))
            }
        }
    }
}

/// The most descriptors that a line names.
const SHOWN: usize = 3;

impl Display for Polled {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " of {}", self.count)?;
        for (at, Descriptor { fd, object }) in self.first.iter().take(SHOWN).enumerate() {
            f.write_str(if at == 0 { ": " } else { "; " })?;
            match object {
                Object::Unknown => write!(f, "fd {fd}")?,
                object => write!(f, "{object} (fd {fd})")?,
            }
        }
        match self.count.saturating_sub(self.first.len().min(SHOWN)) {
            more @ 1.. if !self.first.is_empty() => write!(f, "; {more} more"),
            _ => Ok(()),
        }
    }
}

impl Display for Child {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any child"),
            Self::Group(None) => f.write_str("any child of its group"),
            Self::Group(Some(group)) => write!(f, "any child of group {group}"),
            Self::One { number, party } => {
                write!(f, "child {number}")?;
                match party {
                    // Its parent may know it by another number than we do.
                    Some(party) if party.pid.0 != *number => write!(f, ", {party}"),
                    Some(party) if !party.name().is_empty() => {
                        write!(f, " {}", escape(party.name()))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The most signals that a line names.
const MOST_SIGNALS: usize = 5;

/// A set of signals: number `n` is bit `n - 1`.
pub(super) struct Signals(pub(super) u64);

impl Signals {
    /// The names of its signals.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |number: i32| match nix::sys::signal::Signal::try_from(number) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) => format!("signal {number}"),
        };
        (0..64).filter(|bit| self.0 >> bit & 1 == 1).map(|bit| name(bit + 1)).collect()
    }
}

impl Display for Signals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = self.names();
        match names.len() {
            0 => f.write_str("no signal"),
            1..=MOST_SIGNALS => f.write_str(&names.join(", ")),
            many => write!(f, "{many} signals"),
        }
    }
}
