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

#[cfg(test)]
mod tests {
    use super::*;

    /// zlib's format (RFC 1950) of "spy" without compression.
    const ZLIB: &[u8] = b"\x78\x01\x01\x03\x00\xfc\xffspy\x02\xb5\x01\x5d";
    /// Zstandard's (RFC 8878).
    const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00spy";

    fn with_header(kind: u32, size: u64, data: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes(), &[0; 4][..], &size.to_le_bytes(), &[0; 8], data].concat()
    }

    #[test]
    fn every_format_is_inflated() {
        let old = [OLD_MAGIC, &3_u64.to_be_bytes(), ZLIB].concat();
        assert_eq!(inflate(&old, false).as_deref(), Some(&b"spy"[..]));
        assert_eq!(inflate(&with_header(1, 3, ZLIB), true).as_deref(), Some(&b"spy"[..]));
        assert_eq!(inflate(&with_header(2, 3, ZSTD), true).as_deref(), Some(&b"spy"[..]));
    }

    #[test]
    fn what_does_not_keep_its_promise_is_refused() {
        let wrong = [
            with_header(1, 4, ZLIB),
            with_header(2, 4, ZSTD),
            with_header(2, 2, ZSTD),
            with_header(3, 3, ZLIB),
            with_header(1, u64::MAX, ZLIB),
            with_header(1, 1 << 40, ZLIB),
            with_header(1, 3, b""),
            Vec::new(),
        ];
        for raw in wrong {
            assert_eq!(inflate(&raw, true), None, "{raw:?}");
        }
        assert_eq!(inflate(OLD_MAGIC, false), None);
    }
}
