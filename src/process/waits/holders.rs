//! Who holds what: the descriptors of all processes that we may look at.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{entries, text};
use crate::{
    task::Pid,
    wait::{End, Parties, Party},
};

/// What may be held in several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Thing {
    /// A pipe without a name, by the kernel's number of it.
    Pipe(u64),
    /// A socket, likewise.
    Socket(u64),
}

impl Thing {
    /// `pipe:[1234]`.
    pub(super) fn new(link: &str) -> Option<Self> {
        let number = |kind| link.strip_prefix(kind)?.strip_suffix(']')?.parse().ok();
        number("pipe:[").map(Self::Pipe).or_else(|| number("socket:[").map(Self::Socket))
    }
}

/// A descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hold {
    pid: i32,
    fd: i32,
    reads: bool,
    writes: bool,
}

/// The descriptors of all processes.
///
/// To look at all of them takes milliseconds on a large machine, so that is
/// not done at each question, but for at most a hundredth of the time. What was
/// found before is made sure of.
#[derive(Debug, Default)]
pub(super) struct Holders {
    known: FxHashMap<Thing, Vec<Hold>>,
    /// When they were looked at, and how long that took.
    looked: Option<(Instant, Duration)>,
    /// Whether that was in this round.
    fresh: bool,
    /// Processes that were named in this round.
    named: FxHashMap<i32, Option<Party>>,
}

/// The most descriptors that are looked at.
const MOST: usize = 1 << 18;

/// So many times as long as a look took it is not repeated.
pub(super) const PAUSE: u32 = 100;

impl Holders {
    /// A new round begins: what is known may have changed.
    pub(super) fn begin(&mut self) {
        self.fresh = false;
        self.named.clear();
    }

    /// The process of this number; `None` when there is none.
    pub(super) fn party(&mut self, pid: Pid) -> Option<Party> {
        self.named.entry(pid.0).or_insert_with(|| text::party(pid)).clone()
    }

    /// The processes that hold `thing`, besides `own`; only those that hold
    /// this end of it, where one is meant.
    pub(super) fn of(&mut self, thing: Thing, end: Option<End>, own: Pid) -> Parties {
        let fits = |hold: &Hold| match end {
            None => true,
            Some(End::Reading) => hold.reads,
            Some(End::Writing) => hold.writes,
        };
        self.look();
        let mut found = self.held(thing);
        found.retain(fits);
        let mut pids: Vec<i32> = found.iter().map(|hold| hold.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        let own_holds = pids.contains(&own.0);
        pids.retain(|pid| *pid != own.0);
        let named = pids.iter().take(Parties::MOST);
        Parties {
            own: own_holds,
            others: named.filter_map(|pid| self.party(Pid(*pid))).collect(),
            more: pids.len().saturating_sub(Parties::MOST),
        }
    }

    /// What is known, and still so.
    fn held(&self, thing: Thing) -> Vec<Hold> {
        let known = self.known.get(&thing).map(Vec::as_slice).unwrap_or_default();
        let same = |hold: &&Hold| {
            self.fresh
                || link(hold.pid, hold.fd).is_some_and(|link| Thing::new(&link) == Some(thing))
        };
        known.iter().filter(same).copied().collect()
    }

    /// Look at all processes, unless that was done of late.
    fn look(&mut self) {
        let began = Instant::now();
        let lately = |(at, took)| began.saturating_duration_since(at) < took * PAUSE;
        if self.fresh || self.looked.is_some_and(lately) {
            return;
        }
        self.known.clear();
        let mut left = MOST;
        for pid in entries("/proc") {
            for fd in entries(&format!("/proc/{pid}/fd")) {
                if left == 0 {
                    break;
                }
                left -= 1;
                let Some(thing) = link(pid, fd).and_then(|link| Thing::new(&link)) else {
                    continue;
                };
                // The link's own mode says for what it was opened.
                let Ok(about) = fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")) else {
                    continue;
                };
                let mode = about.permissions().mode();
                let (reads, writes) = (mode & 0o400 != 0, mode & 0o200 != 0);
                self.known.entry(thing).or_default().push(Hold { pid, fd, reads, writes });
            }
        }
        self.looked = Some((began, began.elapsed()));
        self.fresh = true;
    }
}

/// What a descriptor leads to, as the kernel writes it.
pub(super) fn link(pid: i32, fd: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_from_files_that_look_like_them() {
        assert_eq!(Thing::new("pipe:[12]"), Some(Thing::Pipe(12)));
        assert_eq!(Thing::new("socket:[12]"), Some(Thing::Socket(12)));
        for odd in
            ["/tmp/pipe:[12]", "pipe:[12", "pipe:[]", "pipe:[-1]", "pipe:[1]x", "", "net:[4]"]
        {
            assert_eq!(Thing::new(odd), None, "{odd}");
        }
    }

    /// Looks at this very process.
    #[test]
    fn the_ends_of_a_pipe_are_told_apart() {
        use std::os::fd::AsRawFd;
        let own = Pid(std::process::id().cast_signed());
        let (read, write) = std::io::pipe().unwrap();
        let thing = Thing::new(&link(own.0, read.as_raw_fd()).unwrap()).unwrap();
        let mut holders = Holders::default();
        // Others may have inherited it: tests run side by side.
        assert!(holders.of(thing, Some(End::Writing), own).own);
        assert!(holders.of(thing, None, own).own);
        drop(write);
        holders.begin();
        assert!(holders.of(thing, Some(End::Reading), own).own);
        assert!(!holders.of(thing, Some(End::Writing), own).own);
    }
}
