//! The loop of a recording.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        prctl::set_timerslack,
        resource::{Resource, getrlimit, setrlimit},
    },
    time::{ClockId, clock_gettime},
};

use super::{
    Control, Error, Options, Recording, Scope,
    clock::{Clock, Tick},
    follow::Follower,
    live::{Live, Teller},
    open,
    shared::{NO_DESCRIPTORS, Shared},
    target::Target,
};
use crate::{
    capture::{Arrival, Ask, Copied, Gate, Stops, Watch},
    process::{LiveMemory, access, children::Found},
    profile::Met,
    task::{Pid, Tid},
    unwind::Tables,
};

/// Threads that were asked to stop and are on a processor arrive within
/// microseconds. For the others this much is waited in a tick; after that they
/// are taken when they come.
///
/// It is longer than the kernel's own tick, so that the kernel need not set a
/// timer for it: on a virtual machine that takes as long as all else that is
/// done while a thread is held (16 against 33 µs a stop, measured).
const PATIENCE: Duration = Duration::from_millis(5);

/// So many threads are asked to stop before the first of them is taken.
const AT_ONCE: usize = 16;

/// After a tick in which that was too long, so many do with less.
const HASTY: u32 = 16;

/// How long it takes from when the kernel gives this program a processor to
/// when it can look at the clock.
const WAKING: Duration = Duration::from_micros(20);

/// A tick that is nearer than this is waited for awake: to fall asleep and be
/// woken takes up to that long where processors that idle belong to a virtual
/// machine. So far apart are two ticks at most at 10,000 a second, of which a
/// fifth was missed with sleeps between them (measured); at 100 it is rare.
const NEAR: Duration = Duration::from_micros(200);

/// While there is nothing to do, `Control::stop` is looked at this often.
const LISTEN: Duration = Duration::from_millis(50);

/// For so long is waited, before a rest, for threads that were asked to stop:
/// only one that is deep in the kernel takes longer.
const LET_GO: Duration = Duration::from_secs(1);

/// Watch `targets` until told to stop.
///
/// It works on a thread of its own, for the kernel knows tracers by thread:
/// when that thread ends, nothing is traced any more. Every thread of this
/// program should block SIGCHLD; one that does not makes threads that do not
/// stop at once be handled up to a millisecond later.
///
/// # Errors
/// When not one of the targets can be watched, the error of the first.
pub fn record(targets: &[Pid], options: &Options, control: &Control) -> Result<Recording, Error> {
    run(targets, options, control, None)
}

/// The same, and `tell` every so often what was seen since it was told before.
/// What it does keeps the recording waiting; whoever takes an update counts down
/// [`Control::untaken`].
///
/// # Errors
/// Those of [`record`].
pub fn watch(
    targets: &[Pid],
    options: &Options,
    control: &Control,
    every: Duration,
    tell: Box<dyn FnMut(Live) + Send + '_>,
) -> Result<Recording, Error> {
    run(targets, options, control, Some(Teller::new(every, tell)))
}

fn run(
    targets: &[Pid],
    options: &Options,
    control: &Control,
    teller: Option<Teller<'_>>,
) -> Result<Recording, Error> {
    let work = || Ok(Recorder::new(targets, options, control, teller)?.run());
    thread::scope(|scope| {
        let sampler = thread::Builder::new().name("sampler".to_owned()).spawn_scoped(scope, work);
        let pid = targets.first().copied().unwrap_or(Pid(0));
        let sampler = sampler.map_err(|source| Error::Io { pid, source })?;
        let done = sampler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        done.map(Done::recording)
    })
}

/// What the tracer leaves: what takes its time and needs no tracer is done
/// when that has ended, and has let every thread go.
struct Done {
    targets: Vec<Target>,
    refused: Vec<Error>,
    shared: Shared,
    duration: Duration,
    targets_ended: bool,
    /// System calls made in order to stop threads.
    calls: u64,
}

/// Two descriptors a thread stay open, and a process may have thousands. The
/// soft limit is low for the sake of programs that use `select`, which this
/// one does not.
fn raise_descriptor_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Of so many descendants that may not be watched is told why.
const TOLD: u64 = 8;

struct Recorder<'a> {
    options: &'a Options,
    control: &'a Control,
    /// Those that have not ended.
    targets: Vec<Target>,
    refused: Vec<Error>,
    /// Where descendants are watched, too.
    follower: Option<Follower>,
    stops: Stops,
    shared: Shared,
    clock: Clock,
    began: Instant,
    /// When it began, as time since the machine did.
    booted: Duration,
    /// What threads are to be asked for next.
    asks: Vec<Ask>,
    /// Threads that were copied and let go, and are still to be unwound.
    arrived: Vec<Arrival>,
    /// How many ticks are to wait for less than [`PATIENCE`].
    hasty: u32,
    /// Whoever follows the recording while it runs.
    teller: Option<Teller<'a>>,
}

impl<'a> Recorder<'a> {
    fn new(
        pids: &[Pid],
        options: &'a Options,
        control: &'a Control,
        teller: Option<Teller<'a>>,
    ) -> Result<Self, Error> {
        let began = Instant::now();
        let booted = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from);
        raise_descriptor_limit();
        let follows = options.scope == Scope::Descendants;
        let mut recorder = Self {
            options,
            control,
            targets: Vec::new(),
            refused: Vec::new(),
            follower: follows.then(|| Follower::new(pids, began)),
            stops: Stops::default(),
            shared: Shared::new(Tables::background(), options, began),
            clock: Clock::new(options.rate, fastrand::Rng::new()),
            began,
            booted,
            asks: Vec::new(),
            arrived: Vec::new(),
            hasty: 0,
            teller,
        };
        if recorder.teller.is_some() {
            recorder.shared.profile.keep_parts();
        }
        for &pid in pids {
            match recorder.watch(pid) {
                Ok(target) => recorder.targets.push(target),
                Err(error) => recorder.refused.push(error),
            }
        }
        if let Some(follower) = &mut recorder.follower {
            let found = follower.look_now(began);
            // Those that have ended before this began are not missed.
            recorder.take_in(&Found { missed: 0, ..found });
        }
        if recorder.targets.is_empty() {
            let first = recorder.refused.into_iter().next();
            return Err(first.unwrap_or(Error::NoSuchProcess(Pid(0))));
        }
        // The kernel otherwise wakes this thread up to 50 µs late, to save power.
        let _ = set_timerslack(1);
        recorder.clock = Clock::new(options.rate, fastrand::Rng::new());
        Ok(recorder)
    }

    /// Begin to watch a process.
    fn watch(&mut self, pid: Pid) -> Result<Target, Error> {
        let mut process = open(pid)?;
        self.shared.roots.hold(&mut process);
        let target = Target::new(process, &mut self.shared, Instant::now());
        let target = target.map_err(|source| Error::new(pid, source))?;
        self.shared.costs.met.watched += 1;
        Ok(target)
    }

    /// Look for descendants of the targets that have begun, if it is time.
    fn follow(&mut self, now: Instant) {
        let Some(follower) = &mut self.follower else { return };
        let Some((found, began)) = follower.look(now) else { return };
        self.take_in(&found);
        if let Some(follower) = &mut self.follower {
            follower.rest(began);
        }
    }

    /// Watch the descendants that were found, as far as that can be done.
    fn take_in(&mut self, found: &Found) {
        self.shared.costs.met.missed += found.missed;
        if found.unheld > 0 {
            self.shared.note(NO_DESCRIPTORS);
        }
        for &pid in &found.born {
            match self.watch(pid) {
                Ok(target) => self.targets.push(target.since_birth_if_after(self.booted)),
                Err(Error::NoSuchProcess(_)) => self.shared.costs.met.missed += 1,
                Err(error) => self.refuse(pid, &error),
            }
        }
    }

    /// A descendant may not be watched.
    fn refuse(&mut self, pid: Pid, error: &Error) {
        let met = &mut self.shared.costs.met;
        met.refused += 1;
        if met.refused <= TOLD {
            let why = match error {
                // Now: at the end of the recording the facts may be gone.
                Error::Forbidden(_) => format!(": {}", access::facts(pid).reason()),
                Error::NoSuchProcess(_) | Error::Io { .. } => String::new(),
            };
            self.shared.note(&format!("left out: {error}{why}"));
        }
    }

    /// Let go of the targets that have ended, and keep what is known of them.
    fn retire(&mut self, now: Instant) {
        let Self { targets, stops, shared, .. } = self;
        targets.retain_mut(|target| {
            // A thread that died while it was traced is still to be taken note
            // of: its parent does not hear of its end before.
            let stays = !target.has_ended(now) || target.is_awaited(stops);
            if !stays {
                target.close(shared);
            }
            stays
        });
    }

    fn run(mut self) -> Done {
        let end = self.options.duration.and_then(|duration| self.began.checked_add(duration));
        let mut targets_ended = false;
        loop {
            let tick = self.clock.next(Instant::now());
            self.shared.costs.ticks_wanted += tick.skipped;
            if let Some(end) = end.filter(|&end| tick.at >= end) {
                self.wait(end);
                break;
            }
            if self.wait(tick.at) {
                break;
            }
            self.shared.costs.ticks_wanted += 1;
            targets_ended = !self.tick(tick);
            if targets_ended {
                break;
            }
        }
        self.tell(true);
        Done {
            duration: self.began.elapsed(),
            targets: self.targets,
            refused: self.refused,
            shared: self.shared,
            targets_ended,
            calls: self.stops.calls(),
        }
    }

    /// Wait, and take threads as they arrive; whether the recording is to end.
    fn wait(&mut self, until: Instant) -> bool {
        loop {
            if self.control.stop.load(Ordering::Relaxed) {
                return true;
            }
            if self.control.pause.load(Ordering::Acquire) {
                self.rest();
                return false;
            }
            self.follow(Instant::now());
            self.tell(false);
            let now = Instant::now();
            if now >= until {
                return false;
            }
            let told = self.teller.as_ref().map_or(until, Teller::next);
            let next = until.min(told).min(now + LISTEN);
            if self.stops.pending() > 0 {
                self.take(next, None);
                self.finish_arrived();
            } else if next - now < NEAR {
                std::hint::spin_loop();
            } else {
                thread::sleep(next - now);
            }
        }
    }

    /// Let every thread go, and look at none until told to go on.
    fn rest(&mut self) {
        let began = Instant::now();
        while self.stops.pending() > 0 && began.elapsed() < LET_GO {
            self.take(Instant::now() + PATIENCE, None);
            self.finish_arrived();
        }
        self.tell(true);
        self.control.paused.store(true, Ordering::Release);
        while self.control.pause.load(Ordering::Acquire)
            && !self.control.stop.load(Ordering::Relaxed)
        {
            thread::sleep(LISTEN);
        }
        self.control.paused.store(false, Ordering::Release);
        let (now, rested) = (Instant::now(), began.elapsed());
        self.began += rested;
        self.shared.began += rested;
        self.clock = Clock::new(self.options.rate, fastrand::Rng::new());
        for target in &mut self.targets {
            target.go_on(now, &mut self.shared);
        }
    }

    /// Tell what was seen, if it is time to.
    fn tell(&mut self, is_last: bool) {
        let Self { teller: Some(teller), targets, shared, stops, began, control, .. } = self else {
            return;
        };
        if is_last || teller.is_due(Instant::now(), control) {
            control.untaken.fetch_add(1, Ordering::AcqRel);
            let costs = shared.costs_so_far(began.elapsed(), stops.calls());
            teller.tell(targets, shared, costs);
        }
    }

    /// One look at every thread; whether any target is left.
    fn tick(&mut self, tick: Tick) -> bool {
        let now = Instant::now();
        self.hasty = self.hasty.saturating_sub(1);
        self.stops.bury();
        let late = now.saturating_duration_since(tick.at) > self.clock.period() / 2;
        self.shared.costs.ticks_late += u64::from(late);
        self.shared.costs.ticks += 1;
        // The moment that this tick is about is the last one at which this
        // program was not yet in the way: a thread that it has just pushed
        // from its processor was running.
        let seen = now.checked_sub(WAKING).unwrap_or(now);
        let (mut left, mut gone) = (false, false);
        for target in &mut self.targets {
            if target.has_ended(seen) {
                gone = true;
                continue;
            }
            left = true;
            target.look(seen, &mut self.stops, &mut self.shared);
        }
        if gone {
            self.retire(seen);
        }
        self.ask(seen);
        for index in 0..self.targets.len() {
            while let Some(target) = self.targets.get_mut(index)
                && target.read(seen, &mut self.stops, &mut self.shared)
            {
                // Whoever arrives while threads are read that sleep is not
                // kept waiting for the rest of them.
                self.take(Instant::now(), None);
                self.finish_arrived();
            }
        }
        self.take_fresh(seen);
        self.control.ticks.store(self.shared.costs.ticks, Ordering::Relaxed);
        self.control.running.store(self.shared.runnable, Ordering::Relaxed);
        self.control.blocked.store(self.shared.blocked, Ordering::Relaxed);
        self.control.processes.store(self.targets.len() as u64, Ordering::Relaxed);
        if !left && let Some(follower) = &mut self.follower {
            let found = follower.look_now(seen);
            self.take_in(&found);
            left = !found.born.is_empty() && !self.targets.is_empty();
        }
        left
    }

    /// Ask the threads that run to stop, some at a time, and take them as they
    /// come: each waits for at most so many others.
    fn ask(&mut self, at: Instant) {
        for index in 0..self.targets.len() {
            while let Some(target) = self.targets.get_mut(index)
                && target.prepare(&mut self.asks, &mut self.shared)
            {
                if self.asks.len() == AT_ONCE {
                    self.ask_prepared();
                    self.take_fresh(at);
                }
            }
        }
        self.ask_prepared();
        self.take_fresh(at);
    }

    /// Ask those for whom all is prepared: to prepare takes longer than to ask,
    /// and the first would wait for it, stopped.
    fn ask_prepared(&mut self) {
        for mut ask in self.asks.drain(..) {
            for target in &mut self.targets {
                match target.ask(ask, &mut self.stops, &mut self.shared) {
                    Some(other) => ask = other,
                    None => break,
                }
            }
        }
    }

    /// Take the threads that were asked in the tick of `at`, as far as they
    /// come soon.
    fn take_fresh(&mut self, at: Instant) {
        let began = Instant::now();
        let half = self.clock.period() / 2;
        let patience = if self.hasty > 0 { half.min(PATIENCE) } else { PATIENCE };
        self.take(began + patience, Some(at));
        if began.elapsed() > half {
            self.hasty = HASTY;
        }
        self.finish_arrived();
    }

    /// Copy each thread that arrives, and let it go, until then; or until all
    /// have that were asked in the tick of `at`, or, without one, until one has.
    fn take(&mut self, until: Instant, at: Option<Instant>) {
        let Self { targets, stops, arrived, .. } = self;
        let mut watch = All(targets);
        loop {
            let wanted = at.map_or(arrived.is_empty(), |at| stops.awaits(at));
            let until = if wanted { until } else { Instant::now() };
            match stops.next(until, &mut watch) {
                Some(arrival) => arrived.push(arrival),
                None => return,
            }
        }
    }

    /// Unwind and count the threads that have arrived, which run again.
    fn finish_arrived(&mut self) {
        self.stops.relax();
        while let Some(mut arrival) = self.arrived.pop() {
            for target in &mut self.targets {
                match target.arrive(arrival, &mut self.stops, &mut self.shared) {
                    Some(other) => arrival = other,
                    None => break,
                }
            }
            if self.stops.pending() > 0 {
                self.take(Instant::now(), None);
                self.stops.relax();
            }
        }
    }
}

/// The targets, for whom threads are stopped.
struct All<'a>(&'a mut [Target]);

impl Watch for All<'_> {
    fn of(&self, tid: Tid) -> Option<(&LiveMemory, &Gate)> {
        self.0.iter().find_map(|target| target.of(tid))
    }

    fn inspect(&mut self, tid: Tid, copied: &mut Copied, deadline: Instant) -> bool {
        let looked = |target: &mut Target| target.inspect(tid, copied, deadline);
        self.0.iter_mut().find_map(looked).unwrap_or(true)
    }
}

impl Done {
    /// Say how many processes were not watched, beside those that were named.
    fn tell_of_unwatched(&mut self) {
        let Met { missed, refused, .. } = self.shared.costs.met;
        if let Some(more @ 1..) = refused.checked_sub(TOLD) {
            self.shared.note(&format!("left out: {more} more processes that may not be watched"));
        }
        match missed {
            0 => {}
            1 => self.shared.note("1 process ended before it could be looked at"),
            many => {
                self.shared.note(&format!("{many} processes ended before they could be looked at"));
            }
        }
    }

    fn recording(mut self) -> Recording {
        for target in &mut self.targets {
            target.close(&mut self.shared);
        }
        self.tell_of_unwatched();
        let mut costs = self.shared.costs_so_far(self.duration, self.calls);
        costs.met.refused += self.refused.len() as u64;
        let Shared { profile, modules, origins, roots, .. } = self.shared;
        let (refused, targets_ended) = (self.refused, self.targets_ended);
        Recording { profile, costs, modules, origins, targets_ended, refused, roots }
    }
}
