//! The live target: a process of this machine, and what the kernel says of it.

pub mod access;
pub mod children;
pub mod ending;
mod memory;
mod roots;
mod throttling;
mod waits;
mod written;

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub use memory::LiveMemory;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use procfs::FromRead;
pub use roots::Roots;
pub use throttling::Throttling;
pub use waits::Waits;
pub use written::Written;

use crate::{
    snapshot::{Mapping, Root, maps},
    sys::pidfd::PidFd,
    task::{Pid, Tid},
};

/// A live process.
///
/// When it has ended, its number may come to mean another one, also while this
/// is held. But whether this one has ended can always be asked
/// ([`Self::has_ended`]), and what was opened here stays its own.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    fd: PidFd,
    /// `/proc/PID/task`, whose link count is that of the threads.
    task: File,
    /// `/proc/PID/root`, held open: the files below it can be reached even
    /// after the process has ended.
    root: Arc<File>,
    /// `/proc/PID/task/PID/stat`, for the state of the first thread.
    leader: File,
    clock: Option<ClockId>,
}

impl Process {
    /// Take hold of a process.
    ///
    /// # Errors
    /// `ESRCH` or `ENOENT` when there is none of that number, `EACCES` when it
    /// may not be looked at.
    pub fn open(pid: Pid) -> io::Result<Self> {
        let fd = PidFd::open(pid)?;
        let path = |name: &str| format!("/proc/{pid}/{name}");
        let by_path =
            |name: &str| File::options().read(true).custom_flags(libc::O_PATH).open(path(name));
        // A first thread that has ended has no root; the others still do.
        let of_thread = || {
            let entries = fs::read_dir(path("task")).ok()?;
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.filter_map(|tid| by_path(&format!("task/{tid}/root")).ok()).next()
        };
        Ok(Self {
            pid,
            fd,
            task: by_path("task")?,
            root: Arc::new(by_path("root").or_else(|error| of_thread().ok_or(error))?),
            leader: File::open(path(&format!("task/{pid}/stat")))?,
            clock: clock_getcpuclockid(nix::unistd::Pid::from_raw(pid.0)).ok(),
        })
    }

    /// Its number.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether every thread of it has ended.
    pub fn has_ended(&self) -> bool {
        self.fd.has_ended()
    }

    /// Its threads, in the order that the kernel lists them.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn threads(&self) -> io::Result<Vec<Tid>> {
        let entries = fs::read_dir(format!("/proc/{}/task", self.pid))?;
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().map(Tid);
        Ok(entries.filter_map(|entry| number(entry.ok()?)).collect())
    }

    /// How many threads it has: one cheap system call.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn thread_count(&self) -> io::Result<u64> {
        Ok(self.task.metadata()?.nlink().saturating_sub(2))
    }

    /// What is mapped where.
    ///
    /// # Errors
    /// When the process is gone, or may not be read.
    pub fn mappings(&self) -> io::Result<Vec<Mapping>> {
        let mappings = maps::parse(&fs::read(format!("/proc/{}/maps", self.pid))?);
        if !mappings.is_empty() {
            return Ok(mappings);
        }
        // A first thread that has ended has no memory; the others still do.
        let of_thread = |tid| fs::read(format!("/proc/{}/task/{tid}/maps", self.pid)).ok();
        let mut others = self.threads()?.into_iter().filter_map(of_thread);
        Ok(others.find(|text| !text.is_empty()).map(|text| maps::parse(&text)).unwrap_or_default())
    }

    /// Device and inode of the program that runs: another one after an `exec`.
    ///
    /// # Errors
    /// When the process is gone, or may not be read.
    pub fn executable(&self) -> io::Result<(u64, u64)> {
        let metadata = fs::metadata(format!("/proc/{}/exe", self.pid))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Whether it is stopped by a signal (job control), as its first thread
    /// says: such a stop is one of all threads.
    pub fn is_halted(&self) -> bool {
        let mut bytes = [0; 512];
        let len = self.leader.read_at(&mut bytes, 0).unwrap_or(0);
        // The name before the state may itself hold anything, `)` too.
        let after_name = bytes.get(..len).and_then(|bytes| bytes.rsplit(|&b| b == b')').next());
        matches!(after_name, Some([b' ', b'T', ..]))
    }

    /// Where its files are.
    pub fn root(&self) -> Root {
        Root {
            directory: PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd())),
            map_files: Some(PathBuf::from(format!("/proc/{}/map_files", self.pid))),
        }
    }

    /// Its number in the innermost namespace that it is in.
    pub fn namespace_pid(&self) -> Pid {
        Pid(self.namespace_tid(Tid(self.pid.0)).0)
    }

    /// The number of one of its threads in the innermost namespace that it is
    /// in.
    pub fn namespace_tid(&self, tid: Tid) -> Tid {
        let path = format!("/proc/{}/task/{tid}/status", self.pid);
        let status = procfs::process::Status::from_file(path);
        let inner = status.ok().and_then(|status| status.nspid?.last().copied());
        inner.map_or(tid, Tid)
    }

    /// Its command line, or its name in brackets where it has none.
    pub fn command(&self) -> String {
        let process = remoteprocess::Process { pid: self.pid.0 };
        // It fails on words that are not UTF-8; any bytes may be in them.
        let words = process.cmdline().unwrap_or_else(|_| {
            let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
            let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
            words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        });
        if words.is_empty() {
            return format!("[{}]", self.thread_name(Tid(self.pid.0)).unwrap_or_default());
        }
        words.join(" ")
    }

    /// The name of a thread, as the kernel has it.
    pub fn thread_name(&self, tid: Tid) -> Option<String> {
        let name = fs::read(format!("/proc/{}/task/{tid}/comm", self.pid)).ok()?;
        let name = name.strip_suffix(b"\n").unwrap_or(&name);
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// The CPU time of all its threads, ended ones too, since it began; `None`
    /// once it is gone.
    pub fn cpu_time(&self) -> Option<Duration> {
        clock_gettime(self.clock?).ok().map(Duration::from)
    }

    /// When it began, as time since the machine did, to a hundredth of a second;
    /// `None` once it is gone.
    pub fn began(&self) -> Option<Duration> {
        let stat = procfs::process::Stat::from_file(format!("/proc/{}/stat", self.pid)).ok()?;
        let nanos = 1_000_000_000 / procfs::ticks_per_second().max(1);
        Some(Duration::from_nanos(stat.starttime.saturating_mul(nanos)))
    }

    /// Whether a seccomp filter judges the system calls of a thread (or might:
    /// where the kernel does not say, it is taken to).
    pub fn is_filtered(&self, tid: Tid) -> bool {
        let path = format!("/proc/{}/task/{tid}/status", self.pid);
        let status = procfs::process::Status::from_file(path);
        status.ok().and_then(|status| status.seccomp).is_none_or(|mode| mode != 0)
    }

    /// Whether another program traces it: then it cannot be stopped by us.
    pub fn is_traced(&self) -> bool {
        let path = format!("/proc/{}/status", self.pid);
        procfs::process::Status::from_file(path).is_ok_and(|status| status.tracerpid != 0)
    }

    /// Whether a thread lives, and is traced: a thread that was asked to stop
    /// and is not will never stop for us.
    pub fn is_awaited(&self, tid: Tid) -> bool {
        let path = format!("/proc/{}/task/{tid}/status", self.pid);
        procfs::process::Status::from_file(path)
            .is_ok_and(|status| status.tracerpid != 0 && !status.state.starts_with(['Z', 'X']))
    }

    /// What changes when the process begins to run another program, or the
    /// same once more: where the kernel has put it.
    ///
    /// # Errors
    /// When the process is gone, or may not be read.
    pub fn auxiliary_vector(&self) -> io::Result<Vec<u8>> {
        // The kernel has room for 52 numbers (`AT_VECTOR_SIZE`): one read does.
        let mut bytes = [0; 1024];
        let len = File::open(format!("/proc/{}/auxv", self.pid))?.read_at(&mut bytes, 0)?;
        Ok(bytes.get(..len).unwrap_or_default().to_vec())
    }

    /// The receive and send timeouts of the socket behind a descriptor of the
    /// process; zero for none.
    ///
    /// # Errors
    /// When it is no socket, or may not be looked at.
    pub fn socket_timeouts(&self, fd: i32) -> io::Result<[Duration; 2]> {
        self.fd.socket_timeouts(fd)
    }
}
