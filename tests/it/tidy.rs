//! The rules of the house, held by reading the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Which room may use which. What is not here is forbidden. `memory`, `task`
/// and `stack` are words that every room speaks.
const LAYERS: &[(&str, &[&str])] = &[
    ("memory", &[]),
    ("task", &[]),
    ("sys", &["memory", "task"]),
    ("stack", &["memory"]),
    ("snapshot", &["memory", "task", "stack"]),
    // The words of what it reads of waits.
    ("wait", &["task", "style"]),
    ("process", &["sys", "memory", "task", "snapshot", "wait"]),
    ("capture", &["sys", "memory", "task", "process", "snapshot"]),
    // To map files, which the compiler cannot check.
    ("module", &["sys", "memory", "task", "snapshot", "stack"]),
    ("unwind", &["memory", "snapshot", "module", "stack"]),
    ("runtime", &["memory", "task", "snapshot", "module", "stack"]),
    ("symbolize", &["memory", "task", "snapshot", "module", "stack"]),
    ("profile", &["task", "stack"]),
    (
        "sampler",
        &[
            "sys", "memory", "task", "process", "capture", "snapshot", "module", "unwind",
            "runtime", "stack", "profile", "wait",
        ],
    ),
    ("output", &["memory", "task", "profile", "stack", "style", "wait"]),
    ("tui", &["task", "profile", "stack", "style", "output", "wait"]),
    ("style", &[]),
];

const MAX_LINES: usize = 600;

fn sources(below: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut left = vec![root.join(below), root.join(format!("{below}.rs"))];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            found.push(path);
        }
    }
    found
}

/// The rooms that a source names: the words after `crate::`, in groups too.
/// What only its tests use does not count.
fn rooms(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for part in text.split("crate::").skip(1) {
        let (mut depth, mut word, mut open) = (0, String::new(), true);
        for letter in part.chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                'a'..='z' | '_' if open && depth <= 1 => word.push(letter),
                ',' if depth == 1 => open = true,
                _ if letter.is_whitespace() => {}
                _ => open = false,
            }
            if !open && !word.is_empty() || letter == ',' {
                found.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            if depth == 0 && (!open || letter == '}' || letter == ';') {
                break;
            }
        }
    }
    found
}

#[test]
fn the_reader_of_use_lines_reads_them() {
    let text = "use crate::{\n    memory::{Address, Piece},\n    task::Pid,\n};\nuse crate::sys;\nlet x = crate::stack::End::Root;";
    assert_eq!(rooms(text), ["memory", "task", "sys", "stack"]);
}

#[test]
fn rooms_use_only_the_rooms_below() {
    for (room, allowed) in LAYERS {
        // Tests may use what they like, also those in a file of their own.
        let is_room = |path: &PathBuf| !path.ends_with("tests.rs");
        for path in sources(room).into_iter().filter(is_room) {
            for used in rooms(&fs::read_to_string(&path).unwrap()) {
                let fine = used == *room || allowed.contains(&used.as_str());
                assert!(fine, "{}: `{room}` must not use `{used}`", path.display());
            }
        }
    }
}

#[test]
fn every_room_is_in_the_table() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        let free = ["lib", "main", "cli"].contains(&name.as_str());
        assert!(free || LAYERS.iter().any(|(room, _)| *room == name), "`{name}` is in no layer");
    }
}

/// Cargo.toml denies `unsafe_code`; so only an attribute could let it in.
#[test]
fn unsafe_stays_in_sys() {
    for path in sources("") {
        let fenced = path.components().any(|part| part.as_os_str() == "sys");
        let text = fs::read_to_string(&path).unwrap();
        assert!(fenced || !text.contains("unsafe_code"), "{}", path.display());
    }
}

/// Only `cli` prints, and only `cli` reads the environment.
#[test]
fn only_the_door_talks() {
    for path in sources("") {
        let door =
            path.components().any(|part| part.as_os_str() == "cli") || path.ends_with("main.rs");
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in ["println!", "eprintln!", "env::var", "io::stdout", "io::stderr"] {
            assert!(door || !text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn files_stay_short() {
    for path in sources("") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines", path.display());
    }
}
