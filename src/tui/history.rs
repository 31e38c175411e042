//! What was seen, kept for a while in the slices in which it came.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::update::{ProcessNow, ThreadNow, Update};
use crate::{
    profile::{Costs, Key, Profile, Sample, Weight},
    stack::{Frame, Symbol},
};

/// What came with one update.
#[derive(Debug)]
pub(super) struct Slice {
    /// Counts up from one slice to the next.
    pub(super) number: u64,
    /// When it begins and ends, by the clock of the recording.
    pub(super) from: Duration,
    pub(super) at: Duration,
    /// What was seen: those of a thread in the order of time.
    pub(super) samples: Vec<Sample>,
    /// What was so at its end.
    pub(super) threads: Vec<ThreadNow>,
    pub(super) processes: Vec<ProcessNow>,
    /// What the recording has cost in it.
    pub(super) spent: Spent,
    /// For how long a thread was held: the median since the recording began,
    /// in microseconds.
    pub(super) held: Option<f64>,
}

/// What a recording has cost in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) ticks_wanted: u64,
    pub(super) ticks: u64,
    /// Samples of single threads, and those of them that have no stack.
    pub(super) caught: u64,
    pub(super) missed: u64,
    pub(super) own_cpu: Duration,
    pub(super) kernel_cpu: Duration,
}

impl Spent {
    fn of(costs: &Costs) -> Self {
        Self {
            ticks_wanted: costs.ticks_wanted,
            ticks: costs.ticks,
            caught: costs.caught.total(),
            missed: costs.caught.missed,
            own_cpu: costs.own_cpu,
            kernel_cpu: costs.kernel_cpu,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            ticks_wanted: self.ticks_wanted.saturating_sub(before.ticks_wanted),
            ticks: self.ticks.saturating_sub(before.ticks),
            caught: self.caught.saturating_sub(before.caught),
            missed: self.missed.saturating_sub(before.missed),
            own_cpu: self.own_cpu.saturating_sub(before.own_cpu),
            kernel_cpu: self.kernel_cpu.saturating_sub(before.kernel_cpu),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.ticks_wanted += other.ticks_wanted;
        self.ticks += other.ticks;
        self.caught += other.caught;
        self.missed += other.missed;
        self.own_cpu += other.own_cpu;
        self.kernel_cpu += other.kernel_cpu;
    }
}

impl Slice {
    /// How many bytes it holds, about.
    fn bytes(&self) -> usize {
        let waits = self.threads.iter().filter_map(|it| it.wait.as_ref()).map(String::len);
        size_of::<Self>()
            + self.samples.capacity() * size_of::<Sample>()
            + self.threads.capacity() * size_of::<ThreadNow>()
            + self.processes.capacity() * size_of::<ProcessNow>()
            + waits.sum::<usize>()
    }

    pub(super) fn length(&self) -> Duration {
        self.at.saturating_sub(self.from)
    }
}

/// The slices of a while, and what their samples mean.
#[derive(Debug)]
pub(super) struct History {
    /// Processes, threads, frames and stacks; no samples.
    pub(super) profile: Profile,
    /// The functions of each frame, by its id, innermost first.
    pub(super) names: Vec<Vec<Symbol>>,
    /// Whether any frame is one of a language runtime.
    pub(super) managed: bool,
    /// What the recording has cost so far.
    pub(super) costs: Costs,
    slices: VecDeque<Arc<Slice>>,
    bytes: usize,
    /// For how long slices are kept, and how many bytes of them.
    kept: Duration,
    most: usize,
    /// Whether slices were dropped because of their bytes.
    pub(super) is_cut: bool,
    last: Spent,
    at: Duration,
    number: u64,
}

impl History {
    pub(super) fn new(kept: Duration, most: usize) -> Self {
        Self {
            profile: Profile::default(),
            names: Vec::new(),
            managed: false,
            costs: Costs::default(),
            slices: VecDeque::new(),
            bytes: 0,
            kept,
            most,
            is_cut: false,
            last: Spent::default(),
            at: Duration::ZERO,
            number: 0,
        }
    }

    pub(super) fn add(&mut self, update: Update) {
        let Update { at, part, names, costs, threads, processes } = update;
        self.managed |= part.frames().iter().any(|it| matches!(it.frame, Frame::Managed(_)));
        let samples = self.profile.extend(part);
        self.names.extend(names);
        self.names.resize(self.profile.frames().len(), Vec::new());
        let now = Spent::of(&costs);
        let held = &costs.held;
        #[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
        let held = (held.count() > 0).then(|| held.quantile(0.5) as f64 / 1e3);
        let (number, from, spent) = (self.number, self.at.min(at), now.since(self.last));
        let slice = Slice { number, from, at, samples, threads, processes, spent, held };
        (self.last, self.costs, self.at) = (now, costs, at);
        self.number += 1;
        self.bytes += slice.bytes();
        self.slices.push_back(Arc::new(slice));
        self.drop_old();
    }

    fn drop_old(&mut self) {
        let begin = self.at.saturating_sub(self.kept);
        while self.slices.len() > 1
            && let Some(oldest) = self.slices.front()
            && (oldest.at <= begin && self.at > self.kept || self.bytes > self.most)
        {
            self.is_cut |= self.bytes > self.most;
            self.bytes = self.bytes.saturating_sub(oldest.bytes());
            self.slices.pop_front();
        }
    }

    /// How many bytes of slices are kept.
    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forget what was seen until now.
    pub(super) fn forget(&mut self) {
        self.slices.clear();
        (self.bytes, self.is_cut) = (0, false);
    }

    /// When the last slice ended.
    pub(super) const fn at(&self) -> Duration {
        self.at
    }

    /// When the first slice that is kept begins.
    pub(super) fn begin(&self) -> Duration {
        self.slices.front().map_or(self.at, |slice| slice.from)
    }

    /// When the first slice that is kept ends.
    pub(super) fn first_end(&self) -> Duration {
        self.slices.front().map_or(self.at, |slice| slice.at)
    }

    /// The slices that end in the time of `length` before `at`, or then.
    pub(super) fn window(&self, at: Duration, length: Duration) -> Vec<Arc<Slice>> {
        let after = at.checked_sub(length);
        let is_in = |slice: &&Arc<Slice>| slice.at <= at && after.is_none_or(|it| slice.at > it);
        let mut slices: Vec<_> = self.slices.iter().rev().skip_while(|it| it.at > at).collect();
        let end = slices.iter().position(|slice| !is_in(slice)).unwrap_or(slices.len());
        slices.truncate(end);
        slices.into_iter().rev().map(Arc::clone).collect()
    }
}

/// Some slices, and what their samples add up to. They are held here even when
/// the history drops them: what is paused stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) slices: Vec<Arc<Slice>>,
    pub(super) by_key: FxHashMap<Key, Weight>,
}

impl Sums {
    /// Of `slices`, which are in order. Those that were summed up already are
    /// not summed up again.
    pub(super) fn set(&mut self, slices: Vec<Arc<Slice>>) {
        let numbers = |slices: &[Arc<Slice>]| {
            let of = |slice: Option<&Arc<Slice>>| slice.map(|slice| slice.number);
            of(slices.first()).zip(of(slices.last()))
        };
        let (had, has) = (numbers(&self.slices), numbers(&slices));
        let overlap = had.zip(has).is_some_and(|(had, has)| had.0 <= has.1 && has.0 <= had.1);
        let is_in = |range: Option<(u64, u64)>, slice: &Slice| {
            range.is_some_and(|(first, last)| (first..=last).contains(&slice.number))
        };
        if !overlap {
            self.by_key.clear();
        }
        for slice in slices.iter().filter(|slice| !overlap || !is_in(had, slice)) {
            for sample in &slice.samples {
                self.by_key.entry(sample.key).or_default().add(sample.weight);
            }
        }
        for slice in self.slices.iter().filter(|slice| overlap && !is_in(has, slice)) {
            for sample in &slice.samples {
                let Some(sum) = self.by_key.get_mut(&sample.key) else { continue };
                sum.ticks = sum.ticks.saturating_sub(sample.weight.ticks);
                sum.wall = sum.wall.saturating_sub(sample.weight.wall);
                sum.cpu = sum.cpu.saturating_sub(sample.weight.cpu);
                sum.queued = sum.queued.saturating_sub(sample.weight.queued);
                if *sum == Weight::default() {
                    self.by_key.remove(&sample.key);
                }
            }
        }
        self.slices = slices;
    }

    /// The last of the slices.
    pub(super) fn last(&self) -> Option<&Slice> {
        self.slices.last().map(Arc::as_ref)
    }

    /// How long the slices last in all.
    pub(super) fn length(&self) -> Duration {
        self.slices.iter().map(|slice| slice.length()).sum()
    }

    /// What the recording has cost in them.
    pub(super) fn spent(&self) -> Spent {
        self.slices.iter().fold(Spent::default(), |mut spent, slice| {
            spent.add(slice.spent);
            spent
        })
    }

    /// The slices in at most eight groups of equal size, the oldest first. Which
    /// slices are together does not change when others come, so that what is
    /// shown of the past stays as it is.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[Arc<Slice>]> {
        let size = (self.slices.len() as u64).div_ceil(GROUPS).max(1);
        self.slices.chunk_by(move |one, next| one.number / size == next.number / size)
    }
}

/// Into how many groups slices are divided, where the first is whole.
const GROUPS: u64 = 7;
