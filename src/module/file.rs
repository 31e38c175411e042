//! The bytes of a file that somebody else may change under us.

use std::{
    fmt,
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    ops::Deref,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use memmap2::Mmap;

use crate::sys::map;

/// Files up to this many bytes are read into memory, larger ones are mapped.
const READ_WHOLE: u64 = 8 << 20;

/// The bytes of a regular file, as long as it was when it was opened.
///
/// A package manager replaces a file by renaming another one over it, which
/// leaves the one that is open here whole. Whoever overwrites a library in
/// place cuts it to nothing first, and then a *mapped* page of it is a SIGBUS.
/// So files of up to 8 MiB, which nearly all libraries are, are read; what is
/// larger (interpreters, debug information) is mapped, since a copy of it
/// would cost the host the memory that the target may be short of.
pub struct FileBytes(Bytes);

enum Bytes {
    Read(Box<[u8]>),
    Mapped(Mmap),
}

/// Which file, in which state: equal for two openings of one unchanged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The change time is left out, since removing a name changes it.
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// A regular file, open.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    pub(super) stamp: Stamp,
}

impl Opened {
    /// Open a regular file. The path is the target's, and may lead anywhere:
    /// to a pipe that nobody writes to, or a device that does something when it
    /// is opened.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let regular = |metadata: &Metadata| match metadata.is_file() {
            true => Ok(()),
            false => Err(io::Error::from(io::ErrorKind::InvalidInput)),
        };
        regular(&std::fs::metadata(path)?)?;
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        regular(&metadata)?;
        Ok(Self { file, stamp: Stamp::of(&metadata) })
    }

    /// Whether it begins as ELF files do.
    pub(super) fn is_elf(&self) -> bool {
        let mut magic = [0; 4];
        self.file.read_exact_at(&mut magic, 0).is_ok() && magic == object::elf::ELFMAG
    }

    /// All of it.
    pub(super) fn bytes(&self) -> io::Result<FileBytes> {
        let size = self.stamp.size;
        if size > READ_WHOLE {
            return map::read_only(&self.file).map(Bytes::Mapped).map(FileBytes);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        (&self.file).take(size).read_to_end(&mut bytes)?;
        Ok(FileBytes(Bytes::Read(bytes.into_boxed_slice())))
    }
}

impl FileBytes {
    /// The bytes of the regular file at `path`.
    ///
    /// # Errors
    /// When it is no regular file, or the system refuses to open or read it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Opened::open(path)?.bytes()
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Read(bytes) => bytes,
            Bytes::Mapped(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::Read(bytes.into_boxed_slice()))
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
