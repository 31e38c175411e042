//! The interpreters of Python that are on this machine, and the environments
//! that `tests/environment` makes for them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::target::Target;

/// A path below the project's folder.
pub(crate) fn project(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// The interpreter of `version`, such as `3.11`: pyenv's, the machine's, or one
/// that `tests/interpreters` unpacked.
pub(crate) fn interpreter(version: &str) -> Option<PathBuf> {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".pyenv");
    let versions = env::var_os("PYENV_ROOT").map_or_else(home, PathBuf::from).join("versions");
    let of_version = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(version)?.starts_with('.').then(|| path.join("bin/python"))
    };
    let entries = fs::read_dir(versions).into_iter().flatten().flatten();
    let pyenv = entries.filter_map(|entry| of_version(&entry.path()));
    let others = [
        PathBuf::from(format!("/usr/bin/python{version}")),
        project(&format!("fixtures/build/debian-testing/usr/bin/python{version}")),
    ];
    pyenv.chain(others).find(|path| path.exists())
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

/// Every version that somebody may still run.
pub(crate) const VERSIONS: &[&str] =
    &["2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"];

/// The programs of `fixtures/python`, and the first of [`VERSIONS`] that runs
/// each.
const PROGRAMS: &[(&str, &str)] = &[
    ("busy.py", "2.7"),
    ("chains.py", "2.7"),
    ("multi.py", "2.7"),
    ("shares.py", "2.7"),
    ("sleepers.py", "2.7"),
    ("sqlite_callback.py", "2.7"),
    ("tasks.py", "3.6"),
];

/// The same, of those that need an environment.
const WITH_PACKAGES: &[&str] = &["cython_caller.py", "gevent_server.py", "numpy_threads.py"];

fn answers(python: &Path, name: &str) {
    let mut target = Target::run(program(python, name, &[]));
    let answer = target.ask("report");
    assert!(!answer.is_empty(), "{}: {name}", python.display());
}

/// The programs themselves: a test of `spy` with a broken one tells nothing.
#[test]
fn every_program_in_python_answers() {
    let _together = crate::target::together();
    let place = |version: &str| VERSIONS.iter().position(|it| *it == version);
    let mut found = 0;
    for version in VERSIONS {
        let Some(python) = interpreter(version) else {
            eprintln!("skipped: no Python {version}");
            continue;
        };
        found += 1;
        let runs = PROGRAMS.iter().filter(|(_, since)| place(since) <= place(version));
        runs.for_each(|(name, _)| answers(&python, name));
        match environment(version) {
            Some((python, _)) => WITH_PACKAGES.iter().for_each(|name| answers(&python, name)),
            None => eprintln!("skipped: no environment of Python {version}"),
        }
    }
    assert!(found > 0, "no Python at all");
}
