//! Files mapped into our own memory.

use std::{fs::File, io};

use memmap2::{Mmap, MmapOptions};

/// Map `file` from its start to its present end, read-only and private.
///
/// # Errors
/// What `man 2 mmap` says; an empty file cannot be mapped.
pub(crate) fn read_only(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and never written by us, and its bytes are
    // only ever decoded as plain integers; of a file that others change
    // meanwhile we read the old or the new bytes, and trust neither. Whoever
    // truncates it in place makes a later read a SIGBUS, which ends us but
    // reads nothing that is not ours: `module::FileBytes` says why that is
    // left to the largest files alone.
    unsafe { MmapOptions::new().map_copy_read_only(file) }
}
