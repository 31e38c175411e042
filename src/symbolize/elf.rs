//! An ELF file, as far as names are in it.

use std::io::Read;

use object::{
    CompressionFormat, LittleEndian, Object, ObjectSection, SectionKind, read::elf::ElfFile64,
};

use super::bytes::Bytes;

/// The largest section that is decompressed. Debug information of a browser
/// has 2 GB; what claims to be larger than this is read without it.
const MAX_SECTION: u64 = 1 << 30;

/// The largest ELF file that is taken out of `.gnu_debugdata`. It holds a
/// symbol table: those of the largest programs have tens of megabytes.
const MAX_MINI: u64 = 128 << 20;

/// How much memory the decoder of `.gnu_debugdata` may have, in KiB.
const MAX_DICTIONARY: u32 = 128 << 10;

/// How many sections are told apart. A linked program has some forty.
const MAX_EXTENTS: usize = 1024;

type File<'a> = ElfFile64<'a, LittleEndian>;

/// Where a section lies in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// The virtual address of its first byte.
    pub(super) address: u64,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Whether it holds code.
    pub(super) code: bool,
}

impl Extent {
    /// Whether an address lies in it.
    pub(super) fn holds(self, at: u64) -> bool {
        at.checked_sub(self.address).is_some_and(|offset| offset < self.size)
    }
}

/// An ELF file of 64 bits, little-endian.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    bytes: Bytes,
}

impl Elf {
    /// `bytes` as an ELF file, if they are one.
    pub(super) fn new(bytes: Bytes) -> Option<Self> {
        let elf = Self { bytes };
        elf.file()?;
        Some(elf)
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn file(&self) -> Option<File<'_>> {
        File::parse(self.bytes.slice()).ok()
    }

    /// What lies where.
    pub(super) fn extents(&self) -> Vec<Extent> {
        let Some(file) = self.file() else { return Vec::new() };
        let loaded = file.sections().filter(|section| section.address() != 0);
        loaded
            .take(MAX_EXTENTS)
            .map(|section| Extent {
                address: section.address(),
                size: section.size(),
                code: section.kind() == SectionKind::Text,
            })
            .collect()
    }

    /// Where a section lies in memory.
    pub(super) fn extent(&self, name: &str) -> Option<Extent> {
        let file = self.file()?;
        let section = file.section_by_name(name)?;
        Some(Extent { address: section.address(), size: section.size(), code: true })
    }

    /// The bytes of a section, decompressed; `None` where there is no such
    /// section, or where it has no bytes in this file.
    pub(super) fn section(&self, name: &str) -> Option<Bytes> {
        let file = self.file()?;
        let section = file.section_by_name(name)?;
        let found = section.compressed_file_range().ok()?;
        if found.compressed_size == 0 || found.uncompressed_size > MAX_SECTION {
            return None;
        }
        if found.format == CompressionFormat::None {
            return self.bytes.part(found.offset, found.compressed_size);
        }
        let data = found.data(self.bytes.slice()).ok()?.decompress().ok()?;
        Some(Bytes::copied(data.into_owned()))
    }

    /// Whether there is a section with this name that has bytes in this file.
    pub(super) fn has(&self, name: &str) -> bool {
        let Some(file) = self.file() else { return false };
        let section = file.section_by_name(name);
        section.and_then(|section| section.file_range()).is_some_and(|(_, size)| size > 0)
    }

    /// The build id.
    pub(super) fn build_id(&self) -> Option<Vec<u8>> {
        self.file()?.build_id().ok()?.map(<[u8]>::to_vec)
    }

    /// The name of the separate debug file, and the checksum of its bytes.
    pub(super) fn debug_link(&self) -> Option<(Vec<u8>, u32)> {
        let (name, checksum) = self.file()?.gnu_debuglink().ok()??;
        Some((name.to_vec(), checksum))
    }

    /// The path and the build id of the file that holds what several debug
    /// files share.
    pub(super) fn alternate_link(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (path, build_id) = self.file()?.gnu_debugaltlink().ok()??;
        Some((path.to_vec(), build_id.to_vec()))
    }

    /// The small ELF file with more symbols that some distributions pack into
    /// their stripped programs.
    pub(super) fn mini(&self) -> Option<Self> {
        let packed = self.section(".gnu_debugdata")?;
        let reader = lzma_rust2::XzReader::new_mem_limit(packed.slice(), false, MAX_DICTIONARY);
        let mut unpacked = Vec::new();
        let size = reader.take(MAX_MINI + 1).read_to_end(&mut unpacked).ok()?;
        (size as u64 <= MAX_MINI).then(|| Self::new(Bytes::copied(unpacked)))?
    }
}

/// The checksum that `.gnu_debuglink` has of the file it names: CRC-32 as in
/// IEEE 802.3, bits reversed.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, &byte| {
        let low = usize::from(sum.to_le_bytes()[0] ^ byte);
        CRC.get(low).copied().unwrap_or_default() ^ (sum >> 8)
    })
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let (mut value, mut bit) = (byte, 0);
        while bit < 8 {
            value = if value & 1 == 0 { value >> 1 } else { (value >> 1) ^ 0xedb8_8320 };
            bit += 1;
        }
        table[byte as usize] = value;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_no_elf_file_is_none() {
        assert!(Elf::new(Bytes::copied(Vec::new())).is_none());
        assert!(Elf::new(Bytes::copied(b"\x7fELF\x02\x01\x01".to_vec())).is_none());
    }
}
