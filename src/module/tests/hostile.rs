//! Files and memory that somebody made to harm the reader.

use std::fs;

use super::{files::libraries, live::Live};
use crate::{
    memory::{Address, Memory, Piece},
    module::{AddressSpace, Modules, Place, image::Image},
    snapshot::{Backing, Mapping, Root},
};

/// Ask an image everything.
fn ask(image: &Image) -> usize {
    let names = [
        ".eh_frame",
        ".eh_frame_hdr",
        ".debug_frame",
        ".debug_info",
        ".debug_line",
        ".text",
        ".got",
        ".dynamic",
        ".dynsym",
        ".dynstr",
        ".symtab",
        ".shstrtab",
        ".bss",
        ".note.gnu.build-id",
        "",
    ];
    let sections = names.iter().flat_map(|name| [image.section(name), image.by_segment(name)]);
    let mut total: usize = sections.flatten().map(|section| section.bytes.len()).sum();
    total += image.build_id().map_or(0, <[u8]>::len);
    total += usize::from(image.got_address().is_some());
    for address in [0, 1, 0x1000, image.header().entry, u64::MAX] {
        total += image.loaded(address, 16).map_or(0, <[u8]>::len);
        total += image.loaded(address, usize::MAX).map_or(0, <[u8]>::len);
    }
    total
}

/// Bytes of a small image, changed in one of many ways.
fn mutate(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // Mostly where the headers are: at the start, and at the end.
    let places = [64, 64 + 56 * 12, bytes.len()];
    for _ in 0..random.usize(1..5) {
        let below = places[random.usize(..3)];
        let at = random.usize(..below);
        let at = if random.u8(..4) == 0 { bytes.len() - 1 - at } else { at };
        let value: u64 =
            *random.choice([0, 1, 0xff, 1 << 31, u64::MAX, 0x1000, 24].iter()).unwrap();
        match random.u8(..3) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = random.u8(..),
            _ => {
                let place = bytes.iter_mut().skip(at & !7).take(1 << random.u8(..4));
                place.zip(value.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    if random.u8(..4) == 0 {
        bytes.truncate(random.usize(..bytes.len()));
    }
    bytes
}

/// The vdso: a whole image of a few pages.
fn small_image() -> Vec<u8> {
    let live = Live::new("self");
    let vdso = live.mappings().into_iter().find(|mapping| mapping.backing == Backing::Vdso);
    let range = vdso.unwrap().range;
    let mut bytes = vec![0; usize::try_from(range.end.0 - range.start.0).unwrap()];
    live.read(range.start, &mut bytes).unwrap();
    bytes
}

/// The smallest library that has unwind data.
fn small_library() -> Vec<u8> {
    let files = libraries().into_iter().filter_map(|path| fs::read(path).ok());
    let fits = |file: &Vec<u8>| {
        let image = Image::from_file(file.clone().into());
        image.is_some_and(|image| image.by_segment(".eh_frame").is_some())
    };
    files.filter(fits).min_by_key(Vec::len).unwrap()
}

#[test]
fn damaged_files_are_survived() {
    let mut random = fastrand::Rng::with_seed(1);
    for whole in [small_image(), small_library()] {
        let mut opened = 0;
        for _ in 0..10_000 {
            let bytes = mutate(&whole, &mut random);
            let Some(image) = Image::from_file(bytes.into()) else { continue };
            opened += usize::from(ask(&image) > 0);
        }
        assert!(opened > 1000, "only {opened} were not refused at once");
    }
}

#[test]
fn every_length_of_a_file_is_survived() {
    let whole = small_image();
    let opened = (0..whole.len()).filter(|&len| {
        Image::from_file(whole[..len].to_vec().into()).is_some_and(|image| ask(&image) > 0)
    });
    assert!(opened.count() > 0);
}

/// An address space of one file that cannot be opened, at `start`, in two
/// mappings: its headers, and all of it as code.
fn unopenable(start: Address, len: u64) -> AddressSpace {
    let file = Mapping {
        range: start..start.plus(64),
        offset: 0,
        readable: true,
        executable: false,
        device: 1,
        inode: 2,
        backing: Backing::Deleted("/lib/gone.so".into()),
    };
    let code = Mapping {
        range: start.plus(64)..start.plus(len),
        offset: 64,
        executable: true,
        ..file.clone()
    };
    let nowhere = std::path::PathBuf::from("/proc/self/nowhere");
    AddressSpace::new(
        vec![code, file],
        Root { directory: nowhere.clone(), map_files: Some(nowhere) },
    )
}

#[test]
fn damaged_images_in_memory_are_survived() {
    let whole = small_image();
    let mut random = fastrand::Rng::with_seed(2);
    let mut found = 0;
    for start in [0x7f00_0000_0000, 0x1000, u64::MAX - 0xffff] {
        for _ in 0..300 {
            let bytes = mutate(&whole, &mut random);
            let memory = Piece { start: Address(start), bytes };
            let mut space = unopenable(Address(start), whole.len() as u64);
            let mut modules = Modules::default();
            let place = space.find(Address(start + 64), &mut modules, &memory);
            if let Place::Module { module, .. } = place {
                found += usize::from(ask(module.image()) > 0);
            }
        }
    }
    assert!(found > 100, "only {found} were not refused at once");
}

#[test]
fn a_file_that_is_no_image_is_code_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(directory.path().join("app.apk"), b"PK\x03\x04").unwrap();
    fs::write(directory.path().join("empty"), b"").unwrap();
    fs::write(directory.path().join("start"), b"\x7fELF").unwrap();
    for name in ["fifo", "app.apk", "empty", "start", "missing", "../../../etc/passwd", "."] {
        let mapping = Mapping {
            range: Address(0x1000)..Address(0x2000),
            offset: 0x4000,
            readable: true,
            executable: true,
            device: 1,
            inode: 2,
            backing: Backing::File(format!("/{name}").into()),
        };
        let root = Root { directory: directory.path().to_owned(), map_files: None };
        let mut space = AddressSpace::new(vec![mapping], root);
        let place = space.find(Address(0x1800), &mut Modules::default(), &Piece::default());
        assert!(matches!(place, Place::Anonymous), "{name}: {place:?}");
    }
}

#[test]
fn mappings_that_overlap_or_end_before_they_start_are_survived() {
    let mapping = |start, end| Mapping {
        range: Address(start)..Address(end),
        offset: u64::MAX,
        readable: true,
        executable: true,
        device: 0,
        inode: 0,
        backing: Backing::Vdso,
    };
    let ranges = [(0, u64::MAX), (5, 3), (4, 9), (4, 4), (u64::MAX, 0), (0x1000, 0x3000)];
    let mappings = ranges.map(|(start, end)| mapping(start, end)).to_vec();
    let root = Root { directory: "/proc/self/nowhere".into(), map_files: None };
    let mut space = AddressSpace::new(mappings.clone(), root);
    let mut modules = Modules::default();
    for at in [0, 3, 4, 5, 0x1000, 0x2fff, u64::MAX] {
        let place = space.find(Address(at), &mut modules, &Piece::default());
        assert!(!matches!(place, Place::Module { .. }));
    }
    space.update(mappings);
    assert!(modules.iter().next().is_none());
}
