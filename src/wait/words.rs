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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::task::{Pid, Syscall, Tid};

    fn wait(call: libc::c_long) -> Wait {
        Wait::bare(Syscall(u32::try_from(call).unwrap()))
    }

    fn on(call: libc::c_long, fd: i32, object: Object) -> Wait {
        Wait { descriptor: Some(Descriptor { fd, object }), ..wait(call) }
    }

    fn party(pid: i32, command: &str) -> Party {
        Party { pid: Pid(pid), command: command.to_owned() }
    }

    fn parties(others: Vec<Party>) -> Parties {
        Parties { others, ..Parties::default() }
    }

    fn check(wait: &Wait, line: &str) {
        assert_eq!(wait.to_string(), line);
        assert_eq!(wait.json()["text"], line);
    }

    #[test]
    fn descriptors() {
        let file = Object::File("/srv/a\x1b[2J b".to_owned());
        check(&on(libc::SYS_read, 3, file), "read(3) of /srv/a\\x1b[2J b");
        check(&on(libc::SYS_close, 3, Object::Unknown), "close(3)");
        let pipe = |end, others| Object::Pipe { inode: 1234, end, others };
        let redis = || party(812, "redis-server *:6379");
        check(
            &on(libc::SYS_read, 3, pipe(End::Reading, parties(vec![redis()]))),
            "read(3) of pipe [1234] from PID 812 redis-server",
        );
        let crowd = Parties { others: vec![redis(), redis()], more: 1, own: true };
        check(
            &on(libc::SYS_write, 4, pipe(End::Writing, crowd)),
            "write(4) of pipe [1234] to PID 812 redis-server and 2 others",
        );
        let own = Parties { own: true, ..Parties::default() };
        let line = "read(3) of pipe [1234] from this process itself";
        check(&on(libc::SYS_read, 3, pipe(End::Reading, own)), line);
        let unknown = pipe(End::Reading, Parties::default());
        check(&on(libc::SYS_read, 3, unknown), "read(3) of pipe [1234]");
        let count = Count { number: 12, more: false };
        let timeout = Some(Timeout::After(Duration::from_millis(100)));
        let epoll = on(libc::SYS_epoll_wait, 5, Object::Epoll(count));
        check(&Wait { timeout, ..epoll.clone() }, "epoll_wait(5) on 12 descriptors, 100 ms");
        let timeout = Some(Timeout::After(Duration::ZERO));
        check(&Wait { timeout, ..epoll }, "epoll_wait(5) on 12 descriptors, 0 ms");
        let more = Object::Epoll(Count { number: 1, more: true });
        check(&on(libc::SYS_epoll_wait, 5, more), "epoll_wait(5) on at least 1 descriptor");
        let due = Some(Duration::from_millis(2500));
        let line = "read(9) of timerfd, due in 2.5 s";
        check(&on(libc::SYS_read, 9, Object::TimerFd { due }), line);
        let signals = Object::SignalFd(1 << 1 | 1 << 39);
        check(&on(libc::SYS_read, 9, signals), "read(9) of signalfd for SIGINT, signal 40");
        let evil = Object::PidFd(Some(party(7, "/bin/\u{202e}x")));
        check(&on(libc::SYS_waitid, 9, evil), "waitid(9) of pidfd of PID 7 \\u{202e}x");
    }

    fn socket(protocol: Protocol, local: &str, remote: Option<&str>) -> Socket {
        let place = |text: &str| Place::Inet(text.parse().unwrap());
        Socket {
            protocol: Some(protocol),
            local: Some(place(local)),
            remote: remote.map(place),
            ..Socket::unknown(77)
        }
    }

    #[test]
    fn sockets() {
        let helper = || parties(vec![party(17380, "python3 bin/helpers.py upstream")]);
        let state = Some(Connection::Established);
        let tcp = socket(Protocol::Tcp, "127.0.0.1:41552", Some("127.0.0.1:9109"));
        let tcp = Socket { state, peer: helper(), ..tcp };
        check(
            &on(libc::SYS_recvfrom, 16, Object::Socket(tcp.clone())),
            "recvfrom(16) of tcp 127.0.0.1:41552 -> 127.0.0.1:9109 established, PID 17380 helpers.py",
        );
        let wanting = Socket { unaccepted: true, ..tcp };
        check(
            &on(libc::SYS_recvfrom, 16, Object::Socket(wanting)),
            "recvfrom(16) of tcp 127.0.0.1:41552 -> 127.0.0.1:9109 established, PID 17380 helpers.py, not accepted yet",
        );
        let queue = |limit| Some(Queue { waiting: 3, limit });
        let state = Some(Connection::Listening);
        let listens = Socket { state, ..socket(Protocol::Tcp, "0.0.0.0:8080", None) };
        let full = Socket { queue: queue(Some(128)), ..listens.clone() };
        check(
            &on(libc::SYS_accept4, 6, Object::Socket(full)),
            "accept4(6) of tcp 0.0.0.0:8080 listening, 3 of 128 wait",
        );
        let full = Socket { queue: queue(None), ..listens };
        check(
            &on(libc::SYS_accept4, 6, Object::Socket(full)),
            "accept4(6) of tcp 0.0.0.0:8080 listening, 3 wait",
        );
        let path = Some(Place::Path("@a\nb".to_owned()));
        let unix = Socket {
            protocol: Some(Protocol::UnixStream),
            remote: path,
            state: Some(Connection::Established),
            ..Socket::unknown(77)
        };
        let line = "recvmsg(6) of unix stream -> @a\\nb";
        check(&on(libc::SYS_recvmsg, 6, Object::Socket(unix)), line);
        let unknown = Object::Socket(Socket::unknown(77));
        check(&on(libc::SYS_recvmsg, 6, unknown), "recvmsg(6) of socket [77]");
        let state = Some(Connection::Established);
        let dns = socket(Protocol::Udp, "[::1]:40000", Some("[::1]:53"));
        let dns = Descriptor { fd: 21, object: Object::Socket(Socket { state, ..dns }) };
        let subject = Subject::Poll(Polled { count: 1, first: vec![dns] });
        let timeout = Some(Timeout::After(Duration::from_secs(5)));
        check(
            &Wait { subject, timeout, ..wait(libc::SYS_poll) },
            "poll of 1: udp [::1]:40000 -> [::1]:53 (fd 21), 5.0 s",
        );
    }

    #[test]
    fn what_is_no_descriptor() {
        let of = |call, subject| Wait { subject, ..wait(call) };
        let holder = Some(party(20041, "/usr/bin/python3.11 bin/helpers.py flocker"));
        let lock = |kind, range| {
            Subject::Lock(FileLock { kind, exclusive: Some(true), range, holder: holder.clone() })
        };
        let audit = |call, subject| {
            let object = Object::File("/run/audit.log".to_owned());
            Wait { subject, ..on(call, 17, object) }
        };
        check(
            &audit(libc::SYS_flock, lock(LockKind::Flock, None)),
            "flock(17, exclusive) of /run/audit.log, held by PID 20041 helpers.py",
        );
        check(
            &audit(libc::SYS_fcntl, lock(LockKind::Posix, Some((120, Some(127))))),
            "fcntl(17, exclusive, bytes 120 to 127) of /run/audit.log, held by PID 20041 helpers.py",
        );
        let futex = |futex| of(libc::SYS_futex, Subject::Futex(futex));
        check(&futex(Futex::Plain), "futex");
        check(&futex(Futex::Mutex(Tid(812))), "futex: pthread mutex owned by thread 812");
        let gil = RuntimeLock { name: "the GIL".to_owned(), owner: Some(Tid(7)) };
        let timeout = Some(Timeout::At(Some(Duration::from_micros(4200))));
        check(
            &Wait { timeout, ..futex(Futex::Plain) }.for_runtime(gil.clone()),
            "futex: the GIL, held by thread 7, 4.2 ms left",
        );
        assert_eq!(wait(libc::SYS_read).for_runtime(gil), wait(libc::SYS_read));
        let timeout = Some(Timeout::After(Duration::from_millis(50)));
        let sleep = of(libc::SYS_clock_nanosleep, Subject::Time);
        check(&Wait { timeout, ..sleep.clone() }, "clock_nanosleep 50 ms");
        check(&Wait { timeout: Some(Timeout::At(None)), ..sleep }, "clock_nanosleep");
        let child = |child| of(libc::SYS_wait4, Subject::Child(child));
        check(&child(Child::Any), "wait4 for any child");
        check(&child(Child::One { number: 123, party: None }), "wait4 for child 123");
        let inside = Child::One { number: 2, party: Some(party(4711, "sleep 9")) };
        check(&child(inside), "wait4 for child 2, PID 4711 sleep");
        let first = (3..11).map(Descriptor::unknown).collect();
        check(
            &of(libc::SYS_select, Subject::Poll(Polled { count: 20, first })),
            "select of 20: fd 3; fd 4; fd 5; 17 more",
        );
        let many = of(libc::SYS_rt_sigtimedwait, Subject::Signals(u64::MAX));
        check(&many, "rt_sigtimedwait for 64 signals");
    }
}
