//! One process that is watched, over many ticks.

use std::{
    io,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    engine::{Engine, Examined},
    shared::{How, NO_SYSCALL, Shared},
    watched::{Asked, Settled, Watched},
};
use crate::{
    capture::{Arrival, Catch, Gate, Stops},
    process::Process,
    profile::ProcessId,
    stack::{End, Stack},
    task::{State, Tid},
};

/// A process, its threads, and its place in the profile.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) engine: Engine,
    pub(super) id: ProcessId,
    threads: FxHashMap<Tid, Watched>,
    /// How many threads there were when they were last listed.
    listed: Option<u64>,
    executable: Option<(u64, u64)>,
    checked: Instant,
    /// CPU time when watching began, and when it was last read.
    cpu: [Duration; 2],
}

/// How often is looked whether the process runs another program, and what CPU
/// time it has used.
const CHECK: Duration = Duration::from_millis(20);

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
            listed: None,
            executable,
            checked: now,
            cpu: [cpu; 2],
        })
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

    /// Look at every thread. Those that are to be stopped are asked.
    pub(super) fn tick(&mut self, now: Instant, stops: &mut Stops, shared: &mut Shared) {
        self.engine.begin(now);
        if now.saturating_duration_since(self.checked) >= CHECK {
            self.checked = now;
            self.cpu();
            self.follow_exec(shared, now);
        }
        self.list(now, shared);
        let mut ended = Vec::new();
        for watched in self.threads.values_mut() {
            if look(&mut self.engine, watched, now, stops, shared).is_err() {
                ended.push(watched.tid);
            }
        }
        for tid in ended {
            self.end(tid, stops, shared);
        }
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

/// Look at one thread, once.
fn look(
    engine: &mut Engine,
    watched: &mut Watched,
    now: Instant,
    stops: &mut Stops,
    shared: &mut Shared,
) -> Result<(), Gone> {
    if let Some(asked) = &mut watched.asked {
        asked.ticks += 1;
        asked.until = now;
        // It may have become another thread in an exec.
        return if stops.is_pending(watched.tid) { Ok(()) } else { Err(Gone) };
    }
    let schedule = watched.gate.schedule().map_err(|_| Gone)?;
    shared.calls += 1;
    if let Some(found) = watched.unchanged(schedule) {
        shared.count(watched, found, (now, 1), How::Unchanged);
        return Ok(());
    }
    watched.settled = None;
    watched.seen = schedule;
    shared.calls += 1;
    let process = shared.process_of(watched.id);
    let (state, otherwise) = match engine.examine(watched, &mut shared.modules) {
        Examined::Ended => return Err(Gone),
        Examined::Still(sample) => {
            let found = shared.found(process, sample.state, &sample.stack);
            watched.settled = Some(Settled { found, stopped_from: None });
            shared.count(watched, found, (now, 1), How::Still);
            engine.give_back(sample.copied);
            name(engine, watched, shared);
            return Ok(());
        }
        Examined::Incomplete(sample, look) => {
            let found = shared.found(process, sample.state, &sample.stack);
            engine.give_back(sample.copied);
            (Some(sample.state), Some((found, look)))
        }
        Examined::Runnable => (None, None),
        Examined::Unknown => {
            shared.note(NO_SYSCALL);
            (None, None)
        }
    };
    watched.asked = Some(Asked { ticks: 1, until: now, otherwise, state });
    if stops.ask(engine.ask(watched, now)).is_err() {
        // It is ending, or has been refused.
        give_up(watched, shared);
    }
    Ok(())
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
    shared.count(watched, found, (asked.until, asked.ticks), How::Missed);
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
    let (state, at) = (asked.judge(&caught), asked.until);
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
    shared.count(watched, found, (asked.until, asked.ticks), How::Stopped);
    engine.give_back(sample.copied);
    name(engine, watched, shared);
}

fn name(engine: &Engine, watched: &Watched, shared: &mut Shared) {
    if watched.name_is_due() {
        shared.name_thread(watched.id, &engine.process, watched.tid);
    }
}
