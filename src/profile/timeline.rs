//! When each sample was: for the formats that show time.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{Key, StackId, ThreadId, Weight, index};
use crate::task::{Lock, State};

/// What every thread did, in the order of time.
///
/// It holds 12 bytes for each time that a thread was found to do something
/// else than before, and some 40 for each distinct thing: a thread that sleeps
/// costs nothing, and one that is somewhere else at each of 100 ticks a second
/// 4 MB an hour. It is kept in memory.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    things: Vec<Doing>,
    thing_ids: FxHashMap<Doing, u32>,
    /// By [`ThreadId`].
    threads: Vec<Line>,
}

/// What a thread did, as far as samples are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Doing {
    /// What the kernel had to say.
    pub state: State,
    /// What it had to do with the interpreter lock.
    pub lock: Lock,
    /// Where.
    pub stack: StackId,
}

/// A time for which a thread did one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which thing, as an index into [`Timeline::things`].
    pub thing: usize,
    /// When it began, in microseconds since the recording did.
    pub since: u64,
    /// How long it lasted, in microseconds.
    pub wall: u64,
    /// The CPU time that its samples stand for, in microseconds.
    pub cpu: u64,
}

/// One thread's records: each begins where the one before ends.
#[derive(Clone, Debug, Default)]
struct Line {
    /// Where the first one begins, in microseconds.
    since: u64,
    /// Where the last one ends.
    until: u64,
    /// CPU time that was added in parts of microseconds.
    left: Duration,
    runs: Vec<Run>,
}

/// A record as it is kept. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
struct Run {
    thing: u32,
    wall: u32,
    cpu: u32,
}

const _: () = assert!(size_of::<Run>() == 12);
const _: () = assert!(size_of::<Doing>() == 16);

/// The thing that a thread did while nobody looked.
const UNSEEN: u32 = u32::MAX;

impl Timeline {
    pub(super) fn add(&mut self, key: Key, weight: Weight, since: Duration) {
        let doing = Doing { state: key.state, lock: key.lock, stack: key.stack };
        let thing = *self.thing_ids.entry(doing).or_insert_with(|| {
            self.things.push(doing);
            index(self.things.len() - 1)
        });
        let ThreadId(thread) = key.thread;
        let at = thread as usize;
        if self.threads.len() <= at {
            self.threads.resize(at + 1, Line::default());
        }
        if let Some(line) = self.threads.get_mut(at) {
            line.add(thing, (since, since.saturating_add(weight.wall)), weight.cpu);
        }
    }

    /// What was done, each thing once.
    pub fn things(&self) -> &[Doing] {
        &self.things
    }

    /// What `thread` did, in the order of time. Records do not overlap; between
    /// them nobody looked.
    pub fn of(&self, ThreadId(thread): ThreadId) -> impl Iterator<Item = Record> {
        let line = self.threads.get(thread as usize);
        let mut next = line.map_or(0, |line| line.since);
        let runs = line.map_or(&[][..], |line| &line.runs);
        runs.iter().filter_map(move |run| {
            let (since, wall) = (next, u64::from(run.wall));
            next += wall;
            let record = Record { thing: run.thing as usize, since, wall, cpu: run.cpu.into() };
            (run.thing != UNSEEN).then_some(record)
        })
    }
}

impl Line {
    fn add(&mut self, thing: u32, (since, until): (Duration, Duration), cpu: Duration) {
        // Ends are rounded, not lengths: so they do not drift.
        let (since, until) = (micros(since), micros(until));
        if self.runs.is_empty() {
            (self.since, self.until) = (since, since);
        }
        self.left += cpu;
        let cpu = micros(self.left);
        self.left -= Duration::from_micros(cpu);
        if since > self.until {
            self.run(UNSEEN, since - self.until, 0);
        }
        self.run(thing, until.saturating_sub(self.until.max(since)), cpu);
    }

    fn run(&mut self, thing: u32, mut wall: u64, mut cpu: u64) {
        self.until += wall;
        if let Some(last) = self.runs.last_mut()
            && last.thing == thing
            && let Ok(whole) = u32::try_from(u64::from(last.wall) + wall)
            && let Ok(used) = u32::try_from(u64::from(last.cpu) + cpu)
        {
            (last.wall, last.cpu) = (whole, used);
            return;
        }
        // What is too long for one is written as several, of 71 minutes each.
        loop {
            let (part, used) = (clamp(wall), clamp(cpu));
            self.runs.push(Run { thing, wall: part, cpu: used });
            (wall, cpu) = (wall - u64::from(part), cpu - u64::from(used));
            if wall == 0 && cpu == 0 {
                return;
            }
        }
    }
}

fn clamp(micros: u64) -> u32 {
    u32::try_from(micros).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(thread: u32, stack: u32) -> Key {
        let (state, lock) = (State::Running, Lock::Without);
        Key { thread: ThreadId(thread), state, lock, stack: StackId(stack) }
    }

    /// `(since, wall, cpu, stack)`, times in nanoseconds.
    fn timeline(samples: &[(u64, u64, u64, u32)]) -> Timeline {
        let mut timeline = Timeline::default();
        for &(since, wall, cpu, stack) in samples {
            let time = Duration::from_nanos;
            let weight = Weight { ticks: 1, wall: time(wall), cpu: time(cpu), queued: time(0) };
            timeline.add(key(3, stack), weight, time(since));
        }
        timeline
    }

    /// `(since, wall, cpu, stack)`, times in microseconds.
    fn records(timeline: &Timeline) -> Vec<(u64, u64, u64, u32)> {
        let stack = |record: &Record| timeline.things()[record.thing].stack.0;
        let records = timeline.of(ThreadId(3));
        records.map(|it| (it.since, it.wall, it.cpu, stack(&it))).collect()
    }

    #[test]
    fn the_same_again_is_one_record() {
        let timeline = timeline(&[
            (5_000, 10_000, 9_000, 8),
            (15_000, 10_000, 10_000, 8),
            (25_000, 10_000, 0, 9),
            // Nobody looked.
            (45_000, 5_000, 1_000, 9),
            (50_000, 5_000, 1_000, 8),
        ]);
        let expected = [(5, 20, 19, 8), (25, 10, 0, 9), (45, 5, 1, 9), (50, 5, 1, 8)];
        assert_eq!(records(&timeline), expected);
        assert_eq!(timeline.of(ThreadId(0)).count(), 0);
        assert_eq!(timeline.of(ThreadId(4)).count(), 0);
    }

    #[test]
    fn rounding_does_not_add_up() {
        let samples: Vec<_> =
            (0..10_000).map(|at| (at * 1_900, 1_900, 900, 8 + u32::from(at % 2 == 0))).collect();
        let found = records(&timeline(&samples));
        assert_eq!(found.iter().map(|it| it.1).sum::<u64>(), 19_000);
        assert_eq!(found.iter().map(|it| it.2).sum::<u64>(), 9_000);
        assert!(found.is_sorted_by(|one, next| one.0 + one.1 == next.0));
    }

    #[test]
    fn what_lasts_for_hours_is_whole() {
        let hours = 5 * 3_600_000_000_000;
        let found = records(&timeline(&[(0, hours, hours, 8), (hours, 1_000, 0, 9)]));
        assert_eq!(found.iter().map(|it| it.1).sum::<u64>(), hours / 1_000 + 1);
        assert_eq!(found.iter().map(|it| it.2).sum::<u64>(), hours / 1_000);
        assert!(found.is_sorted_by(|one, next| one.0 + one.1 == next.0));
    }

    /// A clock that goes back would make records overlap.
    #[test]
    fn what_was_before_is_cut_off() {
        let found = records(&timeline(&[(5_000, 10_000, 0, 8), (9_000, 8_000, 0, 9)]));
        assert_eq!(found, [(5, 10, 0, 8), (15, 2, 0, 9)]);
        let found = records(&timeline(&[(5_000, 10_000, 0, 8), (9_000, 2_000, 7_000, 9)]));
        assert_eq!(found, [(5, 10, 0, 8), (15, 0, 7, 9)]);
    }
}
