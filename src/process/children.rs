//! The descendants of processes, while they come and go.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{sys::pidfd::PidFd, task::Pid};

/// Some processes and all that descends from them.
///
/// A process belongs to the family from when it is first seen below a member
/// until it has ended, also when its parent ends before it and it is given to
/// another one. What begins and loses its parent between two looks is not
/// found: nothing of the family leads to it any more.
#[derive(Debug)]
pub struct Family {
    /// The members. One that has ended stays as long as its parent has not
    /// taken note of that, for until then it is listed as a child.
    members: BTreeMap<Pid, PidFd>,
    births: Births,
    own: Option<Pid>,
    listing: Listing,
}

/// What a look has found.
#[derive(Debug, Default)]
pub struct Found {
    /// New members, each before its own children.
    pub born: Vec<Pid>,
    /// How many had ended already.
    pub missed: u64,
    /// How many could not be held, because this program may not open more
    /// files: they are found again by the next look.
    pub unheld: u64,
}

/// Where children are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// `/proc/PID/task/TID/children`, which a kernel may be built without.
    ByParent,
    /// The parents that all processes of the machine name.
    OfAll,
}

impl Family {
    /// The family of `roots`, of which no descendant is known yet. One that
    /// has ended is left out.
    pub fn of(roots: &[Pid]) -> Self {
        // Every thread has the file, or none.
        let by_parent = Path::new("/proc/thread-self/children").exists();
        let listing = if by_parent { Listing::ByParent } else { Listing::OfAll };
        let hold = |&pid: &Pid| PidFd::open(pid).ok().map(|fd| (pid, fd));
        Self {
            members: roots.iter().filter_map(hold).collect(),
            births: Births::new(),
            own: i32::try_from(std::process::id()).ok().map(Pid),
            listing,
        }
    }

    /// Whether any process of the machine has begun since this was last asked,
    /// or may have. One cheap system call.
    pub fn may_have_grown(&mut self) -> bool {
        self.births.any()
    }

    /// Find the members that are new. This program itself is never one.
    ///
    /// A child that begins or ends while the kernel lists its siblings can
    /// hide one of them from this look (`man 5 proc_pid_task_children`), not
    /// from the next.
    pub fn look(&mut self) -> Found {
        let all = (self.listing == Listing::OfAll).then(parents);
        let mut found = Found::default();
        let mut listed = FxHashSet::default();
        let mut left: Vec<Pid> = self.members.keys().rev().copied().collect();
        let old: FxHashSet<Pid> = left.iter().copied().collect();
        let mut born = FxHashSet::default();
        while let Some(parent) = left.pop() {
            // A number that has changed hands is that of a new member.
            if !old.contains(&parent) || born.contains(&parent) {
                found.born.push(parent);
            }
            let children = match &all {
                Some(all) => all.get(&parent).cloned().unwrap_or_default(),
                None => children(parent),
            };
            for child in children.into_iter().rev() {
                if !listed.insert(child) || self.own == Some(child) || self.knows(child) {
                    continue;
                }
                match PidFd::open(child) {
                    Ok(fd) => {
                        if fd.has_ended() {
                            found.missed += 1;
                        } else {
                            born.insert(child);
                            left.push(child);
                        }
                        self.members.insert(child, fd);
                    }
                    Err(error) if is_lack(&error) => found.unheld += 1,
                    Err(_) => found.missed += 1,
                }
            }
        }
        self.members.retain(|pid, fd| listed.contains(pid) || !fd.has_ended());
        found
    }

    /// Whether the number is that of a member, and not meanwhile of another
    /// process.
    fn knows(&self, pid: Pid) -> bool {
        self.members.get(&pid).is_some_and(|fd| {
            !fd.has_ended() || PidFd::open(pid).map_or(true, |now| now.has_ended())
        })
    }
}

/// Whether this program may open no more files.
fn is_lack(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// The children of all threads of a process; none once it has ended.
fn children(parent: Pid) -> Vec<Pid> {
    let task = format!("/proc/{parent}/task");
    let mut found = Vec::new();
    let mut add = |thread: &str| {
        let list = fs::read_to_string(format!("{task}/{thread}/children")).unwrap_or_default();
        found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().map(Pid)));
    };
    // Most processes have one thread, whose number needs no listing.
    if fs::metadata(&task).is_ok_and(|it| it.nlink() == 3) {
        add(&parent.to_string());
        return found;
    }
    for thread in fs::read_dir(&task).into_iter().flatten().flatten() {
        add(&thread.file_name().to_string_lossy());
    }
    found
}

/// The children of every process of the machine, by parent.
fn parents() -> FxHashMap<Pid, Vec<Pid>> {
    let mut all = FxHashMap::<Pid, Vec<Pid>>::default();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).map(Pid) else { continue };
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            all.entry(parent).or_default().push(pid);
        }
    }
    all
}

/// The parent in the text of `/proc/PID/stat`: `PID (NAME) STATE PARENT …`,
/// where the name may itself hold anything.
fn parent(stat: &[u8]) -> Option<Pid> {
    let after_name = stat.rsplit(|&byte| byte == b')').next()?;
    let word = str::from_utf8(after_name).ok()?.split_ascii_whitespace().nth(1)?;
    Some(Pid(word.parse().ok()?))
}

/// `/proc/loadavg`, if it is the kernel that answers in it.
pub fn load() -> Option<File> {
    let genuine = |file: &File| {
        let kernel = fs::metadata("/proc/self").map(|it| it.dev()).ok();
        file.metadata().map(|it| it.dev()).ok() == kernel
    };
    File::open("/proc/loadavg").ok().filter(genuine)
}

/// Whether processes have begun.
#[derive(Debug)]
struct Births {
    /// `/proc/loadavg`, whose last word is the number that was given out last,
    /// to a process or a thread. `None` where something other than the kernel
    /// answers in its place, as lxcfs does, which is seconds behind.
    last: Option<File>,
    seen: Vec<u8>,
}

impl Births {
    fn new() -> Self {
        Self { last: load(), seen: Vec::new() }
    }

    fn any(&mut self) -> bool {
        let mut bytes = [0; 128];
        let Some(last) = &self.last else { return true };
        let Ok(len) = last.read_at(&mut bytes, 0) else { return true };
        let text = bytes.get(..len).unwrap_or_default();
        let number = text.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        if !number.is_empty() && self.seen == number {
            return false;
        }
        number.clone_into(&mut self.seen);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that lives until this is dropped.
    struct Cat(Child);

    impl Cat {
        fn start() -> Self {
            let mut command = Command::new("cat");
            Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
        }

        fn pid(&self) -> Pid {
            Pid(self.0.id().try_into().unwrap())
        }

        fn end(&mut self) {
            self.0.stdin = None;
            self.0.wait().unwrap();
        }
    }

    impl Drop for Cat {
        fn drop(&mut self) {
            self.end();
        }
    }

    fn own() -> Pid {
        Pid(std::process::id().try_into().unwrap())
    }

    /// Other tests run beside this one, and have children too.
    #[test]
    fn a_child_is_found_once_however_it_is_listed() {
        for listing in [Listing::ByParent, Listing::OfAll] {
            let mut family = Family { listing, ..Family::of(&[own()]) };
            let mut cat = Cat::start();
            let pid = cat.pid();
            assert!(family.look().born.contains(&pid), "{listing:?}");
            assert!(!family.look().born.contains(&pid), "{listing:?}");
            assert!(family.members.contains_key(&pid));
            cat.end();
            family.look();
            assert!(!family.members.contains_key(&pid), "{listing:?}");
            assert!(family.members.contains_key(&own()), "{listing:?}");
        }
    }

    #[test]
    fn one_that_has_ended_is_missed_once() {
        let mut family = Family::of(&[own()]);
        let mut cat = Cat::start();
        let pid = cat.pid();
        let fd = PidFd::open(pid).unwrap();
        cat.0.stdin = None;
        while !fd.has_ended() {
            std::thread::yield_now();
        }
        let found = family.look();
        assert!(found.missed >= 1 && !found.born.contains(&pid), "{found:?}");
        // It is listed until its parent takes note; and then known to be old.
        assert!(family.knows(pid));
        cat.end();
        family.look();
        assert!(!family.members.contains_key(&pid));
    }

    #[test]
    fn a_birth_is_noticed() {
        let mut births = Births::new();
        assert!(births.last.is_some());
        births.any();
        let _cat = Cat::start();
        assert!(births.any());
    }

    #[test]
    fn a_parent_is_read_whatever_the_name() {
        let check = |stat: &[u8], expected| assert_eq!(parent(stat), expected);
        check(b"12 (cat) S 7 12 12", Some(Pid(7)));
        check(b"12 (a) R 9 (b) S 7 12 12", Some(Pid(7)));
        check(b"12 (\xff) S 7", Some(Pid(7)));
        check(b"12 (cat) S", None);
        check(b"", None);
    }
}
