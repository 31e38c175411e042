//! Images read from the target's memory, because their files cannot be had.

use std::ops::Range;

use object::elf;

use super::{
    elf::{self as headers, FILE_HEADER, FileHeader, Segment},
    image::{Image, Part},
};
use crate::{
    memory::{Address, Memory},
    snapshot::Mapping,
};

/// The most that is copied of one image.
const MAX_COPY: u64 = 256 << 20;

/// How many bytes of program headers are looked at.
const MAX_HEADERS: u64 = (headers::MAX_SEGMENTS * 56) as u64;

/// How many mappings before one the first of its file is looked for.
const MAX_SPLITS: usize = 4096;

/// How much is copied at a time; where that fails, a page at a time.
const STRIDE: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// The headers of an image, where the target has them in its memory.
#[derive(Debug)]
pub(super) struct Base {
    header: FileHeader,
    segments: Vec<Segment>,
    /// The file header and the program headers, as they are there.
    pub(super) bytes: Vec<u8>,
    pub(super) build_id: Option<Vec<u8>>,
    bias: u64,
}

impl Base {
    /// Find the headers of the file that is mapped at `index`: at the nearest
    /// mapping of its start that is not above it.
    pub(super) fn read(mappings: &[Mapping], index: usize, memory: &dyn Memory) -> Option<Self> {
        let wanted = mappings.get(index)?;
        let below = mappings.get(..=index)?.iter().rev().take(MAX_SPLITS);
        let mut same = below.filter(|mapping| {
            (mapping.device, mapping.inode) == (wanted.device, wanted.inode)
                && mapping.backing == wanted.backing
        });
        Self::at(same.find(|mapping| mapping.offset == 0)?.range.start, memory)
    }

    fn at(start: Address, memory: &dyn Memory) -> Option<Self> {
        let mut bytes = vec![0; FILE_HEADER];
        memory.read(start, &mut bytes).ok()?;
        let header = FileHeader::parse(&bytes)?;
        let (offset, len) = header.program_headers();
        let end = offset.checked_add(len.min(MAX_HEADERS))?;
        if offset < FILE_HEADER as u64 || end > MAX_HEADERS + PAGE {
            return None;
        }
        bytes.resize(usize::try_from(end).ok()?, 0);
        memory.read(start, &mut bytes).ok()?;
        let segments = Segment::parse_all(headers::part(&bytes, offset, end - offset)?);
        let first = segments.iter().find(|segment| segment.is_load() && segment.offset == 0)?;
        let bias = start.0.wrapping_sub(first.address);
        let mut base = Self { header, segments, bytes, build_id: None, bias };
        base.build_id = base.find_build_id(memory);
        Some(base)
    }

    fn find_build_id(&self, memory: &dyn Memory) -> Option<Vec<u8>> {
        let mut notes = self.segments.iter().filter(|segment| segment.kind == elf::PT_NOTE.0);
        notes.find_map(|segment| {
            let mut bytes =
                vec![0; usize::try_from(segment.file_size.min(headers::MAX_NOTES)).ok()?];
            memory.read(Address(self.bias).plus(segment.address), &mut bytes).ok()?;
            headers::build_id(&bytes, segment.align).map(<[u8]>::to_vec)
        })
    }

    /// What the image's addresses are raised by.
    pub(super) fn bias(&self) -> u64 {
        self.bias
    }

    /// Whether the image has code at all of `range`.
    pub(super) fn has_code(&self, range: &Range<Address>) -> bool {
        let (start, end) =
            (range.start.0.wrapping_sub(self.bias), range.end.0.wrapping_sub(self.bias));
        let code =
            self.segments.iter().filter(|segment| segment.is_load() && segment.is_executable());
        code.into_iter().any(|segment| {
            // The last page is mapped whole, and pages are of up to 64 KiB.
            let limit = segment.address.saturating_add(segment.memory_size);
            let limit = limit.checked_next_multiple_of(64 << 10).unwrap_or(u64::MAX);
            segment.address & !0xffff <= start && start < end && end <= limit
        })
    }

    /// Whether `image` is what was mapped, by its build id. Where there is
    /// none, `likely` decides between images that are laid out alike.
    pub(super) fn is(&self, image: &Image, likely: bool) -> bool {
        let alike = image.header().entry == self.header.entry && image.segments() == self.segments;
        let build_ids = (image.build_id(), self.build_id.as_deref());
        alike && if build_ids == (None, None) { likely } else { build_ids.0 == build_ids.1 }
    }

    /// Copy the image. Unwind data and symbols first: the code, which may be
    /// large, is what can best be missed.
    pub(super) fn copy(self, memory: &dyn Memory) -> Image {
        let mut loads: Vec<_> =
            self.segments.iter().filter(|segment| segment.is_load()).copied().collect();
        loads.sort_by_key(|segment| (segment.is_executable(), segment.file_size));
        let (mut parts, mut left) = (Vec::new(), MAX_COPY);
        for segment in &loads {
            copy_segment(segment, self.bias, memory, (&mut parts, &mut left));
        }
        Image::from_parts(self.header, self.segments, parts, self.bias)
    }
}

/// Copy what can be read of a segment, in as many parts as that takes, while
/// there is something `left` of the budget.
fn copy_segment(
    segment: &Segment,
    bias: u64,
    memory: &dyn Memory,
    (parts, left): (&mut Vec<Part>, &mut u64),
) {
    let mut part = Part { address: segment.address, bytes: Vec::new() };
    let (mut done, mut stride) = (0, STRIDE);
    while done < segment.file_size && *left > 0 {
        let address = segment.address.wrapping_add(done);
        // Up to the next page in the target: a part of a page cannot be missing.
        let at = Address(address).plus(bias);
        let len = (stride - at.0 % stride).min(segment.file_size - done).min(*left);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        if memory.read(at, &mut bytes).is_ok() {
            part.bytes.append(&mut bytes);
        } else if stride == STRIDE {
            stride = PAGE;
            continue;
        } else {
            let next = Part { address: address.wrapping_add(len), bytes: Vec::new() };
            parts.extend(Some(std::mem::replace(&mut part, next)).filter(|p| !p.bytes.is_empty()));
        }
        done += len;
        *left -= len;
        // Past the gap, or at the end of the stride that it is in.
        if at.plus(len).0.is_multiple_of(STRIDE) {
            stride = STRIDE;
        }
    }
    parts.extend(Some(part).filter(|part| !part.bytes.is_empty()));
}
