//! Tasks of asyncio: those of `_asyncio`, and those written in Python.
//!
//! A task has a coroutine ([`super::coroutines`]), and, while it waits, the
//! future that it waits for. That may be a task itself, or gather some.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    coroutines::{self, Chained, Doing},
    detect::Found,
    layout::Field,
    objects::{self, reader::Reader},
    structs::Struct,
};
use crate::{
    memory::{Address, Memory},
    runtime::{Cut, Parked, ParkedKind, ParkedState, RawFrame},
};

/// The longest name that is kept, in characters.
const LONGEST: usize = 128;

/// The reads that one task may take.
const READS: u32 = 50_000;

/// How often a task is looked at that runs meanwhile.
const TRIES: usize = 3;

/// The most tasks of one list of those that another waits for, or of a set of
/// those that wait for it.
const MANY: u64 = 1 << 16;

/// The state of a future that has no result yet (Modules/_asynciomodule.c).
const PENDING: i32 = 0;

/// How `_asyncio` lays out a task (`TaskObj`, Modules/_asynciomodule.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Its loop: every future has one.
    event_loop: Field<Address>,
    state: Field<i32>,
    waiter: Field<Address>,
    coroutine: Field<Address>,
    name: Field<Address>,
    /// What awaits it, and whether that is a set of such (3.14 and later).
    awaited_by: Option<(Field<Address>, Field<u8>)>,
    size: i64,
}

impl Form {
    /// That of 3.8 and later.
    pub(super) fn new(found: &Found) -> Option<Self> {
        // From the end of the object's header: the size, state, `task_fut_waiter`,
        // which the coroutine and the name follow.
        let (size, state, waiter, awaited_by) = match (found.version.major, found.version.minor) {
            (3, 8) => (128, 56, 88, None),
            (3, 9) => (168, 64, 128, None),
            (3, 10) => (176, 72, 136, None),
            (3, 11 | 12) => (160, 72, 112, None),
            (3, 13) => (128, 80, 96, None),
            (3, 14..) => (152, 88, 104, Some((80, 93))),
            _ => return None,
        };
        let header = found.layout.objects.class.offset.checked_add(8)?;
        Some(Self {
            event_loop: Field::at(header),
            state: Field::at(header + state),
            waiter: Field::at(header + waiter),
            coroutine: Field::at(header + waiter + 8),
            name: Field::at(header + waiter + 16),
            awaited_by: awaited_by
                .map(|(by, is_set)| (Field::at(header + by), Field::at(header + is_set))),
            size: i64::from(header) + size,
        })
    }

    /// Whether tasks have that size where the type says so. Builds without the
    /// lock have a word more (3.14).
    pub(super) fn fits(&self, size: i64) -> bool {
        size == self.size || self.awaited_by.is_some() && size == self.size + 8
    }

    fn read(&self, at: Address, memory: &dyn Memory) -> Option<Words> {
        let mut copy = Struct::new();
        copy.read(memory, at, self.name.end()).ok()?;
        let is_future = copy.get(self.event_loop).ok()?.0 != 0;
        let state = copy.get(self.state).ok()?;
        (is_future && (0..=2).contains(&state)).then_some(())?;
        Some(Words {
            is_pending: state == PENDING,
            waiter: copy.get(self.waiter).ok()?,
            coroutine: copy.get(self.coroutine).ok()?,
            name: copy.get(self.name).ok()?,
        })
    }
}

/// What a task says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Words {
    is_pending: bool,
    waiter: Address,
    coroutine: Address,
    name: Address,
}

/// A task, and the frames of its coroutine.
pub(super) struct Met {
    /// Without frames.
    pub(super) parked: Parked,
    /// Innermost first.
    pub(super) frames: Vec<RawFrame>,
    /// Why there may be more.
    pub(super) cut: Option<Cut>,
    /// The future that it waits for; 0 for none.
    waiter: Address,
    /// What writes such.
    written: Written,
}

/// What writes tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// `_asyncio`.
    InC(Form),
    /// `asyncio.tasks`, in Python.
    InPython,
}

/// Look at the task at `at`, if it is one that has not ended.
pub(super) fn look(
    (written, coroutine): (Written, &coroutines::Form),
    (at, class): (Address, Address),
    reader: &Reader<'_>,
) -> Option<Met> {
    let words = || match written {
        Written::InC(form) => form.read(at, reader),
        Written::InPython => in_python(at, reader),
    };
    for left in (0..TRIES).rev() {
        reader.allow(READS);
        let before = words()?;
        if !before.is_pending || !coroutines::is_coroutine(reader, before.coroutine) {
            return None;
        }
        let Chained { doing, frames, cut } =
            match coroutines::follow(coroutine, before.coroutine, reader) {
                Some(chained) => chained,
                // A coroutine of another kind: nothing is known of its frames.
                None => Chained {
                    doing: Doing::Waiting,
                    frames: Vec::new(),
                    cut: Some(Cut::Unreadable),
                },
            };
        // It ran: then these are frames of two moments.
        if words() != Some(before) && left > 0 {
            continue;
        }
        let state = match doing {
            Doing::Nothing => ParkedState::New,
            Doing::Running => ParkedState::Running,
            Doing::Waiting => ParkedState::Waiting,
            Doing::Ended => return None,
        };
        let parked = Parked {
            kind: ParkedKind::Task,
            at,
            class: reader.class(class)?.name.clone(),
            name: Some(name(reader, before.name)?),
            state,
            frames: Vec::new(),
            is_cut: false,
            waits_for: Vec::new(),
        };
        return Some(Met { parked, frames, cut, waiter: before.waiter, written });
    }
    None
}

/// What a task of `asyncio.tasks._PyTask` says of itself.
fn in_python(at: Address, reader: &Reader<'_>) -> Option<Words> {
    let field = |name| objects::field(reader, at, &[name]);
    // Until it ends, that is the class's.
    let state = field("_state").map(|state| reader.is_name(state, "PENDING"));
    let is_none = |at: &Address| reader.class_of(*at).is_none_or(|class| class.name == "NoneType");
    Some(Words {
        is_pending: state.unwrap_or(true),
        waiter: field("_fut_waiter").filter(|at| !is_none(at)).unwrap_or_default(),
        coroutine: field("_coro")?,
        name: field("_name")?,
    })
}

/// Its name: a text, or a number that stands for `Task-number` (3.12 and later).
fn name(reader: &Reader<'_>, at: Address) -> Option<String> {
    let class = reader.class_of(at)?;
    if class.has(objects::UNICODE) {
        return reader.name(at, LONGEST);
    }
    if class.has(objects::LONG) {
        return reader.unsigned(at).map(|number| format!("Task-{number}"));
    }
    None
}

/// Find out which of `tasks` wait for which.
///
/// The future that one waits for is a task itself, or is what `gather` returned,
/// which has its futures in a list (`_children`). From 3.14 on each task says
/// what awaits it: another, or a future that another waits for.
pub(super) fn relate(tasks: &mut [Met], reader: &Reader<'_>) {
    let known: FxHashSet<Address> = tasks.iter().map(|met| met.parked.at).collect();
    let mut waiting: FxHashMap<Address, Vec<usize>> = FxHashMap::default();
    for (number, met) in tasks.iter_mut().enumerate() {
        if met.waiter.0 == 0 {
            continue;
        }
        if known.contains(&met.waiter) {
            met.parked.waits_for.push(met.waiter);
        } else {
            reader.allow(READS);
            met.parked.waits_for.extend(gathered(reader, met.waiter, &known).unwrap_or_default());
        }
        waiting.entry(met.waiter).or_default().push(number);
    }
    let places: FxHashMap<Address, usize> =
        tasks.iter().enumerate().map(|(number, met)| (met.parked.at, number)).collect();
    let mut more = Vec::new();
    for met in tasks.iter() {
        if let Written::InC(Form { awaited_by: Some(fields), .. }) = met.written {
            reader.allow(READS);
            for by in awaiting(reader, met.parked.at, fields).unwrap_or_default() {
                let parents =
                    places.get(&by).into_iter().chain(waiting.get(&by).into_iter().flatten());
                more.extend(parents.map(|parent| (*parent, met.parked.at)));
            }
        }
    }
    for (parent, child) in more {
        if let Some(parent) = tasks.get_mut(parent) {
            parent.parked.waits_for.push(child);
        }
    }
    for met in tasks {
        met.parked.waits_for.sort_unstable();
        met.parked.waits_for.dedup();
    }
}

/// The tasks that the future of a `gather` waits for.
fn gathered(
    reader: &Reader<'_>,
    future: Address,
    known: &FxHashSet<Address>,
) -> Option<Vec<Address>> {
    if reader.class_of(future)?.name != "_GatheringFuture" {
        return None;
    }
    let list = objects::field(reader, future, &["_children"])?;
    if !reader.class_of(list)?.has(objects::LIST) {
        return None;
    }
    let count = u64::try_from(reader.size(list)?).ok()?.min(MANY);
    let items = reader.field(reader.layout.objects.list_items, list)?;
    let mut children = reader.addresses(items, usize::try_from(count).ok()?)?;
    // Those that have ended are not waited for.
    children.retain(|child| known.contains(child));
    Some(children)
}

/// What awaits the task at `at`.
fn awaiting(
    reader: &Reader<'_>,
    at: Address,
    (by, is_set): (Field<Address>, Field<u8>),
) -> Option<Vec<Address>> {
    let by = reader.field(by, at).filter(|by| by.0 != 0)?;
    // One bit of it.
    if reader.field(is_set, at)? & 1 == 0 {
        return Some(vec![by]);
    }
    let (_, mask, table) = reader.layout.objects.set;
    let slots = u64::try_from(reader.field(mask, by)?).ok()?.checked_add(1)?.min(MANY);
    let words = reader.addresses(reader.field(table, by)?, usize::try_from(slots * 2).ok()?)?;
    // A key and its hash each; a place that is not in use has no key, or one that
    // is nothing that waits.
    Some(
        words
            .chunks_exact(2)
            .filter_map(|slot| slot.first())
            .copied()
            .filter(|key| key.0 != 0)
            .collect(),
    )
}
