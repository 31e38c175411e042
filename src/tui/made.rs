//! What is made of the samples that are shown: the rows of the tab, and what
//! stands around them. It is made anew when samples or wishes change, and not
//! when it is only looked at.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    evidence,
    functions::{self, Trends},
    gather::{Choice, Gatherer, Group},
    gauges,
    history::{History, Slice, Sums},
    population::{Function, Population},
    prompt::Choose,
    rows::{Cursor, Rows, Spot},
    screen::{Body, Evidence, Flame, Gauges, HotPath, Moment, Source, Tab, Table, Title},
    state::State,
    tabs::{self, function_of},
    threads,
    update::{ProcessNow, ThreadNow},
};
use crate::{
    output::{Mode, View},
    profile::{ProcessId, ThreadId},
};

/// What is made of the samples that are shown.
#[derive(Debug)]
pub(super) struct Made {
    /// Puts stacks into functions.
    gatherer: Gatherer,
    /// The same for what is judged by, where other frames are shown.
    judge: Option<Gatherer>,
    /// Puts stacks into lines or modules, where rows are to be those.
    grouped: Option<(Group, Gatherer)>,
    /// All samples.
    wall: Population,
    /// Those that are chosen.
    pub(super) shown: Population,
    /// The same as lines or modules.
    rows_of: Population,
    trends: Trends,
    /// For what `trends` and `before` were made.
    made_for: Option<(Choice, Group)>,
    /// The slices of the baseline, and what they came to.
    pub(super) baseline: Option<Sums>,
    before: Option<FxHashMap<Function, f64>>,
    pub(super) rows: Rows,
    cursors: [Cursor; Tab::ALL.len()],
    /// The function that was last chosen: the one whose source is shown.
    pub(super) focus: Option<Function>,
    pub(super) gauges: Gauges,
    pub(super) evidence: Option<Evidence>,
    pub(super) path: Option<HotPath>,
}

impl Made {
    pub(super) fn new(group: Group, view: View, history: &History) -> Self {
        Self {
            gatherer: Gatherer::new(group, view, history),
            judge: judge(group, view, history),
            grouped: None,
            wall: Population::default(),
            shown: Population::default(),
            rows_of: Population::default(),
            trends: Trends::default(),
            made_for: None,
            baseline: None,
            before: None,
            rows: Rows::Empty(String::new()),
            cursors: Default::default(),
            focus: None,
            gauges: Gauges::default(),
            evidence: None,
            path: None,
        }
    }

    /// Another way to tell functions: what was made of the old one is of no
    /// use.
    pub(super) fn regroup(&mut self, group: Group, view: View, history: &History) {
        let group = if group == Group::Native { group } else { Group::Function };
        self.gatherer = Gatherer::new(group, view, history);
        self.judge = judge(group, view, history);
        self.grouped = None;
        (self.wall, self.shown) = (Population::default(), Population::default());
        self.made_for = None;
        for cursor in &mut self.cursors {
            if matches!(cursor.spot, Some(Spot::Path(_))) {
                *cursor = Cursor::default();
            }
        }
    }

    pub(super) fn cursor(&self, tab: Tab) -> &Cursor {
        let [functions, threads, flame, tree, waits, source] = &self.cursors;
        match tab {
            Tab::Functions => functions,
            Tab::Threads => threads,
            Tab::Flame => flame,
            Tab::Tree => tree,
            Tab::Waits => waits,
            Tab::Source => source,
        }
    }

    pub(super) fn cursor_mut(&mut self, tab: Tab) -> &mut Cursor {
        let [functions, threads, flame, tree, waits, source] = &mut self.cursors;
        match tab {
            Tab::Functions => functions,
            Tab::Threads => threads,
            Tab::Flame => flame,
            Tab::Tree => tree,
            Tab::Waits => waits,
            Tab::Source => source,
        }
    }

    pub(super) fn title(&self, history: &History, sums: &Sums, moment: Moment, rate: f64) -> Title {
        gauges::title(history, sums, moment, rate)
    }

    pub(super) fn body(&self, tab: Tab, sorted: &'static str) -> Body {
        let Cursor { at: chosen, top, .. } = *self.cursor(tab);
        match self.rows.clone() {
            Rows::Empty(why) => Body::Empty(why),
            Rows::Functions(rows, _) => Body::Functions(Table { sorted, rows, chosen, top }),
            Rows::Threads(rows, _) => Body::Threads(Table { sorted, rows, chosen, top }),
            Rows::Flame(flame) => Body::Flame(Flame { chosen, top, ..flame }),
            Rows::Tree(rows, _) => Body::Tree(Table { sorted, rows, chosen, top }),
            Rows::Waits(rows) => Body::Waits(Table { sorted, rows, chosen, top }),
            Rows::Source(source) => Body::Source(Source { chosen, top, ..source }),
        }
    }

    /// Compare with these samples from now on.
    pub(super) fn set_baseline(&mut self, sums: &Sums) {
        (self.baseline, self.before) = (Some(sums.clone()), None);
    }

    /// Compare no more.
    pub(super) fn clear_baseline(&mut self) {
        (self.baseline, self.before) = (None, None);
    }

    /// The threads that may be chosen, those first that use the most CPU.
    pub(super) fn threads(
        &mut self,
        history: &History,
        sums: &Sums,
        choice: Choice,
    ) -> Vec<(Choose, String)> {
        let make = threads::Make {
            sort: threads::Sort::default(),
            reversed: false,
            choice: Choice { thread: None, ..choice },
            is_found: &|_| true,
            is_filtered: false,
        };
        let (rows, ids) = threads::rows(history, sums, &mut self.gatherer, &make);
        let choices = rows.iter().zip(ids).map(|(row, id)| {
            let text =
                format!("{} ({})  {:.0} %  {}", row.name, row.tid, row.cpu * 100.0, row.frame);
            (Choose::Thread(Some(id)), text)
        });
        let all = (Choose::Thread(None), "all threads".to_owned());
        [all].into_iter().chain(choices).collect()
    }

    /// The number of the function whose source is shown: the one that was
    /// chosen, as far as it is known by name, else the one that is the
    /// innermost the most.
    fn focus(&self) -> Option<usize> {
        let known = self.focus.as_ref().and_then(|focus| {
            let is_it = |it: &Function| (&it.name, &it.file) == (&focus.name, &focus.file);
            let same = || self.shown.functions.iter().position(is_it);
            self.gatherer.number(focus).or_else(same)
        });
        known.or_else(|| hottest(&self.shown, |_| true))
    }
}

/// The function that is the innermost the most on the stacks of the threads
/// that `is_wanted`.
fn hottest(population: &Population, is_wanted: impl Fn(ThreadId) -> bool) -> Option<usize> {
    let mut own: FxHashMap<usize, Duration> = FxHashMap::default();
    for path in population.stacks.iter().filter(|path| is_wanted(path.thread)) {
        if let Some(&(function, _)) = path.frames.last() {
            *own.entry(function).or_default() += path.time;
        }
    }
    own.into_iter().max_by_key(|&(it, time)| (time, std::cmp::Reverse(it))).map(|(it, _)| it)
}

impl State {
    /// Make anew what is to be shown, where that has changed.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let Self { made, history, sums, .. } = self;
        if !made.gatherer.holds(history) {
            made.regroup(self.group, self.setup.view, history);
        }
        if made.made_for.replace((self.choice, self.group)) != Some((self.choice, self.group)) {
            (made.trends, made.before) = (Trends::default(), None);
        }
        let gatherer = made.judge.as_mut().unwrap_or(&mut made.gatherer);
        gatherer.gather(history, &sums.by_key, Choice::ALL, &mut made.wall);
        made.gauges = gauges::gauges(history, sums);
        made.evidence = evidence::of(&window(history, sums, &made.wall, &made.gauges));
        let wall = Choice { mode: Mode::Wall, ..self.choice };
        let choice = if self.tab == Tab::Waits { wall } else { self.choice };
        made.gatherer.gather(history, &sums.by_key, choice, &mut made.shown);
        self.made.rows = self.rows();
        self.settle();
    }

    /// The rows of the tab.
    fn rows(&mut self) -> Rows {
        if self.sums.slices.is_empty() {
            return Rows::Empty("nothing was seen yet".to_owned());
        }
        let is_empty = self.made.shown.time.is_zero() && self.tab != Tab::Threads;
        if is_empty {
            let why = match (self.choice.mode, self.tab) {
                (Mode::OnCpu, tab) if tab != Tab::Waits => {
                    "nothing ran in this time: i shows what sleeps, too"
                }
                _ => "nothing was seen in this time",
            };
            return Rows::Empty(why.to_owned());
        }
        let rows = match self.tab {
            Tab::Functions => self.function_rows(),
            Tab::Threads => self.thread_rows(),
            Tab::Flame => self.flame(),
            Tab::Tree => self.tree_rows(),
            Tab::Waits => self.wait_rows(),
            Tab::Source => self.source_lines(),
        };
        match (&self.filter, rows.len()) {
            (Some(filter), 0) if self.tab != Tab::Source => {
                Rows::Empty(format!("nothing here matches {}: c clears the filter", filter.text))
            }
            _ => rows,
        }
    }

    /// Whether a text matches what is searched for.
    pub(super) fn matches(&self) -> impl Fn(&str) -> bool + use<> {
        let regex = self.filter.as_ref().map(|filter| filter.regex.clone());
        move |text| regex.as_ref().is_some_and(|regex| regex.is_match(text))
    }

    fn function_rows(&mut self) -> Rows {
        let is_match = self.matches();
        let is_filtered = self.filter.is_some();
        let Self { made, history, sums, choice, group, .. } = self;
        let by_name = matches!(group, Group::Function | Group::Native);
        if made.grouped.as_ref().is_none_or(|(it, grouped)| it != group || !grouped.holds(history))
        {
            made.rows_of = Population::default();
            let view = self.setup.view;
            made.grouped = (!by_name).then(|| (*group, Gatherer::new(*group, view, history)));
        }
        let (gatherer, population) = match &mut made.grouped {
            Some((_, gatherer)) => {
                gatherer.gather(history, &sums.by_key, *choice, &mut made.rows_of);
                (gatherer, &made.rows_of)
            }
            None => (&mut made.gatherer, &made.shown),
        };
        if let (Some(baseline), None) = (&made.baseline, &made.before) {
            let mut population = Population::default();
            gatherer.gather(history, &baseline.by_key, *choice, &mut population);
            made.before = Some(functions::own_shares(&population));
        }
        let trends = made.trends.of(history, sums, gatherer, *choice);
        let make = functions::Make {
            sort: self.sort,
            reversed: self.reversed.0,
            baseline: made.before.as_ref(),
            is_found: &|function| {
                !is_filtered || is_match(&function.name) || is_match(&functions::place(function))
            },
            is_filtered,
        };
        let (rows, numbers) = functions::rows(population, trends, &make);
        let functions = numbers.iter().filter_map(|&it| population.functions.get(it).cloned());
        Rows::Functions(rows, functions.collect())
    }

    fn thread_rows(&mut self) -> Rows {
        let is_match = self.matches();
        let is_filtered = self.filter.is_some();
        let make = threads::Make {
            sort: self.thread_sort,
            reversed: self.reversed.1,
            // The one that is chosen is seen among the others.
            choice: Choice { thread: None, ..self.choice },
            is_found: &|row| {
                let wait = row.wait.as_ref().map_or("", |(wait, _)| wait);
                !is_filtered || [&*row.name, &*row.frame, wait].into_iter().any(&is_match)
            },
            is_filtered,
        };
        let (rows, threads) =
            threads::rows(&self.history, &self.sums, &mut self.made.gatherer, &make);
        Rows::Threads(rows, threads)
    }

    fn flame(&self) -> Rows {
        let is_match = self.matches();
        let chosen = match &self.made.cursor(Tab::Flame).spot {
            Some(Spot::Path(path)) => path.as_slice(),
            _ => &self.zoom,
        };
        let mut flame = tabs::flame(&self.made.shown, &self.zoom, chosen);
        for it in &mut flame.boxes {
            it.found = is_match(&it.name);
        }
        Rows::Flame(flame)
    }

    fn tree_rows(&self) -> Rows {
        let is_match = self.matches();
        let (mut rows, paths) = tabs::tree(&self.made.shown, &self.open, self.inverted);
        for row in &mut rows {
            row.found = is_match(&row.name) || is_match(&row.place);
        }
        Rows::Tree(rows, paths)
    }

    fn wait_rows(&self) -> Rows {
        let is_match = self.matches();
        let (threads, _) = now(self.sums.last());
        let profile = &self.history.profile;
        let wanted = |it: &&ThreadNow| self.choice.wants_thread(profile, it.thread);
        let threads: Vec<ThreadNow> = threads.iter().filter(wanted).cloned().collect();
        let name = |id: ThreadId| {
            profile.threads().get(id.0 as usize).map(|it| it.name.clone()).unwrap_or_default()
        };
        let at = self.sums.last().map_or(Duration::ZERO, |slice| slice.at);
        let mut rows = tabs::waits(&self.made.shown, &threads, at, &name);
        if self.filter.is_some() {
            rows.retain(|row| {
                let stack = row.stack.iter().map(String::as_str);
                [&*row.call, &*row.object].into_iter().chain(stack).any(&is_match)
            });
            for row in &mut rows {
                row.found = true;
            }
        }
        Rows::Waits(rows)
    }

    fn source_lines(&self) -> Rows {
        let Some(function) = self.made.focus() else {
            return Rows::Empty("nothing was seen yet".to_owned());
        };
        let file = self.source_of(function);
        let text = file.and_then(|key| self.sources.get(&key)?.as_deref());
        let source = tabs::source(&self.made.shown, function, text);
        if source.lines.is_empty() {
            return Rows::Empty(format!("{}: no source is known of it", source.title));
        }
        Rows::Source(source)
    }

    /// The file of a function, and the process in which it was seen.
    fn source_of(&self, function: usize) -> Option<(String, ProcessId)> {
        let file = self.made.shown.functions.get(function)?.file.clone()?;
        let mut stacks = self.made.shown.stacks.iter();
        let seen = stacks.find(|path| path.frames.iter().any(|&(it, _)| it == function));
        let threads = self.history.profile.threads();
        let thread = seen.and_then(|path| threads.get(path.thread.0 as usize));
        Some((file, thread.map_or(ProcessId(0), |thread| thread.process)))
    }

    /// The source file that is to be shown, where it was not yet asked for.
    pub(super) fn missing_source(&mut self) -> Option<(String, ProcessId)> {
        // More files than anybody looks at in turn.
        const MOST: usize = 64;
        if self.tab != Tab::Source {
            return None;
        }
        self.refresh();
        let key = self.source_of(self.made.focus()?)?;
        if self.sources.contains_key(&key) {
            return None;
        }
        if self.sources.len() >= MOST {
            self.sources.clear();
        }
        self.sources.insert(key.clone(), None);
        Some(key)
    }

    /// Find what is chosen among the rows, and see that it is seen.
    fn settle(&mut self) {
        let page = self.page();
        let tab = self.tab;
        let Made { rows, .. } = &self.made;
        let first = if let Rows::Source(source) = rows { source.chosen } else { 0 };
        let cursor = self.made.cursor(tab).clone();
        let found = cursor.spot.as_ref().map_or(Some(first), |spot| rows.find(spot));
        let at = found.unwrap_or(cursor.at).min(rows.len().saturating_sub(1));
        // Boxes stand in rows by their depth.
        let depth = |at: usize| match rows {
            Rows::Flame(flame) => flame.boxes.get(at).map_or(0, |it| it.depth),
            _ => at,
        };
        let last = match rows {
            Rows::Flame(flame) => flame.boxes.iter().map(|it| it.depth + 1).max().unwrap_or(0),
            _ => rows.len(),
        };
        let row = depth(at);
        let top = match cursor.top {
            top if row < top => row,
            top if row >= top + page => row + 1 - page,
            top => top,
        };
        let top = top.min(last.saturating_sub(page));
        self.made.path = self.hot_path(at);
        let cursor = self.made.cursor_mut(tab);
        (cursor.at, cursor.top) = (at, top);
    }

    /// The way to what is chosen; it is remembered which function that is.
    fn hot_path(&mut self, at: usize) -> Option<HotPath> {
        let made = &self.made;
        let function = match &made.rows {
            Rows::Functions(_, functions) => {
                let function = functions.get(at)?.clone();
                let (gatherer, population) = match &made.grouped {
                    Some((_, gatherer)) => (gatherer, &made.rows_of),
                    None => (&made.gatherer, &made.shown),
                };
                let number = gatherer.number(&function)?;
                let path = functions::hot_path(population, number);
                self.made.focus = Some(function);
                return path;
            }
            Rows::Threads(_, threads) => {
                let thread = *threads.get(at)?;
                let function = hottest(&made.shown, |it| it == thread)?;
                let population = Population {
                    functions: made.shown.functions.clone(),
                    stacks: made
                        .shown
                        .stacks
                        .iter()
                        .filter(|it| it.thread == thread)
                        .cloned()
                        .collect(),
                    ..Population::default()
                };
                return functions::hot_path(&population, function);
            }
            Rows::Flame(flame) => function_of(flame.boxes.get(at)?.step)?,
            Rows::Tree(_, paths) => function_of(*paths.get(at)?.last()?)?,
            Rows::Source(_) => return functions::hot_path(&made.shown, made.focus()?),
            Rows::Waits(_) | Rows::Empty(_) => return None,
        };
        let path = functions::hot_path(&made.shown, function);
        self.made.focus = self.made.shown.functions.get(function).cloned();
        path
    }
}

/// What tells functions as they are judged by: the machine code that the
/// innermost of a language runtime have called is among them. None where they
/// are shown so.
fn judge(group: Group, view: View, history: &History) -> Option<Gatherer> {
    let is_shown = group == Group::Function && view == View::Default;
    (!is_shown).then(|| Gatherer::new(Group::Function, View::Default, history))
}

/// What is judged.
fn window<'a>(
    history: &'a History,
    sums: &'a Sums,
    seen: &'a Population,
    gauges: &'a Gauges,
) -> evidence::Window<'a> {
    let (threads, processes) = now(sums.last());
    let first = sums.slices.first();
    evidence::Window {
        seen,
        gauges,
        known: history.profile.threads(),
        threads,
        processes,
        // At the end of the first slice, which is known, for its beginning.
        before: first.map_or(&[], |slice| &slice.processes),
        from: first.map_or(Duration::ZERO, |slice| slice.from),
        at: sums.last().map_or(Duration::ZERO, |slice| slice.at),
    }
}

/// What was so at the end of a slice.
fn now(slice: Option<&Slice>) -> (&[ThreadNow], &[ProcessNow]) {
    slice.map_or((&[], &[]), |slice| (&slice.threads, &slice.processes))
}
