//! The images of a process, as those are seen who look for an interpreter in
//! them.

use std::{ops::Range, sync::Arc};

use memchr::memmem;

use super::{super::offsets, CALLBACK, COLLECTORS};
use crate::{
    memory::{Address, Memory},
    module::{AddressSpace, Module, Modules, Place},
    snapshot::Backing,
};

/// The most mappings that are asked for an image: a process may have no more
/// of all kinds by default (/proc/sys/vm/max_map_count).
const MAX_MAPPINGS: usize = 65_530;

/// A program without symbols is searched for what only an interpreter has, but
/// no segment of more bytes in the file, and not more in all: the largest of an
/// interpreter's own has less than half of it.
const MAX_SEGMENT: usize = 6 << 20;
const MAX_SEARCHED: usize = 12 << 20;

/// The name of a variable of the environment that every interpreter asks for,
/// and that hardly any other program knows.
const TEXT: &[u8] = b"PYTHONHOME\0";

/// Under which a module remembers whether it may hold an interpreter.
const QUESTION: &str = "python";

/// An image of the process, and what it is raised by.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) module: Arc<Module>,
    pub(super) bias: u64,
    /// Whether it is the program itself.
    pub(super) is_program: bool,
}

/// Every image of the process once, by address, opened one after the other: a
/// program that was linked to lie in one place is first, as is one that was
/// not.
#[derive(Debug)]
pub(super) struct Images {
    starts: Vec<Address>,
    next: usize,
    pub(super) opened: Vec<Loaded>,
}

impl Images {
    pub(super) fn new(space: &AddressSpace) -> Self {
        let code = space.mappings().iter().filter(|mapping| {
            mapping.executable && matches!(mapping.backing, Backing::File(_) | Backing::Deleted(_))
        });
        let starts = code.take(MAX_MAPPINGS).map(|mapping| mapping.range.start).collect();
        Self { starts, next: 0, opened: Vec::new() }
    }

    /// The image with this number; `None` when there are no more.
    pub(super) fn get(
        &mut self,
        number: usize,
        (space, modules): (&mut AddressSpace, &mut Modules),
        memory: &dyn Memory,
    ) -> Option<Loaded> {
        while self.opened.len() <= number {
            let start = *self.starts.get(self.next)?;
            self.next += 1;
            let Place::Module { module, bias } = space.find(start, modules, memory) else {
                continue;
            };
            let key = (module.id(), bias);
            if self.opened.last().is_none_or(|last| (last.module.id(), last.bias) != key) {
                let is_program = self.opened.is_empty();
                self.opened.push(Loaded { module, bias, is_program });
            }
        }
        self.opened.get(number).cloned()
    }
}

impl Loaded {
    pub(super) fn exported(&self, name: &str) -> Option<Address> {
        Some(Address(self.module.exported(name)?).plus(self.bias))
    }

    pub(super) fn defined(&self, name: &str) -> Option<Address> {
        Some(Address(self.module.defined(name)?).plus(self.bias))
    }

    /// The functions that collect garbage, if it is known which do.
    pub(super) fn collector(&self) -> Vec<Range<u64>> {
        let mut collectors = COLLECTORS.iter().map(|name| self.module.variants(name));
        let mut found = collectors.find(|found| !found.is_empty()).unwrap_or_default();
        if !found.is_empty() {
            found.extend(self.module.variants(CALLBACK));
        }
        found
    }

    /// Where a section begins.
    pub(super) fn section(&self, name: &str) -> Option<Address> {
        Some(Address(self.module.section(name)?.address).plus(self.bias))
    }

    /// Whether it has functions of Python.
    pub(super) fn has_python(&self) -> bool {
        self.module.exported("Py_IsInitialized").is_some()
    }

    /// Whether it was compiled with `Py_REF_DEBUG`, as debug builds are.
    pub(super) fn is_debug(&self) -> bool {
        self.module.exported("_Py_NegativeRefcount").is_some()
    }

    /// Whether it is worth it to read its variables, and all of its symbols: by
    /// what it exports, or, if it is the program, by its bytes. Those are only
    /// searched once.
    pub(super) fn may_be_python(&self) -> bool {
        let searched = || self.module.remembered(QUESTION, || self.has_text());
        self.has_python() || self.is_program && searched()
    }

    fn has_text(&self) -> bool {
        let cookies = memmem::Finder::new(offsets::COOKIE);
        let texts = memmem::Finder::new(TEXT);
        let mut left = MAX_SEARCHED;
        // What the program writes to comes early: there is little of it.
        let loads = self.module.contents().filter(|bytes| bytes.len() <= MAX_SEGMENT);
        let mut loads: Vec<_> = loads.collect();
        loads.sort_by_key(|bytes| bytes.len());
        loads.into_iter().any(|bytes| {
            let bytes = bytes.get(..bytes.len().min(left)).unwrap_or_default();
            left -= bytes.len();
            cookies.find(bytes).is_some() || texts.find(bytes).is_some()
        })
    }

    /// Where its variables are.
    pub(super) fn variables(&self) -> impl Iterator<Item = Range<Address>> {
        let bias = self.bias;
        let raised = move |at: u64| Address(at).plus(bias);
        self.module.writable().map(move |range| raised(range.start)..raised(range.end))
    }
}
