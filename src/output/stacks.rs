//! A profile as stacks of texts: what collapsed lines and flame graphs share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::{Lines, Mode, Named, Options, Threads, View, text, view::Role};
use crate::{
    profile::{FrameId, Key, ProcessId, Profile, StackId, ThreadId},
    stack::{End, Frame, Symbol},
    task::State,
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
        if !options.wants(key.state, key.lock) {
            continue;
        }
        let Some(shown) = writer.shown(key) else { continue };
        let time = match options.mode {
            Mode::OnCpu => weight.cpu,
            Mode::Wall => weight.wall,
        };
        *stacks.entry(shown).or_insert(Duration::ZERO) += time;
    }
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let counted = stacks.into_iter().map(|(shown, time)| (shown, micros(time)));
    // A thread that is seen twice and has not run in between.
    counted.filter(|&(_, micros)| micros > 0).collect()
}

/// The frames that are shown of a stack, outermost first, and before them why
/// it is cut; `None` where it is not shown, which does not depend on `names`.
pub(super) fn seen(
    profile: &Profile,
    names: &[Vec<Symbol>],
    view: View,
    id: StackId,
) -> Option<(Option<String>, Vec<FrameId>)> {
    let (frames, end) = profile.stack(id);
    let known = profile.frames();
    let role = |FrameId(id): FrameId| {
        let frame = known.get(id as usize).map(|it| &it.frame);
        let symbols = || names.get(id as usize).map_or(&[][..], Vec::as_slice);
        match frame {
            Some(Frame::Managed(_)) => Role::Managed,
            _ if symbols().iter().any(|symbol| symbol.compiled) => Role::Compiled,
            _ => Role::Native,
        }
    };
    let mut seen = view.of(&frames, role)?;
    seen.frames.reverse();
    let cut = (end != End::Root && seen.to_the_end).then(|| format!("[{end}]"));
    Some((cut, seen.frames))
}

/// What stands at the inner end of a stack of a thread in `state`, and is no
/// function; `frames` are there before it.
pub(super) fn inner_end(options: &Options, state: State, frames: usize) -> Option<Label> {
    // CPU time was not used while it was waited for, but before.
    let told = !(options.mode == Mode::OnCpu && state.is_runnable());
    match text::wait(state).filter(|_| told) {
        Some(wait) => Some(Label { text: wait.into(), kind: Kind::Wait }),
        // A root without a frame: there is nothing else to say of it.
        None if frames == 0 => Some(Label { text: "[no frames]".into(), kind: Kind::Cut }),
        None => None,
    }
}

/// The functions of a frame, innermost first, each with the line that is
/// shown.
pub(super) fn functions<'a>(
    recording: Named<'a>,
    options: &Options,
    id: FrameId,
) -> impl DoubleEndedIterator<Item = (&'a Symbol, Option<u32>)> {
    let first = match recording.profile.frames().get(id.0 as usize).map(|it| &it.frame) {
        Some(Frame::Managed(frame)) => frame.first_line,
        Some(Frame::Native(_)) | None => None,
    };
    let symbols = recording.names.get(id.0 as usize).map_or(&[][..], Vec::as_slice);
    let (view, lines) = (options.view, options.lines);
    let shown = symbols.iter().filter(move |symbol| view.shows(symbol, symbols));
    shown.map(move |symbol| {
        let line = match lines {
            Lines::Apart => symbol.line,
            Lines::First => first,
            Lines::Together => None,
        };
        (symbol, line)
    })
}

struct Writer<'a> {
    recording: Named<'a>,
    options: &'a Options,
    /// The texts of frames that were already written, outermost first.
    frames: FxHashMap<FrameId, Arc<[Label]>>,
}

impl Writer<'_> {
    fn shown(&mut self, key: &Key) -> Option<Shown> {
        let part = if key.state.is_runnable() { Part::Running } else { Part::Waiting };
        let (cut, ids) =
            seen(self.recording.profile, self.recording.names, self.options.view, key.stack)?;
        let cut = cut.map(|text| Label { text: text.into(), kind: Kind::Cut });
        let mut frames: Vec<Label> = cut.into_iter().collect();
        for id in ids {
            frames.extend_from_slice(&self.labels(id));
        }
        frames.extend(inner_end(self.options, key.state, frames.len()));
        Some(Shown { roots: self.roots(key.thread), part, frames })
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

    fn labels(&mut self, id: FrameId) -> Arc<[Label]> {
        if let Some(labels) = self.frames.get(&id) {
            return Arc::clone(labels);
        }
        let labels: Arc<[Label]> = functions(self.recording, self.options, id)
            .rev()
            .map(|(symbol, line)| {
                let home = symbol.module.as_ref().or(symbol.file.as_ref());
                let home = home.map_or("", String::as_str);
                let text = text::frame(symbol, line, self.options.paths);
                Label { text: text.into(), kind: Kind::Function(home.into()) }
            })
            .collect();
        self.frames.insert(id, Arc::clone(&labels));
        labels
    }
}
