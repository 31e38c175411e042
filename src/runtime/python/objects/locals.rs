//! The local variables of a frame.

use super::{BYTES, READS, TUPLE, UNICODE, reader::Reader, show_with};
use crate::{
    memory::{Address, Memory},
    runtime::{Detail, RawFrame, Variable, python::layout::Layout},
};

/// The most variables of a frame that are shown.
const MOST: usize = 512;

/// The longest name of a variable, in characters. Longer ones are cut.
const LONGEST_NAME: usize = 256;

/// Bits of `co_flags` that say that a parameter takes what is left of the
/// arguments: by place, and by name (Include/code.h, every version).
const REST: [i32; 2] = [0x04, 0x08];

/// Bits of a variable's kind that say that what the frame holds is a cell
/// (`CO_FAST_CELL`, `CO_FAST_FREE`; Include/internal/pycore_code.h).
const IN_CELL: u8 = 0x40 | 0x80;

/// The variables of `frame` that have a value now, in the order of their code:
/// the arguments come first. None, when they cannot be read.
pub fn locals(
    layout: &Layout,
    frame: &RawFrame,
    detail: Detail,
    memory: &dyn Memory,
) -> Vec<Variable> {
    let reader = Reader::new(layout, memory, READS);
    let slots = slots(&reader, frame).unwrap_or_default();
    let mut variables: Vec<Variable> = Vec::with_capacity(slots.len());
    for slot in slots {
        reader.allow(READS);
        let Some(variable) = slot.variable(&reader, detail) else { continue };
        // 2.7 leaves an argument where it was when it moves it to a cell: the
        // cell, which comes later, has its value.
        match variables.iter_mut().find(|known| known.name == variable.name) {
            Some(known) => known.value = variable.value,
            None => variables.push(variable),
        }
    }
    variables
}

/// A place of a frame that holds a variable.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Its name: a string.
    name: Address,
    /// What it holds; 0 for nothing.
    value: Address,
    in_cell: bool,
    is_argument: bool,
}

impl Slot {
    fn variable(self, reader: &Reader<'_>, detail: Detail) -> Option<Variable> {
        let value = if self.in_cell { contents(reader, self.value)? } else { self.value };
        if value.0 == 0 {
            return None;
        }
        let class = reader.class_of(self.name)?;
        if !class.has(UNICODE) && !class.has(BYTES) {
            return None;
        }
        Some(Variable {
            name: reader.name(self.name, LONGEST_NAME)?,
            value: show_with(reader, value, detail),
            is_argument: self.is_argument,
        })
    }
}

/// What is in a cell (`ob_ref`, the first of its own words; every version). The
/// instructions that a function begins with make the cells; until then the
/// place of an argument holds the value itself.
fn contents(reader: &Reader<'_>, at: Address) -> Option<Address> {
    if at.0 == 0 {
        return None;
    }
    let class = reader.class_of(at)?;
    if class.is_heap() || class.name != "cell" { Some(at) } else { reader.own(at, 0) }
}

fn slots(reader: &Reader<'_>, frame: &RawFrame) -> Option<Vec<Slot>> {
    let layout = reader.layout;
    let tag = layout.frame.tag;
    let code = Address(frame.code.0 & !tag);
    let names = tuple(reader, reader.field(layout.code.local_names, code)?)?;
    let kinds = match layout.code.local_kinds {
        Some(kinds) => reader.octets(reader.field(kinds, code)?, MOST)?.0,
        None => Vec::new(),
    };
    let arguments = arguments(reader, code).unwrap_or(0);
    let own = names.len();
    let parameters = names.get(..arguments.min(own))?.to_vec();
    let cells = match layout.code.cell_names {
        None => Vec::new(),
        Some([cells, free]) => {
            let mut all = tuple(reader, reader.field(cells, code)?)?;
            all.extend(tuple(reader, reader.field(free, code)?)?);
            all
        }
    };
    let names: Vec<Address> = names.into_iter().chain(cells).take(MOST).collect();
    let values = reader.addresses(layout.frame.locals.of(frame.at), names.len())?;
    let slot = |(at, (name, value)): (usize, (Address, Address))| Slot {
        name,
        value: Address(value.0 & !tag),
        in_cell: at >= own || kinds.get(at).is_some_and(|kind| kind & IN_CELL != 0),
        // The name of an argument in a cell is the same object in both places.
        is_argument: at < arguments || at >= own && parameters.contains(&name),
    };
    Some(names.into_iter().zip(values).enumerate().map(slot).collect())
}

/// How many of a code object's variables are arguments: they come first.
fn arguments(reader: &Reader<'_>, code: Address) -> Option<usize> {
    let layout = &reader.layout.code;
    let by_place: i32 = reader.field(layout.arguments, code)?;
    let by_name: i32 = match layout.keyword_only {
        Some(field) => reader.field(field, code)?,
        None => 0,
    };
    let flags: i32 = reader.field(layout.flags, code)?;
    let rest = REST.iter().filter(|bit| flags & **bit != 0).count();
    let count = |number: i32| usize::try_from(number).unwrap_or(0).min(MOST);
    Some(count(by_place) + count(by_name) + rest)
}

/// The items of the tuple at `at`.
fn tuple(reader: &Reader<'_>, at: Address) -> Option<Vec<Address>> {
    if !reader.class_of(at)?.has(TUPLE) {
        return None;
    }
    let count = usize::try_from(reader.size(at)?).ok()?.min(MOST);
    reader.addresses(reader.layout.objects.tuple_items.of(at), count)
}
