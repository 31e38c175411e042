//! Threads, interpreters and programs that begin and end while they are looked
//! at.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::dumped::{dump, managed, threads, with_function};
use crate::{
    children::works,
    interpreters::{interpreter, project, versions},
    observer::{Collapsed, Observer, is_function, run, spy},
    target::{Target, together},
};

#[test]
fn threads_that_begin_and_end_at_every_moment() {
    let _together = together();
    for interpreter in versions() {
        let name = &interpreter.name;
        let mut target = Target::run(interpreter.run("births.py", &[]));
        let stats = tempfile::NamedTempFile::new().unwrap();
        let path = stats.path().to_str().unwrap();
        let number = target.number();
        let fixed = ["record", "-f", "raw", "-o", "-", "-r", "500", "--no-native", "--stats", path];
        let command = spy(&[&fixed[..], &["-p", &number]].concat());
        let observer = Observer::start(command).watching(target.pid());
        for _ in 0..6 {
            works(target.pid());
            target.advances("steps");
        }
        observer.signal(Signal::SIGINT);
        let told = observer.finish().expect(0);
        let seen = Collapsed::read(&told.stdout);
        for function in ["lasting", "brief"] {
            let qualified = |frame: &str| is_function(frame, function);
            assert!(seen.share(qualified) > 0.0, "{name}: {function}: {seen:#?}");
        }
        // Who computes was called by its thread's first function, or by the
        // one that lasts.
        let whole = |stack: &[String]| {
            !stack.last().is_some_and(|frame| is_function(frame, "brief"))
                || stack[0].contains("_bootstrap ")
        };
        assert!(seen.stacks.iter().all(|(stack, _)| whole(stack)), "{name}: {seen:#?}");
        let stats: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(stats["stacks"]["unmerged"], 0, "{name}: {stats:#}");
        target.is_unharmed("steps");
    }
}

/// A second interpreter, which a thread of the first one runs, and which has a
/// thread of its own.
#[test]
fn threads_of_every_interpreter_of_a_process() {
    let _together = together();
    for interpreter in versions().filter(|it| it.version >= (3, 8)) {
        let name = &interpreter.name;
        let target = Target::run(interpreter.run("interpreters.py", &[]));
        let process = dump(target.pid(), &["--no-native"]);
        assert_eq!(threads(&process).len(), 3, "{name}: {process:#}");
        let inner = with_function(&process, "second");
        assert_eq!(managed(inner)[..2], ["within", "second"], "{name}: {process:#}");
        assert_eq!(inner["given_name"], "inner", "{name}: {process:#}");
        let is_first = |thread: &&Value| managed(thread).starts_with(&["within", "<module>"]);
        let first = threads(&process).iter().find(is_first);
        assert!(first.is_some(), "{name}: {process:#}");
        assert!(with_function(&process, "converse")["tid"] == target.pid(), "{name}");
        for thread in threads(&process) {
            assert_eq!(thread["end"], "root", "{name}: {thread:#}");
        }
    }
}

/// A program that becomes one of another version of Python is shown as both.
#[test]
fn a_program_that_becomes_another_version() {
    let _together = together();
    for (one, other) in [((2, 7), (3, 13)), ((3, 9), (3, 15)), ((3, 15), (3, 6))] {
        let (Some(one), Some(other)) = (interpreter(one), interpreter(other)) else {
            eprintln!("skipped: {one:?} becoming {other:?}: the machine has not both");
            continue;
        };
        let name = format!("{} becomes {}", one.name, other.name);
        let mut target = Target::run(one.run("becomes.py", &[other.program.to_str().unwrap()]));
        let fixed = ["record", "-f", "raw", "-o", "-", "--no-native", "-p"];
        let command = spy(&[&fixed[..], &[&target.number()]].concat());
        let observer = Observer::start(command).watching(target.pid());
        (0..6).for_each(|_| works(target.pid()));
        target.tell("become");
        assert_eq!(target.hear(), "ready", "{name}");
        for _ in 0..10 {
            works(target.pid());
            target.advances("steps");
        }
        let version = dump(target.pid(), &["--no-native"])["runtime"].clone();
        let expected = format!("CPython {}", other.full_version);
        assert!(version.as_str().unwrap().starts_with(&expected), "{name}: {version}");
        observer.signal(Signal::SIGINT);
        let told = observer.finish().expect(0);
        let seen = Collapsed::read(&told.stdout);
        for function in ["before", "after"] {
            assert!(seen.names(function), "{name}: {function}: {told:#?}");
        }
    }
}

/// An interpreter is found soon after it was started: of a second, most was seen
/// even where the machine does much else.
#[test]
fn a_program_that_is_started_to_be_recorded() {
    let _together = together();
    for interpreter in versions() {
        let name = &interpreter.name;
        let script = project("fixtures/python/once.py");
        let python = interpreter.program.to_str().unwrap();
        let fixed = ["record", "-f", "raw", "-o", "-", "-r", "500", "--", python, "-B"];
        let told = run(&[&fixed[..], &[script.to_str().unwrap()]].concat()).expect(0);
        let seen = Collapsed::read(&told.stdout);
        let in_python = seen.share(|frame| frame.contains(".py:") || frame.contains("<frozen"));
        assert!(in_python > 0.6, "{name}: {in_python}: {seen:#?}");
        assert!(seen.share(|frame| is_function(frame, "compute")) > 0.5, "{name}: {seen:#?}");
    }
}
