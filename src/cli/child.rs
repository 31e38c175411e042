//! The command that is started in order to be watched.

use std::{
    ffi::OsString,
    io,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
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

/// Where a command's output goes that has no terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// Away.
    Nowhere,
    /// To standard error, standard output being used for something else.
    StandardError,
}

/// A command that runs.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
}

impl Child {
    /// Start `command` with this program's terminal, environment and signals:
    /// so before any of them is blocked.
    pub(super) fn start(command: &[OsString]) -> anyhow::Result<Self> {
        Self::spawn(command, |_| Ok(()))
    }

    /// Start it without the terminal: it reads nothing, and what it writes is
    /// lost or, where it is in nobody's way, goes to standard error.
    pub(super) fn start_apart(command: &[OsString], writes: Writes) -> anyhow::Result<Self> {
        Self::spawn(command, |command| {
            command.stdin(Stdio::null());
            match writes {
                Writes::Nowhere => command.stdout(Stdio::null()).stderr(Stdio::null()),
                Writes::StandardError => command.stdout(io::stderr().as_fd().try_clone_to_owned()?),
            };
            Ok(())
        })
    }

    fn spawn(
        command: &[OsString],
        prepare: impl FnOnce(&mut Command) -> io::Result<()>,
    ) -> anyhow::Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::usage("there is no command after --").into());
        };
        let mut command = Command::new(program);
        prepare(command.args(arguments))?;
        match command.spawn() {
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

    /// Tell it to end, wait for that, but not for longer than `patience`, and
    /// take its status.
    pub(super) fn end(mut self, patience: Duration) {
        let began = Instant::now();
        pass_on(Signal::SIGTERM, self.pid());
        // A command that was stopped would not hear it.
        pass_on(Signal::SIGCONT, self.pid());
        while began.elapsed() < patience && matches!(self.process.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
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
