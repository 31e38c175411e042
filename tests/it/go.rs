//! Go programs are walked to the root, stripped or not.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::{
        ptrace,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use object::{Object as _, ObjectSymbol as _};
use spy::{
    memory::{Address, Fault, Memory, Piece},
    module::Modules,
    snapshot::Root,
    stack::{End, Frame},
    unwind::{Tables, Unwinder},
};

use crate::traced::{copy, known, mappings};

/// How often every thread is looked at.
const ROUNDS: usize = 60;

/// A copy of the stack, and the stopped thread's memory for the rest.
struct Stopped {
    stack: Piece,
    pid: Pid,
}

impl Memory for Stopped {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        match self.stack.read(at, into) {
            Ok(()) => Ok(()),
            Err(_) => copy(self.pid, at.0, into.len()).read(at, into),
        }
    }

    fn copied(&self, at: Address) -> Option<(Address, &[u8])> {
        self.stack.copied(at)
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn build(name: &str, flags: &[&str]) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = project.join("fixtures/build").join(name);
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    let source = project.join("fixtures/programs/switches.go");
    let mut command = Command::new("go");
    command.arg("build").args(flags).arg("-o").arg(&program).arg(source).env("GO111MODULE", "off");
    assert!(command.status().expect("go must be installed").success());
    program
}

/// Look at every thread of `program`, many times: the end of each walk, and
/// the functions that are seen, by name if `names` has symbols.
fn watch(program: &Path, names: &Path) -> (BTreeMap<End, usize>, BTreeMap<String, usize>) {
    let mut command = Command::new(program);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut running = Running(child);
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = Pid::from_raw(running.0.id().cast_signed());
    let root = Root { directory: "/".into(), map_files: None };
    let mut unwinder = Unwinder::new(mappings(pid), root, Tables::Now);
    let mut modules = Modules::default();
    let symbols = Symbols::of(names);
    let (mut ends, mut seen) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..ROUNDS {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let tid = thread.unwrap().file_name().to_string_lossy().parse().unwrap();
            let tid = Pid::from_raw(tid);
            if ptrace::seize(tid, ptrace::Options::empty()).is_err() {
                continue;
            }
            ptrace::interrupt(tid).unwrap();
            waitpid(tid, Some(WaitPidFlag::__WALL)).unwrap();
            let registers = ptrace::getregs(tid).unwrap();
            let memory = Stopped { stack: copy(pid, registers.rsp - 256, 16 << 10), pid };
            let mut frames = Vec::new();
            let walk = unwinder.unwind(&mut modules, &known(&registers), &memory, &mut frames);
            *ends.entry(walk.end).or_insert(0) += 1;
            let stack = symbols.name(&frames);
            if walk.end != End::Root {
                eprintln!("{:?}: {stack:?}", walk.end);
            }
            assert!(!goes_wrong(&stack), "{:?}: {stack:?}", walk.end);
            ptrace::detach(tid, None).unwrap();
            for name in stack {
                *seen.entry(name).or_insert(0) += 1;
            }
        }
    }
    (ends, seen)
}

/// `deep` calls itself ten times: nothing may be missing between.
fn goes_wrong(stack: &[String]) -> bool {
    let deep = stack.iter().filter(|name| *name == "main.deep").count();
    let begins = stack.iter().any(|name| name.starts_with("main.main.func"));
    let ends = stack.last().is_some_and(|name| name == "runtime.goexit.abi0");
    begins && !(ends && deep == 11)
}

struct Symbols(BTreeMap<u64, String>);

impl Symbols {
    fn of(program: &Path) -> Self {
        let file = std::fs::read(program).unwrap();
        let file = object::File::parse(&*file).unwrap();
        let symbol = |symbol: object::Symbol<'_, '_>| {
            Some((symbol.address(), symbol.name().ok()?.to_owned()))
        };
        Self(file.symbols().filter_map(symbol).collect())
    }

    fn name(&self, frames: &[Frame]) -> Vec<String> {
        let name = |frame: &Frame| match frame {
            Frame::Native(frame) => {
                let before = self.0.range(..=frame.code.lookup().0).next_back();
                before.map_or_else(String::new, |(_, name)| name.clone())
            }
            Frame::Managed(_) => panic!("there is no runtime"),
        };
        frames.iter().map(name).collect()
    }
}

#[test]
fn go_is_walked_to_the_root() {
    let program = build("switches", &[]);
    check(&program, &program);
}

#[test]
fn stripped_go_is_walked_to_the_root() {
    // The two differ in nothing that is loaded.
    let program = build("switches-to-strip", &[]);
    let stripped = program.with_file_name("switches-stripped");
    let done = Command::new("strip").arg("-o").arg(&stripped).arg(&program).status();
    assert!(done.expect("strip must be installed").success());
    check(&stripped, &program);
}

fn check(program: &Path, names: &Path) {
    let (ends, seen) = watch(program, names);
    eprintln!("{ends:?}");
    let all: usize = ends.values().sum();
    let roots = ends.get(&End::Root).copied().unwrap_or(0);
    assert!(roots * 1000 >= all * 995, "{ends:?}");
    for name in ["main.deep", "runtime.goexit.abi0", "runtime.mcall", "runtime.systemstack.abi0"] {
        assert!(seen.contains_key(name), "{name}: {seen:?}");
    }
}
