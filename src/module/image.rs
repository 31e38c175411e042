//! One ELF image.

use std::path::Path;

use crate::{snapshot::Root, stack::ModuleId};

/// Bytes of an image, and where they lie in its own (virtual) addresses.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// The virtual address of the first byte, as the image counts.
    pub address: u64,
    /// The bytes, decompressed.
    pub bytes: &'a [u8],
}

/// An ELF image: an executable, a library, the vdso. Shared by all processes
/// that map it.
#[derive(Debug)]
pub struct Module {
    id: ModuleId,
}

impl Module {
    /// Its number.
    pub fn id(&self) -> ModuleId {
        self.id
    }
    /// The file's name without its directory, or `[vdso]`.
    pub fn name(&self) -> &str {
        ""
    }
    /// The file's path below the root of the process that it was first seen in.
    pub fn path(&self) -> Option<&Path> {
        None
    }
    /// The root that [`path`](Self::path) lies below.
    pub fn root(&self) -> &Root {
        panic!()
    }
    /// The build id, where the image has one.
    pub fn build_id(&self) -> Option<&[u8]> {
        None
    }
    /// The ELF file, whole; `None` when the file could not be had and the
    /// image was copied from the target's memory, where only what is loaded is.
    pub fn file(&self) -> Option<&[u8]> {
        None
    }
    /// `.eh_frame`, found by section or by program header.
    pub fn eh_frame(&self) -> Option<Section<'_>> {
        None
    }
    /// `.eh_frame_hdr`.
    pub fn eh_frame_hdr(&self) -> Option<Section<'_>> {
        None
    }
    /// `.debug_frame`.
    pub fn debug_frame(&self) -> Option<Section<'_>> {
        None
    }
    /// A section by its name, where the image has section headers.
    pub fn section(&self, name: &str) -> Option<Section<'_>> {
        let _ = name;
        None
    }
    /// The virtual address where the program starts.
    pub fn entry(&self) -> u64 {
        0
    }
    /// What the image holds at a virtual address of its own, before
    /// relocation: `len` bytes, or fewer at the end of a segment.
    pub fn loaded(&self, address: u64, len: usize) -> Option<&[u8]> {
        let _ = (address, len);
        None
    }
}
