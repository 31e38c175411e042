//! The directories below which processes see their files.

use std::{
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::Process;

/// The root directories of processes, each held open once: what lies below
/// them is within reach as long as this lives, also when the processes have
/// ended. Processes by the thousand mostly have one root.
#[derive(Debug, Default)]
pub struct Roots {
    known: FxHashMap<Place, Arc<File>>,
    /// Those of which the kernel does not say where they are.
    others: Vec<Arc<File>>,
}

/// What makes two roots one: a directory, and the mount through which it is
/// seen, on which depends what is mounted below it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    mount: u64,
    device: u64,
    inode: u64,
}

impl Place {
    fn of(root: &File) -> Option<Self> {
        let about = root.metadata().ok()?;
        // `man 5 proc_pid_fdinfo`.
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", root.as_raw_fd())).ok()?;
        let mount = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        Some(Self { mount: mount.trim().parse().ok()?, device: about.dev(), inode: about.ino() })
    }
}

impl Roots {
    /// Hold the root of `process`, which from now on uses the descriptor that
    /// is held here.
    pub fn hold(&mut self, process: &mut Process) {
        match Place::of(&process.root) {
            Some(place) => {
                let held = self.known.entry(place).or_insert_with(|| Arc::clone(&process.root));
                process.root = Arc::clone(held);
            }
            None => self.others.push(Arc::clone(&process.root)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Pid;

    #[test]
    fn one_root_is_held_once() {
        let own = Pid(std::process::id().try_into().unwrap());
        let mut roots = Roots::default();
        let mut processes = [Process::open(own).unwrap(), Process::open(own).unwrap()];
        assert_ne!(processes[0].root().directory, processes[1].root().directory);
        processes.iter_mut().for_each(|process| roots.hold(process));
        assert_eq!(processes[0].root().directory, processes[1].root().directory);
        assert_eq!((roots.known.len(), roots.others.len()), (1, 0));
        let directory = processes[0].root().directory;
        drop(processes);
        assert!(directory.join("proc").exists());
    }
}
