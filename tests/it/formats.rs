//! Formats that show the order of time, and what is shown of stacks that have
//! frames of a language runtime, on made-up recordings.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::Value;
use spy::{
    output::{self, Format, Lines, Locks, Mode, Options, Threads, View},
    profile::{ThreadId, Weight},
    stack::End,
    task::{Lock, State},
};

use crate::{
    golden,
    observer::run,
    outputs::{Made, OPTIONS, call},
    speedscope,
    target::{Target, together},
};

const RUNNING: (State, Lock) = (State::Running, Lock::Held);

const MAIN: &str = "~_start ~Py_RunMain ~_PyEval_EvalFrameDefault \
    <module>@/srv/app/portal.py:90/1 serve@/srv/app/portal.py:41/30";

/// Two interpreters' threads and one of machine code, in the order of time.
struct Story {
    made: Made,
    /// When each thread was seen last, in milliseconds.
    until: BTreeMap<ThreadId, u64>,
}

impl Story {
    /// Seen so for `wall` milliseconds, of which it used `cpu`.
    fn next(&mut self, thread: ThreadId, doing: (State, Lock), stack: &str, times: (u64, u64)) {
        self.next_cut(thread, doing, (stack, End::Root), times);
    }

    fn next_cut(
        &mut self,
        thread: ThreadId,
        doing: (State, Lock),
        stack: (&str, End),
        (wall, cpu): (u64, u64),
    ) {
        let key = self.made.key(thread, doing, stack);
        let until = self.until.entry(thread).or_default();
        let time = Duration::from_millis;
        let weight = Weight { ticks: 1, wall: time(wall), cpu: time(cpu), queued: Duration::ZERO };
        self.made.profile.count_since(key, weight, time(*until));
        *until += wall;
    }

    /// Nobody looks for so many milliseconds.
    fn pause(&mut self, thread: ThreadId, millis: u64) {
        *self.until.entry(thread).or_default() += millis;
    }
}

fn story() -> Made {
    let mut made = Made::new();
    made.profile.keep_timeline();
    made.process(4711, "python3 /srv/app/portal.py \"--title=<ü>\"");
    let main = made.thread(0, 4711, "portal");
    let worker = made.thread(0, 4712, "worker; \"1\"\x1b[2J");
    let native = made.thread(0, 4713, "resolver");
    let idle = made.thread(0, 4714, "idle");
    let mut story = Story { made, until: BTreeMap::new() };

    let poll = format!("{MAIN} poll@/usr/lib/python3.11/selectors.py:468/451 ~epoll_wait");
    let asleep = (call(libc::SYS_epoll_wait), Lock::Without);
    let packages = "/opt/lib/python3.11/site-packages/jinja2";
    let render = |line| format!("{MAIN} render@{packages}/environment.py:{line}/1290");
    let escape = |line| format!("{} ~escape_unicode ~memcpy", render(line));
    story.next(main, RUNNING, &render(1300), (10, 9));
    story.next(main, RUNNING, &render(1300), (10, 10));
    story.next(main, RUNNING, &escape(1301), (10, 10));
    story.next(main, asleep, &poll, (200, 0));
    story.next(main, (State::Queued, Lock::Wanted), &render(1304), (10, 3));

    story.pause(worker, 50);
    let nested = "~start_thread ~_PyEval_EvalFrameDefault run@/srv/app/pool.py:7/5 ~sorted \
        ~_PyEval_EvalFrameDefault key@/srv/app/pool.py:20/19";
    story.next(worker, RUNNING, nested, (10, 10));
    story.next(
        worker,
        (State::Running, Lock::Without),
        &format!("{nested} ~sqlite3_step"),
        (30, 28),
    );
    story.pause(worker, 100);
    let cut = ("~jit key@/srv/app/pool.py:20/19", End::NoUnwindInfo);
    story.next_cut(worker, (State::Running, Lock::Without), cut, (10, 4));

    story.next(native, (State::Running, Lock::Without), "~start_thread ~resolve", (20, 1));
    story.next(idle, asleep, "~start_thread ~epoll_wait", (240, 0));
    story.made
}

#[test]
fn each_view_shows_its_frames() {
    let story = story();
    let check = |name: &str, view| {
        let options = Options { view, mode: Mode::Wall, threads: Threads::Apart, ..OPTIONS };
        golden::check(name, &story.write(Format::Collapsed, &options));
    };
    check("view-default.txt", View::Default);
    check("view-native.txt", View::Native);
    check("view-managed.txt", View::Managed);
    let samples = |view| output::samples(&story.profile, &Options { view, ..OPTIONS });
    assert_eq!((samples(View::Default), samples(View::Managed)), (8, 7));
}

#[test]
fn only_the_holders_of_the_lock() {
    let options = Options { locks: Locks::Held, mode: Mode::Wall, ..OPTIONS };
    let story = story();
    let text = story.write(Format::Collapsed, &options);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!text.contains("sqlite3_step") && !text.contains("epoll_wait"), "{text}");
    let svg = story.write(Format::Flamegraph, &options);
    assert!(svg.contains("wall clock lock-held, 10.0 s at 100 Hz: 4 samples"), "{svg}");
    // One who asks for a lock that nobody has is told so.
    let mut none = Made::new();
    none.process(1, "c");
    let thread = none.thread(0, 1, "c");
    none.count(thread, State::Running, "~main", 3);
    let svg = none.write(Format::Flamegraph, &options);
    assert!(svg.contains("no thread was seen to hold the interpreter lock"), "{svg}");
    let managed = Options { view: View::Managed, ..OPTIONS };
    let svg = none.write(Format::Flamegraph, &managed);
    assert!(svg.contains("no thread was seen to run a language runtime"), "{svg}");
}

#[test]
fn a_function_is_shown_by_its_first_line() {
    let options = Options { lines: Lines::First, ..OPTIONS };
    let text = story().write(Format::Collapsed, &options);
    let render = "serve (portal.py:30);render (jinja2/environment.py:1290) 22000";
    assert!(text.contains(render), "{text}");
    let options = Options { lines: Lines::Together, ..OPTIONS };
    let text = story().write(Format::Collapsed, &options);
    assert!(text.contains("serve (portal.py);render (jinja2/environment.py) 22000"), "{text}");
}

/// A thread of a file for speedscope: its name, its line of samples, each with
/// its frames, outermost first, and its weight; and where the line begins.
#[derive(Debug, PartialEq)]
struct Thread {
    name: String,
    start: u64,
    samples: Vec<(Vec<String>, u64)>,
}

/// The threads of a file for speedscope, which must be as its schema says and
/// whole.
fn read(text: &str) -> Vec<Thread> {
    let file: Value = serde_json::from_str(text).unwrap();
    speedscope::check_schema(&file);
    let frames = file["shared"]["frames"].as_array().unwrap();
    let frame = |id: &Value| {
        let frame = &frames[usize::try_from(id.as_u64().unwrap()).unwrap()];
        let place = |key: &str| match &frame[key] {
            Value::Null => String::new(),
            value => format!(" {value}"),
        };
        format!("{}{}{}", frame["name"].as_str().unwrap(), place("file"), place("line"))
    };
    let thread = |profile: &Value| {
        assert_eq!(profile["unit"], "microseconds");
        let samples = profile["samples"].as_array().unwrap();
        let weights: Vec<u64> =
            profile["weights"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect();
        assert_eq!(samples.len(), weights.len());
        let start = profile["startValue"].as_u64().unwrap();
        assert_eq!(profile["endValue"].as_u64().unwrap(), start + weights.iter().sum::<u64>());
        let stacks = samples.iter().map(|ids| ids.as_array().unwrap().iter().map(frame).collect());
        let name = profile["name"].as_str().unwrap().to_owned();
        Thread { name, start, samples: stacks.zip(weights).collect() }
    };
    file["profiles"].as_array().unwrap().iter().map(thread).collect()
}

#[test]
fn speedscope_is_given_each_thread() {
    let story = story();
    let on_cpu = story.write(Format::Speedscope, &OPTIONS);
    golden::check("on-cpu.speedscope.json", &on_cpu);
    let threads = read(&on_cpu);
    // What slept alone is not there; who used most comes first.
    let total = |thread: &Thread| thread.samples.iter().map(|(_, weight)| weight).sum();
    let totals: Vec<u64> = threads.iter().map(total).collect();
    assert_eq!(totals, [42_000, 32_000, 1_000]);
    assert_eq!(threads[0].name, "process 4711 thread worker; \"1\"\\x1b[2J (4712)");
    // Seen twice at the same place, for CPU time of 9 and 10 ms.
    let (frames, weight) = &threads[1].samples[0];
    assert_eq!(frames.last().unwrap(), "render \"jinja2/environment.py\" 1300");
    assert_eq!(*weight, 19_000);
}

#[test]
fn in_wall_time_nothing_is_left_out() {
    let wall = Options { mode: Mode::Wall, ..OPTIONS };
    let text = story().write(Format::Speedscope, &wall);
    golden::check("wall.speedscope.json", &text);
    let threads = read(&text);
    let worker = threads.iter().find(|thread| thread.name.contains("worker")).unwrap();
    assert_eq!(worker.start, 50_000);
    let weights: Vec<u64> = worker.samples.iter().map(|(_, weight)| *weight).collect();
    assert_eq!(weights, [10_000, 30_000, 100_000, 10_000]);
    assert!(worker.samples[2].0.is_empty(), "nobody looked");
    // What is not wanted leaves a gap.
    let held = Options { locks: Locks::Held, ..wall };
    let threads = read(&story().write(Format::Speedscope, &held));
    assert_eq!(threads.len(), 2);
    let main: Vec<usize> = threads[0].samples.iter().map(|(frames, _)| frames.len()).collect();
    assert_eq!(main, [3, 5, 0, 0]);
}

#[test]
fn totals_are_those_of_the_collapsed_stacks() {
    let story = story();
    for mode in [Mode::OnCpu, Mode::Wall] {
        for view in [View::Default, View::Native, View::Managed] {
            let options = Options { mode, view, ..OPTIONS };
            let collapsed = story.write(Format::Collapsed, &options);
            let collapsed: u64 = collapsed
                .lines()
                .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                .sum();
            let threads = read(&story.write(Format::Speedscope, &options));
            let samples = threads.iter().flat_map(|thread| &thread.samples);
            let shown = samples.filter(|(frames, _)| !frames.is_empty());
            assert_eq!(shown.map(|(_, weight)| weight).sum::<u64>(), collapsed, "{options:?}");
        }
    }
}

#[test]
fn speedscope_shows_it() {
    let wall = Options { mode: Mode::Wall, ..OPTIONS };
    for options in [OPTIONS, wall] {
        let text = story().write(Format::Speedscope, &options);
        let Some(page) = speedscope::load("portal.speedscope.json", &text) else { return };
        for shown in ["run", "key", "sqlite3_step", "process 4711 thread worker"] {
            assert!(page.contains(shown), "{shown} is not in\n{page}");
        }
    }
    let mut empty = Made::new();
    empty.process(1, "nothing");
    let text = empty.write(Format::Speedscope, &OPTIONS);
    read(&text);
    let page = speedscope::load("nothing.speedscope.json", &text).unwrap();
    assert!(page.contains("nothing to be shown"), "{page}");
}

/// What a thread of a trace did: `(since, until, depth, function)`, in the
/// order in which functions begin.
type Calls = Vec<(u64, u64, usize, String)>;

/// The calls of each thread of a trace, which must be whole.
fn calls(text: &str) -> BTreeMap<(u64, u64), Calls> {
    let events: Vec<Value> = serde_json::from_str(text).unwrap();
    let mut threads = BTreeMap::<_, (Vec<usize>, Calls, u64)>::new();
    for event in events.iter().filter(|event| event["ph"] != "M") {
        let number = |key: &str| event[key].as_u64().unwrap();
        let (open, calls, last) = threads.entry((number("pid"), number("tid"))).or_default();
        let at = number("ts");
        assert!(at >= *last, "time goes back: {event}");
        *last = at;
        let function = event["name"].as_str().unwrap().to_owned();
        match event["ph"].as_str().unwrap() {
            "B" => {
                open.push(calls.len());
                calls.push((at, 0, open.len(), function));
            }
            "E" => {
                let ended = &mut calls[open.pop().unwrap()];
                assert_eq!(ended.3, function, "what began last ends first");
                assert!(at > ended.0, "nothing takes no time: {event}");
                ended.1 = at;
            }
            other => panic!("{other}"),
        }
    }
    let whole = |(id, (open, calls, _)): (_, (Vec<usize>, _, _))| {
        assert!(open.is_empty(), "something did not end");
        (id, calls)
    };
    threads.into_iter().map(whole).collect()
}

#[test]
fn traces_hold_what_successive_samples_share() {
    let story = story();
    let text = story.write(Format::ChromeTrace, &OPTIONS);
    golden::check("on-cpu.trace.json", &text);
    let threads = calls(&text);
    let call = |since, until, depth, function: &str| (since, until, depth, function.to_owned());
    let expected = [
        call(0, 30_000, 1, "<module>"),
        call(0, 30_000, 2, "serve"),
        call(0, 20_000, 3, "render"),
        call(20_000, 30_000, 3, "render"),
        call(20_000, 30_000, 4, "escape_unicode"),
        call(20_000, 30_000, 5, "memcpy"),
        // It slept.
        call(230_000, 240_000, 1, "<module>"),
        call(230_000, 240_000, 2, "serve"),
        call(230_000, 240_000, 3, "render"),
    ];
    assert_eq!(threads[&(4711, 4711)], expected);
    assert_eq!(threads[&(4711, 4712)].iter().map(|it| it.0).max(), Some(190_000));
    assert_eq!(calls("[]"), BTreeMap::new());

    let together = Options { mode: Mode::Wall, lines: Lines::Together, ..OPTIONS };
    let threads = calls(&story.write(Format::ChromeTrace, &together));
    assert_eq!(threads[&(4711, 4711)][0], call(0, 240_000, 1, "<module>"));
    assert_eq!(threads[&(4711, 4711)][2], call(0, 30_000, 3, "render"));
    assert!(threads[&(4711, 4714)].contains(&call(0, 240_000, 3, "[epoll_wait]")));

    assert_eq!(Made::new().write(Format::ChromeTrace, &OPTIONS), "[]\n");
}

/// Speedscope reads traces, too, and complains of events that do not match.
#[test]
fn a_trace_can_be_loaded() {
    let text = story().write(Format::ChromeTrace, &OPTIONS);
    let Some(page) = speedscope::load("portal.trace.json", &text) else { return };
    for shown in ["serve", "render", "environment.py", "escape_unicode"] {
        assert!(page.contains(shown), "{shown} is not in\n{page}");
    }
}

#[test]
fn live_recordings_are_whole() {
    let _together = together();
    let mut target = Target::start("hot.c", &["-O2"], &["1"]);
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (file, stats) = (path("hot.speedscope.json"), path("stats.json"));
    let record = ["record", "-d", "1", "-p", &target.number(), "-o"];
    run(&[&record[..], &[&file, "--stats", &stats]].concat()).expect(0);
    let threads = read(&fs::read_to_string(&file).unwrap());
    let samples = || threads.iter().flat_map(|thread| &thread.samples);
    assert!(samples().any(|(frames, _)| frames.iter().any(|it| it.starts_with("hot_add"))));
    let stats: Value = serde_json::from_str(&fs::read_to_string(stats).unwrap()).unwrap();
    let sampled = Duration::from_secs_f64(stats["cpu_seconds"]["sampled"].as_f64().unwrap());
    let shown = Duration::from_micros(samples().map(|(_, weight)| weight).sum());
    // Parts of microseconds are added up by thread.
    assert!(sampled.abs_diff(shown) < Duration::from_micros(100), "{sampled:?} {shown:?}");

    let file = path("hot.trace.json");
    run(&[&record[..], &[&file, "--wall"]].concat()).expect(0);
    let threads = calls(&fs::read_to_string(&file).unwrap());
    assert!(threads.values().flatten().any(|(.., function)| function == "hot_add"), "{threads:?}");
    target.is_unharmed("hot_add");
}
