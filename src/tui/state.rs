//! What is known, and what of it is to be seen: pure, so that all that a key
//! does can be tested without a terminal.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    functions::Sort,
    gather::{Choice, Group},
    history::{History, Sums},
    keys::Action,
    made::Made,
    prompt::{Filter, Front},
    screen::{Moment, Screen, Tab, Tabs},
    tabs::TreeOpen,
    threads,
    update::{Ending, Update},
    view,
};
use crate::{
    output::{Format, Lines, Locks, Mode, Options, Paths, Threads, View},
    profile::{Costs, ProcessId, Profile, ThreadId},
    stack::Symbol,
};

/// How a live view begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Ticks a second that are wanted.
    pub rate: f64,
    /// The tab that is shown first.
    pub tab: Tab,
    /// Which samples are shown.
    pub mode: Mode,
    /// Which frames.
    pub view: View,
    /// What rows of functions are ordered by.
    pub sort: Sort,
    /// Of how long a time samples are shown.
    pub window: Duration,
    /// For how long samples are kept.
    pub history: Duration,
    /// How many bytes of samples are kept.
    pub memory: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rate: 100.0,
            tab: Tab::Functions,
            mode: Mode::OnCpu,
            view: View::Default,
            sort: Sort::Own,
            window: Duration::from_secs(30),
            history: Duration::from_mins(10),
            memory: 64 << 20,
        }
    }
}

/// What somebody else has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Leave.
    Quit,
    /// Write [`State::shown`] to a file; then say by [`State::tell`] what came
    /// of it.
    Save {
        /// The file, as it was typed.
        path: String,
        /// Its format.
        format: Format,
    },
    /// Read a source file as the process sees it, and give it to
    /// [`State::source`].
    Source {
        /// The file, as the debug information has it.
        file: String,
        /// The process.
        process: ProcessId,
    },
}

/// Which moment is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Live,
    Paused(Duration),
    Past(Duration),
}

/// Where Esc leads back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) tab: Tab,
    pub(super) thread: Option<ThreadId>,
}

/// What is known, and what of it is to be seen.
#[derive(Debug)]
pub struct State {
    pub(super) setup: Setup,
    pub(super) history: History,
    /// The samples that are shown.
    pub(super) sums: Sums,
    pub(super) when: When,
    pub(super) window: Duration,
    pub(super) ending: Option<Ending>,
    pub(super) tab: Tab,
    /// The tabs from which one went in.
    pub(super) before: Vec<Before>,
    pub(super) choice: Choice,
    pub(super) group: Group,
    pub(super) filter: Option<Filter>,
    pub(super) sort: Sort,
    pub(super) thread_sort: threads::Sort,
    /// Whether functions, and threads, are ordered the other way round.
    pub(super) reversed: (bool, bool),
    /// The box to which the icicle graph is zoomed.
    pub(super) zoom: Vec<usize>,
    pub(super) open: TreeOpen,
    pub(super) inverted: bool,
    /// The source files that were asked for; `None` for one that cannot be
    /// read, or has not yet been.
    pub(super) sources: FxHashMap<(String, ProcessId), Option<String>>,
    pub(super) front: Option<Front>,
    /// What is to be said when nothing is typed any more.
    pub(super) later: Option<String>,
    pub(super) made: Made,
    size: (usize, usize),
    /// Whether what is shown is to be made anew.
    pub(super) stale: bool,
    changed: bool,
}

impl State {
    /// Nothing is known yet.
    pub fn new(setup: Setup) -> Self {
        let history = History::new(setup.history, setup.memory);
        let made = Made::new(Group::Function, setup.view, &history);
        Self {
            history,
            sums: Sums::default(),
            when: When::Live,
            window: setup.window,
            ending: None,
            tab: setup.tab,
            before: Vec::new(),
            choice: Choice { mode: setup.mode, thread: None, process: None },
            group: Group::Function,
            filter: None,
            sort: setup.sort,
            thread_sort: threads::Sort::default(),
            reversed: (false, false),
            zoom: Vec::new(),
            open: TreeOpen::default(),
            inverted: false,
            sources: FxHashMap::default(),
            front: None,
            later: None,
            made,
            size: (80, 24),
            stale: true,
            changed: true,
            setup,
        }
    }

    /// Something was seen.
    pub fn update(&mut self, update: Update) {
        self.history.add(update);
        if self.when == When::Live {
            self.look();
            self.changed = true;
        }
    }

    /// The targets have ended.
    pub fn end(&mut self, ending: Ending) {
        let seconds = self.history.at().as_secs();
        let Ending { how, clock } = &ending;
        let text = format!("{how} at {clock}; {seconds} s were recorded: w saves, q leaves");
        self.ending = Some(ending);
        self.tell(text);
    }

    /// Say that something was done, or was not.
    pub fn tell(&mut self, text: String) {
        match self.front {
            // What is typed next is for the line, and no key.
            Some(Front::Prompt(_) | Front::Picker(_)) => self.later = Some(text),
            _ => self.front = Some(Front::Message(text)),
        }
        self.changed = true;
    }

    /// The terminal has so many columns and lines.
    pub fn resize(&mut self, width: usize, height: usize) {
        self.size = (width, height);
        self.touch();
    }

    /// The text of a source file that was requested, as that process sees it;
    /// `None` where it cannot be read.
    pub fn source(&mut self, file: &str, process: ProcessId, text: Option<String>) {
        if let Some(known) = self.sources.get_mut(&(file.to_owned(), process)) {
            *known = text;
        }
        self.touch();
    }

    /// Whether the screen is another one than when [`screen`](Self::screen)
    /// was last called.
    pub const fn is_changed(&self) -> bool {
        self.changed
    }

    /// What is to be seen.
    pub fn screen(&mut self) -> Screen {
        self.refresh();
        self.changed = false;
        let made = &self.made;
        Screen {
            title: made.title(&self.history, &self.sums, self.moment(), self.setup.rate),
            gauges: made.gauges.clone(),
            evidence: made.evidence.clone(),
            tabs: Tabs { chosen: self.tab, population: self.population(), order: self.order() },
            body: made.body(self.tab, self.sorted()),
            path: made.path.clone(),
            keys: self.front.as_ref().map_or_else(|| self.key_line(), Front::keys),
            overlay: self.front.as_ref().map(Front::overlay),
            filter: self.filter.as_ref().map(|filter| filter.text.clone()),
        }
    }

    /// The samples that are shown, of the threads that are chosen, as a
    /// recording of their own that knows when each was; the functions of its
    /// frames; and what it cost.
    pub fn shown(&self) -> (Profile, Vec<Vec<Symbol>>, Costs) {
        let mut profile = self.history.profile.clone();
        profile.keep_timeline();
        let begin = self.sums.slices.first().map_or(Duration::ZERO, |slice| slice.from);
        let all = self.sums.slices.iter().flat_map(|slice| &slice.samples);
        for sample in
            all.filter(|it| self.choice.wants_thread(&self.history.profile, it.key.thread))
        {
            profile.count_since(sample.key, sample.weight, sample.since.saturating_sub(begin));
        }
        let spent = self.sums.spent();
        let costs = Costs {
            duration: self.sums.length(),
            ticks_wanted: spent.ticks_wanted,
            ticks: spent.ticks,
            own_cpu: spent.own_cpu,
            kernel_cpu: spent.kernel_cpu,
            ..self.history.costs.clone()
        };
        (profile, self.history.names.clone(), costs)
    }

    /// How [`shown`](Self::shown) is to be written.
    pub fn options(&self) -> Options {
        Options {
            mode: self.choice.mode,
            locks: Locks::Any,
            view: if self.group == Group::Native { View::Native } else { self.setup.view },
            lines: if self.group == Group::Line { Lines::Apart } else { Lines::First },
            paths: Paths::Short,
            threads: Threads::Merged,
            rate: self.setup.rate,
        }
    }

    /// What is shown is to be made anew.
    pub(super) const fn touch(&mut self) {
        self.stale = true;
        self.changed = true;
    }

    /// Only how it is shown is another.
    pub(super) const fn change(&mut self) {
        self.changed = true;
    }

    /// Look at the moment that is to be shown.
    pub(super) fn look(&mut self) {
        let slices = self.history.window(self.shown_at(), self.window);
        // What is held here is not lost when the history has dropped it.
        if !slices.is_empty() || self.when == When::Live {
            self.sums.set(slices);
        }
        self.touch();
    }

    pub(super) const fn shown_at(&self) -> Duration {
        match self.when {
            When::Live => self.history.at(),
            When::Paused(at) | When::Past(at) => at,
        }
    }

    /// How many rows of a table are seen.
    pub(super) const fn page(&self) -> usize {
        let (width, height) = self.size;
        view::body_height(width, height)
    }

    fn moment(&self) -> Moment {
        match (self.when, &self.ending) {
            (When::Paused(at), _) => Moment::Paused(at),
            (When::Past(at), _) => Moment::Past(at),
            (When::Live, Some(Ending { how, clock })) => Moment::Ended(format!("{how} at {clock}")),
            (When::Live, None) => Moment::Live,
        }
    }

    /// Of what everything is a share.
    fn population(&self) -> String {
        let mut words = Vec::new();
        let profile = &self.history.profile;
        if let Some(process) =
            self.choice.process.and_then(|id| profile.processes().get(id.0 as usize))
        {
            words.push(format!("process {}", process.pid));
        }
        if let Some(thread) = self.choice.thread.and_then(|id| profile.threads().get(id.0 as usize))
        {
            words.push(format!("thread {}", thread.name));
        }
        words.extend(match (self.tab, self.choice.mode) {
            (Tab::Threads, _) => Some("of one CPU".to_owned()),
            (Tab::Waits, _) | (_, Mode::Wall) => Some("wall".to_owned()),
            (_, Mode::OnCpu) => Some("on-CPU".to_owned()),
        });
        words.extend(match (self.tab, self.group) {
            (Tab::Functions, Group::Line) => Some("by line".to_owned()),
            (Tab::Functions, Group::Module) => Some("by module".to_owned()),
            (_, Group::Native) => Some("all frames".to_owned()),
            _ => None,
        });
        let length = self.sums.length();
        // A slice more or less is no other time, unless slices are long.
        let whole = length + Duration::from_secs(1) > self.window;
        let longer = length > self.window + Duration::from_secs(1);
        let length = span(if whole && !longer { self.window } else { length });
        words.push(if self.when == When::Live { format!("last {length}") } else { length });
        if self.history.is_cut && (!whole || self.when != When::Live) {
            let kept = self.history.at().saturating_sub(self.history.begin());
            words.push(format!("only {} kept", span(kept)));
        }
        words.join(", ")
    }

    /// The column by which rows are ordered.
    pub(super) const fn sorted(&self) -> &'static str {
        match self.tab {
            Tab::Functions => self.sort.name(),
            Tab::Threads => self.thread_sort.name(),
            Tab::Tree => "total",
            Tab::Waits => "share",
            Tab::Flame | Tab::Source => "",
        }
    }

    fn order(&self) -> String {
        let by_name = match self.tab {
            Tab::Functions => self.sort == Sort::Name,
            Tab::Threads => {
                matches!(self.thread_sort, threads::Sort::Name | threads::Sort::Tid)
            }
            Tab::Flame | Tab::Source => return String::new(),
            Tab::Tree | Tab::Waits => false,
        };
        let reversed = match self.tab {
            Tab::Functions => self.reversed.0,
            Tab::Threads => self.reversed.1,
            _ => false,
        };
        // Names begin with the first of the alphabet, numbers with the largest.
        let arrow = if by_name == reversed { '▼' } else { '▲' };
        format!("{}{arrow}", self.sorted())
    }

    fn key_line(&self) -> Vec<(&'static str, &'static str)> {
        let mut first = Vec::new();
        if self.ending.is_some() {
            first.extend([Action::Save, Action::Quit]);
        }
        if self.when != When::Live {
            first.push(Action::Live);
        }
        if self.filter.is_some() {
            first.extend([Action::Next, Action::Clear]);
        }
        super::keys::line(self.tab, &first)
    }
}

/// A length of time in whole seconds or minutes.
fn span(length: Duration) -> String {
    let seconds = (length + Duration::from_millis(500)).as_secs();
    match (seconds / 60, seconds % 60) {
        (minutes @ 2.., 0) => format!("{minutes} min"),
        (minutes @ 2.., rest) => format!("{minutes} min {rest} s"),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests;
