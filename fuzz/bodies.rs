//! What each fuzz target does with its input. `tests/it/seeds.rs` does the
//! same with the seeds.

#![allow(dead_code, reason = "each target takes one of them")]

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use spy::{
    memory::{Address, Fault, Memory, Piece},
    module::{AddressSpace, Module, Modules, Place, Section},
    runtime::{
        Detail, Places, Runtime, Trace,
        python::{
            Python,
            detect::{self, Found, LockVariable, Variables, Version},
            offsets::Offsets,
            tables, walk,
        },
    },
    snapshot::{
        Architecture, Backing, Mapping, Process, Recorded, Register, Registers, Root, Thread,
        archive, maps,
    },
    stack::CodeAddress,
    symbolize::{PerfMap, Symbolizer},
    task::{Pid, State, Tid},
    unwind::{MAX_FRAMES, Table, Tables, Unwinder},
};
use tempfile::TempDir;

/// Where images are put.
const BASE: u64 = 0x10_0000;

/// `input` is a `/proc/PID/maps`.
pub(crate) fn maps(input: &[u8]) {
    let (mappings, skipped) = maps::parse_counting(input);
    let lines = input.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(mappings.len() + skipped, lines);
    assert!(mappings.iter().all(|mapping| mapping.range.start < mapping.range.end));
    assert!(mappings.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
}

/// `input` is a `process.json`, up to a zero byte, and then the bytes of the
/// first two pieces of memory. What can be read can be written, and reads the
/// same again.
pub(crate) fn archive(input: &[u8]) {
    let scratch = scratch();
    let (first, second) = (scratch.path().join("first"), scratch.path().join("second"));
    let mut parts = input.splitn(2, |&byte| byte == 0);
    let text = parts.next().unwrap_or_default();
    let memory = parts.next().unwrap_or_default();
    let (low, high) = memory.split_at(memory.len() / 2);
    fs::create_dir_all(first.join("memory")).unwrap();
    fs::create_dir_all(first.join("root/usr")).unwrap();
    fs::write(first.join("root/usr/file"), b"\x7fELF").unwrap();
    fs::write(first.join("process.json"), text).unwrap();
    fs::write(first.join("memory/0"), low).unwrap();
    fs::write(first.join("memory/1"), high).unwrap();
    let Ok(mut process) = archive::read(&first) else { return };
    archive::write(&process, &second).unwrap();
    let again = archive::read(&second).unwrap();
    process.root = again.root.clone();
    assert_eq!(process, again);
}

/// `input` is a perf map.
pub(crate) fn perf_map(input: &[u8]) {
    let scratch = scratch();
    let root = Root { directory: scratch.path().to_owned(), map_files: None };
    fs::create_dir(scratch.path().join("tmp")).unwrap();
    let path = scratch.path().join("tmp/perf-7.map");
    let mut map = PerfMap::new(&root, Pid(7));
    // It grows while it is read.
    for end in [input.len() / 2, input.len()] {
        fs::write(&path, &input[..end]).unwrap();
        for at in [0, 0x1000, 0x1234, 0x7f00_0000_1000, u64::MAX] {
            let _ = map.symbol(Address(at));
        }
    }
}

/// `input` is an ELF image: as a file would be, and as a process has it.
pub(crate) fn elf(input: &[u8]) {
    for backing in [Backing::Vdso, Backing::Deleted("/gone".into())] {
        let mut modules = Modules::default();
        let Some((module, bias)) = image(input, backing, &mut modules) else { continue };
        for name in [".text", ".symtab", ".debug_info", ".dynsym", ".gopclntab", ""] {
            let _ = module.section(name);
        }
        let _ = (module.eh_frame(), module.eh_frame_hdr(), module.debug_frame(), module.build_id());
        let _ = (module.text_address(), module.got_address(), module.loaded(0, 64));
        let mut symbolizer = Symbolizer::new(PathBuf::from("/nowhere"));
        let entry = module.entry();
        for at in [entry, entry.wrapping_add(1), 0, 0x1000, BASE.wrapping_sub(bias), u64::MAX] {
            let named = symbolizer.image(&module, CodeAddress::Return(Address(at)));
            assert!(!named.is_empty());
        }
    }
}

/// `input` begins with where a thread is, then its stack, and then `.eh_frame`
/// of the code that it is in.
pub(crate) fn cfi(input: &[u8]) {
    const STACK: u64 = 0x7f00_0000_0000;
    let Some((head, rest)) = input.split_at_checked(8) else { return };
    let (stack, frames) = rest.split_at(rest.len().min(usize::from(head[0]) * 8));
    let _ = Table::compile(Some(Section { address: FRAMES, bytes: frames }), None);
    let (mapping, code) = mapped(&with_frames(frames), Backing::Vdso);
    let stack = Piece { start: Address(STACK), bytes: stack.to_vec() };
    let process = Process {
        pid: Pid(7),
        mappings: vec![mapping],
        root: Root { directory: "/nowhere".into(), map_files: None },
        threads: Vec::new(),
        pieces: vec![code],
    };
    let mut registers = Registers::unknown();
    for number in
        (0..17).filter(|number| head[1 + usize::from(number / 8 % 2)] >> (number % 8) & 1 == 0)
    {
        registers.set(Register(number), STACK + u64::from(head[3]) * 8);
    }
    registers.set(Architecture::HOST.sp(), STACK + u64::from(head[4]));
    let at = u64::from(u16::from_le_bytes([head[5], head[6]]));
    registers.set(Architecture::HOST.pc(), BASE + at);
    let thread = Thread {
        tid: Tid(7),
        name: String::new(),
        state: State::Running,
        registers,
        pieces: vec![stack],
    };
    for tables in [Tables::Now, Tables::Never] {
        let mut unwinder = Unwinder::new(process.mappings.clone(), process.root.clone(), tables);
        let (mut modules, mut frames) = (Modules::default(), Vec::new());
        let memory = Recorded::new(&process, &thread);
        // Cold, and then from what is remembered: the same.
        let cold = unwinder.unwind(&mut modules, &registers, &memory, &mut frames);
        assert_eq!(cold.frames, frames.len());
        assert!(frames.len() <= MAX_FRAMES);
        let mut again = Vec::new();
        let warm = unwinder.unwind(&mut modules, &registers, &memory, &mut again);
        assert_eq!((cold, frames), (warm, again));
    }
}

/// Where [`with_frames`] puts them.
const FRAMES: u64 = 0x1000;
const CODE: usize = 0x1000;

/// An ELF image of a page of anything and then `frames` as its `.eh_frame`.
fn with_frames(frames: &[u8]) -> Vec<u8> {
    let len = frames.len() as u64;
    let end = FRAMES + len;
    let names = b"\0.eh_frame\0.shstrtab\0";
    let headers = end + names.len() as u64;
    let mut image = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let put16 = |image: &mut Vec<u8>, all: &[u16]| {
        all.iter().for_each(|number| image.extend(number.to_le_bytes()));
    };
    let put32 = |image: &mut Vec<u8>, all: &[u32]| {
        all.iter().for_each(|number| image.extend(number.to_le_bytes()));
    };
    let put64 = |image: &mut Vec<u8>, all: &[u64]| {
        all.iter().for_each(|number| image.extend(number.to_le_bytes()));
    };
    // A shared object for x86-64, with one program header and three section
    // headers; the last is that of the names.
    put16(&mut image, &[3, 62]);
    put32(&mut image, &[1]);
    put64(&mut image, &[0, 64, headers]);
    put32(&mut image, &[0]);
    put16(&mut image, &[64, 56, 1, 64, 3, 2]);
    // All of it is loaded, to be read and run.
    put32(&mut image, &[1, 5]);
    put64(&mut image, &[0, 0, 0, end, end, 0x1000]);
    image.resize(CODE, 0xe8);
    image.extend(frames);
    image.extend(names);
    image.extend([0; 64]);
    for (name, kind, flags, address, offset, size) in
        [(1, 1, 2, FRAMES, FRAMES, len), (11, 3, 0, 0, end, names.len() as u64)]
    {
        put32(&mut image, &[name, kind]);
        put64(&mut image, &[flags, address, offset, size]);
        put32(&mut image, &[0, 0]);
        put64(&mut image, &[1, 0]);
    }
    image
}

/// The image of `bytes`, mapped at [`BASE`].
fn image(bytes: &[u8], backing: Backing, modules: &mut Modules) -> Option<(Arc<Module>, u64)> {
    let (mapping, memory) = mapped(bytes, backing);
    let root = Root { directory: "/nowhere".into(), map_files: None };
    let mut space = AddressSpace::new(vec![mapping], root);
    match space.find(Address(BASE), modules, &memory) {
        Place::Module { module, bias } => Some((module, bias)),
        _ => None,
    }
}

fn mapped(bytes: &[u8], backing: Backing) -> (Mapping, Piece) {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4096).max(4096), 0);
    let mapping = Mapping {
        range: Address(BASE)..Address(BASE + bytes.len() as u64),
        offset: 0,
        readable: true,
        executable: true,
        device: 1,
        inode: 1,
        backing,
    };
    (mapping, Piece { start: Address(BASE), bytes })
}

/// In memory, where there is such a place: a target makes thousands a second.
fn scratch() -> TempDir {
    let fast = Path::new("/dev/shm");
    if fast.is_dir() { TempDir::new_in(fast).unwrap() } else { TempDir::new().unwrap() }
}

/// The numbers of the first threads of the first interpreter.
fn numbers(found: &Found, memory: &dyn Memory) -> Vec<Tid> {
    let Found { layout, runtime, .. } = found;
    let head = layout.runtime.interpreters_head.get(memory, *runtime);
    let mut next = head.and_then(|at| layout.interpreter.threads_head.get(memory, at)).ok();
    let mut numbers = Vec::new();
    while let Some(state) = next.filter(|at| at.0 != 0 && numbers.len() < 3) {
        let number = match layout.thread.native_thread_id {
            Some(number) => number.get(memory, state).ok().and_then(|it| i32::try_from(it).ok()),
            None => {
                let pthread = layout.thread.thread_id.get(memory, state).map(Address);
                pthread.and_then(|at| memory.get(at.plus(found.thread_number.into()))).ok()
            }
        };
        numbers.push(Tid(number.unwrap_or_default()));
        next = layout.thread.next.get(memory, state).ok();
    }
    numbers
}

/// `input` says which layout of CPython's, where its `_PyRuntime` is, and what
/// is in memory: pieces, each behind its address and its length. How many frames
/// were named.
pub(crate) fn python(input: &[u8]) -> usize {
    let Some((head, rest)) = input.split_at_checked(PYTHON_HEAD) else { return 0 };
    let memory = Scattered::from(rest);
    let (_, at) = head.split_at(2);
    let runtime = Address(u64::from_le_bytes(at.try_into().unwrap()));
    let table = tables::VERSIONS.get(usize::from(head[0])).and_then(|it| tables::layout(*it));
    let layout = match table {
        Some(layout) if head[1] & 1 == 1 => Some(tables::with_traced_references(layout)),
        Some(layout) => Some(layout.clone()),
        None => Offsets::read(runtime, &memory).and_then(|offsets| offsets.layout()),
    };
    let Some(layout) = layout else { return 0 };
    let mut all = 0;
    let _ = detect::trial(&layout, runtime, &memory);
    let found = Found {
        layout,
        runtime,
        variables: Variables {
            holder: Some(runtime.plus(8)),
            lock: Some(LockVariable::Behind(runtime.plus(16), 32)),
            collecting: Some(runtime.plus(24)),
        },
        version: Version::from_hex(0x0300_0000 | u32::from(head[0]) << 16),
        name: String::new(),
        thread_number: 720,
        loops: Vec::new(),
        collector: Vec::new(),
        notes: Vec::new(),
    };
    let known = numbers(&found, &memory);
    let mut python = Python::new(found);
    for thread in known.into_iter().chain([Tid(7)]) {
        let mut trace = Trace::default();
        python.expect(thread, &memory);
        if !python.trace(thread, &memory, &mut trace) {
            continue;
        }
        assert!(trace.frames.len() <= walk::MOST);
        let places = if head[1] & 2 == 2 { Places::Columns } else { Places::Lines };
        let managed = python.resolve(&trace, places, &memory);
        let named: usize = managed.segments.iter().map(|segment| segment.frames.len()).sum();
        assert!(named <= trace.frames.len() + 1);
        all += named;
        let _ = (python.callers(&trace, &memory), python.is_lock(&trace, runtime, &memory));
        let _ = python.thread_name(thread, &memory);
        trace.frames.truncate(8);
        let detail = Detail { characters: 128, fields: head[1] & 4 == 4 };
        let locals = python.locals(&trace, detail, &memory);
        assert!(locals.len() <= trace.frames.len() + 1);
    }
    let _ = python.notes();
    assert!(memory.reads.get() < MOST_READS, "{} reads", memory.reads.get());
    all
}

/// A layout's number, a few choices, and the address of `_PyRuntime`.
const PYTHON_HEAD: usize = 10;

/// What four threads may need at most: lists of 65,536 threads, stacks of 4,096
/// frames, names and values are bounded each.
const MOST_READS: u64 = 8_000_000;

/// Pieces of memory, in the form of [`python`]'s input.
#[derive(Default)]
pub(crate) struct Scattered {
    pieces: BTreeMap<u64, Vec<u8>>,
    reads: Cell<u64>,
}

impl From<&[u8]> for Scattered {
    fn from(mut input: &[u8]) -> Self {
        let mut pieces = BTreeMap::new();
        while let Some((head, rest)) = input.split_at_checked(10) {
            let (at, len) = head.split_at(8);
            let at = u64::from_le_bytes(at.try_into().unwrap());
            let len = usize::from(u16::from_le_bytes(len.try_into().unwrap()));
            let (bytes, rest) = rest.split_at(len.min(rest.len()));
            pieces.insert(at, bytes.to_vec());
            input = rest;
        }
        Self { pieces, reads: Cell::new(0) }
    }
}

impl Memory for Scattered {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.reads.set(self.reads.get() + 1);
        let fault = Fault { at, len: into.len() };
        let (start, bytes) = self.pieces.range(..=at.0).next_back().ok_or(fault)?;
        let from = usize::try_from(at.0 - start).map_err(|_| fault)?;
        let found = bytes.get(from..).and_then(|bytes| bytes.get(..into.len()));
        into.copy_from_slice(found.ok_or(fault)?);
        Ok(())
    }
}
