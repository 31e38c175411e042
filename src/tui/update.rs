//! What the live view is told.

use std::time::Duration;

use crate::{
    profile::{Costs, Part, ProcessId, ThreadId},
    stack::Symbol,
    task::{Pid, State, Tid},
};

/// What was seen since the update before, and what is so now.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// When this was, by the clock of the recording, whose beginning is 0.
    pub at: Duration,
    /// What was seen.
    pub part: Part,
    /// The functions of each frame that is new in `part`, innermost first.
    pub names: Vec<Vec<Symbol>>,
    /// What the recording has cost so far.
    pub costs: Costs,
    /// What each thread does that is watched now.
    pub threads: Vec<ThreadNow>,
    /// The processes that are watched now.
    pub processes: Vec<ProcessNow>,
}

/// A process that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessNow {
    /// Which.
    pub process: ProcessId,
    /// Its number.
    pub pid: Pid,
    /// The name and version of its language runtime, once one was found.
    pub runtime: Option<String>,
    /// How often, and for how long in all, its control group has been kept from
    /// running because it had used up its share, since the recording began;
    /// `None` where there is no limit.
    pub throttled: Option<(u64, Duration)>,
}

/// What a thread does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadNow {
    /// Which.
    pub thread: ThreadId,
    /// Its number.
    pub tid: Tid,
    /// What the kernel last had to say.
    pub state: State,
    /// Since when it has been asleep without a pause, by the clock of the
    /// recording; `None` for one that has run.
    pub asleep_since: Option<Duration>,
    /// What it waits for, in one line, such as `recvfrom(16) of tcp …`.
    pub wait: Option<String>,
}

/// How the recording came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How, such as `exited with status 1` or `was killed by SIGSEGV`.
    pub how: String,
    /// The time of day, such as `12:04:11`.
    pub clock: String,
}
