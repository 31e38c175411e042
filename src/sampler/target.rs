//! One process that is watched, over many ticks.

use std::{
    io,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    engine::Engine,
    live::{self, Now},
    quiet::Quiet,
    shared::{NO_DESCRIPTORS, NO_SYSCALL, Shared},
    thread::{Gone, Passed, ask, finish, give_up, pass, prepare, read, sleeps_on},
    watched::{Asked, Watched},
};
use crate::{
    capture::{Arrival, Ask, Catch, Copied, Gate, Look, Schedule, Stops},
    process::{LiveMemory, Process, Throttling},
    profile::{ProcessId, Throttled},
    snapshot::Registers,
    task::{State, Tid},
};

/// A process, its threads, and its place in the profile.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) engine: Engine,
    pub(super) id: ProcessId,
    threads: FxHashMap<Tid, Watched>,
    /// Threads that are to be stopped in this tick, and threads that sleep and
    /// are to be read.
    awake: Vec<(Tid, Asked)>,
    asleep: Vec<(Tid, State, Registers)>,
    /// Whether the first thread has ended: it is listed until all have.
    leader_is_gone: bool,
    /// How many threads there were when they were last listed.
    listed: Option<u64>,
    listed_once: bool,
    /// When they were last counted.
    counted: Instant,
    program: Option<Program>,
    checked: Instant,
    /// The tick before this one.
    looked: Instant,
    /// Whether it is in a namespace of its own, in which its threads have other
    /// numbers.
    is_in_namespace: bool,
    /// Whether the threads that sleep need be looked at one by one.
    quiet: Quiet,
    /// CPU time when watching began, and when it was last read.
    cpu: [Duration; 2],
    /// What the limits of its control groups have kept it from, where it has
    /// any.
    throttling: Option<Throttling>,
}

/// What a process runs: device and inode of the file, and where the kernel has
/// put it, which is random.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    file: (u64, u64),
    place: Vec<u8>,
}

impl Program {
    fn of(process: &Process) -> Option<Self> {
        let (file, place) = (process.executable().ok()?, process.auxiliary_vector().ok()?);
        // It is empty while the process ends.
        (!place.is_empty()).then_some(Self { file, place })
    }
}

/// How often is looked whether the process runs another program, and what CPU
/// time it has used.
const CHECK: Duration = Duration::from_millis(20);

/// What was seen of a thread that ran is believed for so long.
const FRESH: Duration = Duration::from_micros(500);

/// How often threads are counted, at high rates.
const COUNT: Duration = Duration::from_millis(1);

impl Target {
    pub(super) fn new(process: Process, shared: &mut Shared, now: Instant) -> io::Result<Self> {
        let cpu = process.cpu_time().unwrap_or_default();
        let program = Program::of(&process);
        let is_in_namespace = process.namespace_pid() != process.pid();
        let throttling = Throttling::of(process.pid());
        let engine = Engine::new(process, &shared.tables)?;
        let id = shared.add_process(&engine.process);
        Ok(Self {
            engine,
            id,
            threads: FxHashMap::default(),
            awake: Vec::new(),
            asleep: Vec::new(),
            leader_is_gone: false,
            listed: None,
            listed_once: false,
            counted: now,
            program,
            checked: now,
            looked: now,
            is_in_namespace,
            quiet: Quiet::default(),
            cpu: [cpu; 2],
            throttling,
        })
    }

    /// The same of a process that was found while others were watched already,
    /// since the machine had been running for `began`: what it has done before
    /// it was found counts, too, if it has begun since.
    pub(super) fn since_birth_if_after(mut self, began: Duration) -> Self {
        // The kernel tells the beginning of a process in hundredths of a second.
        const STEP: Duration = Duration::from_millis(10);
        if self.engine.process.began().is_some_and(|it| it + STEP > began) {
            self.cpu[0] = Duration::ZERO;
            self.listed_once = true;
        }
        self
    }

    /// Whether a thread of it was asked to stop, and has not arrived.
    pub(super) fn is_awaited(&self, stops: &Stops) -> bool {
        self.threads.keys().any(|&tid| stops.is_pending(tid))
    }

    /// Whether the process has ended.
    ///
    /// A look at its threads finds that they have, one by one; so the kernel is
    /// asked when none is left, when one has ended, and before a look that
    /// would take a process that has ended for one that cannot be read. And
    /// now and then: a first thread has a schedule until its parent knows.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        let is_there = self.listed.is_some()
            && !self.threads.is_empty()
            && now.saturating_duration_since(self.checked) < CHECK
            && !self.engine.language.is_due(now);
        !is_there && self.engine.process.has_ended()
    }

    /// What is needed to take an arriving thread's copy, if it is one of this
    /// process.
    pub(super) fn of(&self, tid: Tid) -> Option<(&LiveMemory, &Gate)> {
        let watched = self.threads.get(&tid)?;
        Some((&self.engine.memory, &watched.gate))
    }

    /// Read what else belongs to the moment of a copy, if the thread is one of
    /// this process; whether there was time enough.
    pub(super) fn inspect(
        &mut self,
        tid: Tid,
        copied: &mut Copied,
        deadline: Instant,
    ) -> Option<bool> {
        let watched = self.threads.get_mut(&tid)?;
        Some(self.engine.inspect(watched, copied, Some(deadline)))
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
        self.engine.begin(now, &mut shared.modules);
        if now.saturating_duration_since(self.checked) >= CHECK {
            self.checked = now;
            self.cpu();
            self.follow_exec(shared, now);
        }
        self.list(now, shared);
        let asleep = self.threads.values().filter(|watched| watched.is_asleep()).count();
        let begun = Quiet::begin(&self.engine.process, asleep);
        self.look_at(|watched| !watched.is_asleep(), now, stops, shared);
        let run = |threads: &FxHashMap<Tid, Watched>| {
            Duration::from_nanos(threads.values().filter_map(|it| Some(it.latest?.run)).sum())
        };
        let sleeps = begun.is_some_and(|begun| {
            shared.calls += 3;
            let awake = self.awake.iter().filter(|(_, asked)| !asked.unknown).count();
            let all = run(&self.threads);
            stops.pending() == 0 && self.quiet.holds(begun, &self.engine.process, all, awake)
        });
        if sleeps {
            for watched in self.threads.values_mut().filter(|watched| watched.looked != now) {
                if let Some(settled) = watched.settled {
                    sleeps_on(watched, settled.found, now, shared);
                }
            }
        } else {
            self.look_at(|watched| watched.looked != now, now, stops, shared);
            if let Some(begun) = begun {
                self.quiet.learn(begun, &self.engine.process, run(&self.threads));
            }
        }
        self.looked = now;
    }

    /// Let those of the threads that `which` says pass the gate, and look at
    /// what those do that have run.
    fn look_at(
        &mut self,
        which: impl Fn(&Watched) -> bool,
        now: Instant,
        stops: &mut Stops,
        shared: &mut Shared,
    ) {
        let mut changed = Vec::new();
        let mut ended = Vec::new();
        for watched in self.threads.values_mut().filter(|watched| which(watched)) {
            match pass(&self.engine, watched, now, stops, shared) {
                Ok(Passed::Done) => {}
                Ok(Passed::Changed) => changed.push(watched.tid),
                Err(Gone) => ended.push(watched.tid),
            }
        }
        for tid in changed {
            let Some(watched) = self.threads.get(&tid) else { continue };
            shared.calls += 1;
            match watched.gate.look() {
                Look::Ended => {
                    self.leader_is_gone |= tid == self.leader();
                    ended.push(tid);
                }
                Look::Asleep(state, registers) => self.asleep.push((tid, state, registers)),
                Look::Runnable => self.awake.push((tid, Asked::new(now, None))),
                Look::Unknown => {
                    shared.note(NO_SYSCALL);
                    self.awake.push((tid, Asked { unknown: true, ..Asked::new(now, None) }));
                }
            }
        }
        for tid in ended {
            self.end(tid, stops, shared);
        }
    }

    /// Prepare to ask a thread that runs to stop, into `asks`; whether there was
    /// one left.
    pub(super) fn prepare(&mut self, asks: &mut Vec<Ask>, shared: &mut Shared) -> bool {
        let Some((tid, asked)) = self.awake.pop() else { return false };
        if let Some(watched) = self.threads.get_mut(&tid) {
            // Others were waited for since it was looked at: it may have gone
            // to sleep, and to stop it now would be seen.
            if asked.ran()
                && asked.at.elapsed() > FRESH
                && let Look::Asleep(state, registers) = watched.gate.look()
            {
                self.asleep.push((tid, state, registers));
                return true;
            }
            asks.extend(prepare(&mut self.engine, watched, asked, shared));
        }
        true
    }

    /// Ask a thread to stop, if it is one of this process; otherwise give back
    /// what was to be asked for.
    pub(super) fn ask(
        &mut self,
        wanted: Ask,
        stops: &mut Stops,
        shared: &mut Shared,
    ) -> Option<Ask> {
        let Some(watched) = self.threads.get_mut(&wanted.tid) else { return Some(wanted) };
        ask(watched, wanted, stops, shared);
        None
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
        shared.calls += 4;
        let program = Program::of(&self.engine.process);
        if program.is_none() || program == self.program {
            return;
        }
        self.program = program;
        self.account(shared);
        self.cpu = [self.cpu[1]; 2];
        self.throttling = Throttling::of(self.engine.process.pid());
        self.id = shared.add_process(&self.engine.process);
        self.engine.start_over(&shared.tables);
        // The thread that executes becomes the first.
        self.leader_is_gone = false;
        self.listed = None;
        for watched in self.threads.values_mut() {
            shared.count_again(watched);
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
        shared.calls += 3;
        let process = &self.engine.process;
        for tid in tids {
            let is_gone = self.leader_is_gone && tid == self.leader();
            if is_gone || self.threads.contains_key(&tid) {
                continue;
            }
            shared.calls += 2;
            match Gate::open(process.pid(), tid) {
                Ok(gate) => {
                    let id = shared.add_thread(self.id, process, tid);
                    // It began some time since the tick before, unless this is
                    // the first.
                    let mut watched = Watched::new(tid, id, gate, self.looked);
                    watched.counted = self.listed_once.then(Schedule::default);
                    if self.is_in_namespace {
                        watched.inner = process.namespace_tid(tid);
                    }
                    self.threads.insert(tid, watched);
                    self.quiet.forget();
                }
                Err(error) if is_descriptors(&error) => shared.note(NO_DESCRIPTORS),
                Err(_) => {}
            }
        }
        self.listed = Some(count);
        self.listed_once = true;
    }

    /// The first thread, which has the number of the process.
    fn leader(&self) -> Tid {
        Tid(self.engine.process.pid().0)
    }

    fn end(&mut self, tid: Tid, stops: &mut Stops, shared: &mut Shared) {
        stops.forget(tid);
        if !(self.leader_is_gone && tid == self.leader()) {
            self.listed = None;
        }
        if let Some(mut watched) = self.threads.remove(&tid) {
            self.quiet.forget();
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

    /// Count all that was seen so far, and say what each thread does.
    pub(super) fn tell(&mut self, shared: &mut Shared, into: &mut Vec<Now>) {
        self.account(shared);
        for watched in self.threads.values_mut() {
            shared.count_again(watched);
            let asleep = watched.settled.map(|settled| settled.since);
            let asleep_since = asleep.map(|since| since.saturating_duration_since(shared.began));
            let Some(state) = watched.last else { continue };
            let (thread, process) = (watched.id, self.id);
            into.push(Now { thread, process, tid: watched.tid, state, asleep_since });
        }
        for note in self.engine.language.notes() {
            shared.note(&note);
        }
    }

    /// Nobody has looked since long before `now`: what the threads did meanwhile
    /// is not counted.
    pub(super) fn go_on(&mut self, now: Instant, shared: &mut Shared) {
        self.looked = now;
        for watched in self.threads.values_mut() {
            shared.count_again(watched);
            watched.settled = None;
            watched.since = now;
            watched.unseen = Duration::ZERO;
            watched.counted = watched.gate.schedule().ok().flatten();
        }
        let cpu = self.engine.process.cpu_time().unwrap_or_default();
        let [first, last] = &mut self.cpu;
        *first += cpu.saturating_sub(*last);
        *last = cpu.max(*last);
    }

    /// What is watched here.
    pub(super) fn watched(&self) -> live::Watched {
        let runtime = self.engine.language.name().map(str::to_owned);
        live::Watched { process: self.id, pid: self.engine.process.pid(), runtime }
    }

    /// The recording ends: what was asked of threads that have not arrived is
    /// counted with what is known without it.
    pub(super) fn close(&mut self, shared: &mut Shared) {
        for watched in self.threads.values_mut() {
            give_up(watched, shared);
            shared.name_thread(watched.id, self.engine.name(watched));
        }
        shared.calls += self.engine.memory.reads();
        for note in self.engine.language.notes() {
            shared.note(&note);
        }
        self.account(shared);
    }

    /// Say what the kernel has counted of the process so far.
    fn account(&mut self, shared: &mut Shared) {
        let cpu = self.cpu();
        shared.set_cpu(self.id, cpu);
        if let Some(throttling) = &self.throttling {
            let (times, time) = throttling.so_far();
            shared.profile.set_throttled(self.id, Throttled { times, time });
        }
    }
}

/// Whether this program may open no more files.
fn is_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
