//! Bytes that keep what holds them alive, and how gimli reads them.
//!
//! A context of debug information lives as long as its module is of interest,
//! and points into the module's file. Counting references costs a little at
//! each clone; borrowing would need `unsafe`, or a leak.

use std::{borrow::Cow, cell::Cell, fmt, sync::Arc};

use gimli::{Error, LittleEndian, Reader, ReaderOffsetId};

use crate::module::{FileBytes, Module};

/// How much of the stack may be used between [`bounded`] and a read, in bytes.
const MAX_STACK: usize = 512 << 10;

thread_local! {
    /// Where the stack was at the last [`bounded`].
    static BEGAN: Cell<usize> = const { Cell::new(0) };
    /// How many bytes may still be read.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Run `work`, which reads debug information, and let it read at most `most`
/// bytes.
///
/// Whoever made the debug information may have nested it a million deep, or
/// let a million functions share a million ranges; the library that reads it
/// follows. All that it does is to read, so that is where it is stopped.
pub(super) fn bounded<T>(most: usize, work: impl FnOnce() -> T) -> T {
    BEGAN.set(here());
    LEFT.set(most);
    let done = work();
    BEGAN.set(0);
    LEFT.set(usize::MAX);
    done
}

/// About where the stack is: it grows downwards.
fn here() -> usize {
    let marker = 0_u8;
    (&raw const marker).addr()
}

/// What holds bytes.
enum Owner {
    /// The file of an image.
    Image(Arc<Module>),
    /// A file of our own choice, or what was decompressed.
    Own(FileBytes),
}

/// A run of bytes inside a file, or inside a copy.
#[derive(Clone)]
pub(super) struct Bytes {
    owner: Arc<Owner>,
    start: usize,
    end: usize,
}

impl Bytes {
    /// The file of an image, whole.
    pub(super) fn of_image(module: &Arc<Module>) -> Option<Self> {
        let end = module.file()?.len();
        Some(Self { owner: Arc::new(Owner::Image(Arc::clone(module))), start: 0, end })
    }

    /// A file, whole.
    pub(super) fn of_file(bytes: FileBytes) -> Self {
        let end = bytes.len();
        Self { owner: Arc::new(Owner::Own(bytes)), start: 0, end }
    }

    /// Bytes that were made.
    pub(super) fn copied(bytes: Vec<u8>) -> Self {
        Self::of_file(bytes.into())
    }

    /// The bytes.
    #[inline]
    pub(super) fn slice(&self) -> &[u8] {
        let whole = match &*self.owner {
            Owner::Image(module) => module.file().unwrap_or_default(),
            Owner::Own(bytes) => bytes,
        };
        whole.get(self.start..self.end).unwrap_or_default()
    }

    /// `len` of these bytes from `offset`, if there are as many.
    pub(super) fn part(&self, offset: u64, len: u64) -> Option<Self> {
        let start = self.start.checked_add(usize::try_from(offset).ok()?)?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        (end <= self.end).then(|| Self { owner: Arc::clone(&self.owner), start, end })
    }

    /// Whether both lie in the same file or copy.
    pub(super) fn shares(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
    }

    /// How many bytes of memory are held that no other holds.
    pub(super) fn held(&self) -> usize {
        match &*self.owner {
            Owner::Image(_) => 0,
            Owner::Own(bytes) => bytes.len(),
        }
    }

    /// Account for `len` bytes that are read.
    #[inline]
    fn spend(&self, len: usize) -> gimli::Result<()> {
        let left = LEFT.get().checked_sub(len);
        if left.is_none() || BEGAN.get().saturating_sub(here()) > MAX_STACK {
            return Err(self.eof());
        }
        LEFT.set(left.unwrap_or_default());
        Ok(())
    }

    fn eof(&self) -> Error {
        Error::UnexpectedEof(self.offset_id())
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::copied(Vec::new())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.end - self.start)
    }
}

impl Reader for Bytes {
    type Endian = LittleEndian;
    type Offset = usize;

    #[inline]
    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    #[inline]
    fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    fn empty(&mut self) {
        self.end = self.start;
    }

    #[inline]
    fn truncate(&mut self, len: usize) -> gimli::Result<()> {
        if len > self.len() {
            return Err(self.eof());
        }
        self.end = self.start + len;
        Ok(())
    }

    #[inline]
    fn offset_from(&self, base: &Self) -> usize {
        self.start.saturating_sub(base.start)
    }

    #[inline]
    fn offset_id(&self) -> ReaderOffsetId {
        ReaderOffsetId(self.slice().as_ptr().addr() as u64)
    }

    #[inline]
    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        let offset = id.0.checked_sub(self.offset_id().0)?;
        usize::try_from(offset).ok().filter(|&offset| offset <= self.len())
    }

    #[inline]
    fn find(&self, byte: u8) -> gimli::Result<usize> {
        let found = self.slice().iter().position(|&at| at == byte);
        self.spend(found.unwrap_or(self.len()))?;
        found.ok_or_else(|| self.eof())
    }

    #[inline]
    fn skip(&mut self, len: usize) -> gimli::Result<()> {
        if len > self.len() {
            return Err(self.eof());
        }
        self.start += len;
        Ok(())
    }

    #[inline]
    fn split(&mut self, len: usize) -> gimli::Result<Self> {
        let mut first = self.clone();
        first.truncate(len)?;
        self.start = first.end;
        Ok(first)
    }

    #[inline]
    fn to_slice(&self) -> gimli::Result<Cow<'_, [u8]>> {
        Ok(self.slice().into())
    }

    #[inline]
    fn to_string(&self) -> gimli::Result<Cow<'_, str>> {
        std::str::from_utf8(self.slice()).map(Into::into).map_err(|_| Error::BadUtf8)
    }

    #[inline]
    fn to_string_lossy(&self) -> gimli::Result<Cow<'_, str>> {
        Ok(String::from_utf8_lossy(self.slice()))
    }

    #[inline]
    fn read_slice(&mut self, into: &mut [u8]) -> gimli::Result<()> {
        self.spend(into.len())?;
        let found = self.slice().get(..into.len()).ok_or_else(|| self.eof())?;
        into.copy_from_slice(found);
        self.start += into.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_moves_on_and_never_past_the_end() {
        let mut bytes = Bytes::copied(vec![1, 2, 0, 4, 0xff]);
        let whole = bytes.clone();
        assert_eq!(bytes.read_u16().unwrap(), 0x201);
        assert_eq!(bytes.offset_from(&whole), 2);
        assert_eq!(whole.lookup_offset_id(bytes.offset_id()), Some(2));
        assert_eq!(bytes.find(0xff).unwrap(), 2);
        let first = bytes.split(1).unwrap();
        assert_eq!((first.slice(), bytes.slice()), (&[0][..], &[4, 0xff][..]));
        assert!(bytes.clone().skip(3).is_err());
        assert!(bytes.clone().truncate(3).is_err());
        assert!(bytes.read_u32().is_err());
        assert_eq!(bytes.slice(), [4, 0xff], "a failed read takes nothing");
        assert!(whole.part(3, 3).is_none());
        assert!(whole.part(u64::MAX, 1).is_none());
        assert_eq!(whole.part(3, 2).unwrap().slice(), [4, 0xff]);
    }

    fn descend(bytes: &mut Bytes, depth: usize) -> usize {
        match bytes.read_u8() {
            Ok(_) => descend(bytes, depth + 1) + usize::from(depth == usize::MAX),
            Err(_) => depth,
        }
    }

    #[test]
    fn reading_ends_when_it_goes_too_deep_or_on_for_too_long() {
        let mut bytes = Bytes::copied(vec![0; 10 << 20]);
        let depth = bounded(usize::MAX, || descend(&mut bytes, 0));
        assert!((100..1_000_000).contains(&depth), "{depth}");
        let read = bounded(1000, || (0..).take_while(|_| bytes.read_u8().is_ok()).count());
        assert_eq!(read, 1000);
        assert!(bytes.read_u8().is_ok());
    }
}
