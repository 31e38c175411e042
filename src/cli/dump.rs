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
    output::{
        View,
        dump::{self, Look, Process, Thread},
    },
    process::{access, children::Family},
    sampler::{self, Dump, DumpOptions, Images, Scope},
    stack::{self, End, Symbol, Variable},
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
    let options = DumpOptions { stopping: job.stopping, locals: job.locals, parked: job.parked };
    let mut looks = Looks { options, ..Looks::default() };
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
    let processes = looks.named(job.view);
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
    options: DumpOptions,
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
            let dump = sampler::dump(pid, self.options, &mut self.images);
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
        match sampler::dump(pid, self.options, &mut self.images) {
            Ok(dump) => self.dumps.push(dump),
            Err(sampler::Error::NoSuchProcess(_)) => self.missed += 1,
            Err(error) => {
                let reason = access::facts(pid).reason().to_string();
                console.warn(&escape(&format!("left out: {error}: {reason}")));
            }
        }
    }

    fn named(self, view: View) -> Vec<Process> {
        let names = names::of_dumps(&self.dumps, &self.images, view);
        self.dumps.iter().zip(names).map(|(dump, names)| named(dump, names)).collect()
    }
}

fn named(dump: &Dump, names: Vec<Option<Named<'_>>>) -> Process {
    let threads = dump.threads.iter().zip(names).filter_map(|(thread, named)| {
        let Named { frames: shown, to_the_end } = named?;
        Some(Thread {
            tid: thread.tid,
            name: thread.name.clone(),
            given_name: thread.given_name.clone(),
            state: thread.state,
            wait: thread.wait.clone(),
            lock: thread.lock,
            collecting: thread.collecting,
            greenlet: thread.greenlet.clone(),
            frames: frames(shown, &thread.locals),
            // Of a stack whose outer frames are not shown, the end is none of
            // the reader's concern.
            end: if to_the_end { thread.stack.end } else { End::Root },
        })
    });
    Process {
        pid: dump.pid,
        command: dump.command.clone(),
        runtime: dump.runtime.clone(),
        threads: threads.collect(),
        parked: dump.parked.clone(),
        notes: dump.notes.clone(),
    }
}

/// The frames that are shown of a thread: the managed ones, all of which are,
/// with their variables.
fn frames(shown: Vec<(&stack::Frame, Vec<Symbol>)>, locals: &[Vec<Variable>]) -> Vec<dump::Frame> {
    let mut locals = locals.iter();
    let mut frames = Vec::with_capacity(shown.len());
    for (frame, names) in shown {
        let (columns, mut locals) = match frame {
            stack::Frame::Native(_) => (None, None),
            stack::Frame::Managed(frame) => (frame.columns, locals.next().cloned()),
        };
        let named = |symbol| dump::Frame { symbol, columns, locals: locals.take() };
        frames.extend(names.into_iter().map(named));
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
