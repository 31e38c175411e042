//! A profile in parts: what was added to it since it was last asked, so that
//! somebody else can follow while it grows.

use std::{collections::BTreeSet, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    Key, Node, Placed, Process, ProcessId, Profile, Spent, Thread, ThreadId, Throttled, Weight,
};

/// A sample, or several alike of one thread without another between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What it is told apart by.
    pub key: Key,
    /// What it stands for.
    pub weight: Weight,
    /// Since when, by the clock of the recording, whose beginning is 0.
    pub since: Duration,
}

/// What was added to a profile since the part before.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The processes that are new, or of which something else is known now, in
    /// the order of their ids.
    processes: Vec<(ProcessId, Process)>,
    /// The threads, likewise.
    threads: Vec<(ThreadId, Thread)>,
    /// What the kernel has counted of both, where it is more than before.
    spent: Vec<(ThreadId, Spent)>,
    throttled: Vec<(ProcessId, Throttled)>,
    /// The frames that are new.
    frames: Vec<Placed>,
    /// The nodes of the stack tree that are new.
    nodes: Vec<Node>,
    /// What was counted: those of a thread in the order of time.
    pub samples: Vec<Sample>,
}

impl Part {
    /// The frames that are new: their ids follow those of the part before.
    pub fn frames(&self) -> &[Placed] {
        &self.frames
    }

    /// How processes have been throttled since they are watched, as far as that
    /// was looked at since the part before.
    pub fn throttled(&self) -> &[(ProcessId, Throttled)] {
        &self.throttled
    }
}

/// More samples than this are not kept one by one: those that are alike are
/// added up. It is what some thirty threads give in ten seconds at 1000 a second.
const MOST: usize = 1 << 18;

/// What is kept for the next part.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    samples: Vec<Sample>,
    /// Where in `samples` the last one of each thread is, by its id.
    last: FxHashMap<ThreadId, usize>,
    /// How many samples were left when they were last added up.
    distinct: usize,
    /// What is to be told anew.
    pub(super) processes: BTreeSet<ProcessId>,
    pub(super) threads: BTreeSet<ThreadId>,
    pub(super) spent: BTreeSet<ThreadId>,
    pub(super) throttled: BTreeSet<ProcessId>,
    /// How many frames and nodes were in earlier parts.
    frames: usize,
    nodes: usize,
}

impl Journal {
    pub(super) fn add(&mut self, key: Key, weight: Weight, since: Duration) {
        if let Some(sample) = self.last.get(&key.thread).and_then(|&at| self.samples.get_mut(at))
            && sample.key == key
        {
            return sample.weight.add(weight);
        }
        self.last.insert(key.thread, self.samples.len());
        self.samples.push(Sample { key, weight, since });
        // Twice what was left the last time, so that it is rarely done.
        if self.samples.len() >= MOST.max(self.distinct * 2) {
            self.add_up();
        }
    }

    /// Add up the samples that are alike. What a thread did is then told in the
    /// order in which it was first seen to do it, one thing after the other: it
    /// fills the same time, and is as much of each.
    fn add_up(&mut self) {
        let mut found: FxHashMap<Key, usize> = FxHashMap::default();
        let mut sums: Vec<Sample> = Vec::new();
        for sample in self.samples.drain(..) {
            let at = *found.entry(sample.key).or_insert(sums.len());
            match sums.get_mut(at) {
                Some(sum) => sum.weight.add(sample.weight),
                None => sums.push(sample),
            }
        }
        let mut ends: FxHashMap<ThreadId, Duration> = FxHashMap::default();
        self.last.clear();
        for (at, sum) in sums.iter_mut().enumerate() {
            let end = ends.entry(sum.key.thread).or_insert(sum.since);
            sum.since = *end;
            *end += sum.weight.wall;
            self.last.insert(sum.key.thread, at);
        }
        self.distinct = sums.len();
        self.samples = sums;
    }
}

impl Profile {
    /// From now on keep what is added, for [`take_part`](Self::take_part).
    pub fn keep_parts(&mut self) {
        let Self { frames, nodes, .. } = &*self;
        let (frames, nodes) = (frames.len(), nodes.len());
        // Those that are there already come with the first part.
        let processes: BTreeSet<_> =
            (0..super::index(self.processes.len())).map(ProcessId).collect();
        let threads: BTreeSet<_> = (0..super::index(self.threads.len())).map(ThreadId).collect();
        let (spent, throttled) = (threads.clone(), processes.clone());
        let journal = Journal::default();
        let journal = Journal { frames, nodes, processes, threads, spent, throttled, ..journal };
        self.journal = Some(journal);
    }

    /// Something else is known of `id`: the next part is to say so.
    pub(super) fn changed<T: Ord>(
        &mut self,
        set: impl FnOnce(&mut Journal) -> &mut BTreeSet<T>,
        id: T,
    ) {
        if let Some(journal) = &mut self.journal {
            set(journal).insert(id);
        }
    }

    /// What was added since this was last asked; nothing where parts are not
    /// kept.
    pub fn take_part(&mut self) -> Part {
        let Some(journal) = &mut self.journal else { return Part::default() };
        let frames = self.frames.get(journal.frames..).unwrap_or_default().to_vec();
        let nodes = self.nodes.get(journal.nodes..).unwrap_or_default().to_vec();
        (journal.frames, journal.nodes) = (self.frames.len(), self.nodes.len());
        journal.last.clear();
        journal.distinct = 0;
        let threads = std::mem::take(&mut journal.threads).into_iter();
        let processes = std::mem::take(&mut journal.processes).into_iter();
        let spent = std::mem::take(&mut journal.spent).into_iter();
        let throttled = std::mem::take(&mut journal.throttled).into_iter();
        let samples = std::mem::take(&mut journal.samples);
        let process = |id: ProcessId| Some((id, self.processes.get(id.0 as usize)?.clone()));
        let thread = |id: ThreadId| Some((id, self.threads.get(id.0 as usize)?.clone()));
        Part {
            processes: processes.filter_map(process).collect(),
            threads: threads.filter_map(thread).collect(),
            spent: spent.map(|id| (id, self.spent(id))).collect(),
            throttled: throttled.filter_map(|id| Some((id, self.throttled(id)?))).collect(),
            frames,
            nodes,
            samples,
        }
    }

    /// Know all that another profile knows whose next part this is, but count
    /// none of its samples; these are given back. Ids mean the same in both.
    pub fn extend(&mut self, part: Part) -> Vec<Sample> {
        let Part { processes, threads, spent, throttled, frames, nodes, samples } = part;
        for (id, process) in processes {
            put(&mut self.processes, id.0, process);
        }
        for (id, thread) in threads {
            put(&mut self.threads, id.0, thread);
        }
        self.spent.resize(self.threads.len(), Spent::default());
        for (id, spent) in spent {
            put(&mut self.spent, id.0, spent);
        }
        for (id, throttled) in throttled {
            self.set_throttled(id, throttled);
        }
        for placed in frames {
            let id = super::FrameId(super::index(self.frames.len()));
            self.frame_ids.insert(placed.clone(), id);
            self.frames.push(placed);
        }
        for node in nodes {
            let id = super::StackId(super::index(self.nodes.len()));
            self.node_ids.insert(node, id);
            self.nodes.push(node);
        }
        samples
    }
}

/// Have `value` at a place in `table`, or where that ends.
fn put<T>(table: &mut Vec<T>, at: u32, value: T) {
    match table.get_mut(at as usize) {
        Some(slot) => *slot = value,
        None => table.push(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        memory::Address,
        stack::{CodeAddress, End, Frame, NativeFrame, Stack},
        task::{Lock, Pid, State, Tid},
    };

    fn stack(addresses: &[u64]) -> Stack {
        let frame = |&at: &u64| {
            Frame::Native(NativeFrame { module: None, code: CodeAddress::Return(Address(at)) })
        };
        Stack { frames: addresses.iter().map(frame).collect(), end: End::Root }
    }

    fn count(profile: &mut Profile, addresses: &[u64], since: u64) {
        let stack = profile.intern(ProcessId(0), &stack(addresses));
        let (state, lock) = (State::Running, Lock::Without);
        let key = Key { thread: ThreadId(0), state, lock, stack };
        let wall = Duration::from_millis(10);
        let weight = Weight { ticks: 1, wall, cpu: wall, queued: Duration::ZERO };
        profile.count_since(key, weight, Duration::from_millis(since));
    }

    #[test]
    fn only_what_has_changed_is_in_a_part() {
        let mut whole = Profile::default();
        let (pid, command) = (Pid(7), "seven".to_owned());
        let process = whole.add_process(Process { pid, command, kernel_cpu: Duration::ZERO });
        whole.keep_parts();
        let named = |name: &str| Thread { process, tid: Tid(7), name: name.to_owned() };
        let ids = ["first", "second", "third"].map(|name| whole.add_thread(named(name)));
        let mut followed = Profile::default();
        let part = whole.take_part();
        assert_eq!((part.processes.len(), part.threads.len()), (1, 3));
        followed.extend(part);
        whole.thread_mut(ids[1]).unwrap().name = "renamed".to_owned();
        let spent = Spent { wall: Duration::from_secs(1), ..Spent::default() };
        whole.spend(ids[2], spent);
        let part = whole.take_part();
        assert_eq!((part.processes.len(), part.threads.len(), part.spent.len()), (0, 1, 1));
        followed.extend(part);
        assert_eq!(followed.processes(), whole.processes());
        assert_eq!(followed.threads(), whole.threads());
        assert_eq!(ids.map(|id| followed.spent(id)), ids.map(|id| whole.spent(id)));
        let part = whole.take_part();
        assert_eq!((part.threads.len(), part.spent.len()), (0, 0));
    }

    /// Who asks for parts may be kept from asking for hours.
    #[test]
    fn what_nobody_asks_for_is_added_up() {
        let mut whole = Profile::default();
        whole.keep_parts();
        let looks = 3 * MOST as u64;
        for at in 0..looks {
            count(&mut whole, &[at % 7, 1], at * 10);
        }
        let part = whole.take_part();
        assert!(part.samples.len() < MOST, "{} samples", part.samples.len());
        let mut sums: FxHashMap<Key, Weight> = FxHashMap::default();
        let mut end = Duration::ZERO;
        for sample in &part.samples {
            assert!(sample.since >= end, "one after the other");
            end = sample.since + sample.weight.wall;
            sums.entry(sample.key).or_default().add(sample.weight);
        }
        assert_eq!(end, Duration::from_millis(looks * 10));
        assert_eq!(sums, whole.samples);
    }

    #[test]
    fn a_profile_of_parts_is_as_the_whole() {
        let mut whole = Profile::default();
        whole.keep_parts();
        let (pid, command) = (Pid(7), "seven".to_owned());
        whole.add_process(Process { pid, command, kernel_cpu: Duration::ZERO });
        let (process, tid) = (ProcessId(0), Tid(7));
        whole.add_thread(Thread { process, tid, name: "first".to_owned() });
        let mut followed = Profile::default();
        let mut samples = Vec::new();
        for at in 0..9 {
            count(&mut whole, &[at % 4, 1], at * 20);
            count(&mut whole, &[at % 4, 1], at * 20 + 10);
            if at % 3 == 2 {
                let part = whole.take_part();
                samples.extend(followed.extend(part));
            }
        }
        assert_eq!(followed.processes(), whole.processes());
        assert_eq!(followed.threads(), whole.threads());
        assert_eq!(followed.frames(), whole.frames());
        // Two in a row alike are one.
        assert_eq!(samples.len(), 9);
        for sample in samples {
            assert_eq!(sample.weight.ticks, 2);
            assert_eq!(followed.stack(sample.key.stack), whole.stack(sample.key.stack));
            followed.count_since(sample.key, sample.weight, sample.since);
        }
        let sorted = |profile: &Profile| {
            let mut samples: Vec<_> = profile.samples().map(|(k, w)| (*k, *w)).collect();
            samples.sort_by_key(|(key, _)| *key);
            samples
        };
        assert_eq!(sorted(&followed), sorted(&whole));
        let known = whole.intern(ProcessId(0), &stack(&[2, 1]));
        assert_eq!(followed.intern(ProcessId(0), &stack(&[2, 1])), known);
    }
}
