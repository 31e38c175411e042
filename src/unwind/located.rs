//! Where the unwind data of an image is: looked up by name once.

use std::ops::Range;

use crate::module::{Module, Section};

use super::{cfi::Cfi, golang::GoTable, machine::Machine};

/// Where the sections of an image are that unwinding is about.
#[derive(Debug)]
pub(super) struct Located {
    eh_frame: Option<Held>,
    header: Option<Held>,
    debug_frame: Option<Held>,
    go: Option<Held>,
    text_address: Option<u64>,
    /// How many bytes of unwind data there are.
    pub(super) size: usize,
}

/// A section.
#[derive(Debug)]
struct Held {
    name: &'static str,
    address: u64,
    /// Which bytes of the file it is; `None` for what was decompressed, or
    /// copied from the target's memory.
    range: Option<Range<usize>>,
}

impl Located {
    pub(super) fn of(module: &Module) -> Self {
        let (eh_frame, debug_frame) = (module.eh_frame(), module.debug_frame());
        let len = |section: &Option<Section<'_>>| section.map_or(0, |section| section.bytes.len());
        let size = len(&eh_frame) + len(&debug_frame);
        let held = |name, section: Option<Section<'_>>| {
            section.map(|section| Held::of(module, name, section))
        };
        Self {
            eh_frame: held(".eh_frame", eh_frame),
            header: held(".eh_frame_hdr", module.eh_frame_hdr()),
            debug_frame: held(".debug_frame", debug_frame),
            go: GoTable::section(module).and_then(|name| held(name, module.section(name))),
            text_address: module.text_address(),
            size,
        }
    }

    /// The unwind data of `module`, which this was made of.
    pub(super) fn cfi<'a>(&self, module: &'a Module, machine: &Machine) -> Cfi<'a> {
        let get = |held: &Option<Held>| held.as_ref()?.get(module);
        Cfi::new(get(&self.eh_frame), get(&self.header), get(&self.debug_frame), machine)
    }

    /// Go's own table in `module`, which this was made of.
    pub(super) fn go<'a>(&self, module: &'a Module) -> Option<GoTable<'a>> {
        GoTable::parse(self.go.as_ref()?.get(module)?.bytes, self.text_address)
    }
}

impl Held {
    fn of(module: &Module, name: &'static str, section: Section<'_>) -> Self {
        let range = module.file().and_then(|file| {
            let start = section.bytes.as_ptr().addr().checked_sub(file.as_ptr().addr())?;
            let range = start..start.checked_add(section.bytes.len())?;
            // Only what is part of the file is at the same place in it.
            std::ptr::eq(file.get(range.clone())?, section.bytes).then_some(range)
        });
        Self { name, address: section.address, range }
    }

    fn get<'a>(&self, module: &'a Module) -> Option<Section<'a>> {
        match &self.range {
            Some(range) => {
                Some(Section { address: self.address, bytes: module.file()?.get(range.clone())? })
            }
            None => module.section(self.name),
        }
    }
}
