//! A profile in parts: what was added to it since it was last asked, so that
//! somebody else can follow while it grows.

use std::time::Duration;

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
    /// All processes: what is known of them changes.
    processes: Vec<Process>,
    /// All threads, likewise.
    threads: Vec<Thread>,
    /// What the kernel counts of both, likewise.
    spent: Vec<Spent>,
    throttled: Vec<Option<Throttled>>,
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

    /// How a process has been throttled; `None` where no limit is in sight.
    pub fn throttled(&self, process: ProcessId) -> Option<Throttled> {
        self.throttled.get(process.0 as usize).copied().flatten()
    }

    /// All threads, by [`ThreadId`](super::ThreadId).
    pub fn threads(&self) -> &[Thread] {
        &self.threads
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
        self.journal = Some(Journal { frames, nodes, ..Journal::default() });
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
        Part {
            processes: self.processes.clone(),
            threads: self.threads.clone(),
            spent: self.spent.clone(),
            throttled: self.throttled.clone(),
            frames,
            nodes,
            samples: std::mem::take(&mut journal.samples),
        }
    }

    /// Know all that another profile knows whose next part this is, but count
    /// none of its samples; these are given back. Ids mean the same in both.
    pub fn extend(&mut self, part: Part) -> Vec<Sample> {
        let Part { processes, threads, spent, throttled, frames, nodes, samples } = part;
        (self.processes, self.threads) = (processes, threads);
        (self.spent, self.throttled) = (spent, throttled);
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
