//! Snapshots as files, so that what was seen once can be looked at again
//! without the process, and without the right to trace one.
//!
//! `docs/archive.md` describes the layout:
//!
//! ```text
//! process.json    numbers, mappings, threads, registers
//! memory/0 ..     copied memory, raw: a file for each thread, and one for the process
//! root/usr/..     the executable files that were mapped, below their own paths
//! ```
//!
//! An archive may come from anywhere. Reading one follows no symbolic link
//! and no `..`, opens nothing but regular files, and reads no more than
//! [`MAX_TEXT`] and [`MAX_MEMORY`] allow.

mod text;

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Component, Path, PathBuf},
};

use self::text::Place;
use super::{Backing, Mapping, Process, Root};

/// The most bytes that `process.json` may have.
pub const MAX_TEXT: u64 = 64 << 20;
/// The most bytes that all memory of a snapshot may have.
pub const MAX_MEMORY: u64 = 1 << 30;
/// The most bytes that one file below `root` may have, to be copied.
pub const MAX_FILE: u64 = 4 << 30;

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The directory to write to holds something already.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// The archive is of another kind than this program can read.
    #[error("the archive's {key} is not this program's, but {found:?}")]
    Foreign {
        /// `format` or `architecture`.
        key: &'static str,
        /// What the archive says.
        found: String,
    },
    /// `process.json` is no JSON.
    #[error("{path} is no JSON: {source}")]
    NoJson {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// A member of `process.json` is missing, or makes no sense.
    #[error("`{0}` in process.json is missing, or makes no sense")]
    Malformed(&'static str),
    /// A file would lie outside the archive, or is not a plain file.
    #[error("{0} is not a plain file inside the archive")]
    Escapes(PathBuf),
    /// More bytes than are read.
    #[error("{path} has more than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many there may be.
        limit: u64,
    },
}

/// What became an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many executable files were copied.
    pub files: usize,
    /// Executable files that were not: they could not be opened, were replaced,
    /// are no ELF files, or are larger than [`MAX_FILE`].
    pub left_out: Vec<PathBuf>,
}

/// Write `process` to `directory`, which is made if it does not exist, and
/// must be empty if it does. Only its owner may look into it: a stack can
/// hold secrets.
///
/// # Errors
/// When the directory holds something, or the system refuses. A file of the
/// target's that cannot be had is no error, but [left out](Written::left_out).
pub fn write(process: &Process, directory: &Path) -> Result<Written, Error> {
    make(directory)?;
    if fs::read_dir(directory).map_err(at(directory))?.next().is_some() {
        return Err(Error::NotEmpty(directory.to_owned()));
    }
    let mut written = Written::default();
    let files: BTreeMap<&Path, &Mapping> = process
        .mappings
        .iter()
        .filter(|mapping| mapping.executable)
        .filter_map(|mapping| match &mapping.backing {
            Backing::File(path) => Some((path.as_path(), mapping)),
            _ => None,
        })
        .collect();
    for (path, mapping) in files {
        if copy(process, mapping, path, &directory.join("root"))? {
            written.files += 1;
        } else {
            written.left_out.push(path.to_owned());
        }
    }
    let (text, files) = text::encode(process);
    let memory = directory.join("memory");
    make(&memory)?;
    for (number, pieces) in files.iter().enumerate() {
        let path = memory.join(number.to_string());
        let mut file = File::create_new(&path).map_err(at(&path))?;
        for piece in *pieces {
            file.write_all(&piece.bytes).map_err(at(&path))?;
        }
    }
    // Last, so that half an archive cannot be taken for a whole one.
    let path = directory.join("process.json");
    fs::write(&path, format!("{text:#}\n")).map_err(at(&path))?;
    Ok(written)
}

/// Copy the ELF file at `path` of the target to the same path below `root`;
/// whether that could be done.
fn copy(process: &Process, mapping: &Mapping, path: &Path, root: &Path) -> Result<bool, Error> {
    let Some(relative) = confined(path) else { return Ok(false) };
    let range = &mapping.range;
    let link = process.root.map_files.as_ref();
    let link = link.map(|all| all.join(format!("{:x}-{:x}", range.start.0, range.end.0)));
    let Some(mut source) = link.and_then(|link| open_elf(&link, None)).or_else(|| {
        // Another file may have taken its place.
        open_elf(&process.root.directory.join(&relative), Some(mapping.inode))
    }) else {
        return Ok(false);
    };
    let target = root.join(&relative);
    if let Some(parent) = target.parent() {
        make(parent)?;
    }
    let mut file = File::create_new(&target).map_err(at(&target))?;
    io::copy(&mut source, &mut file).and_then(|_| file.flush()).map_err(at(&target))?;
    Ok(true)
}

/// Open the ELF file at `path`, if it has that inode. The device is not asked
/// for: overlayfs and btrfs give `maps` other devices than `stat`.
fn open_elf(path: &Path, inode: Option<u64>) -> Option<File> {
    // Opening something else than a file may block, or do worse.
    let metadata = fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_FILE).then_some(())?;
    inode.is_none_or(|inode| inode == metadata.ino()).then_some(())?;
    let mut file = File::open(path).ok()?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).ok()?;
    file.rewind().ok()?;
    (magic == *b"\x7fELF").then_some(file)
}

/// Read the snapshot in `directory`.
///
/// The files that were mapped are below its root; their devices and inodes
/// are those of the mappings, not of the copies.
///
/// # Errors
/// When it is no archive, was damaged, or would lead out of `directory`.
pub fn read(directory: &Path) -> Result<Process, Error> {
    let path = directory.join("process.json");
    let bytes = read_plain(directory, "process.json".as_ref(), MAX_TEXT)?;
    let value = serde_json::from_slice(&bytes).map_err(|source| Error::NoJson { path, source })?;
    let root = Root { directory: directory.join("root"), map_files: None };
    let mut memory =
        Files { directory, files: BTreeMap::new(), left: MAX_MEMORY, parts: MAX_MEMORY };
    let mut load = |place| memory.load(place);
    let process = text::decode(&value, root, &mut load)?;
    for mapping in &process.mappings {
        if let Backing::File(path) | Backing::Deleted(path) = &mapping.backing {
            let relative = confined(path).ok_or_else(|| Error::Escapes(path.clone()))?;
            find(&process.root.directory, &relative)?;
        }
    }
    Ok(process)
}

/// The files of an archive's memory.
struct Files<'a> {
    directory: &'a Path,
    /// Those that were read.
    files: BTreeMap<u64, Vec<u8>>,
    /// How many more bytes may be read of files, and how many given out.
    left: u64,
    parts: u64,
}

impl Files<'_> {
    fn load(&mut self, Place { file, part }: Place) -> Result<Vec<u8>, Error> {
        let relative = Path::new("memory").join(file.to_string());
        if !self.files.contains_key(&file) {
            let bytes = read_plain(self.directory, &relative, self.left)?;
            self.left = self.left.saturating_sub(bytes.len() as u64);
            self.files.insert(file, bytes);
        }
        let whole = self.files.get(&file).map(Vec::as_slice).unwrap_or_default();
        let (from, size) = part.unwrap_or((0, whole.len() as u64));
        let range = || {
            let from = usize::try_from(from).ok()?;
            whole.get(from..from.checked_add(usize::try_from(size).ok()?)?)
        };
        let bytes = range().ok_or(Error::Malformed("size"))?;
        let limit = MAX_MEMORY;
        let too_large = || Error::TooLarge { path: self.directory.join(&relative), limit };
        self.parts = self.parts.checked_sub(size).ok_or_else(too_large)?;
        Ok(bytes.to_vec())
    }
}

/// The file at `relative` below `directory`, not by way of a symbolic link;
/// `None` if there is none.
fn find(directory: &Path, relative: &Path) -> Result<Option<fs::Metadata>, Error> {
    let mut path = directory.to_owned();
    let mut left = relative.components().peekable();
    while let Some(component) = left.next() {
        path.push(component);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
        };
        match left.peek() {
            Some(_) if metadata.is_dir() => {}
            None if metadata.is_file() => return Ok(Some(metadata)),
            _ => return Err(Error::Escapes(path)),
        }
    }
    Ok(None)
}

fn read_plain(directory: &Path, relative: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let path = directory.join(relative);
    if find(directory, relative)?.is_none() {
        return Err(at(&path)(io::ErrorKind::NotFound.into()));
    }
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(at(&path))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(at(&path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { path, limit });
    }
    Ok(bytes)
}

/// An absolute path of the target's, relative to its root; `None` if it would
/// lead out of there.
fn confined(path: &Path) -> Option<PathBuf> {
    let relative = path.strip_prefix("/").ok()?;
    let plain = |component| matches!(component, Component::Normal(_));
    let inside = relative.components().all(plain) && relative.components().next().is_some();
    inside.then(|| relative.components().collect())
}

fn make(directory: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests;
