//! Every interpreter of the machine is found in a process that runs it, with
//! all its threads, however its files are called and wherever they are.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use spy::{
    memory::Address,
    module::{AddressSpace, Modules},
    process::{LiveMemory, Process},
    runtime::{
        Detected, Lock,
        python::{
            detect::{self, Found},
            threads::Threads,
        },
    },
    snapshot::Root,
    task::{Pid, Tid},
};

use super::dumped::{self, dump};
use crate::{
    interpreters::{Interpreter, fixture, interpreter, interpreters},
    target::{self, Target, together},
};

/// A target, and what is needed to look into it.
pub(super) struct Live {
    target: Target,
    pub(super) memory: LiveMemory,
    root: Option<Root>,
}

impl Live {
    /// Start a target that says when it is ready.
    pub(super) fn start(command: Command) -> Self {
        let target = Target::run(command);
        let memory = LiveMemory::new(Pid(target.pid()));
        Self { target, memory, root: None }
    }

    /// As it is where its files cannot be had.
    fn without_files(mut self) -> Self {
        let nowhere = Root { directory: "/proc/self/fdinfo".into(), map_files: None };
        self.root = Some(nowhere);
        self
    }

    pub(super) fn find(&self) -> Option<Found> {
        let process = Process::open(Pid(self.target.pid())).unwrap();
        let root = self.root.clone().unwrap_or_else(|| process.root());
        let mut space = AddressSpace::new(process.mappings().unwrap(), root);
        match detect::look(&mut space, &mut Modules::default(), &self.memory) {
            Detected::Found(found) => Some(*found),
            Detected::Unreadable(_) | Detected::Nothing => None,
        }
    }

    /// The kernel's numbers of its threads.
    fn numbers(&self) -> Vec<Tid> {
        let mut numbers: Vec<_> =
            target::threads(self.target.pid()).iter().map(|thread| Tid(thread.tid)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Check that the interpreter is found, and all that it has threads.
    fn check(&self, name: &str, version: &str) -> Found {
        let found = self.find().unwrap_or_else(|| panic!("{name}: not found"));
        assert!(found.name.starts_with(&format!("CPython {version}")), "{name}: {}", found.name);
        let mut threads = Threads::new(&found);
        for number in self.numbers() {
            let state = threads.state(number, &self.memory);
            let state = state.unwrap_or_else(|| panic!("{name}: {number:?} has no state"));
            assert_eq!(threads.others(number, state).count(), 0, "{name}");
            assert!(threads.interpreter(state, &self.memory).is_some(), "{name}");
            // They wait in system calls, and let go of the lock for that.
            assert_eq!(threads.lock(state, &self.memory), Lock::Without, "{name}");
            assert!(!threads.is_collecting(state, &self.memory), "{name}");
        }
        assert_eq!(threads.state(Tid(i32::MAX), &self.memory), None, "{name}");
        assert_eq!(threads.notes(), Vec::<String>::new(), "{name}");
        found
    }

    /// Check that `spy` itself shows the functions of `sleepers.py`.
    fn is_shown(&self, name: &str, version: &str) {
        let process = dump(self.target.pid(), &["--no-native"]);
        let runtime = process["runtime"].as_str().unwrap_or_default();
        assert!(runtime.starts_with(&format!("CPython {version}")), "{name}: {process:#}");
        let functions: Vec<_> = dumped::threads(&process).iter().map(dumped::managed).collect();
        let waiting = functions.iter().filter(|functions| functions[0] == "wait").count();
        let main = functions.iter().filter(|functions| functions[..] == ["<module>"]).count();
        assert_eq!((waiting, main, functions.len()), (3, 1, 4), "{name}: {process:#}");
    }
}

#[test]
fn every_interpreter_is_found_with_all_its_threads() {
    let _together = together();
    for interpreter in interpreters() {
        let name = &interpreter.name;
        let live = Live::start(interpreter.command("sleepers.py"));
        let found = live.check(name, &interpreter.full_version);
        assert_eq!(found.version.to_string(), interpreter.full_version, "{name}");
        assert_eq!(found.name.ends_with(" (debug)"), interpreter.debug, "{name}: {}", found.name);
        assert_eq!(found.notes, Vec::<String>::new(), "{name}");
        // The same, from what is mapped alone: as where its files cannot be had.
        live.without_files().check(name, &interpreter.full_version);
    }
}

/// Say who holds the lock: one thread that runs, and others that wait for it.
#[test]
fn the_thread_that_runs_has_the_lock() {
    let _together = together();
    for interpreter in interpreters() {
        let live = Live::start(interpreter.command("spinners.py"));
        let found = live.find().unwrap();
        let mut threads = Threads::new(&found);
        let states = live.numbers().into_iter().filter_map(|it| threads.state(it, &live.memory));
        let all: Vec<_> = states.collect();
        assert_eq!(all.len(), 3, "{}", interpreter.name);
        let mut held = 0;
        for _ in 0..2000 {
            let with_lock = |&&state: &&Address| threads.lock(state, &live.memory) == Lock::Held;
            held += all.iter().filter(with_lock).count();
        }
        // Most looks meet one holder; a few meet a switch, or none.
        assert!((1000..=3000).contains(&held), "{}: {held}", interpreter.name);
        let ranges: Vec<_> =
            all.iter().map(|&state| threads.lock_memory(state, &live.memory)).collect();
        let first = ranges[0].clone();
        assert!(ranges.iter().all(|range| *range == first), "{}", interpreter.name);
        assert!(first.is_some(), "{}", interpreter.name);
    }
}

/// A folder of a test's own, and copies in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A copy of a file, changed by `change`.
    fn copy(&self, from: &Path, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, change(fs::read(from).unwrap())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

fn run(program: impl AsRef<Path>, arguments: &[&str]) {
    let mut command = Command::new(program.as_ref());
    let status = command.args(arguments).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// The library that an interpreter of pyenv's is in.
fn library(interpreter: &Interpreter) -> Option<PathBuf> {
    let folder = interpreter.program.parent()?.parent()?.join("lib");
    let (major, minor) = interpreter.version;
    let name = format!("libpython{major}.{minor}");
    let entries = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut entries = entries.filter(|path| {
        let file = path.file_name().and_then(|name| name.to_str());
        file.is_some_and(|file| file.starts_with(&name) && file.ends_with(".so.1.0"))
    });
    entries.next()
}

/// Interpreters of pyenv's that lie in libraries, and those.
fn with_library() -> Vec<(&'static Interpreter, PathBuf)> {
    let of_pyenv = interpreters().iter().filter(|found| found.name.starts_with("pyenv"));
    of_pyenv.filter_map(|interpreter| Some((interpreter, library(interpreter)?))).collect()
}

/// The interpreter with a library of a folder's in place of its own.
fn with(folder: &Folder, interpreter: &Interpreter) -> Command {
    let mut command = interpreter.command("sleepers.py");
    command.env("LD_LIBRARY_PATH", folder.0.path());
    command
}

#[test]
fn stripped_libraries_are_searched() {
    let _together = together();
    let all = with_library();
    // Those of which what is not exported matters.
    let old = |found: &&(&Interpreter, PathBuf)| found.0.version < (3, 7);
    for (interpreter, library) in all.iter().filter(old) {
        let folder = Folder::new();
        let name = library.file_name().unwrap().to_str().unwrap();
        let copy = folder.copy(library, name, |bytes| bytes);
        run("strip", &[copy.to_str().unwrap()]);
        let live = Live::start(with(&folder, interpreter));
        live.check(&interpreter.name, &interpreter.full_version);
        live.is_shown(&interpreter.name, &interpreter.full_version);
    }
}

/// Link `embed.c` with the interpreter itself in it, and without any symbol:
/// all that is left are its variables.
fn embedded_without_names(interpreter: &Interpreter, folder: &Folder) -> Option<PathBuf> {
    let (library, headers) = (archive(interpreter)?, interpreter.headers.as_ref()?);
    let program = folder.0.path().join("accounts");
    let include = format!("-I{}", headers.display());
    let source = fixture("embed.c");
    let [source, library, output] = [&source, &library, &program].map(|path| path.to_str());
    let (source, library, output) = (source?, library?, output?);
    let rest = ["-lpthread", "-ldl", "-lutil", "-lm", "-s"];
    run("cc", &[&["-w", &include, "-o", output, source, library], &rest[..]].concat());
    Some(program)
}

/// The archive of a whole interpreter, beside its library.
fn archive(interpreter: &Interpreter) -> Option<PathBuf> {
    let (major, minor) = interpreter.version;
    let home = interpreter.program.parent()?.parent()?;
    let folder = home.join(format!("lib/python{major}.{minor}"));
    let entries = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files = entries.filter_map(|config| {
        let name = config.file_name()?.to_str()?.starts_with("config-").then_some(config)?;
        let file = fs::read_dir(name).ok()?.filter_map(|file| Some(file.ok()?.path()));
        file.into_iter().find(|file| file.extension().is_some_and(|end| end == "a"))
    });
    files.next()
}

#[test]
fn interpreters_without_names_are_searched() {
    let _together = together();
    let mut searched = 0;
    // The modules of older ones bring the library with them, and a second
    // interpreter with it.
    let all = with_library().into_iter().map(|(found, _)| found);
    let all: Vec<_> = all.filter(|found| found.version >= (3, 8)).collect();
    for interpreter in &all {
        let folder = Folder::new();
        let Some(program) = embedded_without_names(interpreter, &folder) else {
            eprintln!("skipped: {} without names: it has no archive", interpreter.name);
            continue;
        };
        let mut command = Command::new(program);
        command.arg(fixture("sleepers.py"));
        let live = Live::start(command);
        live.check(&interpreter.name, &interpreter.full_version);
        live.is_shown(&interpreter.name, &interpreter.full_version);
        searched += 1;
    }
    assert!(searched > 0 || all.is_empty());
}

#[test]
fn programs_under_other_names_are_found_though_deleted() {
    let _together = together();
    for version in [(3, 11), (3, 15)] {
        let Some(interpreter) = interpreter(version) else { continue };
        let folder = Folder::new();
        let copy = folder.copy(&interpreter.program, "ledgerd", |bytes| bytes);
        let home = interpreter.program.parent().unwrap().parent().unwrap();
        let mut command = Command::new(&copy);
        command.arg(fixture("sleepers.py")).env("PYTHONHOME", home);
        let live = Live::start(command);
        live.check("renamed", &interpreter.full_version);
        live.is_shown("renamed", &interpreter.full_version);
        fs::remove_file(&copy).unwrap();
        live.check("deleted", &interpreter.full_version);
        live.is_shown("deleted", &interpreter.full_version);
        live.without_files().check("deleted, and from memory", &interpreter.full_version);
    }
}

#[test]
fn a_program_that_embeds_a_library_under_another_name_is_found() {
    let _together = together();
    let mut all = with_library();
    all.retain(|(found, _)| found.headers.is_some() && [(3, 8), (3, 11)].contains(&found.version));
    if all.is_empty() {
        eprintln!("skipped: a program that embeds CPython: none has a library and headers");
    }
    for (interpreter, library) in all {
        let folder = Folder::new();
        let copy = folder.copy(&library, "libledger.so", |bytes| bytes);
        run("patchelf", &["--set-soname", "libledger.so", copy.to_str().unwrap()]);
        let place = folder.0.path().to_str().unwrap();
        let program = folder.0.path().join("accounts");
        let include = format!("-I{}", interpreter.headers.as_ref().unwrap().display());
        let (search, rpath) = (format!("-L{place}"), format!("-Wl,-rpath,{place}"));
        let source = fixture("embed.c");
        let (source, output) = (source.to_str().unwrap(), program.to_str().unwrap());
        run("cc", &["-w", &include, "-o", output, source, &search, &rpath, "-lledger"]);
        let mut command = Command::new(&program);
        command.arg(fixture("sleepers.py"));
        let live = Live::start(command);
        live.check("embedded", &interpreter.full_version);
        live.is_shown("embedded", &interpreter.full_version);
    }
}

#[test]
fn a_child_of_a_fork_has_its_own_threads() {
    let _together = together();
    for interpreter in interpreters() {
        let mut live = Live::start(interpreter.command("forked.py"));
        let child: i32 = live.target.hear().parse().unwrap();
        let memory = LiveMemory::new(Pid(child));
        let mut threads = Threads::new(&live.find().unwrap());
        assert!(threads.state(Tid(child), &memory).is_some(), "{}", interpreter.name);
        live.target.tell("end");
        live.target.end();
    }
}

/// A thread that uses several interpreters has a state in each.
#[test]
fn the_state_of_the_interpreter_that_runs_is_taken() {
    let _together = together();
    for interpreter in interpreters() {
        if !((3, 8)..=(3, 15)).contains(&interpreter.version) {
            continue;
        }
        let live = Live::start(interpreter.command("subinterpreter.py"));
        let found = live.find().unwrap();
        let mut threads = Threads::new(&found);
        let main = Tid(live.target.pid());
        let state = threads.state(main, &live.memory).unwrap();
        assert_eq!(threads.others(main, state).count(), 1, "{}", interpreter.name);
        // The newest interpreter is the first of the list.
        let head = found.layout.runtime.interpreters_head.get(&live.memory, found.runtime);
        let running = threads.interpreter(state, &live.memory);
        assert_eq!(running, head.ok(), "{}", interpreter.name);
    }
}

#[test]
fn a_process_without_an_interpreter_has_none() {
    let _together = together();
    let live = Live::start({
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; read line"]);
        command
    });
    assert!(live.find().is_none());
}
