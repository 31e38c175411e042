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
    runtime::Detail,
    sampler::{self, Dump, Images, Scope},
    stack::{self, Stack, Symbol, Variable},
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
    let mut looks = Looks { locals: job.locals, ..Looks::default() };
    let mut exit = Exit::Done;
    for pid in pids {
        // Before the process itself is looked at, which takes its time.
        let children = descendants(pid, job.scope);
        let looked = target::check(pid).map_err(Into::into).and_then(|()| looks.at(pid));
        if let Err(error) = looked {
            exit = exit::report(&error, console);
        }
        for child in children {
            looks.at_child(child, console);
        }
    }
    match looks.missed {
        0 => {}
        1 => console.warn("1 process ended before it could be looked at"),
        many => console.warn(&format!("{many} processes ended before they could be looked at")),
    }
    let processes = looks.named();
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

/// The processes that were looked at, all of them before names are looked up.
#[derive(Default)]
struct Looks {
    dumps: Vec<Dump>,
    images: Images,
    /// How much of local variables is wanted.
    locals: Option<Detail>,
    /// Children that were gone.
    missed: u64,
}

impl Looks {
    fn has(&self, pid: Pid) -> bool {
        self.dumps.iter().any(|dump| dump.pid == pid)
    }

    /// Look at a process that was named, unless that was done.
    fn at(&mut self, pid: Pid) -> anyhow::Result<()> {
        if !self.has(pid) {
            let dump = sampler::dump(pid, self.locals, &mut self.images);
            self.dumps.push(dump.map_err(|error| refusal::explain(&error))?);
        }
        Ok(())
    }

    /// Look at a process that was found. That it may not be looked at is told,
    /// and is no failure.
    fn at_child(&mut self, pid: Pid, console: &Console) {
        if self.has(pid) {
            return;
        }
        match sampler::dump(pid, self.locals, &mut self.images) {
            Ok(dump) => self.dumps.push(dump),
            Err(sampler::Error::NoSuchProcess(_)) => self.missed += 1,
            Err(error) => {
                let reason = access::facts(pid).reason().to_string();
                console.warn(&escape(&format!("left out: {error}: {reason}")));
            }
        }
    }

    fn named(self) -> Vec<Process> {
        let names = names::of_dumps(&self.dumps, &self.images);
        self.dumps.into_iter().zip(names).map(|(dump, names)| named(dump, names)).collect()
    }
}

fn named(dump: Dump, names: Vec<Vec<Vec<Symbol>>>) -> Process {
    let threads = dump.threads.into_iter().zip(names).map(|(thread, names)| Thread {
        tid: thread.tid,
        frames: frames(&thread.stack, names, thread.locals),
        name: thread.name,
        given_name: thread.given_name,
        state: thread.state,
        lock: thread.lock,
        collecting: thread.collecting,
        end: thread.stack.end,
    });
    Process {
        pid: dump.pid,
        command: dump.command,
        runtime: dump.runtime,
        threads: threads.collect(),
        notes: dump.notes,
    }
}

/// The frames of `stack` with their names, and the managed ones with their
/// variables.
fn frames(stack: &Stack, names: Vec<Vec<Symbol>>, locals: Vec<Vec<Variable>>) -> Vec<dump::Frame> {
    let mut locals = locals.into_iter();
    let mut frames = Vec::with_capacity(names.len());
    for (frame, names) in stack.frames.iter().zip(names) {
        let native = |symbol| dump::Frame { symbol, columns: None, locals: None };
        match frame {
            stack::Frame::Native(_) => frames.extend(names.into_iter().map(native)),
            stack::Frame::Managed(frame) => {
                let mut locals = locals.next();
                frames.extend(names.into_iter().map(|symbol| dump::Frame {
                    symbol,
                    columns: frame.columns,
                    locals: locals.take(),
                }));
            }
        }
    }
    frames
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
