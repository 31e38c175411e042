//! Reading the words of a stack.

use crate::memory::{Address, Memory, Plain};

/// The words of a stack, read from the copy where they were copied and from
/// the target where they were not, and the first loss.
pub(super) struct Words<'a> {
    memory: &'a dyn Memory,
    /// The copied piece that the last word came from.
    start: u64,
    bytes: &'a [u8],
    /// The lowest address whose word could not be read.
    pub(super) fault: Option<Address>,
}

impl<'a> Words<'a> {
    pub(super) fn new(memory: &'a dyn Memory, sp: u64) -> Self {
        let (start, bytes) = memory.copied(Address(sp)).unwrap_or_default();
        Self { memory, start: start.0, bytes, fault: None }
    }

    /// The memory itself, for what is no stack.
    pub(super) fn memory(&self) -> &'a dyn Memory {
        self.memory
    }

    /// The word at `at`; `None`, and a fault kept, if it cannot be read.
    #[inline]
    pub(super) fn word(&mut self, at: u64) -> Option<u64> {
        match usize::try_from(at.wrapping_sub(self.start))
            .ok()
            .and_then(|from| self.bytes.get(from..from.checked_add(8)?))
            .and_then(u64::decode)
        {
            Some(word) => Some(word),
            None => self.elsewhere(at),
        }
    }

    #[cold]
    fn elsewhere(&mut self, at: u64) -> Option<u64> {
        let word = self.memory.get(Address(at)).ok();
        match (word, self.memory.copied(Address(at))) {
            (Some(_), Some((start, bytes))) => (self.start, self.bytes) = (start.0, bytes),
            (Some(_), None) => {}
            (None, _) => {
                let at = Address(at);
                self.fault = Some(self.fault.map_or(at, |before| before.min(at)));
            }
        }
        word
    }
}
