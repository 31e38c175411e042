//! Memory that keeps what was read of it.

use std::{cell::RefCell, collections::BTreeMap, fmt};

use crate::memory::{Address, Fault, Memory, Piece};

/// Memory that keeps a copy of each block of which something was read, so that
/// the same reads can be answered again without it.
pub struct Noted<'a> {
    memory: &'a dyn Memory,
    block: u64,
    /// By their addresses.
    blocks: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl<'a> Noted<'a> {
    /// Keep what is read of `memory`, in blocks of so many bytes, rounded up to
    /// a power of two.
    pub fn new(memory: &'a dyn Memory, block: u64) -> Self {
        let block = block.checked_next_power_of_two().unwrap_or(1);
        Self { memory, block, blocks: RefCell::default() }
    }

    /// What was read, by address. Blocks that touch are one piece.
    pub fn into_pieces(self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for (start, mut bytes) in self.blocks.into_inner() {
            match pieces.last_mut() {
                Some(last) if last.start.plus(last.bytes.len() as u64) == Address(start) => {
                    last.bytes.append(&mut bytes);
                }
                _ => pieces.push(Piece { start: Address(start), bytes }),
            }
        }
        pieces
    }

    /// The first byte of each block that `at` and the `len` bytes from it lie in.
    fn starts(&self, at: Address, len: usize) -> Option<impl Iterator<Item = u64> + use<>> {
        let last = at.0.checked_add((len as u64).checked_sub(1)?)?;
        let step = usize::try_from(self.block).ok()?;
        Some((at.0 & !(self.block - 1)..=last).step_by(step))
    }

    /// Copy the blocks that are missing of these bytes; `None` when they cannot
    /// all be read whole.
    fn fetch(&self, at: Address, len: usize) -> Option<()> {
        let blocks = self.blocks.borrow();
        let mut missing = self.starts(at, len)?.filter(|start| !blocks.contains_key(start));
        let Some(first) = missing.next() else { return Some(()) };
        let end = missing.last().unwrap_or(first).checked_add(self.block)?;
        drop(blocks);
        let mut bytes = vec![0; usize::try_from(end - first).ok()?];
        self.memory.read(Address(first), &mut bytes).ok()?;
        let size = usize::try_from(self.block).ok()?;
        let starts = (first..end).step_by(size);
        let mut blocks = self.blocks.borrow_mut();
        for (start, block) in starts.zip(bytes.chunks_exact(size)) {
            // What was read first is kept: the rest was understood by it.
            blocks.entry(start).or_insert_with(|| block.to_vec());
        }
        Some(())
    }

    fn copy(&self, at: Address, into: &mut [u8]) -> Option<()> {
        let mut done = 0;
        let blocks = self.blocks.borrow();
        for start in self.starts(at, into.len())? {
            let from = usize::try_from(at.0.saturating_sub(start)).ok()?;
            let block = blocks.get(&start)?.get(from..)?;
            let len = block.len().min(into.len() - done);
            into.get_mut(done..done + len)?.copy_from_slice(block.get(..len)?);
            done += len;
        }
        Some(())
    }
}

impl Memory for Noted<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        if into.is_empty() {
            return Ok(());
        }
        if self.fetch(at, into.len()).and_then(|()| self.copy(at, into)).is_some() {
            return Ok(());
        }
        self.memory.read(at, into)
    }
}

impl fmt::Debug for Noted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} blocks of {}", self.blocks.borrow().len(), self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_kept_in_whole_blocks() {
        let bytes: Vec<u8> = (0..64).collect();
        let source = Piece { start: Address(0x1000), bytes };
        let noted = Noted::new(&source, 15);
        let mut read = [0; 20];
        assert_eq!(noted.read(Address(0x100c), &mut read), Ok(()));
        assert_eq!(read[..], source.bytes[12..32]);
        assert_eq!(noted.read(Address(0x1030), &mut read[..1]), Ok(()));
        assert_eq!(noted.read(Address(0x1038), &mut read[..0]), Ok(()));
        assert!(noted.read(Address(0x103f), &mut read[..2]).is_err());
        assert!(noted.read(Address(u64::MAX), &mut read[..2]).is_err());
        let piece = |start: usize, end: usize| Piece {
            start: Address(0x1000 + start as u64),
            bytes: source.bytes[start..end].to_vec(),
        };
        assert_eq!(noted.into_pieces(), [piece(0, 32), piece(48, 64)]);
    }
}
