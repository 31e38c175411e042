//! The command that is started in order to be watched.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
};

use nix::{
    sys::{
        signal::{self, Signal},
        wait::{self, WaitPidFlag, WaitStatus},
    },
    unistd,
};

use super::exit::{Exit, Failure};
use crate::task::Pid;

/// A command that runs.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
}

impl Child {
    /// Start `command` with this program's terminal, environment and signals:
    /// so before any of them is blocked.
    pub(super) fn start(command: &[OsString]) -> anyhow::Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::usage("there is no command after --").into());
        };
        match Command::new(program).args(arguments).spawn() {
            Ok(process) => Ok(Self { process }),
            Err(error) => {
                let exit = match error.kind() {
                    io::ErrorKind::NotFound => Exit::CommandNotFound,
                    _ => Exit::CommandNotRun,
                };
                let what = format!("{} cannot be run", program.to_string_lossy());
                Err(Failure::failed(what).why(error.to_string()).exit(exit).into())
            }
        }
    }

    /// Its number. Until [`wait`](Self::wait) nothing takes its status, so the
    /// number stays its own even when it has ended.
    pub(super) fn pid(&self) -> Pid {
        Pid(self.process.id().try_into().unwrap_or_default())
    }

    /// Wait until it has ended, and take its status.
    pub(super) fn wait(mut self) -> io::Result<Exit> {
        self.process.wait().map(|status| Exit::Command(code(status)))
    }
}

/// Whether `pid`, a child of ours, has ended. Its status is left where it is.
pub(super) fn has_ended(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let status = wait::waitid(wait::Id::Pid(unistd::Pid::from_raw(pid.0)), flags);
    !matches!(status, Ok(WaitStatus::StillAlive))
}

/// Pass `signal` on. It may have ended meanwhile.
pub(super) fn pass_on(signal: Signal, to: Pid) {
    let _ = signal::kill(unistd::Pid::from_raw(to.0), signal);
}

/// As a shell tells it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| signal + 128));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_as_a_shell_does() {
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
        assert_eq!(code(ExitStatus::from_raw(15 | 0x80)), 143);
    }
}
