//! Functions, files, lines and inlined calls from DWARF.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use addr2line::{Context, FrameIter, LookupContinuation, LookupResult, SplitDwarfLoad};
use gimli::{DwarfPackage, SectionId};

use super::{
    bytes::{Bytes, bounded},
    elf::Elf,
    locate::{self, Locator},
    units::Units,
};

/// How many functions that were inlined into each other are shown at most.
const MAX_INLINED: usize = 128;

/// How many parts of a split program one address may make us look for.
const MAX_LOADS: usize = 16;

/// How often all the debug information may be read to look up one address.
const MAX_READS: usize = 8;

/// How much debug information of one image is decompressed, in bytes.
const MAX_HELD: usize = 3 << 30;

/// The longest path of a source file that is kept, in bytes.
const MAX_PATH: usize = 4096;

/// One function at an address, or one that was inlined there.
#[derive(Debug)]
pub(super) struct Function {
    /// Its name as the linker has it, where known.
    pub(super) name: Option<String>,
    /// The source file.
    pub(super) file: Option<String>,
    /// The line, from 1.
    pub(super) line: Option<u32>,
}

/// The debug information of an image.
pub(super) struct Dwarf {
    read: Read,
    /// Where parts of it may lie.
    locator: Locator,
    /// The files that it was made from, without their ending: `.dwp` is looked
    /// for beside them.
    beside: Vec<PathBuf>,
    /// The package of a split program; found when it is first needed.
    package: Option<Option<DwarfPackage<Bytes>>>,
    held: usize,
    /// How many bytes may be read to look up one address.
    allowance: usize,
}

/// How much of it was read.
enum Read {
    /// The units that hold the addresses that were asked for.
    Units(Box<gimli::Dwarf<Bytes>>, Units),
    /// All units, so far as is needed to know which holds what.
    Whole(Context<Bytes>),
    /// All, in vain.
    Nothing,
}

impl Dwarf {
    /// The debug information in `elf` (opened as `path`, where it has one).
    pub(super) fn new(elf: &Elf, path: Option<&Path>, locator: Locator) -> Self {
        let mut held = 0;
        let mut dwarf = load(elf, |id| Some(id.name()), &mut held);
        if let Some(shared) = locator.shared(elf, path) {
            held = held.saturating_add(shared.bytes().held());
            dwarf.set_sup(load(&shared, |id| Some(id.name()), &mut held));
        }
        let size = held.saturating_add(gimli::Reader::len(elf.bytes()));
        let allowance = size.saturating_mul(MAX_READS).saturating_add(1 << 20);
        let units = bounded(allowance, || Units::new(&dwarf));
        let read = Read::Units(Box::new(dwarf), units);
        let beside = [path.map(Path::to_owned), locator.image()].into_iter().flatten().collect();
        Self { read, locator, beside, package: None, held, allowance }
    }

    /// How many bytes of memory are held beside the file that it was made from.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// The functions at an address of the image, innermost first. Empty where
    /// nothing is known; one without a name where only the line is.
    pub(super) fn functions(&mut self, at: u64) -> Vec<Function> {
        bounded(self.allowance, || self.find(at))
    }

    fn find(&mut self, at: u64) -> Vec<Function> {
        if let Read::Units(dwarf, units) = &mut self.read {
            if let Some(context) = units.holding(dwarf, at)
                && let LookupResult::Output(Ok(frames)) = context.find_frames(at)
            {
                let functions = functions(frames);
                if !functions.is_empty() {
                    return functions;
                }
            }
            let mut dwarf = std::mem::take(&mut **dwarf);
            dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
            self.read = Context::from_dwarf(dwarf).map_or(Read::Nothing, Read::Whole);
        }
        self.find_in_whole(at)
    }

    fn find_in_whole(&mut self, at: u64) -> Vec<Function> {
        let Self { read: Read::Whole(context), locator, beside, package, held, .. } = self else {
            return Vec::new();
        };
        let mut found = context.find_frames(at);
        let mut loads = 0;
        loop {
            match found {
                LookupResult::Output(Ok(frames)) => return functions(frames),
                LookupResult::Output(Err(_)) => return Vec::new(),
                LookupResult::Load { load, continuation } => {
                    loads += 1;
                    let part = (loads <= MAX_LOADS).then(|| {
                        let package = package.get_or_insert_with(|| open_package(beside, held));
                        packaged(package.as_ref(), &load).or_else(|| separate(locator, &load, held))
                    });
                    found = continuation.resume(part.flatten().map(Arc::new));
                }
            }
        }
    }
}

/// The functions that were found at an address.
fn functions(mut frames: FrameIter<'_, Bytes>) -> Vec<Function> {
    let mut functions = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref().and_then(|name| name.raw_name().ok());
        let location = frame.location;
        let file = location.as_ref().and_then(|location| location.file);
        functions.push(Function {
            name: name.filter(|name| !name.is_empty()).map(std::borrow::Cow::into_owned),
            file: file.filter(|path| path.len() <= MAX_PATH).map(str::to_owned),
            line: location.and_then(|location| location.line).filter(|&line| line != 0),
        });
        if functions.len() > MAX_INLINED {
            return Vec::new();
        }
    }
    functions
}

type Name = fn(SectionId) -> Option<&'static str>;

/// The sections that functions and lines are in, each under the name that
/// `name` gives it.
fn load(elf: &Elf, name: Name, held: &mut usize) -> gimli::Dwarf<Bytes> {
    let mut section = |id| Ok::<_, gimli::Error>(useful(elf, id, name, held));
    gimli::Dwarf::load(&mut section).unwrap_or_default()
}

/// A section that functions and lines need, else nothing: what is only about
/// variables, types and macros is never decompressed.
fn useful(elf: &Elf, id: SectionId, name: Name, held: &mut usize) -> Bytes {
    let useful = matches!(
        id,
        SectionId::DebugAbbrev
            | SectionId::DebugAddr
            | SectionId::DebugAranges
            | SectionId::DebugInfo
            | SectionId::DebugLine
            | SectionId::DebugLineStr
            | SectionId::DebugRanges
            | SectionId::DebugRngLists
            | SectionId::DebugStr
            | SectionId::DebugStrOffsets
    );
    if useful { section(elf, id, name, held) } else { Bytes::default() }
}

fn section(elf: &Elf, id: SectionId, name: Name, held: &mut usize) -> Bytes {
    if *held > MAX_HELD {
        return Bytes::default();
    }
    let bytes = name(id).and_then(|name| elf.section(name)).unwrap_or_default();
    if !bytes.shares(elf.bytes()) {
        *held = held.saturating_add(bytes.held());
    }
    bytes
}

/// The package of a split program, beside the program or its debug file.
fn open_package(beside: &[PathBuf], held: &mut usize) -> Option<DwarfPackage<Bytes>> {
    beside.iter().find_map(|path| {
        let mut name = path.clone().into_os_string();
        name.push(".dwp");
        let elf = locate::open(Path::new(&name))?;
        *held = held.saturating_add(elf.bytes().held());
        // The index has a place in each section for each part, so that none
        // may be missing.
        let section = |id| Ok::<_, gimli::Error>(section(&elf, id, SectionId::dwo_name, held));
        DwarfPackage::load(section, Bytes::default()).ok()
    })
}

/// A part of a split program, from its package.
fn packaged(
    package: Option<&DwarfPackage<Bytes>>,
    load: &SplitDwarfLoad<Bytes>,
) -> Option<gimli::Dwarf<Bytes>> {
    package?.find_cu(load.dwo_id, &load.parent).ok()?
}

/// A part of a split program, from a file of its own.
fn separate(
    locator: &Locator,
    wanted: &SplitDwarfLoad<Bytes>,
    held: &mut usize,
) -> Option<gimli::Dwarf<Bytes>> {
    let name = wanted.path.as_ref()?.slice();
    let directory = wanted.comp_dir.as_ref().map(Bytes::slice).unwrap_or_default();
    let path = |bytes| Path::new(OsStr::from_bytes(bytes));
    let elf = locator.part(path(directory), path(name))?;
    let mut size = elf.bytes().held();
    let mut dwarf = load(&elf, SectionId::dwo_name, &mut size);
    let header = dwarf.units().next().ok()??;
    if dwarf.unit(header).ok()?.dwo_id != Some(wanted.dwo_id) {
        return None;
    }
    *held = held.saturating_add(size);
    dwarf.make_dwo(&wanted.parent);
    Some(dwarf)
}
