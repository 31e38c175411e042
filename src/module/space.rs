//! Which image lies where in a process.

use std::sync::Arc;

use super::Module;
use crate::{
    memory::{Address, Memory},
    snapshot::{Mapping, Root},
    stack::ModuleId,
};

/// Every image that was seen, once each: two processes that map the same file
/// share it.
#[derive(Debug, Default)]
pub struct Modules {
    modules: Vec<Arc<Module>>,
}

impl Modules {
    /// The image with this number.
    pub fn get(&self, id: ModuleId) -> Option<&Arc<Module>> {
        self.modules.get(id.0 as usize)
    }
}

/// What lies at an address.
#[derive(Clone, Debug)]
pub enum Place {
    /// Code of an image: its own address is the target's less `bias`.
    Module {
        /// The image.
        module: Arc<Module>,
        /// What the target's addresses are more than the image's own.
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
/// in it is first asked for.
#[derive(Debug)]
pub struct AddressSpace {
    root: Root,
}

impl AddressSpace {
    /// The address space that `mappings` (by address) describe.
    pub fn new(mappings: Vec<Mapping>, root: Root) -> Self {
        let _ = mappings;
        Self { root }
    }

    /// Take over changed mappings; what did not change stays open.
    pub fn update(&mut self, mappings: Vec<Mapping>) {
        let _ = mappings;
    }

    /// What lies at `at`. `memory` is where an image without a file (the vdso,
    /// a deleted library) is copied from.
    pub fn find(&mut self, at: Address, modules: &mut Modules, memory: &dyn Memory) -> Place {
        let _ = (at, modules, memory, &self.root);
        Place::Unmapped
    }
}
