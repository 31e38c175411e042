//! Which processes are meant, and whether they can be watched at all: looked
//! at before anything is attached.

use std::{fs, path::Path};

use super::{candidates, console::Console, exit::Failure, plan::Targets, refusal, typed};
use crate::{
    process::access::{self, Reason},
    style::escape,
    task::Pid,
};

/// The processes that are meant; `None` for a command that is to be started.
pub(super) fn processes(targets: &Targets, console: &Console) -> anyhow::Result<Option<Vec<Pid>>> {
    match targets {
        Targets::Command(_) => Ok(None),
        Targets::Unsaid => Ok(Some(vec![candidates::choose(console)?])),
        Targets::Processes(pids) => {
            for &pid in pids {
                check(pid)?;
            }
            Ok(Some(pids.clone()))
        }
    }
}

/// The name of a process as the kernel has it, made harmless.
pub(super) fn name(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    escape(String::from_utf8_lossy(&bytes).trim_end()).into_owned()
}

/// Whether `pid` can be watched at all.
pub(super) fn check(pid: Pid) -> Result<(), Failure> {
    if u32::try_from(pid.0) == Ok(std::process::id()) {
        return Err(Failure::usage(format!("process {pid} is this spy"))
            .why("it would stop itself, and wait forever to be let go"));
    }
    let facts = access::facts(pid);
    if !facts.visible {
        return Err(refusal::no_such_process(pid));
    }
    if let Some(process) = process_of_thread(pid) {
        let what =
            format!("{pid} is no process, but a thread of process {process} ({})", name(process));
        return Err(Failure::usage(what).fix(typed::again_with(pid, process)));
    }
    match facts.reason() {
        reason @ (Reason::Zombie | Reason::KernelThread) => {
            Err(Failure::usage(format!("process {pid} ({}) cannot be watched", name(pid)))
                .why(reason.to_string()))
        }
        // The kernel itself is asked about the rest, by attaching.
        _ => Ok(()),
    }
}

/// `/proc` does not list threads, but has a directory for each.
fn process_of_thread(pid: Pid) -> Option<Pid> {
    let status = fs::read(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    let process = Pid(line.trim().parse().ok()?);
    (process != pid).then_some(process)
}
