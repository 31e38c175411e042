//! What the dynamic section says: the way to the symbols of an image without
//! section headers.

use object::elf;

use super::{
    elf::{Segment, field},
    image::Image,
};

/// Addresses (as the image counts) and lengths of tables.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dynamic {
    pub(super) symbols: Option<(u64, usize)>,
    pub(super) strings: Option<(u64, usize)>,
    pub(super) got: Option<u64>,
    /// The hash table by which the dynamic linker looks names up.
    pub(super) gnu_hash: Option<u64>,
}

const ENTRY: usize = 16;
const SYMBOL: u64 = 24;

/// More entries than any dynamic section has.
const MAX_ENTRIES: usize = 4096;

/// More symbols than any image exports.
const MAX_SYMBOLS: usize = 1 << 24;

impl Dynamic {
    /// Read it. `bias` is what the addresses in it may have been raised by:
    /// the dynamic linker relocates some of them in place.
    pub(super) fn read(image: &Image, bias: u64) -> Self {
        Self::try_read(image, bias).unwrap_or_default()
    }

    fn try_read(image: &Image, bias: u64) -> Option<Self> {
        let segment = image.segment(elf::PT_DYNAMIC.0)?;
        let size = usize::try_from(segment.file_size).ok()?.min(MAX_ENTRIES * ENTRY);
        let table = image.loaded(segment.address, size)?;
        let value = |tag: elf::DynamicTag| {
            let mut entries = table.chunks_exact(ENTRY);
            entries.find_map(|entry| {
                let found = field::<i64>(entry, 0)? == tag.0;
                field::<u64>(entry, 8).filter(|_| found)
            })
        };
        let address = |tag| value(tag).map(|value| own(image.segments(), value, bias));
        let strings = address(elf::DT_STRTAB);
        let symbols = address(elf::DT_SYMTAB);
        let count = (address(elf::DT_GNU_HASH).and_then(|at| count_by_gnu_hash(image, at)))
            .or_else(|| {
                // Of the words at its start, the second is the number of symbols.
                let table = image.loaded(address(elf::DT_HASH)?, 8)?;
                field::<u32>(table, 4).map(u64::from)
            })
            // By custom the strings follow the symbols.
            .or_else(|| strings?.checked_sub(symbols?).map(|size| size / SYMBOL));
        let len = |count: u64| usize::try_from(count.checked_mul(SYMBOL)?).ok();
        let strings_len = value(elf::DT_STRSZ).and_then(|size| usize::try_from(size).ok());
        Some(Self {
            symbols: symbols.zip(count.and_then(len)),
            strings: strings.zip(strings_len),
            got: address(elf::DT_PLTGOT),
            gnu_hash: address(elf::DT_GNU_HASH),
        })
    }
}

/// An address as the image counts, of one that may have been relocated.
fn own(segments: &[Segment], value: u64, bias: u64) -> u64 {
    let inside = |value: u64| {
        let mut loads = segments.iter().filter(|segment| segment.is_load());
        loads.any(|segment| {
            value.checked_sub(segment.address).is_some_and(|into| into < segment.memory_size)
        })
    };
    let lowered = value.wrapping_sub(bias);
    if !inside(value) && inside(lowered) { lowered } else { value }
}

/// How many symbols there are: the table of the hashes of GNU does not say,
/// but its last chain ends with the last symbol.
fn count_by_gnu_hash(image: &Image, at: u64) -> Option<u64> {
    let word = |at: u64| field::<u32>(image.loaded(at, 4)?, 0);
    let buckets = word(at)?;
    let first = word(at.checked_add(4)?)?;
    let bloom = u64::from(word(at.checked_add(8)?)?);
    let table = at.checked_add(16)?.checked_add(bloom * 8)?;
    let len = usize::try_from(buckets).ok()?.min(MAX_SYMBOLS) * 4;
    let bytes = image.loaded(table, len)?;
    let starts = bytes.chunks_exact(4).filter_map(u32_of);
    let Some(last) = starts.max().filter(|&last| last >= first) else {
        return Some(first.into());
    };
    let chains = table.checked_add(u64::from(buckets) * 4)?;
    let chain = image.loaded(chains.checked_add(u64::from(last - first) * 4)?, MAX_SYMBOLS * 4)?;
    let end = chain.chunks_exact(4).filter_map(u32_of).position(|hash| hash & 1 == 1)?;
    Some(u64::from(last) + end as u64 + 1)
}

fn u32_of(bytes: &[u8]) -> Option<u32> {
    field(bytes, 0)
}
