//! Every compiled row says what gimli says.
//!
//! The ordinary run looks at a few libraries and programs that between them
//! hold every odd kind of row; with `SPY_ALL_ROWS=1` every ELF file of the
//! machine is looked at.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EndianSlice, LittleEndian, Operation,
    RegisterRule, UnwindContext, UnwindSection, UnwindTableRow,
};
use object::{Object as _, ObjectSection as _};
use spy::{
    module::Section,
    snapshot::Architecture,
    unwind::{Cfa, CfiSection, FdeAt, Found, ReturnAddress, Rule, Step, Table},
};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    files: u64,
    entries: u64,
    /// Rows that are rules.
    rules: u64,
    /// Rows that are left to gimli.
    left: u64,
    /// Entries whose addresses another entry claims, too.
    contested: u64,
    /// Bytes of unwind data, and of the tables.
    data: u64,
    tables: u64,
    /// The most different steps that a file has.
    distinct: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.entries += other.entries;
        self.rules += other.rules;
        self.left += other.left;
        self.contested += other.contested;
        self.data += other.data;
        self.tables += other.tables;
        self.distinct = self.distinct.max(other.distinct);
    }
}

#[test]
fn every_compiled_row_equals_gimlis() {
    let all = env::var_os("SPY_ALL_ROWS").is_some();
    let files = if all { every_file() } else { usual_files() };
    let work = Mutex::new(files);
    let total = Mutex::new(Counts::default());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(path) = work.lock().unwrap().pop() else { return };
                    if let Some(counts) = compare(&path) {
                        total.lock().unwrap().add(counts);
                    }
                }
            });
        }
    });
    let total = *total.lock().unwrap();
    eprintln!("{total:?}");
    assert!(total.files >= 4, "{total:?}");
    assert!(total.rules > 100_000, "{total:?}");
    assert!(total.left > 0 && total.left < total.rules / 100, "{total:?}");
    assert!(total.contested * 1000 <= total.entries, "{total:?}");
    // Most of it is the rows: 6 bytes each.
    assert!(total.tables * 4 < total.data * 5, "{total:?}");
}

/// What this very program maps, and what is where Debian and others put it.
fn usual_files() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let mut files: Vec<PathBuf> =
        mapped.filter(|path| path.contains(".so")).map(PathBuf::from).collect();
    for directory in ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"] {
        for name in ["libcrypto.so.3", "libcrypto.so.1.1", "libstdc++.so.6", "libm.so.6"] {
            files.push(Path::new(directory).join(name));
        }
    }
    for name in ["/usr/bin/python3", "/usr/bin/perl", "/usr/bin/node"] {
        files.push(name.into());
    }
    files.retain(|path| path.exists());
    files.iter_mut().for_each(|path| *path = path.canonicalize().unwrap());
    files.sort();
    files.dedup();
    files
}

/// Every file that may be ELF, once each.
fn every_file() -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    let mut left = vec![PathBuf::from("/")];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(about) = path.symlink_metadata() else { continue };
            let kernels = ["/proc", "/sys", "/dev"].map(Path::new).contains(&path.as_path());
            if about.is_dir() && !kernels {
                left.push(path);
            } else if about.is_file() {
                let name = path.to_string_lossy();
                if about.mode() & 0o111 != 0 || name.contains(".so") {
                    found.insert((about.dev(), about.ino()), path);
                }
            }
        }
    }
    found.into_values().collect()
}

/// Compare the file's table with gimli's rows; `None` if it is no ELF file of
/// this machine.
fn compare(path: &Path) -> Option<Counts> {
    use std::io::Read as _;
    let mut magic = [0; 20];
    fs::File::open(path).ok()?.read_exact(&mut magic).ok()?;
    let machine = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let is_loaded = matches!(magic[16], 2 | 3);
    if magic[..6] != *b"\x7fELF\x02\x01" || !is_loaded || magic[18] != machine {
        return None;
    }
    let file = fs::read(path).ok()?;
    let file = object::File::parse(&*file).ok()?;
    let section = |name| {
        let section = file.section_by_name(name)?;
        Some((section.address(), section.uncompressed_data().ok()?))
    };
    let (eh_frame, debug_frame) = (section(".eh_frame"), section(".debug_frame"));
    let view = |section: &Option<(u64, std::borrow::Cow<'_, [u8]>)>| {
        section.as_ref().map(|(address, bytes)| (*address, bytes.to_vec()))
    };
    let (eh_frame, debug_frame) = (view(&eh_frame), view(&debug_frame));
    let eh = eh_frame.as_ref().map(|(address, bytes)| Section { address: *address, bytes });
    let debug = debug_frame.as_ref().map(|(address, bytes)| Section { address: *address, bytes });
    let table = Table::compile(eh, debug);
    let mut counts = Counts { files: 1, distinct: table.distinct(), ..Counts::default() };
    counts.tables = table.size() as u64;
    let mut claims = Vec::new();
    if let Some(section) = eh {
        counts.data += section.bytes.len() as u64;
        let frames = EhFrame::new(section.bytes, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(section.address);
        claim(&frames, &bases, CfiSection::EhFrame, &mut claims);
        check(path, &table, (&frames, &bases), &claims, &mut counts);
    }
    if let Some(section) = debug {
        counts.data += section.bytes.len() as u64;
        let mut frames = DebugFrame::new(section.bytes, LittleEndian);
        frames.set_address_size(8);
        let bases = BaseAddresses::default();
        claim(&frames, &bases, CfiSection::DebugFrame, &mut claims);
        check(path, &table, (&frames, &bases), &claims, &mut counts);
    }
    Some(counts)
}

/// An entry: its section, place, and addresses.
type Claim = (CfiSection, usize, u64, u64);

fn claim<'a, S: UnwindSection<Bytes<'a>>>(
    frames: &S,
    bases: &BaseAddresses,
    section: CfiSection,
    claims: &mut Vec<Claim>,
) {
    let mut entries = frames.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let gimli::CieOrFde::Fde(partial) = entry else { continue };
        let Ok(fde) = partial.parse(S::cie_from_offset) else { continue };
        if fde.len() > 0 {
            claims.push((section, fde.offset(), fde.initial_address(), fde.end_address()));
        }
    }
    claims.sort_by_key(|claim| claim.2);
}

fn check<'a, S: UnwindSection<Bytes<'a>>>(
    path: &Path,
    table: &Table,
    (frames, bases): (&S, &BaseAddresses),
    claims: &[Claim],
    counts: &mut Counts,
) {
    let mut context = UnwindContext::new();
    let section = frames.section_kind();
    let highest = claims.iter().map(|claim| claim.3).scan(0, |highest, end| {
        *highest = end.max(*highest);
        Some(*highest)
    });
    let highest: Vec<u64> = highest.collect();
    for (number, &(of, offset, start, end)) in claims.iter().enumerate() {
        if of != section {
            continue;
        }
        counts.entries += 1;
        let before = number.checked_sub(1).is_some_and(|before| highest[before] > start);
        let after = claims.get(number + 1).is_some_and(|next| next.2 < end);
        if before || after {
            counts.contested += 1;
            continue;
        }
        let Ok(fde) = frames.fde_from_offset(bases, S::Offset::from(offset), S::cie_from_offset)
        else {
            panic!("{}: the entry at {offset:#x} was there", path.display());
        };
        let at = FdeAt { section, offset: u32::try_from(offset).unwrap() };
        let Ok(mut rows) = fde.rows(frames, bases, &mut context) else { continue };
        while let Ok(Some(row)) = rows.next_row() {
            let (first, last) = (row.start_address(), row.end_address().min(end));
            if first >= last {
                continue;
            }
            for address in [first, last - 1] {
                let Found::Step(step) = table.find(address) else {
                    panic!("{}: nothing at {address:#x}", path.display());
                };
                let signal = fde.is_signal_trampoline();
                let expected = expected(row, frames, fde.cie().encoding(), signal);
                match (step, expected) {
                    (Step::Rule(rule), Some(expected)) => {
                        assert_eq!(told(rule), expected, "{}: {address:#x}", path.display());
                    }
                    (Step::Row(found), None) => assert_eq!(*found, at),
                    different => panic!("{}: {address:#x}: {different:?}", path.display()),
                }
                match step {
                    Step::Rule(_) => counts.rules += u64::from(address == first),
                    Step::Row(_) => counts.left += u64::from(address == first),
                }
            }
        }
    }
}

/// A row in words that both sides can be brought to.
#[derive(Debug, PartialEq)]
struct Told {
    /// Register and offset, and whether the CFA lies there, or is it.
    cfa: (u16, i64, bool),
    /// `Err` is a register.
    return_address: Option<Result<i64, u16>>,
    /// By register: the offset from the CFA, or from its register.
    saved: BTreeMap<u16, i64>,
}

fn told(rule: &Rule) -> Told {
    Told {
        cfa: match rule.cfa {
            Cfa::Offset { register, offset } => (register.into(), offset.into(), false),
            Cfa::Saved { register, at } => (register.into(), at.into(), true),
        },
        return_address: match rule.return_address {
            ReturnAddress::Slot(slot) => Some(Ok(i64::from(slot) * 8)),
            ReturnAddress::Register(register) => Some(Err(register.into())),
            ReturnAddress::Undefined => None,
        },
        saved: {
            let frame_pointer = (rule.frame_pointer != Rule::NOT_SAVED)
                .then_some((Architecture::HOST.fp(), rule.frame_pointer));
            let all = rule.saved_registers().chain(frame_pointer);
            all.map(|(register, slot)| (register.0, i64::from(slot) * 8)).collect()
        },
    }
}

/// What gimli says; `None` for what a rule is not meant to say.
fn expected<'a, S: UnwindSection<Bytes<'a>>>(
    row: &UnwindTableRow<usize>,
    frames: &S,
    encoding: gimli::Encoding,
    signal: bool,
) -> Option<Told> {
    const PRESERVED: [u16; 6] = [3, 6, 12, 13, 14, 15];
    let (cfa, base) = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => ((register.0, *offset, false), None),
        CfaRule::Expression(expression) => {
            let expression = expression.get(frames).unwrap();
            let mut operations = Vec::new();
            let mut all = expression.operations(encoding);
            while let Ok(Some(operation)) = all.next() {
                operations.push(operation);
            }
            match operations[..] {
                [
                    Operation::RegisterOffset { register, offset, .. },
                    Operation::Deref { size: 8, .. },
                ] => ((register.0, offset, true), Some(register)),
                _ => return None,
            }
        }
    };
    let mut told = Told { cfa, return_address: Some(Ok(0)), saved: BTreeMap::new() };
    for (register, rule) in row.registers() {
        match rule {
            RegisterRule::Offset(offset) if register.0 == 16 && offset % 8 == 0 => {
                told.return_address = Some(Ok(*offset));
            }
            RegisterRule::Undefined if register.0 == 16 => told.return_address = None,
            RegisterRule::Register(from) if register.0 == 16 => {
                told.return_address = Some(Err(from.0));
            }
            // The rest are vectors.
            _ if register.0 > 16 => {}
            RegisterRule::Undefined if !PRESERVED.contains(&register.0) => {}
            RegisterRule::SameValue if PRESERVED.contains(&register.0) => {}
            RegisterRule::Offset(offset) if base.is_none() && offset % 8 == 0 => {
                told.saved.insert(register.0, *offset);
            }
            RegisterRule::Expression(expression) => {
                let expression = expression.get(frames).unwrap();
                let mut all = expression.operations(encoding);
                match (all.next(), all.next()) {
                    (
                        Ok(Some(Operation::RegisterOffset { register: from, offset, .. })),
                        Ok(None),
                    ) if Some(from) == base && offset % 8 == 0 => {
                        told.saved.insert(register.0, offset);
                    }
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    (!signal && !told.saved.contains_key(&7)).then_some(told)
}

/// Which section it is.
trait Kind {
    fn section_kind(&self) -> CfiSection;
}

impl<'a, S: UnwindSection<Bytes<'a>>> Kind for S {
    fn section_kind(&self) -> CfiSection {
        // Only `.eh_frame` ends with an entry of no length.
        if S::has_zero_terminator() { CfiSection::EhFrame } else { CfiSection::DebugFrame }
    }
}
