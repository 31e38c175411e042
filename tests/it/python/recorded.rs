//! Every version, recorded once, and read again: without the process, without
//! the right to trace one, and without that Python.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env, fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Once,
};

use spy::{
    memory::{Address, Fault, Memory, Piece},
    module::{AddressSpace, Modules, Place},
    process::LiveMemory,
    runtime::{Detail, Lock, Places, Runtime, Trace, python::Python, python::detect},
    sampler,
    snapshot::{Backing, Noted, Process, Recorded, Registers, Root, Thread, archive},
    stack::Variable,
    task::{Pid, State, Tid},
};

use super::stub;
use crate::{
    interpreters::{Interpreter, free_threaded, interpreter, interpreters},
    observer::run,
    replay::{RECORD, directory},
    target::{Target, threads, together, until},
};

/// The recordings: all are there, whatever the machine has.
const RECORDED: [&str; 13] = [
    "2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.13t", "3.14", "3.14d",
    "3.15",
];

/// The least that is recorded around what was read, in bytes: what a struct has
/// beside the fields that are read today.
const BLOCK: u64 = 256;

/// What is read in one piece of more bytes than this is a search through
/// variables, of which only what it finds is recorded.
const SEARCH: usize = 16 << 10;

/// A function, its file, and the line.
type Said = (String, String, Option<u32>);

/// The stacks of the threads of a program, by their names, innermost first.
type Stacks = BTreeMap<String, Vec<Said>>;

/// A thread, as it is read.
#[derive(Debug)]
struct Read {
    frames: Vec<Said>,
    locals: Vec<Vec<Variable>>,
    lock: Lock,
}

/// The thread that sees only the memory of its whole process.
fn nobody() -> Thread {
    let (name, registers) = (String::new(), Registers::unknown());
    Thread { tid: Tid(0), name, state: State::Running, registers, pieces: Vec::new() }
}

/// The interpreter of a recorded process.
fn find(process: &Process, memory: &dyn Memory) -> detect::Looked {
    let mut space = AddressSpace::new(process.mappings.clone(), process.root.clone());
    detect::look(&mut space, &mut Modules::default(), memory)
}

fn found(looked: detect::Looked) -> detect::Found {
    match looked {
        detect::Looked::Found(found) => *found,
        other => panic!("{other:?}"),
    }
}

fn read(python: &mut Python, thread: Tid, memory: &dyn Memory) -> Option<(String, Read)> {
    let mut trace = Trace::default();
    python.expect(thread, memory);
    python.trace(thread, memory, &mut trace).then_some(())?;
    assert_eq!(trace.cut, None, "{}", python.name());
    let managed = python.resolve(&trace, Places::Lines, memory);
    let frames = managed.segments.iter().flat_map(|segment| &segment.frames);
    let frames =
        frames.map(|frame| (frame.function.clone(), frame.file.clone(), frame.line)).collect();
    let detail = Detail { characters: 128, fields: true };
    let locals = python.locals(&trace, detail, memory);
    let name = python.thread_name(thread, memory)?;
    Some((name, Read { frames, locals, lock: trace.lock }))
}

/// Memory that is recorded as it is read.
struct Careful<'a> {
    noted: &'a Noted<'a>,
    all: &'a dyn Memory,
    /// What a search is for.
    wanted: RefCell<String>,
}

impl Memory for Careful<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        if into.len() <= SEARCH {
            return self.noted.read(at, into);
        }
        self.all.read(at, into)?;
        let wanted = self.wanted.borrow();
        let found = into.windows(wanted.len()).position(|text| text == wanted.as_bytes());
        if let Some(found) = found {
            let page = Address(at.plus(found as u64).0 & !0xfff);
            self.noted.read(page, &mut [0; 4096])?;
        }
        Ok(())
    }
}

/// Leave of `process` only what is needed to read its Python, with the files of
/// its images below `root`.
fn reduce(process: &mut Process, version: &str, root: &Path) {
    let whole = process.clone();
    let noted: Vec<_> = {
        let nobody = nobody();
        let all = Recorded::new(&whole, &nobody);
        let noted = Noted::new(&all, BLOCK);
        let wanted = RefCell::new(format!("{version} ("));
        let memory = Careful { noted: &noted, all: &all, wanted };
        let mut python = Python::new(found(find(&whole, &memory)));
        for thread in &mut process.threads {
            let own = Recorded::new(&whole, thread);
            let noted = Noted::new(&own, BLOCK);
            read(&mut python, thread.tid, &noted).unwrap();
            thread.pieces = noted.into_pieces();
        }
        noted.into_pieces()
    };
    process.pieces = noted;
    let mut space = AddressSpace::new(whole.mappings.clone(), whole.root.clone());
    let (mut modules, memory) = (Modules::default(), Piece::default());
    let pieces = || process.pieces.iter().chain(process.threads.iter().flat_map(|it| &it.pieces));
    let mut mappings = Vec::new();
    for mut mapping in whole.mappings {
        let mut stub = None;
        if let (true, Backing::File(path)) = (mapping.executable, &mapping.backing)
            && let Place::Module { module, .. } =
                space.find(mapping.range.start, &mut modules, &memory)
        {
            let name = Path::new("/usr/lib").join(path.file_name().unwrap());
            let path = root.join(name.strip_prefix("/").unwrap());
            stub = stub::write(&module, &path).then_some((name, path));
        }
        mapping.device = 0;
        if let Some((name, path)) = stub {
            mapping.inode = fs::metadata(path).unwrap().ino();
            mapping.backing = Backing::File(name);
        } else if pieces().any(|piece| mapping.range.contains(&piece.start)) {
            (mapping.executable, mapping.inode) = (false, 0);
            mapping.backing = Backing::Anonymous;
        } else {
            continue;
        }
        mappings.push(mapping);
    }
    process.mappings = mappings;
    process.root = Root { directory: root.to_owned(), map_files: None };
}

/// Write something else of the same length over every one of `paths`: nobody
/// is to learn where this machine has its files.
fn scrub(bytes: &mut [u8], paths: &[PathBuf]) {
    for path in paths {
        let text = path.to_str().unwrap();
        let wide = |text: &str| text.bytes().flat_map(|byte| [byte, 0, 0, 0]).collect();
        let other = format!("/{}", "x".repeat(text.len() - 1));
        let plain = (text.as_bytes().to_vec(), other.as_bytes().to_vec());
        for (text, other) in [plain, (wide(text), wide(&other))] {
            for at in 0..bytes.len().saturating_sub(text.len() - 1) {
                if bytes[at..].starts_with(&text) {
                    bytes[at..at + text.len()].copy_from_slice(&other);
                }
            }
        }
    }
}

fn record(interpreter: &Interpreter, name: &str) {
    let script = fs::canonicalize(env!("CARGO_MANIFEST_DIR")).unwrap().join("fixtures/python");
    let mut command = std::process::Command::new(&interpreter.program);
    command.arg("-B").arg(script.join("recorded.py"));
    // What is in the environment is nobody's business.
    command.env_clear().envs([("LC_ALL", "C.UTF-8"), ("PATH", "/usr/bin")]);
    let target = Target::run(command);
    let mut said = target.hear().into_bytes();
    until("the target waits", || {
        let is_asleep = |thread: &crate::target::Thread| {
            let call = format!("/proc/{}/task/{}/syscall", target.pid(), thread.tid);
            let call = fs::read_to_string(call).unwrap();
            let number = call.split(' ').next().unwrap();
            [libc::SYS_read.to_string(), libc::SYS_futex.to_string()].contains(&number.to_owned())
        };
        threads(target.pid()).iter().all(is_asleep).then_some(())
    });
    let process = sampler::capture(Pid(target.pid())).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut reduced = process.snapshot.clone();
    reduce(&mut reduced, &interpreter.full_version, scratch.path());

    let home = interpreter.program.parent().and_then(Path::parent).unwrap();
    let mut paths = vec![fs::canonicalize(home).unwrap(), home.to_owned(), script];
    paths.extend(env::current_dir());
    paths.extend(env::var_os("HOME").map(PathBuf::from).filter(|home| home != "/"));
    let pieces = reduced.threads.iter_mut().flat_map(|thread| &mut thread.pieces);
    for piece in pieces.chain(&mut reduced.pieces) {
        scrub(&mut piece.bytes, &paths);
    }
    scrub(&mut said, &paths);
    let directory = directory(&format!("python-{name}"));
    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    archive::write(&reduced, &directory).unwrap();
    fs::write(directory.join("said.json"), said).unwrap();
}

/// What a recorded program said of its own stacks.
fn said(name: &str) -> Stacks {
    let text = fs::read_to_string(directory(&format!("python-{name}")).join("said.json")).unwrap();
    serde_json::from_str::<BTreeMap<String, Vec<(String, String, u32)>>>(&text)
        .unwrap()
        .into_iter()
        .map(|(thread, frames)| {
            let known = |(function, file, line)| (function, file, Some(line));
            (thread, frames.into_iter().map(known).collect())
        })
        .collect()
}

fn recording(name: &str) -> Process {
    static RECORDED_NOW: Once = Once::new();
    if env::var_os(RECORD).is_some() {
        RECORDED_NOW.call_once(record_all);
    }
    archive::read(&directory(&format!("python-{name}"))).unwrap()
}

/// The values of the variables of `Shop.sell`, and what they are called.
fn values(read: &Read) -> BTreeMap<&str, &str> {
    let at = read.frames.iter().position(|(function, ..)| function.ends_with("sell")).unwrap();
    read.locals[at].iter().map(|it| (it.name.as_str(), it.value.as_str())).collect()
}

fn check(name: &str) {
    let process = recording(name);
    let nobody = nobody();
    let mut python = Python::new(found(find(&process, &Recorded::new(&process, &nobody))));
    let version = name.trim_end_matches(['t', 'd']);
    assert!(python.name().starts_with(&format!("CPython {version}.")), "{}", python.name());
    assert_eq!(python.name().ends_with('t'), name.ends_with('t'), "{}", python.name());
    assert_eq!(python.name().contains("(debug)"), name.ends_with('d'), "{}", python.name());
    let mut stacks = BTreeMap::new();
    for thread in &process.threads {
        let memory = Recorded::new(&process, thread);
        let (thread, read) = read(&mut python, thread.tid, &memory).unwrap();
        assert_eq!(read.lock, Lock::Without, "{name}: {thread}");
        if thread == "MainThread" {
            let values = values(&read);
            assert_eq!(values["many"], "3", "{name}");
            if version != "2.7" {
                assert_eq!(values["label"], "'Z\u{fc}rich \u{3a9} \u{1f40d}'", "{name}");
                assert_eq!(values["short"], "'\u{e9}t\u{e9}'", "{name}");
            }
            let fields = ["name='corner'", "shelves=[1, 2.5, None]"];
            assert!(fields.iter().all(|it| values["self"].contains(it)), "{name}: {values:?}");
        }
        stacks.insert(thread, read.frames);
    }
    assert_eq!(stacks, said(name), "{name}");
    assert_eq!(stacks.len(), 2, "{name}");
    assert!(python.notes().is_empty(), "{name}");
}

fn record_all() {
    let _together = together();
    let free = free_threaded();
    for interpreter in interpreters().iter().chain(&free) {
        let (major, minor) = interpreter.version;
        let flag = interpreter.name.trim_start_matches(|it| it != ' ');
        let flag = flag.trim_start_matches(|it: char| !it.is_alphabetic());
        if !interpreter.name.starts_with("system") {
            record(interpreter, &format!("{major}.{minor}{flag}"));
        }
    }
}

#[test]
fn every_recorded_version_is_read_as_it_was() {
    RECORDED.into_iter().for_each(check);
}

/// Change the words at the beginning of `_PyRuntime`, from the one with that
/// number on, and look again.
fn damaged(name: &str, first: usize, words: &[u64]) -> detect::Looked {
    let mut process = recording(name);
    let nobody = nobody();
    let found = found(find(&process, &Recorded::new(&process, &nobody)));
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let at = found.runtime.plus(8 * first as u64);
    let holds = |piece: &&mut Piece| piece.slice(at, bytes.len()).is_some();
    let pieces: Vec<_> = process.pieces.iter_mut().filter(holds).collect();
    assert!(!pieces.is_empty(), "{name}");
    for piece in pieces {
        let from = usize::try_from(at.0 - piece.start.0).unwrap();
        piece.bytes[from..from + bytes.len()].copy_from_slice(&bytes);
    }
    find(&process, &Recorded::new(&process, &nobody))
}

#[test]
fn a_version_to_come_is_tried_as_the_newest() {
    let found = found(damaged("3.15", 1, &[0x0310_00f0]));
    assert_eq!(found.name, "CPython 3.16.0");
    let [note] = &found.notes[..] else { panic!("{:?}", found.notes) };
    assert!(note.contains("newer") && note.contains("3.15"), "{note}");
}

#[test]
fn what_cannot_be_read_is_told_with_its_reason() {
    let none = u64::MAX;
    for (name, first, words, reason) in [
        ("3.13", 2, &[2][..], "makes no sense"),
        ("3.13t", 2, &[2], "makes no sense"),
        ("3.14", 3, &[none; 8], "makes no sense"),
        // Where it begins, instead of its first interpreter.
        ("3.15", 5, &[0], "is not where it should be"),
    ] {
        let looked = damaged(name, first, words);
        let detect::Looked::Unreadable(why) = looked else { panic!("{name}: {looked:?}") };
        assert!(why.contains(reason) && why.contains("CPython 3.1"), "{name}: {why}");
    }
}

/// Nor is that an error: the process is profiled without its language.
#[test]
fn a_python_that_cannot_be_read_is_profiled_natively() {
    let _together = together();
    let Some(interpreter) = interpreter((3, 13)) else { return };
    let target = Target::run(interpreter.command("../python/recorded.py"));
    let pid = Pid(target.pid());
    let process = spy::process::Process::open(pid).unwrap();
    let mut space = AddressSpace::new(process.mappings().unwrap(), process.root());
    let memory = LiveMemory::new(pid);
    let looked = detect::look(&mut space, &mut Modules::default(), &memory);
    let runtime = found(looked).runtime;
    // Python itself never reads what it publishes.
    let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{}/mem", target.pid()));
    memory.unwrap().write_all_at(&[0; 64], runtime.0).unwrap();

    let reason = "does not say how it is laid out, so only native frames are shown";
    let told = run(&["dump", "-p", &target.number()]).expect(0);
    assert_eq!(told.stdout.matches(reason).count(), 1, "{told:#?}");
    assert!(told.stdout.contains("os_read") && !told.stdout.contains("recorded.py:"), "{told:#?}");
    let record = ["record", "--wall", "-d", "500ms", "-f", "raw", "-o", "-", "-p"];
    let told = run(&[&record[..], &[&target.number()]].concat()).expect(0);
    assert_eq!(told.stderr.matches(reason).count(), 1, "{told:#?}");
    assert!(told.stdout.contains("os_read") && !told.stdout.contains("recorded.py:"), "{told:#?}");
}
