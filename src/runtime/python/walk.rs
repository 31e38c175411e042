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
    layout::{Chain, Frames, Instruction, Layout},
    structs::Struct,
};
use crate::{
    memory::{Address, Fault, Memory},
    runtime::{Cut, Entry, RawFrame},
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

/// As [`trace`]. A loop that begins enters its struct, and only then the frame
/// in it: before that there is whatever the stack held, and the frames are
/// those of the next outer loop.
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
    let leads_on = into.iter().skip(first).any(|frame| frame.entry.is_some());
    if followed != Err(Cut::Unreadable) || leads_on {
        return followed;
    }
    let outer = || {
        let outer = cframe.previous.get(memory, head).ok()?;
        let begin = cframe.current_frame.get(memory, outer).ok()?;
        let mut frames_of_outer = Vec::new();
        follow_from(frames, (begin, outer), memory, &mut frames_of_outer).ok()?;
        Some(frames_of_outer)
    };
    let Some(mut outer) = outer() else { return followed };
    into.truncate(first);
    into.append(&mut outer);
    Ok(())
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
    let owner = frames.owner.map_or(0, super::layout::Field::end);
    let ends = [frames.previous.end(), frames.code.end(), instruction, entry, owner];
    ends.into_iter().max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
