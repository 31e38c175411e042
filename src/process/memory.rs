//! The memory of a live process.

use std::{
    cell::Cell,
    io::{self, IoSliceMut},
};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};

use crate::{
    memory::{Address, Fault, Memory},
    task::Pid,
};

/// The memory of a live process, read with `process_vm_readv`: it need not be
/// stopped, and does not notice.
#[derive(Debug)]
pub struct LiveMemory {
    pid: nix::unistd::Pid,
    reads: Cell<u64>,
}

impl LiveMemory {
    /// The memory of `pid`.
    pub const fn new(pid: Pid) -> Self {
        Self { pid: nix::unistd::Pid::from_raw(pid.0), reads: Cell::new(0) }
    }

    /// How many system calls this has made.
    pub const fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Copy up to `bytes.len()` bytes from `at`, and say how many there were:
    /// fewer where the mapping ends.
    ///
    /// # Errors
    /// When there is not one byte, or the process is gone.
    pub fn copy(&self, at: Address, bytes: &mut [u8]) -> io::Result<usize> {
        let remote = [remote(at, bytes.len())];
        self.reads.set(self.reads.get() + 1);
        Ok(process_vm_readv(self.pid, &mut [IoSliceMut::new(bytes)], &remote)?)
    }

    /// Fill several pieces in one system call, and say how many bytes were
    /// copied in all: fewer than their sum where one could not be read to its
    /// end, after which nothing was copied.
    ///
    /// # Errors
    /// When there is not one byte, or the process is gone.
    pub fn gather(&self, pieces: &mut [(Address, &mut [u8])]) -> io::Result<usize> {
        let remote: Vec<_> = pieces.iter().map(|(at, bytes)| remote(*at, bytes.len())).collect();
        let mut local: Vec<_> =
            pieces.iter_mut().map(|(_, bytes)| IoSliceMut::new(bytes)).collect();
        self.reads.set(self.reads.get() + 1);
        Ok(process_vm_readv(self.pid, &mut local, &remote)?)
    }
}

impl Memory for LiveMemory {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let len = into.len();
        match self.copy(at, into) {
            Ok(copied) if copied == len => Ok(()),
            _ => Err(Fault { at, len }),
        }
    }
}

fn remote(at: Address, len: usize) -> RemoteIoVec {
    // An address beyond our own pointers' range is one that cannot be read.
    RemoteIoVec { base: usize::try_from(at.0).unwrap_or(usize::MAX), len }
}
