//! Coroutines that wait: a frame each, from the outermost to the one that waits
//! for what is no coroutine.
//!
//! ```text
//! coroutine ──► frame ──► top of its stack ──► coroutine ──► frame ──► …
//! ```
//!
//! One that awaits has what it awaits on top of the stack of its frame.

use super::{
    detect::Found,
    layout::{Chain, Field, Instruction},
    objects::reader::Reader,
    walk,
};
use crate::{
    memory::Address,
    runtime::{Cut, RawFrame},
};

/// The most coroutines of one stack.
const MOST: usize = 4096;

/// The types whose objects have a frame: `PyGenObject` is what all three begin
/// with (Include/cpython/genobject.h).
const WITH_FRAME: [&str; 3] = ["coroutine", "generator", "async_generator"];

/// The types of what stands between a coroutine and the one that it awaits: the
/// first of their own words leads there (Objects/genobject.c).
const BETWEEN: [&str; 4] =
    ["coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable"];

/// How an interpreter lays out coroutines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    frame: FrameOf,
    state: State,
    top: Top,
}

/// Where the frame of a coroutine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameOf {
    /// Here is its address; 0 if it has ended (3.10 and older).
    Pointer(Field<Address>),
    /// It is part of the coroutine, so many bytes from its start.
    Part(u32),
}

/// Where is said what becomes of a coroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the coroutine, whether it runs (3.9 and older); it has not begun if
    /// its frame has run no instruction.
    Flag(Field<i8>),
    /// In the frame (3.10).
    Frame(Field<i8>, States),
    /// In the coroutine (3.11 and later).
    Own(Field<i8>, States),
}

/// What the values of a state mean (`PyFrameState`, Include/internal/pycore_frame.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct States {
    created: i8,
    executing: i8,
    /// From the first of these to the last.
    suspended: (i8, i8),
}

/// Where a frame has the top of its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Top {
    /// The address behind it (3.9 and older).
    Behind(Field<Address>),
    /// The stack begins there, and has so many words (3.10).
    Depth(Field<Address>, Field<i32>),
    /// Words from the first local variable on (3.11 to 3.13).
    Words(Field<i32>),
    /// The address behind the stack; what is awaited is so many words below.
    Pointer(Field<Address>, u64),
}

/// What becomes of a coroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It has not begun.
    Nothing,
    /// A thread runs it.
    Running,
    /// It waits.
    Waiting,
    /// It has ended.
    Ended,
}

impl Form {
    /// That of 3.7 and later.
    pub(super) fn new(found: &Found) -> Option<Self> {
        let minor = match (found.version.major, found.version.minor) {
            (3, minor @ 7..) => minor,
            _ => return None,
        };
        let layout = &found.layout;
        let header = layout.objects.class.offset.checked_add(8)?;
        let states = |created, executing, suspended| States { created, executing, suspended };
        if layout.frame.chain == Chain::Objects {
            // `f_valuestack` follows `f_locals`, and `f_code` is six words before it
            // (Include/frameobject.h, Include/cpython/frameobject.h).
            let stack = layout.frame.code.offset.checked_add(32)?;
            let frame = FrameOf::Pointer(Field::at(header));
            return Some(if minor == 10 {
                let state = State::Frame(Field::at(stack + 44), states(-2, 0, (-1, -1)));
                Self { frame, state, top: Top::Depth(Field::at(stack), Field::at(stack + 16)) }
            } else {
                let state = State::Flag(Field::at(header + 8));
                Self { frame, state, top: Top::Behind(Field::at(stack + 8)) }
            });
        }
        let Instruction::Pointer(instruction) = layout.frame.instruction else { return None };
        // The struct of the frame is the last of a coroutine's, and the state lies
        // five bytes before it; 3.11 has a word more before that
        // (Include/cpython/genobject.h). The top of the stack follows the
        // instruction (pycore_frame.h, pycore_interpframe_structs.h).
        let part = header.checked_add(if minor == 11 { 64 } else { 56 })?;
        let behind = instruction.offset.checked_add(8)?;
        let states = match minor {
            ..=12 => states(-2, 0, (-1, -1)),
            13 | 14 => states(-3, 0, (-2, -1)),
            _ => states(0, 4, (1, 3)),
        };
        let top = match minor {
            ..=13 => Top::Words(Field::at(behind)),
            14 => Top::Pointer(Field::at(behind), 1),
            // What was sent to it is above (3.15).
            _ => Top::Pointer(Field::at(behind), 2),
        };
        Some(Self {
            frame: FrameOf::Part(part),
            state: State::Own(Field::at(part - 5), states),
            top,
        })
    }

    fn frame(&self, at: Address, reader: &Reader<'_>) -> Option<Address> {
        match self.frame {
            FrameOf::Pointer(frame) => reader.field(frame, at),
            FrameOf::Part(offset) => Some(at.plus(offset.into())),
        }
    }

    /// What becomes of the coroutine at `at`, whose frame is known.
    fn doing(&self, at: Address, frame: Address, reader: &Reader<'_>) -> Option<Doing> {
        let (state, states) = match self.state {
            _ if frame.0 == 0 => return Some(Doing::Ended),
            State::Flag(flag) => {
                let runs = reader.field(flag, at)? != 0;
                let raw = walk::look(reader.layout, frame, reader).ok()?;
                let begun = raw.instruction != u64::MAX;
                return Some(match (runs, begun) {
                    (true, _) => Doing::Running,
                    (false, true) => Doing::Waiting,
                    (false, false) => Doing::Nothing,
                });
            }
            State::Frame(state, states) => (reader.field(state, frame)?, states),
            State::Own(state, states) => (reader.field(state, at)?, states),
        };
        let (first, last) = states.suspended;
        Some(match state {
            _ if state == states.created => Doing::Nothing,
            _ if state == states.executing => Doing::Running,
            _ if (first..=last).contains(&state) => Doing::Waiting,
            _ => Doing::Ended,
        })
    }

    /// What lies on top of the stack of a frame; 0 for nothing.
    fn awaited(&self, frame: Address, reader: &Reader<'_>) -> Option<Address> {
        let below = |top: Address, words: u64| Address(top.0.wrapping_sub(8 * words));
        let last = |first: Address, words: i32| {
            let words = u64::try_from(words).ok().filter(|words| *words > 0)?;
            Some(first.plus(8 * (words - 1)))
        };
        let place = match self.top {
            Top::Behind(top) => below(reader.field(top, frame).filter(|top| top.0 != 0)?, 1),
            Top::Depth(start, depth) => {
                last(reader.field(start, frame)?, reader.field(depth, frame)?)?
            }
            Top::Words(words) => {
                last(reader.layout.frame.locals.of(frame), reader.field(words, frame)?)?
            }
            Top::Pointer(top, words) => {
                below(reader.field(top, frame).filter(|top| top.0 != 0)?, words)
            }
        };
        let value: Address = reader.get(place)?;
        Some(Address(value.0 & !reader.layout.frame.tag))
    }
}

/// The stack of a coroutine.
#[derive(Debug)]
pub(super) struct Chained {
    /// What becomes of the outermost.
    pub(super) doing: Doing,
    /// Innermost first.
    pub(super) frames: Vec<RawFrame>,
    /// Why there may be more.
    pub(super) cut: Option<Cut>,
}

/// Whether the object at `at` is one that a task can run.
pub(super) fn is_coroutine(reader: &Reader<'_>, at: Address) -> bool {
    reader.class_of(at).is_some_and(|class| {
        // What is compiled has coroutines of its own, and no frames.
        WITH_FRAME.contains(&class.name.as_str()) || class.name.ends_with("coroutine")
    })
}

/// Follow the coroutine at `at` to what it waits for. None but those that wait
/// have frames.
pub(super) fn follow(form: &Form, at: Address, reader: &Reader<'_>) -> Option<Chained> {
    let mut chained = Chained { doing: Doing::Waiting, frames: Vec::new(), cut: None };
    let mut next = Some(at);
    for step in 0..MOST {
        let Some(at) = next.filter(|at| at.0 != 0 && at.0.is_multiple_of(8)) else { break };
        let Some(class) = reader.class_of(at) else { break };
        if BETWEEN.contains(&class.name.as_str()) && !class.is_heap() {
            next = reader.own(at, 0);
            continue;
        }
        if !WITH_FRAME.contains(&class.name.as_str()) || class.is_heap() {
            break;
        }
        let frame = form.frame(at, reader)?;
        let doing = form.doing(at, frame, reader)?;
        if step == 0 {
            chained.doing = doing;
        }
        if doing != Doing::Waiting {
            break;
        }
        match walk::look(reader.layout, frame, reader) {
            Ok(raw) => chained.frames.push(raw),
            Err(fault) => {
                chained.cut = Some(fault.into());
                break;
            }
        }
        next = form.awaited(frame, reader);
        if step + 1 == MOST {
            chained.cut = Some(Cut::TooDeep);
        }
    }
    chained.frames.reverse();
    Some(chained)
}

#[cfg(test)]
mod tests {
    use super::{
        super::made::{Made, layout},
        *,
    };

    const CLASS: u64 = 0x1000;
    const COROUTINE: u64 = 0x2000;
    const OTHER: u64 = 0x3000;

    /// As 3.13 has it.
    const FORM: Form = Form {
        frame: FrameOf::Part(72),
        state: State::Own(Field::at(67), States { created: -3, executing: 0, suspended: (-2, -1) }),
        top: Top::Words(Field::at(64)),
    };

    /// Two coroutines in that state, of which the first awaits the second, and the
    /// second that.
    fn memory(state: i8, awaited: u64) -> Made {
        let mut made = Made::default();
        made.bytes(CLASS, &[0; 512]).word(CLASS + 24, CLASS + 400);
        made.bytes(CLASS + 400, b"coroutine\0");
        for (at, next) in [(COROUTINE, OTHER), (OTHER, awaited)] {
            made.bytes(at, &[0; 256]).word(at + 8, CLASS).word(at + 72, 0x4000 + at);
            made.bytes(at + 67, &state.to_le_bytes());
            // One word on the stack of the frame, whose first local variable it is.
            made.bytes(at + 72 + 64, &1_i32.to_le_bytes()).word(at + 72 + 80, next);
        }
        made
    }

    fn chained(state: i8, awaited: u64) -> Chained {
        let (layout, memory) = (layout(), memory(state, awaited));
        let reader = Reader::new(&layout, &memory, 1 << 20);
        follow(&FORM, Address(COROUTINE), &reader).unwrap()
    }

    #[test]
    fn a_chain_ends_with_what_is_no_coroutine() {
        for awaited in [0, 3, CLASS, 0xdead_0000] {
            let Chained { doing, frames, cut } = chained(-1, awaited);
            assert_eq!((doing, cut), (Doing::Waiting, None));
            let codes: Vec<u64> = frames.iter().map(|frame| frame.code.0).collect();
            assert_eq!(codes, [0x4000 + OTHER, 0x4000 + COROUTINE], "{awaited:#x}");
        }
    }

    #[test]
    fn a_chain_that_leads_back_ends() {
        let Chained { frames, cut, .. } = chained(-1, COROUTINE);
        assert_eq!((frames.len(), cut), (MOST, Some(Cut::TooDeep)));
    }

    #[test]
    fn what_does_not_wait_has_no_frames() {
        for (state, expected) in
            [(-3, Doing::Nothing), (0, Doing::Running), (1, Doing::Ended), (99, Doing::Ended)]
        {
            let Chained { doing, frames, .. } = chained(state, 0);
            assert_eq!((doing, frames.len()), (expected, 0));
        }
    }
}
