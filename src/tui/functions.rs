//! Rows of functions, and the way to one.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    gather::{Choice, Gatherer, Totals},
    history::{History, Sums},
    population::{Function, Path, Population, margin},
    screen::{FunctionRow, HotPath},
};
use crate::output::Paths;

/// What rows of functions are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The share in which it is the innermost.
    #[default]
    Own,
    /// The share in which it is on the stack.
    Total,
    /// How much its own share has changed, either way.
    Change,
    /// Its name.
    Name,
}

impl Sort {
    /// All, as columns from left to right.
    const ALL: [Self; 4] = [Self::Own, Self::Change, Self::Total, Self::Name];

    /// What its column is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::Total => "total",
            Self::Change => "change",
            Self::Name => "function",
        }
    }

    /// The one of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sort| sort.name() == name)
    }

    /// The next column, or the one before; that of changes only where there
    /// is a baseline.
    pub(super) fn beside(self, forth: bool, baseline: bool) -> Self {
        let all = Self::ALL.iter().copied().filter(|&it| baseline || it != Self::Change);
        beside(&all.collect::<Vec<_>>(), self, forth)
    }
}

/// The one beside `it` in `all`, in a circle.
pub(super) fn beside<T: Copy + PartialEq>(all: &[T], it: T, forth: bool) -> T {
    let at = all.iter().position(|other| *other == it).unwrap_or(0);
    let step = if forth { 1 } else { all.len().saturating_sub(1) };
    all.get((at + step) % all.len().max(1)).copied().unwrap_or(it)
}

/// Functions seen in fewer samples than this are faint: half the width of the
/// interval of one is then about as large as its share.
const FAINT: u64 = 5;

/// What was seen of a function.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    own: Duration,
    total: Duration,
    ticks: u64,
    /// Those of them that its share rests on.
    samples: u64,
    /// The last stack in which it was met, by its number from 1.
    stack: usize,
}

/// What was seen of each function of `population`, by its number.
fn seen(population: &Population) -> Vec<Seen> {
    let mut seen = vec![Seen::default(); population.functions.len()];
    for (path, number) in population.stacks.iter().zip(1..) {
        for &(function, _) in &path.frames {
            // One that calls itself is on the stack once.
            if let Some(seen) = seen.get_mut(function)
                && seen.stack != number
            {
                seen.stack = number;
                seen.total += path.time;
                seen.ticks += path.ticks;
                seen.samples += population.samples(path);
            }
        }
        if let Some(seen) = path.frames.last().and_then(|&(it, _)| seen.get_mut(it)) {
            seen.own += path.time;
        }
    }
    seen
}

/// The own share of each function that was seen.
pub(super) fn own_shares(population: &Population) -> FxHashMap<Function, f64> {
    let functions = population.functions.iter().zip(seen(population));
    let shares = functions.filter(|(_, seen)| !seen.own.is_zero());
    shares.map(|(function, seen)| (function.clone(), population.share(seen.own))).collect()
}

/// What functions have in each slice, kept as long as the slice is shown.
#[derive(Debug, Default)]
pub(super) struct Trends {
    slices: FxHashMap<u64, Totals>,
}

impl Trends {
    /// The total share of each function over time, by its number, the oldest
    /// first.
    pub(super) fn of(
        &mut self,
        history: &History,
        sums: &Sums,
        gatherer: &mut Gatherer,
        choice: Choice,
    ) -> Vec<Vec<f64>> {
        let first = sums.slices.first().map_or(0, |slice| slice.number);
        let last = sums.last().map_or(0, |slice| slice.number);
        self.slices.retain(|number, _| (first..=last).contains(number));
        for slice in &sums.slices {
            let totals = self.slices.entry(slice.number);
            totals.or_insert_with(|| gatherer.totals(history, slice, choice));
        }
        let groups = sums.groups().count();
        let mut trends = vec![vec![0.0; groups]; gatherer.functions().len()];
        for (at, group) in sums.groups().enumerate() {
            let all: f64 = group
                .iter()
                .filter_map(|slice| self.slices.get(&slice.number))
                .map(|totals| totals.all.as_secs_f64())
                .sum();
            let totals = group.iter().filter_map(|slice| self.slices.get(&slice.number));
            for &(function, time) in totals.flat_map(|totals| &totals.functions) {
                if let Some(share) = trends.get_mut(function).and_then(|it| it.get_mut(at))
                    && all > 0.0
                {
                    *share = (*share + time.as_secs_f64() / all).min(1.0);
                }
            }
        }
        trends
    }
}

/// How rows are made.
pub(super) struct Make<'a> {
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    /// The own shares to compare with.
    pub(super) baseline: Option<&'a FxHashMap<Function, f64>>,
    /// Whether a function is one that was searched for; all are where nothing
    /// was.
    pub(super) is_found: &'a dyn Fn(&Function) -> bool,
    pub(super) is_filtered: bool,
}

/// The rows of `population`, and which function each is.
pub(super) fn rows(
    population: &Population,
    mut trends: Vec<Vec<f64>>,
    make: &Make<'_>,
) -> (Vec<FunctionRow>, Vec<usize>) {
    let before = |function: &Function| {
        make.baseline.map(|shares| shares.get(function).copied().unwrap_or(0.0))
    };
    let samples = population.stacks.iter().map(|path| population.samples(path)).sum();
    let mut rows: Vec<(FunctionRow, usize)> = Vec::new();
    for (seen, (at, function)) in
        seen(population).iter().zip(population.functions.iter().enumerate())
    {
        let before = before(function);
        let gone = seen.ticks == 0;
        // What is gone is told where it is compared.
        if gone && before.is_none_or(|share| share == 0.0) || !(make.is_found)(function) {
            continue;
        }
        let (own, total) = (population.share(seen.own), population.share(seen.total));
        let share = if make.sort == Sort::Total { total } else { own };
        let row = FunctionRow {
            own,
            total,
            margin: margin(share, samples),
            change: before.map(|before| own - before),
            trend: trends.get_mut(at).map(std::mem::take).unwrap_or_default(),
            name: function.name.clone(),
            place: place(function),
            native: function.native,
            faint: seen.samples < FAINT,
            found: make.is_filtered,
        };
        rows.push((row, at));
    }
    rows.sort_by(|(one, _), (other, _)| {
        let by = |value: fn(&FunctionRow) -> f64| value(other).total_cmp(&value(one));
        let order = match make.sort {
            Sort::Own => by(|it| it.own).then(by(|it| it.total)),
            Sort::Total => by(|it| it.total).then(by(|it| it.own)),
            Sort::Change => by(|it| it.change.unwrap_or(0.0).abs()).then(by(|it| it.own)),
            Sort::Name => one.name.cmp(&other.name),
        };
        let order = if make.reversed { order.reverse() } else { order };
        order.then_with(|| (&one.name, &one.place).cmp(&(&other.name, &other.place)))
    });
    rows.into_iter().unzip()
}

/// Where a function is: its file and line, else its image.
pub(super) fn place(function: &Function) -> String {
    match (&function.file, function.line, &function.module) {
        (Some(file), Some(line), _) => format!("{}:{line}", Paths::Short.of(file)),
        (Some(file), None, _) => Paths::Short.of(file).to_owned(),
        // Without a name it is told by its image already.
        (None, _, Some(module)) if !function.name.starts_with(module.as_str()) => module.clone(),
        (None, ..) => String::new(),
    }
}

/// The longest way that is told.
const LONGEST_PATH: usize = 16;

/// A way of callers that fewer than this share of the samples came is not
/// told any further.
const LEAST_SHARE: f64 = 0.1;

/// The way on which `function` is reached the most, among `stacks`.
pub(super) fn hot_path(population: &Population, function: usize) -> Option<HotPath> {
    let reached = population.stacks.iter().filter_map(|path| {
        let at = path.frames.iter().rposition(|&(it, _)| it == function)?;
        Some((path, at))
    });
    let mut left: Vec<(&Path, usize)> = reached.collect();
    let time = |left: &[(&Path, usize)]| left.iter().map(|(path, _)| path.time).sum::<Duration>();
    let all = time(&left);
    if all.is_zero() {
        return None;
    }
    let share = |time: Duration| time.as_secs_f64() / all.as_secs_f64();
    let name = |function: usize| population.functions.get(function).map(|it| it.name.clone());
    let (mut frames, mut reached) = (vec![name(function)?], 1.0_f64);
    while frames.len() < LONGEST_PATH {
        let mut callers: FxHashMap<usize, Duration> = FxHashMap::default();
        for (path, at) in &left {
            if let Some(&(caller, _)) = at.checked_sub(1).and_then(|at| path.frames.get(at)) {
                *callers.entry(caller).or_default() += path.time;
            }
        }
        // Of two that are equal always the same.
        let most =
            callers.into_iter().max_by_key(|&(caller, time)| (time, std::cmp::Reverse(caller)));
        let Some((caller, time)) = most.filter(|&(_, time)| share(time) >= LEAST_SHARE) else {
            break;
        };
        let Some(name) = name(caller) else { break };
        left.retain_mut(|(path, at)| {
            let is_it = *at > 0 && path.frames.get(*at - 1).is_some_and(|&(it, _)| it == caller);
            *at = at.saturating_sub(1);
            is_it
        });
        frames.push(name);
        reached = share(time);
    }
    Some(HotPath { frames, share: reached.min(1.0) })
}
