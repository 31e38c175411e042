//! Walks over images, registers and stacks that are made up here.

mod aarch64;
mod background;
mod guesses;
mod hostile;
mod rows;

use std::{fs, io::Write as _, ops::Range, os::unix::fs::MetadataExt as _};

use tempfile::TempDir;

use super::{Tables, Unwinder, Walk};
use crate::{
    memory::{Address, Fault, Memory, Piece},
    module::Modules,
    snapshot::{Architecture, Backing, Mapping, Register, Registers, Root},
    stack::{CodeAddress, End, Frame},
};

/// Where the image lies, and where in it the code is.
const BASE: u64 = 0x5555_0000_0000;
const TEXT: u64 = 0x1000;
/// Where JIT code lies, and the stack.
const JIT: u64 = 0x3000_0000;
const STACK: u64 = 0x7fff_0000_0000;

const X86: Architecture = Architecture::X86_64;

/// DWARF's numbers.
const RBX: u16 = 3;
const RDI: u16 = 5;
const RBP: u16 = 6;
const RSP: u16 = 7;
const R10: u16 = 10;
const RIP: u16 = 16;

/// Call frame instructions, as they are encoded.
mod cfa {
    pub(super) fn at(register: u16, offset: u8) -> Vec<u8> {
        vec![0x0c, u8::try_from(register).unwrap(), offset]
    }
    /// Saved `words` words below the CFA.
    pub(super) fn saved(register: u16, words: u8) -> Vec<u8> {
        vec![0x80 | u8::try_from(register).unwrap(), words]
    }
    pub(super) fn undefined(register: u16) -> Vec<u8> {
        vec![0x07, u8::try_from(register).unwrap()]
    }
    pub(super) fn in_register(register: u16, other: u16) -> Vec<u8> {
        vec![0x09, u8::try_from(register).unwrap(), u8::try_from(other).unwrap()]
    }
    /// The CFA by an expression.
    pub(super) fn by(expression: &[u8]) -> Vec<u8> {
        [&[0x0f, u8::try_from(expression.len()).unwrap()], expression].concat()
    }
    /// Saved where an expression says.
    pub(super) fn saved_by(register: u16, expression: &[u8]) -> Vec<u8> {
        let (register, len) =
            (u8::try_from(register).unwrap(), u8::try_from(expression.len()).unwrap());
        [&[0x10, register, len], expression].concat()
    }
}

/// Unwind data: functions of so many bytes, one behind the other, and for each
/// whether it is a signal's and its instructions.
fn eh_frame(architecture: Architecture, functions: &[(u64, bool, Vec<u8>)]) -> Vec<u8> {
    let mut section = Vec::new();
    let entry = |section: &mut Vec<u8>, mut body: Vec<u8>| {
        body.resize(body.len().next_multiple_of(8) + 4, 0);
        section.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        section.extend(body);
    };
    let mut start = TEXT;
    for (size, is_signal, instructions) in functions {
        let header = section.len();
        let mut body = vec![0, 0, 0, 0, 1];
        body.extend(if *is_signal { &b"zRS\0"[..] } else { b"zR\0" });
        // Alignments 1 and -8, the return address, absolute addresses.
        let (column, initial) = match architecture {
            Architecture::X86_64 => (16, vec![0x0c, 7, 8, 0x90, 1]),
            Architecture::Aarch64 => (30, vec![0x0c, 31, 0]),
        };
        body.extend([1, 0x78, column, 1, 0]);
        body.extend(initial);
        entry(&mut section, body);
        let back = u32::try_from(section.len() + 4 - header).unwrap();
        let mut body = back.to_le_bytes().to_vec();
        body.extend(start.to_le_bytes());
        body.extend(size.to_le_bytes());
        body.push(0);
        body.extend(instructions);
        entry(&mut section, body);
        start += size;
    }
    section.extend([0; 4]);
    section
}

/// An ELF image of one segment with `.text` and `.eh_frame`.
fn elf(architecture: Architecture, text: &[u8], eh_frame: &[u8], entry: u64) -> Vec<u8> {
    let names = b"\0.text\0.eh_frame\0.shstrtab\0";
    let mut file = vec![0; usize::try_from(TEXT).unwrap()];
    file.extend(text);
    file.resize(file.len().next_multiple_of(8), 0);
    let frames_at = file.len() as u64;
    file.extend(eh_frame);
    let names_at = file.len() as u64;
    file.extend(names);
    file.resize(file.len().next_multiple_of(8), 0);
    let sections_at = file.len() as u64;
    let mut section = |name: u32, kind: u32, flags: u64, at: u64, len: u64| {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        let address = if flags == 0 { 0 } else { at };
        for word in [flags, address, at, len, 0, 8, 0] {
            file.extend(word.to_le_bytes());
        }
    };
    section(0, 0, 0, 0, 0);
    section(1, 1, 6, TEXT, text.len() as u64);
    section(7, 1, 2, frames_at, eh_frame.len() as u64);
    section(17, 3, 0, names_at, names.len() as u64);
    let size = file.len() as u64;
    let machine: u16 = if architecture == X86 { 62 } else { 183 };
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
    header.extend(machine.to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    for word in [entry, 64, sections_at] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 4, 3] {
        header.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    header.extend(1_u32.to_le_bytes());
    header.extend(5_u32.to_le_bytes());
    for word in [0, 0, 0, size, size, 0x1000] {
        header.extend(word.to_le_bytes());
    }
    file[..header.len()].copy_from_slice(&header);
    file
}

/// A process of one image, JIT code and a stack.
struct Process {
    unwinder: Unwinder,
    modules: Modules,
    registers: Registers,
    memory: Pieces,
    directory: TempDir,
}

/// Memory in pieces, of which the first is the copied stack.
#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Memory for Pieces {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let len = into.len();
        let found = self.0.iter().find_map(|piece| piece.slice(at, len));
        into.copy_from_slice(found.ok_or(Fault { at, len })?);
        Ok(())
    }

    fn copied(&self, at: Address) -> Option<(Address, &[u8])> {
        self.0.first()?.copied(at)
    }
}

fn mapping(range: Range<u64>, backing: Backing, device: u64, inode: u64) -> Mapping {
    Mapping {
        range: Address(range.start)..Address(range.end),
        offset: 0,
        readable: true,
        executable: range.start != STACK,
        device,
        inode,
        backing,
    }
}

impl Process {
    fn new(architecture: Architecture, text: &[u8], functions: &[(u64, bool, Vec<u8>)]) -> Self {
        let image = elf(architecture, text, &eh_frame(architecture, functions), 0);
        Self::of(architecture, &image, Tables::Now)
    }

    fn of(architecture: Architecture, image: &[u8], tables: Tables) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mappings = Self::mappings(&directory, "image", image);
        let root = Root { directory: directory.path().into(), map_files: None };
        Self {
            unwinder: Unwinder::of(architecture, mappings, root, tables),
            modules: Modules::default(),
            registers: Registers::unknown(),
            memory: Pieces::default(),
            directory,
        }
    }

    fn mappings(directory: &TempDir, name: &str, image: &[u8]) -> Vec<Mapping> {
        let path = directory.path().join(name);
        fs::File::create(&path).unwrap().write_all(image).unwrap();
        let about = fs::metadata(&path).unwrap();
        let backing = Backing::File(format!("/{name}").into());
        let end = BASE + (image.len() as u64).next_multiple_of(0x1000);
        vec![
            mapping(JIT..JIT + 0x1000, Backing::Anonymous, 0, 0),
            mapping(BASE..end, backing, about.dev(), about.ino()),
            mapping(STACK..STACK + 0x100_0000, Backing::Anonymous, 0, 0),
        ]
    }

    /// The thread is at `pc`, and its stack holds `words` from the stack
    /// pointer on.
    fn stands(mut self, pc: u64, words: &[u64]) -> Self {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.memory.0.push(Piece { start: Address(STACK), bytes });
        let machine = self.unwinder.machine.architecture;
        self.registers.set(machine.sp(), STACK);
        self.registers.set(machine.pc(), pc);
        self
    }

    fn with(mut self, register: u16, value: u64) -> Self {
        self.registers.set(Register(register), value);
        self
    }

    fn holds(mut self, at: u64, bytes: &[u8]) -> Self {
        self.memory.0.push(Piece { start: Address(at), bytes: bytes.to_vec() });
        self
    }

    fn walk(&mut self) -> (Vec<CodeAddress>, Walk) {
        let mut frames = Vec::new();
        let walk =
            self.unwinder.unwind(&mut self.modules, &self.registers, &self.memory, &mut frames);
        assert_eq!(walk.frames, frames.len());
        let codes = frames.iter().map(|frame| match frame {
            Frame::Native(frame) => frame.code,
            Frame::Managed(_) => panic!("there is no runtime"),
        });
        (codes.collect(), walk)
    }

    /// The walk is the same from nothing and from what the first one found
    /// out: these frames, and this end.
    #[track_caller]
    fn walks(&mut self, expected: &[CodeAddress], end: End) -> Walk {
        let (codes, walk) = self.walk();
        assert_eq!((&codes[..], walk.end), (expected, end), "{walk:x?}");
        assert_eq!(self.walk(), (codes, walk));
        walk
    }
}

/// Code of the image, as the image counts: an instruction, or what a call
/// returns to.
fn at(offset: u64) -> CodeAddress {
    CodeAddress::Instruction(Address(TEXT + offset))
}

fn returning(offset: u64) -> CodeAddress {
    CodeAddress::Return(Address(TEXT + offset))
}

/// The same in the process.
const fn code(offset: u64) -> u64 {
    BASE + TEXT + offset
}

/// A function without rows of its own: as it is when it begins.
fn plain() -> (u64, bool, Vec<u8>) {
    (0x10, false, Vec::new())
}

/// A function that nobody called.
fn first(architecture: Architecture) -> (u64, bool, Vec<u8>) {
    let column = if architecture == X86 { RIP } else { 30 };
    (0x10, false, cfa::undefined(column))
}
