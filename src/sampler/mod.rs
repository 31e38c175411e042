//! The clock and the loop: looks at every thread of every target, at random
//! times around the wanted rate, and counts what it saw and what it lost.

mod clock;
mod engine;
mod follow;
mod glance;
mod language;
mod live;
mod once;
mod quiet;
mod recorder;
mod rehearse;
mod shared;
mod target;
mod thread;
mod waiting;
mod watched;

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64},
    time::Duration,
};

pub use live::{Live, Now, Watched};
pub use once::{capture, dump};
pub use recorder::{record, watch};
pub use waiting::wait;

use crate::{
    module::Modules,
    process::{Process, Roots},
    profile::{Costs, Profile},
    runtime::Detail,
    snapshot::{Registers, Root},
    stack::{Parked, Stack, Variable},
    task::{Lock, Pid, State, Tid},
    wait::Wait,
};

/// How to record.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ticks a second, on average. More than 0.
    pub rate: f64,
    /// How long; `None` until told to stop or until every target has ended.
    pub duration: Option<Duration>,
    /// Which processes.
    pub scope: Scope,
    /// What is kept of the order of time.
    pub history: History,
    /// Whether threads may be stopped.
    pub stopping: Stopping,
}

/// Which processes are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that were named.
    Named,
    /// Their descendants too, as they come and go.
    Descendants,
}

/// What a recording keeps of the order in which things happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Nothing: sums alone.
    Totals,
    /// When each thread was where: a
    /// [`Timeline`](crate::profile::Timeline).
    Timeline,
}

/// Whether threads that run may be stopped in order to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// For as long as it takes to copy what is needed.
    Brief,
    /// Never. Of a thread that runs the managed frames alone are read, and kept
    /// if they are of one moment.
    Never,
}

/// How to look at a process once.
#[derive(Clone, Copy, Debug)]
pub struct DumpOptions {
    /// Whether threads may be stopped.
    pub stopping: Stopping,
    /// How much of the local variables of managed frames is wanted, if any.
    pub locals: Option<Detail>,
    /// Whether the stacks are wanted that no thread is on: those of greenlets.
    pub parked: bool,
}

impl Default for DumpOptions {
    /// Threads may be stopped; no variables are wanted, and threads alone.
    fn default() -> Self {
        Self { stopping: Stopping::Brief, locals: None, parked: false }
    }
}

/// What another thread may see and say while a recording runs.
#[derive(Debug, Default)]
pub struct Control {
    /// Set it to end the recording.
    pub stop: AtomicBool,
    /// Set it to have every thread let go, and none looked at until it is unset:
    /// who is stopped while a thread is held keeps that from running. The
    /// recording does not count the time.
    pub pause: AtomicBool,
    /// Whether that is so now.
    pub paused: AtomicBool,
    /// Ticks so far.
    pub ticks: AtomicU64,
    /// Samples of runnable threads so far.
    pub running: AtomicU64,
    /// Samples of blocked threads so far.
    pub blocked: AtomicU64,
    /// Processes that are watched now.
    pub processes: AtomicU64,
    /// Updates that were told and not yet taken: whoever takes one counts it
    /// down. While there are many, nothing more is told; what is seen meanwhile
    /// comes with the next.
    pub untaken: AtomicU64,
}

/// What a recording brings home.
#[derive(Debug)]
pub struct Recording {
    /// What was seen.
    pub profile: Profile,
    /// What it cost.
    pub costs: Costs,
    /// The images that the frames lie in.
    pub modules: Modules,
    /// Where the files of each process of the profile are, by
    /// [`ProcessId`](crate::profile::ProcessId).
    pub origins: Vec<Origin>,
    /// Whether the targets ended before the recording did.
    pub targets_ended: bool,
    /// Targets that could not be watched, while others could.
    pub refused: Vec<Error>,
    /// The roots of the origins, still held: this keeps their files within reach.
    pub roots: Roots,
}

/// Where symbols of a process that lie in no module are found.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its files.
    pub root: Root,
    /// Its number in its own namespace, by which it names its perf map.
    pub namespace_pid: Pid,
}

/// One thread, looked at once.
#[derive(Clone, Debug)]
pub struct ThreadDump {
    /// Its number.
    pub tid: Tid,
    /// Its name, as the kernel has it.
    pub name: String,
    /// The name that its language runtime has for it.
    pub given_name: Option<String>,
    /// What it was doing.
    pub state: State,
    /// What it waits for, if it is blocked in a system call and that was still
    /// so when it was looked into.
    pub wait: Option<Wait>,
    /// What it has to do with the lock of its language runtime.
    pub lock: Lock,
    /// Whether it collects the garbage of its language runtime.
    pub collecting: bool,
    /// The function that the greenlet began with that it runs, if it runs one
    /// besides the thread's own.
    pub greenlet: Option<String>,
    /// Its registers, as far as they are known: a blocked thread's hold the
    /// arguments of its system call.
    pub registers: Registers,
    /// Its stack.
    pub stack: Stack,
    /// The local variables of the managed frames of `stack`, in its order;
    /// empty when nobody asked for them.
    pub locals: Vec<Vec<Variable>>,
}

/// The images that the frames of dumps lie in, opened once for all of them.
#[derive(Debug, Default)]
pub struct Images {
    /// The images.
    pub modules: Modules,
    /// The roots of the processes that were looked at: this keeps their files
    /// within reach.
    roots: Roots,
}

/// A process, looked at once.
#[derive(Debug)]
pub struct Dump {
    /// Its number.
    pub pid: Pid,
    /// Its command line.
    pub command: String,
    /// The name and version of its language runtime, such as `CPython 3.12.1`.
    pub runtime: Option<String>,
    /// Its threads, by number.
    pub threads: Vec<ThreadDump>,
    /// The stacks that no thread is on, if they were asked for.
    pub parked: Vec<Parked>,
    /// Where its files are.
    pub origin: Origin,
    /// What had to be done another way than wanted, a sentence each.
    pub notes: Vec<String>,
}

/// Why a target cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or has ended.
    #[error("no process has the number {0}")]
    NoSuchProcess(Pid),
    /// The kernel forbids it.
    #[error("process {0} may not be watched")]
    Forbidden(Pid),
    /// Something else went wrong.
    #[error("process {pid} cannot be watched: {source}")]
    Io {
        /// Which process.
        pid: Pid,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    fn new(pid: Pid, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT | libc::EINVAL) => Self::NoSuchProcess(pid),
            Some(libc::EACCES | libc::EPERM) => Self::Forbidden(pid),
            _ => Self::Io { pid, source },
        }
    }
}

/// Take hold of a process that nobody else traces.
fn open(pid: Pid) -> Result<Process, Error> {
    let process = Process::open(pid).map_err(|source| Error::new(pid, source))?;
    if process.is_traced() {
        return Err(Error::Forbidden(pid));
    }
    Ok(process)
}
