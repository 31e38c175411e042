//! One look at every thread of a process: for `dump`, and for recording a
//! snapshot.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    Dump, Error, Origin, ThreadDump,
    engine::{Engine, Examined, Sample, state_by_stop},
    open,
    watched::Watched,
};
use crate::{
    capture::{Arrival, Catch, Copied, Gate, Stops},
    memory::{Address, Piece},
    module::Modules,
    process::{LiveMemory, Process},
    profile::ThreadId,
    snapshot::{self, Registers},
    stack::{End, Stack},
    task::{Pid, State, Tid},
    unwind::Tables,
};

/// How long is waited for threads that do not stop.
const PATIENCE: Duration = Duration::from_millis(500);

/// Look once at every thread of `target`.
///
/// # Errors
/// When it cannot be watched.
pub fn dump(target: Pid) -> Result<Dump, Error> {
    let mut looked = look(target)?;
    let process = looked.engine.process;
    let describe = |(tid, sample): (Tid, Sample)| ThreadDump {
        tid,
        name: process.thread_name(tid).unwrap_or_default(),
        state: sample.state,
        registers: sample.registers,
        stack: sample.stack,
    };
    looked.threads.sort_by_key(|(tid, _)| *tid);
    Ok(Dump {
        pid: target,
        command: process.command(),
        threads: looked.threads.into_iter().map(describe).collect(),
        modules: looked.modules,
        origin: Origin { root: process.root(), namespace_pid: process.namespace_pid() },
        notes: looked.notes,
        held: process,
    })
}

/// Look once at every thread of `target`, and keep what the unwinder saw.
///
/// # Errors
/// When it cannot be watched.
pub fn capture(target: Pid) -> Result<Captured, Error> {
    let mut looked = look(target)?;
    looked.threads.sort_by_key(|(tid, _)| *tid);
    let process = looked.engine.process;
    let mappings = looked.engine.mappings;
    let describe = |(tid, sample): (Tid, Sample)| snapshot::Thread {
        tid,
        name: process.thread_name(tid).unwrap_or_default(),
        state: sample.state,
        registers: sample.registers,
        pieces: std::iter::once(sample.copied.stack).chain(sample.copied.blocks).collect(),
    };
    let threads = looked.threads.into_iter().map(describe).collect();
    let pieces = snapshot::without_file(&mappings)
        .into_iter()
        .filter_map(|range| copy(&looked.engine.memory, range))
        .collect();
    let root = process.root();
    let snapshot = snapshot::Process { pid: target, mappings, root, threads, pieces };
    Ok(Captured { snapshot, held: process })
}

/// A snapshot of a live process.
#[derive(Debug)]
pub struct Captured {
    /// The snapshot. Its root is that of the live process.
    pub snapshot: snapshot::Process,
    /// Keeps the files of the snapshot within reach.
    pub held: Process,
}

/// The most that is copied of one range.
const LARGEST: u64 = 256 << 20;

fn copy(memory: &LiveMemory, range: Range<Address>) -> Option<Piece> {
    let len = range.end.0.saturating_sub(range.start.0).min(LARGEST);
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let copied = memory.copy(range.start, &mut bytes).ok()?;
    bytes.truncate(copied);
    Some(Piece { start: range.start, bytes })
}

/// A process that was looked at.
struct Looked {
    engine: Engine,
    modules: Modules,
    threads: Vec<(Tid, Sample)>,
    notes: Vec<String>,
}

fn look(target: Pid) -> Result<Looked, Error> {
    let process = open(target)?;
    let tids = process.threads().map_err(|source| Error::new(target, source))?;
    let engine = Engine::new(process, &Tables::Never);
    let engine = engine.map_err(|source| Error::new(target, source))?;
    let mut looked =
        Looked { engine, modules: Modules::default(), threads: Vec::new(), notes: Vec::new() };
    let mut stops = Stops::default();
    let mut asked = FxHashMap::default();
    for tid in tids {
        looked.look(tid, &mut stops, &mut asked);
    }
    looked.collect(&mut stops, &mut asked);
    for (tid, (_, otherwise)) in asked {
        looked.threads.push((tid, otherwise));
    }
    Ok(looked)
}

impl Looked {
    fn look(
        &mut self,
        tid: Tid,
        stops: &mut Stops,
        asked: &mut FxHashMap<Tid, (Watched, Sample)>,
    ) {
        let Ok(gate) = Gate::open(self.engine.process.pid(), tid) else { return };
        let mut watched = Watched::new(tid, ThreadId(0), gate, Instant::now());
        let Ok(schedule) = watched.gate.schedule() else { return };
        watched.seen = schedule;
        let nothing = Sample {
            state: State::Running,
            registers: Registers::unknown(),
            copied: Copied::default(),
            stack: Stack { frames: Vec::new(), end: End::NotCaught },
        };
        let otherwise = match self.engine.examine(&mut watched, &mut self.modules) {
            Examined::Ended => return,
            Examined::Still(sample) => return self.threads.push((tid, sample)),
            Examined::Incomplete(sample, _) => sample,
            Examined::Runnable | Examined::Unknown => nothing,
        };
        let ask = self.engine.ask(tid, &watched);
        match stops.ask(ask) {
            Ok(()) => {
                asked.insert(tid, (watched, otherwise));
            }
            Err(_) => self.threads.push((tid, otherwise)),
        }
    }

    fn collect(&mut self, stops: &mut Stops, asked: &mut FxHashMap<Tid, (Watched, Sample)>) {
        let until = Instant::now() + PATIENCE;
        loop {
            let engine = &self.engine;
            let of = |tid| {
                let (watched, _): &(Watched, Sample) = asked.get(&tid)?;
                Some((&engine.process, &engine.memory, Some(&watched.gate)))
            };
            let caught = match stops.next(until, of) {
                None => return,
                Some(Arrival::Ended(tid)) => {
                    asked.remove(&tid);
                    continue;
                }
                Some(Arrival::Caught(caught)) => caught,
            };
            let Catch { tid, queued, interrupted, .. } = caught;
            let Some((watched, otherwise)) = asked.get_mut(&tid) else { continue };
            match self.engine.finish(watched, caught, &mut self.modules) {
                Ok(mut sample) => {
                    sample.state = match otherwise.state {
                        State::Running if queued == Some(true) => State::Queued,
                        State::Running => state_by_stop(interrupted),
                        state => state,
                    };
                    self.threads.push((tid, sample));
                    asked.remove(&tid);
                }
                Err(ask) => {
                    if stops.ask(ask).is_err() {
                        asked.remove(&tid);
                    }
                }
            }
        }
    }
}
