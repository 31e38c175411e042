//! The shares of CPU time that a recording shows of functions in Python are
//! those that the program itself counted, on every version.

use std::{collections::HashMap, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    children::works_for,
    interpreters::{Interpreter, versions},
    observer::{Collapsed, Observer, is_function, spy},
    target::{Target, alone, first},
};

/// How far a share may be off.
const TOLERANCE: f64 = 0.03;

/// So many samples are judged, all at once: a share of a half of as many is off by
/// 0.8 points by chance alone, if they have nothing to do with each other. On a
/// machine that does much else they have, for they come in the moments that it
/// gives the target: if a share is off, more are taken.
const ENOUGH: f64 = 4000.0;

/// They are taken in recordings of so much CPU time of the target, as many as
/// are needed: on a machine that does much else it takes more, but not more than
/// so many.
const WINDOW: Duration = Duration::from_secs(1);
const RECORDINGS: usize = 16;

/// What was seen of a target, and what it counted meanwhile.
#[derive(Default)]
struct Seen {
    stacks: Collapsed,
    samples: f64,
    unmerged: u64,
    counted: HashMap<String, u64>,
}

impl Seen {
    /// Add a recording. What the target does before that and after it is not
    /// counted: the program that reads the symbols takes the memory's time, and
    /// some functions need more of that than others.
    fn record(&mut self, target: &mut Target) {
        let stats = tempfile::NamedTempFile::new().unwrap();
        let path = stats.path().to_str().unwrap();
        let number = target.number();
        let fixed = ["record", "-f", "collapsed", "-o", "-", "-r", "2000", "--stats", path];
        let command = spy(&[&fixed[..], &["-p", &number]].concat());
        let observer = Observer::start(first(2, command)).watching(target.pid());
        let before = target.ask("report");
        works_for(target.pid(), WINDOW);
        let after = target.ask("report");
        observer.signal(Signal::SIGINT);
        let told = observer.finish().expect(0);
        let stats: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        self.stacks.stacks.extend(Collapsed::read(&told.stdout).stacks);
        self.samples += stats["samples"]["stopped"].as_f64().unwrap();
        self.unmerged += stats["stacks"]["unmerged"].as_u64().unwrap();
        for (name, now) in after {
            *self.counted.entry(name.clone()).or_default() += now - before[&name];
        }
    }

    /// The share that the target counted of what it counted at all.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of some seconds")]
    fn counted(&self, function: &str) -> f64 {
        self.counted[function] as f64 / self.counted["all"] as f64
    }
}

/// Record, and check that every one of `functions` has the share that the target
/// counted.
fn agree(
    name: &str,
    mut target: Target,
    functions: &[&str],
    is_in: impl Fn(&[String], &str) -> bool,
) -> Collapsed {
    let mut seen = Seen::default();
    let off = |seen: &Seen| {
        let off = functions.iter().map(|function| {
            let [told, shown] =
                [seen.counted(function), seen.stacks.share_of(|it| is_in(it, function))];
            let is_off = (told - shown).abs() > TOLERANCE;
            is_off.then(|| format!("{function}: counted {told:.3}, sampled {shown:.3}"))
        });
        off.flatten().collect::<Vec<String>>()
    };
    for _ in 0..RECORDINGS {
        seen.record(&mut target);
        if seen.samples >= ENOUGH && off(&seen).is_empty() {
            break;
        }
    }
    assert!(seen.samples >= ENOUGH, "{name}: {} samples", seen.samples);
    assert_eq!(seen.unmerged, 0, "{name}");
    assert_eq!(off(&seen), Vec::<String>::new(), "{name}");
    seen.stacks
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
