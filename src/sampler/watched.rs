//! One thread that is watched.

use std::time::{Duration, Instant};

use super::glance::Glances;
use crate::{
    capture::{Catch, Depth, Gate, Look, Schedule},
    memory::WorkingSet,
    profile::{StackId, ThreadId},
    runtime::Trace,
    stack::End,
    task::{Lock, State, Tid},
};

/// A thread, and what was found out about it.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) tid: Tid,
    /// Its place in the profile.
    pub(super) id: ThreadId,
    pub(super) gate: Gate,
    /// The tick at which it was last looked at.
    pub(super) looked: Instant,
    /// Its schedule when it was last seen to have run.
    pub(super) seen: Option<Schedule>,
    /// Its schedule as it was last read.
    pub(super) latest: Option<Schedule>,
    /// Its schedule when it was last counted.
    pub(super) counted: Option<Schedule>,
    /// CPU time that it has used since it was last seen to want it: that of
    /// the stack that it is seen in next.
    pub(super) unseen: Duration,
    /// Up to when its time is accounted for.
    pub(super) since: Instant,
    /// What holds as long as it does not run.
    pub(super) settled: Option<Settled>,
    /// What was found again at so many ticks, the last of them at this moment,
    /// and is still to be counted.
    pub(super) again: Option<(Found, u64, Instant)>,
    /// That it was asked to stop.
    pub(super) asked: Option<Asked>,
    pub(super) depth: Depth,
    pub(super) working: WorkingSet,
    pub(super) glances: Glances,
    /// Its managed frames, as they were last followed; `None` while it is not
    /// known to have any.
    pub(super) trace: Option<Trace>,
    /// Its number in its own namespace.
    pub(super) inner: Tid,
    /// Whether its language had a name for it.
    pub(super) has_given_name: bool,
    /// How often it was counted.
    pub(super) samples: u64,
    /// How often it was stopped in vain for one sample, because a function could
    /// not be named.
    pub(super) unreadable: u32,
    /// What it did when it was last counted.
    pub(super) last: Option<State>,
}

/// What was found of a thread that sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) found: Found,
    /// The tick at which it was first found so.
    pub(super) since: Instant,
    /// How it was seen when it was stopped for this: the stop itself moved its
    /// schedule, and it may have gone back to where it was.
    pub(super) stopped_from: Option<Look>,
}

/// A state and a stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) state: State,
    pub(super) lock: Lock,
    pub(super) stack: StackId,
    pub(super) end: End,
    /// Whether managed frames had no place among the native ones.
    pub(super) unmerged: bool,
}

/// A thread was asked to stop, and has not yet arrived.
#[derive(Debug)]
pub(super) struct Asked {
    /// The tick at which it was asked.
    pub(super) at: Instant,
    /// What it was doing at the ticks that have passed since, and the last of
    /// each.
    pub(super) later: Vec<(State, u64, Instant)>,
    /// Its schedule at the last of them.
    pub(super) last: Option<Schedule>,
    /// For a thread that sleeps: what is known of it without the stop, and how
    /// it was seen.
    pub(super) otherwise: Option<(Found, Look)>,
    /// Whether it sleeps, and the kernel does not say where.
    pub(super) unknown: bool,
    /// The state it is to be counted with, once that is known.
    pub(super) state: Option<State>,
    /// When it was last made sure that it is still awaited.
    pub(super) confirmed: Instant,
}

impl Asked {
    /// At a tick; `otherwise` is what is known without the stop.
    pub(super) fn new(at: Instant, otherwise: Option<(Found, Look)>) -> Self {
        let state = otherwise.map(|(found, _)| found.state);
        let (later, last, confirmed) = (Vec::new(), None, at);
        Self { at, later, last, otherwise, unknown: false, state, confirmed }
    }

    /// Whether the thread runs as far as is known.
    pub(super) const fn ran(&self) -> bool {
        self.otherwise.is_none() && !self.unknown
    }

    /// Another tick has passed at `now`.
    pub(super) fn pass(&mut self, gate: &Gate, schedule: Option<Schedule>, now: Instant) {
        let has_run = match (self.last, schedule) {
            (Some(last), Some(now)) => now.run > last.run,
            _ => false,
        };
        self.last = schedule;
        let state = match (self.otherwise, gate.look()) {
            (Some((found, _)), _) => found.state,
            (None, Look::Asleep(state, _)) => state,
            // A thread that runs and does not stop is deep in the kernel; one
            // that does not run has no processor to stop on.
            _ if has_run => State::Running,
            _ => State::Queued,
        };
        match self.later.last_mut() {
            Some((last, ticks, until)) if *last == state => (*ticks, *until) = (*ticks + 1, now),
            _ => self.later.push((state, 1, now)),
        }
    }

    /// The state to count the thread with, from what the stop has found.
    pub(super) fn judge(&mut self, caught: &Catch) -> State {
        // Asleep, or stopped once before for this sample.
        if let Some(known) = self.state {
            return known;
        }
        let state = match caught.queued {
            _ if self.unknown => caught.interrupted.map_or(State::Faulting, State::Blocked),
            Some(true) => State::Queued,
            Some(false) | None => State::Running,
        };
        *self.state.insert(state)
    }
}

/// A stop moves the schedule of a thread that sleeps by two turns: to stop,
/// and to go back to sleep. A thread that did no more has not run for longer
/// than this since.
const BACK_TO_SLEEP: u64 = 200_000;

impl Watched {
    /// Watch a thread from `now` on.
    pub(super) fn new(tid: Tid, id: ThreadId, gate: Gate, now: Instant) -> Self {
        Self {
            tid,
            id,
            gate,
            looked: now,
            seen: None,
            latest: None,
            counted: None,
            unseen: Duration::ZERO,
            since: now,
            settled: None,
            again: None,
            asked: None,
            depth: Depth::default(),
            working: WorkingSet::default(),
            glances: Glances::default(),
            trace: None,
            inner: tid,
            has_given_name: false,
            samples: 0,
            unreadable: 0,
            last: None,
        }
    }

    /// What was found of the thread before, if it has not run since. `now` is
    /// its schedule.
    pub(super) fn unchanged(&mut self, now: Option<Schedule>) -> Option<Found> {
        let (settled, seen, now) = (self.settled.as_mut()?, self.seen?, now?);
        if now == seen {
            return Some(settled.found);
        }
        let before = settled.stopped_from?;
        match now.slices.checked_sub(seen.slices)? {
            // It has not been back on a processor since the stop.
            1 => Some(settled.found),
            2 if now.run.saturating_sub(seen.run) < BACK_TO_SLEEP && self.gate.look() == before => {
                settled.stopped_from = None;
                self.seen = Some(now);
                Some(settled.found)
            }
            _ => None,
        }
    }

    /// Whether it slept when it was last looked at, and no stop has moved its
    /// schedule since.
    pub(super) fn is_asleep(&self) -> bool {
        self.asked.is_none()
            && self.seen.is_some()
            && self.seen == self.latest
            && self.settled.is_some_and(|settled| settled.stopped_from.is_none())
    }

    /// It was found as it was before.
    pub(super) fn found_again(&mut self, found: Found, now: Instant) {
        let (_, ticks, until) = self.again.get_or_insert((found, 0, now));
        (*ticks, *until) = (*ticks + 1, now);
    }

    /// Whether its name should be read again: threads are often named by
    /// themselves, soon after they began.
    pub(super) fn name_is_due(&self) -> bool {
        matches!(self.samples, 1 | 2 | 10 | 100 | 1000 | 10_000)
    }
}
