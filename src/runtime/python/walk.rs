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

impl From<Fault> for Cut {
    fn from(_: Fault) -> Self {
        Self::Unreadable
    }
}

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
    let (mut at, mut cframe) = match frames.chain {
        Chain::Objects | Chain::Shims { current_frame: None, .. } => (head, Address(0)),
        Chain::CFrames { current_frame, .. } => (current_frame.get(memory, head)?, head),
        Chain::Shims { current_frame: Some(innermost), .. } => {
            (innermost.get(memory, head)?, Address(0))
        }
    };
    let span = span(frames);
    let first = into.len();
    // Where in `into` the frames of the present run of the loop begin.
    let mut begun = first;
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
        if ends.is_some() {
            if let Some(outermost) = into.get_mut(begun..).and_then(<[_]>::last_mut) {
                outermost.entry = ends;
            }
            begun = into.len();
            if let Chain::CFrames { previous, .. } = frames.chain {
                cframe = previous.get(memory, cframe)?;
            }
        }
        at = copy.get(frames.previous)?;
    }
    Err(Cut::TooDeep)
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
    let owner = frames.owner.map_or(0, super::layout::Field::end);
    let ends = [frames.previous.end(), frames.code.end(), instruction, entry, owner];
    ends.into_iter().max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
