//! Every image that was seen.

use std::{path::PathBuf, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    file::Stamp,
    image::{Image, Module},
};
use crate::{snapshot::Root, stack::ModuleId};

/// Every image that was seen, once each: two processes that map the same file
/// share it.
#[derive(Debug, Default)]
pub struct Modules {
    modules: Vec<Arc<Module>>,
    ids: FxHashMap<Identity, ModuleId>,
}

/// What makes two images one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// They are one file, unchanged.
    File(Stamp),
    /// They are copies of one file that cannot be had, with the same headers
    /// and build id.
    Copy { device: u64, inode: u64, headers: Vec<u8>, build_id: Option<Vec<u8>> },
    /// They are the same bytes.
    Vdso(Vec<u8>),
}

/// What is found out of an image only when it is opened.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) path: Option<PathBuf>,
    pub(super) root: Root,
    pub(super) image: Image,
}

impl Modules {
    /// The image with this number.
    pub fn get(&self, id: ModuleId) -> Option<&Arc<Module>> {
        self.modules.get(id.0 as usize)
    }

    /// The images, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Module>> {
        self.modules.iter()
    }

    /// The image that `identity` means: known, or made now by `open`.
    pub(super) fn obtain(
        &mut self,
        identity: Identity,
        open: impl FnOnce() -> Option<Origin>,
    ) -> Option<Arc<Module>> {
        if let Some(known) = self.ids.get(&identity).and_then(|&id| self.get(id)) {
            return Some(Arc::clone(known));
        }
        let id = ModuleId(u32::try_from(self.modules.len()).ok()?);
        let Origin { path, root, image } = open()?;
        let module = Arc::new(Module::new(id, path, root, image));
        self.modules.push(Arc::clone(&module));
        self.ids.insert(identity, id);
        Some(module)
    }
}
