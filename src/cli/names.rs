//! Names for frames: what was sampled as addresses, as a reader is shown it.

use std::path::PathBuf;

use crate::{
    module::Modules,
    output::{Role, View},
    profile::ProcessId,
    sampler::{Dump, Images, Origin, Recording},
    stack::{CodeAddress, Frame, ManagedFrame, NativeFrame, Stack, Symbol},
    symbolize::{PerfMap, Symbolizer},
};

/// Where the packages with debug information put it.
const HOST_DEBUG: &str = "/usr/lib/debug";

/// The names of every frame of a recording, by
/// [`FrameId`](crate::profile::FrameId), innermost first.
pub(super) fn of_recording(recording: &Recording) -> Vec<Vec<Symbol>> {
    let mut names = Names::new(&recording.modules, recording.origins.iter());
    let frames = recording.profile.frames().iter();
    frames.map(|placed| names.of(&placed.frame, placed.process)).collect()
}

/// The frames that are shown of a thread.
pub(super) struct Named<'a> {
    /// Innermost first: each with its own name, after those of the functions
    /// that were inlined into it.
    pub(super) frames: Vec<(&'a Frame, Vec<Symbol>)>,
    /// Whether the outermost is among them.
    pub(super) to_the_end: bool,
}

/// The names of the frames of dumps that `view` shows: for each by thread;
/// `None` for one that it does not show.
pub(super) fn of_dumps<'a>(
    dumps: &'a [Dump],
    images: &Images,
    view: View,
) -> Vec<Vec<Option<Named<'a>>>> {
    let mut names = Names::new(&images.modules, dumps.iter().map(|dump| &dump.origin));
    let of_dump = |(id, dump): (u32, &'a Dump)| {
        let mut of_stack = |stack: &'a Stack| {
            let frames: Vec<&Frame> = stack.frames.iter().collect();
            let seen = view.of(&frames, |frame| names.role(frame))?;
            let name = |frame| {
                let symbols = names.of(frame, Some(ProcessId(id)));
                let shown = |symbol: &&Symbol| view.shows(symbol, &symbols);
                (frame, symbols.iter().filter(shown).cloned().collect())
            };
            let frames = seen.frames.into_iter().map(name).collect();
            Some(Named { frames, to_the_end: seen.to_the_end })
        };
        dump.threads.iter().map(|thread| of_stack(&thread.stack)).collect()
    };
    (0..).zip(dumps).map(of_dump).collect()
}

struct Names<'a> {
    modules: &'a Modules,
    symbolizer: Symbolizer,
    /// The maps of code in no file, by process.
    perf_maps: Vec<PerfMap>,
}

impl<'a> Names<'a> {
    fn new<'o>(modules: &'a Modules, origins: impl Iterator<Item = &'o Origin>) -> Self {
        let perf_map = |origin: &Origin| PerfMap::new(&origin.root, origin.namespace_pid);
        Self {
            modules,
            symbolizer: Symbolizer::new(PathBuf::from(HOST_DEBUG)),
            perf_maps: origins.map(perf_map).collect(),
        }
    }

    fn role(&mut self, frame: &Frame) -> Role {
        let Frame::Native(NativeFrame { module, code }) = frame else { return Role::Managed };
        match module.and_then(|id| self.modules.get(id)) {
            Some(module) if self.symbolizer.is_compiled(module, *code) => Role::Compiled,
            _ => Role::Native,
        }
    }

    /// Never empty.
    fn of(&mut self, frame: &Frame, process: Option<ProcessId>) -> Vec<Symbol> {
        match frame {
            Frame::Managed(frame) => vec![managed(frame)],
            Frame::Native(NativeFrame { module, code }) => {
                match module.and_then(|id| self.modules.get(id)) {
                    Some(module) => self.symbolizer.image(module, *code),
                    None => self.anonymous(process, *code),
                }
            }
        }
    }

    fn anonymous(&mut self, process: Option<ProcessId>, code: CodeAddress) -> Vec<Symbol> {
        let map = process.and_then(|ProcessId(id)| self.perf_maps.get_mut(id as usize));
        match map {
            Some(map) => self.symbolizer.anonymous(map, code),
            None => vec![Symbol { function: "[anon]".to_owned(), ..Symbol::default() }],
        }
    }
}

fn managed(frame: &ManagedFrame) -> Symbol {
    let file = (!frame.file.is_empty()).then(|| frame.file.clone());
    Symbol { function: frame.function.clone(), file, line: frame.line, ..Symbol::default() }
}
