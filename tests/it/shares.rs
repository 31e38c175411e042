//! The shares of CPU time that a recording shows are those that the target
//! itself counted, however it was compiled.

use std::{collections::HashMap, path::Path, process::Command};

use crate::{
    observer::{Collapsed, Observer, is_function, spy},
    target::{Target, alone, build, first},
};

/// How far a share may be off.
const TOLERANCE: f64 = 0.03;

/// Fewer samples say too little: with 4,000, a share of a half is off by more
/// than [`TOLERANCE`] once in six thousand times by chance alone.
const ENOUGH: u64 = 4000;

/// Record `target` while it counts for itself: each name that it counts, with
/// the share it counted; and the stacks.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of some seconds")]
fn both(target: &mut Target, rate: &str, whole: &[&str]) -> (HashMap<String, f64>, Collapsed) {
    let before = target.ask("report");
    let arguments = ["record", "-d", "3", "-f", "collapsed", "-o", "-", "-r", rate, "-p"];
    let mut seen = Collapsed { stacks: Vec::new() };
    // On a machine that does much else it takes more than once.
    for _ in 0..10 {
        let command = first(2, spy(&[&arguments[..], &[&target.number()]].concat()));
        let told = Observer::start(command).finish().expect(0);
        seen.stacks.extend(Collapsed::read(&told.stdout).stacks);
        if seen.total() >= ENOUGH {
            break;
        }
    }
    let after = target.ask("report");
    let spent = |name: &str| (after[name] - before[name]) as f64;
    let all: f64 = whole.iter().map(|name| spent(name)).sum();
    let counted = before.keys().map(|name| (name.clone(), spent(name) / all)).collect();
    (counted, seen)
}

/// Start a program with one thread that runs.
fn start(source: &str, flags: &[&str]) -> Target {
    Target::run(first(1, Command::new(build(source, flags))))
}

#[track_caller]
fn agree(counted: &HashMap<String, f64>, sampled: impl Fn(&str) -> f64, seen: &Collapsed) {
    assert!(seen.total() >= ENOUGH, "too few samples: {}", seen.total());
    for (name, &share) in counted {
        let sampled = sampled(name);
        let fine = (share - sampled).abs() <= TOLERANCE;
        assert!(fine, "{name}: counted {share:.3}, sampled {sampled:.3}\n{:#?}", seen.stacks);
    }
}

/// Functions of `hot.c`, by their names.
fn check(flags: &[&str]) -> Collapsed {
    let _alone = alone();
    check_names(start("hot.c", flags), "2000")
}

fn check_names(mut target: Target, rate: &str) -> Collapsed {
    let (counted, seen) = both(&mut target, rate, &["hot_add", "hot_outer"]);
    agree(&counted, |name| seen.share(|frame| is_function(frame, name)), &seen);
    seen
}

#[test]
fn without_optimization() {
    let seen = check(&["-O0"]);
    let deep = |frames: &[String]| frames.iter().filter(|it| is_function(it, "descend")).count();
    let deepest = seen.stacks.iter().map(|(frames, _)| deep(frames)).max();
    assert_eq!(deepest, Some(25), "{seen:#?}");
}

#[test]
fn optimized() {
    check(&["-O2"]);
}

#[test]
fn linked_statically() {
    check(&["-O2", "-static"]);
}

#[test]
fn with_frame_pointers() {
    check(&["-O2", "-fno-omit-frame-pointer"]);
}

#[test]
fn without_frame_pointers() {
    check(&["-O0", "-fomit-frame-pointer"]);
}

#[test]
fn in_four_threads() {
    let _alone = alone();
    // Where they share processors, a thread keeps one for some milliseconds:
    // samples that are closer to each other than that say the same.
    check_names(Target::start("hot.c", &["-O2"], &["4"]), "250");
}

/// A function's name, and its addresses.
type Place = (String, std::ops::Range<u64>);

fn places(program: &Path) -> Vec<Place> {
    let listing = Command::new("nm").arg("--print-size").arg(program).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    let place = |line: &str| {
        let mut words = line.split_whitespace();
        let at = u64::from_str_radix(words.next()?, 16).ok()?;
        let size = u64::from_str_radix(words.next()?, 16).ok()?;
        words.next()?;
        Some((words.next()?.to_owned(), at..at + size))
    };
    listing.lines().filter_map(place).collect()
}

/// Functions of a stripped `hot.c`, by the addresses that the same program has
/// when it is not stripped.
fn check_stripped(flags: &[&str]) {
    let _alone = alone();
    let places = places(&build("hot.c", flags));
    let stripped = [flags, &["-s"]].concat();
    let module = build("hot.c", &stripped).file_name().unwrap().to_str().unwrap().to_owned();
    let mut target = start("hot.c", &stripped);
    let (counted, seen) = both(&mut target, "2000", &["hot_add", "hot_outer"]);
    let is_at = |frame: &str, name: &str| {
        let offset = frame.strip_prefix(&module).and_then(|rest| rest.strip_prefix("+0x"));
        let offset = offset.and_then(|offset| u64::from_str_radix(offset, 16).ok());
        places.iter().any(|place| place.0 == name && offset.is_some_and(|at| place.1.contains(&at)))
    };
    agree(&counted, |name| seen.share(|frame| is_at(frame, name)), &seen);
}

#[test]
fn stripped() {
    check_stripped(&["-O2"]);
}

#[test]
fn stripped_and_static() {
    check_stripped(&["-O2", "-static"]);
}

/// Functions of other languages: what the target calls them, and what the
/// frame has to contain.
fn check_language(source: &str, flags: &[&str], functions: &[(&str, &str)]) {
    let _alone = alone();
    let mut target = start(source, flags);
    let names: Vec<_> = functions.iter().map(|(name, _)| *name).collect();
    let (counted, seen) = both(&mut target, "2000", &names);
    let frame_of = |name: &str| functions.iter().find(|(counted, _)| *counted == name).unwrap().1;
    agree(&counted, |name| seen.share(|frame| frame.contains(frame_of(name))), &seen);
}

#[test]
fn of_cpp() {
    let functions = [("int", "hot::Burner<int>::burn("), ("double", "hot::Burner<double>::burn(")];
    check_language("hot.cpp", &["-O2"], &functions);
}

#[test]
fn of_rust() {
    let functions =
        [("add", "<hot::Add as hot::Work>::run"), ("divide", "<hot::Divide as hot::Work>::run")];
    check_language("hot.rs", &["-Copt-level=3"], &functions);
}

#[test]
fn of_go() {
    check_language("hot.go", &[], &[("hotAdd", "main.hotAdd"), ("hotDivide", "main.hotDivide")]);
}
