//! How a process is looked at here: by its files in `/proc`.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use crate::{
    memory::{Address, Fault, Memory},
    snapshot::{Backing, Mapping, Root},
};

/// A process, by its directory in `/proc`.
pub(super) struct Live {
    directory: PathBuf,
    memory: File,
}

impl Live {
    pub(super) fn new(process: &str) -> Self {
        let directory = PathBuf::from("/proc").join(process);
        let memory = File::open(directory.join("mem")).unwrap();
        Self { directory, memory }
    }

    pub(super) fn root(&self) -> Root {
        Root {
            directory: self.directory.join("root"),
            map_files: Some(self.directory.join("map_files")),
        }
    }

    pub(super) fn mappings(&self) -> Vec<Mapping> {
        let maps = fs::read_to_string(self.directory.join("maps")).unwrap();
        maps.lines().map(mapping).collect()
    }
}

impl Memory for Live {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let fault = Fault { at, len: into.len() };
        self.memory.read_exact_at(into, at.0).map_err(|_| fault)
    }
}

/// One line of `/proc/PID/maps`.
fn mapping(line: &str) -> Mapping {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let number = |text: &str| u32::from_str_radix(text, 16).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    let (start, end) = words[0].split_once('-').unwrap();
    let (major, minor) = words[3].split_once(':').unwrap();
    let path = line.find('/').map(|at| &line[at..]);
    let backing = match path {
        Some(path) => path
            .strip_suffix(" (deleted)")
            .map_or_else(|| Backing::File(path.into()), |path| Backing::Deleted(path.into())),
        None if line.ends_with("[vdso]") => Backing::Vdso,
        None => Backing::Anonymous,
    };
    Mapping {
        range: Address(hex(start))..Address(hex(end)),
        offset: hex(words[2]),
        readable: words[1].starts_with('r'),
        executable: words[1].contains('x'),
        device: libc::makedev(number(major), number(minor)),
        inode: words[4].parse().unwrap(),
        backing,
    }
}
