//! The first two lines: who is watched, how well, and in which condition it is.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    history::{History, Slice, Sums},
    screen::{Gauges, Moment, ThreadCounts, Title},
    threads,
};
use crate::{
    style,
    task::{Lock, State},
};

/// Ticks that were not made, and samples without a stack, are told when they
/// are a larger share than this of all: a tick now and then is late on any
/// machine.
const MAX_LOST: f64 = 0.02;

/// The first line.
pub(super) fn title(history: &History, sums: &Sums, moment: Moment, rate: f64) -> Title {
    let now = sums.last().map_or(&[][..], |slice| &slice.processes);
    let known = history.profile.processes();
    let first = now.first().map_or(0, |it| it.process.0 as usize);
    let first = known.get(first).or(known.first());
    let who = match (now.len().max(usize::from(now.is_empty()) * known.len()), first) {
        (2.., _) => format!("{} processes", now.len().max(1)),
        (_, Some(process)) => process.pid.to_string(),
        (_, None) => String::new(),
    };
    let spent = sums.spent();
    Title {
        command: first.map(|it| it.command.trim().to_owned()).unwrap_or_default(),
        who,
        runtime: now.iter().find_map(|it| it.runtime.clone()),
        // A clock that runs on would be all that is written in a pause.
        watched: match moment {
            Moment::Paused(at) | Moment::Past(at) => at,
            Moment::Live | Moment::Ended(_) => history.at(),
        },
        moment,
        rate,
        made: ratio(spent.ticks, spent.ticks_wanted).unwrap_or(1.0).min(1.0),
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The second line, of the time that is shown.
pub(super) fn gauges(history: &History, sums: &Sums) -> Gauges {
    let length = sums.length();
    let spent = sums.spent();
    let seen = threads::seen(&sums.by_key);
    let locks = sums.by_key.keys().any(|key| key.lock != Lock::Without);
    // Each process has a lock of its own: that is told which is held the most.
    let mut locked = FxHashMap::<_, (Duration, Duration)>::default();
    for (thread, seen) in &seen {
        let process = history.profile.threads().get(thread.0 as usize).map(|it| it.process);
        let (held, wanted) = locked.entry(process).or_default();
        *held += seen.held;
        *wanted += seen.wanted;
    }
    let (held, wanted) = locked.values().copied().max().unwrap_or_default();
    Gauges {
        cores: cores(&sums.slices.iter().map(AsRef::as_ref).collect::<Vec<_>>()),
        cores_before: sums
            .groups()
            .map(|group| cores(&group.iter().map(AsRef::as_ref).collect::<Vec<_>>()))
            .collect(),
        lock: locks.then(|| (threads::share(held, length), over(wanted, length))),
        threads: counts(sums),
        own: over(spent.own_cpu, length),
        held: sums.last().and_then(|slice| slice.held),
        lost: lost(sums),
    }
}

fn over(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// The processors that were in use in `slices`, as the kernel counted; where
/// it has not yet, as was sampled.
fn cores(slices: &[&Slice]) -> f64 {
    let length = slices.iter().map(|slice| slice.length()).sum();
    let counted: Duration = slices.iter().map(|slice| slice.spent.kernel_cpu).sum();
    if !counted.is_zero() {
        return over(counted, length);
    }
    let samples = slices.iter().flat_map(|slice| &slice.samples);
    over(samples.map(|sample| sample.weight.cpu).sum(), length)
}

fn counts(sums: &Sums) -> ThreadCounts {
    let latest = threads::latest(sums);
    let mut counts = ThreadCounts::default();
    for now in sums.last().map_or(&[][..], |slice| &slice.threads) {
        let lock = latest.get(&now.thread).map_or(Lock::Without, |key| key.lock);
        match (now.state, lock) {
            (State::Running, _) => counts.running += 1,
            (State::Queued, _) => counts.queued += 1,
            (_, Lock::Wanted) => counts.lock += 1,
            _ => counts.blocked += 1,
        }
    }
    counts
}

/// What was lost, in words.
fn lost(sums: &Sums) -> Option<String> {
    let spent = sums.spent();
    let lacking = spent.ticks_wanted.saturating_sub(spent.ticks);
    let ticks = ratio(lacking, spent.ticks_wanted).filter(|&share| share > MAX_LOST);
    let stacks = ratio(spent.missed, spent.caught).filter(|&share| share > MAX_LOST);
    if ticks.is_some() {
        let share = style::share(lacking, spent.ticks_wanted);
        return Some(format!("{share} of ticks not made"));
    }
    stacks.map(|_| format!("{} of stacks not seen", style::share(spent.missed, spent.caught)))
}
