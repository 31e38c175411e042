//! `spy dump`.

use std::io::{self, BufWriter, Write};

use anyhow::Context;

use super::{
    candidates,
    console::Console,
    exit::{self, Exit},
    names::{self, Named},
    plan::{self, Language, Targets},
    refusal, target,
};
use crate::{
    output::dump::{self, Look, Process, Thread},
    sampler,
    stack::End,
    task::Pid,
};

/// Look once at each process that is meant. One that cannot be looked at does
/// not keep the others from being shown.
pub(super) fn run(job: &plan::Dump, console: &Console) -> anyhow::Result<Exit> {
    let pids = match &job.targets {
        Targets::Processes(pids) => pids.clone(),
        Targets::Unsaid | Targets::Command(_) => vec![candidates::choose(console)?],
    };
    let mut processes = Vec::new();
    let mut exit = Exit::Done;
    for pid in pids {
        match look(pid, job) {
            Ok(process) => processes.push(process),
            Err(error) => exit = exit::report(&error, console),
        }
    }
    if !processes.is_empty() {
        print(&processes, job, console).context("standard output cannot be written")?;
    }
    Ok(exit)
}

fn look(pid: Pid, job: &plan::Dump) -> anyhow::Result<Process> {
    target::check(pid)?;
    let found = sampler::dump(pid, job.stopping).map_err(|error| refusal::explain(&error))?;
    let names = names::of_dump(&found, job.view);
    let threads = found.threads.into_iter().zip(names).filter_map(|(thread, named)| {
        let Named { frames, to_the_end } = named?;
        // Of a stack whose outer frames are not shown, the end is none of the
        // reader's concern.
        let end = if to_the_end { thread.stack.end } else { End::Root };
        Some(Thread { tid: thread.tid, name: thread.name, state: thread.state, frames, end })
    });
    Ok(Process {
        pid: found.pid,
        command: found.command,
        threads: threads.collect(),
        notes: found.notes,
    })
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
