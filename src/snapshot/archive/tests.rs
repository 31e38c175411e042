use std::{ffi::OsStr, os::unix::ffi::OsStrExt, os::unix::fs::symlink};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    memory::{Address, Piece},
    snapshot::{Register, Registers, Thread, maps},
    task::{Pid, State, Syscall, Tid},
};

/// A process with one of everything, whose files lie below `root`.
fn example(root: &Path) -> Process {
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    fs::write(root.join("usr/lib/a b.so"), b"\x7fELF and more").unwrap();
    fs::write(root.join("usr/lib/script"), b"#!/bin/sh").unwrap();
    let mut mappings = maps::parse(
        b"1000-2000 r-xp 1000 fd:01 7 /usr/lib/a b.so\n\
          2000-3000 r--p 2000 fd:01 7 /usr/lib/a b.so\n\
          3000-4000 r-xp 0 fd:01 8 /usr/lib/script\n\
          4000-5000 r-xp 0 fd:01 9 /usr/lib/none\n\
          5000-6000 r-xp 0 fd:01 10 /gone (deleted)\n\
          6000-7000 r-xp 0 00:00 0 [vdso]\n\
          7000-8000 rw-p 0 00:00 0 [stack]\n\
          fffffffffffff000-ffffffffffffffff --xp 0 00:00 0 [vsyscall]\n",
    );
    mappings[0].inode = fs::metadata(root.join("usr/lib/a b.so")).unwrap().ino();
    mappings[4].backing = Backing::Deleted(OsStr::from_bytes(b"/g\xffne\n").into());
    let mut registers = Registers::unknown();
    registers.set(Register(7), 0x7ff0);
    registers.set(Register(16), u64::MAX);
    let piece = |start, bytes: &[u8]| Piece { start: Address(start), bytes: bytes.to_vec() };
    let thread = |tid, state| Thread {
        tid: Tid(tid),
        name: "a \x1b[31mname\0".into(),
        state,
        registers,
        pieces: vec![piece(0x7ff0, &[0, 255, 10]), piece(u64::MAX, &[])],
    };
    Process {
        pid: Pid(41),
        mappings,
        root: Root { directory: root.to_owned(), map_files: None },
        threads: vec![
            thread(41, State::Blocked(Syscall(232))),
            thread(42, State::Running),
            thread(43, State::Queued),
            thread(44, State::Faulting),
            thread(45, State::Halted),
        ],
        pieces: vec![piece(0x6000, b"vdso")],
    }
}

fn archive() -> (TempDir, PathBuf) {
    let scratch = TempDir::new().unwrap();
    let directory = scratch.path().join("archive");
    write(&example(&scratch.path().join("target")), &directory).unwrap();
    (scratch, directory)
}

/// Change the text of a good archive, and read it.
fn read_changed(change: impl FnOnce(&mut Value)) -> Result<Process, Error> {
    let (_scratch, directory) = archive();
    let path = directory.join("process.json");
    let mut text = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut text);
    fs::write(&path, text.to_string()).unwrap();
    read(&directory)
}

#[test]
fn what_was_written_is_read() {
    let scratch = TempDir::new().unwrap();
    let directory = scratch.path().join("new/archive");
    let mut process = example(&scratch.path().join("target"));
    let written = write(&process, &directory).unwrap();
    let left_out = vec!["/usr/lib/none".into(), "/usr/lib/script".into()];
    assert_eq!(written, Written { files: 1, left_out });

    let copy = directory.join("root/usr/lib/a b.so");
    assert_eq!(fs::read(&copy).unwrap(), b"\x7fELF and more");
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);

    process.root.directory = directory.join("root");
    assert_eq!(read(&directory).unwrap(), process);
}

#[test]
fn a_file_that_was_replaced_is_left_out() {
    let scratch = TempDir::new().unwrap();
    let mut process = example(&scratch.path().join("target"));
    process.mappings[0].inode += 1;
    let written = write(&process, &scratch.path().join("archive")).unwrap();
    assert_eq!((written.files, written.left_out.len()), (0, 3));
}

#[test]
fn nothing_is_written_over() {
    let scratch = TempDir::new().unwrap();
    let process = example(&scratch.path().join("target"));
    assert!(matches!(write(&process, scratch.path()), Err(Error::NotEmpty(_))));
}

#[test]
fn a_path_that_leads_out_is_refused() {
    for path in ["/../x", "/usr/../../x", "x", "/", "", "../x"] {
        for kind in ["file", "deleted"] {
            let result = read_changed(|text| {
                text["mappings"][0].as_object_mut().unwrap().remove("file");
                text["mappings"][0][kind] = path.into();
            });
            assert!(matches!(result, Err(Error::Escapes(_))), "{kind} {path}: {result:?}");
        }
    }
}

#[test]
fn no_symbolic_link_is_followed() {
    for link in ["root/usr/lib/a b.so", "root/usr/lib", "root/usr", "memory/0", "memory"] {
        let (scratch, directory) = archive();
        let elsewhere = scratch.path().join("elsewhere");
        fs::rename(directory.join(link), &elsewhere).unwrap();
        symlink(&elsewhere, directory.join(link)).unwrap();
        let result = read(&directory);
        assert!(matches!(result, Err(Error::Escapes(_))), "{link}: {result:?}");
    }
}

#[test]
fn damage_is_an_error() {
    let numbers = [json!(null), json!(-1), json!("0x"), json!("0x10000000000000000"), json!("7")];
    for member in ["start", "end", "offset", "device", "inode", "readable", "executable"] {
        for value in &numbers {
            let result = read_changed(|text| text["mappings"][0][member] = value.clone());
            assert!(matches!(result, Err(Error::Malformed(key)) if key == member), "{member}");
        }
    }
    for member in ["tid", "name", "state", "syscall", "registers", "pieces"] {
        for value in [json!(null), json!([7]), json!({"7": 7}), json!(1e99), json!("\u{0}")] {
            let result = read_changed(|text| text["threads"][0][member] = value.clone());
            let fine = member == "name" && value.is_string();
            assert_eq!(result.is_ok(), fine, "{member}: {value}");
        }
    }
    for member in ["format", "architecture", "pid", "mappings", "threads", "pieces"] {
        let result = read_changed(|text| drop(text.as_object_mut().unwrap().remove(member)));
        assert!(result.is_err(), "{member}");
    }
    assert!(read_changed(|text| *text = json!([])).is_err());
    assert!(read_changed(|text| text["mappings"][1]["start"] = "0x1fff".into()).is_err());
    assert!(read_changed(|text| text["pieces"][0]["file"] = 99.into()).is_err());
}

#[test]
fn what_is_no_json_is_an_error() {
    let (_scratch, directory) = archive();
    for text in ["", "{", "\u{0}", &"[".repeat(1 << 20)] {
        fs::write(directory.join("process.json"), text).unwrap();
        assert!(matches!(read(&directory), Err(Error::NoJson { .. })));
    }
}

#[test]
fn more_than_fits_is_not_read() {
    let (_scratch, directory) = archive();
    // Sparse files: they take no room.
    File::options()
        .write(true)
        .open(directory.join("memory/0"))
        .unwrap()
        .set_len(MAX_MEMORY + 1)
        .unwrap();
    let found = read_plain(&directory, "memory/0".as_ref(), 100);
    assert!(matches!(found, Err(Error::TooLarge { limit: 100, .. })));
    File::options()
        .write(true)
        .open(directory.join("process.json"))
        .unwrap()
        .set_len(MAX_TEXT + 1)
        .unwrap();
    assert!(matches!(read(&directory), Err(Error::TooLarge { limit: MAX_TEXT, .. })));
}
