//! How a process ends.

use std::{fmt, fs, io};

use nix::sys::signal::Signal;

use crate::{sys::pidfd::PidFd, task::Pid};

/// Where the status of an ended process is in `/proc/PID/stat`, counted from
/// the state, which follows the name: field 52 of `man 5 proc_pid_stat`, the
/// state being the third.
const EXIT_CODE: usize = 52 - 3;

/// Who sees a process end, whether or not it is a child of this program.
#[derive(Debug)]
pub struct Witness {
    pid: Pid,
    fd: PidFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// The kernel does not say.
    Unknown,
}

impl Witness {
    /// Of the process that has this number now.
    ///
    /// # Errors
    /// Those of `man 2 pidfd_open`.
    pub fn of(pid: Pid) -> io::Result<Self> {
        Ok(Self { pid, fd: PidFd::open(pid)? })
    }

    /// How it ended; `None` while it lives.
    ///
    /// Before its parent has taken note of the end, the kernel tells whoever
    /// may trace the process; after that, Linux 6.15 and later tell it.
    pub fn ending(&self) -> Option<Ending> {
        if !self.fd.has_ended() {
            return None;
        }
        // In this order: between the two its parent may take note.
        let code = self.code_of_zombie().or_else(|| self.fd.exit_code());
        Some(code.map_or(Ending::Unknown, Ending::from_code))
    }

    fn code_of_zombie(&self) -> Option<i32> {
        let text = fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        let code = code_of_zombie(&text)?;
        // It says 0 to those who may not know, and the number may already be
        // that of another: what the kernel says of this one goes before.
        Some(self.fd.exit_code().unwrap_or(code))
    }
}

fn code_of_zombie(stat: &[u8]) -> Option<i32> {
    let text = String::from_utf8_lossy(stat);
    // The name may itself hold anything, `)` too.
    let mut fields = text.rsplit(')').next()?.split_whitespace();
    (fields.next()? == "Z").then_some(())?;
    fields.nth(EXIT_CODE - 1)?.parse().ok()
}

impl Ending {
    /// `code` as `man 2 wait` packs it.
    const fn from_code(code: i32) -> Self {
        match code & 0x7f {
            0 => Self::Exited(code >> 8 & 0xff),
            signal => Self::Killed(signal),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Killed(number) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "was killed by {signal}"),
                Err(_) => write!(f, "was killed by signal {number}"),
            },
            Self::Unknown => f.write_str("ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_status_is_as_the_kernel_packs_it() {
        let said = |code| Ending::from_code(code).to_string();
        assert_eq!(said(0), "exited with status 0");
        assert_eq!(said(3 << 8), "exited with status 3");
        assert_eq!(said(9), "was killed by SIGKILL");
        // 0x80 says that memory was dumped.
        assert_eq!(said(11 | 0x80), "was killed by SIGSEGV");
        assert_eq!(said(64), "was killed by signal 64");
    }

    #[test]
    fn a_zombie_has_its_status_in_its_line() {
        let mut fields = vec!["0"; 50];
        fields[0] = "Z";
        fields[49] = "768";
        let line = format!("12 (a) b) {}", fields.join(" "));
        assert_eq!(code_of_zombie(line.as_bytes()), Some(768));
        fields[0] = "S";
        let line = format!("12 (Z) {}", fields.join(" "));
        assert_eq!(code_of_zombie(line.as_bytes()), None);
        assert_eq!(code_of_zombie(b""), None);
    }

    #[test]
    fn the_end_of_a_child_is_seen_before_and_after_it_is_waited_for() {
        let mut child = Command::new("sh")
            .args(["-c", "read line; exit 7"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let witness = Witness::of(Pid(child.id().try_into().unwrap())).unwrap();
        assert_eq!(witness.ending(), None);
        drop(child.stdin.take());
        let mut seen = None;
        while seen.is_none() {
            std::thread::yield_now();
            seen = witness.ending();
        }
        assert_eq!(seen, Some(Ending::Exited(7)));
        child.wait().unwrap();
        // Before Linux 6.15 the kernel does not say.
        assert!(matches!(witness.ending(), Some(Ending::Exited(7) | Ending::Unknown)));
    }
}
