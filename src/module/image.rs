//! One ELF image.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian};
use object::elf;

use super::{
    compressed,
    dynamic::Dynamic,
    elf::{self as headers, FileHeader, Sections, Segment},
    file::FileBytes,
};
use crate::{snapshot::Root, stack::ModuleId};

/// Bytes of an image, and where they lie in its own (virtual) addresses.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// The virtual address of the first byte, as the image counts; 0 for what
    /// is not loaded.
    pub address: u64,
    /// The bytes, decompressed.
    pub bytes: &'a [u8],
}

/// An ELF image: an executable, a library, the vdso. Shared by all processes
/// that map it.
#[derive(Debug)]
pub struct Module {
    id: ModuleId,
    name: String,
    path: Option<PathBuf>,
    root: Root,
    image: Image,
    /// Answers that were found out once, by their questions.
    remembered: Mutex<Vec<(&'static str, bool)>>,
}

/// The most bytes that are searched for the end of `.eh_frame`: a hundred
/// times what a large program has.
const MAX_EH_FRAME: usize = 256 << 20;

/// Part of an image, copied from where a process had it.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The virtual address of the first byte, as the image counts.
    pub(super) address: u64,
    /// The bytes, as the process had them.
    pub(super) bytes: Vec<u8>,
}

/// What is known of an image's bytes.
#[derive(Debug)]
enum Contents {
    /// All that is in the file.
    File(FileBytes),
    /// What was loaded, by address.
    Parts(Vec<Part>),
}

/// The bytes of an image, and what its headers say of them.
#[derive(Debug)]
pub(super) struct Image {
    contents: Contents,
    header: FileHeader,
    segments: Vec<Segment>,
    sections: Sections,
    /// For each section its bytes, if they had to be decompressed and were
    /// asked for.
    decompressed: Vec<OnceLock<Option<Box<[u8]>>>>,
    dynamic: Dynamic,
    /// Where the program headers say that `.eh_frame` is: address and length.
    eh_frame: OnceLock<Option<(u64, usize)>>,
}

impl Image {
    /// An image of which the whole file is there.
    pub(super) fn from_file(file: FileBytes) -> Option<Self> {
        let header = FileHeader::parse(&file)?;
        let (offset, len) = header.program_headers();
        let segments = Segment::parse_all(headers::part(&file, offset, len)?);
        let sections = header.sections(&file);
        Some(Self::new(Contents::File(file), header, segments, sections))
    }

    /// An image of which only what was loaded is there.
    pub(super) fn from_parts(
        header: FileHeader,
        segments: Vec<Segment>,
        mut parts: Vec<Part>,
        bias: u64,
    ) -> Self {
        parts.sort_by_key(|part| part.address);
        let contents = Contents::Parts(parts);
        let mut image = Self::new(contents, header, segments, Sections::default());
        image.dynamic = Dynamic::read(&image, bias);
        image
    }

    fn new(
        contents: Contents,
        header: FileHeader,
        segments: Vec<Segment>,
        sections: Sections,
    ) -> Self {
        let decompressed = sections.headers.iter().map(|_| OnceLock::new()).collect();
        let mut image = Self {
            contents,
            header,
            segments,
            sections,
            decompressed,
            dynamic: Dynamic::default(),
            eh_frame: OnceLock::new(),
        };
        image.dynamic = Dynamic::read(&image, 0);
        image
    }

    pub(super) fn header(&self) -> &FileHeader {
        &self.header
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The first segment of a kind.
    pub(super) fn segment(&self, kind: u32) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.kind == kind)
    }

    pub(super) fn loaded(&self, address: u64, len: usize) -> Option<&[u8]> {
        match &self.contents {
            Contents::File(file) => {
                let mut loads = self.segments.iter().filter(|segment| segment.is_load());
                let (segment, into) =
                    loads.find_map(|segment| Some((segment, segment.position(address)?)))?;
                let rest = usize::try_from(segment.file_size - into).unwrap_or(usize::MAX);
                let start = usize::try_from(segment.offset.checked_add(into)?).ok()?;
                let from = file.get(start..).filter(|from| !from.is_empty())?;
                from.get(..len.min(rest).min(from.len()))
            }
            Contents::Parts(parts) => {
                let after = parts.partition_point(|part| part.address <= address);
                let part = parts.get(after.checked_sub(1)?)?;
                let from = part.bytes.get(usize::try_from(address - part.address).ok()?..)?;
                from.get(..len.min(from.len())).filter(|_| !from.is_empty())
            }
        }
    }

    fn file(&self) -> Option<&FileBytes> {
        match &self.contents {
            Contents::File(file) => Some(file),
            Contents::Parts(_) => None,
        }
    }

    pub(super) fn build_id(&self) -> Option<&[u8]> {
        let mut notes = self.segments.iter().filter(|segment| segment.kind == elf::PT_NOTE.0);
        let of_segment = notes.find_map(|segment| {
            let len = usize::try_from(segment.file_size.min(headers::MAX_NOTES)).ok()?;
            let notes = self.loaded(segment.address, len)?;
            headers::build_id(notes, segment.align)
        });
        let of_section = || headers::build_id(self.by_header(".note.gnu.build-id")?.bytes, 4);
        of_segment.or_else(of_section)
    }

    pub(super) fn section(&self, name: &str) -> Option<Section<'_>> {
        match self.find(name) {
            // What the program headers say of a file of debug information is
            // not in it; so its section headers decide.
            Some((file, index)) => self.section_at(file, index),
            None => self.by_segment(name),
        }
    }

    /// The section of a name, for an image that has section headers.
    fn by_header(&self, name: &str) -> Option<Section<'_>> {
        let (file, index) = self.find(name)?;
        self.section_at(file, index)
    }

    fn find(&self, name: &str) -> Option<(&FileBytes, usize)> {
        let file = self.file()?;
        let old = || self.sections.find(file, &format!(".z{}", name.strip_prefix('.')?));
        Some((file, self.sections.find(file, name).or_else(old)?))
    }

    /// What the program headers know of a section.
    pub(super) fn by_segment(&self, name: &str) -> Option<Section<'_>> {
        match name {
            ".eh_frame_hdr" => self.span(elf::PT_GNU_EH_FRAME.0),
            ".eh_frame" => self.eh_frame_by_segment(),
            ".dynamic" => self.span(elf::PT_DYNAMIC.0),
            ".dynsym" => self.at(self.dynamic.symbols?),
            ".dynstr" => self.at(self.dynamic.strings?),
            _ => None,
        }
    }

    fn section_at<'a>(&'a self, file: &'a FileBytes, index: usize) -> Option<Section<'a>> {
        let header = self.sections.headers.get(index)?;
        let raw = header.bytes(file)?;
        let compressed = header.flags & elf::SHF_COMPRESSED.0 != 0;
        let bytes = if compressed || raw.starts_with(compressed::OLD_MAGIC) {
            let inflate = || compressed::inflate(raw, compressed);
            self.decompressed.get(index)?.get_or_init(inflate).as_deref()?
        } else {
            raw
        };
        Some(Section { address: header.address, bytes })
    }

    /// The loaded bytes of the first segment of a kind.
    fn span(&self, kind: u32) -> Option<Section<'_>> {
        let segment = self.segment(kind)?;
        self.at((segment.address, usize::try_from(segment.file_size).ok()?))
    }

    fn at(&self, (address, len): (u64, usize)) -> Option<Section<'_>> {
        Some(Section { address, bytes: self.loaded(address, len)? })
    }

    /// `.eh_frame` of an image without section headers, or of one that was
    /// copied: `.eh_frame_hdr` points to it.
    fn eh_frame_by_segment(&self) -> Option<Section<'_>> {
        let find = || {
            let header = self.span(elf::PT_GNU_EH_FRAME.0)?;
            let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
            let parsed = EhFrameHdr::new(header.bytes, LittleEndian).parse(&bases, 8).ok()?;
            let address = parsed.eh_frame_ptr().direct().ok()?;
            Some((address, entries_len(self.loaded(address, MAX_EH_FRAME)?)))
        };
        self.at((*self.eh_frame.get_or_init(find))?)
    }

    /// The table by which the dynamic linker looks names up.
    pub(super) fn gnu_hash(&self) -> Option<u64> {
        self.dynamic.gnu_hash
    }

    /// Where the dynamic symbols and their names are.
    pub(super) fn dynamic_tables(&self) -> Option<(u64, u64)> {
        Some((self.dynamic.symbols?.0, self.dynamic.strings?.0))
    }

    pub(super) fn got_address(&self) -> Option<u64> {
        self.by_header(".got").map(|got| got.address).or(self.dynamic.got)
    }
}

/// How many of `bytes` are entries of an `.eh_frame` that begins with them: up
/// to the terminator, or to what cannot be an entry, since the length is
/// written nowhere.
fn entries_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let Some(next) = entry_end(bytes, at) else { return at };
        at = next;
    }
}

/// Where the entry at `at` ends.
fn entry_end(bytes: &[u8], at: usize) -> Option<usize> {
    let short: u32 = headers::field(bytes, at)?;
    let (id_at, len) = match short {
        // The terminator.
        0 => return None,
        u32::MAX => (at.checked_add(12)?, headers::field::<u64>(bytes, at.checked_add(4)?)?),
        _ => (at.checked_add(4)?, u64::from(short)),
    };
    let end = id_at.checked_add(usize::try_from(len).ok()?)?;
    // Either a CIE, whose number is 0, or an FDE, which says how far back its
    // CIE is.
    let id: u32 = headers::field(bytes, id_at)?;
    let back = usize::try_from(id).ok()?;
    (back <= id_at && len >= 4 && end <= bytes.len()).then_some(end)
}

impl Module {
    pub(super) fn new(id: ModuleId, path: Option<PathBuf>, root: Root, image: Image) -> Self {
        let file_name = path.as_deref().and_then(Path::file_name);
        let name = file_name.map_or("[vdso]".into(), OsStr::to_string_lossy).into_owned();
        Self { id, name, path, root, image, remembered: Mutex::default() }
    }

    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    /// Its number.
    pub fn id(&self) -> ModuleId {
        self.id
    }

    /// The file's name without its directory, or `[vdso]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's path below the root of the process that it was first seen
    /// in: where it is, or was before it was deleted. `None` for the vdso.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The root that [`path`](Self::path) lies below.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The build id, where the image has one: 1 to 64 bytes.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.image.build_id()
    }

    /// The ELF file, whole (the vdso is one, too); `None` when the file could
    /// not be had and the image was copied from the target's memory, where
    /// only what is loaded is.
    pub fn file(&self) -> Option<&[u8]> {
        self.image.file().map(|file| &file[..])
    }

    /// `.eh_frame`, found by section or by program header.
    pub fn eh_frame(&self) -> Option<Section<'_>> {
        self.image.section(".eh_frame")
    }

    /// `.eh_frame_hdr`, found by section or by program header.
    pub fn eh_frame_hdr(&self) -> Option<Section<'_>> {
        self.image.section(".eh_frame_hdr")
    }

    /// `.debug_frame`.
    pub fn debug_frame(&self) -> Option<Section<'_>> {
        self.image.section(".debug_frame")
    }

    /// A section by its name, where the image has section headers; without
    /// them still `.eh_frame_hdr`, `.eh_frame`, `.dynamic`, `.dynsym` and
    /// `.dynstr`. `.debug_info` also finds an old `.zdebug_info`. `None` also
    /// for sections that take no room in the file, and damaged ones.
    pub fn section(&self, name: &str) -> Option<Section<'_>> {
        self.image.section(name)
    }

    /// The virtual address of `.text`, which the pointers in unwind data may
    /// be relative to.
    pub fn text_address(&self) -> Option<u64> {
        self.image.by_header(".text").map(|text| text.address)
    }

    /// The virtual address of the global offset table, which the pointers in
    /// unwind data may be relative to.
    pub fn got_address(&self) -> Option<u64> {
        self.image.got_address()
    }

    /// The virtual address where the program starts.
    pub fn entry(&self) -> u64 {
        self.image.header.entry
    }

    /// What the image holds at a virtual address of its own: `len` bytes, or
    /// fewer at the end of a segment. Before relocation, but what was copied
    /// from the target's memory is as it was there.
    pub fn loaded(&self, address: u64, len: usize) -> Option<&[u8]> {
        self.image.loaded(address, len)
    }

    /// What the image holds of each of its segments, before relocation.
    pub fn contents(&self) -> impl Iterator<Item = &[u8]> {
        let loads = self.image.segments.iter().filter(|segment| segment.is_load());
        loads.filter_map(|segment| self.loaded(segment.address, usize::MAX))
    }

    /// The answer to a question about the image's bytes, which is found out the
    /// first time that it is asked: for what takes long, and is wanted in each of
    /// many processes.
    pub fn remembered(&self, question: &'static str, find: impl FnOnce() -> bool) -> bool {
        let known = || self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, answer)) = known().iter().find(|(asked, _)| *asked == question) {
            return *answer;
        }
        let answer = find();
        known().push((question, answer));
        answer
    }
}
