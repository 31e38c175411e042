//! Code objects: what a function is called, and where an instruction of it is.
//!
//! A code object is named once. Whenever it is met again its struct is read,
//! and compared with what was remembered: an address can come to mean another
//! function.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    layout::{self, Instruction, Layout},
    lines::{Lines, Place},
    structs::Struct,
    text,
};
use crate::{
    memory::{Address, Memory},
    runtime::{Managed, Places, RawFrame, Segment, Trace},
    stack::ManagedFrame,
};

/// The code objects of an interpreter that were met so far.
#[derive(Debug, Default)]
pub struct Codes {
    known: FxHashMap<Address, Known>,
    /// The type of code objects, once one was seen.
    class: Option<Address>,
    /// What is kept, in bytes, more or less.
    weight: usize,
}

/// A code object.
#[derive(Debug)]
struct Known {
    identity: Identity,
    /// Without a place.
    frame: ManagedFrame,
    lines: Lines,
    /// Whether it is no function, but the interpreter's own: see [`Codes::is_shown`].
    internal: bool,
    /// Ascending by place.
    places: Vec<(Place, Arc<ManagedFrame>)>,
}

/// By what a code object is known to be the same as before: what it leads to,
/// and, since the memory of all that is given to others with its own, numbers
/// that are seldom the same of two, and never from 3.12 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    filename: Address,
    name: Address,
    qualname: Address,
    lines: Address,
    first_line: i32,
    local_names: Address,
    flags: i32,
    arguments: i32,
    /// 0 before 3.12.
    version: u32,
}

impl Identity {
    fn of(layout: &Layout, copy: &Struct) -> Option<Self> {
        let code = &layout.code;
        Some(Self {
            filename: copy.get(code.filename).ok()?,
            name: copy.get(code.name).ok()?,
            qualname: code.qualname.map_or(Some(Address(0)), |name| copy.get(name).ok())?,
            lines: copy.get(code.lines).ok()?,
            first_line: copy.get(code.first_line).ok()?,
            local_names: copy.get(code.local_names).ok()?,
            flags: copy.get(code.flags).ok()?,
            arguments: copy.get(code.arguments).ok()?,
            version: code.version.map_or(Some(0), |version| copy.get(version).ok())?,
        })
    }
}

/// Of a code object, what must be looked at each time.
#[derive(Clone, Copy, Debug)]
struct Present {
    /// The address of the first instruction.
    instructions: u64,
    /// The offset of the first instruction that a user knows of, in bytes.
    traceable: i64,
    /// `co_tlbc`, or 0.
    copies: Address,
}

impl Codes {
    /// The most code objects that are kept.
    const MOST: usize = 65_536;

    /// The most memory that is used for them, in bytes. Only generated code
    /// with very long tables comes near it.
    const HEAVIEST: usize = 128 << 20;

    /// Give the frames of a trace their names.
    ///
    /// Frames that Python's own tracebacks do not show are left out. Where a
    /// code object cannot be read, or is none, the stack is cut: its last
    /// segment has then no entry, and perhaps no frames. With a number there is
    /// a frame that is put before that one of the trace.
    pub fn resolve(
        &mut self,
        layout: &Layout,
        (trace, before): (&Trace, Option<(usize, &Arc<ManagedFrame>)>),
        places: Places,
        memory: &dyn Memory,
    ) -> Managed {
        let mut segments = Vec::new();
        let mut frames = Vec::new();
        for (number, raw) in trace.frames.iter().enumerate() {
            if let Some((_, frame)) = before.filter(|&(at, _)| at == number) {
                frames.push(Arc::clone(frame));
            }
            match self.look(layout, raw, memory) {
                Some(Look::Shown(place)) => frames.extend(self.frame(raw.code, place, places)),
                Some(Look::Hidden) => {}
                None => {
                    segments.push(Segment { entry: None, frames });
                    return Managed { segments, unreadable: true };
                }
            }
            if raw.entry.is_some() && !frames.is_empty() {
                segments.push(Segment { entry: raw.entry, frames: std::mem::take(&mut frames) });
            }
        }
        // A trace that was cut between two segments has lost the next.
        if !frames.is_empty() || trace.cut.is_some() {
            segments.push(Segment { entry: None, frames });
        }
        Managed { segments, unreadable: false }
    }

    /// Whether [`Self::resolve`] shows a frame. Not shown is one that has been
    /// made but has not begun (3.11 and 3.12: its first instructions make
    /// cells, which can run the collector), and the one from which 3.12 and
    /// later run `__init__`. `None` when its code cannot be read.
    pub fn is_shown(
        &mut self,
        layout: &Layout,
        raw: &RawFrame,
        memory: &dyn Memory,
    ) -> Option<bool> {
        Some(matches!(self.look(layout, raw, memory)?, Look::Shown(_)))
    }

    fn look(&mut self, layout: &Layout, raw: &RawFrame, memory: &dyn Memory) -> Option<Look> {
        let present = self.meet(layout, raw.code, memory)?;
        let known = self.known.get(&raw.code)?;
        if known.internal {
            return Some(Look::Hidden);
        }
        let offset = match layout.frame.instruction {
            Instruction::Bytes(_) => raw.instruction.cast_signed(),
            Instruction::Units(_) => raw.instruction.cast_signed().saturating_mul(2),
            Instruction::Pointer(_) => {
                let end = known.lines.end().unwrap_or(u32::MAX);
                match offset(raw.instruction, present, end, memory) {
                    Some(offset) => offset,
                    // It points nowhere into the code: the function is right,
                    // and nobody knows where it is.
                    None => return Some(Look::Shown(Place::default())),
                }
            }
        };
        let begun = offset >= present.traceable;
        Some(if begun { Look::Shown(known.lines.at(offset)) } else { Look::Hidden })
    }

    /// Make sure that what is known of the code object at `at` is what it is.
    fn meet(&mut self, layout: &Layout, at: Address, memory: &dyn Memory) -> Option<Present> {
        let code = &layout.code;
        let mut copy = Struct::new();
        copy.read(memory, at, span(layout)).ok()?;

        let class = copy.get(layout.objects.class).ok()?;
        match self.class {
            Some(known) if known == class => {}
            Some(_) => return None,
            None => {
                let name = text::type_name(&layout.objects, class, memory)?;
                self.class = Some(class).filter(|_| name == "code");
                self.class?;
            }
        }
        let identity = Identity::of(layout, &copy)?;
        if self.known.get(&at).is_none_or(|known| known.identity != identity) {
            self.forget(at);
            let known = Known::read(layout, identity, memory)?;
            if self.known.len() >= Self::MOST || self.weight >= Self::HEAVIEST {
                // What is still in use comes back with the next sample, at the
                // price of one that takes longer.
                self.known.clear();
                self.weight = 0;
            }
            self.weight = self.weight.saturating_add(known.weight());
            self.known.insert(at, known);
        }
        let traceable = code.first_traceable.map_or(Some(0), |first| copy.get(first).ok())?;
        Some(Present {
            instructions: code.instructions.map_or(0, |first| first.of(at).0),
            // A frame that has not begun is at the first instruction or before it.
            traceable: if code.first_traceable.is_some() {
                i64::from(traceable) * 2
            } else {
                i64::MIN
            },
            copies: code.copies.map_or(Some(Address(0)), |copies| copy.get(copies).ok())?,
        })
    }

    fn forget(&mut self, at: Address) {
        if let Some(known) = self.known.remove(&at) {
            self.weight = self.weight.saturating_sub(known.weight());
        }
    }

    fn frame(&mut self, code: Address, place: Place, places: Places) -> Option<Arc<ManagedFrame>> {
        let columns = place.columns.filter(|_| places == Places::Columns);
        let place = Place { line: place.line, columns };
        let known = self.known.get_mut(&code)?;
        match known.places.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(found) => known.places.get(found).map(|(_, frame)| Arc::clone(frame)),
            Err(free) => {
                let frame = ManagedFrame { line: place.line, columns, ..known.frame.clone() };
                let frame = Arc::new(frame);
                known.places.insert(free, (place, Arc::clone(&frame)));
                self.weight = self.weight.saturating_add(known.weight_of_place());
                Some(frame)
            }
        }
    }
}

/// What is to be done with a frame.
enum Look {
    Shown(Place),
    Hidden,
}

impl Known {
    fn read(layout: &Layout, identity: Identity, memory: &dyn Memory) -> Option<Self> {
        let objects = &layout.objects;
        let table = text::bytes(objects, identity.lines, Lines::MOST, memory)?;
        let lines = Lines::decode(layout.code.line_table, &table.kept, identity.first_line);
        let function = match identity.qualname {
            Address(0) => identity.name,
            qualname => qualname,
        };
        let frame = ManagedFrame {
            function: text::name(objects, function, memory)?,
            file: text::name(objects, identity.filename, memory)?,
            line: None,
            columns: None,
            first_line: u32::try_from(identity.first_line).ok().filter(|&line| line > 0),
        };
        // `_Py_InitCleanup` (3.12 and later) has the one string `__init__` for
        // all its names, and no lines.
        let internal = identity.filename == identity.name && lines.is_empty();
        Some(Self { identity, frame, lines, internal, places: Vec::new() })
    }

    fn weight(&self) -> usize {
        let places = self.places.len().saturating_mul(self.weight_of_place());
        let rows = self.lines.len().saturating_mul(16);
        size_of::<Self>().saturating_add(self.names()).saturating_add(rows).saturating_add(places)
    }

    /// Each has the names to itself.
    fn weight_of_place(&self) -> usize {
        size_of::<(Place, ManagedFrame)>().saturating_add(self.names())
    }

    fn names(&self) -> usize {
        self.frame.function.len().saturating_add(self.frame.file.len())
    }
}

/// How much of a code object is looked at, in bytes.
fn span(layout: &Layout) -> usize {
    fn end<T>(field: Option<layout::Field<T>>) -> usize {
        field.map_or(0, layout::Field::end)
    }
    let code = &layout.code;
    let ends = [
        layout.objects.class.end(),
        code.filename.end(),
        code.name.end(),
        end(code.qualname),
        code.lines.end(),
        code.first_line.end(),
        code.local_names.end(),
        code.flags.end(),
        code.arguments.end(),
        end(code.version),
        end(code.first_traceable),
        end(code.copies),
    ];
    ends.into_iter().max().unwrap_or_default()
}

/// The offset of the instruction at `pointer`, in bytes from the first one of
/// the code, or of that copy of it which holds it. `end` is how long the code is.
fn offset(pointer: u64, present: Present, end: u32, memory: &dyn Memory) -> Option<i64> {
    /// More than there are threads, whose numbers the copies have.
    const COPIES: u64 = 4096;
    // A frame that has not begun points to the unit before the first (3.11, 3.12).
    let within = |first: u64| {
        let offset = pointer.wrapping_sub(first).cast_signed();
        (-2..i64::from(end)).contains(&offset).then_some(offset)
    };
    if let Some(offset) = within(present.instructions) {
        return Some(offset);
    }
    if present.copies == Address(0) {
        return None;
    }
    // `_PyCodeArray`: how many, and then a pointer each.
    let count = memory.get::<u64>(present.copies).ok()?.min(COPIES);
    (1..=count).find_map(|entry| {
        let first = memory.get::<Address>(present.copies.plus(8 * entry)).ok()?;
        within(first.0).filter(|_| first != Address(0))
    })
}

#[cfg(test)]
mod tests;
