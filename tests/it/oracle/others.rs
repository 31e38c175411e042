//! Unwinders that other people wrote.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use framehop::{
    ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder,
    x86_64::{CacheX86_64, Reg, UnwindRegsX86_64, UnwinderX86_64},
};
use object::{Object, ObjectSection, ObjectSegment};
use spy::{
    memory::{Address, Memory, Piece},
    snapshot::{Architecture, Backing, Mapping, Process, Register, Thread},
};

use super::capture::Held;

/// More frames than any of the programs has.
const MOST: usize = 4000;

/// What an unwinder found: the program counters, innermost first, and its own
/// words for why there are no more.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) frames: Vec<u64>,
    pub(super) end: String,
}

/// What gdb finds, by thread. It leaves the process running or stopped, so it
/// comes last.
pub(super) fn gdb(pid: i32) -> BTreeMap<i32, Found> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/oracle/frames.py");
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"])
        .args(["-p", &pid.to_string(), "-x"])
        .arg(script)
        .output()
        .expect("gdb is installed");
    let mut threads = BTreeMap::<i32, Found>::new();
    let mut current = 0;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.split_once(' ') {
            Some(("thread", tid)) => current = tid.parse().unwrap(),
            Some(("frame", pc)) => {
                let pc = u64::from_str_radix(pc.trim_start_matches("0x"), 16).unwrap();
                threads.entry(current).or_default().frames.push(pc);
            }
            Some(("end", reason)) => {
                threads.entry(current).or_default().end = reason.to_owned();
            }
            _ => {}
        }
    }
    assert!(!threads.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    threads
}

/// What libunwind finds in a thread that we hold.
pub(super) fn libunwind(tid: i32, _held: &Held) -> Found {
    let unwinder = remoteprocess::Unwinder::new().unwrap();
    let thread = remoteprocess::Thread::new(tid).unwrap();
    let mut found = Found::default();
    let Ok(cursor) = unwinder.cursor(&thread) else { return found };
    for frame in cursor.take(MOST) {
        match frame {
            Ok(pc) => found.frames.push(pc),
            Err(error) => {
                found.end = error.to_string();
                break;
            }
        }
    }
    found
}

/// framehop, with every image of one process.
pub(super) struct Framehop {
    unwinder: UnwinderX86_64<Vec<u8>>,
    cache: CacheX86_64,
}

impl Framehop {
    pub(super) fn new(process: &Process) -> Self {
        let mut unwinder = UnwinderX86_64::new();
        let mut images = BTreeMap::<_, Vec<&Mapping>>::new();
        for mapping in &process.mappings {
            if mapping.backing != Backing::Anonymous {
                let name = format!("{:?}", mapping.backing);
                images.entry((mapping.device, mapping.inode, name)).or_default().push(mapping);
            }
        }
        for ((_, _, name), mappings) in images {
            if mappings.iter().any(|mapping| mapping.executable)
                && let Some(module) =
                    bytes(process, &mappings).and_then(|bytes| module(name, &mappings, &bytes))
            {
                unwinder.add_module(module);
            }
        }
        Self { unwinder, cache: CacheX86_64::new() }
    }

    pub(super) fn unwind(&mut self, thread: &Thread, memory: &dyn Memory) -> Found {
        let known = |number| thread.registers.get(Register(number)).unwrap_or_default();
        let pc = thread.registers.get(Architecture::HOST.pc()).unwrap_or_default();
        let mut registers = UnwindRegsX86_64::new(pc, known(7), known(6));
        let all = [
            Reg::RAX,
            Reg::RDX,
            Reg::RCX,
            Reg::RBX,
            Reg::RSI,
            Reg::RDI,
            Reg::RBP,
            Reg::RSP,
            Reg::R8,
            Reg::R9,
            Reg::R10,
            Reg::R11,
            Reg::R12,
            Reg::R13,
            Reg::R14,
            Reg::R15,
        ];
        for (number, register) in (0..).zip(all) {
            registers.set(register, known(number));
        }
        let mut read = |at| memory.get::<u64>(Address(at)).map_err(drop);
        let mut frames = self.unwinder.iter_frames(pc, registers, &mut self.cache, &mut read);
        let mut found = Found::default();
        while found.frames.len() < MOST {
            match frames.next() {
                Ok(Some(FrameAddress::InstructionPointer(at))) => found.frames.push(at),
                Ok(Some(FrameAddress::ReturnAddress(at))) => found.frames.push(at.get()),
                Ok(None) => break,
                Err(error) => {
                    found.end = error.to_string();
                    break;
                }
            }
        }
        found
    }
}

/// The image behind `mappings`: its file, or what was copied of it.
fn bytes(process: &Process, mappings: &[&Mapping]) -> Option<Vec<u8>> {
    let first = mappings.first()?;
    if let Backing::File(path) = &first.backing {
        return fs::read(process.root.directory.join(path.strip_prefix("/").ok()?)).ok();
    }
    let piece = |piece: &&Piece| piece.start == first.range.start;
    Some(process.pieces.iter().find(piece)?.bytes.clone())
}

fn module(name: String, mappings: &[&Mapping], bytes: &[u8]) -> Option<Module<Vec<u8>>> {
    let file = object::File::parse(bytes).ok()?;
    let code = mappings.iter().find(|mapping| mapping.executable)?;
    // The mapping begins in the page in which its segment does.
    let segment = file.segments().find(|segment| {
        let (offset, size) = segment.file_range();
        (offset & !0xfff..offset + size).contains(&code.offset)
            && segment.permissions().executable()
    })?;
    let bias = (code.range.start.0 - code.offset)
        .wrapping_add(segment.file_range().0)
        .wrapping_sub(segment.address());
    let range = mappings.first()?.range.start.0..mappings.last()?.range.end.0;
    let section = |name: &str| {
        let section = file.section_by_name(name)?;
        let bytes = section.uncompressed_data().ok()?.into_owned();
        Some((section.address()..section.address() + section.size(), bytes))
    };
    let part = |name: &str| section(name).unzip();
    let ((text_svma, text), (eh_frame_svma, eh_frame)) = (part(".text"), part(".eh_frame"));
    let (eh_frame_hdr_svma, eh_frame_hdr) = part(".eh_frame_hdr");
    let sections = ExplicitModuleSectionInfo {
        text_svma,
        text,
        got_svma: section(".got").map(|(range, _)| range),
        eh_frame_svma,
        eh_frame,
        eh_frame_hdr_svma,
        eh_frame_hdr,
        debug_frame: section(".debug_frame").map(|(_, bytes)| bytes),
        ..Default::default()
    };
    Some(Module::new(name, range, bias, sections))
}
