//! Names for frames: what was sampled as addresses, as a reader is shown it.

use std::{path::PathBuf, sync::Arc};

use crate::{
    module::Module,
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
    let mut names = Names::default();
    names.know(recording.modules.iter().map(Arc::clone), recording.origins.iter());
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
    let mut names = Names::default();
    names.know(images.modules.iter().map(Arc::clone), dumps.iter().map(|dump| &dump.origin));
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

/// What gives frames their names, as images and processes become known.
pub(super) struct Names {
    /// The images, by number.
    modules: Vec<Arc<Module>>,
    symbolizer: Symbolizer,
    /// The maps of code in no file, by process.
    perf_maps: Vec<PerfMap>,
}

impl Default for Names {
    /// Those of no image and no process yet.
    fn default() -> Self {
        let symbolizer = Symbolizer::new(PathBuf::from(HOST_DEBUG));
        Self { modules: Vec::new(), symbolizer, perf_maps: Vec::new() }
    }
}

impl Names {
    /// Know more images and processes: their numbers follow those that are
    /// known.
    pub(super) fn know<'o>(
        &mut self,
        modules: impl IntoIterator<Item = Arc<Module>>,
        origins: impl IntoIterator<Item = &'o Origin>,
    ) {
        let perf_map = |origin: &Origin| PerfMap::new(&origin.root, origin.namespace_pid);
        self.modules.extend(modules);
        self.perf_maps.extend(origins.into_iter().map(perf_map));
    }

    fn role(&mut self, frame: &Frame) -> Role {
        let Frame::Native(NativeFrame { module, code }) = frame else { return Role::Managed };
        match module.and_then(|id| self.modules.get(id.0 as usize)) {
            Some(module) if self.symbolizer.is_compiled(module, *code) => Role::Compiled,
            _ => Role::Native,
        }
    }

    /// Never empty.
    pub(super) fn of(&mut self, frame: &Frame, process: Option<ProcessId>) -> Vec<Symbol> {
        match frame {
            Frame::Managed(frame) => vec![managed(frame)],
            Frame::Native(NativeFrame { module, code }) => {
                match module.and_then(|id| self.modules.get(id.0 as usize)) {
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
