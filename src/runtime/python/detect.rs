//! The interpreter in a process: where it is, which version, and its layout.
//!
//! Nothing is asked of file names. What exports `_PyRuntime` (3.7 and later) or
//! `_PyThreadState_Current` (before) holds an interpreter, however it is
//! called, as does what has a section `.PyRuntime` (3.10 and later). Only of the
//! program itself and of what else exports functions of Python are the other
//! symbols and the variables read: there an interpreter without symbols shows
//! by the cookie that its `_PyRuntime` begins with (3.13 and later), or by the
//! text of `sys.version` and a word that leads to an interpreter.
//!
//! Whatever is found must pass a [`trial`].

use std::{fmt, ops::Range, sync::Arc};

use super::{
    layout::{Collecting, Dict, Gil, Layout, Text},
    offsets::{self, Offsets},
    tables,
};
use crate::{
    memory::{Address, Memory, Plain},
    module::{AddressSpace, Module, Modules, Place},
    snapshot::Backing,
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
    /// The image that holds it, and what that is raised by.
    pub image: (ModuleId, u64),
    /// Where in its `struct pthread` the C library keeps a thread's number.
    pub thread_number: u32,
    /// What is uncertain: a sentence each.
    pub notes: Vec<String>,
}

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
#[derive(Clone, Debug)]
pub enum Looked {
    /// There is one.
    Found(Box<Found>),
    /// There is one that cannot be read: why, in a sentence.
    Unreadable(String),
    /// There is none, or it is not yet ready.
    Nothing,
}

/// `PY_VERSION_HEX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 2 or 3.
    pub major: u8,
    /// The minor version: structs are laid out anew in each.
    pub minor: u8,
    /// The patch level.
    pub micro: u8,
    /// 10 for an alpha version, 11 for a beta, 12 for a candidate, 15 for a
    /// release.
    pub level: u8,
    /// Which alpha version, beta or candidate.
    pub serial: u8,
}

impl Version {
    /// From the bytes of the number: one each, and level and serial share one.
    pub const fn from_hex(hex: u32) -> Self {
        let [major, minor, micro, last] = hex.to_be_bytes();
        Self { major, minor, micro, level: last >> 4, serial: last & 15 }
    }

    /// From what `sys.version` begins with, such as `3.13.0rc1+ (`.
    pub fn from_text(bytes: &[u8]) -> Option<Self> {
        let (text, _) = bytes.split_at(bytes.windows(2).take(24).position(|two| two == b" (")?);
        let text = std::str::from_utf8(text).ok()?.trim_end_matches('+');
        let mut parts = text.splitn(3, '.');
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let last = parts.next()?;
        let digits = last.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(last.len());
        let (micro, rest) = last.split_at_checked(digits)?;
        let micro = micro.parse().ok()?;
        let (level, serial) = match rest {
            "" => (15, 0),
            _ => {
                let names = [("a", 10), ("b", 11), ("rc", 12), ("c", 12)];
                let mut levels = names.into_iter();
                levels.find_map(|(name, level)| {
                    Some((level, rest.strip_prefix(name)?.parse().ok()?))
                })?
            }
        };
        Some(Self { major, minor, micro, level, serial })
    }

    /// Whether structs may still have changed after it.
    pub const fn is_preliminary(self) -> bool {
        self.level != 15
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)?;
        match self.level {
            10 => write!(f, "a{}", self.serial),
            11 => write!(f, "b{}", self.serial),
            12 => write!(f, "rc{}", self.serial),
            _ => Ok(()),
        }
    }
}

/// Look for an interpreter in a process.
pub fn find(space: &mut AddressSpace, modules: &mut Modules, memory: &dyn Memory) -> Option<Found> {
    match look(space, modules, memory) {
        Looked::Found(found) => Some(*found),
        Looked::Unreadable(_) | Looked::Nothing => None,
    }
}

/// Look for an interpreter in a process, and say why it cannot be read.
pub fn look(space: &mut AddressSpace, modules: &mut Modules, memory: &dyn Memory) -> Looked {
    let images = images(space, modules, memory);
    let search = Search { images: &images, space, memory };
    let mut reason = None;
    let mut left = Vec::new();
    for image in &images {
        match search.by_exports(image) {
            Some(Looked::Nothing) => {}
            Some(Looked::Unreadable(why)) => reason = reason.or(Some(why)),
            Some(found) => return found,
            None => left.push(image),
        }
    }
    let program = images.first().map(|image| image.module.id());
    for image in left {
        let may = Some(image.module.id()) == program || image.has_python();
        match if may { search.without_exports(image) } else { Looked::Nothing } {
            Looked::Nothing => {}
            Looked::Unreadable(why) => reason = reason.or(Some(why)),
            found => return found,
        }
    }
    reason.map_or(Looked::Nothing, Looked::Unreadable)
}

/// The most mappings that are asked for an image: a process may have no more
/// of all kinds by default (/proc/sys/vm/max_map_count).
const MAX_MAPPINGS: usize = 65_530;

/// An image of the process, and what it is raised by.
#[derive(Clone, Debug)]
struct Loaded {
    module: Arc<Module>,
    bias: u64,
}

/// Every image of the process once, by address: a program that was linked to
/// lie in one place is first, as is one that was not.
fn images(space: &mut AddressSpace, modules: &mut Modules, memory: &dyn Memory) -> Vec<Loaded> {
    let code = space.mappings().iter().filter(|mapping| {
        mapping.executable && matches!(mapping.backing, Backing::File(_) | Backing::Deleted(_))
    });
    let starts: Vec<_> = code.take(MAX_MAPPINGS).map(|mapping| mapping.range.start).collect();
    let mut images: Vec<Loaded> = Vec::new();
    for start in starts {
        let Place::Module { module, bias } = space.find(start, modules, memory) else { continue };
        let key = (module.id(), bias);
        if images.last().is_none_or(|last| (last.module.id(), last.bias) != key) {
            images.push(Loaded { module, bias });
        }
    }
    images
}

impl Loaded {
    fn exported(&self, name: &str) -> Option<Address> {
        Some(Address(self.module.exported(name)?).plus(self.bias))
    }

    fn defined(&self, name: &str) -> Option<Address> {
        Some(Address(self.module.defined(name)?).plus(self.bias))
    }

    /// Whether it has functions of Python.
    fn has_python(&self) -> bool {
        self.module.exported("Py_IsInitialized").is_some()
    }

    /// Whether it was compiled with `Py_REF_DEBUG`, as debug builds are.
    fn is_debug(&self) -> bool {
        self.module.exported("_Py_NegativeRefcount").is_some()
    }

    /// Where its variables are.
    fn variables(&self) -> impl Iterator<Item = Range<Address>> {
        let bias = self.bias;
        let raised = move |at: u64| Address(at).plus(bias);
        self.module.writable().map(move |range| raised(range.start)..raised(range.end))
    }
}

/// How many bytes of an image's variables are read at most. An interpreter's
/// are one or two megabytes.
const MAX_VARIABLES: u64 = 64 << 20;

/// How many bytes are read at a time.
const STRIDE: u64 = 256 << 10;

/// What `sys.version` may be cut off by, where a stride ends.
const OVERLAP: u64 = 64;

/// How many words are tried.
const MAX_TRIALS: usize = 1 << 17;

struct Search<'a> {
    images: &'a [Loaded],
    space: &'a AddressSpace,
    memory: &'a dyn Memory,
}

impl Search<'_> {
    /// By what the image exports, or by its sections; `None` when those say
    /// nothing of an interpreter.
    fn by_exports(&self, image: &Loaded) -> Option<Looked> {
        let section = || {
            let section = image.module.section(".PyRuntime")?;
            Some(Address(section.address).plus(image.bias))
        };
        if let Some(runtime) = image.exported("_PyRuntime").or_else(section) {
            return Some(self.at_runtime(image, runtime));
        }
        image.exported("_PyThreadState_Current")?;
        Some(self.by_version(image, self.version(image)?))
    }

    /// By the symbols that are not exported, and by the variables.
    fn without_exports(&self, image: &Loaded) -> Looked {
        if let Some(runtime) = image.defined("_PyRuntime") {
            return self.at_runtime(image, runtime);
        }
        let mut found = None;
        self.read_variables(image, |at, bytes| {
            // It lies at a word, as does all that has words.
            let words = (0..).step_by(8).zip(bytes.chunks_exact(8));
            let mut cookies = words.filter(|(_, word)| word == offsets::COOKIE);
            found = cookies.find_map(|(offset, _)| match self.at_runtime(image, at.plus(offset)) {
                Looked::Nothing => None,
                found => Some(found),
            });
            found.is_some()
        });
        let by_version = || Some(self.by_version(image, self.version(image)?));
        found.or_else(by_version).unwrap_or(Looked::Nothing)
    }

    /// An interpreter whose `_PyRuntime` is known.
    fn at_runtime(&self, image: &Loaded, runtime: Address) -> Looked {
        if let Some(hex) = offsets::version(runtime, self.memory) {
            return self.by_offsets(image, runtime, Version::from_hex(hex));
        }
        let Some(version) = self.version(image) else { return Looked::Nothing };
        let Some(layout) = tables::layout((version.major, version.minor)) else {
            return Looked::Unreadable(format!("CPython {version} is not known"));
        };
        match self.fitting(layout, runtime) {
            Some(layout) => self.found(image, runtime, version, layout),
            None => Looked::Nothing,
        }
    }

    /// An interpreter that publishes its layout.
    fn by_offsets(&self, image: &Loaded, runtime: Address, version: Version) -> Looked {
        let offsets = Offsets::read(runtime, self.memory);
        let layout = offsets.as_ref().and_then(Offsets::layout);
        let (Some(offsets), Some(layout)) = (offsets, layout) else {
            return Looked::Unreadable(format!(
                "what CPython {version} says of its own layout cannot be"
            ));
        };
        if !trial(&layout, runtime, self.memory) {
            return Looked::Nothing;
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
    fn by_version(&self, image: &Loaded, version: Version) -> Looked {
        let Some(layout) = tables::layout((version.major, version.minor)) else {
            return match (version.major, version.minor) {
                // It publishes its layout, once it is ready.
                (3, 13..) => Looked::Nothing,
                _ => Looked::Unreadable(format!("CPython {version} is not known")),
            };
        };
        let symbol = image.defined("interp_head");
        let known = symbol.and_then(|head| Some((head, self.fitting(layout, head)?)));
        match known.or_else(|| self.scan(image, layout)) {
            Some((runtime, layout)) => self.found(image, runtime, version, layout),
            None => Looked::Nothing,
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
            found = bytes.windows(6).enumerate().find_map(|(at, start)| {
                let [b'2' | b'3', b'.', minor, ..] = start else { return None };
                let version = minor.is_ascii_digit().then(|| bytes.get(at..)).flatten()?;
                Version::from_text(version)
            });
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
                let rest = range.end.0.saturating_sub(at.0);
                let len = usize::try_from(rest.min(STRIDE + OVERLAP)).unwrap_or(0);
                let mut bytes = vec![0; len];
                if self.memory.read(at, &mut bytes).is_ok() && see(at, &bytes) {
                    return;
                }
                at = at.plus(STRIDE);
                left = left.saturating_sub(STRIDE);
            }
        }
    }

    fn found(
        &self,
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
        Looked::Found(Box::new(Found {
            layout,
            runtime,
            variables,
            version,
            name: format!("CPython {version}{debug}"),
            image: (image.module.id(), image.bias),
            thread_number: self.thread_number(),
            notes: preliminary.into_iter().collect(),
        }))
    }

    /// Where in its `struct pthread` the C library keeps a thread's number:
    /// what glibc exports for debuggers (`nptl_db/structs.def`; a number of
    /// bits, a count, and the offset), or what it is in all recent ones.
    fn thread_number(&self) -> u32 {
        let exported = self.images.iter().find_map(|image| {
            let at = image.exported("_thread_db_pthread_tid")?;
            let [bits, count, offset] =
                [0, 4, 8].map(|from| self.memory.get::<u32>(at.plus(from)).ok());
            offset.filter(|&offset| bits == Some(32) && count == Some(1) && offset < 1 << 16)
        });
        exported.unwrap_or(THREAD_NUMBER)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        for (text, expected) in [
            ("3.10.13 (main, Jun  1 2023, 10:00:00) [GCC 12.2.0]", Some("3.10.13")),
            ("2.7.18 (default, ", Some("2.7.18")),
            ("3.13.0rc1+ (heads", Some("3.13.0rc1")),
            ("3.15.0b4 (main", Some("3.15.0b4")),
            ("3.15.0a1+ (main", Some("3.15.0a1")),
            ("3.45.1 2024-01-30", None),
            ("3.10.13", None),
            ("3.10 (main", None),
            ("3.10.13x (main", None),
            ("3.10.13rc (main", None),
            ("3.999.1 (main", None),
            ("3.1\u{e9}.1 (main", None),
            ("", None),
        ] {
            let found = Version::from_text(text.as_bytes()).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        assert_eq!(Version::from_hex(0x030f_00f0).to_string(), "3.15.0");
        assert_eq!(Version::from_hex(0x030f_00b4).to_string(), "3.15.0b4");
        assert!(Version::from_hex(0x030e_00c2).is_preliminary());
    }
}
