//! The profile: what was seen, counted. Stacks are stored once, as paths in a
//! tree; what is kept grows with distinct stacks, not with samples.

mod costs;
mod part;
mod spent;
mod timeline;

use std::time::Duration;

pub use costs::{Caught, Costs, Histogram, Met};
pub use part::{Part, Sample};
use rustc_hash::FxHashMap;
pub use spent::{Spent, Throttled};
pub use timeline::{Doing, Record, Timeline};

use crate::{
    stack::{End, Frame, Stack},
    task::{Lock, Pid, State, Tid},
};

/// A process in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

/// A thread in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u32);

/// A distinct frame in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub u32);

/// A distinct stack in a profile: a node of the tree whose path to the root is
/// the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

/// A process that was watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// Its command line, arguments separated by spaces, as the target wrote it.
    pub command: String,
    /// The CPU time that the kernel counted while it was watched.
    pub kernel_cpu: Duration,
}

/// A thread that was watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Whose it is.
    pub process: ProcessId,
    /// Its number.
    pub tid: Tid,
    /// Its name, as the target wrote it.
    pub name: String,
}

/// A frame, and where it means something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placed {
    /// The process in whose address space a frame without a module lies;
    /// `None` where the frame means the same in every process.
    pub process: Option<ProcessId>,
    /// The frame.
    pub frame: Frame,
}

/// What samples are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The thread.
    pub thread: ThreadId,
    /// What it was doing.
    pub state: State,
    /// What it had to do with the interpreter lock.
    pub lock: Lock,
    /// Where.
    pub stack: StackId,
}

/// What samples add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// The ticks at which it was seen so.
    pub ticks: u64,
    /// The wall time that the samples stand for.
    pub wall: Duration,
    /// The CPU time that the thread used since it was last seen to want it, as
    /// the kernel counted: 0 for a thread that sleeps.
    pub cpu: Duration,
    /// The time that it waited for a processor, since its sample before each.
    pub queued: Duration,
}

impl Weight {
    /// Add what other samples add up to.
    pub fn add(&mut self, other: Self) {
        self.ticks += other.ticks;
        self.wall += other.wall;
        self.cpu += other.cpu;
        self.queued += other.queued;
    }
}

/// A node of the stack tree. Its parent is the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Node {
    parent: StackId,
    frame: FrameId,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Profile {
    processes: Vec<Process>,
    threads: Vec<Thread>,
    frames: Vec<Placed>,
    frame_ids: FxHashMap<Placed, FrameId>,
    nodes: Vec<Node>,
    node_ids: FxHashMap<Node, StackId>,
    samples: FxHashMap<Key, Weight>,
    timeline: Option<Timeline>,
    journal: Option<part::Journal>,
    /// By [`ThreadId`] and by [`ProcessId`]; shorter than these where nothing
    /// is known of the last ones.
    spent: Vec<Spent>,
    throttled: Vec<Option<Throttled>>,
}

/// The first nodes of the tree are no frames but the ends of stacks.
const ENDS: u32 = 9;
const _: () = assert!(ENDS as usize == End::ALL.len());

impl Default for Profile {
    fn default() -> Self {
        let node = |id| Node { parent: StackId(id), frame: FrameId(u32::MAX) };
        Self {
            processes: Vec::new(),
            threads: Vec::new(),
            frames: Vec::new(),
            frame_ids: FxHashMap::default(),
            nodes: (0..ENDS).map(node).collect(),
            node_ids: FxHashMap::default(),
            samples: FxHashMap::default(),
            timeline: None,
            journal: None,
            spent: Vec::new(),
            throttled: Vec::new(),
        }
    }
}

impl Profile {
    /// Add a process.
    pub fn add_process(&mut self, process: Process) -> ProcessId {
        self.processes.push(process);
        let id = ProcessId(index(self.processes.len() - 1));
        self.changed(|journal| &mut journal.processes, id);
        id
    }

    /// Add a thread.
    pub fn add_thread(&mut self, thread: Thread) -> ThreadId {
        self.threads.push(thread);
        let id = ThreadId(index(self.threads.len() - 1));
        self.changed(|journal| &mut journal.threads, id);
        id
    }

    /// The id of `stack`, which was seen in `process`.
    pub fn intern(&mut self, process: ProcessId, stack: &Stack) -> StackId {
        let end = End::ALL.iter().position(|&end| end == stack.end).unwrap_or(0);
        let mut at = StackId(index(end));
        for frame in stack.frames.iter().rev() {
            let frame = self.intern_frame(process, frame);
            let node = Node { parent: at, frame };
            at = *self.node_ids.entry(node).or_insert_with(|| {
                self.nodes.push(node);
                StackId(index(self.nodes.len() - 1))
            });
        }
        at
    }

    fn intern_frame(&mut self, process: ProcessId, frame: &Frame) -> FrameId {
        let anonymous = matches!(frame, Frame::Native(native) if native.module.is_none());
        let placed = Placed { process: anonymous.then_some(process), frame: frame.clone() };
        if let Some(&id) = self.frame_ids.get(&placed) {
            return id;
        }
        let id = FrameId(index(self.frames.len()));
        self.frames.push(placed.clone());
        self.frame_ids.insert(placed, id);
        id
    }

    /// From now on keep also when each sample was; see [`Timeline`] for what
    /// that costs.
    pub fn keep_timeline(&mut self) {
        self.timeline.get_or_insert_default();
    }

    /// When each sample was, where that is kept.
    pub const fn timeline(&self) -> Option<&Timeline> {
        self.timeline.as_ref()
    }

    /// Count a sample that stands for `weight.wall` since then, by the clock of
    /// the recording, whose beginning is 0. Those of a thread come in the order
    /// of time.
    pub fn count_since(&mut self, key: Key, weight: Weight, since: Duration) {
        if let Some(timeline) = &mut self.timeline {
            timeline.add(key, weight, since);
        }
        if let Some(journal) = &mut self.journal {
            journal.add(key, weight, since);
        }
        self.count(key, weight);
    }

    /// Count a sample of a time that does not matter: it is in no timeline.
    pub fn count(&mut self, key: Key, weight: Weight) {
        self.samples.entry(key).or_default().add(weight);
    }

    /// The processes, by [`ProcessId`].
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// A process, to correct what is known of it.
    pub fn process_mut(&mut self, id: ProcessId) -> Option<&mut Process> {
        self.changed(|journal| &mut journal.processes, id);
        self.processes.get_mut(id.0 as usize)
    }

    /// The threads, by [`ThreadId`].
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// A thread, to correct what is known of it.
    pub fn thread_mut(&mut self, id: ThreadId) -> Option<&mut Thread> {
        self.changed(|journal| &mut journal.threads, id);
        self.threads.get_mut(id.0 as usize)
    }

    /// The distinct frames, by [`FrameId`].
    pub fn frames(&self) -> &[Placed] {
        &self.frames
    }

    /// How many distinct stacks there are, callers of others among them.
    pub fn stacks(&self) -> usize {
        self.nodes.len() - ENDS as usize
    }

    /// The frames of a stack, innermost first, and why it ends.
    pub fn stack(&self, id: StackId) -> (Vec<FrameId>, End) {
        let mut frames = Vec::new();
        let mut at = id;
        while at.0 >= ENDS {
            let Some(node) = self.nodes.get(at.0 as usize) else { break };
            frames.push(node.frame);
            at = node.parent;
        }
        (frames, End::ALL.get(at.0 as usize).copied().unwrap_or(End::Root))
    }

    /// What was counted, in no particular order.
    pub fn samples(&self) -> impl Iterator<Item = (&Key, &Weight)> {
        self.samples.iter()
    }
}

/// An index into a table of ours. Four thousand million entries would need
/// more memory than there is, so this is never too large.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        memory::Address,
        stack::{CodeAddress, NativeFrame},
    };

    fn frame(at: u64) -> Frame {
        let code = CodeAddress::Return(Address(at));
        Frame::Native(NativeFrame { module: None, code })
    }

    #[test]
    fn equal_stacks_share_an_id_and_come_back_whole() {
        let mut profile = Profile::default();
        let stack = Stack { frames: vec![frame(3), frame(2), frame(1)], end: End::Root };
        let cut = Stack { end: End::Unreadable, ..stack.clone() };
        let id = profile.intern(ProcessId(0), &stack);
        assert_eq!(profile.intern(ProcessId(0), &stack), id);
        assert_ne!(profile.intern(ProcessId(1), &stack), id);
        assert_ne!(profile.intern(ProcessId(0), &cut), id);
        let (frames, end) = profile.stack(id);
        let frames: Vec<_> =
            frames.iter().map(|id| profile.frames()[id.0 as usize].frame.clone()).collect();
        assert_eq!(Stack { frames, end }, stack);
    }
}
