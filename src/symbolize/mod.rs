//! Addresses into functions, files and lines.
//!
//! ```text
//! image ─► debug information ─► functions, inlined ones too, files, lines
//!   │      (its own, or a separate file's)
//!   ├────► Go's table of functions
//!   ├────► symbol tables ─► the function
//!   └────► linkage stubs ─► the function they lead to
//! JIT  ──► the map that the process writes
//! ```
//!
//! The first that knows wins. What none knows is shown as module and offset.
//! Names are looked up for what is shown, never while anything is stopped,
//! and once an address.

mod bytes;
mod cython;
mod demangle;
mod dwarf;
mod elf;
mod go;
mod image;
mod locate;
mod perf_map;
mod plt;
mod symbols;
mod units;

use std::{path::PathBuf, sync::Arc};

pub use perf_map::PerfMap;
use rustc_hash::FxHashMap;

use crate::{
    module::Module,
    stack::{CodeAddress, ModuleId, Symbol},
};
use image::Image;

/// How much memory the debug information of all images may hold, in bytes,
/// beside that of the image in use.
const MAX_HELD: usize = 512 << 20;

/// How many addresses are remembered, of all images together.
const MAX_KNOWN: usize = 1 << 18;

/// What gives names to addresses.
pub struct Symbolizer {
    /// The host's directory of separate debug files.
    host_debug: PathBuf,
    images: FxHashMap<ModuleId, Image>,
    /// What was found, by image and address.
    known: FxHashMap<(ModuleId, u64), Arc<[Symbol]>>,
    /// How many bytes of memory debug information may hold.
    most: usize,
    /// Counts up at each look at an image, to know the one not used longest.
    clock: u64,
}

impl Symbolizer {
    /// One that looks for separate debug files below the target's root and
    /// then in `host_debug`, the host's `/usr/lib/debug`.
    pub fn new(host_debug: PathBuf) -> Self {
        Self::holding(host_debug, MAX_HELD)
    }

    /// The same, with debug information that holds at most `most` bytes of
    /// memory, beside that of the image in use.
    pub fn holding(host_debug: PathBuf, most: usize) -> Self {
        let (images, known) = (FxHashMap::default(), FxHashMap::default());
        Self { host_debug, images, known, most, clock: 0 }
    }

    /// The functions at an address of an image, as the image counts, innermost
    /// (inlined) first. Never empty: without a name it is module and offset.
    pub fn image(&mut self, module: &Arc<Module>, code: CodeAddress) -> Vec<Symbol> {
        let at = code.lookup().0;
        let key = (module.id(), at);
        if let Some(known) = self.known.get(&key) {
            return known.to_vec();
        }
        self.clock += 1;
        let new = !self.images.contains_key(&module.id());
        let image = self.images.entry(module.id());
        let image = image.or_insert_with(|| Image::new(module, &self.host_debug));
        image.used = self.clock;
        let before = if new { 0 } else { image.held() };
        let found = image.functions(at);
        if image.held() > before {
            self.evict(module.id());
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(key, found.as_slice().into());
        found
    }

    /// Whether the code at an address of an image was made of a function of a
    /// language runtime's program. Of most images that is known without a look at
    /// their functions.
    pub fn is_compiled(&mut self, module: &Arc<Module>, code: CodeAddress) -> bool {
        cython::may_have(module) && self.image(module, code).iter().any(|symbol| symbol.compiled)
    }

    /// Code in no image: the name that the process gives it in its map, else
    /// `[anon]`.
    pub fn anonymous(&mut self, perf_map: &mut PerfMap, code: CodeAddress) -> Vec<Symbol> {
        let name = perf_map.symbol(code.lookup()).unwrap_or("[anon]");
        vec![Symbol { function: name.to_owned(), ..Symbol::default() }]
    }

    /// Let go of the debug information that was not used longest, until what
    /// is held fits. It is read again if it is needed again.
    fn evict(&mut self, used: ModuleId) {
        while self.images.values().map(Image::held).sum::<usize>() > self.most {
            let others = self.images.iter().filter(|(id, image)| **id != used && image.held() > 0);
            let Some(oldest) = others.min_by_key(|(_, image)| image.used).map(|(id, _)| *id) else {
                return;
            };
            self.images.remove(&oldest);
        }
    }
}

impl std::fmt::Debug for Symbolizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbolizer")
            .field("images", &self.images.len())
            .field("known", &self.known.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be_sent<T: Send>(_: &T) {}

    #[test]
    fn names_can_be_looked_up_on_a_thread_of_their_own() {
        may_be_sent(&Symbolizer::new("/".into()));
    }
}
