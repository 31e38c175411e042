//! The shares of CPU time that a recording shows of functions in Python are
//! those that the program itself counted, on every version.

use std::collections::HashMap;

use crate::{
    interpreters::{Interpreter, versions},
    observer::{Collapsed, Observer, is_function, spy},
    target::{Target, alone, first},
};

/// How far a share may be off.
const TOLERANCE: f64 = 0.03;

/// So many samples are judged, all at once: a share of a half of as many is off by
/// 0.8 points by chance alone, and by [`TOLERANCE`] once in 6,000 times, if they
/// have nothing to do with each other.
const ENOUGH: f64 = 4000.0;

/// They are taken in recordings of a second, as many as are needed: on a machine
/// that does much else it takes more, but not more than so many.
const RECORDINGS: usize = 16;

/// What a recording showed of itself.
struct Seen {
    stacks: Collapsed,
    samples: f64,
    unmerged: u64,
}

fn record(target: &Target, arguments: &[&str]) -> Seen {
    let stats = tempfile::NamedTempFile::new().unwrap();
    let path = stats.path().to_str().unwrap();
    let number = target.number();
    let fixed = ["record", "-f", "collapsed", "-o", "-", "--stats", path, "-p", &number];
    let told = Observer::start(first(2, spy(&[&fixed[..], arguments].concat()))).finish().expect(0);
    let stats: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    Seen {
        stacks: Collapsed::read(&told.stdout),
        samples: stats["samples"]["stopped"].as_f64().unwrap(),
        unmerged: stats["stacks"]["unmerged"].as_u64().unwrap(),
    }
}

/// The shares that a target counted of what it counted at all.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of some seconds")]
fn counted(
    before: &HashMap<String, u64>,
    after: &HashMap<String, u64>,
    functions: &[&str],
) -> Vec<f64> {
    let spent = |name: &str| (after[name] - before[name]) as f64;
    functions.iter().map(|name| spent(name) / spent("all")).collect()
}

/// Record, and check that every one of `functions` has the share that the target
/// counted.
fn agree(
    name: &str,
    mut target: Target,
    functions: &[&str],
    is_in: impl Fn(&[String], &str) -> bool,
) -> Collapsed {
    let before = target.ask("report");
    let mut all = Seen { stacks: Collapsed { stacks: Vec::new() }, samples: 0.0, unmerged: 0 };
    for _ in 0..RECORDINGS {
        let seen = record(&target, &["-d", "1s", "-r", "2000"]);
        all.stacks.stacks.extend(seen.stacks.stacks);
        all.samples += seen.samples;
        all.unmerged += seen.unmerged;
        if all.samples >= ENOUGH {
            break;
        }
    }
    let told = counted(&before, &target.ask("report"), functions);
    assert!(all.samples >= ENOUGH, "{name}: {} samples", all.samples);
    assert_eq!(all.unmerged, 0, "{name}");
    for (function, told) in functions.iter().zip(told) {
        let shown = all.stacks.share_of(|stack| is_in(stack, function));
        let off = (told - shown).abs();
        assert!(off <= TOLERANCE, "{name}: {function}: counted {told:.3}, sampled {shown:.3}");
    }
    all.stacks
}

/// Start a program with one thread that runs.
fn start(interpreter: &Interpreter, program: &str, arguments: &[&str]) -> Target {
    Target::run(first(1, interpreter.run(program, arguments)))
}

fn of_functions(depth: usize) {
    let _alone = alone();
    for interpreter in versions() {
        let name = format!("{}, {depth} deep", interpreter.name);
        let target = start(interpreter, "shares.py", &[&depth.to_string()]);
        let functions = ["adds", "joins", "looks"];
        let has = |stack: &[String], name: &str| stack.iter().any(|frame| is_function(frame, name));
        let seen = agree(&name, target, &functions, has);
        // And each of them below all of its callers.
        for (stack, _) in &seen.stacks {
            if functions.iter().any(|name| has(stack, name)) {
                let descends = stack.iter().filter(|frame| is_function(frame, "descend"));
                assert_eq!(descends.count(), depth, "{name}: {stack:#?}");
            }
        }
    }
}

#[test]
fn of_functions_that_few_others_called() {
    of_functions(5);
}

#[test]
fn of_functions_that_many_others_called() {
    of_functions(200);
}

/// What the collector of garbage uses is no time of the function that happened
/// to start it.
#[test]
fn of_the_collector() {
    let _alone = alone();
    for interpreter in versions() {
        let target = start(interpreter, "collector.py", &[]);
        let is_in = |stack: &[String], name: &str| match name {
            "collects" => stack.iter().any(|frame| frame == "<gc>"),
            _ => stack.iter().any(|frame| is_function(frame, "compute")),
        };
        let seen = agree(&interpreter.name, target, &["collects", "computes"], is_in);
        let strange = |stack: &[String]| {
            stack.iter().any(|it| it == "<gc>") && stack.iter().any(|it| is_function(it, "compute"))
        };
        assert!(!seen.stacks.iter().any(|(stack, _)| strange(stack)), "{}", interpreter.name);
    }
}
