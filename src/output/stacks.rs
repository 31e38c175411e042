//! A profile as stacks of texts: what collapsed lines and flame graphs share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::{Mode, Named, Options, Threads, text};
use crate::{
    profile::{FrameId, Key, ProcessId, StackId, ThreadId},
    stack::End,
};

/// Whether a stack's thread was running or waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// It ran, or wanted to.
    Running,
    /// It was blocked.
    Waiting,
}

/// One stack as it is shown, the outermost first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shown {
    /// The process and the thread, where they are told apart.
    pub(super) roots: Vec<Label>,
    /// What the thread was doing.
    pub(super) part: Part,
    /// The functions; at their ends what is no function: why the stack is cut,
    /// and what the thread waited for.
    pub(super) frames: Vec<Label>,
}

/// The text of a frame, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Label {
    /// As it is shown.
    pub(super) text: Arc<str>,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// A process or a thread.
    Root,
    /// Why there are no more outer frames.
    Cut,
    /// A function, and the image or the source file that it belongs to.
    Function(Arc<str>),
    /// What the thread waited for.
    Wait,
}

/// The stacks that `options` show, equal ones added up, with the microseconds
/// that they stand for: of CPU time as the kernel counted it, or of wall time.
pub(super) fn stacks(recording: Named<'_>, options: &Options) -> BTreeMap<Shown, u64> {
    let mut writer = Writer { recording, options, frames: FxHashMap::default() };
    let mut stacks = BTreeMap::new();
    for (key, weight) in recording.profile.samples() {
        if !options.mode.shows(key.state) {
            continue;
        }
        let time = match options.mode {
            Mode::OnCpu => weight.cpu,
            Mode::Wall => weight.wall,
        };
        *stacks.entry(writer.shown(key)).or_insert(Duration::ZERO) += time;
    }
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let counted = stacks.into_iter().map(|(shown, time)| (shown, micros(time)));
    // A thread that is seen twice and has not run in between.
    counted.filter(|&(_, micros)| micros > 0).collect()
}

struct Writer<'a> {
    recording: Named<'a>,
    options: &'a Options,
    /// The texts of frames that were already written, outermost first.
    frames: FxHashMap<FrameId, Arc<[Label]>>,
}

impl Writer<'_> {
    fn shown(&mut self, key: &Key) -> Shown {
        let part = if key.state.is_runnable() { Part::Running } else { Part::Waiting };
        let mut frames = self.frames(key.stack);
        // CPU time was not used while it was waited for, but before.
        let told = !(self.options.mode == Mode::OnCpu && key.state.is_runnable());
        if let Some(wait) = text::wait(key.state).filter(|_| told) {
            frames.push(Label { text: wait.into(), kind: Kind::Wait });
        }
        if frames.is_empty() {
            // A root without a frame: there is nothing else to say of it.
            frames.push(Label { text: "[no frames]".into(), kind: Kind::Cut });
        }
        Shown { roots: self.roots(key.thread), part, frames }
    }

    fn roots(&self, id: ThreadId) -> Vec<Label> {
        let profile = self.recording.profile;
        let root = |text: String| Label { text: text.into(), kind: Kind::Root };
        let mut roots = Vec::new();
        let Some(thread) = profile.threads().get(id.0 as usize) else { return roots };
        let ProcessId(process) = thread.process;
        if profile.processes().len() > 1
            && let Some(process) = profile.processes().get(process as usize)
        {
            roots.push(root(text::process(process)));
        }
        if self.options.threads == Threads::Apart {
            roots.push(root(text::thread(thread)));
        }
        roots
    }

    fn frames(&mut self, id: StackId) -> Vec<Label> {
        let (ids, end) = self.recording.profile.stack(id);
        let mut frames = Vec::with_capacity(ids.len() + 2);
        if end != End::Root {
            frames.push(Label { text: format!("[{end}]").into(), kind: Kind::Cut });
        }
        for id in ids.into_iter().rev() {
            frames.extend_from_slice(&self.labels(id));
        }
        frames
    }

    fn labels(&mut self, id: FrameId) -> Arc<[Label]> {
        if let Some(labels) = self.frames.get(&id) {
            return Arc::clone(labels);
        }
        let symbols = self.recording.names.get(id.0 as usize).map_or(&[][..], Vec::as_slice);
        let labels: Arc<[Label]> = symbols
            .iter()
            .rev()
            .map(|symbol| {
                let home = symbol.module.as_ref().or(symbol.file.as_ref());
                let home = home.map_or("", String::as_str);
                let text = text::frame(symbol, self.options.lines, self.options.paths);
                Label { text: text.into(), kind: Kind::Function(home.into()) }
            })
            .collect();
        self.frames.insert(id, Arc::clone(&labels));
        labels
    }
}

impl Mode {
    /// Its name in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnCpu => "on-CPU",
            Self::Wall => "wall clock",
        }
    }
}
