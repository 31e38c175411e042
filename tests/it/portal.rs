//! `spy` on a server that nobody here wrote, gunicorn, with an application that
//! is like many: a master and its workers of each class, under load.

mod server;

use std::{collections::HashMap, fs, ops::RangeInclusive, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    children::works_for,
    interpreters::{environment, project},
    observer::{Collapsed, Observer, run, spy},
    target::{alone, together},
};
use server::Portal;

/// The versions that a server is looked at on, where there is an environment.
const VERSIONS: &[&str] = &["3.11", "3.13", "3.15"];

/// A call in the portal: who calls, in which file, on the line with which text.
struct Call {
    caller: &'static str,
    file: &'static str,
    text: &'static str,
    callee: &'static str,
}

const fn call(
    caller: &'static str,
    file: &'static str,
    text: &'static str,
    callee: &'static str,
) -> Call {
    Call { caller, file, text, callee }
}

/// What a report does.
const CALLS: &[Call] = &[
    call("compile_report", "reports.py", "alike=alike(names)", "alike"),
    call("alike", "reports.py", "if edit_distance(name, other) <= limit", "edit_distance"),
];

/// What a registration does for long, where that is a fault.
const HASHING: &[Call] = &[
    call("register", "accounts.py", "password = hash_password(", "hash_password"),
    call("hash_password", "security.py", "return f\"{rounds}${salt.hex()}", "stretch"),
    call("stretch", "security.py", "state = mix(state, words[turn % len(words)])", "mix"),
];

/// The line of a source of the portal that has `text`, alone of its kind.
fn line(file: &str, text: &str) -> u32 {
    let source = fs::read_to_string(project("fixtures/portal/portal").join(file)).unwrap();
    let mut found = (1..).zip(source.lines()).filter(|(_, line)| line.contains(text));
    let (number, _) = found.next().unwrap_or_else(|| panic!("{file} has no {text:?}"));
    assert!(found.next().is_none(), "{file} has {text:?} twice");
    number
}

/// The lines of a function at the top of a source of the portal.
fn lines(file: &str, function: &str) -> RangeInclusive<u32> {
    let source = fs::read_to_string(project("fixtures/portal/portal").join(file)).unwrap();
    let first = line(file, &format!("def {function}("));
    let after = (1..).zip(source.lines()).skip_while(|&(number, _)| number <= first);
    let inside = after.take_while(|(_, line)| line.is_empty() || line.starts_with([' ', ')']));
    first..=inside.map(|(number, _)| number).last().unwrap()
}

/// A frame of Python as text has it: `function (folder/file.py:12)`.
fn place(frame: &str) -> Option<(&str, &str, u32)> {
    let (function, place) = frame.strip_suffix(')')?.rsplit_once(" (")?;
    let (file, line) = place.rsplit_once(':')?;
    file.ends_with(".py").then_some(())?;
    Some((function, file, line.parse().ok()?))
}

/// Demand that each of `calls` was seen, and never on another line.
#[track_caller]
fn sees(seen: &Collapsed, calls: &[Call]) {
    for Call { caller, file, text, callee } in calls {
        let right = line(file, text);
        let (mut times, mut wrong) = (0, Vec::new());
        for (frames, count) in &seen.stacks {
            let python: Vec<_> = frames.iter().filter_map(|frame| place(frame)).collect();
            for pair in python.windows(2) {
                let (function, source, line) = pair[0];
                if function == *caller && source.ends_with(file) && pair[1].0 == *callee {
                    times += count;
                    if line != right {
                        wrong.push(line);
                    }
                }
            }
        }
        assert!(times > 0, "{caller} never calls {callee}: {seen:#?}");
        assert!(wrong.is_empty(), "{caller} calls {callee} on line {right}, not {wrong:?}");
    }
}

/// What a recording of the whole tree of `portal` says: its statistics, and its
/// stacks. It has every worker, and stacks that fit together.
fn record(portal: &Portal, options: &[&str]) -> (Value, Collapsed) {
    record_until(portal, options, |observer| observer)
}

/// The same, of a recording that `end` may end.
fn record_until(
    portal: &Portal,
    options: &[&str],
    end: impl FnOnce(Observer) -> Observer,
) -> (Value, Collapsed) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (stats, master) = (file.path().to_str().unwrap(), portal.number());
    let record = ["record", "-s", "-p", &master, "-f", "raw", "-o", "-", "--stats", stats];
    let told = end(Observer::start(spy(&[&record[..], options].concat()))).finish().expect(0);
    let stats: Value = serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
    assert_eq!(stats["stacks"]["unmerged"], 0, "{stats:#}");
    let processes = stats["processes"].as_array().unwrap();
    for worker in portal.workers() {
        let process = processes.iter().find(|process| process["pid"] == *worker);
        let process = process.unwrap_or_else(|| panic!("{worker} is missing: {stats:#}"));
        assert!(process["kernel_cpu_seconds"].as_f64().unwrap() > 0.0, "{stats:#}");
    }
    (stats, Collapsed::read(&told.stdout))
}

/// Demand that a dump of the whole tree has every worker, and in it a function
/// of those by which it serves: from one of `files`.
fn dump(portal: &Portal, files: &[&str]) {
    let told = run(&["dump", "-s", "-j", "-p", &portal.number()]).expect(0);
    let processes: Vec<Value> = serde_json::from_str(&told.stdout).unwrap();
    for worker in portal.workers() {
        let process = processes.iter().find(|process| process["pid"] == *worker);
        let process = process.unwrap_or_else(|| panic!("{worker} is missing: {told:#?}"));
        let threads = process["threads"].as_array().unwrap();
        let mut frames = threads.iter().flat_map(|it| it["frames"].as_array().unwrap());
        let serves = |frame: &Value| {
            let file = frame["file"].as_str().unwrap_or_default();
            files.iter().any(|wanted| file.ends_with(wanted))
        };
        assert!(frames.any(serves), "{process:#}");
    }
}

/// A healthy portal under load, on every version.
fn is_seen_whole(class: &str, files: &[&str]) {
    let _together = together();
    assert!(environment("3.11").is_some(), "run tests/environment first");
    for version in VERSIONS {
        let Some((python, _)) = environment(version) else {
            eprintln!("skipped: no environment of Python {version}");
            continue;
        };
        let portal = Portal::start(&python, class, 2, "");
        let visitors = portal.visit(8, "history,register,report");
        let (_, seen) = record(&portal, &["--native", "-d", "3", "-r", "500"]);
        dump(&portal, files);
        let told = visitors.leave();
        assert_eq!(told["failures"], 0, "{told:#}");
        sees(&seen, CALLS);
        // Wherever it is met, it is met on one of its lines.
        for (function, file) in [("edit_distance", "reports.py"), ("render_history", "web.py")] {
            let file =
                if class == "uvicorn" { file.replace("web", "asynchronous") } else { file.into() };
            let right = lines(&file, function);
            let frames = seen.stacks.iter().flat_map(|(frames, _)| frames);
            let of_it = frames.filter_map(|it| place(it)).filter(|it| it.0 == function);
            let met: Vec<_> = of_it.map(|(_, _, line)| line).collect();
            assert!(!met.is_empty(), "{function} was never met: {seen:#?}");
            assert!(met.iter().all(|line| right.contains(line)), "{function}: {met:?}");
        }
    }
}

#[test]
fn gevent_workers_are_seen_whole() {
    is_seen_whole("gevent", &["gevent/hub.py", "workers/base_async.py", "workers/ggevent.py"]);
}

#[test]
fn gthread_workers_are_seen_whole() {
    is_seen_whole("gthread", &["workers/gthread.py"]);
}

#[test]
fn sync_workers_are_seen_whole() {
    is_seen_whole("sync", &["workers/sync.py"]);
}

#[test]
fn uvicorn_workers_are_seen_whole() {
    is_seen_whole("uvicorn", &["uvicorn_worker/_workers.py"]);
}

/// Functions of the portal, and the spans that it counts around them.
const SPANS: [(&str, &str); 3] = [
    ("hash_password", "/spans/hash_password/cpu_ns"),
    ("compile_report", "/spans/report/cpu_ns"),
    ("render_history", "/spans/render_history/cpu_ns"),
];
const ALL: &str = "/process_cpu_ns";

/// They are compared in recordings of so much CPU time, so many at least and at
/// most: samples of one request have much to do with each other, and it takes some
/// hundred requests for shares to be told.
const WINDOW: Duration = Duration::from_secs(1);
const RECORDINGS: RangeInclusive<usize> = 3..=12;

/// The shares of CPU time are those that the portal counted itself, in spans
/// around the same functions, in that very time.
#[test]
fn shares_are_those_that_the_portal_counts() {
    let _alone = alone();
    for class in ["gevent", "gthread"] {
        let (python, _) = environment("3.11").expect("run tests/environment first");
        let portal = Portal::start(&python, class, 1, "hash");
        let visitors = portal.visit(4, "history,register,report,history,history");
        let worker = *portal.workers().first().unwrap();
        let (mut spent, mut seen) = (HashMap::new(), Collapsed::default());
        let off = |spent: &HashMap<&str, f64>, seen: &Collapsed| {
            let off = SPANS.map(|(function, span)| {
                let counted = spent[span] / spent[ALL];
                let share = seen.share(|frame| place(frame).is_some_and(|it| it.0 == function));
                let is_off = (share - counted).abs() >= 0.03;
                is_off.then(|| format!("{function}: {share} of {counted}"))
            });
            off.into_iter().flatten().collect::<Vec<String>>()
        };
        for recording in 1..=*RECORDINGS.end() {
            let (_, stacks) = record_until(&portal, &["-r", "500"], |observer| {
                let observer = observer.watching(worker);
                let before = portal.counts();
                works_for(worker, WINDOW);
                let after = portal.counts();
                observer.signal(Signal::SIGINT);
                for span in SPANS.map(|it| it.1).into_iter().chain([ALL]) {
                    let of = |counts: &Value| counts.pointer(span).and_then(Value::as_f64);
                    // There is no span before it was entered for the first time.
                    let more = of(&after).unwrap_or(0.0) - of(&before).unwrap_or(0.0);
                    *spent.entry(span).or_default() += more;
                }
                observer
            });
            seen.stacks.extend(stacks.stacks);
            if RECORDINGS.contains(&recording) && off(&spent, &seen).is_empty() {
                break;
            }
        }
        visitors.leave();
        sees(&seen, HASHING);
        assert_eq!(off(&spent, &seen), Vec::<String>::new(), "{class}");
    }
}
