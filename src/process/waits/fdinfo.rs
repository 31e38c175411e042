//! `/proc/PID/fdinfo/FD`: what the kernel says of a descriptor
//! (`man 5 proc_pid_fdinfo`).

use std::time::Duration;

use crate::{task::Pid, wait::Count};

/// What the lines of one such file say. What is not among them is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FdInfo {
    /// The number of the file (since Linux 5.14).
    pub(super) inode: Option<u64>,
    /// Of an epoll set: descriptors.
    pub(super) watched: Count,
    /// Of inotify: watches.
    pub(super) watches: Count,
    /// What an eventfd has counted.
    pub(super) counted: Option<u64>,
    /// How long until a timer is due; zero when it is not set.
    pub(super) due: Option<Duration>,
    /// The signals of a signalfd.
    pub(super) signals: Option<u64>,
    /// The process of a pidfd.
    pub(super) process: Option<Pid>,
}

/// Read the lines. `more`: there were more than these.
pub(super) fn parse(bytes: &[u8], more: bool) -> FdInfo {
    let mut info = FdInfo::default();
    for line in bytes.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
    {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match key {
            "ino" => info.inode = value.parse().ok(),
            "tfd" => info.watched.number += 1,
            "inotify wd" => info.watches.number += 1,
            "eventfd-count" => info.counted = u64::from_str_radix(value, 16).ok(),
            "it_value" => info.due = pair(value),
            "sigmask" => info.signals = u64::from_str_radix(value, 16).ok(),
            "Pid" => info.process = value.parse().ok().filter(|pid| *pid > 0).map(Pid),
            _ => {}
        }
    }
    info.watched.more = more && info.watched.number > 0;
    info.watches.more = more && info.watches.number > 0;
    info
}

/// `(seconds, nanoseconds)`.
fn pair(text: &str) -> Option<Duration> {
    let (seconds, nanos) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let nanos = nanos.trim().parse().ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds.trim().parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let timer = b"pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1038\nclockid: 1\nticks: 0\nsettime flags: 00\nit_value: (99, 982054902)\nit_interval: (0, 0)\n";
        let info = parse(timer, false);
        assert_eq!(info.due, Some(Duration::new(99, 982_054_902)));
        assert_eq!(info.inode, Some(1038));
        let set = b"pos:\t0\ntfd:        4 events:       1f data:                4  pos:0 ino:2678e6 sdev:f\ntfd:        5 events:       1f data:                5  pos:0 ino:2678e7 sdev:f\n";
        assert_eq!(parse(set, false).watched, Count { number: 2, more: false });
        assert_eq!(parse(set, true).watched, Count { number: 2, more: true });
        let watches = b"inotify wd:1 ino:3c4a7 sdev:fe00000 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:a7c4030000000000\n";
        assert_eq!(parse(watches, false).watches.number, 1);
        assert_eq!(
            parse(b"eventfd-count:               1f\neventfd-id: 1\n", false).counted,
            Some(31)
        );
        assert_eq!(parse(b"sigmask:\t0000008000000002\n", false).signals, Some(1 << 39 | 2));
        assert_eq!(parse(b"Pid:\t7692\nNSpid:\t7692\n", false).process, Some(Pid(7692)));
        // It has ended; it is of another namespace.
        assert_eq!(parse(b"Pid:\t-1\n", false).process, None);
        assert_eq!(parse(b"Pid:\t0\n", false).process, None);
    }

    #[test]
    fn what_is_odd_is_left_out() {
        let odd = b"\xff\xfe:1\nflags\nflags:\tzz\nino:\t-1\nit_value: (1, 99999999999)\nsigmask:\t\neventfd-count: 1ffffffffffffffff\n:::\n";
        assert_eq!(parse(odd, true), FdInfo::default());
        assert_eq!(parse(b"", false), FdInfo::default());
    }
}
