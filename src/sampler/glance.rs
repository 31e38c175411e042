//! A look at the managed frames of a thread that runs on: without a stop.
//!
//! What is read of a thread that runs is of several moments. That it belongs
//! together nevertheless rests on this: as long as a function runs, its callers
//! stay what they are. So one system call copies, in this order, the memory of
//! the innermost frames; the thread's own state and then all of its frames; and
//! the memory of the innermost frames once more. The frames are followed in the
//! second copy. If the caller of the innermost function is the same in the
//! first and in the last, all that is farther out was the same in between.
//!
//! ```text
//!   before        state ─► innermost ─► caller ─► …         after
//!   caller  ═══════════════ is the same run ═══════════════ caller
//! ```
//!
//! The innermost frame is read after the pointer to it, so it is one that this
//! caller has called. If it does not fit, it is tried again at once.

use rustc_hash::FxHashSet;

use super::{
    engine::{Engine, Facts},
    watched::Watched,
};
use crate::{
    capture::{Copied, CopiedMemory},
    memory::{Address, Fault, Memory, Piece, WorkingSet},
    process::LiveMemory,
    runtime::{Callers, Cut, Trace},
    stack::{End, Stack},
};

/// How often is looked at a thread whose frames change too fast.
const TRIES: usize = 8;

/// Frames from the innermost whose memory is copied before and after: when the
/// caller of the innermost is to be checked, so are some of its own callers, for
/// another run of the same function looks the same.
const INNERMOST: usize = 5;

/// No part of a frame that is looked at lies farther from its start, in bytes.
const REACH: u64 = 160;

/// Blocks of frames that were innermost of late are copied, too, up to so many
/// in all: the next sample often is in one of them.
const RECENT: usize = 8;

const BLOCK: usize = 4096;
const _: () = assert!(BLOCK as u64 == WorkingSet::BLOCK);

/// What is remembered of a thread from one glance at it to the next.
#[derive(Debug, Default)]
pub(super) struct Glances {
    /// Blocks of the innermost frames, the latest first.
    inner: Vec<u64>,
    /// What following the frames has read.
    chain: WorkingSet,
}

/// What a glance has found.
pub(super) enum Glance {
    /// The managed frames, all of one moment.
    Frames(Stack, Facts),
    /// They changed whenever they were read.
    Torn,
    /// The thread has none.
    Without,
}

impl Engine {
    /// Read the managed frames of a thread that runs.
    pub(super) fn glance(&mut self, watched: &mut Watched) -> Glance {
        self.expect(watched);
        for _ in 0..TRIES {
            let Some(runtime) = self.language.runtime() else { return Glance::Without };
            let Glances { inner, chain } = &mut watched.glances;
            let mut copies = Copies::take(&self.memory, inner, chain, &watched.working);
            let (mut trace, reads) = (Trace::default(), self.memory.reads());
            let memory = CopiedMemory::new(&copies.whole, &self.memory, chain).anywhere();
            let is_known = runtime.trace(watched.inner, &memory, &mut trace);
            let late = memory.into_late();
            copies.whole.keep(late);
            if !is_known {
                return Glance::Without;
            }
            if self.memory.reads() > reads {
                // Something was read after the last copy.
                copies.after = Blocks::of(&self.memory, inner);
            }
            watched.glances.learn(&trace);
            let fits = [&copies.before, &copies.after].map(|side| runtime.callers(&trace, side));
            // Between two calls from one place the caller is elsewhere for a moment.
            let fits = !fits.contains(&Callers::Changed) && fits.contains(&Callers::Same);
            if !fits || trace.cut == Some(Cut::Unreadable) {
                continue;
            }
            let memory =
                CopiedMemory::new(&copies.whole, &self.memory, &mut watched.working).anywhere();
            let mut facts = self.language.facts(&trace, None, self.locals, &memory);
            let Some(frames) = self.language.managed(&trace, &mut facts, &memory) else {
                continue;
            };
            drop(memory);
            watched.working.turn();
            let end = if trace.cut.is_some() { End::TooDeep } else { End::Root };
            return Glance::Frames(Stack { frames, end }, facts);
        }
        Glance::Torn
    }
}

impl Glances {
    /// Note where the frames of a trace lie.
    fn learn(&mut self, trace: &Trace) {
        let blocks = |at: Address| [at, at.plus(REACH)].map(|at| at.0 & !(WorkingSet::BLOCK - 1));
        for frame in &trace.frames {
            self.chain.touch(frame.at.plus(REACH));
        }
        self.chain.turn();
        let innermost = trace.frames.iter().take(INNERMOST);
        let mut inner: Vec<u64> = innermost.flat_map(|frame| blocks(frame.at)).collect();
        let wanted = inner.len().max(RECENT);
        inner.append(&mut self.inner);
        let mut seen = FxHashSet::default();
        inner.retain(|block| seen.insert(*block));
        inner.truncate(wanted);
        self.inner = inner;
    }
}

/// What one system call has copied.
struct Copies {
    /// The innermost frames, before everything else.
    before: Blocks,
    /// What following all frames reads.
    whole: Copied,
    /// The innermost frames again.
    after: Blocks,
}

impl Copies {
    /// Copy `inner`, what else is in `chain`, `inner` twice more, and then what
    /// names are found by.
    fn take(memory: &LiveMemory, inner: &[u64], chain: &WorkingSet, names: &WorkingSet) -> Self {
        let mut inner = inner.to_vec();
        inner.sort_unstable();
        let mut seen: FxHashSet<u64> = inner.iter().copied().collect();
        let mut fresh = |set: &WorkingSet| -> Vec<u64> {
            set.blocks().map(|block| block.0).filter(|block| seen.insert(*block)).collect()
        };
        let others = fresh(chain);
        let names = fresh(names);
        let order: Vec<_> = [&inner, &others, &inner, &inner, &names].map(|part| runs(part)).into();
        let mut pieces: Vec<Piece> = order.iter().flatten().cloned().collect();
        let mut room: Vec<(Address, &mut [u8])> =
            pieces.iter_mut().map(|piece| (piece.start, &mut *piece.bytes)).collect();
        let mut copied = if room.is_empty() { 0 } else { memory.gather(&mut room).unwrap_or(0) };
        // Where a block has gone, all after it is missing.
        let whole = pieces.iter().take_while(|piece| {
            let rest = copied.checked_sub(piece.bytes.len());
            copied = rest.unwrap_or(0);
            rest.is_some()
        });
        let whole = whole.count();
        pieces.truncate(whole);
        let mut pieces = pieces.into_iter();
        let [before, others, inner, after, names] =
            [0, 1, 2, 3, 4].map(|part: usize| -> Vec<Piece> {
                let count = order.get(part).map_or(0, Vec::len);
                pieces.by_ref().take(count).collect()
            });
        let mut whole = Copied::default();
        whole.keep(others.into_iter().chain(inner).chain(names).collect());
        Self { before: Blocks(before), whole, after: Blocks(after) }
    }
}

/// Room for ascending `blocks`: one piece for those that follow each other.
fn runs(blocks: &[u64]) -> Vec<Piece> {
    let mut runs: Vec<Piece> = Vec::new();
    for &block in blocks {
        match runs.last_mut() {
            Some(last) if last.start.0.checked_add(last.bytes.len() as u64) == Some(block) => {
                last.bytes.resize(last.bytes.len() + BLOCK, 0);
            }
            _ => runs.push(Piece { start: Address(block), bytes: vec![0; BLOCK] }),
        }
    }
    runs
}

/// Some copied memory, and nothing else.
struct Blocks(Vec<Piece>);

impl Blocks {
    fn of(memory: &LiveMemory, blocks: &[u64]) -> Self {
        let mut blocks = blocks.to_vec();
        blocks.sort_unstable();
        let mut pieces = runs(&blocks);
        let mut room: Vec<(Address, &mut [u8])> =
            pieces.iter_mut().map(|piece| (piece.start, &mut *piece.bytes)).collect();
        let wanted: usize = room.iter().map(|(_, bytes)| bytes.len()).sum();
        let copied = if room.is_empty() { 0 } else { memory.gather(&mut room).unwrap_or(0) };
        Self(if copied == wanted { pieces } else { Vec::new() })
    }
}

impl Memory for Blocks {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let found = self.0.iter().find_map(|piece| piece.slice(at, into.len()));
        into.copy_from_slice(found.ok_or(Fault { at, len: into.len() })?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{runtime::RawFrame, task::Pid};

    fn trace(frames: &[u64]) -> Trace {
        let frame = |&at: &u64| RawFrame { at: Address(at), ..RawFrame::default() };
        Trace { frames: frames.iter().map(frame).collect(), ..Trace::default() }
    }

    #[test]
    fn blocks_of_innermost_frames_are_kept_for_a_while() {
        let mut glances = Glances::default();
        glances.learn(&trace(&[0x1000, 0x2ff8, 0x1008]));
        assert_eq!(glances.inner, [0x1000, 0x2000, 0x3000]);
        glances.learn(&trace(&[0x9000]));
        assert_eq!(glances.inner, [0x9000, 0x1000, 0x2000, 0x3000]);
        for block in 0x10..0x30 {
            glances.learn(&trace(&[block << 12]));
        }
        assert_eq!(glances.inner.len(), RECENT);
        assert_eq!(glances.inner[0], 0x2f << 12);
        // Of a deep stack only the inner part, but all of that.
        let deep: Vec<u64> = (0..100).map(|frame| 0x100_0000 + frame * 0x4ff0).collect();
        glances.learn(&trace(&deep));
        assert!(glances.inner.len() <= 2 * INNERMOST);
    }

    /// Reads this very process, as a target.
    #[test]
    fn copies_hold_each_block_where_it_belongs() {
        let memory = LiveMemory::new(Pid(std::process::id().cast_signed()));
        let heap = vec![7_u8; 8 * BLOCK];
        let first = (heap.as_ptr() as u64).next_multiple_of(BLOCK as u64);
        let at = |block: u64| Address(first + block * BLOCK as u64);
        let (mut chain, mut names) = (WorkingSet::default(), WorkingSet::default());
        [0, 1, 2].iter().for_each(|&block| chain.touch(at(block)));
        [2, 5].iter().for_each(|&block| names.touch(at(block)));
        chain.turn();
        names.turn();
        let copies = Copies::take(&memory, &[at(2).0, at(1).0], &chain, &names);
        assert_eq!(memory.reads(), 1);
        for side in [&copies.before, &copies.after] {
            let side: &dyn Memory = side;
            // Across the border of two blocks.
            assert_eq!(side.get(at(2).plus(u64::MAX)), Ok(0x0707_u16));
            assert!(side.get::<u8>(at(0)).is_err());
        }
        let starts: Vec<_> = copies.whole.blocks.iter().map(|piece| piece.start).collect();
        assert_eq!(starts, [at(0), at(1), at(5)]);
        // A block that has gone: what comes before it is there.
        let copies = Copies::take(&memory, &[at(1).0], &chain, &{
            let mut gone = WorkingSet::default();
            gone.touch(Address(0x1000));
            gone.turn();
            gone
        });
        assert_eq!((copies.after.0.len(), copies.whole.blocks.len()), (1, 3));
    }
}
