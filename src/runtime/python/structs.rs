//! One struct of the target's, copied in one read and taken apart afterwards.

use super::layout::Field;
use crate::memory::{Address, Fault, Memory, Plain};

/// The beginning of a struct, as far as somebody wants it.
#[derive(Debug)]
pub struct Struct {
    at: Address,
    bytes: [u8; Self::MOST],
    len: usize,
}

impl Struct {
    /// The most bytes that are copied. The largest struct that is read so is a
    /// code object of a debug build, of about 250.
    pub const MOST: usize = 512;

    /// Nothing yet: room to read into, many times.
    pub const fn new() -> Self {
        Self { at: Address(0), bytes: [0; Self::MOST], len: 0 }
    }

    /// Copy the first `span` bytes of the struct at `at`, which replace what
    /// was here.
    ///
    /// # Errors
    /// A [`Fault`] when they cannot be read, or are more than fit.
    pub fn read(&mut self, memory: &dyn Memory, at: Address, span: usize) -> Result<(), Fault> {
        self.len = 0;
        let into = self.bytes.get_mut(..span).ok_or(Fault { at, len: span })?;
        memory.read(at, into)?;
        (self.at, self.len) = (at, span);
        Ok(())
    }

    /// Take a field out of the copy.
    ///
    /// # Errors
    /// A [`Fault`] when the copy does not reach so far.
    pub fn get<T: Plain>(&self, field: Field<T>) -> Result<T, Fault> {
        let from = usize::try_from(field.offset).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(..self.len).and_then(|bytes| bytes.get(from..));
        bytes.and_then(T::decode).ok_or(Fault { at: field.of(self.at), len: size_of::<T>() })
    }
}

impl Default for Struct {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Field<T> {
    /// Where it ends, in bytes from the struct's start.
    pub fn end(self) -> usize {
        usize::try_from(self.offset).unwrap_or(usize::MAX).saturating_add(size_of::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Piece;

    #[test]
    fn a_struct_gives_fields_of_what_was_copied_and_nothing_else() {
        let piece = Piece { start: Address(0x1000), bytes: (0..64).collect() };
        let mut copy = Struct::new();
        assert!(copy.get(Field::<u8>::at(0)).is_err());
        copy.read(&piece, Address(0x1008), 12).unwrap();
        assert_eq!(copy.get(Field::<u16>::at(10)), Ok(0x1312));
        assert!(copy.get(Field::<u16>::at(11)).is_err());
        assert!(copy.get(Field::<u64>::at(u32::MAX)).is_err());
        assert!(copy.read(&piece, Address(0x1030), 17).is_err());
        assert!(copy.get(Field::<u8>::at(0)).is_err(), "what was here before is gone");
        assert!(copy.read(&piece, Address(0x1000), Struct::MOST + 1).is_err());
        assert_eq!(Field::<u32>::at(8).end(), 12);
    }
}
