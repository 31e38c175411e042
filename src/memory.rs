//! The target's memory, and how values are taken out of it.

use std::fmt;

/// An address in the target. Never a pointer of ours.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl Address {
    /// This address moved up by `bytes`, wrapping at the end of the address
    /// space as the processor does.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The target's memory could not be read there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes of the target's memory at {at} cannot be read")]
pub struct Fault {
    /// Where the read began.
    pub at: Address,
    /// How many bytes were asked for.
    pub len: usize,
}

/// The memory of a target: live, recorded, or made up by a test.
pub trait Memory {
    /// Fill `into` from `at`. Never a short read.
    ///
    /// # Errors
    /// A [`Fault`] when any byte of the range cannot be read; what `into`
    /// then holds is not said.
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault>;

    /// The copied bytes around `at`, and where the first of them lay, if `at`
    /// was copied: a reader of many words in one place (a stack) asks once and
    /// then needs no call for each. Memory that holds no copies has none.
    fn copied(&self, at: Address) -> Option<(Address, &[u8])> {
        let _ = at;
        None
    }
}

impl dyn Memory + '_ {
    /// Take a value out of the target's memory.
    ///
    /// # Errors
    /// A [`Fault`] when it cannot be read.
    pub fn get<T: Plain>(&self, at: Address) -> Result<T, Fault> {
        let mut bytes = [0; 16];
        let len = size_of::<T>();
        let bytes = bytes.get_mut(..len).ok_or(Fault { at, len })?;
        self.read(at, bytes)?;
        T::decode(bytes).ok_or(Fault { at, len })
    }
}

/// A value that can be taken from the target's bytes without trusting them.
///
/// `bool`, `char` and enums are absent on purpose: not every byte is one.
/// None is larger than 16 bytes.
pub trait Plain: Sized {
    /// Decode from the start of `bytes`, or `None` if they are too few.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

macro_rules! plain {
    ($($ty:ty),*) => {$(
        impl Plain for $ty {
            fn decode(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(*bytes.first_chunk()?))
            }
        }
    )*};
}
plain!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Plain for Address {
    fn decode(bytes: &[u8]) -> Option<Self> {
        u64::decode(bytes).map(Self)
    }
}

/// Bytes copied from the target, and where they lay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Where the first byte lay.
    pub start: Address,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Piece {
    /// The `len` bytes from `at`, if this piece holds all of them.
    #[inline]
    pub fn slice(&self, at: Address, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.0.checked_sub(self.start.0)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }
}

impl Memory for Piece {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let found = self.slice(at, into.len()).ok_or(Fault { at, len: into.len() })?;
        into.copy_from_slice(found);
        Ok(())
    }

    fn copied(&self, at: Address) -> Option<(Address, &[u8])> {
        self.slice(at, 1)?;
        Some((self.start, &self.bytes))
    }
}

/// Which blocks of memory were touched while a thread was last sampled.
///
/// They are copied together with its stack when it is next sampled, so that a
/// reader that follows pointers finds nearly all of them in one copy. What was
/// not touched again is forgotten.
#[derive(Clone, Debug, Default)]
pub struct WorkingSet {
    wanted: Vec<u64>,
    touched: Vec<u64>,
}

impl WorkingSet {
    /// The size of a block in bytes: a page, the least that the kernel pins.
    pub const BLOCK: u64 = 4096;

    /// The most blocks that are kept. More would cost the target more time
    /// than reading what is missing costs.
    pub const MOST: usize = 128;

    /// Note that the block that holds `at` was read.
    pub fn touch(&mut self, at: Address) {
        let block = at.0 & !(Self::BLOCK - 1);
        if let Err(place) = self.touched.binary_search(&block)
            && self.touched.len() < Self::MOST
        {
            self.touched.insert(place, block);
        }
    }

    /// A sample ends: what it touched is what the next one wants.
    pub fn turn(&mut self) {
        std::mem::swap(&mut self.wanted, &mut self.touched);
        self.touched.clear();
    }

    /// The blocks to copy, as addresses of their first bytes, ascending.
    pub fn blocks(&self) -> impl Iterator<Item = Address> + '_ {
        self.wanted.iter().copied().map(Address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_set_is_what_the_last_sample_touched() {
        let mut set = WorkingSet::default();
        set.touch(Address(0x2fff));
        set.touch(Address(0x1000));
        set.touch(Address(0x2000));
        assert_eq!(set.blocks().count(), 0);
        set.turn();
        assert_eq!(set.blocks().collect::<Vec<_>>(), [Address(0x1000), Address(0x2000)]);
        set.turn();
        assert_eq!(set.blocks().count(), 0);
    }

    #[test]
    fn a_piece_gives_what_it_holds_and_nothing_else() {
        let piece = Piece { start: Address(0x1000), bytes: vec![1, 0, 0, 0, 2] };
        let memory: &dyn Memory = &piece;
        assert_eq!(memory.get::<u32>(Address(0x1000)), Ok(1));
        assert_eq!(memory.get::<u8>(Address(0x1004)), Ok(2));
        assert_eq!(memory.get::<u32>(Address(0x1002)), Err(Fault { at: Address(0x1002), len: 4 }));
        assert!(memory.get::<u8>(Address(0xfff)).is_err());
        assert!(memory.get::<u64>(Address(u64::MAX)).is_err());
        assert_eq!(memory.copied(Address(0x1004)), Some((Address(0x1000), &piece.bytes[..])));
        assert_eq!(memory.copied(Address(0x1005)), None);
    }
}
