//! What no thread is on: the greenlets and the tasks of programs that know how
//! many they have, and in which functions.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use super::dumped::{dump, frames, function, managed, threads, waits_for_input};
use crate::{
    interpreters::{environment, program, versions},
    observer::run,
    target::{Target, together},
};

/// How many there are at each time.
const COUNTS: [u64; 3] = [30, 300, 3000];

/// The environments with gevent: 3.11 has to be there.
const ENVIRONMENTS: [&str; 5] = ["3.11", "3.12", "3.13", "3.14", "3.15"];

/// The programs' own functions on the stack of a greenlet or a task, innermost
/// first, with their lines.
fn own(one: &Value, file: &str) -> Vec<(String, u64)> {
    let own = frames(one).iter().filter(|frame| frame["file"].as_str().unwrap().ends_with(file));
    own.map(|frame| (function(frame).to_owned(), frame["line"].as_u64().unwrap())).collect()
}

/// How many there are of each kind, state and stack.
fn tally(all: &Value, file: &str) -> BTreeMap<(String, String), u64> {
    let mut tally = BTreeMap::new();
    for one in all.as_array().unwrap() {
        assert_eq!(one["complete"], true, "{one:#}");
        let functions: Vec<_> = own(one, file).into_iter().map(|(name, _)| name).collect();
        let kind = one["kind"].as_str().unwrap_or("task");
        let key = (format!("{kind} {}", one["state"].as_str().unwrap()), functions.join(" < "));
        *tally.entry(key).or_default() += 1;
    }
    tally
}

/// The same as it should be.
fn expected(rows: &[(&str, &str, u64)]) -> BTreeMap<(String, String), u64> {
    let row =
        |&(kind, stack, count): &(&str, &str, u64)| ((kind.to_owned(), stack.to_owned()), count);
    rows.iter().map(row).collect()
}

/// The line of the fixture that contains `text`.
fn line(source: &str, text: &str) -> u64 {
    1 + source.lines().position(|line| line.contains(text)).unwrap() as u64
}

const GREENLETS: &str = include_str!("../../../fixtures/python/greenlets.py");
const AWAITING: &str = include_str!("../../../fixtures/python/awaiting.py");

fn greenlets(command: Command, count: u64, is_blocked: bool) -> (Target, Value) {
    let mut target = Target::run(command);
    let said = target.ask("report");
    assert_eq!(said["plain"] + said["deeper"], count);
    if is_blocked {
        waits_for_input(&target);
    }
    let process = dump(target.pid(), &[]);
    let tally = tally(&process["greenlets"], "greenlets.py");
    let (main, hub) = if is_blocked {
        (("main running", "", 1), ("hub waiting", "", 1))
    } else {
        (("main waiting", "main < <module>", 1), ("hub running", "", 1))
    };
    // What has ended is not there.
    assert_eq!(said["dead"], 5);
    let rows = [
        ("greenlet waiting", "wait_for", said["plain"]),
        ("greenlet waiting", "wait_for < wait_deeper", said["deeper"]),
        ("greenlet waiting", "wait_for_lock", said["locked"]),
        ("greenlet waiting", "nap", said["napping"]),
        ("greenlet waiting", "switched", said["bare"]),
        ("greenlet new", "", said["unbegun"]),
        main,
        hub,
    ];
    assert_eq!(tally, expected(&rows), "{count}");
    assert_eq!(process["tasks"].as_array().unwrap().len(), 0);
    (target, process)
}

#[test]
fn every_greenlet_is_found_and_none_twice() {
    let _together = together();
    for version in ENVIRONMENTS {
        let Some((python, _)) = environment(version) else {
            assert_ne!(version, "3.11", "run tests/environment");
            eprintln!("skipped: no environment of Python {version}");
            continue;
        };
        for count in COUNTS {
            let command = program(&python, "greenlets.py", &[&count.to_string()]);
            let (_target, process) = greenlets(command, count, false);
            let all = process["greenlets"].as_array().unwrap();
            // Named, of their own type, and at their lines.
            let names = all.iter().filter_map(|one| one["name"].as_str());
            let mut names: Vec<_> = names.collect();
            names.sort_unstable();
            assert_eq!(names, ["locked-0", "locked-1", "locked-2"], "{version}");
            let deeper = [
                ("wait_for".to_owned(), line(GREENLETS, "event.wait()")),
                ("wait_deeper".to_owned(), line(GREENLETS, "    wait_for(event)")),
            ];
            let workers = all.iter().filter(|one| one["class"] == "Worker");
            let stacks: Vec<_> = workers.map(|one| own(one, "greenlets.py")).collect();
            assert_eq!(stacks.len() as u64, count / 3, "{version}");
            assert!(stacks.iter().all(|stack| stack[..] == deeper), "{version}: {stacks:#?}");
        }
    }
}

/// The greenlet that runs is on the stack of its thread, and nowhere else.
#[test]
fn a_hub_that_is_kept_from_running_is_parked() {
    let _together = together();
    let (python, _) = environment("3.11").expect("run tests/environment");
    let command = program(&python, "greenlets.py", &["30", "blocked"]);
    let (_target, process) = greenlets(command, 30, true);
    let [thread] = threads(&process) else { panic!("{process:#}") };
    assert_eq!(managed(thread), ["main", "<module>"]);
    let hub = process["greenlets"].as_array().unwrap().iter().find(|one| one["kind"] == "hub");
    let frame = &frames(hub.unwrap())[0];
    assert_eq!((function(frame), frame["line"].is_u64()), ("Hub.run", true), "{hub:#?}");
}

#[test]
fn people_are_shown_each_stack_once() {
    let _together = together();
    let (python, _) = environment("3.11").expect("run tests/environment");
    let target = Target::run(program(&python, "greenlets.py", &["300"]));
    let told = run(&["dump", "-p", &target.number()]).expect(0).stdout;
    for head in [
        "\n200 greenlets\n",
        "\n100 greenlets (Worker)\n",
        "\n6 greenlets, not begun\n",
        "\n1 main greenlet\n",
    ] {
        assert_eq!(told.matches(head).count(), 1, "{head:?}: {told}");
    }
    assert_eq!(told.matches("wait_deeper").count(), 1, "{told}");
    assert_eq!(told.matches("\n3 greenlets: locked-").count(), 1, "{told}");
    let without = run(&["dump", "--no-parked", "-p", &target.number()]).expect(0).stdout;
    assert!(without.contains("MainThread") && !without.contains("wait_deeper"), "{without}");
}

#[test]
fn every_task_is_found_and_none_twice() {
    let _together = together();
    let mut interpreters = 0;
    for interpreter in versions().filter(|found| found.version >= (3, 8)) {
        interpreters += 1;
        for count in COUNTS {
            let name = &interpreter.name;
            let mut target = Target::run(interpreter.run("awaiting.py", &[&count.to_string()]));
            let said = target.ask("report");
            assert_eq!(said["plain"] + said["deeper"], count);
            waits_for_input(&target);
            let process = dump(target.pid(), &[]);
            assert_eq!(process["greenlets"].as_array().unwrap().len(), 0, "{name}");
            assert_eq!(said["done"], 5);
            let waits = "task waiting";
            let deeper = said["deeper"] + said["python"];
            let rows = [
                (waits, "wait_for_lock", said["plain"]),
                (waits, "wait_for_lock < wait_deeper", deeper),
                (waits, "wait_for_lock < numbers < take", said["generators"]),
                (waits, "wait_for_lock < wait_deeper < take_awaitable", said["awaitables"]),
                (waits, "wait_for_task", 1),
                (waits, "gather", 1),
                ("task new", "", said["new"]),
                ("task running", "", 1),
            ];
            let all = &process["tasks"];
            let stem = |text: String| text.rsplit('.').next().unwrap_or_default().to_owned();
            let found = tally(all, "awaiting.py")
                .into_iter()
                .map(|((kind, stack), count)| ((kind, stem(stack)), count));
            assert_eq!(found.collect::<BTreeMap<_, _>>(), expected(&rows), "{name}: {count}");
            let all = all.as_array().unwrap();
            relations(all, name);
            let mut classes: Vec<_> =
                all.iter().map(|one| one["class"].as_str().unwrap()).collect();
            classes.sort_unstable();
            classes.dedup();
            assert_eq!(classes, ["Own", "Task", "_asyncio.Task"], "{name}");
        }
    }
    assert!(interpreters > 0);
}

/// What waits for what; and where, in a stack that is known to the line.
fn relations(all: &[Value], name: &str) {
    let named = |wanted: &str| all.iter().find(|one| one["name"] == wanted).unwrap();
    let first = named("first");
    assert_eq!(named("on-task")["waits_for"], Value::from(vec![first["at"].clone()]), "{name}");
    let children = named("on-many")["waits_for"].as_array().unwrap();
    assert_eq!(children.len(), 2, "{name}: {children:#?}");
    for child in children {
        let child = all.iter().find(|one| one["at"] == *child).unwrap();
        let at = ("wait_for_lock".to_owned(), line(AWAITING, "async with lock:"));
        assert_eq!(own(child, "awaiting.py"), [at], "{name}");
    }
    let others = all.iter().filter(|one| !one["waits_for"].as_array().unwrap().is_empty());
    assert_eq!(others.count(), 2, "{name}");
}
