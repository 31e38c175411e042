//! The memory that a process has for itself, and has written to.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use super::Process;
use crate::{
    memory::{Address, Plain},
    snapshot::{Backing, Mapping},
};

/// The bits of a word of `/proc/PID/pagemap` that say that there is something in
/// a page: it is in memory, or swapped out (Documentation/admin-guide/mm/
/// pagemap.rst).
const PRESENT: u64 = 1 << 63 | 1 << 62;

/// The most pages that are asked about, 64 GiB of addresses: some programs
/// reserve far more than they ever use.
const MOST: u64 = 16 << 20;

/// Bytes that are read at a time: a word for each page.
const STRIDE: usize = 64 << 10;

/// See [`Process::written`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The addresses, ascending.
    pub ranges: Vec<Range<Address>>,
    /// Whether that is not all of it.
    pub is_cut: bool,
}

impl Process {
    /// Where the process has memory of its own that it has written to: heaps, and
    /// the stacks of its threads as far as they were used.
    ///
    /// Only that is worth searching. To read a page that was never written to
    /// would have the kernel make one.
    ///
    /// # Errors
    /// When the process is gone, or may not be read.
    pub fn written(&self) -> io::Result<Written> {
        let pages = File::open(format!("/proc/{}/pagemap", self.pid))?;
        let mut written = Written::default();
        let (size, mut left) = (procfs::page_size(), MOST);
        let is_own = |mapping: &Mapping| {
            mapping.backing == Backing::Anonymous && mapping.readable && !mapping.executable
        };
        // The kernel's own pages lie above all that a process may have.
        let is_low = |mapping: &Mapping| mapping.range.end.0 < 1 << 63;
        for mapping in self.mappings()?.into_iter().filter(|it| is_own(it) && is_low(it)) {
            let Range { start, end } = mapping.range;
            let count = (end.0 - start.0) / size;
            written.is_cut |= count > left;
            add(&pages, (start, count.min(left)), size, &mut written.ranges)?;
            left -= count.min(left);
        }
        Ok(written)
    }
}

/// Add to `ranges` those of `count` pages from `start` on that there is something
/// in.
fn add(
    pages: &File,
    (start, count): (Address, u64),
    size: u64,
    ranges: &mut Vec<Range<Address>>,
) -> io::Result<()> {
    let mut bytes = [0; STRIDE];
    let (mut at, mut left) = (start.0, count.saturating_mul(8));
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(STRIDE).min(STRIDE);
        let Some(bytes) = bytes.get_mut(..len) else { break };
        pages.read_exact_at(bytes, at / size * 8)?;
        for word in bytes.chunks_exact(8).filter_map(u64::decode) {
            let page = Address(at)..Address(at + size);
            at += size;
            match ranges.last_mut() {
                _ if word & PRESENT == 0 => {}
                Some(last) if last.end == page.start => last.end = page.end,
                _ => ranges.push(page),
            }
        }
        left -= len as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Pid;

    #[test]
    fn what_was_written_is_found_and_what_was_not_is_not() {
        const LENGTH: usize = 64 << 20;
        let process = Process::open(Pid(std::process::id().cast_signed())).unwrap();
        // So large a vector of zeroes has a mapping to itself that nobody wrote to.
        let mut zeroes = vec![0_u8; LENGTH];
        let middle = LENGTH / 2;
        zeroes[middle] = 1;
        let place = Address(zeroes.as_ptr() as u64 + middle as u64);
        let written = process.written().unwrap();
        assert!(!written.is_cut);
        assert!(written.ranges.is_sorted_by_key(|range| range.start));
        let found = written.ranges.iter().find(|range| range.contains(&place)).unwrap();
        // A huge page may have been given for one byte.
        assert!(found.end.0 - found.start.0 < LENGTH as u64 / 2, "{found:?}");
        assert_eq!(zeroes[middle], 1);
    }
}
