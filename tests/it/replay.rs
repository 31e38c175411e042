//! Recorded processes, unwound again: without them, and without ptrace.

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use spy::{
    memory::{Memory, Piece},
    module::Modules,
    sampler,
    snapshot::{Backing, Mapping, Process, Recorded, archive},
    stack::{End, Frame},
    symbolize::Symbolizer,
    task::Pid,
    unwind::{Tables, Unwinder},
};

use crate::{
    golden,
    oracle::Live,
    target::{Target, build, together},
};

/// Set it to have the processes recorded again.
pub(crate) const RECORD: &str = "SPY_RECORD_SNAPSHOTS";

/// The names of the recordings in `tests/snapshots`, and whether the program's
/// file was gone when it was recorded.
const RECORDINGS: [(&str, bool); 2] = [("tiny", false), ("tiny-deleted", true)];

pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name)
}

/// Where the program lies when it is recorded: a path that tells nothing.
const PROGRAM: &str = "/tmp/tiny";

/// More than the program has.
const MAX_DATA: u64 = 100 << 10;

fn record(name: &str, delete: bool) {
    let flags = ["-g0", "-O2", "-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector"];
    let link = "-Wl,--build-id=none,--eh-frame-hdr,-z,noseparate-code";
    let built = build("tiny.c", &[&flags[..], &[link]].concat());
    fs::copy(built, PROGRAM).unwrap();
    let mut command = Command::new(PROGRAM);
    // A stack holds the environment, too.
    command.env_clear();
    let target = Target::run(command);
    if delete {
        fs::remove_file(PROGRAM).unwrap();
    }
    let mut captured = sampler::capture(Pid(target.pid())).unwrap();
    let snapshot = &mut captured.snapshot;
    // The kernel's code for programs, which this one does not call, would tell
    // whose kernel it was.
    let vdso = snapshot.mappings.iter().find(|mapping| mapping.backing == Backing::Vdso);
    let vdso = vdso.map(|mapping| mapping.range.start);
    snapshot.mappings.retain(|mapping| mapping.backing != Backing::Vdso);
    snapshot.pieces.retain(|piece| Some(piece.start) != vdso);
    // Its threads have their stacks in its own data, and one has two of them.
    let is_data = |mapping: &&Mapping| {
        let len = mapping.range.end.0 - mapping.range.start.0;
        mapping.backing == Backing::Anonymous && mapping.readable && len < MAX_DATA
    };
    for mapping in snapshot.mappings.iter().filter(is_data) {
        let len = mapping.range.end.0 - mapping.range.start.0;
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        let start = mapping.range.start;
        if Live(target.pid()).read(start, &mut bytes).is_ok() {
            snapshot.pieces.push(Piece { start, bytes });
        }
    }
    let directory = directory(name);
    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    archive::write(&captured.snapshot, &directory).unwrap();
}

/// The stacks of a recording, as text.
fn stacks(process: &Process, tables: Tables) -> String {
    let mut unwinder = Unwinder::new(process.mappings.clone(), process.root.clone(), tables);
    let mut symbolizer = Symbolizer::new(PathBuf::from("/nowhere"));
    let (mut modules, mut text) = (Modules::default(), String::new());
    for thread in &process.threads {
        let memory = Recorded::new(process, thread);
        let mut frames = Vec::new();
        let walk = unwinder.unwind(&mut modules, &thread.registers, &memory, &mut frames);
        writeln!(text, "{} {:?}", thread.name, thread.state).unwrap();
        for frame in &frames {
            let Frame::Native(frame) = frame else { unreachable!("nobody makes one here") };
            let at = frame.code.address();
            match frame.module.and_then(|id| modules.get(id)) {
                Some(module) => {
                    let named = symbolizer.image(module, frame.code);
                    writeln!(text, "  {}+{at} {}", module.name(), named[0].function).unwrap();
                }
                // Where the kernel put it is another place each time.
                None => writeln!(text, "  JIT").unwrap(),
            }
        }
        writeln!(text, "  {}", walk.end).unwrap();
    }
    text
}

#[test]
fn recorded_processes_unwind_as_they_did() {
    for (name, delete) in RECORDINGS {
        if env::var_os(RECORD).is_some() {
            record(name, delete);
        }
        let process = archive::read(&directory(name)).unwrap();
        let found = stacks(&process, Tables::Now);
        assert_eq!(found, stacks(&process, Tables::Never), "{name}");
        golden::check(&format!("stacks-{name}.txt"), &found);
    }
}

/// Also of the threads that are on one stack and came from another.
#[test]
fn what_is_captured_suffices() {
    let _together = together();
    let target = Target::start("shapes.c", &["-O2"], &[]);
    let captured = sampler::capture(Pid(target.pid())).unwrap();
    let process = &captured.snapshot;
    let mappings = process.mappings.clone();
    let mut unwinder = Unwinder::new(mappings, process.root.clone(), Tables::Never);
    let mut modules = Modules::default();
    let mut switched = 0;
    for thread in &process.threads {
        let memory = Recorded::new(process, thread);
        let walk = unwinder.unwind(&mut modules, &thread.registers, &memory, &mut Vec::new());
        assert_eq!((walk.end, walk.fault), (End::Root, None), "{}", thread.name);
        switched += usize::from(thread.pieces.len() > 1);
    }
    assert!(switched > 0, "nothing lay beside a copied stack");
}
