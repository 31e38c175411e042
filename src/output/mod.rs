//! What a recording is written as: one file a format.
//!
//! A format gets a [`Profile`], the names of its frames, and [`Options`]; it
//! knows neither the sampler nor files, and writes to any [`io::Write`].

pub mod dump;
pub mod text;

mod chrometrace;
mod collapsed;
mod flamegraph;
mod order;
mod parked;
mod speedscope;
mod stacks;
mod stats;
mod view;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

pub use stats::stats;
pub use view::{Role, Seen, View};

use crate::{
    profile::{Costs, Key, Profile, Weight},
    stack::{End, Symbol},
    style,
    task::{Lock, State},
};

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An interactive flame graph, for a browser.
    Flamegraph,
    /// One line a stack, root first, with its count.
    Collapsed,
    /// What each thread did in the order of time, for speedscope.
    Speedscope,
    /// The same as trace events, for Perfetto and `chrome://tracing`.
    ChromeTrace,
}

impl Format {
    /// Whether it shows the order of time: without a
    /// [`Timeline`](crate::profile::Timeline) in the profile it shows nothing.
    pub const fn shows_time(self) -> bool {
        matches!(self, Self::Speedscope | Self::ChromeTrace)
    }

    /// The one that the end of a file's name tells, such as `a.folded`.
    pub fn told_by(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or_default().to_lowercase();
        let is_end = |end: &str| name.strip_suffix(end).is_some_and(|it| !it.is_empty());
        NAMES.iter().find(|(end, _)| is_end(end)).map(|&(_, format)| format)
    }
}

/// What the ends of files' names tell.
const NAMES: [(&str, Format); 7] = [
    (".svg", Format::Flamegraph),
    (".folded", Format::Collapsed),
    (".collapsed", Format::Collapsed),
    (".txt", Format::Collapsed),
    (".raw", Format::Collapsed),
    (".speedscope.json", Format::Speedscope),
    (".trace.json", Format::ChromeTrace),
];

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
    /// They are one frame, shown with the function's first line where that is
    /// known.
    First,
    /// They are one frame, shown without a line.
    Together,
}

/// How a source file is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// By its last component, or as from the package that it is installed in.
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

/// Which samples are shown, by the interpreter lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// Those of any thread.
    Any,
    /// Those in which the thread held it.
    Held,
}

/// What to show, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which samples, by what the thread was doing.
    pub mode: Mode,
    /// Which samples, by the interpreter lock.
    pub locks: Locks,
    /// Which frames.
    pub view: View,
    /// Frames of one function.
    pub lines: Lines,
    /// Source files.
    pub paths: Paths,
    /// Threads.
    pub threads: Threads,
    /// The rate that was asked for, in ticks a second: it is only told.
    pub rate: f64,
}

impl Options {
    /// Whether samples of such a thread are shown; its stack may yet have no
    /// frame to be shown.
    pub fn wants(&self, state: State, lock: Lock) -> bool {
        self.mode.shows(state) && (self.locks == Locks::Any || lock == Lock::Held)
    }

    /// What kind of samples is shown: `on-CPU`.
    pub const fn kind(&self) -> &'static str {
        match (self.mode, self.locks) {
            (Mode::OnCpu, Locks::Any) => "on-CPU",
            (Mode::OnCpu, Locks::Held) => "on-CPU lock-held",
            (Mode::Wall, Locks::Any) => "wall clock",
            (Mode::Wall, Locks::Held) => "wall clock lock-held",
        }
    }
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
        Format::Speedscope => speedscope::write(recording, options, into),
        Format::ChromeTrace => chrometrace::write(recording, options, into),
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

/// How many of the samples that are shown have a stack that is cut, and how
/// many have a stack at all. Threads that sleep and are not shown would hide
/// what became of those that are.
pub fn cut(profile: &Profile, options: &Options) -> (u64, u64) {
    shown(profile, options).fold((0, 0), |(cut, all), (key, weight)| {
        match profile.stack(key.stack).1 {
            End::NotCaught | End::NotStopped => (cut, all),
            End::Root => (cut, all + weight.ticks),
            _ => (cut + weight.ticks, all + weight.ticks),
        }
    })
}

/// How many samples are shown.
pub fn samples(profile: &Profile, options: &Options) -> u64 {
    shown(profile, options).map(|(_, weight)| weight.ticks).sum()
}

/// The samples that are shown.
fn shown<'a>(
    profile: &'a Profile,
    options: &'a Options,
) -> impl Iterator<Item = (&'a Key, &'a Weight)> {
    profile.samples().filter(|(key, _)| {
        options.wants(key.state, key.lock)
            && stacks::seen(profile, &[], options.view, key.stack).is_some()
    })
}

/// What was watched.
fn title(recording: Named<'_>) -> String {
    match recording.profile.processes() {
        [process] => text::process(process),
        processes => {
            let pids: Vec<_> = processes.iter().map(|process| process.pid.to_string()).collect();
            style::clip(&format!("{} processes: {}", pids.len(), pids.join(", ")), 100).into_owned()
        }
    }
}
