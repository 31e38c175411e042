//! The memory of a sample: what was copied at its instant, and for a miss the
//! live process.

use std::{
    cell::{Cell, RefCell},
    time::Instant,
};

use crate::{
    memory::{Address, Fault, Memory, Piece, WorkingSet},
    process::LiveMemory,
};

/// How much of a thread's stack is copied: as much as it needed last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth(usize);

impl Default for Depth {
    fn default() -> Self {
        Self(16 * 1024)
    }
}

impl Depth {
    /// What lies below the stack pointer and is still in use: the red zone
    /// (System V ABI, AMD64 supplement, 3.2.2), and slots that an epilogue has
    /// already given up.
    pub const BELOW: u64 = 256;

    /// The most that is copied. No frame of a deeper stack is guessed.
    const MOST: usize = 8 << 20;

    const STEP: usize = 4096;

    /// In bytes.
    pub const fn bytes(self) -> usize {
        self.0
    }

    /// Learn that a sample with stack pointer `sp` read up to `highest`: the
    /// next copy has some room more.
    pub fn learn(&mut self, sp: Address, highest: Address) {
        let used = usize::try_from(highest.0.saturating_sub(sp.0)).unwrap_or(0);
        let wanted = used.saturating_add(2 * Self::STEP).next_multiple_of(Self::STEP);
        // Shrink slowly: a stack that was deep will be so again.
        let slow = self.0 - self.0 / 16;
        self.0 = wanted.max(slow).next_multiple_of(Self::STEP).min(Self::MOST);
    }

    /// After a copy that was too short: four times as much, or `None` when
    /// more is never copied.
    pub fn deeper(self) -> Option<Self> {
        (self.0 < Self::MOST).then(|| Self((self.0 * 4).min(Self::MOST)))
    }
}

/// Memory that was copied at one instant.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// The stack, from a little below the stack pointer.
    pub stack: Piece,
    /// Whether the stack may go on above what was copied: the copy was not
    /// ended by the end of the mapping.
    pub more: bool,
    /// The working set.
    pub blocks: Vec<Piece>,
}

impl Copied {
    /// Room for a copy of `depth` of the stack and of the working set, made
    /// out of an older copy that is not needed any more: new memory would cost
    /// a page fault a page, and that while the thread is held.
    #[must_use]
    pub fn prepare(mut self, depth: Depth, working: &WorkingSet) -> Self {
        self.more = false;
        self.stack.bytes.resize(depth.bytes(), 0);
        let mut old = std::mem::take(&mut self.blocks).into_iter().map(|block| block.bytes);
        let block = |start| {
            let mut bytes = old.next().unwrap_or_default();
            bytes.resize(BLOCK, 0);
            Piece { start, bytes }
        };
        self.blocks = working.blocks().map(block).collect();
        self
    }

    /// Fill it, for a thread whose stack pointer is `sp`, and say whether all
    /// of it was copied before `deadline`.
    ///
    /// One system call; more where something could not be read, or for a stack
    /// of more than 256 KiB.
    pub fn fill(&mut self, memory: &LiveMemory, sp: Address, deadline: Option<Instant>) -> bool {
        self.stack.start = Address(sp.0.saturating_sub(Depth::BELOW));
        let mut copied = self.fill_first(memory, sp);
        let wanted = self.stack.bytes.len();
        let mut in_time = true;
        while copied > 0 && copied < wanted && copied.is_multiple_of(CHUNK) {
            in_time = deadline.is_none_or(|deadline| Instant::now() < deadline);
            if !in_time {
                break;
            }
            let end = wanted.min(copied + CHUNK);
            let Some(rest) = self.stack.bytes.get_mut(copied..end) else { break };
            match memory.copy(self.stack.start.plus(copied as u64), rest) {
                Ok(more) => copied += more,
                Err(_) => break,
            }
        }
        self.more = copied == wanted || !in_time;
        self.stack.bytes.truncate(copied);
        in_time
    }

    /// Copy the working set and the first chunk of the stack; how many bytes
    /// of the stack there were.
    fn fill_first(&mut self, memory: &LiveMemory, sp: Address) -> usize {
        let chunk = self.stack.bytes.len().min(CHUNK);
        let Some(stack) = self.stack.bytes.get_mut(..chunk) else { return 0 };
        if !self.blocks.is_empty() {
            // The working set comes first, for the stack is what may end early.
            let mut pieces: Vec<(Address, &mut [u8])> =
                self.blocks.iter_mut().map(|block| (block.start, &mut *block.bytes)).collect();
            pieces.push((self.stack.start, &mut *stack));
            let copied = memory.gather(&mut pieces).unwrap_or(0);
            let blocks = self.blocks.len() * BLOCK;
            if let Some(stack) = copied.checked_sub(blocks).filter(|&stack| stack > 0) {
                return stack;
            }
            // A block has gone, and all after it is missing.
            self.blocks.truncate(copied / BLOCK);
        }
        if let Ok(copied) = memory.copy(self.stack.start, stack) {
            return copied;
        }
        // Below the stack pointer may lie a guard page.
        self.stack.start = sp;
        memory.copy(sp, stack).unwrap_or(0)
    }

    /// Take over blocks that were read late: a part of the sample, too.
    pub fn keep(&mut self, late: Vec<Piece>) {
        self.blocks.extend(late);
        self.blocks.sort_by_key(|block| block.start);
    }

    fn slice(&self, at: Address, len: usize) -> Option<&[u8]> {
        let in_block = || {
            let after = self.blocks.partition_point(|block| block.start <= at);
            self.blocks.get(after.checked_sub(1)?)?.slice(at, len)
        };
        self.stack.slice(at, len).or_else(in_block)
    }

    /// Fill `into` from blocks that follow each other; whether all are here.
    fn join(&self, at: Address, into: &mut [u8]) -> bool {
        let mut done = 0;
        while done < into.len() {
            let from = at.plus(done as u64);
            let room = usize::try_from(WorkingSet::BLOCK - from.0 % WorkingSet::BLOCK);
            let end = into.len().min(done.saturating_add(room.unwrap_or(BLOCK)));
            let found = self.slice(from, end - done);
            let (Some(part), Some(found)) = (into.get_mut(done..end), found) else { return false };
            part.copy_from_slice(found);
            done = end;
        }
        true
    }

    /// Whether `at` lies where the stack goes on beyond what was copied.
    fn is_beyond(&self, at: Address) -> bool {
        let end = self.stack.start.0.saturating_add(self.stack.bytes.len() as u64);
        // A read may begin in the last bytes of the copy.
        self.more && at.0 >= end.saturating_sub(16) && at.0 < end.saturating_add(STACK)
    }
}

/// What is copied of a stack in one system call.
const CHUNK: usize = 256 * 1024;

const BLOCK: usize = 4096;
const _: () = assert!(BLOCK as u64 == WorkingSet::BLOCK);

/// The usual most of a stack: beyond this, an address is of something else.
const STACK: u64 = 8 << 20;

/// Copied memory with the live process behind it.
///
/// A read that the copy cannot answer is made of the live process, and noted
/// in the working set, so that the next sample's copy holds it. Only the
/// thread's own stack is never read so: it may have changed meanwhile, and
/// what it held is what a sample is about. Such a read fails, and the sample is taken again
/// with a deeper copy.
pub struct CopiedMemory<'a> {
    copied: &'a Copied,
    live: &'a LiveMemory,
    late: RefCell<Vec<Piece>>,
    /// After this nothing is read that was not copied.
    deadline: Option<Instant>,
    is_late: Cell<bool>,
    /// Whether what may be the thread's own stack is read, too.
    anywhere: bool,
    working: RefCell<&'a mut WorkingSet>,
}

impl<'a> CopiedMemory<'a> {
    /// `copied`, with `live` behind it.
    pub fn new(copied: &'a Copied, live: &'a LiveMemory, working: &'a mut WorkingSet) -> Self {
        let working = RefCell::new(working);
        let (late, is_late) = (RefCell::default(), Cell::default());
        Self { copied, live, late, deadline: None, is_late, anywhere: false, working }
    }

    /// The same, for as long as there is time.
    #[must_use]
    pub fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// The same for a reader that does not follow the stack: what lies above
    /// the copy may be the stack, or anything else.
    #[must_use]
    pub fn anywhere(self) -> Self {
        Self { anywhere: true, ..self }
    }

    /// Whether something was not read because there was no more time.
    pub fn was_too_late(&self) -> bool {
        self.is_late.get()
    }

    /// Whether a read that failed at `at` would have succeeded with a deeper
    /// copy.
    pub fn was_too_short(&self, at: Address) -> bool {
        self.copied.is_beyond(at)
    }

    /// The blocks that the copy did not hold and that were read instead.
    pub fn into_late(self) -> Vec<Piece> {
        self.late.into_inner()
    }

    fn read_late(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let mut late = self.late.borrow_mut();
        if let Some(found) = late.iter().find_map(|piece| piece.slice(at, into.len())) {
            into.copy_from_slice(found);
            return Ok(());
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.is_late.set(true);
            return Err(Fault { at, len: into.len() });
        }
        let start = Address(at.0 & !(WorkingSet::BLOCK - 1));
        let mut block = Piece { start, bytes: vec![0; BLOCK] };
        // What crosses from a block that is held into the next is read by
        // itself: the block stays what it was at the moment of the copy.
        let is_held =
            late.iter().any(|piece| piece.start == start) || self.copied.slice(at, 1).is_some();
        if is_held {
            self.working.borrow_mut().touch(at.plus(into.len() as u64));
            return self.live.read(at, into);
        }
        if late.len() < WorkingSet::MOST && self.live.read(start, &mut block.bytes).is_ok() {
            if let Some(found) = block.slice(at, into.len()) {
                into.copy_from_slice(found);
                late.push(block);
                return Ok(());
            }
            late.push(block);
        }
        self.live.read(at, into)
    }
}

impl Memory for CopiedMemory<'_> {
    fn copied(&self, at: Address) -> Option<(Address, &[u8])> {
        self.copied.stack.slice(at, 1)?;
        Some((self.copied.stack.start, &self.copied.stack.bytes))
    }

    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        if let Some(found) = self.copied.stack.slice(at, into.len()) {
            into.copy_from_slice(found);
            return Ok(());
        }
        self.working.borrow_mut().touch(at);
        if let Some(found) = self.copied.slice(at, into.len()) {
            into.copy_from_slice(found);
            return Ok(());
        }
        if self.copied.join(at, into) {
            self.working.borrow_mut().touch(at.plus((into.len() as u64).saturating_sub(1)));
            return Ok(());
        }
        if !self.anywhere && self.copied.is_beyond(at) {
            return Err(Fault { at, len: into.len() });
        }
        self.read_late(at, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Pid;

    #[test]
    fn a_depth_grows_at_once_and_shrinks_slowly() {
        let mut depth = Depth::default();
        depth.learn(Address(0x1000), Address(0x1000 + 100_000));
        assert_eq!(depth.bytes(), 110_592);
        depth.learn(Address(0x1000), Address(0x1100));
        assert_eq!(depth.bytes(), 106_496);
        assert_eq!(Depth(8 << 20).deeper(), None);
        assert_eq!(Depth(4096).deeper(), Some(Depth(16384)));
    }

    /// Reads this very process, as a target.
    #[test]
    fn a_copy_has_the_stack_and_the_working_set() {
        let memory = LiveMemory::new(Pid(std::process::id().cast_signed()));
        let heap = vec![7_u8; 3 * BLOCK];
        let (at, stack) = (heap.as_ptr() as u64 + 100, [9_u8; 64]);
        let mut working = WorkingSet::default();
        working.touch(Address(at));
        working.turn();
        let mut copied = Copied::default().prepare(Depth::default(), &working);
        copied.fill(&memory, Address(stack.as_ptr() as u64), None);
        assert_eq!(memory.reads(), 1);
        let memory = CopiedMemory::new(&copied, &memory, &mut working);
        let memory: &dyn Memory = &memory;
        assert_eq!(memory.get(Address(at)), Ok(7_u8));
        assert_eq!(memory.get(Address(stack.as_ptr() as u64)), Ok(9_u8));
    }

    #[test]
    fn what_was_read_late_can_be_kept() {
        let memory = LiveMemory::new(Pid(std::process::id().cast_signed()));
        let heap = vec![7_u8; 4 * BLOCK];
        let (first, later) = (heap.as_ptr() as u64, heap.as_ptr() as u64 + 2 * BLOCK as u64);
        let (mut working, mut copied) = (WorkingSet::default(), Copied::default());
        let late = CopiedMemory::new(&copied, &memory, &mut working);
        for at in [later, first, later + 1] {
            assert_eq!((&late as &dyn Memory).get(Address(at)), Ok(7_u8));
        }
        let late = late.into_late();
        assert_eq!(late.len(), 2);
        copied.keep(late);
        assert!([first, later].iter().all(|at| copied.slice(Address(*at), 1) == Some(&[7])));
    }

    /// A frame may lie across two pages, at each sample.
    #[test]
    fn what_crosses_into_the_next_block_is_not_read_again() {
        let memory = LiveMemory::new(Pid(std::process::id().cast_signed()));
        let heap = [vec![1_u8; 2 * BLOCK], vec![2_u8; 2 * BLOCK]].concat();
        let at = (heap.as_ptr() as u64).next_multiple_of(WorkingSet::BLOCK) + WorkingSet::BLOCK - 4;
        let (mut working, mut bytes) = (WorkingSet::default(), [0; 8]);
        let mut reads = Vec::new();
        for _ in 0..4 {
            let mut copied = Copied::default().prepare(Depth::default(), &working);
            copied.fill(&memory, Address(bytes.as_ptr() as u64), None);
            let before = memory.reads();
            let copy = CopiedMemory::new(&copied, &memory, &mut working);
            copy.read(Address(at), &mut bytes).unwrap();
            let from = usize::try_from(at - heap.as_ptr() as u64).unwrap();
            assert_eq!(bytes, heap[from..from + 8]);
            reads.push(memory.reads() - before);
            working.turn();
        }
        assert!(reads[0] > 0);
        assert_eq!(reads[2..], [0, 0]);
    }

    #[test]
    fn a_block_that_has_gone_does_not_cost_the_stack() {
        let memory = LiveMemory::new(Pid(std::process::id().cast_signed()));
        let mut working = WorkingSet::default();
        working.touch(Address(0x1000));
        working.turn();
        let mut copied = Copied::default().prepare(Depth::default(), &working);
        let stack = [9_u8; 64];
        copied.fill(&memory, Address(stack.as_ptr() as u64), None);
        assert!(copied.slice(Address(stack.as_ptr() as u64), 64).is_some());
        assert!(copied.blocks.is_empty());
    }
}
