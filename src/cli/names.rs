//! Names for frames: what was sampled as addresses, as a reader is shown it.

use crate::{
    module::Modules,
    profile::{Profile, ProcessId},
    sampler::{Dump, Origin, Recording},
    stack::{Frame, ManagedFrame, NativeFrame, Symbol},
};

/// The names of every frame of a recording, by
/// [`FrameId`](crate::profile::FrameId), innermost first.
pub(super) fn of_recording(recording: &Recording) -> Vec<Vec<Symbol>> {
    let Recording { profile, modules, origins, .. } = recording;
    let mut names = Names::new(profile, modules, origins);
    profile.frames().iter().map(|placed| names.of(&placed.frame, placed.process)).collect()
}

/// The names of every frame of a dump, by thread, innermost first.
pub(super) fn of_dump(dump: &Dump) -> Vec<Vec<Symbol>> {
    let mut names = Names { modules: &dump.modules };
    let frames = dump.threads.iter().map(|thread| thread.stack.frames.iter());
    frames.map(|frames| frames.flat_map(|frame| names.of(frame, Some(ProcessId(0)))).collect()).collect()
}

struct Names<'a> {
    modules: &'a Modules,
}

impl<'a> Names<'a> {
    fn new(_: &Profile, modules: &'a Modules, _: &[Origin]) -> Self {
        Self { modules }
    }

    fn of(&mut self, frame: &Frame, _: Option<ProcessId>) -> Vec<Symbol> {
        match frame {
            Frame::Managed(managed) => vec![managed_name(managed)],
            Frame::Native(native) => vec![self.address(*native)],
        }
    }

    fn address(&self, frame: NativeFrame) -> Symbol {
        let module = frame.module.and_then(|id| self.modules.get(id));
        let at = frame.code.lookup();
        match module {
            Some(module) => Symbol {
                function: format!("{}+{at}", module.name()),
                module: Some(module.name().to_owned()),
                ..Symbol::default()
            },
            None => Symbol { function: at.to_string(), ..Symbol::default() },
        }
    }
}

fn managed_name(frame: &ManagedFrame) -> Symbol {
    let file = (!frame.file.is_empty()).then(|| frame.file.clone());
    Symbol { function: frame.function.clone(), file, line: frame.line, ..Symbol::default() }
}
