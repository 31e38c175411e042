//! From a mapping to its image.

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use super::{
    copied::Base,
    elf,
    file::{FileBytes, Opened},
    image::{Image, Module},
    modules::{Identity, Modules, Origin},
};
use crate::{
    memory::Memory,
    snapshot::{Backing, Mapping, Root},
};

/// How many mappings below one the image that it belongs to is looked for.
const MAX_MOVED: usize = 16;

/// More than any vdso has.
const MAX_VDSO: u64 = 1 << 20;

/// A mapping whose image is wanted.
pub(super) struct Wanted<'a> {
    /// The mappings of its process, by address.
    pub(super) mappings: &'a [Mapping],
    /// Which one.
    pub(super) index: usize,
    pub(super) root: &'a Root,
    pub(super) memory: &'a dyn Memory,
}

impl Wanted<'_> {
    /// The image and its bias, if there is one and it can be had.
    pub(super) fn open(&self, modules: &mut Modules) -> Option<(Arc<Module>, u64)> {
        let mapping = self.mappings.get(self.index)?;
        let module = match &mapping.backing {
            Backing::Anonymous => return self.moved(mapping, modules),
            Backing::Vdso => self.vdso(mapping, modules)?,
            Backing::File(path) => self.file(mapping, path, modules)?,
            Backing::Deleted(path) => self.deleted(mapping, path, None, modules)?,
        };
        let (start, end) = (mapping.range.start.0, mapping.range.end.0);
        let len = end.checked_sub(start)?;
        let bias = elf::bias(module.image().segments(), start, mapping.offset, len)?;
        Some((module, bias))
    }

    /// The image whose code a program has copied to other memory in its place,
    /// as servers do to have it in huge pages. Memory that follows an image
    /// without a gap, where the image's own headers promise code.
    fn moved(&self, mapping: &Mapping, modules: &mut Modules) -> Option<(Arc<Module>, u64)> {
        let mut start = mapping.range.start;
        for index in (0..self.index).rev().take(MAX_MOVED) {
            let below = self.mappings.get(index)?;
            if below.range.end != start {
                return None;
            }
            start = below.range.start;
            let (Backing::File(path) | Backing::Deleted(path)) = &below.backing else { continue };
            let base = Base::read(self.mappings, index, self.memory)?;
            if !base.has_code(&mapping.range) {
                return None;
            }
            let image = Wanted { index, ..*self };
            return Some((image.file(below, path, modules)?, base.bias()));
        }
        None
    }

    fn vdso(&self, mapping: &Mapping, modules: &mut Modules) -> Option<Arc<Module>> {
        let len = mapping.range.end.0.checked_sub(mapping.range.start.0)?;
        let mut bytes = vec![0; usize::try_from(len).ok().filter(|_| len <= MAX_VDSO)?];
        self.memory.read(mapping.range.start, &mut bytes).ok()?;
        modules.obtain(Identity::Vdso(bytes.clone()), || {
            Some(Origin {
                path: None,
                root: self.root.clone(),
                image: Image::from_file(FileBytes::from(bytes))?,
            })
        })
    }

    /// A file that should be found by its path, unless another one took its
    /// place, or the path means something else here: in another mount
    /// namespace, or through a symbolic link, which leads to where *our* root
    /// says.
    fn file(&self, mapping: &Mapping, path: &Path, modules: &mut Modules) -> Option<Arc<Module>> {
        let found = Opened::open(&self.below_root(path)).ok();
        // What a recording holds was checked when it was recorded.
        let trusted = |file: &Opened| {
            self.root.map_files.is_none()
                || (file.stamp.device, file.stamp.inode) == (mapping.device, mapping.inode)
        };
        match found {
            Some(file) if trusted(&file) => self.of_file(&file, path, modules),
            found => self.deleted(mapping, path, found, modules),
        }
    }

    /// A file that its path does not lead to, or does not seem to: overlayfs
    /// and btrfs have devices in `maps` that `stat` does not have. `doubtful`
    /// is what was found there.
    fn deleted(
        &self,
        mapping: &Mapping,
        path: &Path,
        doubtful: Option<Opened>,
        modules: &mut Modules,
    ) -> Option<Arc<Module>> {
        let range = format!("{:x}-{:x}", mapping.range.start.0, mapping.range.end.0);
        let link = self.root.map_files.as_ref().map(|directory| directory.join(range));
        if let Some(file) = link.and_then(|link| Opened::open(&link).ok()) {
            return self.of_file(&file, path, modules);
        }
        let base = Base::read(self.mappings, self.index, self.memory);
        let doubtful = doubtful.or_else(|| Opened::open(&self.below_root(path)).ok());
        if let Some(file) = doubtful {
            let likely = file.stamp.inode == mapping.inode;
            let same = |image: &Image| match &base {
                Some(base) => base.is(image, likely),
                None => likely || self.root.map_files.is_none(),
            };
            let image = file.is_elf().then(|| file.bytes().ok()).flatten();
            if let Some(image) = image.and_then(Image::from_file).filter(same) {
                return modules
                    .obtain(Identity::File(file.stamp), || Some(self.origin(path, image)));
            }
        }
        let base = base?;
        let identity = Identity::Copy {
            device: mapping.device,
            inode: mapping.inode,
            headers: base.bytes.clone(),
            build_id: base.build_id.clone(),
        };
        modules.obtain(identity, || Some(self.origin(path, base.copy(self.memory))))
    }

    fn of_file(&self, file: &Opened, path: &Path, modules: &mut Modules) -> Option<Arc<Module>> {
        modules.obtain(Identity::File(file.stamp), || {
            let bytes = file.is_elf().then(|| file.bytes().ok()).flatten()?;
            Some(self.origin(path, Image::from_file(bytes)?))
        })
    }

    fn origin(&self, path: &Path, image: Image) -> Origin {
        Origin { path: Some(path.to_owned()), root: self.root.clone(), image }
    }

    /// Where a path of the target's is for us: never above its root.
    fn below_root(&self, path: &Path) -> PathBuf {
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
        self.root.directory.join(parts.collect::<PathBuf>())
    }
}
