//! What no thread is on: the greenlets and the tasks of a process.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::{
    code::Codes,
    coroutines,
    detect::Found,
    greenlets,
    heap::{self, Pages},
    imports,
    objects::reader::Reader,
    tasks,
};
use crate::{
    memory::{Address, Memory},
    runtime::{Cut, Parked, Places, RawFrame, Trace},
};

/// What was found, and what could not be: a sentence each.
#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) parked: Vec<Parked>,
    pub(super) notes: Vec<String>,
}

/// What is looked for: types, and how their objects are laid out.
#[derive(Clone, Copy, Debug)]
enum Sought {
    /// Greenlets: the basic type of their library, and the size of its objects.
    Greenlet(Address, i64),
    /// Tasks.
    Task(tasks::Written),
}

/// The types whose objects are looked for: the basic ones, and all that are
/// derived from them.
#[derive(Debug, Default)]
struct Classes {
    all: FxHashMap<Address, Sought>,
    notes: Vec<String>,
}

impl Classes {
    /// Those of the modules that the program has imported.
    fn of(found: &Found, memory: &dyn Memory) -> Self {
        let mut classes = Self::default();
        let size_of = |class: Address| found.layout.objects.type_size.get(memory, class).ok();
        for interpreter in imports::interpreters(found, memory) {
            let class =
                |module, name| imports::attribute(found, interpreter, (module, name), memory);
            if let Some(class) = class("greenlet", "greenlet")
                && let Some(size) = size_of(class)
            {
                classes.add(found, class, Sought::Greenlet(class, size), memory);
            }
            if let Some(class) = class("_asyncio", "Task")
                && let Some(form) = tasks::Form::new(found)
            {
                if size_of(class).is_some_and(|size| form.fits(size)) {
                    classes.add(found, class, Sought::Task(tasks::Written::InC(form)), memory);
                } else {
                    let note = "asyncio's tasks are not laid out as is known, and are not shown";
                    classes.notes.push(note.to_owned());
                }
            }
            // The name under which it stays when there is one written in C.
            if let Some(class) = class("asyncio.tasks", "_PyTask") {
                classes.add(found, class, Sought::Task(tasks::Written::InPython), memory);
            }
        }
        classes
    }

    fn add(&mut self, found: &Found, class: Address, sought: Sought, memory: &dyn Memory) {
        for derived in imports::family(found, class, memory) {
            self.all.entry(derived).or_insert(sought);
        }
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
    let Classes { all: classes, notes } = Classes::of(found, &Pages::new(memory));
    let mut finding = Finding { parked: Vec::new(), notes };
    if classes.is_empty() {
        return finding;
    }
    let sought: Vec<Address> = classes.keys().copied().collect();
    let objects = heap::search(&written(), &sought, found.layout.objects.class.offset, memory);
    if objects.is_cut {
        let note = "the process has more memory than is searched for what is parked: some of that may be missing";
        finding.notes.push(note.to_owned());
    }
    // What was read before the search may have changed since.
    let pages = Pages::new(memory);
    let mut naming = Naming { found, codes, places, memory: &pages };
    let (greenlets, tasks): (Vec<_>, Vec<_>) = objects
        .found
        .into_iter()
        .filter(|(at, _)| is_counted(found, *at, memory))
        .filter_map(|(at, class)| Some((at, class, *classes.get(&class)?)))
        .partition(|(.., sought)| matches!(sought, Sought::Greenlet(..)));
    let is_class = |class: Address| classes.contains_key(&class);
    finding.parked = all_greenlets(&greenlets, is_class, &mut naming, memory);
    finding.parked.extend(all_tasks(&tasks, &mut naming, memory));
    finding.parked.sort_by_key(|parked| (parked.kind, parked.at));
    finding
}

/// Whether there is a count of references where that of an object at `at` would
/// be: what was freed has a link to other free memory there, and so has most else
/// that only looks like an object.
///
/// The count has 32 bits, and no more above them until the 48th, from where on 3.14
/// has flags (Include/refcount.h). Builds without the lock count otherwise.
fn is_counted(found: &Found, at: Address, memory: &dyn Memory) -> bool {
    let Some(below) = found.layout.objects.class.offset.checked_sub(8) else { return false };
    let is_locked = found.layout.thread.attachment.is_none();
    let count = |word: u64| word & 0xffff_ffff != 0 && word >> 32 & 0xffff == 0;
    !is_locked || memory.get(at.plus(below.into())).is_ok_and(count)
}

/// What may be an object: where, its type, and what it is looked for as.
type Candidate = (Address, Address, Sought);

fn all_greenlets(
    candidates: &[Candidate],
    is_class: impl Fn(Address) -> bool,
    naming: &mut Naming<'_>,
    memory: &dyn Memory,
) -> Vec<Parked> {
    let found = naming.found;
    let reader = Reader::new(&found.layout, naming.memory, 0);
    let mut parked = Vec::new();
    for &(at, class, sought) in candidates {
        let Sought::Greenlet(base, size) = sought else { continue };
        let base = (base, found.layout.objects.class);
        let forms = greenlets::Form::all(found, size);
        let form = forms.iter().find(|form| form.fits(at, base, &is_class, memory));
        let met = form.and_then(|form| greenlets::look(found, form, (at, class), &reader, memory));
        parked.extend(met.map(|met| naming.named(met.parked, met.frames, met.cut)));
    }
    parked
}

fn all_tasks(
    candidates: &[Candidate],
    naming: &mut Naming<'_>,
    memory: &dyn Memory,
) -> Vec<Parked> {
    let found = naming.found;
    let Some(coroutine) = coroutines::Form::new(found) else { return Vec::new() };
    // Coroutines change while they are followed: nothing is kept of them.
    let reader = Reader::new(&found.layout, memory, 0);
    let mut met = Vec::new();
    for &(at, class, sought) in candidates {
        let Sought::Task(written) = sought else { continue };
        met.extend(tasks::look((written, &coroutine), (at, class), &reader));
    }
    tasks::relate(&mut met, &reader);
    met.into_iter().map(|met| naming.named(met.parked, met.frames, met.cut)).collect()
}

/// Gives frames their names.
struct Naming<'a> {
    found: &'a Found,
    codes: &'a mut Codes,
    places: Places,
    memory: &'a dyn Memory,
}

impl Naming<'_> {
    fn named(&mut self, parked: Parked, frames: Vec<RawFrame>, cut: Option<Cut>) -> Parked {
        let trace = Trace { frames, cut, ..Trace::default() };
        let layout = &self.found.layout;
        let managed = self.codes.resolve(layout, (&trace, None), self.places, self.memory);
        let is_cut = managed.unreadable || cut.is_some();
        let frames = managed.segments.into_iter().flat_map(|segment| segment.frames).collect();
        Parked { frames, is_cut, ..parked }
    }
}
