//! One look at every thread of a process: for `dump`, and for recording a
//! snapshot.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    Dump, DumpOptions, Error, Images, Origin, Stopping, ThreadDump,
    engine::{Engine, Examined, Facts, Sample},
    glance::Glance,
    open,
    rehearse::rehearse,
    shared::{NO_SYSCALL, NOT_STOPPED},
    waiting,
    watched::{Asked, Watched},
};
use crate::{
    capture::{Arrival, Catch, Copied, Gate, Look, Stops, Watch},
    memory::{Address, Piece},
    module::Modules,
    process::{LiveMemory, Process, Waits, Written},
    profile::ThreadId,
    runtime::Places,
    snapshot::{self, Registers},
    stack::{End, Stack},
    task::{Pid, State, Tid},
    unwind::Tables,
};

/// What is said of a process with too many addresses.
const NOT_SEARCHED: &str = "the process has more addresses than are searched for what is parked: some of that may be missing";

/// How long is waited for threads that do not stop.
const PATIENCE: Duration = Duration::from_millis(500);

/// Look once at every thread of `target`, whose frames lie in `images`; and at
/// the local variables of its managed frames, in that detail, where they are
/// wanted.
///
/// # Errors
/// When it cannot be watched.
pub fn dump(target: Pid, how: DumpOptions, images: &mut Images) -> Result<Dump, Error> {
    let mut looked = look(target, how, images)?;
    looked.threads.sort_by_key(|(tid, _)| *tid);
    let Engine { process, memory, mut language, .. } = looked.engine;
    let mut threads = Vec::with_capacity(looked.threads.len());
    // First of all, before many of them wait for something else.
    let mut waits = Waits::new(target);
    let wait = |(tid, sample): &(Tid, Sample)| {
        let seen = (sample.state, &sample.registers);
        let gate = Gate::open(target, *tid).ok()?;
        waiting::of(&mut waits, (*tid, &gate), seen, sample.facts.lock)
    };
    let waiting: Vec<_> = looked.threads.iter().map(wait).collect();
    for ((tid, sample), wait) in looked.threads.into_iter().zip(waiting) {
        let inner = process.namespace_tid(tid);
        let runtime = language.runtime();
        threads.push(ThreadDump {
            tid,
            name: process.thread_name(tid).unwrap_or_default(),
            given_name: runtime.and_then(|runtime| runtime.thread_name(inner, &memory)),
            state: sample.state,
            wait,
            lock: sample.facts.lock,
            collecting: sample.facts.collecting,
            greenlet: sample.facts.greenlet,
            registers: sample.registers,
            stack: sample.stack,
            locals: sample.facts.locals,
        });
    }
    let mut written = Written::default();
    let mut search = || {
        written = process.written().unwrap_or_default();
        std::mem::take(&mut written.ranges)
    };
    let runtime = language.runtime().filter(|_| how.parked);
    let parked = runtime.map(|it| it.parked(&mut search, Places::Columns, &memory));
    let mut notes = Vec::from_iter(Some(looked.note).filter(|note| !note.is_empty()));
    notes.extend(language.notes());
    notes.extend(written.is_cut.then(|| NOT_SEARCHED.to_owned()));
    Ok(Dump {
        pid: target,
        command: process.command(),
        runtime: language.runtime().map(|runtime| runtime.name().to_owned()),
        threads,
        parked: parked.unwrap_or_default(),
        origin: Origin { root: process.root(), namespace_pid: process.namespace_pid() },
        notes,
    })
}

/// Look once at every thread of `target`, and keep what the unwinder saw.
///
/// # Errors
/// When it cannot be watched.
pub fn capture(target: Pid) -> Result<Captured, Error> {
    let mut images = Images::default();
    let mut looked = look(target, DumpOptions::default(), &mut images)?;
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
    let memory = &looked.engine.memory;
    let pieces = snapshot::without_file(&mappings)
        .into_iter()
        .filter_map(|range| copy(memory, range))
        .collect();
    let root = process.root();
    let mut snapshot = snapshot::Process { pid: target, mappings, root, threads, pieces };
    let number = |tid| process.namespace_tid(tid);
    let read = rehearse(&snapshot, number, memory, looked.modules);
    snapshot.pieces.extend(read);
    Ok(Captured { snapshot, process })
}

/// A snapshot of a live process.
#[derive(Debug)]
pub struct Captured {
    /// The snapshot. Its root is that of the live process.
    pub snapshot: snapshot::Process,
    /// The process, still held: this keeps the files of the snapshot within reach.
    pub process: Process,
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

/// How often is tried to read a thread that sleeps again and again for a short
/// time: until it is met in a longer sleep, or awake.
const TRIES: usize = 64;

/// A process that was looked at.
struct Looked<'a> {
    engine: Engine,
    modules: &'a mut Modules,
    threads: Vec<(Tid, Sample)>,
    /// What had to be done another way than wanted; empty for nothing.
    note: String,
}

/// A thread that was asked to stop, and what is known of it without that.
type Waiting = (Watched, Sample);

/// On a thread of its own, whose end lets every thread go that has not arrived.
fn look(target: Pid, how: DumpOptions, images: &mut Images) -> Result<Looked<'_>, Error> {
    std::thread::scope(|scope| {
        let tracer = std::thread::Builder::new().name("sampler".to_owned());
        let tracer = tracer.spawn_scoped(scope, || trace(target, how, images));
        let tracer = tracer.map_err(|source| Error::Io { pid: target, source })?;
        tracer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn trace(target: Pid, how: DumpOptions, images: &mut Images) -> Result<Looked<'_>, Error> {
    let mut process = open(target)?;
    images.roots.hold(&mut process);
    let tids = process.threads().map_err(|source| Error::new(target, source))?;
    let engine = Engine::new(process, &Tables::Never);
    let engine = engine.map_err(|source| Error::new(target, source))?;
    let mut looked =
        Looked { engine, modules: &mut images.modules, threads: Vec::new(), note: String::new() };
    let Looked { engine, modules, .. } = &mut looked;
    engine.locals = how.locals;
    engine.language.places = Some(Places::Columns);
    engine.begin(Instant::now(), modules);
    let mut stops = Stops::default();
    let mut waiting = FxHashMap::default();
    for tid in tids {
        if let Some(asked) = looked.look(tid, how.stopping) {
            waiting.insert(tid, asked);
        }
    }
    // Only now, for whoever stops waits for the rest.
    let mut asks = Vec::with_capacity(waiting.len());
    for (watched, _) in waiting.values_mut() {
        let at = watched.asked.as_ref().map_or_else(Instant::now, |asked| asked.at);
        asks.push(looked.engine.ask(watched, at));
    }
    for ask in asks {
        let tid = ask.tid;
        if stops.ask(ask).is_err()
            && let Some((_, known)) = waiting.remove(&tid)
        {
            looked.threads.push((tid, known));
        }
    }
    looked.collect(&mut stops, &mut waiting);
    let known = waiting.into_iter().map(|(tid, (_, otherwise))| (tid, otherwise));
    looked.threads.extend(known);
    Ok(looked)
}

impl Looked<'_> {
    /// Look at a thread; and give it back, if it must be stopped.
    fn look(&mut self, tid: Tid, stopping: Stopping) -> Option<Waiting> {
        let gate = Gate::open(self.engine.process.pid(), tid).ok()?;
        let now = Instant::now();
        let mut watched = Watched::new(tid, ThreadId(0), gate, now);
        watched.seen = watched.gate.schedule().ok()?;
        watched.inner = self.engine.process.namespace_tid(tid);
        let nothing = Sample {
            state: State::Running,
            registers: Registers::unknown(),
            copied: Copied::default(),
            stack: Stack { frames: Vec::new(), end: End::NotCaught },
            facts: Facts::default(),
        };
        let mut asked = Asked::new(now, None);
        let mut otherwise = nothing;
        for left in (0..TRIES).rev() {
            match watched.gate.look() {
                Look::Ended => return None,
                Look::Runnable => {}
                Look::Unknown => {
                    NO_SYSCALL.clone_into(&mut self.note);
                    asked.unknown = true;
                }
                Look::Asleep(state, registers) => {
                    otherwise.state = state;
                    match self.engine.examine(&mut watched, state, &registers, self.modules) {
                        Examined::Ran if left > 0 => {
                            watched.seen = watched.gate.schedule().ok()?;
                            continue;
                        }
                        // It slept when it was looked at, and may sleep again.
                        Examined::Ran => return self.know(tid, otherwise),
                        Examined::Still(sample) => return self.know(tid, sample),
                        Examined::Incomplete(sample) => {
                            (asked.state, otherwise) = (Some(sample.state), sample);
                        }
                    }
                }
            }
            break;
        }
        if stopping == Stopping::Never {
            // One that sleeps has been read as far as it can be.
            let sleeps = asked.state.is_some();
            let sample = if sleeps { otherwise } else { self.glance(&mut watched, &asked) };
            return self.know(tid, sample);
        }
        watched.asked = Some(asked);
        Some((watched, otherwise))
    }

    /// Look at a thread that runs, and is not to be stopped.
    fn glance(&mut self, watched: &mut Watched, asked: &Asked) -> Sample {
        let (stack, facts) = match self.engine.glance(watched) {
            Glance::Frames(stack, facts) => (stack, facts),
            Glance::Torn | Glance::Without => {
                let (frames, end) = (Vec::new(), End::NotStopped);
                (Stack { frames, end }, Facts::default())
            }
        };
        if self.note.is_empty() {
            NOT_STOPPED.clone_into(&mut self.note);
        }
        let state = if asked.unknown { State::Faulting } else { State::Running };
        let (registers, copied) = (Registers::unknown(), Copied::default());
        Sample { state, registers, copied, stack, facts }
    }

    fn know(&mut self, tid: Tid, sample: Sample) -> Option<Waiting> {
        self.threads.push((tid, sample));
        None
    }

    fn collect(&mut self, stops: &mut Stops, waiting: &mut FxHashMap<Tid, Waiting>) {
        let until = Instant::now() + PATIENCE;
        loop {
            // All that come are let go before the first of them is unwound.
            let mut caught = Vec::new();
            while stops.pending() > 0 {
                let mut watch = Waiters { engine: &mut self.engine, waiting: &mut *waiting };
                match stops.next(until, &mut watch) {
                    None => break,
                    Some(Arrival::Ended(tid)) => drop(waiting.remove(&tid)),
                    Some(Arrival::Caught(catch)) => caught.push(catch),
                }
            }
            if caught.is_empty() {
                return stops.bury();
            }
            for catch in caught {
                self.finish(catch, stops, waiting);
            }
        }
    }

    /// Unwind a thread that was caught, or ask for a deeper copy of it.
    fn finish(&mut self, caught: Catch, stops: &mut Stops, waiting: &mut FxHashMap<Tid, Waiting>) {
        let tid = caught.tid;
        let Some((watched, _)) = waiting.get_mut(&tid) else { return };
        let Some(asked) = &mut watched.asked else { return };
        let (state, at) = (asked.judge(&caught), asked.at);
        if let Some(sample) = self.engine.finish(watched, caught, self.modules) {
            self.threads.push((tid, Sample { state, ..sample }));
            waiting.remove(&tid);
        } else if stops.ask(self.engine.ask(watched, at)).is_err()
            && let Some((_, known)) = waiting.remove(&tid)
        {
            self.threads.push((tid, known));
        }
    }
}

/// The threads that are awaited.
struct Waiters<'a> {
    engine: &'a mut Engine,
    waiting: &'a mut FxHashMap<Tid, Waiting>,
}

impl Watch for Waiters<'_> {
    fn of(&self, tid: Tid) -> Option<(&LiveMemory, &Gate)> {
        let (watched, _) = self.waiting.get(&tid)?;
        Some((&self.engine.memory, &watched.gate))
    }

    fn inspect(&mut self, tid: Tid, copied: &mut Copied, deadline: Instant) -> bool {
        let Some((watched, _)) = self.waiting.get_mut(&tid) else { return true };
        self.engine.inspect(watched, copied, Some(deadline))
    }
}
