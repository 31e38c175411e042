//! How the program ends: the exit codes, and what is said of a failure.

use std::{fmt, io, process::ExitCode};

use super::console::Console;
use crate::style::Role;

/// How the program ends. `docs/output.md` lists the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done, also when the reader of the output went away.
    Done,
    /// Something failed.
    Failed,
    /// What was typed is wrong.
    Usage,
    /// A second interrupt: nothing was written.
    GivenUp,
    /// A command was to be run, and this program failed.
    FailedBesideCommand,
    /// The command is there, and could not be run.
    CommandNotRun,
    /// The command is not there.
    CommandNotFound,
    /// The command's own status: its code, or 128 and its signal.
    Command(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::GivenUp => 130,
            Exit::FailedBesideCommand => 125,
            Exit::CommandNotRun => 126,
            Exit::CommandNotFound => 127,
            Exit::Command(status) => status,
        })
    }
}

/// A failure that knows how the program is to end, why, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    exit: Exit,
    what: String,
    why: Option<String>,
    fix: Option<String>,
}

impl Failure {
    /// Something failed.
    pub(super) fn failed(what: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: what.into(), why: None, fix: None }
    }

    /// What was typed is wrong.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(what) }
    }

    /// End the program so.
    pub(super) fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The fact behind it.
    pub(super) fn why(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// What to type next.
    pub(super) fn fix(self, fix: impl Into<Option<String>>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// Say what went wrong, and why, and what mends it; and how to end.
pub(super) fn report(error: &anyhow::Error, console: &Console) -> Exit {
    let closed = error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    });
    if closed {
        return Exit::Done;
    }
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    let (what, mut why, mut fix, mut exit) =
        (error.to_string(), causes.join(": "), None, Exit::Failed);
    if let Some(failure) = error.downcast_ref::<Failure>() {
        why = failure.why.clone().unwrap_or(why);
        fix.clone_from(&failure.fix);
        exit = failure.exit;
    }
    console.line(Role::Error, "error", &what);
    if !why.is_empty() {
        console.line(Role::Strong, "  why", &why);
    }
    if let Some(fix) = fix {
        console.line(Role::Command, "  fix", &fix);
    }
    exit
}
