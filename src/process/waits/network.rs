//! What a socket is connected to, and who holds the other end.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    diagnosis::Diagnosis,
    holders::{Holders, PAUSE, Thing},
    sockets::{self, Row, Table, UnixRow},
    text,
};
use crate::{
    sys::pidfd::PidFd,
    task::Pid,
    wait::{Connection, Place, Protocol, Queue, Socket},
};

/// The sockets of the network namespace that a process is in.
#[derive(Debug)]
pub(super) struct Network {
    pid: Pid,
    process: Option<PidFd>,
    tcp: Kept<Table>,
    udp: Kept<Table>,
    unix: Kept<FxHashMap<u64, Option<UnixRow>>>,
    /// `None` in a namespace that is not ours, about which it does not speak.
    diagnosis: Option<Diagnosis>,
}

/// What was read, and is read again only after so many times as long as that
/// took.
#[derive(Debug)]
struct Kept<T> {
    value: Option<T>,
    read: Option<(Instant, Duration)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { value: None, read: None }
    }
}

impl<T> Kept<T> {
    fn begin(&mut self, now: Instant) {
        let due = |(at, took): (Instant, Duration)| {
            now.saturating_duration_since(at) >= took.saturating_mul(PAUSE)
        };
        if self.read.is_some_and(due) {
            self.value = None;
        }
    }

    fn get(&mut self, read: impl FnOnce() -> T) -> &T {
        let Self { value, read: when } = self;
        value.get_or_insert_with(|| {
            let began = Instant::now();
            let value = read();
            *when = Some((began, began.elapsed()));
            value
        })
    }
}

/// The most bytes of a table that are read.
const MOST: usize = 32 << 20;

impl Network {
    pub(super) fn new(pid: Pid) -> Self {
        let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
        let own = namespace("self");
        let is_ours = own.is_some() && own == namespace(&pid.to_string());
        Self {
            pid,
            process: PidFd::open(pid).ok(),
            tcp: Kept::default(),
            udp: Kept::default(),
            unix: Kept::default(),
            diagnosis: is_ours.then(Diagnosis::open).flatten(),
        }
    }

    /// A new round begins.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        self.tcp.begin(now);
        self.udp.begin(now);
        self.unix.begin(now);
    }

    /// The socket of this number, behind the descriptor `fd` of the process.
    pub(super) fn socket(&mut self, inode: u64, fd: i32, holders: &mut Holders) -> Socket {
        let pid = self.pid;
        let found = [
            (Protocol::Tcp, &mut self.tcp, ["tcp", "tcp6"]),
            (Protocol::Udp, &mut self.udp, ["udp", "udp6"]),
        ]
        .into_iter()
        .find_map(|(protocol, kept, names)| {
            let table = kept.get(|| read(pid, protocol, names));
            let row = *table.socket(inode)?;
            Some((row, Other::of(table, &row)))
        });
        match found {
            Some((row, other)) => self.inet(&row, fd, other, holders),
            None => self.unix(inode, holders),
        }
    }

    fn inet(&self, row: &Row, fd: i32, other: Other, holders: &mut Holders) -> Socket {
        let listens = row.state == Some(Connection::Listening);
        let queue = listens.then(|| {
            let asked = self.process.as_ref().and_then(|process| process.listen_queue(fd).ok());
            let known = Queue { waiting: row.waiting, limit: None };
            asked.map_or(known, |(waiting, limit)| Queue { waiting, limit: Some(limit) })
        });
        let mut holder = |inode| holders.of(Thing::Socket(inode), None, self.pid);
        Socket {
            inode: row.inode,
            protocol: Some(row.protocol),
            local: Some(Place::Inet(row.local)),
            remote: Some(Place::Inet(row.remote)).filter(|_| row.remote.port() != 0),
            state: row.state,
            peer: other.inode.map(&mut holder).unwrap_or_default(),
            unaccepted: other.unaccepted,
            queue,
        }
    }

    fn unix(&mut self, inode: u64, holders: &mut Holders) -> Socket {
        let pid = self.pid;
        let rows = self.unix.get(|| {
            let bytes = text::read(format!("/proc/{pid}/net/unix"), MOST);
            sockets::unix(&bytes.map(|(bytes, _)| bytes).unwrap_or_default())
        });
        let row = |inode: u64| rows.get(&inode).and_then(Option::as_ref);
        let Some(own) = row(inode) else { return Socket::unknown(inode) };
        let answer = self.diagnosis.as_ref().and_then(|diagnosis| diagnosis.ask(inode));
        let answer = answer.unwrap_or_default();
        let path = |row: &UnixRow| row.path.clone().map(Place::Path);
        let peer = answer.peer.map(|peer| holders.of(Thing::Socket(peer), None, pid));
        Socket {
            protocol: Some(own.protocol),
            local: path(own),
            remote: answer.peer.and_then(row).and_then(path),
            state: own.is_listening.then_some(Connection::Listening),
            peer: peer.unwrap_or_default(),
            queue: answer.queue,
            ..Socket::unknown(inode)
        }
    }
}

/// The sockets of one protocol in the namespace of a process.
fn read(pid: Pid, protocol: Protocol, names: [&str; 2]) -> Table {
    let mut table = Table::default();
    for name in names {
        if let Ok((bytes, _)) = text::read(format!("/proc/{pid}/net/{name}"), MOST) {
            table.add(protocol, &bytes);
        }
    }
    table
}

/// The other end of a connection, as far as it is in the same namespace.
#[derive(Clone, Copy, Debug, Default)]
struct Other {
    inode: Option<u64>,
    unaccepted: bool,
}

impl Other {
    fn of(table: &Table, row: &Row) -> Self {
        use Connection::{CloseWait, Established, SynSent};
        if row.remote.port() == 0 {
            return Self::default();
        }
        let listener = || table.listener(row.protocol, row.remote).map(|other| other.inode);
        let listener = || listener().filter(|inode| *inode != 0 && *inode != row.inode);
        match table.mirror(row) {
            Some(other) if other.inode != 0 => Self { inode: Some(other.inode), unaccepted: false },
            // A socket that was closed would be in another state.
            Some(other) if matches!(other.state, Some(Established | CloseWait)) => {
                let inode = listener();
                Self { inode, unaccepted: inode.is_some() }
            }
            Some(_) => Self::default(),
            None if row.protocol == Protocol::Udp || row.state == Some(SynSent) => {
                Self { inode: listener(), unaccepted: false }
            }
            None => Self::default(),
        }
    }
}
