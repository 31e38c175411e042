//! Sections that are compressed.

use object::{
    elf,
    read::{CompressedData, CompressionFormat},
};

use super::elf::field;

/// What `.zdebug_*` sections begin with; the size follows, big-endian.
pub(super) const OLD_MAGIC: &[u8] = b"ZLIB";

/// The size of the header that `SHF_COMPRESSED` promises (man 5 elf: Chdr).
const HEADER: usize = 24;

/// What `raw` inflates to. `with_header` tells the two ways to compress apart.
pub(super) fn inflate(raw: &[u8], with_header: bool) -> Option<Box<[u8]>> {
    let (format, size, data) = if with_header {
        let kind: u32 = field(raw, 0)?;
        let format = match kind {
            _ if kind == elf::ELFCOMPRESS_ZLIB.0 => CompressionFormat::Zlib,
            _ if kind == elf::ELFCOMPRESS_ZSTD.0 => CompressionFormat::Zstandard,
            _ => return None,
        };
        (format, field::<u64>(raw, 8)?, raw.get(HEADER..)?)
    } else {
        let rest = raw.strip_prefix(OLD_MAGIC)?;
        let size: &[u8; 8] = rest.first_chunk()?;
        (CompressionFormat::Zlib, u64::from_be_bytes(*size), rest.get(8..)?)
    };
    if size > limit(data.len()) {
        return None;
    }
    let data = CompressedData { format, data, uncompressed_size: size };
    Some(data.decompress().ok()?.into_owned().into_boxed_slice())
}

/// The most that `len` bytes may claim to inflate to. Debug information
/// shrinks to a third; tables of zeros, which are small, to a thousandth.
fn limit(len: usize) -> u64 {
    (len as u64).saturating_mul(100).saturating_add(1 << 20)
}
