//! `--nonblocking`: no thread is ever stopped, and what is read of one that runs
//! is of one moment, or is not shown.

use std::{collections::HashMap, fs, process::Command};

use serde_json::Value;

use crate::{
    interpreters::{Interpreter, interpreter, program},
    observer::{Collapsed, Observer, is_function, run, spy},
    target::{Target, alone, first, together, until},
};

/// Fewer samples of a running thread say too little.
const ENOUGH: u64 = 5000;

/// How far a share may be off.
const TOLERANCE: f64 = 0.05;

/// The most samples that may be lost because frames changed too fast.
const TORN: f64 = 0.02;

/// What was recorded of a target, and what it counted itself meanwhile.
struct Seen {
    stacks: Collapsed,
    counted: HashMap<String, u64>,
    glanced: u64,
    torn: u64,
}

fn stats(path: &std::path::Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Record until there are enough samples: on a machine that does much else it
/// takes more than once.
fn watch(target: &mut Target) -> Seen {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("stats.json");
    let before = target.ask("report");
    let mut stacks = Vec::new();
    let (mut glanced, mut torn) = (0, 0);
    for _ in 0..12 {
        let number = target.number();
        // By wall time each look weighs the same. The CPU time of a thread that is
        // not stopped moves on at the kernel's own ticks alone, a few hundred a second.
        let mut arguments = vec!["record", "-b", "-i", "-d", "2", "-r", "3000", "-f", "collapsed"];
        arguments.extend(["--nolineno", "-o", "-", "--stats", file.to_str().unwrap(), "-p"]);
        arguments.push(&number);
        let told = Observer::start(first(2, spy(&arguments))).finish().expect(0);
        assert!(told.stderr.contains("no thread was stopped"), "{told:#?}");
        stacks.extend(Collapsed::read(&told.stdout).stacks);
        let stats = stats(&file);
        assert_eq!(stats["samples"]["stopped"], 0);
        glanced += stats["samples"]["glanced"].as_u64().unwrap();
        torn += stats["samples"]["torn"].as_u64().unwrap();
        if glanced >= ENOUGH {
            break;
        }
    }
    let after = target.ask("report");
    let counted = after.iter().map(|(name, now)| (name.clone(), now - before[name])).collect();
    Seen { stacks: Collapsed { stacks }, counted, glanced, torn }
}

/// How often a leaf is called in a turn of a chain: one that is as short as a
/// look at the thread, and one that is many times as long.
const SHORT: &str = "40";
const LONG: &str = "1000";

/// Every stack that is shown is one that the program can have.
#[expect(clippy::cast_precision_loss, reason = "counts of samples")]
fn watch_chains(python: &Interpreter, calls: &str) -> Seen {
    let version = &python.name;
    let mut target = Target::run(first(1, python.run("chains.py", &[calls])));
    let seen = watch(&mut target);
    let Seen { stacks, glanced, torn, .. } = &seen;
    assert!(*glanced >= ENOUGH, "{version}: {glanced}");
    assert!(*torn as f64 <= TORN * *glanced as f64, "{version}: {torn} of {glanced} torn");
    for (frames, _) in &stacks.stacks {
        let names: Vec<_> = frames.iter().filter_map(|frame| frame.split(' ').next()).collect();
        let inner = names.iter().position(|name| *name == "work").map(|at| &names[at + 1..]);
        let possible: &[&[&str]] = &[
            &[],
            &["now"],
            &["hot_a"],
            &["hot_b"],
            &["hot_a", "leaf_a"],
            &["hot_b", "leaf_b"],
            // A thread whose frames were never of one moment.
            &["[the thread ran, and was not stopped]", "[no frames]"],
        ];
        let fine = inner.is_some_and(|inner| possible.contains(&inner))
            || frames.iter().any(|frame| frame == "[no frames]")
            // The thread that converses.
            || names.contains(&"converse");
        assert!(fine, "{version}: {frames:?}");
    }
    seen
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
fn check_shares(python: &Interpreter) {
    let Seen { stacks, counted, .. } = watch_chains(python, LONG);
    let share = |name| stacks.share(|frame| is_function(frame, name));
    let (a, b) = (share("hot_a"), share("hot_b"));
    let sampled = a / (a + b);
    let whole = (counted["hot_a"] + counted["hot_b"]) as f64;
    let counted = counted["hot_a"] as f64 / whole;
    let fine = (sampled - counted).abs() <= TOLERANCE;
    assert!(fine, "{}: counted {counted:.3}, sampled {sampled:.3}", python.name);
}

/// Those of a few versions, one of each kind of chain of frames.
fn each(check: impl Fn(&Interpreter)) {
    for version in [(3, 8), (3, 11), (3, 13), (3, 15)] {
        match interpreter(version) {
            Some(python) => check(python),
            // That those that matter are there is a test of its own.
            None => eprintln!("skipped: no CPython {version:?}"),
        }
    }
}

#[test]
fn chains_of_calls_do_not_mix() {
    let _alone = alone();
    each(|python| {
        watch_chains(python, SHORT);
    });
}

#[test]
fn chains_that_are_long_against_a_look_have_their_shares() {
    let _alone = alone();
    each(check_shares);
}

/// The calls that could stop or change another process, as a witness saw them.
fn witnessed(arguments: &[&str]) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("log");
    let calls = "trace=ptrace,kill,tkill,tgkill,pidfd_send_signal,process_vm_writev";
    let own = spy(arguments);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", calls, "-e", "signal=none", "-o"]).arg(&log);
    strace.arg(own.get_program()).args(own.get_args());
    Observer::start(strace).finish().expect(0);
    fs::read_to_string(&log).unwrap()
}

#[test]
fn nothing_is_asked_of_the_kernel_that_stops_a_thread() {
    let _together = together();
    let target = Target::start("hot.c", &["-O2"], &[]);
    let number = target.number();
    let record = ["record", "-d", "1", "-f", "collapsed", "-o", "-", "-p", &number];
    let dump = ["dump", "-p", &number];
    for command in [&record[..], &dump] {
        // The witness would see it.
        assert!(witnessed(command).contains("ptrace(PTRACE_SEIZE"), "{command:?}");
        let log = witnessed(&[command, &["-b"]].concat());
        assert_eq!(log, "", "{command:?}");
    }
}

#[test]
fn native_threads_that_run_have_no_stack() {
    let _together = together();
    let target = Target::start("hot.c", &["-O2"], &[]);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("stats.json");
    let number = target.number();
    let mut arguments = vec!["record", "-b", "-d", "2", "-f", "collapsed", "-o", "-"];
    arguments.extend(["--stats", file.to_str().unwrap(), "-p", &number]);
    let told = run(&arguments).expect(0);
    let stacks = Collapsed::read(&told.stdout);
    let ran = |(frames, _): &&(Vec<String>, u64)| {
        frames.iter().any(|frame| frame == "[the thread ran, and was not stopped]")
    };
    assert!(stacks.stacks.iter().filter(ran).count() > 0, "{told:#?}");
    let stats = stats(&file);
    let missed = stats["samples"]["missed"].as_u64().unwrap();
    assert!(missed > 0 && stats["samples"]["torn"] == 0, "{stats:#}");
    assert_eq!(stats["samples"]["glanced"], 0, "{stats:#}");
    assert!(stats["stacks"]["ends"]["not_stopped"].as_u64().unwrap() > 0, "{stats:#}");

    let dump = run(&["dump", "-b", "-j", "-p", &number]).expect(0);
    let dump: Value = serde_json::from_str(&dump.stdout).unwrap();
    let threads = dump[0]["threads"].as_array().unwrap();
    // The first thread waits for its input, and is read as always.
    let named = |thread: &Value| thread["frames"].as_array().unwrap().len();
    assert!(threads.iter().any(|thread| thread["syscall"] == "read" && named(thread) > 1));
    let running = threads.iter().filter(|thread| thread["state"] == "running");
    assert!(running.clone().count() > 0, "{threads:#?}");
    for thread in running {
        assert_eq!((named(thread), &thread["end"]), (0, &"not_stopped".into()), "{thread:#}");
    }
}

/// A dump of a Python thread that runs has its functions, and of one that
/// sleeps native frames as well.
#[test]
fn a_dump_has_the_functions_of_threads_that_run() {
    let _together = together();
    let Some(python) = interpreter((3, 11)).map(|found| found.program.clone()) else {
        panic!("no Python 3.11");
    };
    let target = Target::run(program(&python, "chains.py", &[]));
    let thread = until("a running thread is caught with its frames", || {
        let dump = run(&["dump", "-b", "-l", "-j", "-p", &target.number()]).expect(0);
        let dump: Value = serde_json::from_str(&dump.stdout).unwrap();
        let threads = dump[0]["threads"].as_array().unwrap().clone();
        let sleeps = threads.iter().find(|thread| thread["syscall"] == "read").unwrap();
        let is_native = |frame: &Value| frame["module"].is_string();
        assert!(sleeps["frames"].as_array().unwrap().iter().any(is_native), "{sleeps:#}");
        threads.into_iter().find(|thread| {
            thread["state"] == "running" && !thread["frames"].as_array().unwrap().is_empty()
        })
    });
    let frames = thread["frames"].as_array().unwrap();
    let function = |frame: &Value| frame["function"].as_str().unwrap().to_owned();
    let names: Vec<_> = frames.iter().map(function).collect();
    assert!(names.contains(&"work".to_owned()), "{names:?}");
    assert_eq!(names.last().unwrap(), "Thread._bootstrap", "{names:?}");
    assert!(frames.iter().all(|frame| frame["module"].is_null()), "{frames:#?}");
    assert!(frames.iter().all(|frame| frame["line"].is_u64()), "{frames:#?}");
    assert_eq!(thread["end"], "root");
}
