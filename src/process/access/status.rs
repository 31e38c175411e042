//! `/proc/PID/status`, as far as permissions go.

use std::{fs, path::Path};

/// The lines of `/proc/PID/status` that matter here (`man 5 proc_pid_status`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) state: Option<char>,
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// Its number in the innermost of several namespaces.
    pub(super) innermost: Option<i32>,
    pub(super) tracer: Option<i32>,
    /// Real, effective, saved.
    pub(super) users: [u32; 3],
    pub(super) filesystem_user: u32,
    /// Real, effective, saved.
    pub(super) groups: [u32; 3],
    pub(super) filesystem_group: u32,
    pub(super) permitted: u64,
    pub(super) effective: u64,
    /// What this process, or a child of it, can ever come to have.
    pub(super) bounding: u64,
    pub(super) seccomp: u8,
    has_memory: bool,
    kernel_says: Option<bool>,
}

impl Status {
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let bytes = fs::read(directory.join("status")).ok()?;
        Some(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// A process that has ended has no memory either; ask for that first.
    pub(super) fn is_kernel_thread(&self) -> bool {
        self.kernel_says.unwrap_or(!self.has_memory && self.state != Some('Z') && self.pid != 0)
    }

    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key {
                "Name" => value.clone_into(&mut status.name),
                "State" => status.state = value.chars().next(),
                "Pid" => status.pid = value.parse().unwrap_or_default(),
                "PPid" => status.parent = value.parse().unwrap_or_default(),
                "NSpid" => {
                    let inner = value.split_whitespace().skip(1).last();
                    status.innermost = inner.and_then(|pid| pid.parse().ok());
                }
                "TracerPid" => status.tracer = value.parse().ok().filter(|&pid| pid != 0),
                "Uid" => (status.users, status.filesystem_user) = ids(value),
                "Gid" => (status.groups, status.filesystem_group) = ids(value),
                "CapPrm" => status.permitted = hexadecimal(value),
                "CapEff" => status.effective = hexadecimal(value),
                "CapBnd" => status.bounding = hexadecimal(value),
                "Seccomp" => status.seccomp = value.parse().unwrap_or_default(),
                "VmSize" => status.has_memory = true,
                "Kthread" => status.kernel_says = Some(value == "1"),
                _ => {}
            }
        }
        status
    }
}

fn ids(value: &str) -> ([u32; 3], u32) {
    let mut ids = value.split_whitespace().map(|id| id.parse().unwrap_or_default());
    let mut next = || ids.next().unwrap_or_default();
    ([next(), next(), next()], next())
}

fn hexadecimal(value: &str) -> u64 {
    u64::from_str_radix(value, 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let text = "Name:\tpost: gres\nState:\tS (sleeping)\nPid:\t70\nPPid:\t1\nTracerPid:\t0\nNSpid:\t70\t8\t1\n\
                    Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nVmSize:\t 10 kB\n\
                    CapPrm:\t0000000000080000\nCapEff:\t000001ffffffffff\nCapBnd:\t3\nSeccomp:\t2\n";
        let status = Status::parse(text);
        assert_eq!(status.name, "post: gres");
        assert_eq!((status.state, status.pid, status.parent), (Some('S'), 70, 1));
        assert_eq!(status.innermost, Some(1));
        assert_eq!((status.users, status.filesystem_user), ([1, 2, 3], 4));
        assert_eq!((status.groups, status.filesystem_group), ([5, 6, 7], 8));
        assert_eq!((status.permitted, status.effective), (1 << 19, 0x1ff_ffff_ffff));
        assert_eq!((status.tracer, status.seccomp, status.bounding), (None, 2, 3));
        assert!(!status.is_kernel_thread());
    }

    #[test]
    fn a_kernel_thread_is_told() {
        assert!(
            Status::parse("Name:\tkthreadd\nState:\tS\nPid:\t2\nKthread:\t1\n").is_kernel_thread()
        );
        assert!(Status::parse("Name:\tkthreadd\nState:\tS\nPid:\t2\n").is_kernel_thread());
        assert!(!Status::parse("Name:\tx\nState:\tZ\nPid:\t2\n").is_kernel_thread());
        assert_eq!(Status::parse("Uid:\nGid: x\nCapEff: zz\n:\n\n"), Status::default());
    }
}
