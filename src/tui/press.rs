//! What keys and clicks do.

use std::time::Duration;

use super::{
    functions::Sort,
    gather::Group,
    keys::{self, Action, Key},
    prompt::{Choose, Front, Outcome},
    rows::{Cursor, Rows, Spot},
    screen::Tab,
    state::{Before, Request, State, When},
    tabs::{self, Way},
    target::Target,
    threads,
};
use crate::output::Mode;

/// The lengths of time that may be chosen, in seconds.
const WINDOWS: [u64; 7] = [5, 10, 30, 60, 120, 300, 600];

/// How many steps back in time a window has.
const STEPS: u32 = 6;

/// Boxes of the icicle graph that are narrower are passed over: a column of a
/// wide terminal.
const NARROWEST: f64 = 0.005;

impl State {
    /// A key was pressed. Returned is what somebody else has to do now.
    pub fn press(&mut self, key: Key) -> Option<Request> {
        if let Some(front) = &mut self.front {
            let outcome = front.press(key);
            let passed = matches!(outcome, Outcome::Passed);
            let request = self.finish(outcome);
            if !passed {
                return request;
            }
        }
        let action = keys::action(self.tab, key)?;
        self.act(action).or_else(|| self.wanted())
    }

    /// Something was clicked on. Returned is what somebody else has to do now.
    pub fn click(&mut self, target: Target) -> Option<Request> {
        if let Some(front) = &self.front {
            let outcome = match target {
                Target::Choice(at) => front.choose(at),
                Target::Key(label) => return self.press(keys::labelled(self.tab, label)?),
                _ => Outcome::Over,
            };
            return self.finish(outcome);
        }
        match target {
            Target::Tab(tab) => self.go(tab),
            Target::Row(at) | Target::FlameBox(at) => {
                self.refresh();
                if at < self.made.rows.len() && self.made.cursor(self.tab).at == at {
                    self.enter();
                } else {
                    self.choose(at);
                }
            }
            Target::Column(name) => self.sort_by(name),
            Target::Key(label) => return self.press(keys::labelled(self.tab, label)?),
            Target::Choice(_) | Target::Outside => {}
        }
        self.wanted()
    }

    /// What somebody else has to do, which nobody pressed a key for: to be
    /// asked after an update.
    pub fn wanted(&mut self) -> Option<Request> {
        let (file, process) = self.missing_source()?;
        Some(Request::Source { file, process })
    }

    /// What came of a key that was pressed in front of everything else.
    fn finish(&mut self, outcome: Outcome) -> Option<Request> {
        if !matches!(outcome, Outcome::Stays) {
            self.front = self.later.take().map(Front::Message);
        }
        self.change();
        match outcome {
            Outcome::Stays | Outcome::Over | Outcome::Passed => {}
            Outcome::Filter(filter) => {
                self.filter = filter;
                self.touch();
            }
            Outcome::Save(path, format) => return Some(Request::Save { path, format }),
            Outcome::Choose(Choose::Thread(thread)) => {
                self.choice.thread = thread;
                self.touch();
            }
            Outcome::Choose(Choose::Process(process)) => {
                (self.choice.process, self.choice.thread) = (process, None);
                self.touch();
            }
        }
        None
    }

    fn act(&mut self, action: Action) -> Option<Request> {
        self.refresh();
        match action {
            Action::Quit => return Some(Request::Quit),
            Action::Help => self.front = Some(Front::Help),
            Action::Tab(tab) => self.go(tab),
            Action::NextTab => self.go_beside(1),
            Action::PreviousTab => self.go_beside(Tab::ALL.len() - 1),
            Action::Up | Action::Down | Action::Left | Action::Right => self.step(action),
            Action::PageUp => self.choose(self.at().saturating_sub(self.page())),
            Action::PageDown => self.choose(self.at() + self.page()),
            Action::First => self.choose(0),
            Action::Last => self.choose(usize::MAX),
            Action::Enter => self.enter(),
            Action::Leave => self.leave(),
            Action::Filter => {
                let text = self.filter.as_ref().map_or("", |filter| &filter.text);
                self.front = Some(Front::filter(text));
            }
            Action::Clear => self.filter = None,
            Action::Next => self.search(true),
            Action::Previous => self.search(false),
            Action::Sort => self.sort_beside(true),
            Action::SortBack => self.sort_beside(false),
            Action::Reverse => self.reverse(),
            Action::PickThread => self.pick_thread(),
            Action::PickProcess => self.pick_process(),
            Action::Idle => {
                self.choice.mode = match self.choice.mode {
                    Mode::OnCpu => Mode::Wall,
                    Mode::Wall => Mode::OnCpu,
                };
            }
            Action::Pause => self.pause(),
            Action::Back => self.travel(false),
            Action::Forth => self.travel(true),
            Action::Live => self.live(),
            Action::Shorter => self.resize_window(false),
            Action::Longer => self.resize_window(true),
            Action::Baseline => self.set_baseline(),
            Action::NoBaseline => self.clear_baseline(),
            Action::Save => self.front = Some(Front::save(self.file_name())),
            Action::Reset => self.reset(),
            Action::Lines => {
                self.go(Tab::Functions);
                self.regroup(if self.group == Group::Line { Group::Function } else { Group::Line });
            }
            Action::Group => self.regroup(self.group.next()),
            Action::Invert => {
                self.inverted = !self.inverted;
                *self.made.cursor_mut(Tab::Tree) = Cursor::default();
            }
        }
        self.touch();
        None
    }

    fn at(&self) -> usize {
        self.made.cursor(self.tab).at
    }

    /// Choose a row by its index, or the last.
    fn choose(&mut self, at: usize) {
        let at = at.min(self.made.rows.len().saturating_sub(1));
        // Whoever goes to the first row wants to see what is the first: but
        // lines of source stay where they are, and the root is the root.
        let spot = self.made.rows.spot(at).filter(|spot| at > 0 || matches!(spot, Spot::Line(_)));
        let cursor = self.made.cursor_mut(self.tab);
        (cursor.spot, cursor.at) = (spot, at);
        self.touch();
    }

    /// One row, or one box, in a direction.
    fn step(&mut self, action: Action) {
        let at = self.at();
        if let Rows::Flame(flame) = &self.made.rows {
            let way = match action {
                Action::Up => Way::Caller,
                Action::Down => Way::Callee,
                Action::Left => Way::Before,
                _ => Way::After,
            };
            let to = tabs::walk(flame, at, way, NARROWEST);
            return self.choose(to);
        }
        match action {
            Action::Up => self.choose(at.saturating_sub(1)),
            Action::Down => self.choose(at.saturating_add(1)),
            Action::Left => self.close(at),
            _ => self.open(at),
        }
    }

    /// Close a row of the tree; of one that is closed, go to the one above.
    fn close(&mut self, at: usize) {
        let Rows::Tree(rows, paths) = &self.made.rows else { return };
        let (Some(row), Some(path)) = (rows.get(at), paths.get(at)) else { return };
        if row.open == Some(true) {
            return self.open.set(&self.made.shown, self.inverted, path, false);
        }
        let above = rows.iter().take(at).rposition(|it| it.depth < row.depth);
        self.choose(above.unwrap_or(at));
    }

    /// Open a row of the tree; of one that is open, go to the first below.
    fn open(&mut self, at: usize) {
        let Rows::Tree(rows, paths) = &self.made.rows else { return };
        match (rows.get(at).and_then(|row| row.open), paths.get(at)) {
            (Some(true), _) => self.choose(at + 1),
            (Some(false), Some(path)) => {
                self.open.set(&self.made.shown, self.inverted, path, true);
            }
            _ => {}
        }
    }

    /// Go into what is chosen.
    fn enter(&mut self) {
        let at = self.at();
        match &self.made.rows {
            Rows::Functions(rows, _) => {
                let is_leaf = rows.get(at).is_some_and(|row| row.own > 0.0);
                self.enter_callers(is_leaf);
            }
            Rows::Threads(_, threads) => {
                let Some(&thread) = threads.get(at) else { return };
                self.before.push(Before { tab: self.tab, thread: self.choice.thread });
                self.choice.thread = Some(thread);
                self.show(Tab::Functions);
            }
            Rows::Flame(flame) => {
                let path = tabs::flame_path(flame, at);
                self.made.cursor_mut(Tab::Flame).spot = Some(Spot::Path(path.clone()));
                self.zoom = path;
            }
            Rows::Tree(rows, _) => match rows.get(at).and_then(|row| row.open) {
                Some(true) => self.close(at),
                Some(false) => self.open(at),
                None => {}
            },
            Rows::Waits(_) | Rows::Source(_) | Rows::Empty(_) => {}
        }
        self.touch();
    }

    /// Who calls the function that is chosen: its row in the tree of callers,
    /// or, of one that is never the innermost, on the hot path to it.
    fn enter_callers(&mut self, is_leaf: bool) {
        let Some(focus) = self.made.focus.clone() else { return };
        let population = &self.made.shown;
        let is_it = |&step: &usize| {
            population.functions.get(step).is_some_and(|it| {
                (&it.name, &it.file) == (&focus.name, &focus.file)
                    && (self.group == Group::Line || it.line == focus.line)
            })
        };
        let path: Option<Vec<usize>> = if is_leaf {
            let stacks = population.stacks.iter();
            let mut innermost = stacks.filter_map(|path| path.frames.last().map(|&(it, _)| it));
            innermost.find(is_it).map(|it| vec![it])
        } else {
            let heaviest = population.stacks.iter().filter_map(|path| {
                let at = path.frames.iter().position(|(it, _)| is_it(it))?;
                Some((path.time, path.frames.get(..=at)?))
            });
            let heaviest = heaviest.max_by_key(|&(time, _)| time);
            heaviest.map(|(_, frames)| frames.iter().map(|&(it, _)| it).collect())
        };
        // A module is no function.
        let Some(path) = path else { return };
        self.inverted = is_leaf;
        for depth in 1..=path.len() {
            let Some(part) = path.get(..depth) else { break };
            self.open.set(&self.made.shown, is_leaf, part, true);
        }
        self.before.push(Before { tab: self.tab, thread: self.choice.thread });
        self.show(Tab::Tree);
        *self.made.cursor_mut(Tab::Tree) =
            Cursor { spot: Some(Spot::Path(path)), ..Cursor::default() };
    }

    /// Go back out of what one went into.
    fn leave(&mut self) {
        if self.tab == Tab::Flame && self.zoom.pop().is_some() {
            return;
        }
        if let Some(before) = self.before.pop() {
            self.choice.thread = before.thread;
            return self.show(before.tab);
        }
        if self.choice.thread.take().is_none() && self.choice.process.take().is_none() {
            self.filter = None;
        }
    }

    /// Go to a tab of one's own will: nothing leads back.
    fn go(&mut self, tab: Tab) {
        self.before.clear();
        self.show(tab);
    }

    fn go_beside(&mut self, step: usize) {
        let at = Tab::ALL.iter().position(|it| *it == self.tab).unwrap_or(0);
        self.go(Tab::ALL.get((at + step) % Tab::ALL.len()).copied().unwrap_or_default());
    }

    fn show(&mut self, tab: Tab) {
        self.refresh();
        if tab == Tab::Source && self.tab != Tab::Source {
            *self.made.cursor_mut(Tab::Source) = Cursor::default();
        }
        self.tab = tab;
        self.touch();
    }

    /// Choose the next row that was searched for, or the one before.
    fn search(&mut self, forth: bool) {
        let rows = &self.made.rows;
        let (len, at) = (rows.len(), self.at());
        let is_match = self.matches();
        let found = (1..=len).map(|step| (at + if forth { step } else { len - step }) % len);
        let mut found = found.filter(|&at| rows.is_found(at, &is_match));
        match (found.next(), &self.filter) {
            (Some(at), _) => self.choose(at),
            (None, Some(filter)) => {
                let text = format!("nothing here matches {}", filter.text);
                self.tell(text);
            }
            (None, None) => self.front = Some(Front::filter("")),
        }
    }

    fn sort_beside(&mut self, forth: bool) {
        match self.tab {
            Tab::Functions => {
                self.sort = self.sort.beside(forth, self.made.baseline.is_some());
            }
            _ => self.thread_sort = self.thread_sort.beside(forth),
        }
    }

    /// Order by the column of that name; the other way round, if rows are
    /// ordered by it.
    fn sort_by(&mut self, name: &str) {
        let is_sorted = self.sorted() == name;
        match (self.tab, Sort::named(name), threads::Sort::named(name)) {
            (Tab::Functions | Tab::Threads, ..) if is_sorted => self.reverse(),
            (Tab::Functions, Some(sort), _) => (self.sort, self.reversed.0) = (sort, false),
            (Tab::Threads, _, Some(sort)) => (self.thread_sort, self.reversed.1) = (sort, false),
            _ => {}
        }
        self.touch();
    }

    fn reverse(&mut self) {
        let reversed = match self.tab {
            Tab::Functions => &mut self.reversed.0,
            _ => &mut self.reversed.1,
        };
        *reversed = !*reversed;
    }

    fn pick_thread(&mut self) {
        let choices = self.made.threads(&self.history, &self.sums, self.choice);
        self.front = Some(Front::pick("thread", choices, Choose::Thread(self.choice.thread)));
    }

    fn pick_process(&mut self) {
        let processes = self.history.profile.processes().iter().zip(0..);
        let choices = processes.map(|(process, id)| {
            let choose = Choose::Process(Some(crate::profile::ProcessId(id)));
            (choose, format!("{} {}", process.pid, process.command.trim()))
        });
        let all = (Choose::Process(None), "all processes".to_owned());
        let choices = [all].into_iter().chain(choices).collect();
        self.front = Some(Front::pick("process", choices, Choose::Process(self.choice.process)));
    }

    fn pause(&mut self) {
        match self.when {
            When::Live => self.when = When::Paused(self.history.at()),
            When::Paused(_) | When::Past(_) => self.live(),
        }
    }

    fn live(&mut self) {
        self.when = When::Live;
        self.look();
    }

    /// A part of the window back in time, or forth.
    fn travel(&mut self, forth: bool) {
        let step = (self.window / STEPS).max(Duration::from_secs(1));
        let at = self.shown_at();
        if forth && at + step >= self.history.at() {
            return self.live();
        }
        // There is nothing before the end of the first slice.
        let first = self.history.first_end();
        let to = if forth { at + step } else { at.saturating_sub(step).max(first) };
        if to < self.history.at() {
            self.when = When::Past(to);
            self.look();
        }
    }

    fn resize_window(&mut self, longer: bool) {
        let lengths = || WINDOWS.into_iter().map(Duration::from_secs);
        let found = if longer {
            lengths().find(|&it| it > self.window)
        } else {
            lengths().rev().find(|&it| it < self.window)
        };
        // What is not kept cannot be shown.
        let found = found.filter(|&it| !longer || self.window < self.setup.history.max(it / 2));
        self.window = found.unwrap_or(self.window);
        self.look();
    }

    fn set_baseline(&mut self) {
        if !self.sums.slices.is_empty() {
            self.made.set_baseline(&self.sums);
        }
    }

    fn clear_baseline(&mut self) {
        self.made.clear_baseline();
        if self.sort == Sort::Change {
            self.sort = Sort::Own;
        }
    }

    /// Forget what was seen so far.
    fn reset(&mut self) {
        if self.ending.is_some() {
            let text = "nothing more will be seen: what was is kept".to_owned();
            return self.tell(text);
        }
        self.history.forget();
        self.live();
    }

    fn regroup(&mut self, group: Group) {
        let native = |group| group == Group::Native;
        if native(group) != native(self.group) {
            self.made.regroup(group, self.setup.view, &self.history);
            self.zoom.clear();
            self.open.clear();
        }
        self.group = group;
    }

    /// A name for the file to save in.
    fn file_name(&self) -> String {
        match self.history.profile.processes().first() {
            Some(process) => format!("spy-{}.svg", process.pid),
            None => "spy.svg".to_owned(),
        }
    }
}
