//! `/proc/locks`: the locks of files, and who waits for them
//! (`man 5 proc_locks`; `lock_get_status` in `fs/locks.c`).

use crate::{task::Pid, wait::LockKind};

/// A line: a lock that is held, or one that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The lock that is held and those that wait for it have one number.
    group: u64,
    /// Whether it is wanted.
    waits: bool,
    kind: LockKind,
    exclusive: bool,
    /// Whose it is; -1 where it belongs to an open file.
    pid: i32,
    inode: u64,
    /// The first and the last byte; `None` for the end of the file.
    pub(super) range: (u64, Option<u64>),
}

/// A lock that is waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) exclusive: bool,
    pub(super) range: (u64, Option<u64>),
    /// Who holds it; `None` when a lock is that of an open file.
    pub(super) holder: Option<Pid>,
}

/// The most lines that are kept.
const MOST: usize = 1 << 16;

/// Read the lines.
pub(super) fn parse(bytes: &[u8]) -> Vec<Line> {
    bytes.split(|&byte| byte == b'\n').take(MOST).filter_map(line).collect()
}

/// `1: FLOCK  ADVISORY  WRITE 3006 fe:00:5800019 0 EOF`, with `->` after the
/// number where it waits.
fn line(bytes: &[u8]) -> Option<Line> {
    let mut words = std::str::from_utf8(bytes).ok()?.split_ascii_whitespace().peekable();
    let group = words.next()?.strip_suffix(':')?.parse().ok()?;
    let waits = words.next_if_eq(&"->").is_some();
    let kind = match words.next()? {
        "FLOCK" => LockKind::Flock,
        "POSIX" => LockKind::Posix,
        "OFDLCK" => LockKind::Open,
        _ => return None,
    };
    let exclusive = match words.nth(1)? {
        "WRITE" => true,
        "READ" => false,
        _ => return None,
    };
    let pid = words.next()?.parse().ok()?;
    let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
    let first = words.next()?.parse().ok()?;
    let last = match words.next()? {
        "EOF" => None,
        last => Some(last.parse().ok()?),
    };
    Some(Line { group, waits, kind, exclusive, pid, inode, range: (first, last) })
}

/// What is known of a wait for a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// Whose thread waits.
    pub(super) pid: Pid,
    pub(super) kind: LockKind,
    pub(super) exclusive: Option<bool>,
    pub(super) inode: Option<u64>,
    pub(super) range: Option<(u64, Option<u64>)>,
}

/// The lock that is waited for. Where several threads of the process wait, and
/// what is known does not tell which is meant, nothing is said.
pub(super) fn wanted(lines: &[Line], ask: Ask) -> Option<Wanted> {
    let Ask { pid, kind, exclusive, inode, range } = ask;
    // A lock of an open file is that of no process: without the file's number
    // anybody's might be meant.
    let owner = if kind == LockKind::Open { -1 } else { pid.0 };
    if kind == LockKind::Open && inode.is_none() {
        return None;
    }
    let fits = |line: &&Line| {
        line.waits
            && (line.kind, line.pid) == (kind, owner)
            && inode.is_none_or(|inode| inode == line.inode)
            && exclusive.is_none_or(|exclusive| exclusive == line.exclusive)
            && range.is_none_or(|range| range == line.range)
    };
    let mut found: Option<Wanted> = None;
    for line in lines.iter().filter(fits) {
        let held = |it: &&Line| !it.waits && it.group == line.group;
        let holder = lines.iter().find(held).map(|held| held.pid).filter(|pid| *pid > 0).map(Pid);
        let this = Wanted { exclusive: line.exclusive, range: line.range, holder };
        match &found {
            None => found = Some(this),
            Some(other) if *other == this => {}
            Some(_) => return None,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"1: POSIX  ADVISORY  WRITE 4100 fe:00:77 120 127\n\
        1: -> POSIX  ADVISORY  WRITE 4200 fe:00:77 120 120\n\
        2: FLOCK  ADVISORY  WRITE 20041 00:2f:5800019 0 EOF\n\
        2: -> FLOCK  ADVISORY  READ  32428 00:2f:5800019 0 EOF\n\
        2:  -> FLOCK  ADVISORY  WRITE 32428 00:2f:5800019 0 EOF\n\
        3: OFDLCK ADVISORY  WRITE -1 fe:00:78 0 9\n\
        3: -> POSIX  ADVISORY  READ 4200 fe:00:78 0 EOF\n\
        4: LEASE  ACTIVE    READ  99 fe:00:79 0 EOF\n\
        5: FLOCK  ADVISORY  WRITE 20042 00:2f:6 0 EOF\n\
        5: -> FLOCK  ADVISORY  WRITE 32428 00:2f:6 0 EOF\n";

    #[test]
    fn the_holder_is_that_of_the_lock_that_is_waited_for() {
        let lines = parse(TEXT);
        assert_eq!(lines.len(), 9);
        let ask = |pid, kind, exclusive, inode| {
            wanted(&lines, Ask { pid: Pid(pid), kind, exclusive, inode, range: None })
        };
        let held = |exclusive, range, holder: Option<i32>| {
            Some(Wanted { exclusive, range, holder: holder.map(Pid) })
        };
        let flock = ask(32428, LockKind::Flock, Some(true), Some(5_800_019));
        assert_eq!(flock, held(true, (0, None), Some(20041)));
        let posix = ask(4200, LockKind::Posix, None, Some(77));
        assert_eq!(posix, held(true, (120, Some(120)), Some(4100)));
        // Held by an open file, which any process may have.
        let posix = ask(4200, LockKind::Posix, None, Some(78));
        assert_eq!(posix, held(false, (0, None), None));
        // Two of its threads wait for two files.
        assert_eq!(ask(32428, LockKind::Flock, Some(true), None), None);
        assert_eq!(
            ask(32428, LockKind::Flock, Some(true), Some(6)),
            held(true, (0, None), Some(20042))
        );
        assert_eq!(ask(20041, LockKind::Flock, None, None), None);
        assert_eq!(ask(4200, LockKind::Open, None, None), None);
    }

    #[test]
    fn odd_lines_are_left_out() {
        for odd in [
            &b""[..],
            b"1:",
            b"1: -> ",
            b"x: FLOCK  ADVISORY  WRITE 1 fe:00:1 0 EOF",
            b"1: FLOCK  ADVISORY  WRITE 1 fe:00:x 0 EOF",
            b"1: FLOCK  ADVISORY  WRITE 99999999999 fe:00:1 0 EOF",
            b"1: FLOCK  ADVISORY  NONE 1 fe:00:1 0 EOF",
            b"1: FLOCK  ADVISORY  WRITE 1 fe:00:1 0",
            b"1: FLOCK \xff ADVISORY  WRITE 1 fe:00:1 0 EOF",
        ] {
            assert_eq!(parse(odd), [], "{odd:?}");
        }
    }
}
