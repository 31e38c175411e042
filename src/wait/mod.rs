//! What a blocked thread waits for: a system call, what is behind its
//! arguments, and who can end the wait. Values alone; `process` reads them.
//!
//! Whatever is not known for certain is `None`, empty, or the variant that says
//! less: a wait never names a file, a process or an owner that might be another
//! one.

pub mod calls;
mod json;
mod words;

use std::{net::SocketAddr, time::Duration};

use crate::task::{Pid, Syscall, Tid};

/// What a blocked thread waits for. Its `Display` is one line, such as
/// `read(3) of pipe [1234] from PID 812 redis-server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The system call that it is in.
    pub call: Syscall,
    /// The descriptor that the call is about.
    pub descriptor: Option<Descriptor>,
    /// What the call is about besides, or in place of, a descriptor.
    pub subject: Subject,
    /// After what time the call ends by itself; `None` when it does not, or
    /// that is not known.
    pub timeout: Option<Timeout>,
}

/// What a call is about besides a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// Nothing, or nothing that is known.
    #[default]
    Nothing,
    /// Time: the call waits for its timeout alone.
    Time,
    /// A lock of a file.
    Lock(FileLock),
    /// A futex.
    Futex(Futex),
    /// Several descriptors.
    Poll(Polled),
    /// A child that ends.
    Child(Child),
    /// Signals: number `n` is bit `n - 1`.
    Signals(u64),
}

/// A descriptor of the thread's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub fd: i32,
    /// What is behind it.
    pub object: Object,
}

/// What is behind a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// It is closed, or may not be looked at.
    Unknown,
    /// A file, a directory or a device, by the path that the kernel says.
    File(String),
    /// A pipe without a name.
    Pipe {
        /// The kernel's number of it.
        inode: u64,
        /// Which of its ends this is.
        end: End,
        /// Who holds the other one.
        others: Parties,
    },
    /// A counter between threads.
    EventFd {
        /// What it has counted.
        count: Option<u64>,
    },
    /// A timer.
    TimerFd {
        /// The time until it is due; `None` when it is not set.
        due: Option<Duration>,
    },
    /// Signals as a file: number `n` is bit `n - 1`.
    SignalFd(u64),
    /// Watched files.
    Inotify(Count),
    /// A set of watched descriptors.
    Epoll(Count),
    /// A process; `None` when it has ended, or is not in our namespace.
    PidFd(Option<Party>),
    /// A socket.
    Socket(Socket),
    /// Something else of the kernel's, by the name that it has there:
    /// `io_uring`.
    Other(String),
}

/// A number that was not counted to its end where there is much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// What was counted.
    pub number: usize,
    /// Whether there are more.
    pub more: bool,
}

/// The end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Out of which is read.
    Reading,
    /// Into which is written.
    Writing,
}

/// A process on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Its number.
    pub pid: Pid,
    /// Its command line, words separated by blanks, as it wrote it itself.
    pub command: String,
}

/// The processes that hold something, as far as this program may see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    /// Whether the process of the thread itself does.
    pub own: bool,
    /// Others, by number; at most [`Parties::MOST`] of them.
    pub others: Vec<Party>,
    /// How many more there are.
    pub more: usize,
}

impl Parties {
    /// The most that are named.
    pub const MOST: usize = 8;
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The kernel's number of it.
    pub inode: u64,
    /// What it speaks; `None` for what is in none of the tables that are read.
    pub protocol: Option<Protocol>,
    /// Its own address.
    pub local: Option<Place>,
    /// The address of the other end.
    pub remote: Option<Place>,
    /// How far the connection has come.
    pub state: Option<Connection>,
    /// Who holds the other end, when that is on this machine.
    pub peer: Parties,
    /// Whether the other end is connected and was not accepted yet: `peer`
    /// then is who listens.
    pub unaccepted: bool,
    /// Of a listening socket: connections that wait to be accepted.
    pub queue: Option<Queue>,
}

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6.
    Udp,
    /// A stream within the machine.
    UnixStream,
    /// Datagrams within the machine.
    UnixDatagram,
    /// Datagrams in their order within the machine.
    UnixSeqpacket,
}

/// The address of an end of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a network.
    Inet(SocketAddr),
    /// A path; one that begins with `@` is in no file system.
    Path(String),
}

/// How far a connection has come: the kernel's states of TCP, whose numbers the
/// tables use for other protocols, too (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "RFC 9293 says what they mean")]
pub enum Connection {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Closed,
    CloseWait,
    LastAck,
    Listening,
    Closing,
}

/// Connections that wait to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many there are.
    pub waiting: u32,
    /// How many the listener wants at most: the kernel lets in one more.
    pub limit: Option<u32>,
}

/// A lock of a file that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLock {
    /// By which rules.
    pub kind: LockKind,
    /// Whether it is to be held alone; `None` when the call does not say.
    pub exclusive: Option<bool>,
    /// The first and the last byte that are wanted; `None` for the last is the
    /// end of the file. `None` for a lock of the whole file.
    pub range: Option<(u64, Option<u64>)>,
    /// Who holds it.
    pub holder: Option<Party>,
}

/// The rules of a file lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `man 2 flock`: of an open file.
    Flock,
    /// `man 2 fcntl`, `F_SETLKW`: of a process.
    Posix,
    /// `man 2 fcntl`, `F_OFD_SETLKW`: of an open file.
    Open,
}

/// What a futex is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Futex {
    /// Only that it is one.
    Plain,
    /// A mutex of the C library, and the thread that holds it.
    Mutex(Tid),
    /// One that lends its owner the waiter's priority, and the owner.
    PriorityInheriting(Option<Tid>),
    /// The end of a thread: `pthread_join`.
    End(Tid),
    /// A lock of the language runtime. Only who knows the runtime can say so:
    /// see [`Wait::for_runtime`].
    Runtime(RuntimeLock),
}

/// A lock of a language runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeLock {
    /// What it is called: `the GIL`.
    pub name: String,
    /// The thread that holds it.
    pub owner: Option<Tid>,
}

/// Descriptors of which any may end the wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// How many there are.
    pub count: usize,
    /// The first [`Polled::MOST`] of them.
    pub first: Vec<Descriptor>,
}

impl Polled {
    /// The most that are looked at.
    pub const MOST: usize = 8;
}

/// Which child is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Child {
    /// Any.
    Any,
    /// Any of a group; `None` for the caller's own.
    Group(Option<i32>),
    /// One, by the number that its parent knows it by.
    One {
        /// That number.
        number: i32,
        /// The process as it is known here.
        party: Option<Party>,
    },
}

/// When a call ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// After so long, counted from when the call began.
    After(Duration),
    /// At a time of a clock, so long from now; `None` where that clock cannot
    /// be read from here.
    At(Option<Duration>),
}

impl Wait {
    /// The wait in `call` when nothing else is known of it.
    pub const fn bare(call: Syscall) -> Self {
        Self { call, descriptor: None, subject: Subject::Nothing, timeout: None }
    }

    /// The same wait, if it is for a futex, when the language runtime says that
    /// this is `lock`; any other as it is.
    #[must_use]
    pub fn for_runtime(self, lock: RuntimeLock) -> Self {
        match self.subject {
            Subject::Futex(_) => Self { subject: Subject::Futex(Futex::Runtime(lock)), ..self },
            _ => self,
        }
    }
}

impl Descriptor {
    /// A descriptor of which only the number is known.
    pub const fn unknown(fd: i32) -> Self {
        Self { fd, object: Object::Unknown }
    }
}

impl Socket {
    /// A socket of which only the number is known.
    pub fn unknown(inode: u64) -> Self {
        Self {
            inode,
            protocol: None,
            local: None,
            remote: None,
            state: None,
            peer: Parties::default(),
            unaccepted: false,
            queue: None,
        }
    }
}

impl Connection {
    /// The state that has this number in the kernel's tables.
    pub const fn new(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Closed,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listening,
            11 => Self::Closing,
            _ => return None,
        })
    }
}

/// Programs that run others, which are given as their first argument.
const INTERPRETERS: [&str; 12] = [
    "python", "pypy", "perl", "ruby", "node", "php", "sh", "bash", "dash", "zsh", "ksh", "Rscript",
];

impl Party {
    /// A short name: the file name of the program, or of the script that an
    /// interpreter runs.
    pub fn name(&self) -> &str {
        if self.command.starts_with('[') {
            // The kernel's own name of a process without a command line.
            return &self.command;
        }
        let mut words = self.command.split_ascii_whitespace();
        let Some(program) = words.next().map(base) else { return "" };
        let bare =
            program.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        if !INTERPRETERS.contains(&bare) {
            return program;
        }
        // After an option comes no script, or one that cannot be told from the
        // option's own argument.
        match words.next() {
            Some(script) if !script.starts_with('-') => base(script),
            _ => program,
        }
    }
}

/// The last part of a path.
fn base(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_called_by_what_it_runs() {
        let check = |command: &str, name: &str| {
            assert_eq!(Party { pid: Pid(1), command: command.to_owned() }.name(), name);
        };
        check("/usr/bin/redis-server *:6379", "redis-server");
        check("python3.11 bin/helpers.py upstream", "helpers.py");
        check("/opt/python3 -m http.server", "python3");
        check("python3", "python3");
        check("[kworker/0:1]", "[kworker/0:1]");
        check("/bin/sh -c 'sleep 1'", "sh");
        check("", "");
        check("/", "/");
    }
}
