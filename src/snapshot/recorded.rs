//! The memory that was copied with a snapshot.

use std::ops::Range;

use super::{Backing, Mapping, Process, Thread};
use crate::memory::{Address, Fault, Memory, Piece};

/// What was copied of a process, as one thread saw it: the thread's own pieces
/// first, then those of the process.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    thread: &'a [Piece],
    process: &'a [Piece],
}

impl<'a> Recorded<'a> {
    /// The memory of `thread` of `process`.
    pub fn new(process: &'a Process, thread: &'a Thread) -> Self {
        Self { thread: &thread.pieces, process: &process.pieces }
    }

    /// The first piece that holds `at`.
    fn piece(&self, at: Address) -> Option<&'a Piece> {
        self.thread.iter().chain(self.process).find(|piece| piece.slice(at, 1).is_some())
    }

    /// What is held from `at` to the end of the first piece that holds it.
    fn rest(&self, at: Address) -> Option<&'a [u8]> {
        let piece = self.piece(at)?;
        piece.bytes.get(usize::try_from(at.0.checked_sub(piece.start.0)?).ok()?..)
    }
}

impl Memory for Recorded<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let fault = Fault { at, len: into.len() };
        // Mappings that touch are separate pieces, so a read may cross over.
        let (mut at, mut left) = (at, into);
        while !left.is_empty() {
            let rest = self.rest(at).ok_or(fault)?;
            let len = rest.len().min(left.len());
            let (now, later) = left.split_at_mut_checked(len).ok_or(fault)?;
            now.copy_from_slice(rest.get(..len).ok_or(fault)?);
            at = at.0.checked_add(len as u64).map(Address).ok_or(fault)?;
            left = later;
        }
        Ok(())
    }

    fn copied(&self, at: Address) -> Option<(Address, &[u8])> {
        self.piece(at)?.copied(at)
    }
}

/// The ranges to copy with a snapshot so that every image can be read later:
/// those of the vdso, and of executable images that no path leads to (the
/// whole image, for its unwind data lies beside its code).
pub fn without_file(mappings: &[Mapping]) -> Vec<Range<Address>> {
    let gone = |mapping: &Mapping| match mapping.backing {
        Backing::Vdso => true,
        Backing::Deleted(_) => mapping.executable,
        Backing::File(_) | Backing::Anonymous => false,
    };
    let same = |one: &Mapping, other: &Mapping| {
        (one.device, one.inode, &one.backing) == (other.device, other.inode, &other.backing)
    };
    let wanted: Vec<&Mapping> = mappings.iter().filter(|mapping| gone(mapping)).collect();
    mappings
        .iter()
        .filter(|mapping| mapping.readable && wanted.iter().any(|image| same(image, mapping)))
        .map(|mapping| mapping.range.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        snapshot::{Registers, Root, maps},
        task::{Pid, State, Tid},
    };

    #[test]
    fn a_read_may_cross_from_piece_to_piece_but_not_over_a_gap() {
        let piece = |start, bytes: &[u8]| Piece { start: Address(start), bytes: bytes.to_vec() };
        let thread = Thread {
            tid: Tid(1),
            name: String::new(),
            state: State::Running,
            registers: Registers::unknown(),
            pieces: vec![piece(0x100, &[1, 2]), piece(0x300, &[])],
        };
        let process = Process {
            pid: Pid(1),
            mappings: Vec::new(),
            root: Root { directory: "/".into(), map_files: None },
            threads: Vec::new(),
            pieces: vec![piece(0x101, &[9, 3, 4]), piece(u64::MAX, &[7, 8])],
        };
        let memory = Recorded::new(&process, &thread);
        let mut bytes = [0; 4];
        assert_eq!(memory.read(Address(0x100), &mut bytes), Ok(()));
        assert_eq!(bytes, [1, 2, 3, 4]);
        let fault = |at| Fault { at: Address(at), len: 4 };
        assert_eq!(memory.read(Address(0x101), &mut bytes), Err(fault(0x101)));
        assert_eq!(memory.read(Address(0xff), &mut bytes), Err(fault(0xff)));
        assert_eq!(memory.read(Address(u64::MAX), &mut bytes), Err(fault(u64::MAX)));
        assert_eq!(memory.read(Address(0x300), &mut []), Ok(()));
        let at = |at| memory.copied(Address(at));
        assert_eq!(at(0x101), Some((Address(0x100), &[1, 2][..])));
        assert_eq!(at(0x102), Some((Address(0x101), &[9, 3, 4][..])));
        assert_eq!((at(0xff), at(0x300)), (None, None));
    }

    #[test]
    fn an_image_without_a_file_is_wanted_whole() {
        let mappings = maps::parse(
            b"1000-2000 r--p 0 00:01 7 /gone (deleted)\n\
              2000-3000 r-xp 1000 00:01 7 /gone (deleted)\n\
              3000-4000 ---p 2000 00:01 7 /gone (deleted)\n\
              4000-5000 rw-s 0 00:01 8 /dev/zero (deleted)\n\
              5000-6000 r-xp 0 00:01 9 /here\n\
              6000-7000 r-xp 0 00:00 0 [vdso]\n\
              7000-8000 rwxp 0 00:00 0\n",
        );
        let starts: Vec<u64> = without_file(&mappings).iter().map(|range| range.start.0).collect();
        assert_eq!(starts, [0x1000, 0x2000, 0x6000]);
    }
}
