//! Every library that lies beside this process's C library.

use std::{collections::BTreeSet, fs, path::PathBuf};

use object::{Object, ObjectSection};

use super::live::Live;
use crate::{
    module::{file::FileBytes, image::Image},
    snapshot::Backing,
};

pub(super) fn libraries() -> BTreeSet<PathBuf> {
    let mappings = Live::new("self").mappings();
    let libc = mappings.iter().find_map(|mapping| match &mapping.backing {
        Backing::File(path) if path.ends_with("libc.so.6") => path.parent(),
        _ => None,
    });
    let entries = fs::read_dir(libc.unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.filter(|path| path.to_string_lossy().contains(".so"));
    named.filter_map(|path| path.canonicalize().ok()).collect()
}

#[test]
fn program_headers_and_section_headers_agree() {
    let mut seen = 0;
    for path in libraries() {
        let Ok(file) = FileBytes::open(&path) else { continue };
        // Linker scripts are called `.so`, too.
        let Some(image) = Image::from_file(file) else { continue };
        seen += 1;
        for name in [".eh_frame", ".eh_frame_hdr", ".dynsym", ".dynstr", ".dynamic"] {
            let Some(by_header) = image.section(name) else { continue };
            // A terminator alone is all that a library without functions has.
            if by_header.bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            let by_segment = image.by_segment(name);
            let by_segment = by_segment.unwrap_or_else(|| panic!("{path:?}: no {name}"));
            assert_eq!(by_segment.address, by_header.address, "{path:?}: {name}");
            let (found, all) = (by_segment.bytes, by_header.bytes);
            // The terminator of the unwind data is none of its entries.
            let rest = if name == ".eh_frame" { all.get(found.len()..).unwrap() } else { &[] };
            assert_eq!(rest.iter().filter(|&&byte| byte != 0).count(), 0, "{path:?}");
            assert!(all.starts_with(found), "{path:?}: {name}");
            assert_eq!(found.len() + rest.len(), all.len(), "{path:?}: {name}");
        }
    }
    assert!(seen > 5, "only {seen} libraries");
}

#[test]
fn sections_and_build_ids_are_those_that_another_reader_finds() {
    for path in libraries() {
        let Ok(bytes) = fs::read(&path) else { continue };
        let Some(image) = Image::from_file(bytes.clone().into()) else { continue };
        let file = object::File::parse(&bytes[..]).unwrap();
        assert_eq!(image.build_id(), file.build_id().unwrap(), "{path:?}");
        for section in file.sections() {
            let name = section.name().unwrap();
            let twin = file.section_by_name(name).unwrap();
            let theirs = (twin.address(), twin.uncompressed_data().unwrap());
            let ours = image
                .section(name)
                .map_or((twin.address(), &[][..]), |section| (section.address, section.bytes));
            assert!(ours == (theirs.0, &theirs.1), "{path:?}: {name}");
        }
    }
}
