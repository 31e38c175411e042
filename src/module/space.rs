//! Which image lies where in a process.

use std::{cmp::Ordering, sync::Arc};

use super::{Module, Modules, open::Wanted};
use crate::{
    memory::{Address, Memory},
    snapshot::{Backing, Mapping, Root},
};

/// What lies at an address.
#[derive(Clone, Debug)]
pub enum Place {
    /// Code of an image: its own address is the target's less `bias`.
    Module {
        /// The image.
        module: Arc<Module>,
        /// What the target's addresses are more than the image's own. It wraps:
        /// an image may have been linked to lie above where it lies.
        bias: u64,
    },
    /// Executable memory without an image: JIT code.
    Anonymous,
    /// Not executable.
    NoCode,
    /// Outside every mapping that is known: the mappings may have changed.
    Unmapped,
}

/// The images of one process, by address. An image is opened when an address
/// in it is first asked for. After an exec the process needs a new one.
#[derive(Debug)]
pub struct AddressSpace {
    mappings: Vec<Mapping>,
    /// For each mapping what it is, once that was asked for.
    places: Vec<Option<Place>>,
    root: Root,
}

impl AddressSpace {
    /// The address space that `mappings` describe.
    pub fn new(mappings: Vec<Mapping>, root: Root) -> Self {
        let mut space = Self { mappings: Vec::new(), places: Vec::new(), root };
        space.update(mappings);
        space
    }

    /// Take over changed mappings; what did not change stays open.
    pub fn update(&mut self, mut mappings: Vec<Mapping>) {
        mappings.sort_by_key(|mapping| mapping.range.start);
        let mut places = vec![None; mappings.len()];
        let mut old = self.mappings.iter().zip(self.places.drain(..)).peekable();
        for (new, place) in mappings.iter().zip(&mut places) {
            let before = |(old, _): &(&Mapping, _)| old.range.start < new.range.start;
            while old.next_if(before).is_some() {}
            if let Some((_, kept)) = old.next_if(|(old, _)| is_same(old, new)) {
                *place = kept;
            }
        }
        drop(old);
        self.mappings = mappings;
        self.places = places;
    }

    /// The mappings, by address.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// The mapping that `at` lies in.
    pub fn mapping(&self, at: Address) -> Option<&Mapping> {
        self.mappings.get(self.index(at)?)
    }

    /// Whether code may run at `at`: no return address points anywhere else.
    pub fn is_executable(&self, at: Address) -> bool {
        self.mapping(at).is_some_and(|mapping| mapping.executable)
    }

    /// What lies at `at`. `memory` is where an image without a file (the vdso,
    /// a deleted library) is copied from.
    pub fn find(&mut self, at: Address, modules: &mut Modules, memory: &dyn Memory) -> Place {
        let Some(index) = self.index(at) else { return Place::Unmapped };
        let Some(mapping) = self.mappings.get(index) else { return Place::Unmapped };
        if !mapping.executable {
            return Place::NoCode;
        }
        if let Some(Some(known)) = self.places.get(index) {
            return known.clone();
        }
        let wanted = Wanted { mappings: &self.mappings, index, root: &self.root, memory };
        let place = match wanted.open(modules) {
            Some((module, bias)) => Place::Module { module, bias },
            None => Place::Anonymous,
        };
        if let Some(slot) = self.places.get_mut(index) {
            *slot = Some(place.clone());
        }
        place
    }

    fn index(&self, at: Address) -> Option<usize> {
        let compare = |mapping: &Mapping| match mapping {
            _ if mapping.range.end <= at => Ordering::Less,
            _ if mapping.range.start > at => Ordering::Greater,
            _ => Ordering::Equal,
        };
        self.mappings.binary_search_by(compare).ok()
    }
}

/// Whether what was found out about `old` holds for `new`. Whether a path
/// still leads to the file does not matter: it is open.
fn is_same(old: &Mapping, new: &Mapping) -> bool {
    let kind = |mapping: &Mapping| match mapping.backing {
        Backing::File(_) | Backing::Deleted(_) => 0,
        Backing::Vdso => 1,
        Backing::Anonymous => 2,
    };
    let what = |mapping: &Mapping| {
        (mapping.offset, mapping.device, mapping.inode, mapping.executable, kind(mapping))
    };
    old.range == new.range && what(old) == what(new)
}
