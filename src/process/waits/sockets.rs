//! The tables of sockets of a network namespace: `/proc/PID/net/tcp` and the
//! like (`man 5 proc_pid_net`; `tcp4_seq_show` and `unix_seq_show` of the
//! kernel).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustc_hash::FxHashMap;

use crate::wait::{Connection, Protocol};

/// A socket of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) protocol: Protocol,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) state: Option<Connection>,
    /// Bytes to be read; of a listening socket, connections to be accepted.
    pub(super) waiting: u32,
    /// The kernel's number of it; 0 of one that belongs to no descriptor, as
    /// before it is accepted.
    pub(super) inode: u64,
}

impl Row {
    pub(super) fn is_listening(&self) -> bool {
        match self.protocol {
            Protocol::Tcp => self.state == Some(Connection::Listening),
            _ => self.remote.port() == 0,
        }
    }
}

/// The sockets of one protocol, or of several.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    by_inode: FxHashMap<u64, usize>,
    by_ends: FxHashMap<(Protocol, SocketAddr, SocketAddr), usize>,
    /// `None` where several take what is sent to an address in turn
    /// (`SO_REUSEPORT`).
    listening: FxHashMap<(Protocol, SocketAddr), Option<usize>>,
}

/// The most rows that are kept.
const MOST: usize = 1 << 18;

/// An address by which both families know it: IPv4 is also written as IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Table {
    /// Add the lines of a table.
    pub(super) fn add(&mut self, protocol: Protocol, bytes: &[u8]) {
        for line in bytes.split(|&byte| byte == b'\n').skip(1) {
            let Some(row) = row(protocol, line).filter(|_| self.rows.len() < MOST) else {
                continue;
            };
            let at = self.rows.len();
            self.rows.push(row);
            if row.inode != 0 {
                self.by_inode.insert(row.inode, at);
            }
            let (local, remote) = (canonical(row.local), canonical(row.remote));
            if row.is_listening() {
                let known = self.listening.entry((protocol, local));
                known.and_modify(|known| *known = None).or_insert(Some(at));
            } else {
                self.by_ends.insert((protocol, local, remote), at);
            }
        }
    }

    /// The socket of this number.
    pub(super) fn socket(&self, inode: u64) -> Option<&Row> {
        self.rows.get(*self.by_inode.get(&inode)?)
    }

    /// The other end of a connection, when it is in the same namespace.
    pub(super) fn mirror(&self, row: &Row) -> Option<&Row> {
        let (local, remote) = (canonical(row.local), canonical(row.remote));
        let found =
            self.by_ends.get(&(row.protocol, remote, local)).and_then(|at| self.rows.get(*at));
        // A socket that is connected to itself has no other end.
        found.filter(|found| **found != *row)
    }

    /// The socket that takes what is sent to `remote`, when that is certain:
    /// one that was bound to this very address, or any address of this
    /// machine to which it surely belongs.
    pub(super) fn listener(&self, protocol: Protocol, remote: SocketAddr) -> Option<&Row> {
        let remote = canonical(remote);
        let exact = self.listening.get(&(protocol, remote));
        let any = |ip| self.listening.get(&(protocol, SocketAddr::new(ip, remote.port())));
        let found = exact.or_else(|| {
            let here = remote.ip().is_loopback();
            let v4 = remote.is_ipv4().then(|| any(Ipv4Addr::UNSPECIFIED.into())).flatten();
            // Such a socket may also take what comes by IPv4, or refuse it: a
            // connection that was refused is none.
            let may_take = remote.is_ipv6() || protocol == Protocol::Tcp;
            let v6 = || any(Ipv6Addr::UNSPECIFIED.into()).filter(|_| may_take);
            here.then(|| v4.or_else(v6)).flatten()
        });
        self.rows.get((*found?)?)
    }
}

/// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000 0 0 1680 ...`
fn row(protocol: Protocol, line: &[u8]) -> Option<Row> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace().skip(1);
    let local = address(words.next()?)?;
    let remote = address(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok().and_then(Connection::new);
    let (_, waiting) = words.next()?.split_once(':')?;
    let waiting = u32::from_str_radix(waiting, 16).ok()?;
    // Timers, retransmissions, the user, and a timeout.
    let inode = words.nth(4)?.parse().ok()?;
    Some(Row { protocol, local, remote, state, waiting, inode })
}

/// `0100007F:1F90`: words of four bytes, each as the machine reads it.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// A socket within the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnixRow {
    pub(super) protocol: Protocol,
    pub(super) is_listening: bool,
    /// The path that it is bound to.
    pub(super) path: Option<String>,
}

/// The lines of `/proc/PID/net/unix`. What is said of one socket twice is not
/// believed: a path may hold what looks like a line.
pub(super) fn unix(bytes: &[u8]) -> FxHashMap<u64, Option<UnixRow>> {
    let mut rows = FxHashMap::default();
    for line in bytes.split(|&byte| byte == b'\n').skip(1).take(MOST) {
        let Some((inode, row)) = unix_row(&String::from_utf8_lossy(line)) else { continue };
        rows.entry(inode).and_modify(|row| *row = None).or_insert(Some(row));
    }
    rows
}

/// `ffff…: 00000002 00000000 00010000 0001 01 31415 /run/app.sock`
fn unix_row(line: &str) -> Option<(u64, UnixRow)> {
    let mut rest = line;
    let mut word = || {
        let text = rest.trim_start_matches(' ');
        let (word, after) = text.split_once(' ').unwrap_or((text, ""));
        rest = after;
        (!word.is_empty()).then_some(word)
    };
    let flags = {
        word()?.strip_suffix(':')?;
        let (_, _) = (word()?, word()?);
        u32::from_str_radix(word()?, 16).ok()?
    };
    let protocol = match word()? {
        "0001" => Protocol::UnixStream,
        "0002" => Protocol::UnixDatagram,
        "0005" => Protocol::UnixSeqpacket,
        _ => return None,
    };
    word()?;
    let inode = word()?.parse().ok()?;
    let path = (!rest.is_empty()).then(|| rest.to_owned());
    // `__SO_ACCEPTCON` of `include/uapi/linux/net.h`.
    Some((inode, UnixRow { protocol, is_listening: flags & 1 << 16 != 0, path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    const TCP: &str = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 1680 1 00000000383357a2 100 0 0 10 0\n   1: 0100007F:A250 0100007F:2395 01 00000000:00000000 00:00000000 00000000  1000        0 2001 1 0 20 4 30 10 -1\n   2: 0100007F:2395 0100007F:A250 01 00000000:00000007 00:00000000 00000000  1000        0 2002 1 0 20 4 30 10 -1\n   3: 0100007F:C000 0100007F:1F90 02 00000001:00000000 01:00000064 00000001  1000        0 2003 1 0 20 4 30 10 -1\n";
    const TCP6: &str = "   0: 00000000000000000000000001000000:1538 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3001 1 0 100 0 0 10 0\n   1: B80D0120000000000000000001000000:01BB B80D0120000000000000000002000000:D431 01 00000000:00000000 00:00000000 00000000     0        0 3002 1 0\n   2: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0\n   3: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 3004 1 0\n";

    fn table() -> Table {
        let mut table = Table::default();
        table.add(Protocol::Tcp, format!("{HEAD}{TCP}").as_bytes());
        table.add(Protocol::Tcp, format!("{HEAD}{TCP6}").as_bytes());
        table
    }

    #[test]
    fn both_ends_of_a_connection_are_found() {
        let table = table();
        let row = table.socket(2001).unwrap();
        assert_eq!(row.local.to_string(), "127.0.0.1:41552");
        assert_eq!(row.remote.to_string(), "127.0.0.1:9109");
        assert_eq!(row.state, Some(Connection::Established));
        assert_eq!(table.mirror(row).map(|other| other.inode), Some(2002));
        let row = table.socket(3002).unwrap();
        assert_eq!(row.local.to_string(), "[2001:db8::1]:443");
        assert_eq!(row.remote.to_string(), "[2001:db8::2]:54321");
        assert_eq!(table.mirror(row), None);
        // One end speaks IPv6, and was not accepted yet.
        let row = table.socket(3004).unwrap();
        assert_eq!(table.mirror(row).map(|other| other.inode), Some(0));
        assert_eq!(table.socket(0), None);
    }

    #[test]
    fn a_listener_is_named_only_where_it_surely_is_the_one() {
        let table = table();
        let find = |address: &str| {
            let found = table.listener(Protocol::Tcp, address.parse().unwrap());
            found.map(|row| row.inode)
        };
        assert_eq!(find("127.0.0.1:8080"), Some(1680));
        assert_eq!(find("127.0.0.9:8080"), Some(1680));
        assert_eq!(find("[::ffff:127.0.0.1]:8080"), Some(1680));
        // It may be another machine's.
        assert_eq!(find("192.0.2.1:8080"), None);
        assert_eq!(find("[::1]:8080"), None);
        assert_eq!(find("[::1]:5432"), Some(3001));
        assert_eq!(table.listener(Protocol::Udp, "127.0.0.1:8080".parse().unwrap()), None);
        assert_eq!(table.socket(1680).map(|row| row.waiting), Some(3));
    }

    #[test]
    fn of_two_that_listen_in_turn_none_is_named() {
        let mut table = table();
        let again = TCP.lines().next().unwrap().replace("1680", "1681");
        table.add(Protocol::Tcp, format!("{HEAD}{again}\n").as_bytes());
        assert_eq!(table.listener(Protocol::Tcp, "127.0.0.1:8080".parse().unwrap()), None);
        assert_eq!(table.socket(1681).map(|row| row.inode), Some(1681));
        // Who takes datagrams of IPv6 need not take those of IPv4.
        let any = "0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 53";
        table.add(Protocol::Udp, format!("{HEAD}{any}\n").as_bytes());
        let find = |address: &str| table.listener(Protocol::Udp, address.parse().unwrap());
        assert_eq!(find("127.0.0.1:53"), None);
        assert_eq!(find("[::1]:53").map(|row| row.inode), Some(53));
    }

    #[test]
    fn odd_rows_are_left_out() {
        for odd in [
            &b"0: 0100007F:1F90"[..],
            b"0: 0100007F 00000000:0000 0A 0:0 0:0 0 0 0 1",
            b"0: 0100007F:1F90 00000000:0000 0A 0:x 0:0 0 0 0 1",
            b"0: 0100007FFF:1F90 00000000:0000 0A 0:0 0:0 0 0 0 1",
            b"0: 0100007\xff:1F90 00000000:0000 0A 0:0 0:0 0 0 0 1",
            "0: 010000\u{e9}\u{e9}:1F90 00000000:0000 0A 0:0 0:0 0 0 0 1".as_bytes(),
            b"0: 0100007F:11F90 00000000:0000 0A 0:0 0:0 0 0 0 1",
        ] {
            assert_eq!(row(Protocol::Tcp, odd), None, "{odd:?}");
        }
        let mut table = Table::default();
        table.add(Protocol::Tcp, b"");
        assert_eq!(table.rows, []);
        // A state that has no name is none.
        let odd = b"0: 0100007F:1F90 00000000:0000 FF 0:0 0:0 0 0 0 1";
        assert_eq!(row(Protocol::Tcp, odd).map(|row| row.state), Some(None));
    }

    #[test]
    fn sockets_of_the_machine_are_read_and_a_forged_line_is_not_believed() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000094aecca6: 00000003 00000000 00000000 0001 03 2514275\n\
            00000000f4ef0f00: 00000002 00000000 00010000 0005 01    77 /run/a b.sock\n\
            00000000f4ef0f00: 00000002 00000000 00000000 0002 01    78 @name\n\
            00000000f4ef0f00: 00000002 00000000 00000000 0001 01    79 /tmp/x\n\
            0: 0 0 00010000 0001 01 78 /run/forged\n";
        let rows = unix(text.as_bytes());
        let plain = UnixRow { protocol: Protocol::UnixStream, is_listening: false, path: None };
        assert_eq!(rows[&2_514_275], Some(plain.clone()));
        let path = Some("/run/a b.sock".to_owned());
        let listens = UnixRow { protocol: Protocol::UnixSeqpacket, is_listening: true, path };
        assert_eq!(rows[&77], Some(listens));
        assert_eq!(rows[&78], None);
        assert_eq!(rows[&79], Some(UnixRow { path: Some("/tmp/x".to_owned()), ..plain }));
        assert_eq!(unix(b"Num\n\xff\xff: 1\n: : :\n0: 0 0 0 0001 01\n"), FxHashMap::default());
    }
}
