//! Rows of threads.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    functions::{beside, place},
    gather::{Choice, Gatherer},
    history::{History, Sums},
    screen::ThreadRow,
    update::ThreadNow,
};
use crate::{
    profile::{Key, Thread, ThreadId, Weight},
    task::{Lock, State},
};

/// What rows of threads are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Cpu,
    Queued,
    Lock,
    Name,
    Tid,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Name, Self::Tid, Self::Cpu, Self::Queued, Self::Lock];

    /// What its column is called.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Queued => "queue",
            Self::Lock => "held",
            Self::Name => "thread",
            Self::Tid => "tid",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sort| sort.name() == name)
    }

    pub(super) fn beside(self, forth: bool) -> Self {
        beside(&Self::ALL, self, forth)
    }
}

/// What was seen of a thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) cpu: Duration,
    pub(super) queued: Duration,
    /// The wall time in which it held the interpreter lock, and in which it
    /// waited for it.
    pub(super) held: Duration,
    pub(super) wanted: Duration,
}

/// What was seen of each thread.
pub(super) fn seen(samples: &FxHashMap<Key, Weight>) -> FxHashMap<ThreadId, Seen> {
    let mut threads: FxHashMap<ThreadId, Seen> = FxHashMap::default();
    for (key, weight) in samples {
        let seen = threads.entry(key.thread).or_default();
        seen.cpu += weight.cpu;
        seen.queued += weight.queued;
        match key.lock {
            Lock::Without => {}
            Lock::Held => seen.held += weight.wall,
            Lock::Wanted => seen.wanted += weight.wall,
        }
    }
    threads
}

/// The last sample of each thread in the last slice.
pub(super) fn latest(sums: &Sums) -> FxHashMap<ThreadId, Key> {
    let samples = sums.last().map_or(&[][..], |slice| &slice.samples);
    samples.iter().map(|sample| (sample.key.thread, sample.key)).collect()
}

/// `part` of `whole`, 0 to 1.
pub(super) fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { (part.as_secs_f64() / whole.as_secs_f64()).min(1.0) }
}

/// The word for what a thread does.
pub(super) const fn word(state: State, lock: Lock) -> &'static str {
    match (state, lock) {
        (State::Running, _) => "run",
        (State::Queued, _) => "queue",
        (State::Blocked(_), Lock::Wanted) => "lock",
        (State::Blocked(_), _) => "sleep",
        (State::Faulting, _) => "fault",
        (State::Halted, _) => "stop",
    }
}

/// How rows are made.
pub(super) struct Make<'a> {
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) choice: Choice,
    /// Whether a row is one that was searched for.
    pub(super) is_found: &'a dyn Fn(&ThreadRow) -> bool,
    pub(super) is_filtered: bool,
}

/// The rows of the threads that are there, or were in the time that is shown.
pub(super) fn rows(
    history: &History,
    sums: &Sums,
    gatherer: &mut Gatherer,
    make: &Make<'_>,
) -> (Vec<ThreadRow>, Vec<ThreadId>) {
    let now = sums.last().map_or(&[][..], |slice| &slice.threads);
    let now: FxHashMap<ThreadId, &ThreadNow> = now.iter().map(|it| (it.thread, it)).collect();
    let seen = seen(&sums.by_key);
    let latest = latest(sums);
    let locks = sums.by_key.keys().any(|key| key.lock != Lock::Without);
    let several = history.profile.processes().len() > 1;
    let mut ids: Vec<ThreadId> = now.keys().chain(seen.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut rows = Vec::new();
    for id in ids {
        let thread = history.profile.threads().get(id.0 as usize);
        let Some(thread) = thread.filter(|_| make.choice.wants_thread(&history.profile, id)) else {
            continue;
        };
        let seen = seen.get(&id).copied().unwrap_or_default();
        let key = latest.get(&id);
        let mut row = row(thread, seen, sums.length(), locks);
        row.pid = several.then(|| history.profile.processes()).and_then(|processes| {
            processes.get(thread.process.0 as usize).map(|process| process.pid.0)
        });
        if let Some(now) = now.get(&id) {
            row.state = word(now.state, key.map_or(Lock::Without, |key| key.lock));
            row.wait = wait(now, sums.last().map_or(Duration::ZERO, |slice| slice.at));
        }
        row.frame = key.and_then(|key| frame(history, gatherer, key)).unwrap_or_default();
        if (make.is_found)(&row) {
            row.found = make.is_filtered;
            rows.push((row, id));
        }
    }
    rows.sort_by(|(one, _), (other, _)| order(one, other, make));
    rows.into_iter().unzip()
}

fn row(thread: &Thread, seen: Seen, length: Duration, locks: bool) -> ThreadRow {
    ThreadRow {
        name: thread.name.clone(),
        tid: thread.tid.0,
        state: "end",
        cpu: share(seen.cpu, length),
        queued: share(seen.queued, length),
        lock: locks.then(|| (share(seen.held, length), share(seen.wanted, length))),
        ..ThreadRow::default()
    }
}

fn order(one: &ThreadRow, other: &ThreadRow, make: &Make<'_>) -> std::cmp::Ordering {
    let by = |value: fn(&ThreadRow) -> f64| value(other).total_cmp(&value(one));
    let order = match make.sort {
        Sort::Cpu => by(|it| it.cpu),
        Sort::Queued => by(|it| it.queued),
        Sort::Lock => by(|it| it.lock.map_or(0.0, |(held, wanted)| held + wanted)),
        Sort::Name => one.name.cmp(&other.name),
        Sort::Tid => one.tid.cmp(&other.tid),
    };
    let order = if make.reversed { order.reverse() } else { order };
    order.then(one.pid.cmp(&other.pid)).then(one.tid.cmp(&other.tid))
}

/// What a thread waits for, and since when.
fn wait(now: &ThreadNow, at: Duration) -> Option<(String, Option<Duration>)> {
    let text = match (&now.wait, now.state) {
        (Some(wait), _) => wait.clone(),
        (None, State::Blocked(call)) => call.to_string(),
        (None, _) => return None,
    };
    Some((text, now.asleep_since.map(|since| at.saturating_sub(since))))
}

/// The innermost function that is shown of where a thread was.
fn frame(history: &History, gatherer: &mut Gatherer, key: &Key) -> Option<String> {
    let &(function, line) = gatherer.words(history, key.stack)?.frames.last()?;
    let function = gatherer.functions().get(function)?;
    let mut shown = function.clone();
    shown.line = line.or(shown.line);
    let place = place(&shown);
    Some(if place.is_empty() { shown.name } else { format!("{} ({place})", shown.name) })
}
