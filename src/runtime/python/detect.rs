//! The interpreter in a process: where it is, which version, and its layout.
//!
//! Nothing is asked of file names. What exports `_PyRuntime` (3.7 and later) or
//! `_PyThreadState_Current` (before) holds an interpreter, however it is
//! called, as does what has a section `.PyRuntime` (3.10 and later). Only of the
//! program itself, if its bytes tell of Python, and of what else exports
//! functions of Python are the other symbols and the variables read: there an interpreter without symbols shows
//! by the cookie that its `_PyRuntime` begins with (3.13 and later), or by the
//! text of `sys.version` and a word that leads to an interpreter.
//!
//! Whatever is found must pass a [`trial`].

mod images;
mod version;

use std::ops::Range;

use memchr::memmem;

use self::images::{Images, Loaded};
pub use self::version::Version;
use super::{
    layout::{Chain, Collecting, Dict, Gil, Layout, Text},
    offsets::{self, Offsets},
    tables,
};
use crate::{
    memory::{Address, Memory, Plain},
    module::{AddressSpace, Modules},
    runtime::Detected,
    stack::ModuleId,
};

/// An interpreter that was found in a process.
#[derive(Clone, Debug)]
pub struct Found {
    /// How its structs are laid out.
    pub layout: Layout,
    /// Where `_PyRuntime` is, or the variable `interp_head` (3.6 and older).
    pub runtime: Address,
    /// What is a variable of its own in 3.6 and older.
    pub variables: Variables,
    /// Its version.
    pub version: Version,
    /// Its name for a reader, such as `CPython 3.14.0t`.
    pub name: String,
    /// Where in its `struct pthread` the C library keeps a thread's number.
    pub thread_number: u32,
    /// The interpreter's loop, where it is needed to know which native frame
    /// runs which of Python's (3.10 and older): the image, and addresses as that
    /// counts.
    pub loops: Vec<(ModuleId, Range<u64>)>,
    /// The collector, where the interpreter itself does not say by which frame it
    /// was begun: as `loops`; none where it has no symbol.
    pub collector: Vec<(ModuleId, Range<u64>)>,
    /// What is uncertain: a sentence each.
    pub notes: Vec<String>,
}

/// The interpreter's loop: what runs a frame (2.7, 3.6 and later), and the part
/// of it that the compiler put elsewhere because it is seldom run.
const LOOPS: [&str; 4] = [
    "_PyEval_EvalFrameDefault",
    "_PyEval_EvalFrameDefault.cold",
    "PyEval_EvalFrameEx",
    "PyEval_EvalFrameEx.cold",
];

/// What collects (3.10 and later, and before that): calls finalizers, and all
/// else in Python that runs before the end, but for `gc.callbacks` up to 3.12.
const COLLECTORS: [&str; 2] = ["gc_collect_main", "collect"];

/// Calls those of `gc.callbacks`.
const CALLBACK: &str = "invoke_gc_callback";

/// What is a variable of its own in 3.6 and older, and known only by its
/// symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// `_PyThreadState_Current`: the thread state of whoever has the lock.
    pub holder: Option<Address>,
    /// The lock.
    pub lock: Option<LockVariable>,
    /// `collecting`, an `int`: whether the collector runs.
    pub collecting: Option<Address>,
}

/// Where the interpreter lock of 3.6 and older is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockVariable {
    /// Here: `gil_cond`, of this many bytes (3.6).
    At(Address, u64),
    /// Where this variable points to: `interpreter_lock`, a semaphore of this
    /// many bytes (2.7).
    Behind(Address, u64),
}

/// What came of looking for an interpreter.
pub type Looked = Detected<Box<Found>>;

/// Look for an interpreter in a process, and say why it cannot be read.
pub fn look(space: &mut AddressSpace, modules: &mut Modules, memory: &dyn Memory) -> Looked {
    let mut search = Search { images: Images::new(space), space, modules, memory };
    let mut reason = None;
    let mut left = Vec::new();
    for number in 0.. {
        let Some(image) = search.image(number) else { break };
        match search.by_exports(&image) {
            Some(Looked::Nothing) => {}
            Some(Looked::Unreadable(why)) => reason = reason.or(Some(why)),
            Some(found) => return found,
            None => left.push(image),
        }
    }
    left.retain(Loaded::may_be_python);
    for image in left {
        match search.without_exports(&image) {
            Looked::Nothing => {}
            Looked::Unreadable(why) => reason = reason.or(Some(why)),
            found => return found,
        }
    }
    reason.map_or(Looked::Nothing, Looked::Unreadable)
}

/// How many bytes of an image's variables are read at most. An interpreter's
/// are one or two megabytes.
const MAX_VARIABLES: u64 = 64 << 20;

/// How many bytes are read at a time.
const STRIDE: u64 = 256 << 10;

/// The least that can be readable while what is beside it is not.
const PAGE: usize = 4096;

/// What `sys.version` may be cut off by, where a stride ends.
const OVERLAP: u64 = 64;

/// How many places that begin as `_PyRuntime` does are looked at.
const MAX_COOKIES: usize = 16;

/// How many words are tried.
const MAX_TRIALS: usize = 1 << 17;

struct Search<'a> {
    images: Images,
    space: &'a mut AddressSpace,
    modules: &'a mut Modules,
    memory: &'a dyn Memory,
}

impl Search<'_> {
    fn image(&mut self, number: usize) -> Option<Loaded> {
        self.images.get(number, (self.space, self.modules), self.memory)
    }

    /// By what the image exports, or by its sections; `None` when those say
    /// nothing of an interpreter.
    fn by_exports(&mut self, image: &Loaded) -> Option<Looked> {
        let section = || image.section(".PyRuntime");
        if let Some(runtime) = image.exported("_PyRuntime").or_else(section) {
            return Some(self.at_runtime(image, runtime));
        }
        image.exported("_PyThreadState_Current")?;
        Some(self.by_version(image, self.version(image)?))
    }

    /// By the symbols that are not exported, and by the variables.
    fn without_exports(&mut self, image: &Loaded) -> Looked {
        if let Some(runtime) = image.defined("_PyRuntime") {
            return self.at_runtime(image, runtime);
        }
        let mut places = Vec::new();
        self.read_variables(image, |at, bytes| {
            let cookies = memmem::find_iter(bytes, offsets::COOKIE);
            places.extend(cookies.map(|offset| at.plus(offset as u64)));
            places.len() >= MAX_COOKIES
        });
        let found = places.into_iter().find_map(|at| match self.at_runtime(image, at) {
            Looked::Nothing => None,
            found => Some(found),
        });
        let by_version = || Some(self.by_version(image, self.version(image)?));
        found.or_else(by_version).unwrap_or(Looked::Nothing)
    }

    /// An interpreter whose `_PyRuntime` is known.
    fn at_runtime(&mut self, image: &Loaded, runtime: Address) -> Looked {
        if let Some(hex) = offsets::version(runtime, self.memory) {
            return self.by_offsets(image, runtime, Version::from_hex(hex));
        }
        let Some(version) = self.version(image) else { return Looked::Nothing };
        let Some(layout) = tables::layout((version.major, version.minor)) else {
            return Looked::Unreadable(unknown(version));
        };
        match self.fitting(layout, runtime) {
            Some(layout) => self.found(image, runtime, version, layout),
            None => self.unfitting(layout, runtime, version),
        }
    }

    /// An interpreter that publishes its layout.
    fn by_offsets(&mut self, image: &Loaded, runtime: Address, version: Version) -> Looked {
        let offsets = Offsets::read(runtime, self.memory);
        let layout = offsets.as_ref().and_then(Offsets::layout);
        let (Some(offsets), Some(layout)) = (offsets, layout) else {
            return Looked::Unreadable(format!(
                "what CPython {version} says of its own layout makes no sense"
            ));
        };
        if !trial(&layout, runtime, self.memory) {
            return self.unfitting(&layout, runtime, version);
        }
        let looked = self.found(image, runtime, version, layout);
        let Looked::Found(mut found) = looked else { return looked };
        if offsets.is_free_threaded() {
            found.name.insert(found.name.find(" (").unwrap_or(found.name.len()), 't');
        }
        if version.minor > offsets::NEWEST {
            found.notes.push(format!(
                "CPython {version} is newer than what is known: it is read as 3.{}",
                offsets::NEWEST
            ));
        }
        Looked::Found(found)
    }

    /// An interpreter of which only the version is known: some variable of the
    /// image leads to it.
    fn by_version(&mut self, image: &Loaded, version: Version) -> Looked {
        let Some(layout) = tables::layout((version.major, version.minor)) else {
            return Looked::Unreadable(unknown(version));
        };
        let symbol = image.defined("interp_head");
        let known = symbol.and_then(|head| Some((head, self.fitting(layout, head)?)));
        match known.or_else(|| self.scan(image, layout)) {
            Some((runtime, layout)) => self.found(image, runtime, version, layout),
            None => Looked::Unreadable(format!("no interpreter of CPython {version} was found")),
        }
    }

    /// There is no interpreter where it should be: none yet, or one that is
    /// not laid out so.
    fn unfitting(&self, layout: &Layout, runtime: Address, version: Version) -> Looked {
        match layout.runtime.interpreters_head.get(self.memory, runtime) {
            Ok(Address(0)) => Looked::Nothing,
            _ => Looked::Unreadable(format!(
                "the interpreter of CPython {version} is not where it should be"
            )),
        }
    }

    /// The layout, or that of the build that links all objects, if it fits.
    fn fitting(&self, layout: &Layout, runtime: Address) -> Option<Layout> {
        if trial(layout, runtime, self.memory) {
            return Some(layout.clone());
        }
        let traced = tables::with_traced_references(layout);
        trial(&traced, runtime, self.memory).then_some(traced)
    }

    /// Look in the image's variables for a word that leads to an interpreter.
    fn scan(&self, image: &Loaded, layout: &Layout) -> Option<(Address, Layout)> {
        let (mut found, mut left) = (None, MAX_TRIALS);
        let head = layout.runtime.interpreters_head.offset;
        self.read_variables(image, |at, bytes| {
            for (offset, word) in (0..).step_by(8).zip(bytes.chunks_exact(8)) {
                let Some(word) = Address::decode(word) else { continue };
                if word.0 == 0 || word.0 % 8 != 0 || !self.is_data(word) {
                    continue;
                }
                let Some(next) = left.checked_sub(1) else { return true };
                left = next;
                let runtime = Address(at.plus(offset).0.wrapping_sub(head.into()));
                found = self.fitting(layout, runtime).map(|layout| (runtime, layout));
                if found.is_some() {
                    return true;
                }
            }
            false
        });
        found
    }

    fn is_data(&self, at: Address) -> bool {
        self.space.mapping(at).is_some_and(|mapping| mapping.readable && !mapping.executable)
    }

    /// Which version the image holds: by the number that it exports (3.11 and
    /// later), or by the text of `sys.version`, which the interpreter puts
    /// together in a variable.
    fn version(&self, image: &Loaded) -> Option<Version> {
        let exported = image.exported("Py_Version").and_then(|at| self.memory.get(at).ok());
        if let Some(version) = exported.map(Version::from_hex) {
            return Some(version);
        }
        let mut found = None;
        self.read_variables(image, |_, bytes| {
            found = Version::find(bytes);
            found.is_some()
        });
        found
    }

    /// Read the image's variables piece by piece until `see` has seen enough.
    fn read_variables(&self, image: &Loaded, mut see: impl FnMut(Address, &[u8]) -> bool) {
        let mut left = MAX_VARIABLES;
        for range in image.variables() {
            let mut at = Address(range.start.0.checked_next_multiple_of(8).unwrap_or(u64::MAX));
            while at < range.end && left > 0 {
                let end = range.end.0.min(at.0.saturating_add(STRIDE + OVERLAP));
                let seen = match self.bytes(at, end) {
                    Some(bytes) => see(at, &bytes),
                    // Some page of it cannot be read.
                    None => self.pages(at, end).any(|(at, bytes)| see(at, &bytes)),
                };
                if seen {
                    return;
                }
                at = at.plus(STRIDE);
                left = left.saturating_sub(STRIDE);
            }
        }
    }

    fn bytes(&self, at: Address, end: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(end.checked_sub(at.0)?).ok()?];
        self.memory.read(at, &mut bytes).ok()?;
        Some(bytes)
    }

    /// The pages from `at` to `end` that can be read.
    fn pages(&self, at: Address, end: u64) -> impl Iterator<Item = (Address, Vec<u8>)> {
        let size = PAGE as u64;
        let starts = (at.0 & !(size - 1)..end).step_by(PAGE);
        starts.filter_map(move |start| {
            let from = Address(start.max(at.0));
            let page = self.bytes(from, end.min(start.saturating_add(size)))?;
            Some((from, page))
        })
    }

    fn found(
        &mut self,
        image: &Loaded,
        runtime: Address,
        version: Version,
        mut layout: Layout,
    ) -> Looked {
        let mut variables = Variables::default();
        if let Gil::Global { absolute: true, .. } = layout.interpreter.gil {
            let semaphore =
                || Some(LockVariable::Behind(image.defined("interpreter_lock")?, SEMAPHORE));
            let condition = || Some(LockVariable::At(image.defined("gil_cond")?, CONDITION));
            variables.holder = image.defined("_PyThreadState_Current");
            variables.lock = condition().or_else(semaphore);
        }
        if layout.interpreter.collecting == Collecting::Unknown {
            variables.collecting = image.defined("collecting");
        }
        if let (Text::Wide { unit, .. }, Dict::Open { .. }) =
            (&mut layout.objects.text, layout.objects.dict)
            && image.defined("PyUnicodeUCS2_FromUnicode").is_some()
        {
            *unit = 2;
        }
        let debug = if image.is_debug() { " (debug)" } else { "" };
        let preliminary = version.is_preliminary().then(|| {
            format!("CPython {version} is not a release: its structs may differ from those of one")
        });
        let loops = match layout.frame.chain {
            Chain::Objects => LOOPS.iter().filter_map(|name| image.module.function(name)).collect(),
            Chain::CFrames { .. } | Chain::Shims { .. } => Vec::new(),
        };
        let collector = match layout.interpreter.collects_for {
            Some(_) => Vec::new(),
            None => image.collector(),
        };
        // Where the interpreter knows it itself, the C library is not asked.
        let thread_number = match layout.thread.native_thread_id {
            Some(_) => THREAD_NUMBER,
            None => self.thread_number(),
        };
        let [loops, collector] = [loops, collector].map(|ranges: Vec<Range<u64>>| {
            ranges.into_iter().map(|range| (image.module.id(), range)).collect()
        });
        Looked::Found(Box::new(Found {
            loops,
            collector,
            layout,
            runtime,
            variables,
            version,
            name: format!("CPython {version}{debug}"),
            thread_number,
            notes: preliminary.into_iter().collect(),
        }))
    }

    /// Where in its `struct pthread` the C library keeps a thread's number:
    /// what glibc exports for debuggers (`nptl_db/structs.def`; a number of
    /// bits, a count, and the offset), or what it is in all recent ones.
    fn thread_number(&mut self) -> u32 {
        let mut numbers = 0..;
        let exported = std::iter::from_fn(|| self.image(numbers.next()?));
        let exported = exported.filter_map(|image| image.exported("_thread_db_pthread_tid")).next();
        let published = exported.and_then(|at| {
            let [bits, count, offset] =
                [0, 4, 8].map(|from| self.memory.get::<u32>(at.plus(from)).ok());
            offset.filter(|&offset| bits == Some(32) && count == Some(1) && offset < 1 << 16)
        });
        published.unwrap_or(THREAD_NUMBER)
    }
}

fn unknown(version: Version) -> String {
    match (version.major, version.minor) {
        (3, 13..) => format!("CPython {version} does not say how it is laid out"),
        _ => format!("CPython {version} is not known"),
    }
}

/// `sizeof (sem_t)` and `sizeof (pthread_cond_t)` of glibc
/// (`bits/semaphore.h`, `bits/pthreadtypes-arch.h`, of 64 bits).
const SEMAPHORE: u64 = 32;
const CONDITION: u64 = 48;

/// `offsetof (struct pthread, tid)` of glibc 2.11 to 2.42.
const THREAD_NUMBER: u32 = if cfg!(target_arch = "aarch64") { 208 } else { 720 };

/// How many interpreters are looked at in a trial.
const MAX_INTERPRETERS: usize = 64;

/// Whether there is an interpreter at `runtime` that is ready and laid out so:
/// one with a thread that says it is the interpreter's, and with a dictionary
/// of modules whose type is called so.
pub fn trial(layout: &Layout, runtime: Address, memory: &dyn Memory) -> bool {
    let ready = |interpreter: Address| {
        let thread = layout.interpreter.threads_head.get(memory, interpreter).ok()?;
        let owner = layout.thread.interpreter.get(memory, thread).ok()?;
        if owner != interpreter {
            return None;
        }
        let modules = layout.interpreter.modules.get(memory, interpreter).ok()?;
        let class = layout.objects.class.get(memory, modules).ok()?;
        let name = layout.objects.type_name.get(memory, class).ok()?;
        let mut text = [0; 5];
        memory.read(name, &mut text).ok()?;
        Some(&text == b"dict\0")
    };
    let mut next = layout.runtime.interpreters_head.get(memory, runtime).ok();
    for _ in 0..MAX_INTERPRETERS {
        let Some(interpreter) = next.filter(|at| at.0 != 0) else { return false };
        if ready(interpreter) == Some(true) {
            return true;
        }
        next = layout.interpreter.next.get(memory, interpreter).ok();
    }
    false
}
