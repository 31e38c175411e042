//! Samples into a [`Population`]: which of them, and in which words.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    history::{History, Slice},
    population::{Function, Path, Population},
};
use crate::{
    output::{Mode, Paths, Role, View},
    profile::{FrameId, Key, ProcessId, Profile, StackId, ThreadId, Weight},
    stack::{End, Frame, Symbol},
    task::{Lock, State},
};

/// What rows of functions are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Group {
    /// Functions.
    #[default]
    Function,
    /// Lines.
    Line,
    /// Images and source files.
    Module,
    /// Functions, those of the language runtime's own machine code too.
    Native,
}

impl Group {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Function => Self::Line,
            Self::Line => Self::Module,
            Self::Module => Self::Native,
            Self::Native => Self::Function,
        }
    }
}

/// Which samples are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Whether those of threads that do not want a processor, too.
    pub(super) mode: Mode,
    /// Those of one thread, or of all.
    pub(super) thread: Option<ThreadId>,
    /// Those of one process, or of all.
    pub(super) process: Option<ProcessId>,
}

impl Choice {
    /// Every sample.
    pub(super) const ALL: Self = Self { mode: Mode::Wall, thread: None, process: None };

    /// Whether samples of a thread are wanted, whatever it does.
    pub(super) fn wants_thread(&self, profile: &Profile, thread: ThreadId) -> bool {
        self.thread.is_none_or(|it| it == thread)
            && self.process.is_none_or(|it| {
                profile.threads().get(thread.0 as usize).is_some_and(|thread| thread.process == it)
            })
    }

    fn wants(&self, profile: &Profile, key: &Key) -> bool {
        self.mode.shows(key.state) && self.wants_thread(profile, key.thread)
    }

    const fn time(&self, weight: &Weight) -> Duration {
        match self.mode {
            Mode::OnCpu => weight.cpu,
            Mode::Wall => weight.wall,
        }
    }
}

/// Functions, the outermost first, each with the line that it ran.
type Frames = Box<[(usize, Option<u32>)]>;

/// A stack in the words in which it is shown.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) frames: Frames,
    /// Its functions, each once.
    pub(super) distinct: Box<[usize]>,
}

/// How many stacks are remembered: more than a window has, as a rule.
const MAX_STACKS: usize = 1 << 16;

/// What puts stacks into words, each once. The numbers of functions do not
/// change as long as it lives.
#[derive(Debug)]
pub(super) struct Gatherer {
    group: Group,
    view: View,
    managed: bool,
    functions: Vec<Function>,
    ids: FxHashMap<Function, usize>,
    /// The functions of frames, the outermost first.
    frames: FxHashMap<FrameId, Frames>,
    words: Vec<Words>,
    word_ids: FxHashMap<Frames, usize>,
    /// Which words a stack is; `None` for one that is not shown.
    stacks: FxHashMap<StackId, Option<usize>>,
}

impl Gatherer {
    pub(super) fn new(group: Group, view: View, history: &History) -> Self {
        Self {
            group,
            view: if group == Group::Native { View::Native } else { view },
            managed: history.managed,
            functions: Vec::new(),
            ids: FxHashMap::default(),
            frames: FxHashMap::default(),
            words: Vec::new(),
            word_ids: FxHashMap::default(),
            stacks: FxHashMap::default(),
        }
    }

    /// Whether functions are told as they were when this was made: the first
    /// frame of a language runtime tells that the others are native.
    pub(super) const fn holds(&self, history: &History) -> bool {
        self.managed == history.managed
    }

    /// The functions that were met so far.
    pub(super) fn functions(&self) -> &[Function] {
        &self.functions
    }

    pub(super) fn number(&self, function: &Function) -> Option<usize> {
        self.ids.get(function).copied()
    }

    /// A stack in words; `None` where it is not shown.
    pub(super) fn words(&mut self, history: &History, id: StackId) -> Option<&Words> {
        let at = self.word(history, id)?;
        self.words.get(at)
    }

    /// Gather what `choice` wants of `samples`.
    pub(super) fn gather<'a>(
        &mut self,
        history: &History,
        samples: impl IntoIterator<Item = (&'a Key, &'a Weight)>,
        choice: Choice,
        into: &mut Population,
    ) {
        let mut sums: FxHashMap<(ThreadId, State, Lock, usize), (u64, Duration)> =
            FxHashMap::default();
        self.trim();
        (into.ticks, into.time) = (0, Duration::ZERO);
        into.on_cpu = choice.mode == Mode::OnCpu;
        for (key, weight) in samples {
            if !choice.wants(&history.profile, key) {
                continue;
            }
            let Some(words) = self.word(history, key.stack) else { continue };
            let sum = sums.entry((key.thread, key.state, key.lock, words)).or_default();
            sum.0 += weight.ticks;
            sum.1 += choice.time(weight);
            into.ticks += weight.ticks;
            into.time += choice.time(weight);
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_unstable_by_key(|(key, _)| *key);
        let met = into.functions.len();
        into.functions.extend_from_slice(self.functions.get(met..).unwrap_or_default());
        into.stacks.clear();
        into.stacks.extend(sums.into_iter().filter_map(|(key, (ticks, time))| {
            let (thread, state, lock, words) = key;
            let frames = self.words.get(words)?.frames.to_vec();
            Some(Path { frames, thread, state, lock, ticks, time })
        }));
    }

    /// The time that `choice` wants of a slice, and of each function that was
    /// on a stack then.
    pub(super) fn totals(&mut self, history: &History, slice: &Slice, choice: Choice) -> Totals {
        let mut sums: FxHashMap<usize, Duration> = FxHashMap::default();
        let mut all = Duration::ZERO;
        for sample in &slice.samples {
            if choice.wants(&history.profile, &sample.key)
                && let Some(words) = self.word(history, sample.key.stack)
            {
                let time = choice.time(&sample.weight);
                all += time;
                *sums.entry(words).or_default() += time;
            }
        }
        let mut functions: FxHashMap<usize, Duration> = FxHashMap::default();
        for (words, time) in sums {
            for &function in self.words.get(words).map_or(&[][..], |words| &words.distinct) {
                *functions.entry(function).or_default() += time;
            }
        }
        Totals { all, functions: functions.into_iter().collect() }
    }

    /// Forget the stacks when they are too many: most are of long ago.
    fn trim(&mut self) {
        if self.stacks.len() > MAX_STACKS {
            self.stacks.clear();
            self.words.clear();
            self.word_ids.clear();
        }
    }

    fn word(&mut self, history: &History, id: StackId) -> Option<usize> {
        if let Some(&known) = self.stacks.get(&id) {
            return known;
        }
        let found = self.put(history, id).map(|frames| {
            if let Some(&known) = self.word_ids.get(&frames) {
                return known;
            }
            let mut distinct: Vec<usize> = frames.iter().map(|&(function, _)| function).collect();
            distinct.sort_unstable();
            distinct.dedup();
            self.word_ids.insert(frames.clone(), self.words.len());
            self.words.push(Words { frames, distinct: distinct.into() });
            self.words.len() - 1
        });
        self.stacks.insert(id, found);
        found
    }

    fn put(&mut self, history: &History, id: StackId) -> Option<Frames> {
        let (ids, end) = history.profile.stack(id);
        let known = history.profile.frames();
        let symbols = |id: FrameId| history.names.get(id.0 as usize).map_or(&[][..], Vec::as_slice);
        let role = |id: FrameId| match known.get(id.0 as usize).map(|it| &it.frame) {
            Some(Frame::Managed(_)) => Role::Managed,
            _ if symbols(id).iter().any(|symbol| symbol.compiled) => Role::Compiled,
            _ => Role::Native,
        };
        let seen = self.view.of(&ids, role)?;
        let mut frames = Vec::with_capacity(seen.frames.len() + 1);
        // As in a flame graph: why the outermost frames are not known.
        if (end != End::Root && seen.to_the_end) || seen.frames.is_empty() {
            let name = if end == End::Root { "[no frames]".to_owned() } else { format!("[{end}]") };
            frames.push((self.intern(Function { name, ..Function::default() }), None));
        }
        for &id in seen.frames.iter().rev() {
            if !self.frames.contains_key(&id) {
                let functions = self.of_frame(history, id);
                self.frames.insert(id, functions);
            }
            frames.extend_from_slice(self.frames.get(&id).map_or(&[], |frames| frames));
        }
        if self.group == Group::Module {
            frames.dedup_by_key(|&mut (function, _)| function);
        }
        Some(frames.into())
    }

    /// The functions of a frame, the outermost first.
    fn of_frame(&mut self, history: &History, id: FrameId) -> Frames {
        let at = id.0 as usize;
        let (first, native) = match history.profile.frames().get(at).map(|it| &it.frame) {
            Some(Frame::Managed(frame)) => (frame.first_line, false),
            Some(Frame::Native(_)) | None => (None, self.managed),
        };
        let symbols = history.names.get(at).map_or(&[][..], Vec::as_slice);
        let functions = symbols.iter().rev().map(|symbol| {
            let line = if self.group == Group::Module { None } else { symbol.line };
            // What was made of a function of the program's is shown as one.
            let native = native && !symbol.compiled;
            (self.intern(function(self.group, symbol, first, native)), line)
        });
        functions.collect()
    }

    fn intern(&mut self, function: Function) -> usize {
        *self.ids.entry(function).or_insert_with_key(|function| {
            self.functions.push(function.clone());
            self.functions.len() - 1
        })
    }
}

/// What a row is made of.
fn function(group: Group, symbol: &Symbol, first: Option<u32>, native: bool) -> Function {
    let Symbol { function: name, file, line, module, .. } = symbol.clone();
    match group {
        Group::Function | Group::Native => Function { name, file, line: first, module, native },
        Group::Line => Function { name, file, line, module, native },
        Group::Module => {
            let name = match (&file, &module) {
                (Some(file), _) if !native => Paths::Short.of(file).to_owned(),
                (_, Some(module)) => module.clone(),
                (Some(file), None) => Paths::Short.of(file).to_owned(),
                (None, None) => "[anon]".to_owned(),
            };
            let file = file.filter(|_| !native && module.is_none());
            Function { name, file, line: None, module, native }
        }
    }
}

/// The time in which each function was on a stack, and that of all.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) all: Duration,
    pub(super) functions: Vec<(usize, Duration)>,
}
