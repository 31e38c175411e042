//! Following a thread's frames, from the innermost outwards.
//!
//! Pointers only: what a frame is called, and whether it is one that Python's
//! own tracebacks show, is in its code object, which is looked at later
//! ([`super::code`]). Three chains are known:
//!
//! ```text
//! Objects   thread ──► frame ──► frame ──► 0            a native frame each
//! CFrames   thread ──► cframe ─────────────► cframe     in the native frames
//!                        └► frame ──► frame ──┴► frame ──► 0
//!                                    (is_entry)
//! Shims     thread ──► frame ──► frame ──► shim ──► frame ──► shim ──► 0
//!                                         (in the native frame)
//! ```
//!
//! A chain may end anywhere: that of a greenlet ends where it was begun.

use super::{
    layout::{CFrame, Chain, Field, Frames, Instruction, Layout},
    structs::Struct,
};
use crate::{
    memory::{Address, Fault, Memory, Plain},
    runtime::{Callers, Cut, Entry, RawFrame},
};

/// The most frames of a thread that are kept.
pub const MOST: usize = 4096;

/// The most structs that are looked at: between any two frames there can be one
/// that runs no function.
const STEPS: usize = 2 * MOST + 2;

/// Append the frames of the thread whose `PyThreadState` is at `state`, and say
/// why there may be more.
///
/// One read a frame, one more for each run of the interpreter's loop where that
/// has a struct of its own. Nothing is allocated but what `into` lacks.
pub fn trace(
    layout: &Layout,
    state: Address,
    memory: &dyn Memory,
    into: &mut Vec<RawFrame>,
) -> Option<Cut> {
    follow(layout, state, memory, into).err()
}

/// Append the frames from `frame` on, which no thread runs: they lie on the heap,
/// and no native frames are known of them.
pub fn trace_parked(
    layout: &Layout,
    frame: Address,
    memory: &dyn Memory,
    into: &mut Vec<RawFrame>,
) -> Option<Cut> {
    let first = into.len();
    let cut = follow_from(&layout.frame, (frame, Address(0)), memory, into).err();
    into.iter_mut().skip(first).for_each(|frame| frame.entry = None);
    cut
}

/// The frame at `at`, whichever others lead to it.
///
/// # Errors
/// A [`Fault`] when it cannot be read.
pub fn look(layout: &Layout, at: Address, memory: &dyn Memory) -> Result<RawFrame, Fault> {
    let mut copy = Struct::new();
    copy.read(memory, at, span(&layout.frame))?;
    frame(&layout.frame, at, &copy)
}

/// Append the frames that the thread has in another interpreter as well, whose
/// `PyThreadState` is at `state`: it has called the one that runs, or both have
/// called each other. Where frames say where on the stack their loop is, all are
/// put in that order.
pub fn trace_outer(
    layout: &Layout,
    state: Address,
    memory: &dyn Memory,
    into: &mut Vec<RawFrame>,
) -> Option<Cut> {
    let before = into.len();
    let cut = trace(layout, state, memory, into);
    if into.len() > MOST {
        into.truncate(MOST);
        return Some(Cut::TooDeep);
    }
    if before == 0 || into.len() == before {
        return cut;
    }
    // The frames of a loop belong together; what has no loop is farthest out.
    let mut loops: Vec<(Address, Vec<RawFrame>)> = Vec::new();
    for frames in into.split_inclusive(|frame| frame.entry.is_some()) {
        let at = match frames.last().and_then(|last| last.entry) {
            Some(Entry::Within(at)) => at,
            // Nothing is known of their order.
            Some(Entry::Holds(_)) => return cut,
            None => Address(u64::MAX),
        };
        loops.push((at, frames.to_vec()));
    }
    loops.sort_by_key(|(at, _)| *at);
    into.clear();
    into.extend(loops.into_iter().flat_map(|(_, frames)| frames));
    cut
}

/// As [`trace`], and where the innermost loop does not lead to the next outer
/// one, as the structs of loops do.
///
/// A loop that begins enters its struct, and only then the frame in it: before
/// that there is whatever the stack held, and the frames are those of the next
/// outer loop. A generator that begins or yields is for a moment a frame that
/// nothing is outside of.
fn follow(
    layout: &Layout,
    state: Address,
    memory: &dyn Memory,
    into: &mut Vec<RawFrame>,
) -> Result<(), Cut> {
    let frames = &layout.frame;
    let head = layout.thread.frame.get(memory, state)?;
    if head == Address(0) {
        return Ok(());
    }
    let Some(cframe) = frames.chain.cframe() else {
        return follow_from(frames, (head, Address(0)), memory, into);
    };
    let first = into.len();
    let begin = cframe.current_frame.get(memory, head)?;
    let followed = follow_from(frames, (begin, head), memory, into);
    let own = into.get(first..).unwrap_or_default();
    let is_ready = own.is_empty() && followed.is_ok();
    let leads_on = own.iter().any(|frame| frame.entry.is_some());
    if is_ready || leads_on || followed == Err(Cut::TooDeep) {
        return followed;
    }
    let outer = |at: Address| {
        let begin = cframe.current_frame.get(memory, at).ok()?;
        let mut found = Vec::new();
        // A greenlet that is switched from leads past its loops' own frames.
        let is_new = begin != Address(0) && own.iter().all(|frame| frame.at != begin);
        follow_from(frames, (begin, at), memory, &mut found).ok().filter(|()| is_new)?;
        found.iter().any(|frame| frame.entry.is_some()).then_some(found)
    };
    let known = cframe.previous.get(memory, head).ok().and_then(outer);
    // Compilers enter both words of the struct at once, so that it may lead
    // nowhere at all.
    let sought = || cframes_above(cframe, (head, state), memory).find_map(outer);
    let found = known.or_else(|| if followed.is_err() { sought() } else { None });
    let Some(mut outer) = found else { return followed };
    if followed.is_err() {
        into.truncate(first);
    } else if let Some(outermost) = into.last_mut() {
        outermost.entry = Some(Entry::Within(head));
    }
    into.append(&mut outer);
    Ok(())
}

/// Where above `head` on the stack the struct of an outer loop may lie: it has a
/// frame, and leads further up, or to the thread's own struct, in its state.
fn cframes_above(
    links: CFrame,
    (head, state): (Address, Address),
    memory: &dyn Memory,
) -> impl Iterator<Item = Address> {
    /// The struct is sought no farther away, in bytes: in most programs the
    /// next loop is nearer by far.
    const FARTHEST: u64 = 64 << 10;
    /// Nor is anything taken for it more often.
    const MOST: usize = 64;
    /// No thread state is larger.
    const STATE: u64 = 4096;
    let (start, bytes) = memory.copied(head).unwrap_or_default();
    let end = start.plus(bytes.len() as u64);
    let leads_up = move |at: &Address| {
        let word = |field: Field<Address>| {
            let from = usize::try_from(field.of(*at).0.checked_sub(start.0)?).ok()?;
            bytes.get(from..).and_then(Address::decode)
        };
        let (Some(frame), Some(next)) = (word(links.current_frame), word(links.previous)) else {
            return false;
        };
        let is_up = (*at < next && next < end) || next.0.wrapping_sub(state.0) < STATE;
        is_up && frame != Address(0) && frame.0.is_multiple_of(8)
    };
    (8..FARTHEST).step_by(8).map(move |above| head.plus(above)).filter(leads_up).take(MOST)
}

impl From<Fault> for Cut {
    fn from(_: Fault) -> Self {
        Self::Unreadable
    }
}

/// Follow the frames from the innermost one, and the structs of their loops
/// from that one.
fn follow_from(
    frames: &Frames,
    (mut at, mut cframe): (Address, Address),
    memory: &dyn Memory,
    into: &mut Vec<RawFrame>,
) -> Result<(), Cut> {
    let span = span(frames);
    let first = into.len();
    // Where in `into` the frames of the present run of the loop begin.
    let mut begun = first;
    let mut is_begun = false;
    let mut copy = Struct::new();
    for _ in 0..STEPS {
        if at == Address(0) {
            return Ok(());
        }
        if !at.0.is_multiple_of(8) {
            return Err(Cut::Unreadable);
        }
        copy.read(memory, at, span)?;
        let ends = match frames.chain {
            Chain::Objects => Some(Entry::Holds(at)),
            Chain::CFrames { is_entry, .. } if copy.get(is_entry)? != 0 => {
                Some(Entry::Within(cframe)).filter(|_| cframe != Address(0))
            }
            Chain::CFrames { .. } => None,
            Chain::Shims { shim, .. } => {
                (owner(frames, &copy)? >= shim).then_some(Entry::Within(at))
            }
        };
        // A shim ends the frames before it, and is none.
        if !(matches!(frames.chain, Chain::Shims { .. }) && ends.is_some()) {
            if into.len().saturating_sub(first) >= MOST {
                return Err(Cut::TooDeep);
            }
            into.push(frame(frames, at, &copy)?);
        }
        let next = copy.get(frames.previous)?;
        if ends.is_some() {
            if !std::mem::replace(&mut is_begun, true) && !leads_on(frames, cframe, next, memory) {
                return Err(Cut::Unreadable);
            }
            if let Some(outermost) = into.get_mut(begun..).and_then(<[_]>::last_mut) {
                outermost.entry = ends;
            }
            begun = into.len();
            if let Chain::CFrames { cframe: links, .. } = frames.chain {
                cframe = links.previous.get(memory, cframe)?;
            }
        }
        at = next;
    }
    Err(Cut::TooDeep)
}

/// Whether `next`, to which the frames of the innermost loop lead, is where the
/// next outer loop is. `cframe` is the struct of the innermost.
fn leads_on(frames: &Frames, cframe: Address, next: Address, memory: &dyn Memory) -> bool {
    let Some(links) = frames.chain.cframe() else { return true };
    let outer = || links.current_frame.get(memory, links.previous.get(memory, cframe)?);
    // What a greenlet's first loop was called from need not be left.
    next == Address(0) || outer() == Ok(next)
}

/// Whether the callers of the innermost of `frames` are the same in `memory`.
///
/// Each that `memory` has is compared, from the nearest on: what it executes,
/// and where. A caller that goes on with its own code while it is at one call
/// after the other is the same; one whose own callers do so is another.
pub fn callers(layout: &Layout, frames: &[RawFrame], memory: &dyn Memory) -> Callers {
    let mut copy = Struct::new();
    let mut found = Callers::Same;
    for (index, expected) in frames.iter().enumerate().skip(1) {
        let present = copy
            .read(memory, expected.at, span(&layout.frame))
            .and_then(|()| frame(&layout.frame, expected.at, &copy));
        match present {
            Ok(present) if present.code != expected.code => return Callers::Changed,
            Ok(present) if present.instruction == expected.instruction => {}
            Ok(_) if index == 1 => found = Callers::Moved,
            Ok(_) => return Callers::Changed,
            Err(_) if index == 1 => return Callers::Changed,
            Err(_) => return found,
        }
    }
    found
}

fn frame(frames: &Frames, at: Address, copy: &Struct) -> Result<RawFrame, Fault> {
    let instruction = match frames.instruction {
        Instruction::Bytes(last) | Instruction::Units(last) => {
            i64::from(copy.get(last)?).cast_unsigned()
        }
        Instruction::Pointer(next) => copy.get(next)?.0,
    };
    let code = Address(copy.get(frames.code)?.0 & !frames.tag);
    Ok(RawFrame { at, code, instruction, entry: None })
}

fn owner(frames: &Frames, copy: &Struct) -> Result<u8, Fault> {
    frames.owner.map_or(Ok(0), |owner| copy.get(owner))
}

/// How much of a frame is looked at, in bytes.
fn span(frames: &Frames) -> usize {
    let instruction = match frames.instruction {
        Instruction::Bytes(last) | Instruction::Units(last) => last.end(),
        Instruction::Pointer(next) => next.end(),
    };
    let entry = match frames.chain {
        Chain::CFrames { is_entry, .. } => is_entry.end(),
        Chain::Objects | Chain::Shims { .. } => 0,
    };
    let owner = frames.owner.map_or(0, Field::end);
    let ends = [frames.previous.end(), frames.code.end(), instruction, entry, owner];
    ends.into_iter().max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
