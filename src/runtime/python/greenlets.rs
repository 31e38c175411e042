//! Greenlets: stacks that their library exchanges on one thread.
//!
//! greenlet takes the chain of frames from the thread's state when it switches
//! away from a greenlet, and keeps it with that:
//!
//! ```text
//! PyGreenlet ──► Greenlet (C++)         2.0 and later; before that in the object itself
//!     ▲             │  _self
//!     └─────────────┘
//!                   stack_start, stack_stop, …    what of the C stack is its own
//!                   _top_frame ──► frame ──► frame ──► 0
//! ```
//!
//! On 3.12 and later greenlet itself takes the shims, which lie on the C stack,
//! out of the chain of one that is parked. So all of it lies on the heap.

use super::{
    detect::Found,
    heap::Pages,
    layout::{Chain, Field},
    objects::{self, reader::Reader},
    structs::Struct,
    walk,
};
use crate::{
    memory::{Address, Memory},
    runtime::{Cut, Parked, ParkedKind, ParkedState, RawFrame},
};

/// The longest name that is kept, in characters.
const LONGEST: usize = 128;

/// The reads that the name and the kind of one greenlet may take.
const READS: u32 = 500;

/// Bases of a type that are looked at.
const BASES: usize = 16;

/// How often a greenlet is looked at that is switched to meanwhile.
const TRIES: usize = 3;

/// `stack_stop` of the greenlet that a thread began with (greenlet's
/// `TStackState.cpp`, and `greenlet.h` before 2.0).
const MAIN: u64 = u64::MAX;

/// The type of gevent's hubs is derived from this one (`gevent/hub.py`, 1.3 and
/// later).
const HUB: &str = "WaitOperationsGreenlet";

/// No image is so large: the table of functions that an object of C++ begins
/// with lies no farther from a type of the same image.
const IMAGE: u64 = 64 << 20;

/// How greenlet lays out what it keeps of a greenlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Where all that is.
    place: Place,
    /// `stack_start`: 0 if it has not begun, or has ended.
    start: Field<u64>,
    /// `stack_stop`: 0 if it has not begun.
    stop: Field<u64>,
    /// `_top_frame`: 0 if it runs.
    top: Field<Address>,
    /// In a `PyFrameObject`, the frame; `None` where that is the frame.
    frame: Option<Field<Address>>,
}

/// Where is what greenlet keeps of a greenlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Elsewhere (2.0 and later).
    Apart {
        /// In the object: where.
        pointer: Field<Address>,
        /// There: the address of the object.
        owner: Field<Address>,
    },
    /// In the object.
    Inside {
        /// The greenlet that goes on when it ends; 0 for the one that a thread
        /// began with.
        parent: Field<Address>,
    },
}

impl Form {
    /// The forms that there may be where the basic type has objects of `size`
    /// bytes, newest first.
    ///
    /// What lies in the C++ object is known by what stands before it: the table
    /// of functions, from 3.0 on `_self`, the thread's `exc_info` and
    /// `exc_state`, two words of arguments, five of `StackState`, and then
    /// `PythonState`, whose second word is `_top_frame`. `exc_state`
    /// (`_PyErr_StackItem`) has four words, and two from Python 3.11 on.
    pub(super) fn all(found: &Found, size: i64) -> Vec<Self> {
        let minor = match (found.version.major, found.version.minor) {
            (3, minor @ 7..) => minor,
            _ => return Vec::new(),
        };
        let header = found.layout.objects.class.offset.saturating_add(8);
        // `PyFrameObject` begins with `f_back`, and then `f_frame`, where frames
        // are structs of their own (Include/internal/pycore_frame.h).
        let frame = match found.layout.frame.chain {
            Chain::Objects => None,
            Chain::CFrames { .. } | Chain::Shims { .. } => Some(Field::at(header + 8)),
        };
        let exception = if minor >= 11 { 24 } else { 40 };
        if size != i64::from(header) + 24 {
            return Vec::from_iter((minor <= 10).then(|| Self {
                place: Place::Inside { parent: Field::at(header + 40) },
                start: Field::at(header),
                stop: Field::at(header + 8),
                top: Field::at(header + 56),
                frame,
            }));
        }
        let pointer = Field::at(header + 16);
        let apart = |owner: u32, stack: u32| Self {
            place: Place::Apart { pointer, owner: Field::at(owner) },
            start: Field::at(stack),
            stop: Field::at(stack + 8),
            top: Field::at(stack + 48),
            frame,
        };
        let mut all = vec![apart(8, 16 + exception + 16)];
        // In 2.0 `_self` follows `PythonState`, which grew with Python.
        let (stack, state) = (8 + exception + 16, [24, 40, 72]);
        if let Some(state) = state.get(usize::from(minor.clamp(9, 12) - 9)) {
            all.push(apart(stack + 40 + state, stack));
        }
        all
    }

    /// Whether what may be an object at `at` looks so. `class` is the type that
    /// all greenlets' are derived from, and `is_class` knows those.
    pub(super) fn fits(
        &self,
        at: Address,
        class: (Address, Field<Address>),
        is_class: impl Fn(Address) -> bool,
        memory: &dyn Memory,
    ) -> bool {
        let (class, class_of) = class;
        let fits = || match self.place {
            Place::Apart { pointer, owner } => {
                let place = pointer.get(memory, at).ok()?;
                let table = memory.get::<Address>(place).ok()?;
                Some(owner.get(memory, place).ok()? == at && table.0.abs_diff(class.0) < IMAGE)
            }
            // What ends has no parent any more.
            Place::Inside { parent } => {
                let stop = self.stop.get(memory, at).ok()?;
                let parent = parent.get(memory, at).ok()?;
                let is_greenlet = || class_of.get(memory, parent).is_ok_and(is_class);
                Some(if stop == MAIN { parent.0 == 0 } else { parent.0 != 0 && is_greenlet() })
            }
        };
        fits() == Some(true)
    }

    /// What is said of the greenlet at `at`.
    fn read(&self, at: Address, memory: &dyn Memory) -> Option<Words> {
        let place = match self.place {
            Place::Apart { pointer, .. } => pointer.get(memory, at).ok()?,
            Place::Inside { .. } => at,
        };
        let mut copy = Struct::new();
        copy.read(memory, place, self.top.end()).ok()?;
        let (start, stop) = (copy.get(self.start).ok()?, copy.get(self.stop).ok()?);
        let top = copy.get(self.top).ok()?;
        // What there is of its stack lies below where it began.
        (start <= stop && top.0 % 8 == 0).then_some(Words { start, stop, top })
    }
}

/// What says what becomes of a greenlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Words {
    start: u64,
    stop: u64,
    top: Address,
}

/// A greenlet, and the frames that it will go on with.
pub(super) struct Met {
    /// Without frames.
    pub(super) parked: Parked,
    /// Innermost first.
    pub(super) frames: Vec<RawFrame>,
    /// Why there may be more.
    pub(super) cut: Option<Cut>,
}

/// Look at the greenlet at `at`, if it is one that has not ended. Its frames are
/// read from `memory`, and what does not change through `reader`.
pub(super) fn look(
    found: &Found,
    form: &Form,
    (at, class): (Address, Address),
    reader: &Reader<'_>,
    memory: &dyn Memory,
) -> Option<Met> {
    reader.allow(READS);
    let mut frames = Vec::new();
    for left in (0..TRIES).rev() {
        let words = form.read(at, memory)?;
        let state = match words {
            Words { stop: 0, .. } => ParkedState::New,
            Words { start: 0, .. } => return None,
            Words { top: Address(0), .. } => ParkedState::Running,
            Words { .. } => ParkedState::Waiting,
        };
        frames.clear();
        let mut cut = None;
        if state == ParkedState::Waiting {
            // The frames of one greenlet lie beside each other.
            let pages = Pages::new(memory);
            let top = form.frame.map_or(Ok(words.top), |frame| frame.get(&pages, words.top));
            cut = match top {
                Ok(top) => walk::trace_parked(&found.layout, top, &pages, &mut frames),
                Err(fault) => Some(fault.into()),
            };
            // It was switched to: then these are frames of two moments.
            if form.read(at, memory) != Some(words) && left > 0 {
                continue;
            }
        }
        let kind = match words.stop {
            MAIN => ParkedKind::Main,
            _ if is_hub(reader, class) => ParkedKind::Hub,
            _ => ParkedKind::Greenlet,
        };
        let parked = Parked {
            kind,
            at,
            class: reader.class(class)?.name.clone(),
            name: name(reader, at),
            state,
            frames: Vec::new(),
            is_cut: false,
            waits_for: Vec::new(),
        };
        return Some(Met { parked, frames, cut });
    }
    None
}

fn is_hub(reader: &Reader<'_>, class: Address) -> bool {
    let mut next = class;
    for _ in 0..BASES {
        let Some(class) = reader.class(next) else { return false };
        if class.name.rsplit('.').next() == Some(HUB) {
            return true;
        }
        next = class.base;
    }
    false
}

/// The name that the program gave it: `name`, as gevent has it.
fn name(reader: &Reader<'_>, at: Address) -> Option<String> {
    let name = objects::field(reader, at, &["name"])?;
    if !reader.class_of(name)?.has(objects::UNICODE) {
        return None;
    }
    reader.name(name, LONGEST).filter(|name| !name.is_empty())
}
