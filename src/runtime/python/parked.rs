//! What no thread is on: the greenlets of a process.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::{
    code::Codes,
    detect::Found,
    greenlets::{self, Form, Met},
    heap::{self, Pages},
    imports,
    objects::reader::Reader,
};
use crate::{
    memory::{Address, Memory},
    runtime::{Parked, Places, Trace},
};

/// What was found, and what could not be: a sentence each.
#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) parked: Vec<Parked>,
    pub(super) notes: Vec<String>,
}

/// The types of what is looked for.
#[derive(Debug, Default)]
struct Sought {
    /// `greenlet.greenlet`, and all types derived from it, for each interpreter
    /// that has imported it.
    greenlets: Vec<(Address, Vec<Address>)>,
}

impl Sought {
    fn of(found: &Found, memory: &dyn Memory) -> Self {
        let mut sought = Self::default();
        for interpreter in imports::interpreters(found, memory) {
            let class = |name| imports::attribute(found, interpreter, name, memory);
            if let Some(class) = class(("greenlet", "greenlet"))
                && sought.greenlets.iter().all(|(known, _)| *known != class)
            {
                sought.greenlets.push((class, imports::family(found, class, memory)));
            }
        }
        sought
    }

    /// All of them, each with the type that it is derived from.
    fn classes(&self) -> FxHashMap<Address, Address> {
        let each = |(class, family): &(Address, Vec<Address>)| {
            let class = *class;
            family.clone().into_iter().map(move |derived| (derived, class))
        };
        self.greenlets.iter().flat_map(each).collect()
    }
}

/// Find all that is parked. `written` says where objects may lie, and is asked
/// only if there may be any.
pub(super) fn find(
    found: &Found,
    codes: &mut Codes,
    written: &mut dyn FnMut() -> Vec<Range<Address>>,
    places: Places,
    memory: &dyn Memory,
) -> Finding {
    let mut finding = Finding::default();
    let pages = Pages::new(memory);
    let sought = Sought::of(found, &pages);
    let classes = sought.classes();
    if classes.is_empty() {
        return finding;
    }
    let sought: Vec<Address> = classes.keys().copied().collect();
    let objects = heap::search(&written(), &sought, found.layout.objects.class.offset, memory);
    if objects.is_cut {
        finding.notes.push(
            "the process has more memory than is searched for greenlets: some may be missing"
                .to_owned(),
        );
    }
    // What was read before the search may have changed since.
    let pages = Pages::new(memory);
    let reader = Reader::new(&found.layout, &pages, 0);
    let forms = Form::all(found);
    for (at, class) in objects.found {
        let Some(&base) = classes.get(&class) else { continue };
        let Some(form) = forms.iter().find(|form| form.fits(at, base, memory)) else { continue };
        if let Some(met) = greenlets::look(found, form, (at, class), &reader, memory) {
            finding.parked.push(named(found, codes, met, places, &pages));
        }
    }
    finding.parked.sort_by_key(|parked| (parked.kind, parked.at));
    finding
}

/// Give the frames of a greenlet their names.
fn named(
    found: &Found,
    codes: &mut Codes,
    met: Met,
    places: Places,
    memory: &dyn Memory,
) -> Parked {
    let Met { parked, frames, cut } = met;
    let trace = Trace { frames, cut, ..Trace::default() };
    let managed = codes.resolve(&found.layout, (&trace, None), places, memory);
    let is_cut = managed.unreadable || cut.is_some();
    let frames = managed.segments.into_iter().flat_map(|segment| segment.frames).collect();
    Parked { frames, is_cut, ..parked }
}
