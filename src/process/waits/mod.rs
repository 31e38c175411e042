//! What the threads of a live process wait for.
//!
//! All of it is read without touching the process: its memory, and files of
//! `/proc` in its own namespaces. Each read is bounded, and what the process
//! may have written is decoded, never believed.

mod arguments;
mod diagnosis;
mod fdinfo;
mod futex;
mod holders;
mod locks;
mod network;
mod sockets;
mod text;

use std::{fs, os::unix::fs::PermissionsExt};

use procfs::FromRead;
use rustc_hash::FxHashMap;

use self::{
    arguments::{Arguments, Flock},
    fdinfo::FdInfo,
    futex::Waited,
    holders::{Holders, Thing},
    locks::{Ask, Line},
    network::Network,
};
use super::LiveMemory;
use crate::{
    memory::Address,
    task::{Pid, Syscall, Tid},
    wait::{
        Child, Descriptor, End, FileLock, Futex, LockKind, Object, Polled, Subject, Timeout, Wait,
        calls::{Limit, Shape, Topic},
    },
};

/// Says of the threads of one process what they wait for.
///
/// Between two calls of [`Self::begin`] everything is taken to be of one
/// moment: tables are read once, and descriptors looked at once.
#[derive(Debug)]
pub struct Waits {
    pid: Pid,
    memory: LiveMemory,
    holders: Holders,
    network: Network,
    /// Whether its clocks are ours.
    same_clocks: bool,
    /// Whether it has other numbers for its threads than we have.
    is_nested: bool,
    /// What is true for this round alone.
    round: Round,
}

#[derive(Debug, Default)]
struct Round {
    objects: FxHashMap<i32, Object>,
    locks: Option<Vec<Line>>,
    /// Its threads, by the numbers that it has for them.
    threads: Option<FxHashMap<i32, Tid>>,
}

/// The most bytes of `/proc/locks` and of an epoll set's `fdinfo` that are
/// read.
const MOST: usize = 4 << 20;

/// The most threads or children whose numbers are looked up.
const MOST_TASKS: usize = 1 << 16;

impl Waits {
    /// A reader for the process `pid`. It reads nothing yet but in which
    /// namespaces that is.
    pub fn new(pid: Pid) -> Self {
        let clocks = |who: &str| fs::read_link(format!("/proc/{who}/ns/time")).ok();
        Self {
            pid,
            memory: LiveMemory::new(pid),
            holders: Holders::default(),
            network: Network::new(pid),
            same_clocks: clocks("self") == clocks(&pid.to_string()),
            is_nested: numbers(&format!("/proc/{pid}/status")).len() > 1,
            round: Round::default(),
        }
    }

    /// The process whose threads these are.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// A new moment begins: what was only true in the one before is dropped.
    pub fn begin(&mut self) {
        self.round = Round::default();
        self.holders.begin();
        self.network.begin();
    }

    /// What the thread `tid` waits for, which is blocked in `call` with these
    /// arguments. Whether it still is when this returns is for the caller to
    /// know: what is said of another call's arguments means nothing.
    pub fn of(&mut self, tid: Tid, call: Syscall, arguments: [u64; 6]) -> Wait {
        let shape = Shape::of(call);
        let mut wait = Wait::bare(call);
        wait.timeout = self.arguments(arguments).timeout(shape.limit);
        if let Some(index) = shape.descriptor {
            wait.descriptor = self.named(self.arguments(arguments).int(index));
        }
        wait.subject = match shape.topic {
            Topic::Nothing => Subject::Nothing,
            Topic::Time => Subject::Time,
            Topic::Flock => self.flock(arguments),
            Topic::Fcntl => self.fcntl(arguments),
            Topic::Futex => Subject::Futex(self.futex(tid, arguments)),
            Topic::Poll => {
                let found = self.arguments(arguments).polled(Polled::MOST);
                self.polled(found)
            }
            Topic::Select => {
                let found = self.arguments(arguments).selected(Polled::MOST);
                self.polled(found)
            }
            Topic::Wait => {
                let number = self.arguments(arguments).int(0);
                self.child_of_wait(number)
            }
            Topic::WaitId => {
                match (self.arguments(arguments).int(0), self.arguments(arguments).int(1)) {
                    // `idtype_t`: all, a process, a group, a pidfd.
                    (0, _) => Subject::Child(Child::Any),
                    (1, number) => Subject::Child(self.child(number)),
                    (2, group) => Subject::Child(Child::Group(Some(group).filter(|it| *it != 0))),
                    (3, fd) => {
                        wait.descriptor = self.named(fd);
                        Subject::Nothing
                    }
                    _ => Subject::Nothing,
                }
            }
            Topic::Signals => {
                let signals = self.arguments(arguments).signals(0);
                signals.map_or(Subject::Nothing, Subject::Signals)
            }
        };
        self.settle(shape, wait)
    }

    /// A `poll` or `select` of nothing waits for time, as does one that is
    /// known to.
    fn settle(&self, shape: Shape, mut wait: Wait) -> Wait {
        if let Subject::Poll(Polled { count: 0, .. }) = wait.subject {
            wait.subject = Subject::Time;
        }
        // It is told from now, and not from when it began.
        if let (Limit::Sleep, Some(Timeout::At(None))) = (shape.limit, wait.timeout) {
            wait.timeout = None;
        }
        wait
    }

    fn arguments(&self, values: [u64; 6]) -> Arguments<'_> {
        Arguments { memory: &self.memory, values, same_clocks: self.same_clocks }
    }

    /// The descriptor of this number; `None` for one that is none, such as
    /// `AT_FDCWD`.
    fn named(&mut self, fd: i32) -> Option<Descriptor> {
        (fd >= 0).then(|| Descriptor { fd, object: self.object(fd) })
    }

    fn object(&mut self, fd: i32) -> Object {
        if let Some(known) = self.round.objects.get(&fd) {
            return known.clone();
        }
        let object = self.look_at(fd);
        self.round.objects.insert(fd, object.clone());
        object
    }

    fn look_at(&mut self, fd: i32) -> Object {
        let Some(link) = holders::link(self.pid.0, fd) else { return Object::Unknown };
        match Thing::new(&link) {
            Some(thing @ Thing::Pipe(inode)) => {
                let path = format!("/proc/{}/fd/{fd}", self.pid);
                let mode = fs::symlink_metadata(path).map(|about| about.permissions().mode());
                let (end, other) = match mode.unwrap_or_default() & 0o600 {
                    0o200 => (End::Writing, End::Reading),
                    _ => (End::Reading, End::Writing),
                };
                let others = self.holders.of(thing, Some(other), self.pid);
                return Object::Pipe { inode, end, others };
            }
            Some(Thing::Socket(inode)) => {
                return Object::Socket(self.network.socket(inode, fd, &mut self.holders));
            }
            None => {}
        }
        if link.starts_with('/') {
            return Object::File(link);
        }
        let name = link.strip_prefix("anon_inode:").unwrap_or(&link);
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        match bare {
            "eventfd" => Object::EventFd { count: self.fdinfo(fd).counted },
            "timerfd" => Object::TimerFd { due: self.fdinfo(fd).due.filter(|due| !due.is_zero()) },
            "signalfd" => Object::SignalFd(self.fdinfo(fd).signals.unwrap_or_default()),
            "inotify" => Object::Inotify(self.fdinfo(fd).watches),
            "eventpoll" => Object::Epoll(self.fdinfo(fd).watched),
            _ if bare.starts_with("pidfd") => {
                let process = self.fdinfo(fd).process;
                Object::PidFd(process.and_then(|pid| self.holders.party(pid)))
            }
            other => Object::Other(other.to_owned()),
        }
    }

    fn fdinfo(&self, fd: i32) -> FdInfo {
        match text::read(format!("/proc/{}/fdinfo/{fd}", self.pid), MOST) {
            Ok((bytes, more)) => fdinfo::parse(&bytes, more),
            Err(_) => FdInfo::default(),
        }
    }

    fn flock(&mut self, arguments: [u64; 6]) -> Subject {
        let arguments = self.arguments(arguments);
        let (fd, operation) = (arguments.int(0), arguments.int(1) & !libc::LOCK_NB);
        let exclusive = match operation {
            libc::LOCK_EX => Some(true),
            libc::LOCK_SH => Some(false),
            _ => None,
        };
        Subject::Lock(self.lock(LockKind::Flock, fd, exclusive, None))
    }

    fn fcntl(&mut self, arguments: [u64; 6]) -> Subject {
        let arguments = self.arguments(arguments);
        let kind = match arguments.int(1) {
            libc::F_SETLKW => LockKind::Posix,
            libc::F_OFD_SETLKW => LockKind::Open,
            _ => return Subject::Nothing,
        };
        let fd = arguments.int(0);
        let Flock { exclusive, range } =
            arguments.flock().unwrap_or(Flock { exclusive: None, range: None });
        Subject::Lock(self.lock(kind, fd, exclusive, range))
    }

    fn lock(
        &mut self,
        kind: LockKind,
        fd: i32,
        exclusive: Option<bool>,
        range: Option<(u64, Option<u64>)>,
    ) -> FileLock {
        let inode = self.fdinfo(fd).inode;
        let lines = self.round.locks.get_or_insert_with(|| {
            let bytes = text::read("/proc/locks", MOST).map(|(bytes, _)| bytes);
            locks::parse(&bytes.unwrap_or_default())
        });
        let wanted = locks::wanted(lines, Ask { pid: self.pid, kind, exclusive, inode, range });
        FileLock {
            kind,
            exclusive: exclusive.or(wanted.as_ref().map(|wanted| wanted.exclusive)),
            range: match kind {
                LockKind::Flock => None,
                _ => range.or(wanted.as_ref().map(|wanted| wanted.range)),
            },
            holder: wanted.and_then(|wanted| wanted.holder).and_then(|pid| self.holders.party(pid)),
        }
    }

    fn futex(&mut self, tid: Tid, values: [u64; 6]) -> Futex {
        let arguments = self.arguments(values);
        let waited = Waited {
            tid,
            at: Address(values[0]),
            operation: arguments.int(1),
            value: arguments.int(2).cast_unsigned(),
        };
        let Self { memory, round, pid, is_nested, .. } = self;
        let mut thread = |number: u32| {
            let number = i32::try_from(number).ok().filter(|number| *number > 0)?;
            if !*is_nested {
                let lives = fs::metadata(format!("/proc/{pid}/task/{number}")).is_ok();
                return lives.then_some(Tid(number));
            }
            let known = round.threads.get_or_insert_with(|| inner_numbers(*pid));
            known.get(&number).copied()
        };
        futex::look(waited, memory, &mut thread)
    }

    fn polled(&mut self, found: Option<(usize, Vec<i32>)>) -> Subject {
        let Some((count, fds)) = found else { return Subject::Nothing };
        let first = fds.into_iter().filter_map(|fd| self.named(fd)).collect();
        Subject::Poll(Polled { count, first })
    }

    /// `man 2 wait4`.
    fn child_of_wait(&mut self, number: i32) -> Subject {
        Subject::Child(match number {
            -1 => Child::Any,
            0 => Child::Group(None),
            1.. => self.child(number),
            _ => Child::Group(Some(number.saturating_neg())),
        })
    }

    /// The child that the process knows by this number.
    fn child(&mut self, number: i32) -> Child {
        let pid = if self.is_nested { self.outer_number(number) } else { Some(Pid(number)) };
        Child::One { number, party: pid.and_then(|pid| self.holders.party(pid)) }
    }

    /// The number that we have for a child that is in another namespace.
    fn outer_number(&self, number: i32) -> Option<Pid> {
        let pid = self.pid;
        let tasks = entries(&format!("/proc/{pid}/task"));
        let children = tasks.flat_map(|tid| {
            let path = format!("/proc/{pid}/task/{tid}/children");
            let bytes = text::read(path, MOST).map(|(bytes, _)| bytes).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i32>>()
        });
        let mut children = children.take(MOST_TASKS);
        let depth = numbers(&format!("/proc/{pid}/status")).len();
        // The parent knows it by the number of its own namespace, which need
        // not be the innermost.
        let fits = |child: &i32| {
            numbers(&format!("/proc/{child}/status")).get(depth.wrapping_sub(1)) == Some(&number)
        };
        children.find(fits).map(Pid)
    }
}

/// The numbers of a task, from our namespace to the innermost.
fn numbers(status: &str) -> Vec<i32> {
    let status = procfs::process::Status::from_file(status);
    status.ok().and_then(|status| status.nspid).unwrap_or_default()
}

/// The threads of a process by their innermost numbers.
fn inner_numbers(pid: Pid) -> FxHashMap<i32, Tid> {
    let of = |tid: i32| {
        let inner = *numbers(&format!("/proc/{pid}/task/{tid}/status")).last()?;
        Some((inner, Tid(tid)))
    };
    entries(&format!("/proc/{pid}/task")).take(MOST_TASKS).filter_map(of).collect()
}

/// The entries of a directory that are numbers.
fn entries(directory: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
