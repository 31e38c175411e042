//! `spy dump`.

use std::io::{self, BufWriter, Write};

use anyhow::Context;

use super::{
    candidates,
    console::Console,
    exit::{self, Exit},
    names,
    plan::{self, Language, Targets},
    refusal, target,
};
use crate::{
    output::dump::{self, Look, Process, Thread},
    process::{access, children::Family},
    sampler::{self, Dump, Scope},
    style::escape,
    task::Pid,
};

/// Look once at each process that is meant. One that cannot be looked at does
/// not keep the others from being shown.
pub(super) fn run(job: &plan::Dump, console: &Console) -> anyhow::Result<Exit> {
    let pids = match &job.targets {
        Targets::Processes(pids) => pids.clone(),
        Targets::Unsaid | Targets::Command(_) => vec![candidates::choose(console)?],
    };
    let mut processes: Vec<Process> = Vec::new();
    let mut exit = Exit::Done;
    let mut missed = 0;
    for pid in pids {
        if processes.iter().any(|process| process.pid == pid) {
            continue;
        }
        // Before the process is looked at, which takes its time.
        let found = descendants(pid, job.scope);
        match target::check(pid).map_err(Into::into).and_then(|()| look(pid)) {
            Ok(process) => processes.push(process),
            Err(error) => exit = exit::report(&error, console),
        }
        for child in found {
            if processes.iter().any(|process| process.pid == child) {
                continue;
            }
            match sampler::dump(child) {
                Ok(dump) => processes.push(named(dump)),
                Err(sampler::Error::NoSuchProcess(_)) => missed += 1,
                Err(error) => console.warn(&left_out(child, &error)),
            }
        }
    }
    match missed {
        0 => {}
        1 => console.warn("1 process ended before it could be looked at"),
        many => console.warn(&format!("{many} processes ended before they could be looked at")),
    }
    if !processes.is_empty() {
        print(&processes, job, console).context("standard output cannot be written")?;
    }
    Ok(exit)
}

/// What descends from a process, where that is wanted: each before its own
/// children.
fn descendants(pid: Pid, scope: Scope) -> Vec<Pid> {
    match scope {
        Scope::Named => Vec::new(),
        Scope::Descendants => Family::of(&[pid]).look().born,
    }
}

/// That a descendant may not be looked at is told, and is no failure.
fn left_out(pid: Pid, error: &sampler::Error) -> String {
    let reason = access::facts(pid).reason().to_string();
    escape(&format!("left out: {error}: {reason}")).into_owned()
}

fn look(pid: Pid) -> anyhow::Result<Process> {
    sampler::dump(pid).map(named).map_err(|error| refusal::explain(&error))
}

fn named(found: Dump) -> Process {
    let names = names::of_dump(&found);
    let threads = found.threads.into_iter().zip(names).map(|(thread, frames)| Thread {
        tid: thread.tid,
        name: thread.name,
        state: thread.state,
        frames,
        end: thread.stack.end,
    });
    Process {
        pid: found.pid,
        command: found.command,
        threads: threads.collect(),
        notes: found.notes,
    }
}

fn print(processes: &[Process], job: &plan::Dump, console: &Console) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match job.language {
        Language::Json => {
            serde_json::to_writer_pretty(&mut out, &dump::json(processes))?;
            writeln!(out)?;
        }
        Language::Text => {
            let look = Look { paint: console.out, paths: job.paths, width: console.width };
            for (at, process) in processes.iter().enumerate() {
                if at > 0 {
                    writeln!(out)?;
                }
                dump::write(process, look, &mut out)?;
            }
        }
    }
    out.flush()
}
