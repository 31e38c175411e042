//! A thread, or a process, at an instant: the seam between what asks the
//! kernel and what does not. Right of it a live target and a recorded one
//! look alike.

pub mod archive;
pub mod maps;
mod noted;
mod recorded;
mod registers;

use std::{ops::Range, path::PathBuf};

pub use noted::Noted;
pub use recorded::{Recorded, without_file};
pub use registers::{Architecture, Register, Registers};

use crate::{
    memory::{Address, Piece},
    task::{Pid, State, Tid},
};

/// One mapping of a process, as a line of `/proc/PID/maps` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The addresses.
    pub range: Range<Address>,
    /// Where in the file the range begins.
    pub offset: u64,
    /// Whether it may be read.
    pub readable: bool,
    /// Whether it may be run.
    pub executable: bool,
    /// The device of the file, as `stat` says it; 0 for no file.
    pub device: u64,
    /// The inode of the file; 0 for no file.
    pub inode: u64,
    /// What is mapped.
    pub backing: Backing,
}

/// What lies behind a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A file, by its path below the target's root.
    File(PathBuf),
    /// A file whose path no longer leads to it: deleted, or a memfd. The path
    /// is what it was, without ` (deleted)`.
    Deleted(PathBuf),
    /// The kernel's code for the target.
    Vdso,
    /// Nothing: JIT code, heap, stack.
    Anonymous,
}

/// Where the files of a target are opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The target's `/`: `/proc/PID/root`, or a recording's own directory.
    pub directory: PathBuf,
    /// `/proc/PID/map_files`, for a live target.
    pub map_files: Option<PathBuf>,
}

/// One thread at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub tid: Tid,
    /// Its name, as the kernel has it.
    pub name: String,
    /// What it was doing.
    pub state: State,
    /// Its registers, as far as they are known.
    pub registers: Registers,
    /// The memory that was copied with them: the stack first.
    pub pieces: Vec<Piece>,
}

/// A process at an instant: all that unwinding and symbolization need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// What is mapped where, by address.
    pub mappings: Vec<Mapping>,
    /// Where its files are.
    pub root: Root,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// The memory that is no thread's own: images that no file holds, and what a
    /// language runtime is read from.
    pub pieces: Vec<Piece>,
}
