//! What the modules of a program have, and the types that are derived from one
//! of theirs.

use rustc_hash::FxHashSet;

use super::{
    detect::Found,
    layout::Field,
    objects::{dict, reader::Reader},
};
use crate::memory::{Address, Memory};

/// How many interpreters are asked.
const MAX_INTERPRETERS: usize = 64;

/// How many types that are derived from another are looked for, and how many of
/// them may stand between that and one of them.
const MAX_CLASSES: usize = 4096;
const MAX_BASES: usize = 64;

/// The reads that one search may take.
const READS: u32 = 200_000;

/// `tp_subclasses` lies so far behind `tp_base` in every version and build of
/// Python 3 (Include/cpython/object.h): 13 words.
const SUBCLASSES: u32 = 104;

/// The interpreters of a process.
pub fn interpreters(found: &Found, memory: &dyn Memory) -> Vec<Address> {
    let layout = &found.layout;
    let mut all = Vec::new();
    let mut next = layout.runtime.interpreters_head.get(memory, found.runtime).ok();
    while let Some(at) = next.filter(|at| at.0 != 0 && all.len() < MAX_INTERPRETERS) {
        all.push(at);
        next = layout.interpreter.next.get(memory, at).ok();
    }
    all
}

/// `sys.modules[module].name` in `interpreter`; nothing is imported for it.
pub fn attribute(
    found: &Found,
    interpreter: Address,
    (module, name): (&str, &str),
    memory: &dyn Memory,
) -> Option<Address> {
    let reader = Reader::new(&found.layout, memory, READS);
    let modules = reader.field(found.layout.interpreter.modules, interpreter)?;
    let module = dict::find(&reader, modules, module)?;
    // `md_dict` is the first of a module's own words (every version).
    dict::find(&reader, reader.own(module, 0)?, name)
}

/// `class`, and all types that are derived from it.
///
/// A type has a dictionary of those that are derived from it: their addresses,
/// and weak references to them.
pub fn family(found: &Found, class: Address, memory: &dyn Memory) -> Vec<Address> {
    let reader = Reader::new(&found.layout, memory, READS);
    let subclasses: Field<Address> = {
        let base = found.layout.objects.type_base;
        Field::at(base.offset.saturating_add(SUBCLASSES))
    };
    let mut seen = FxHashSet::from_iter([class]);
    let mut all = vec![class];
    let mut next = 0;
    while let Some(&base) = all.get(next) {
        next += 1;
        let Some(known) = reader.field(subclasses, base).filter(|at| at.0 != 0) else { continue };
        // Of anything but a dictionary no keys are found that are such types.
        let numbers = dict::items(&reader, known).filter_map(|(key, _)| reader.unsigned(key));
        for derived in numbers.map(Address) {
            if all.len() < MAX_CLASSES && descends(&reader, derived, class) && seen.insert(derived)
            {
                all.push(derived);
            }
        }
    }
    all
}

/// Whether instances of `derived` begin as those of `class` do.
fn descends(reader: &Reader<'_>, derived: Address, class: Address) -> bool {
    let mut at = derived;
    for _ in 0..MAX_BASES {
        match reader.class(at) {
            Some(known) if known.base == class => return true,
            Some(known) if known.base.0 != 0 => at = known.base,
            _ => return false,
        }
    }
    false
}
