//! The headers of ELF files: of 64 bits, little-endian.
//!
//! Decoded field by field and not by `object`, since they may also come from
//! the target's memory, where a file is not in one piece.

use std::ops::Range;

use object::elf;

use crate::memory::Plain;

/// The size of the file header.
pub(super) const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;

/// The most program headers and sections that are looked at: more than any
/// program has.
pub(super) const MAX_SEGMENTS: usize = 1024;
const MAX_SECTIONS: u64 = 1 << 17;

/// The most bytes of notes that are searched for a build id.
pub(super) const MAX_NOTES: u64 = 64 << 10;

/// What the file header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// Where the program starts.
    pub(super) entry: u64,
    program_headers: (u64, u16),
    section_headers: (u64, u16),
    names: u16,
}

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
    pub(super) align: u64,
}

/// A section header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SectionHeader {
    name: u32,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    link: u32,
}

/// The section headers, and where their names are.
#[derive(Debug, Default)]
pub(super) struct Sections {
    pub(super) headers: Vec<SectionHeader>,
    names: Range<usize>,
}

/// Take a field out of `bytes`.
pub(super) fn field<T: Plain>(bytes: &[u8], at: usize) -> Option<T> {
    bytes.get(at..).and_then(T::decode)
}

/// `len` of `bytes` from `offset`, all of them or none.
pub(super) fn part(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    bytes.get(start..end)
}

impl FileHeader {
    /// From the first bytes of a file; `None` when it is no ELF file of this
    /// program's kind of machine.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let identity: &[u8; 6] = bytes.first_chunk()?;
        let wanted = [&elf::ELFMAG[..], &[elf::ELFCLASS64.0, elf::ELFDATA2LSB.0]].concat();
        if identity[..] != wanted[..] {
            return None;
        }
        let kind: u16 = field(bytes, 16)?;
        let machine: u16 = field(bytes, 18)?;
        let known = [elf::EM_X86_64.0, elf::EM_AARCH64.0].contains(&machine)
            && [elf::ET_EXEC.0, elf::ET_DYN.0].contains(&kind);
        let header = Self {
            entry: field(bytes, 24)?,
            program_headers: (field(bytes, 32)?, field(bytes, 56)?),
            section_headers: (field(bytes, 40)?, field(bytes, 60)?),
            names: field(bytes, 62)?,
        };
        let sizes = (field::<u16>(bytes, 54)?, field::<u16>(bytes, 58)?);
        let sizes_fit = (header.program_headers.1 == 0 || usize::from(sizes.0) == PROGRAM_HEADER)
            && (header.section_headers.0 == 0 || usize::from(sizes.1) == SECTION_HEADER);
        (known && sizes_fit).then_some(header)
    }

    /// Where the program headers are in the file, and how many bytes.
    pub(super) fn program_headers(&self) -> (u64, u64) {
        let (offset, count) = self.program_headers;
        (offset, u64::from(count) * PROGRAM_HEADER as u64)
    }

    /// The section headers of a whole file; none when they are damaged.
    pub(super) fn sections(&self, file: &[u8]) -> Sections {
        self.parse_sections(file).unwrap_or_default()
    }

    fn parse_sections(&self, file: &[u8]) -> Option<Sections> {
        let (offset, count) = self.section_headers;
        if offset == 0 {
            return None;
        }
        let entry = SECTION_HEADER as u64;
        // Counts that do not fit into the file header are in the first entry.
        let first = SectionHeader::parse(part(file, offset, entry)?)?;
        let count = if count == 0 { first.size } else { count.into() };
        let names = if self.names == elf::SHN_XINDEX.0 { first.link } else { self.names.into() };
        let table = part(file, offset, count.min(MAX_SECTIONS) * entry)?;
        let headers: Vec<_> =
            table.chunks_exact(SECTION_HEADER).filter_map(SectionHeader::parse).collect();
        let names = headers.get(usize::try_from(names).ok()?)?;
        part(file, names.offset, names.size)?;
        let start = usize::try_from(names.offset).ok()?;
        let end = usize::try_from(names.offset.checked_add(names.size)?).ok()?;
        Some(Sections { headers, names: start..end })
    }
}

impl Segment {
    /// From a table of program headers.
    pub(super) fn parse_all(table: &[u8]) -> Vec<Self> {
        let table = table.chunks_exact(PROGRAM_HEADER).take(MAX_SEGMENTS);
        table.filter_map(Self::parse).collect()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            kind: field(bytes, 0)?,
            flags: field(bytes, 4)?,
            offset: field(bytes, 8)?,
            address: field(bytes, 16)?,
            file_size: field(bytes, 32)?,
            memory_size: field(bytes, 40)?,
            align: field(bytes, 48)?,
        })
    }

    pub(super) fn is_load(&self) -> bool {
        self.kind == elf::PT_LOAD.0
    }

    pub(super) fn is_executable(&self) -> bool {
        self.flags & elf::PF_X.0 != 0
    }

    pub(super) fn is_writable(&self) -> bool {
        self.flags & elf::PF_W.0 != 0
    }

    /// How far `address` is into what the file holds of this segment.
    pub(super) fn position(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.address).filter(|&into| into < self.file_size)
    }

    /// How many bytes of the file from `offset` on, `len` long, this segment
    /// loads.
    fn overlap(&self, offset: u64, len: u64) -> u64 {
        let end = self.offset.saturating_add(self.file_size).min(offset.saturating_add(len));
        end.saturating_sub(self.offset.max(offset))
    }
}

/// What the image's addresses must be raised by, when the file from `offset`
/// on, for `len` bytes, is mapped as code at `start`.
///
/// The segment decides that the mapping loads. Two of them can share a page
/// of the file, which is then mapped twice; so one that begins in the mapping's
/// first page goes before one that merely reaches into it, and code before
/// data. Never simply the first executable one: a mapping can be split.
pub(super) fn bias(segments: &[Segment], start: u64, offset: u64, len: u64) -> Option<u64> {
    let rank = |segment: &&Segment| {
        // The size of a page does not matter: the mapping's offset is rounded.
        let begins = segment.offset >= offset && segment.offset - offset < len;
        (segment.is_executable(), begins, segment.overlap(offset, len))
    };
    let segment = segments
        .iter()
        .filter(|segment| segment.is_load() && segment.overlap(offset, len) > 0)
        .max_by_key(rank)?;
    let file_start = start.wrapping_sub(offset);
    Some(file_start.wrapping_add(segment.offset).wrapping_sub(segment.address))
}

impl SectionHeader {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            name: field(bytes, 0)?,
            kind: field(bytes, 4)?,
            flags: field(bytes, 8)?,
            address: field(bytes, 16)?,
            offset: field(bytes, 24)?,
            size: field(bytes, 32)?,
            link: field(bytes, 40)?,
        })
    }

    /// The bytes in the file, as they are there.
    pub(super) fn bytes<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let present = self.kind != elf::SHT_NOBITS.0 && self.kind != elf::SHT_NULL.0;
        part(file, self.offset, self.size).filter(|_| present)
    }
}

impl Sections {
    /// The index of the section with this name.
    pub(super) fn find(&self, file: &[u8], name: &str) -> Option<usize> {
        let names = file.get(self.names.clone())?;
        self.headers.iter().position(|header| {
            let from = usize::try_from(header.name).ok().and_then(|at| names.get(at..));
            let rest = from.and_then(|from| from.strip_prefix(name.as_bytes()));
            rest.is_some_and(|rest| rest.first() == Some(&0))
        })
    }
}

/// The build id in a table of notes whose entries are aligned to `align`.
pub(super) fn build_id(notes: &[u8], align: u64) -> Option<&[u8]> {
    // man 5 elf: names and descriptors are padded to 4 bytes; those of
    // segments that are aligned to 8, to 8.
    let align = if align == 8 { 8 } else { 4 };
    let mut rest = notes;
    loop {
        let sizes = (field::<u32>(rest, 0)?, field::<u32>(rest, 4)?);
        let kind: u32 = field(rest, 8)?;
        let (name_size, size) = (usize::try_from(sizes.0).ok()?, usize::try_from(sizes.1).ok()?);
        let name = rest.get(12..12_usize.checked_add(name_size)?)?;
        let start = 12_usize.checked_add(name_size)?.checked_next_multiple_of(align)?;
        let end = start.checked_add(size)?;
        let is_build_id = kind == elf::NT_GNU_BUILD_ID.0 && name == b"GNU\0";
        if is_build_id && (1..=MAX_BUILD_ID).contains(&size) {
            return rest.get(start..end);
        }
        rest = rest.get(end.checked_next_multiple_of(align)?..)?;
    }
}

/// SHA-1 makes 20 bytes; no linker makes more than 64.
const MAX_BUILD_ID: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const R: u32 = elf::PF_R.0;
    const X: u32 = elf::PF_X.0;

    fn load(flags: u32, offset: u64, address: u64, size: u64) -> Segment {
        let kind = elf::PT_LOAD.0;
        let (file_size, memory_size, align) = (size, size, 0x1000);
        Segment { kind, flags, offset, address, file_size, memory_size, align }
    }

    #[test]
    fn the_segment_that_a_mapping_loads_gives_its_bias() {
        const START: u64 = 0x7f00_0000_0000;
        // As lld lays files out: the code's first page is also the last one
        // of the data before it, mapped a second time.
        let shared = [load(R, 0, 0, 0x5e0), load(R | X, 0x5e0, 0x15e0, 0x3000)];
        // Two segments of code that meet in a page.
        let meeting = [
            load(X, 0, 0x40_0000, 0x1800),
            load(X, 0x1800, 0x50_1800, 0x4000),
            load(X, 0x5800, 0x60_5800, 0x10),
        ];
        // Linked to lie above where it lies.
        let high = [load(X, 0x1000, u64::MAX - 0xffff, 0x2000)];
        let cases: [(&[Segment], u64, u64, Option<u64>); 11] = [
            (&shared, 0, 0x4000, Some(START - 0x1000)),
            (&shared, 0x1000, 0x1000, Some(START - 0x2000)),
            (&shared, 0x4000, 0x1000, None),
            (&meeting, 0, 0x2000, Some(START - 0x40_0000)),
            (&meeting, 0x1000, 0x5000, Some(START - 0x50_1000)),
            (&meeting, 0x2000, 0x1000, Some(START - 0x50_2000)),
            (&meeting, 0x5000, 0x1000, Some(START - 0x60_5000)),
            (&high, 0x1000, 0x2000, Some(START + 0x1_0000)),
            (&high, 0x2000, 0x1000, Some(START + 0xf000)),
            (&high, u64::MAX, u64::MAX, None),
            (&[], 0, 0x1000, None),
        ];
        for (segments, offset, len, expected) in cases {
            let found = bias(segments, START, offset, len);
            assert_eq!(found, expected, "{segments:x?} {offset:#x} {len:#x}: {found:x?}");
        }
    }
}
