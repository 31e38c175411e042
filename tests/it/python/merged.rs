//! Frames of Python stand among those of C as they called each other: as the
//! program itself knows it, and as gdb shows the same stack.

use std::process::Command;

use serde_json::Value;

use super::dumped::{dump, frames, function, is_managed, threads, waits_for_input};
use crate::{
    interpreters::{Interpreter, interpreters, project},
    observer::run,
    target::{Target, together},
};

/// What `interleaved.py` says of its stack.
struct Said {
    /// Function, file and line of each frame, innermost first.
    frames: Vec<Value>,
    /// A function that C calls, the one that called C for it, and what one of
    /// the functions between them has in its name.
    between: Vec<[String; 3]>,
}

fn heard(target: &Target) -> Said {
    let mut lines = Vec::new();
    loop {
        let line = target.hear();
        if line == "end" {
            break;
        }
        lines.push(line);
    }
    waits_for_input(target);
    let between = serde_json::from_str(&lines.pop().unwrap()).unwrap();
    let frames = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    Said { frames: frames.collect(), between }
}

/// The functions of C on the stack of the only thread, as gdb shows them.
fn gdb(pid: i32) -> Vec<String> {
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"])
        .args(["-p", &pid.to_string(), "-x"])
        .arg(project("tests/it/python/functions.py"))
        .output()
        .expect("gdb is installed");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = told.lines().filter_map(|line| line.strip_prefix("frame "));
    let names: Vec<_> = names.map(str::to_owned).collect();
    assert!(!names.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    names
}

/// Whether both are one function: of several names of an address the two may
/// take different ones, and an image without names has none.
fn is_same(shown: &str, gdb: &str) -> bool {
    let plain = |name: &str| name.trim_start_matches("__GI_").trim_start_matches('_').to_owned();
    shown.contains("+0x") || gdb == "None" || plain(shown) == plain(gdb)
}

/// Whether a function, as Python qualifies it, has this name.
fn is_called(frame: &Value, name: &str) -> bool {
    is_managed(frame) && function(frame).rsplit('.').next() == Some(name)
}

/// Between each function that C called and its caller there is that C, and no
/// other function of Python's.
fn check_between(name: &str, all: &[Value], between: &[[String; 3]]) {
    let mut at = all.len();
    for [callback, caller, word] in between {
        let outer = all[..at].iter().rposition(|frame| is_called(frame, caller)).unwrap();
        let inner = all[..outer].iter().rposition(is_managed).unwrap();
        assert!(is_called(&all[inner], callback), "{name}: {:#}", all[inner]);
        let native: Vec<_> = all[inner + 1..outer].iter().map(function).collect();
        let named = |function: &&str| function.contains(word) || function.contains("+0x");
        assert!(native.iter().any(named), "{name}: {callback}: {word}: {native:#?}");
        at = inner;
    }
}

/// Each run of the interpreter's loop executes what stands inside it: from 3.11
/// on several functions, before that one.
fn check_loops(interpreter: &Interpreter, all: &[Value]) {
    let name = &interpreter.name;
    let runs: Vec<_> = all.chunk_by(|a, b| is_managed(a) == is_managed(b)).collect();
    let is_loop = |frame: &Value| function(frame).contains("PyEval_EvalFrame");
    let real = |frame: &&Value| frame["inlined"] == false;
    if !all.iter().any(is_loop) {
        eprintln!("skipped: the loop of {name} has no name");
        return;
    }
    for pair in runs.windows(2) {
        let [run, outside] = pair else { unreachable!() };
        if is_managed(&run[0]) {
            // What the compiler built into the loop comes with it.
            let outside = outside.iter().find(real).unwrap();
            assert!(is_loop(outside), "{name}: {run:#?} in {outside:#}");
            assert!(interpreter.version >= (3, 11) || run.len() == 1, "{name}: {run:#?}");
        }
    }
    let managed = runs.iter().filter(|run| is_managed(&run[0])).count();
    let innermost = ["_PyEval_EvalFrameDefault", "PyEval_EvalFrameEx"];
    let loops = all.iter().filter(real).filter(|frame| innermost.contains(&function(frame)));
    // 3.6 has a function of the second name, which calls the first.
    let second = |frame: &&Value| function(frame) == innermost[0] || interpreter.version.0 == 2;
    assert_eq!(loops.filter(second).count(), managed, "{name}");
}

fn check(interpreter: &Interpreter) {
    let name = &interpreter.name;
    let target = Target::run(interpreter.run("interleaved.py", &[]));
    let said = heard(&target);
    let process = dump(target.pid(), &["-n"]);
    let [thread] = threads(&process) else { panic!("{name}: {process:#}") };
    let all = frames(thread);

    let managed: Vec<_> = all.iter().filter(|frame| is_managed(frame)).collect();
    assert_eq!(managed.len(), said.frames.len(), "{name}");
    for (shown, said) in managed.iter().zip(&said.frames) {
        let shown = [&shown["function"], &shown["file"], &shown["line"]];
        assert_eq!(shown, [&said[0], &said[1], &said[2]], "{name}");
    }
    check_between(name, all, &said.between);
    check_loops(interpreter, all);
    assert_eq!(thread["end"], "root", "{name}");

    let native = all.iter().filter(|frame| !is_managed(frame) && frame["inlined"] == false);
    let native: Vec<_> = native.map(function).collect();
    let gdb = gdb(target.pid());
    let wrong = native.iter().zip(&gdb).find(|(shown, gdb)| !is_same(shown, gdb));
    assert_eq!((native.len(), wrong), (gdb.len(), None), "{name}");

    // What a recording shows is the same, and all of it fits.
    let stats = tempfile::NamedTempFile::new().unwrap();
    let path = stats.path().to_str().unwrap();
    let number = target.number();
    let arguments = ["record", "-inf", "raw", "-d", "100ms", "-o", "-", "--stats", path, "-p"];
    let told = run(&[&arguments[..], &[&number]].concat()).expect(0);
    let stats: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(stats["stacks"]["unmerged"], 0, "{name}: {stats:#}");
    let stack = told.stdout.trim_end().rsplit_once(' ').unwrap().0;
    // The innermost is the system call that it waits in.
    let recorded: Vec<_> = stack.split(';').rev().skip(1).collect();
    let starts = recorded.iter().zip(all).all(|(line, frame)| line.starts_with(function(frame)));
    assert!(starts && recorded.len() == all.len(), "{name}: {recorded:#?}");
}

#[test]
fn frames_stand_as_they_called_each_other() {
    let _together = together();
    for interpreter in interpreters() {
        check(interpreter);
    }
}
