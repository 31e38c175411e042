//! What a recording is written as: one file a format.
//!
//! A format gets a [`Profile`], the names of its frames, and [`Options`]; it
//! knows neither the sampler nor files, and writes to any [`io::Write`].

pub mod dump;
pub mod text;

mod collapsed;
mod flamegraph;
mod stacks;
mod stats;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

pub use stats::stats;

use crate::{
    profile::{Costs, Profile},
    stack::{End, Symbol},
    task::State,
};

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An interactive flame graph, for a browser.
    Flamegraph,
    /// One line a stack, root first, with its count.
    Collapsed,
}

/// Which samples are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Those of threads that ran, or waited only for a CPU.
    OnCpu,
    /// All: each stack by the time that a thread was there.
    Wall,
}

impl Mode {
    /// Whether samples in `state` are shown.
    pub const fn shows(self, state: State) -> bool {
        matches!(self, Self::Wall) || state.is_runnable()
    }
}

/// Whether frames of one function at different lines are different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// They are; the line is shown.
    Apart,
    /// They are one frame.
    Together,
}

/// How a source file is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// By its last component.
    Short,
    /// As the debug information has it.
    Full,
}

/// Whether threads are shown apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Equal stacks of different threads are one.
    Merged,
    /// Each thread has a root frame of its own.
    Apart,
}

/// What to show, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which samples.
    pub mode: Mode,
    /// Frames of one function.
    pub lines: Lines,
    /// Source files.
    pub paths: Paths,
    /// Threads.
    pub threads: Threads,
    /// The rate that was asked for, in ticks a second: it is only told.
    pub rate: f64,
}

/// A recording with the names of its frames.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// What was seen.
    pub profile: &'a Profile,
    /// What it cost.
    pub costs: &'a Costs,
    /// The functions of each frame, by [`FrameId`](crate::profile::FrameId),
    /// innermost first: several where the compiler inlined.
    pub names: &'a [Vec<Symbol>],
}

/// Write `recording` as a `format`.
///
/// # Errors
/// Those of writing to `into`.
pub fn write(
    format: Format,
    recording: Named<'_>,
    options: &Options,
    into: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Flamegraph => flamegraph::write(recording, options, into),
        Format::Collapsed => collapsed::write(recording, options, into),
    }
}

/// The microseconds that threads spent in each state that is not shown on the
/// CPU: the most first.
pub fn waits(profile: &Profile) -> Vec<(State, u64)> {
    let mut waits = BTreeMap::<State, u64>::new();
    for (key, weight) in profile.samples() {
        if !key.state.is_runnable() {
            let micros = u64::try_from(weight.wall.as_micros()).unwrap_or(u64::MAX);
            *waits.entry(key.state).or_default() += micros;
        }
    }
    let mut waits: Vec<_> = waits.into_iter().collect();
    waits.sort_by_key(|&(state, micros)| (std::cmp::Reverse(micros), state));
    waits
}

/// How many of the samples that `mode` shows have a stack that is cut, and how
/// many have a stack at all. Threads that sleep and are not shown would hide
/// what became of those that are.
pub fn cut(profile: &Profile, mode: Mode) -> (u64, u64) {
    let shown = profile.samples().filter(|(key, _)| mode.shows(key.state));
    shown.fold((0, 0), |(cut, all), (key, weight)| match profile.stack(key.stack).1 {
        End::NotCaught => (cut, all),
        End::Root => (cut, all + weight.ticks),
        _ => (cut + weight.ticks, all + weight.ticks),
    })
}

/// How many samples `mode` shows.
pub fn samples(profile: &Profile, mode: Mode) -> u64 {
    let shown = profile.samples().filter(|(key, _)| mode.shows(key.state));
    shown.map(|(_, weight)| weight.ticks).sum()
}
