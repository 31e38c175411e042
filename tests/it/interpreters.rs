//! The interpreters of Python that are on this machine: pyenv's, the system's,
//! those of Debian's next suite (`tests/interpreters`), and the environments
//! that `tests/environment` makes for them.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::target::Target;

/// A version of CPython, as (major, minor).
pub(crate) type Version = (u8, u8);

/// What is looked for. A version that the machine does not have is skipped.
const WANTED: [Version; 11] =
    [(2, 7), (3, 6), (3, 7), (3, 8), (3, 9), (3, 10), (3, 11), (3, 12), (3, 13), (3, 14), (3, 15)];

/// Without these the tests say too little of the others.
const REQUIRED: [Version; 4] = [(3, 9), (3, 11), (3, 13), (3, 15)];

/// An interpreter that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    /// Whose it is, and its version: `pyenv 3.9.18`.
    pub(crate) name: String,
    pub(crate) version: Version,
    /// As it says it itself, such as `3.9.18`.
    pub(crate) full_version: String,
    /// Whether it is a debug build.
    pub(crate) debug: bool,
    pub(crate) program: PathBuf,
    /// Where its headers are, if they are there.
    pub(crate) headers: Option<PathBuf>,
}

impl Interpreter {
    fn new(whose: &str, program: PathBuf, home: &Path) -> Option<Self> {
        let script = "import sys; print('%d %d %d' % sys.version_info[:3]); \
            print(hasattr(sys, 'gettotalrefcount'))";
        let mut command = Command::new(&program);
        let said = command.args(["-c", script]).stderr(Stdio::null()).output().ok()?;
        let said = String::from_utf8(said.stdout).ok()?;
        let (version, debug) = said.trim().split_once('\n')?;
        let mut parts = version.split(' ');
        let version = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let full_version = format!("{}.{}.{}", version.0, version.1, parts.next()?);
        let debug = debug == "True";
        let suffix = if debug { "d" } else { "" };
        let stem = format!("include/python{}.{}", version.0, version.1);
        // Before 3.8 the name says that the allocator is Python's own.
        let headers = ["", "m"].map(|flag| home.join(format!("{stem}{flag}{suffix}")));
        let headers = headers.into_iter().find(|headers| headers.join("Python.h").exists());
        let name = format!("{whose} {full_version}{suffix}");
        Some(Self { name, version, full_version, debug, program, headers })
    }

    /// It, about to run a script of `fixtures/programs`.
    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(fixture(script));
        command
    }

    /// It, about to run a program of `fixtures/python`.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Command {
        program(&self.program, name, arguments)
    }
}

/// A path below the project's folder.
pub(crate) fn project(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// A script of `fixtures/programs`.
pub(crate) fn fixture(script: &str) -> PathBuf {
    project("fixtures/programs").join(script)
}

/// Every interpreter of the machine's that is wanted, by version; what is
/// missing is named once.
pub(crate) fn interpreters() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = of_pyenv();
        found.extend(of_next_suite());
        found.extend(Interpreter::new("system", "/usr/bin/python3".into(), "/usr".as_ref()));
        found.retain(|interpreter| WANTED.contains(&interpreter.version));
        found.sort_by(|a, b| (a.version, &a.name).cmp(&(b.version, &b.name)));
        let versions: BTreeSet<_> = found.iter().map(|interpreter| interpreter.version).collect();
        for (major, minor) in WANTED.into_iter().filter(|version| !versions.contains(version)) {
            eprintln!("skipped: CPython {major}.{minor}: the machine has none");
        }
        if !found.iter().any(|interpreter| interpreter.debug) {
            eprintln!("skipped: a debug build of CPython: the machine has none");
        }
        found
    })
}

/// One interpreter of each version: none of them a debug build.
pub(crate) fn versions() -> impl Iterator<Item = &'static Interpreter> {
    WANTED.into_iter().filter_map(interpreter)
}

/// The interpreter of a version: not a debug build.
pub(crate) fn interpreter(version: Version) -> Option<&'static Interpreter> {
    interpreters().iter().find(|found| found.version == version && !found.debug)
}

fn of_pyenv() -> Vec<Interpreter> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let homes = versions.into_iter().flatten().filter_map(|home| Some(home.ok()?.path()));
    homes.filter_map(|home| Interpreter::new("pyenv", home.join("bin/python"), &home)).collect()
}

fn of_next_suite() -> Vec<Interpreter> {
    let home = project("fixtures/build/debian-testing/usr");
    let programs =
        ["python3.14", "python3.14d", "python3.15"].map(|name| home.join("bin").join(name));
    programs.into_iter().filter_map(|program| Interpreter::new("Debian", program, &home)).collect()
}

/// The free-threaded interpreter that a variable names: no suite of Debian's has
/// one, so its recording is made again only by who has built it.
pub(crate) fn free_threaded() -> Option<Interpreter> {
    let program = PathBuf::from(env::var_os("SPY_FREE_THREADED_PYTHON")?);
    let mut found = Interpreter::new("built", program.clone(), program.parent()?.parent()?)?;
    found.name += "t";
    Some(found)
}

/// The interpreter of `version` with the packages of `tests/requirements.txt`,
/// and the folder of its programs.
pub(crate) fn environment(version: &str) -> Option<(PathBuf, PathBuf)> {
    let home = project("fixtures/build/python").join(version);
    let programs = home.join("bin");
    home.join("stamp").exists().then(|| (programs.join("python"), programs))
}

/// A program of `fixtures/python`, run by `python`.
pub(crate) fn program(python: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.arg("-B").arg(project("fixtures/python").join(name)).args(arguments);
    command
}

#[test]
fn the_versions_that_matter_most_are_there() {
    let found: Vec<_> = interpreters().iter().map(|found| found.version).collect();
    for version in REQUIRED {
        assert!(found.contains(&version), "no CPython {version:?}: run tests/interpreters");
    }
}

/// The programs of `fixtures/python`, and the first version that runs each.
const PROGRAMS: &[(&str, Version)] = &[
    ("awaiting.py", (3, 8)),
    ("busy.py", (2, 7)),
    ("births.py", (2, 7)),
    ("chains.py", (2, 7)),
    ("collector.py", (2, 7)),
    ("finalizers.py", (2, 7)),
    ("becomes.py", (2, 7)),
    ("chains.py", (2, 7)),
    ("interpreters.py", (3, 8)),
    ("variables.py", (2, 7)),
    ("multi.py", (2, 7)),
    ("shares.py", (2, 7)),
    ("sleepers.py", (2, 7)),
    ("sqlite_callback.py", (2, 7)),
    ("tasks.py", (3, 6)),
];

/// The same, of those that need an environment.
const WITH_PACKAGES: &[&str] =
    &["cython_caller.py", "gevent_server.py", "greenlets.py", "numpy_threads.py"];

fn answers(python: &Path, name: &str) {
    let mut target = Target::run(program(python, name, &[]));
    let answer = target.ask("report");
    assert!(!answer.is_empty(), "{}: {name}", python.display());
}

/// The programs themselves: a test of `spy` with a broken one tells nothing.
#[test]
fn every_program_in_python_answers() {
    let _together = crate::target::together();
    for Interpreter { version, program, .. } in versions() {
        let runs = PROGRAMS.iter().filter(|(_, since)| since <= version);
        runs.for_each(|(name, _)| answers(program, name));
        match environment(&format!("{}.{}", version.0, version.1)) {
            Some((python, _)) => WITH_PACKAGES.iter().for_each(|name| answers(&python, name)),
            None => eprintln!("skipped: no environment of Python {version:?}"),
        }
    }
}
