//! Where the debug information of an image is, when it is not in the image.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use super::{
    bytes::Bytes,
    elf::{self, Elf},
};
use crate::module::{FileBytes, Module};

/// The directory of debug files, below a root.
const DEBUG: &str = "/usr/lib/debug";

/// A separate file, and where it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The file.
    pub(super) elf: Elf,
    /// Its path, as we opened it.
    pub(super) path: PathBuf,
}

/// Where to look for what belongs to one image: below the target's root
/// first, since what is there was made for what runs there; then on the host.
///
/// A file is taken only if it says that it belongs to the image: by the same
/// build id, or, where one of them has none, by the checksum that the image
/// has of it.
#[derive(Clone, Debug)]
pub(super) struct Locator {
    /// The target's `/`.
    root: PathBuf,
    /// The host's directory of debug files.
    host: PathBuf,
    /// The image's path below the root.
    path: Option<PathBuf>,
}

impl Locator {
    /// Where to look for what belongs to `module`.
    pub(super) fn new(module: &Module, host: &Path) -> Self {
        Self {
            root: module.root().directory.clone(),
            host: host.to_owned(),
            path: module.path().map(normal),
        }
    }

    /// A path as the target sees it.
    pub(super) fn in_target(&self, path: &Path) -> PathBuf {
        let mut whole = self.root.clone();
        whole.extend(normal(path).components().filter(|part| matches!(part, Component::Normal(_))));
        whole
    }

    /// The path as we open it of the image itself.
    pub(super) fn image(&self) -> Option<PathBuf> {
        Some(self.in_target(self.path.as_deref()?))
    }

    /// The debug file of the image: by build id, then by link.
    pub(super) fn debug(&self, image: Option<&Elf>, build_id: Option<&[u8]>) -> Option<Found> {
        let by_id = build_id.and_then(|id| self.by_build_id(id));
        by_id.or_else(|| self.by_link(image?, build_id))
    }

    fn by_build_id(&self, id: &[u8]) -> Option<Found> {
        let (first, rest) =
            id.split_first().filter(|(_, rest)| !rest.is_empty() && rest.len() < 64)?;
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        let below = format!(".build-id/{first:02x}/{rest}.debug");
        [self.in_target(Path::new(DEBUG)), self.host.clone()].into_iter().find_map(|directory| {
            let path = directory.join(&below);
            let elf = open(&path)?;
            (elf.build_id().as_deref() == Some(id)).then_some(Found { elf, path })
        })
    }

    fn by_link(&self, image: &Elf, build_id: Option<&[u8]>) -> Option<Found> {
        let (name, checksum) = image.debug_link()?;
        let name = Path::new(OsStr::from_bytes(&name));
        // A plain name: a path would lead out of the directories.
        let mut parts = name.components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        let directory = self.path.as_deref()?.parent().filter(|_| plain)?;
        let below = directory.strip_prefix("/").unwrap_or(directory);
        // Where /lib is a link to /usr/lib, the kernel says /usr/lib/x.so, and
        // the package may have said /lib/x.so.
        let unmerged = below.strip_prefix("usr").ok();
        let beside = [directory.join(name), directory.join(".debug").join(name)];
        let packaged = [Some(below), unmerged].into_iter().flatten().flat_map(|below| {
            let target = self.in_target(&Path::new(DEBUG).join(below).join(name));
            [target, self.host.join(below).join(name)]
        });
        let beside = beside.iter().map(|path| self.in_target(path));
        beside.chain(packaged).find_map(|path| {
            let elf = open(&path)?;
            let belongs = match (build_id, elf.build_id()) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => elf::checksum(elf.bytes().slice()) == checksum,
            };
            let debug = elf.has(".debug_info") || elf.has(".symtab");
            (belongs && debug).then_some(Found { elf, path })
        })
    }

    /// The file that holds what `debug` (opened as `path`) shares with other
    /// debug files.
    pub(super) fn shared(&self, debug: &Elf, path: Option<&Path>) -> Option<Elf> {
        let (link, id) = debug.alternate_link()?;
        let link = Path::new(OsStr::from_bytes(&link));
        let on_host = link.strip_prefix(DEBUG).ok().map(|below| self.host.join(normal(below)));
        let candidates = if link.is_absolute() {
            [Some(self.in_target(link)), on_host]
        } else {
            [path.and_then(Path::parent).map(|directory| directory.join(link)), None]
        };
        let by_path = candidates.into_iter().flatten().find_map(|path| {
            let elf = open(&path)?;
            (elf.build_id()? == id).then_some(elf)
        });
        by_path.or_else(|| self.by_build_id(&id).map(|found| found.elf))
    }

    /// A part of a split program, as the compiler named it.
    pub(super) fn part(&self, directory: &Path, name: &Path) -> Option<Elf> {
        let built = self.in_target(&directory.join(name));
        let beside =
            self.path.as_deref().and_then(|path| Some(path.parent()?.join(name.file_name()?)));
        let beside = beside.map(|path| self.in_target(&path));
        [Some(built), beside].into_iter().flatten().find_map(|path| open(&path))
    }
}

/// `path` without `.` and `..`, which do not lead above where it begins.
fn normal(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            Component::CurDir | Component::Prefix(_) => {}
            Component::RootDir | Component::Normal(_) => whole.push(part),
        }
    }
    whole
}

/// An ELF file.
pub(super) fn open(path: &Path) -> Option<Elf> {
    Elf::new(Bytes::of_file(FileBytes::open(path).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_does_not_lead_out_of_its_root() {
        let locator = Locator { root: "/root".into(), host: "/host".into(), path: None };
        for (path, expected) in [
            ("/usr/bin/a", "/root/usr/bin/a"),
            ("../../etc/a", "/root/etc/a"),
            ("/a/../../b/./c", "/root/b/c"),
            ("", "/root"),
        ] {
            assert_eq!(locator.in_target(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
