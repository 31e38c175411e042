//! What all targets of a recording share: the profile, the images, and the
//! account of what it cost.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use procfs::FromRead;

use super::{
    History, Options, Origin, Stopping,
    engine::Facts,
    watched::{Found, Watched},
};
use crate::{
    module::Modules,
    process::{Process, Roots},
    profile::{self, Costs, Key, ProcessId, Profile, Spent, ThreadId, Weight},
    stack::{End, Stack},
    task::{State, Tid},
    unwind::Tables,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) profile: Profile,
    pub(super) modules: Modules,
    pub(super) tables: Tables,
    pub(super) costs: Costs,
    /// Whether threads may be stopped.
    pub(super) stopping: Stopping,
    pub(super) origins: Vec<Origin>,
    /// Where the files of all processes are, also of those that have ended.
    pub(super) roots: Roots,
    /// System calls made in order to look at threads.
    pub(super) calls: u64,
    pub(super) began: Instant,
    /// Samples of runnable and of blocked threads.
    pub(super) runnable: u64,
    pub(super) blocked: u64,
}

/// What is said once where `/proc/PID/task/TID/syscall` cannot be read.
pub(super) const NO_SYSCALL: &str =
    "the kernel does not say which system call a thread is in: blocked threads were stopped";

/// What is said once where `/proc/PID/task/TID/schedstat` counts nothing.
pub(super) const NO_SCHEDSTAT: &str =
    "the kernel does not count when threads run: blocked threads were read at each tick";

/// What is said once where a process has more threads than this program may
/// watch.
pub(super) const NO_DESCRIPTORS: &str =
    "too many threads: some were not watched; `ulimit -n` limits the files that may be open";

/// What is said once where threads run that are not to be stopped.
pub(super) const NOT_STOPPED: &str =
    "no thread was stopped: of those that ran, only frames of a language runtime are known";

/// How a sample was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Stopped,
    Still,
    Unchanged,
    Glanced,
    Missed,
}

impl Shared {
    pub(super) fn new(tables: Tables, options: &Options, began: Instant) -> Self {
        let mut profile = Profile::default();
        if options.history == History::Timeline {
            profile.keep_timeline();
        }
        Self {
            profile,
            modules: Modules::default(),
            tables,
            costs: Costs::default(),
            stopping: options.stopping,
            origins: Vec::new(),
            roots: Roots::default(),
            calls: 0,
            began,
            runnable: 0,
            blocked: 0,
        }
    }

    /// What the recording has cost after `duration`, with so many system calls
    /// made in order to stop threads.
    pub(super) fn costs_so_far(&self, duration: Duration, calls: u64) -> Costs {
        let mut costs = self.costs.clone();
        costs.duration = duration;
        costs.kernel_cpu = self.profile.processes().iter().map(|process| process.kernel_cpu).sum();
        costs.system_calls = self.calls + calls;
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let seconds = |time: nix::sys::time::TimeVal| {
                Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
                    + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
            };
            costs.own_cpu = seconds(usage.user_time()) + seconds(usage.system_time());
        }
        // Not that of `getrusage`, which is that of the parent until now.
        let status = procfs::process::Status::from_file("/proc/self/status");
        let peak = status.ok().and_then(|status| status.vmhwm);
        costs.own_memory = peak.unwrap_or(0) * 1024;
        costs
    }

    pub(super) fn add_process(&mut self, process: &Process) -> ProcessId {
        let origin = Origin { root: process.root(), namespace_pid: process.namespace_pid() };
        self.origins.push(origin);
        self.profile.add_process(profile::Process {
            pid: process.pid(),
            command: process.command(),
            kernel_cpu: Duration::ZERO,
        })
    }

    pub(super) fn set_cpu(&mut self, id: ProcessId, cpu: Duration) {
        if let Some(process) = self.profile.process_mut(id) {
            process.kernel_cpu = cpu;
        }
    }

    pub(super) fn add_thread(&mut self, id: ProcessId, process: &Process, tid: Tid) -> ThreadId {
        let name = process.thread_name(tid).unwrap_or_default();
        self.profile.add_thread(profile::Thread { process: id, tid, name })
    }

    pub(super) fn process_of(&self, id: ThreadId) -> ProcessId {
        let thread = self.profile.threads().get(id.0 as usize);
        thread.map_or(ProcessId(0), |thread| thread.process)
    }

    /// Name a thread, if its name is known.
    pub(super) fn name_thread(&mut self, id: ThreadId, name: Option<String>) {
        if let (Some(name), Some(thread)) = (name, self.profile.thread_mut(id)) {
            thread.name = name;
        }
    }

    /// Something had to be done another way than wanted: say so, once.
    pub(super) fn note(&mut self, sentence: &str) {
        if !self.costs.notes.iter().any(|note| note == sentence) {
            self.costs.notes.push(sentence.to_owned());
        }
    }

    /// A thread was held.
    pub(super) fn held(&mut self, held: Duration, partial: bool) {
        self.costs.held.add(u64::try_from(held.as_nanos()).unwrap_or(u64::MAX));
        self.costs.caught.partial += u64::from(partial);
    }

    pub(super) fn found(
        &mut self,
        process: ProcessId,
        (state, facts): (State, &Facts),
        stack: &Stack,
    ) -> Found {
        let &Facts { lock, unmerged, .. } = facts;
        let (end, stack) = (stack.end, self.profile.intern(process, stack));
        Found { state, lock, stack, end, unmerged }
    }

    /// Count what was found again and again.
    pub(super) fn count_again(&mut self, watched: &mut Watched) {
        if let Some((found, ticks, until)) = watched.again.take() {
            self.add(watched, found, (until, ticks), How::Unchanged);
        }
    }

    /// Count `found` for the ticks up to `until`.
    pub(super) fn count(
        &mut self,
        watched: &mut Watched,
        found: Found,
        (until, ticks): (Instant, u64),
        how: How,
    ) {
        self.count_again(watched);
        self.add(watched, found, (until, ticks), how);
        if found.state.is_runnable() {
            self.runnable += ticks;
        } else {
            self.blocked += ticks;
        }
    }

    fn add(
        &mut self,
        watched: &mut Watched,
        found: Found,
        (until, ticks): (Instant, u64),
        how: How,
    ) {
        if self.costs.caught.total() == 0 {
            self.costs.first_sample = self.began.elapsed();
        }
        let wall = until.saturating_duration_since(watched.since);
        let since = watched.since.saturating_duration_since(self.began);
        watched.since = until.max(watched.since);
        watched.samples += ticks;
        watched.last = Some(found.state);
        let mut spent = Spent { wall, ..Spent::default() };
        match (watched.counted, watched.latest) {
            (Some(before), Some(now)) => {
                spent.cpu = Duration::from_nanos(now.run.saturating_sub(before.run));
                spent.queued = Duration::from_nanos(now.wait.saturating_sub(before.wait));
                watched.unseen += spent.cpu;
            }
            // Where the kernel does not count, a sample stands for its time.
            (_, None) if found.state == State::Running => {
                spent.cpu = wall;
                watched.unseen = wall;
            }
            _ => {}
        }
        self.profile.spend(watched.id, spent);
        let queued = spent.queued;
        watched.counted = watched.latest;
        let runnable = found.state.is_runnable();
        let cpu = if runnable { std::mem::take(&mut watched.unseen) } else { Duration::ZERO };
        let Found { state, lock, stack, unmerged, .. } = found;
        let key = Key { thread: watched.id, state, lock, stack };
        self.profile.count_since(key, Weight { ticks, wall, cpu, queued }, since);
        self.costs.sampled_cpu += cpu;
        self.costs.unmerged += if unmerged { ticks } else { 0 };
        let caught = &mut self.costs.caught;
        *match how {
            How::Stopped => &mut caught.stopped,
            How::Still => &mut caught.still,
            How::Unchanged => &mut caught.unchanged,
            How::Glanced => &mut caught.glanced,
            How::Missed => &mut caught.missed,
        } += ticks;
        let end = End::ALL.iter().position(|&end| end == found.end);
        if let Some(slot) = end.and_then(|end| self.costs.ends.get_mut(end)) {
            *slot += ticks;
        }
    }
}
