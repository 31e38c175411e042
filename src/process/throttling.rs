//! How long a process was kept from running by a limit on the CPU time of its
//! control group: `cpu.stat` of both versions (`cgroup-v2.rst` and
//! `sched-bwc.rst` of the kernel's documentation).

use std::{
    fs,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use crate::task::Pid;

/// The control groups of a process whose CPU time can be limited, and what was
/// counted of them when they were found: its own, and those that this lies in.
#[derive(Debug)]
pub struct Throttling {
    groups: Vec<(PathBuf, Counts)>,
}

/// What a group counts since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Periods in which its time was used up.
    times: u64,
    /// For how long its threads were kept from running then; the sum of that of
    /// all processors.
    time: Duration,
}

/// Groups do not lie deeper in each other than this.
const DEEPEST: usize = 64;

impl Throttling {
    /// Begin to count for `pid`; `None` where no group of it can be limited, or
    /// none of them is in sight.
    pub fn of(pid: Pid) -> Option<Self> {
        let groups = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        Self::among(&String::from_utf8_lossy(&groups), &String::from_utf8_lossy(&mounts))
    }

    fn among(groups: &str, mounts: &str) -> Option<Self> {
        let groups: Vec<_> = directories(groups, mounts)
            .into_iter()
            .filter_map(|directory| {
                let file = directory.join("cpu.stat");
                Some((file.clone(), Counts::read(&file)?))
            })
            .collect();
        (!groups.is_empty()).then_some(Self { groups })
    }

    /// How often, and for how long, the process was throttled since this was
    /// made. Where several groups are limited, that of which it was for longest.
    pub fn so_far(&self) -> (u64, Duration) {
        let since = |(file, first): &(PathBuf, Counts)| {
            let now = Counts::read(file)?;
            Some((now.time.saturating_sub(first.time), now.times.saturating_sub(first.times)))
        };
        let (time, times) = self.groups.iter().filter_map(since).max().unwrap_or_default();
        (times, time)
    }
}

impl Counts {
    /// `None` for a group without such a limit.
    fn read(file: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(file).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (mut times, mut time) = (None, None);
        for line in text.lines() {
            let Some((key, value)) = line.split_once(' ') else { continue };
            let value = || value.trim().parse().ok();
            match key {
                "nr_throttled" => times = value(),
                // The two versions differ in the unit.
                "throttled_usec" => time = value().map(Duration::from_micros),
                "throttled_time" => time = value().map(Duration::from_nanos),
                _ => {}
            }
        }
        Some(Self { times: times?, time: time? })
    }
}

/// The directories of the groups that may limit the process, as they are
/// mounted: the innermost first.
fn directories(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        // `4:cpu,cpuacct:/path`, or `0::/path` of the second version.
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let is_second = controllers.is_empty();
        if !is_second && !controllers.split(',').any(|controller| controller == "cpu") {
            continue;
        }
        let Some((root, point)) = mounts.lines().find_map(|line| mount(line, is_second)) else {
            continue;
        };
        // A group that is outside of what is mounted here is not in sight.
        let Ok(inner) = Path::new(path).strip_prefix(root) else { continue };
        if !inner.components().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        let point = Path::new(point);
        let within = inner.ancestors().take(DEEPEST);
        found.extend(within.map(|inner| point.join(inner)));
    }
    found
}

/// The root and the mount point of a hierarchy, if a line of `mountinfo`
/// (`man 5 proc_pid_mountinfo`) is that of the second version, or of the first
/// one's controller `cpu`.
fn mount(line: &str, is_second: bool) -> Option<(&str, &str)> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ').skip(3);
    let (root, point) = (head.next()?, head.next()?);
    let mut tail = tail.split(' ');
    let (kind, options) = (tail.next()?, tail.nth(1)?);
    let fits = if is_second {
        kind == "cgroup2"
    } else {
        kind == "cgroup" && options.split(',').any(|option| option == "cpu")
    };
    fits.then_some((root, point))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: &str = "usage_usec 5\nnr_periods 10\nnr_throttled 3\nthrottled_usec 1500\n";
    const FIRST: &str = "nr_periods 10\nnr_throttled 4\nthrottled_time 2000\n";

    #[test]
    fn both_versions_are_read() {
        let counts = |times, micros| Some(Counts { times, time: Duration::from_micros(micros) });
        assert_eq!(Counts::parse(SECOND), counts(3, 1500));
        assert_eq!(Counts::parse(FIRST), counts(4, 2));
        for odd in ["", "usage_usec 5\n", "nr_throttled x\nthrottled_usec 1\n", "nr_throttled 1\n"]
        {
            assert_eq!(Counts::parse(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn groups_are_found_where_they_are_mounted() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            41 31 0:38 /pod /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n";
        let find = |groups: &str| {
            let found = directories(groups, mounts).into_iter();
            found.map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        let cpu = ["/sys/fs/cgroup/cpu/a/b", "/sys/fs/cgroup/cpu/a", "/sys/fs/cgroup/cpu/"];
        assert_eq!(find("5:memory:/x\n4:cpu,cpuacct:/a/b\n"), cpu);
        let second = ["/sys/fs/cgroup/unified/web", "/sys/fs/cgroup/unified/"];
        assert_eq!(find("0::/pod/web\n"), second);
        for odd in ["0::/other\n", "0::/pod/../web\n", "0::/../../x\n", "1:cpuset:/\n", "\n:\n", ""]
        {
            assert_eq!(find(odd), [""; 0], "{odd:?}");
        }
        assert_eq!(directories("0::/", "1 2\n - \n - cgroup2 x\n"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn the_group_that_held_it_for_longest_counts() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().display();
        let mounts = format!("41 31 0:38 / {at} rw - cgroup2 cgroup2 rw\n");
        let inner = home.path().join("pod/web");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("cpu.stat"), SECOND).unwrap();
        fs::write(home.path().join("pod/cpu.stat"), "nr_throttled 0\nthrottled_usec 0\n").unwrap();
        // As in the root of the second version: nothing that can be limited.
        fs::write(home.path().join("cpu.stat"), "usage_usec 7\n").unwrap();
        let throttling = Throttling::among("0::/pod/web\n", &mounts).unwrap();
        assert_eq!(throttling.groups.len(), 2);
        assert_eq!(throttling.so_far(), (0, Duration::ZERO));
        let later = "nr_throttled 5\nthrottled_usec 4000\n";
        fs::write(home.path().join("pod/cpu.stat"), later).unwrap();
        assert_eq!(throttling.so_far(), (5, Duration::from_millis(4)));
        assert!(Throttling::among("0::/\n", &mounts).is_none());
    }
}
