//! What each fuzz target does with its input. `tests/it/seeds.rs` does the
//! same with the seeds.

#![allow(dead_code, reason = "each target takes one of them")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use spy::{
    memory::{Address, Memory, Piece},
    module::{AddressSpace, Module, Modules, Place},
    snapshot::{Backing, Mapping, Root, archive, maps},
    stack::CodeAddress,
    symbolize::{PerfMap, Symbolizer},
    task::Pid,
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

fn mapped(bytes: &[u8], backing: Backing) -> (Mapping, impl Memory + use<>) {
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
