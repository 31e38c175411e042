//! Every object of some types, wherever it lies in the memory of the process.
//!
//! The interpreter has lists of objects for its collector, but those change
//! while they are followed, and cannot be followed without a stop; builds
//! without the lock have none. Memory can always be searched: each object has
//! the address of its type.

use std::{cell::RefCell, ops::Range};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::memory::{Address, Fault, Memory};

/// The most memory that is searched, in bytes: more than a second's work.
const MOST: u64 = 4 << 30;

/// The most objects that are found.
const MAX_OBJECTS: usize = 1 << 20;

/// Bytes that are copied at a time: what was copied is still in a near cache when
/// it is searched.
const STRIDE: usize = 128 << 10;

/// The least that can be readable while what is beside it is not.
const PAGE: usize = 4096;

/// What came of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// What may be objects: their addresses, and those of their types. What
    /// looks like one is among them, and what was one and has been freed.
    pub found: Vec<(Address, Address)>,
    /// Whether there was more memory, or more of them, than is looked at.
    pub is_cut: bool,
}

/// Find the objects of these types in `ranges`. `class` is where in an object
/// its type is said, in bytes.
pub fn search(
    ranges: &[Range<Address>],
    classes: &[Address],
    class: u32,
    memory: &dyn Memory,
) -> Objects {
    let mut objects = Objects::default();
    if classes.is_empty() {
        return objects;
    }
    let classes = Classes::new(classes);
    let mut buffer = vec![0; STRIDE];
    let mut left = MOST;
    for range in ranges {
        let mut at = range.start.0 & !7;
        while at < range.end.0 {
            let end = range.end.0.min(at.saturating_add(STRIDE as u64));
            left = left.saturating_sub(end - at);
            if left == 0 || objects.found.len() >= MAX_OBJECTS {
                objects.is_cut = true;
                return objects;
            }
            let mut see = |at: u64, bytes: &[u8]| {
                let places =
                    classes.find(bytes).map(|(offset, found)| (Address(at).plus(offset), found));
                let object = |(place, found): (Address, Address)| {
                    (Address(place.0.wrapping_sub(class.into())), found)
                };
                objects.found.extend(places.map(object));
            };
            let len = usize::try_from(end - at).unwrap_or_default();
            copy(Address(at), buffer.get_mut(..len).unwrap_or_default(), memory, &mut see);
            at = end;
        }
    }
    objects
}

/// Copy what can be read of the memory from `at` on, and show it to `see`.
fn copy(at: Address, into: &mut [u8], memory: &dyn Memory, see: &mut dyn FnMut(u64, &[u8])) {
    if memory.read(at, into).is_ok() {
        return see(at.0, into);
    }
    // A page was given back meanwhile.
    for (number, page) in (0..).zip(into.chunks_mut(PAGE)) {
        let at = at.plus(number * PAGE as u64);
        if memory.read(at, page).is_ok() {
            see(at.0, page);
        }
    }
}

/// The types that are looked for.
struct Classes {
    all: FxHashSet<u64>,
    /// A bit for each value that [`Self::bit`] has of one of them.
    bits: [u64; Self::WORDS],
}

impl Classes {
    /// The bits fit well into the nearest cache.
    const WORDS: usize = 64;

    fn new(classes: &[Address]) -> Self {
        let mut bits = [0; Self::WORDS];
        for class in classes {
            let (word, bit) = Self::bit(class.0);
            if let Some(word) = bits.get_mut(word) {
                *word |= bit;
            }
        }
        Self { all: classes.iter().map(|class| class.0).collect(), bits }
    }

    /// Types are large, and differ in these bits.
    const fn bit(word: u64) -> (usize, u64) {
        let number = (word >> 4) ^ (word >> 16);
        ((number >> 6) as usize % Self::WORDS, 1 << (number & 63))
    }

    /// Where one of them stands in `bytes`, as an offset, and which.
    fn find(&self, bytes: &[u8]) -> impl Iterator<Item = (u64, Address)> {
        let words = (0..).step_by(8).zip(bytes.as_chunks().0);
        words.filter_map(|(offset, bytes)| {
            let word = u64::from_le_bytes(*bytes);
            let (place, bit) = Self::bit(word);
            let may_be = self.bits.get(place).is_some_and(|bits| bits & bit != 0);
            (may_be && self.all.contains(&word)).then_some((offset, Address(word)))
        })
    }
}

/// Memory that is read by whole pages, each once: for what many objects share and
/// nothing changes, such as code.
pub struct Pages<'a> {
    memory: &'a dyn Memory,
    kept: RefCell<FxHashMap<u64, Option<Box<[u8; PAGE]>>>>,
}

impl<'a> Pages<'a> {
    /// The most pages that are kept.
    const MOST: usize = 8192;

    /// Nothing is read yet.
    pub fn new(memory: &'a dyn Memory) -> Self {
        Self { memory, kept: RefCell::default() }
    }
}

impl Memory for Pages<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let fault = Fault { at, len: into.len() };
        let offset = usize::try_from(at.0 % PAGE as u64).map_err(|_| fault)?;
        let range = offset..offset.checked_add(into.len()).ok_or(fault)?;
        if range.end > PAGE {
            return self.memory.read(at, into);
        }
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= Self::MOST {
            kept.clear();
        }
        let start = Address(at.0 & !(PAGE as u64 - 1));
        let page = kept.entry(start.0).or_insert_with(|| {
            let mut page = Box::new([0; PAGE]);
            self.memory.read(start, page.as_mut_slice()).ok().map(|()| page)
        });
        let bytes = page.as_ref().and_then(|page| page.get(range)).ok_or(fault)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

impl std::fmt::Debug for Pages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pages", self.kept.borrow().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Piece;

    const CLASS: Address = Address(0x5555_0000_1230);

    /// Memory of three pages, of which the middle one cannot be read.
    struct Torn {
        low: Piece,
        high: Piece,
    }

    impl Memory for Torn {
        fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
            self.low.read(at, into).or_else(|_| self.high.read(at, into))
        }
    }

    fn torn(words: &[(u64, u64)]) -> Torn {
        let piece = |start| Piece { start: Address(start), bytes: vec![0; PAGE] };
        let mut memory = Torn { low: piece(0x1000), high: piece(0x3000) };
        for (at, word) in words {
            let piece = if *at < 0x2000 { &mut memory.low } else { &mut memory.high };
            let from = usize::try_from(at - piece.start.0).unwrap();
            piece.bytes[from..from + 8].copy_from_slice(&word.to_le_bytes());
        }
        memory
    }

    #[test]
    fn objects_are_found_on_both_sides_of_what_cannot_be_read() {
        let other = Address(CLASS.0 + 0x400);
        let memory = torn(&[
            (0x1008, CLASS.0),
            // An address that is no multiple of eight is that of no object's type.
            (0x1104, CLASS.0),
            (0x1ff8, other.0),
            (0x3ff8, CLASS.0),
            (0x3010, CLASS.0 + 8),
        ]);
        let ranges = [Address(0x1000)..Address(0x4000)];
        let found = search(&ranges, &[CLASS, other], 8, &memory);
        let expected =
            [(Address(0x1000), CLASS), (Address(0x1ff0), other), (Address(0x3ff0), CLASS)];
        assert_eq!(found, Objects { found: expected.to_vec(), is_cut: false });
        assert_eq!(search(&ranges, &[], 8, &memory), Objects::default());
    }

    #[test]
    fn a_search_ends_however_much_there_is() {
        /// Everything is the address of a type.
        struct Full;
        impl Memory for Full {
            fn read(&self, _: Address, into: &mut [u8]) -> Result<(), Fault> {
                for word in into.as_chunks_mut().0 {
                    *word = CLASS.0.to_le_bytes();
                }
                Ok(())
            }
        }
        let found = search(&[Address(0)..Address(u64::MAX)], &[CLASS], 8, &Full);
        assert!(found.is_cut);
        assert!(found.found.len() < MAX_OBJECTS + STRIDE / 8, "{}", found.found.len());
    }

    #[test]
    fn pages_are_read_once() {
        let memory = torn(&[(0x1008, 7)]);
        let pages = Pages::new(&memory);
        let memory: &dyn Memory = &pages;
        assert_eq!(memory.get::<u64>(Address(0x1008)), Ok(7));
        assert!(memory.get::<u64>(Address(0x2000)).is_err());
        assert!(memory.get::<u64>(Address(0x1ffc)).is_err(), "half of it cannot be read");
        assert!(memory.get::<u64>(Address(u64::MAX)).is_err());
        assert_eq!(pages.kept.borrow().len(), 2);
    }
}
