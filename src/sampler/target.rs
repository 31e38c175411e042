//! One process that is watched, over many ticks.

use std::{
    io,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    engine::{Engine, Examined},
    shared::{How, NO_SYSCALL, Shared},
    watched::{Asked, Found, Settled, Watched},
};
use crate::{
    capture::{Arrival, Catch, Gate, Look, Stops},
    process::Process,
    profile::ProcessId,
    snapshot::Registers,
    stack::{End, Stack},
    task::{State, Tid},
};

/// A process, its threads, and its place in the profile.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) engine: Engine,
    pub(super) id: ProcessId,
    threads: FxHashMap<Tid, Watched>,
    /// Threads that run, in this tick, and threads that sleep and have run.
    runnable: Vec<Tid>,
    asleep: Vec<(Tid, State, Registers)>,
    /// How many threads there were when they were last listed.
    listed: Option<u64>,
    /// When they were last counted, and looked at whether any is left.
    counted: Instant,
    executable: Option<(u64, u64)>,
    checked: Instant,
    /// CPU time when watching began, and when it was last read.
    cpu: [Duration; 2],
}

/// How often is looked whether the process runs another program, and what CPU
/// time it has used.
const CHECK: Duration = Duration::from_millis(20);

/// How often threads are counted, at high rates.
const COUNT: Duration = Duration::from_millis(1);

impl Target {
    pub(super) fn new(process: Process, shared: &mut Shared, now: Instant) -> io::Result<Self> {
        let cpu = process.cpu_time().unwrap_or_default();
        let executable = process.executable().ok();
        let id = shared.add_process(&process);
        let engine = Engine::new(process, &shared.tables)?;
        Ok(Self {
            engine,
            id,
            threads: FxHashMap::default(),
            runnable: Vec::new(),
            asleep: Vec::new(),
            listed: None,
            counted: now,
            executable,
            checked: now,
            cpu: [cpu; 2],
        })
    }

    /// Whether the process has ended; asked of the kernel as often as threads
    /// are counted.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        let recent = now.saturating_duration_since(self.counted) < COUNT;
        !(recent && self.listed.is_some()) && self.engine.process.has_ended()
    }

    /// What is needed to take an arriving thread's copy, if it is one of this
    /// process.
    pub(super) fn of(
        &self,
        tid: Tid,
    ) -> Option<(&Process, &crate::process::LiveMemory, Option<&Gate>)> {
        let watched = self.threads.get(&tid)?;
        Some((&self.engine.process, &self.engine.memory, Some(&watched.gate)))
    }

    /// The CPU time that the process has used while it was watched.
    pub(super) fn cpu(&mut self) -> Duration {
        let [first, last] = &mut self.cpu;
        if let Some(now) = self.engine.process.cpu_time() {
            *last = now.max(*last);
        }
        last.saturating_sub(*first)
    }

    /// Look at every thread: first at all whether they have run, then at those
    /// that have what they do. Those that run are asked to stop only after
    /// that, for a thread that stops gives its processor to another, which then
    /// would be seen to run.
    pub(super) fn look(&mut self, now: Instant, stops: &mut Stops, shared: &mut Shared) {
        self.engine.begin(now);
        if now.saturating_duration_since(self.checked) >= CHECK {
            self.checked = now;
            self.cpu();
            self.follow_exec(shared, now);
        }
        self.list(now, shared);
        let mut changed = Vec::new();
        let mut ended = Vec::new();
        for watched in self.threads.values_mut() {
            match pass(watched, now, stops, shared) {
                Ok(Passed::Done) => {}
                Ok(Passed::Changed) => changed.push(watched.tid),
                Err(Gone) => ended.push(watched.tid),
            }
        }
        for tid in changed {
            let Some(watched) = self.threads.get(&tid) else { continue };
            shared.calls += 1;
            match watched.gate.look() {
                Look::Ended => ended.push(tid),
                Look::Asleep(state, registers) => self.asleep.push((tid, state, registers)),
                Look::Runnable => self.runnable.push(tid),
                Look::Unknown => {
                    shared.note(NO_SYSCALL);
                    self.runnable.push(tid);
                }
            }
        }
        for tid in ended {
            self.end(tid, stops, shared);
        }
    }

    /// Ask the threads that run to stop.
    pub(super) fn ask(&mut self, now: Instant, stops: &mut Stops, shared: &mut Shared) {
        for tid in self.runnable.drain(..) {
            let Some(watched) = self.threads.get_mut(&tid) else { continue };
            ask(&mut self.engine, watched, Asked::new(now, None), stops, shared);
        }
    }

    /// Read one of the threads that sleep; whether there was one left.
    pub(super) fn read(&mut self, now: Instant, stops: &mut Stops, shared: &mut Shared) -> bool {
        let Some((tid, state, registers)) = self.asleep.pop() else { return false };
        if let Some(watched) = self.threads.get_mut(&tid) {
            read(&mut self.engine, watched, (state, &registers, now), stops, shared);
        }
        true
    }

    /// A process that has begun another program is another one to a reader.
    fn follow_exec(&mut self, shared: &mut Shared, now: Instant) {
        let executable = self.engine.process.executable().ok();
        if executable.is_none() || executable == self.executable {
            return;
        }
        self.executable = executable;
        shared.set_cpu(self.id, self.cpu());
        self.cpu = [self.cpu[1]; 2];
        self.id = shared.add_process(&self.engine.process);
        self.engine.start_over(&shared.tables);
        for watched in self.threads.values_mut() {
            watched.settled = None;
            watched.id = shared.add_thread(self.id, &self.engine.process, watched.tid);
            watched.since = now;
        }
    }

    /// Find new threads, if their number has changed or one has ended.
    fn list(&mut self, now: Instant, shared: &mut Shared) {
        if self.listed.is_some() && now.saturating_duration_since(self.counted) < COUNT {
            return;
        }
        self.counted = now;
        let Ok(count) = self.engine.process.thread_count() else { return };
        shared.calls += 1;
        if self.listed == Some(count) {
            return;
        }
        let Ok(tids) = self.engine.process.threads() else { return };
        let process = &self.engine.process;
        for tid in tids {
            if self.threads.contains_key(&tid) {
                continue;
            }
            if let Ok(gate) = Gate::open(process.pid(), tid) {
                let id = shared.add_thread(self.id, process, tid);
                self.threads.insert(tid, Watched::new(tid, id, gate, now));
            }
        }
        self.listed = Some(count);
    }

    fn end(&mut self, tid: Tid, stops: &mut Stops, shared: &mut Shared) {
        stops.forget(tid);
        self.listed = None;
        if let Some(mut watched) = self.threads.remove(&tid) {
            give_up(&mut watched, shared);
        }
    }

    /// Handle a thread that was asked to stop, if it is one of this process;
    /// otherwise give it back.
    pub(super) fn arrive(
        &mut self,
        arrival: Arrival,
        stops: &mut Stops,
        shared: &mut Shared,
    ) -> Option<Arrival> {
        let (Arrival::Ended(tid) | Arrival::Caught(Catch { tid, .. })) = arrival;
        let Some(watched) = self.threads.get_mut(&tid) else { return Some(arrival) };
        match arrival {
            Arrival::Ended(_) => self.end(tid, stops, shared),
            Arrival::Caught(caught) => {
                finish(&mut self.engine, watched, caught, stops, shared);
            }
        }
        None
    }

    /// The recording ends: what was asked of threads that have not arrived is
    /// counted with what is known without it.
    pub(super) fn close(&mut self, shared: &mut Shared) {
        for watched in self.threads.values_mut() {
            give_up(watched, shared);
            shared.name_thread(watched.id, &self.engine.process, watched.tid);
        }
        shared.calls += self.engine.memory.reads();
        let cpu = self.cpu();
        shared.set_cpu(self.id, cpu);
    }
}

/// The thread has ended.
struct Gone;

/// What the gate says of a thread.
enum Passed {
    /// It has not run, and was counted; or it was asked before, and is awaited.
    Done,
    /// It has run.
    Changed,
}

/// Let one thread pass the gate.
fn pass(
    watched: &mut Watched,
    now: Instant,
    stops: &Stops,
    shared: &mut Shared,
) -> Result<Passed, Gone> {
    if let Some(asked) = &mut watched.asked {
        asked.later += 1;
        asked.until = now;
        // It may have become another thread in an exec.
        return if stops.is_pending(watched.tid) { Ok(Passed::Done) } else { Err(Gone) };
    }
    let schedule = watched.gate.schedule().map_err(|_| Gone)?;
    shared.calls += 1;
    if let Some(found) = watched.unchanged(schedule) {
        shared.count(watched, found, (now, 1), How::Unchanged);
        return Ok(Passed::Done);
    }
    watched.settled = None;
    watched.seen = schedule;
    Ok(Passed::Changed)
}

/// Read a thread that sleeps; and ask it to stop, if that is not enough.
fn read(
    engine: &mut Engine,
    watched: &mut Watched,
    (state, registers, now): (State, &Registers, Instant),
    stops: &mut Stops,
    shared: &mut Shared,
) {
    let process = shared.process_of(watched.id);
    let otherwise = match engine.examine(watched, state, registers, &mut shared.modules) {
        Examined::Still(sample) => {
            let found = shared.found(process, sample.state, &sample.stack);
            watched.settled = Some(Settled { found, stopped_from: None });
            shared.count(watched, found, (now, 1), How::Still);
            engine.give_back(sample.copied);
            return name(engine, watched, shared);
        }
        Examined::Incomplete(sample) => {
            let found = shared.found(process, sample.state, &sample.stack);
            engine.give_back(sample.copied);
            Some((found, Look::Asleep(state, *registers)))
        }
        Examined::Ran => None,
    };
    ask(engine, watched, Asked::new(now, otherwise), stops, shared);
}

fn ask(
    engine: &mut Engine,
    watched: &mut Watched,
    asked: Asked,
    stops: &mut Stops,
    shared: &mut Shared,
) {
    let at = asked.at;
    watched.asked = Some(asked);
    if stops.ask(engine.ask(watched, at)).is_err() {
        // It is ending, or has been refused.
        give_up(watched, shared);
    }
}

/// Count a thread that was asked to stop with what is known without the stop.
fn give_up(watched: &mut Watched, shared: &mut Shared) {
    let Some(asked) = watched.asked.take() else { return };
    let process = shared.process_of(watched.id);
    let found = asked.otherwise.map_or_else(
        || {
            let nothing = Stack { frames: Vec::new(), end: End::NotCaught };
            shared.found(process, asked.state.unwrap_or(State::Running), &nothing)
        },
        |(found, _)| found,
    );
    count(watched, found, &asked, How::Missed, shared);
}

/// Count a thread that was asked to stop, for the tick at which it was asked
/// and for those that have passed since. A thread that is ready to run and
/// does not stop has no processor to do it on.
fn count(watched: &mut Watched, found: Found, asked: &Asked, how: How, shared: &mut Shared) {
    shared.count(watched, found, (asked.at, 1), how);
    if asked.later > 0 {
        let state = if found.state.is_runnable() { State::Queued } else { found.state };
        shared.count(watched, Found { state, ..found }, (asked.until, asked.later), how);
    }
}

/// A thread was caught: unwind it, and count it.
fn finish(
    engine: &mut Engine,
    watched: &mut Watched,
    caught: Catch,
    stops: &mut Stops,
    shared: &mut Shared,
) {
    shared.held(caught.held, caught.partial);
    let process = shared.process_of(watched.id);
    let Some(asked) = &mut watched.asked else { return };
    let (state, at) = (asked.judge(&caught), asked.at);
    let Some(sample) = engine.finish(watched, caught, &mut shared.modules) else {
        if stops.ask(engine.ask(watched, at)).is_err() {
            give_up(watched, shared);
        }
        return;
    };
    let Some(asked) = watched.asked.take() else { return };
    let found = shared.found(process, state, &sample.stack);
    if let Some((_, look)) = asked.otherwise {
        watched.settled = Some(Settled { found, stopped_from: Some(look) });
    }
    count(watched, found, &asked, How::Stopped, shared);
    engine.give_back(sample.copied);
    name(engine, watched, shared);
}

fn name(engine: &Engine, watched: &Watched, shared: &mut Shared) {
    if watched.name_is_due() {
        shared.name_thread(watched.id, &engine.process, watched.tid);
    }
}
