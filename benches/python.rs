//! What it costs to profile Python, beside py-spy 0.4.3 on the same target in
//! the same run: the table that `spy` was begun for.
//!
//! `cargo bench --bench python [-- NAME...]` prints a row a number, with the
//! bar that it has to clear, and fails when one does not. No case takes longer
//! than a minute on a machine that does nothing else. It needs what
//! `tests/interpreters` and `tests/environment` make, and strace.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it fails loudly, and is read"
)]

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

#[path = "rows/bare.rs"]
mod bare;
#[allow(dead_code, reason = "tests need more of it")]
#[path = "../tests/it/interpreters.rs"]
mod interpreters;
#[path = "python/profiler.rs"]
mod profiler;
#[path = "rows/mod.rs"]
mod rows;
#[allow(dead_code, reason = "tests need more of it")]
#[path = "../tests/it/portal/server.rs"]
mod server;
#[allow(dead_code, reason = "tests need more of it")]
#[path = "../tests/it/target.rs"]
mod target;

use interpreters::{environment, interpreter, program};
use profiler::{Profiler, Running, Spent};
use rows::{Bar, Case, Row};
use server::Portal;
use target::Target;

/// How long a target is watched, and left alone, at a time.
const WINDOW: Duration = Duration::from_millis(800);
/// How often each, by what is to be said of it: bars need more than yardsticks.
const PAIRS: usize = 16;
const FEW_PAIRS: usize = 3;
const CASES: &[Case] = &[
    ("3.11, 30 deep: CPU of a sample", || cost_of_a_sample("3.11", 30)),
    ("3.15, 30 deep: CPU of a sample", || cost_of_a_sample("3.15", 30)),
    ("3.11, 200 deep: CPU of a sample", || cost_of_a_sample("3.11", 200)),
    ("3.15, 200 deep: CPU of a sample", || cost_of_a_sample("3.15", 200)),
    ("2.7, 3.8: CPU of a sample", cost_on_the_heap),
    ("3.11: system calls", || system_calls("3.11")),
    ("3.15: system calls", || system_calls("3.15")),
    ("3.11: 1 busy thread, 100 Hz", || speed_left("3.11", 100, 0)),
    ("3.15: 1 busy thread, 100 Hz", || speed_left("3.15", 100, 0)),
    ("3.11: 1 busy thread, 1,000 Hz", || speed_left("3.11", 1000, 0)),
    ("3.15: 1 busy thread, 1,000 Hz", || speed_left("3.15", 1000, 0)),
    ("3.11: 151 threads, 100 Hz", || speed_left("3.11", 100, 149)),
    ("3.15: 151 threads, 100 Hz", || speed_left("3.15", 100, 149)),
    ("3.11: a million samples", || memory("3.11")),
    ("3.15: a million samples", || memory("3.15")),
    ("3.11: dump of 20 threads", || dump("3.11")),
    ("3.15: dump of 20 threads", || dump("3.15")),
    ("gevent under load, 100 Hz", gevent_under_load),
];

fn main() -> ExitCode {
    if rows::run(CASES) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn python(version: &str) -> Option<PathBuf> {
    let numbers = version.split_once('.').unwrap();
    let found = interpreter((numbers.0.parse().unwrap(), numbers.1.parse().unwrap()));
    if found.is_none() {
        eprintln!("skipped: no Python {version}");
    }
    found.map(|interpreter| interpreter.program.clone())
}

/// A program of `fixtures/python` in a version that is here.
fn start(version: &str, name: &str, argument: u32) -> Option<Target> {
    let python = python(version)?;
    Some(Target::run(program(&python, name, &[&argument.to_string()])))
}

/// What a recording spends on one sample: the difference between a long and a
/// short one, in which what it does once cancels out.
fn per_sample(
    profiler: Profiler,
    target: &Target,
    seconds: [u32; 2],
    measure: fn(Command) -> Spent,
) -> Spent {
    let [short, long] = seconds.map(|seconds| {
        let mut spent = measure(profiler.record(target.pid(), 100, Some(seconds)));
        spent.samples = profiler.samples();
        spent
    });
    long.minus(&short).over_samples()
}

fn cpu_of(profiler: Profiler, target: &Target) -> f64 {
    let mut times: Vec<f64> =
        (0..3).map(|_| per_sample(profiler, target, [1, 4], profiler::cpu).cpu * 1e6).collect();
    times.sort_by(f64::total_cmp);
    times[1]
}

/// One busy thread, seen with its native frames, beside py-spy, which is asked
/// for none.
fn cost_of_a_sample(version: &str, depth: u32) -> Vec<Row> {
    let Some(target) = start(version, "busy.py", depth) else { return Vec::new() };
    let [spy, other, native] = [Profiler::Spy, Profiler::PySpy, Profiler::PySpyNative]
        .map(|profiler| cpu_of(profiler, &target));
    vec![
        Row::new("µs, spy", spy, Bar::Shown),
        Row::new("µs, py-spy", other, Bar::Shown),
        Row::new("µs, py-spy -n", native, Bar::Shown),
        Row::new("of py-spy's", spy / other, Bar::AtMost(0.1)),
        Row::new("of py-spy -n's", spy / native, Bar::Shown),
    ]
}

/// Frames of 3.8 and 2.7 are objects each of its own.
fn cost_on_the_heap() -> Vec<Row> {
    let cost = |version| Some(cpu_of(Profiler::Spy, &start(version, "busy.py", 30)?));
    let Some(standard) = cost("3.11") else { return Vec::new() };
    let row = |version| {
        let of = cost(version)? / standard;
        Some(Row::new(format!("{version}: of 3.11's"), of, Bar::AtMost(2.0)))
    };
    ["3.8", "2.7"].into_iter().filter_map(row).collect()
}

fn system_calls(version: &str) -> Vec<Row> {
    let Some(target) = start(version, "busy.py", 30) else { return Vec::new() };
    let mut rows = Vec::new();
    // Traced, py-spy takes several times as long as it was asked to.
    for (profiler, name, seconds, all, reads) in [
        (Profiler::Spy, "spy", [1, 5], Bar::AtMost(8.0), Bar::AtMost(3.0)),
        (Profiler::PySpy, "py-spy", [1, 2], Bar::Shown, Bar::Shown),
        (Profiler::PySpyNative, "py-spy -n", [1, 2], Bar::Shown, Bar::Shown),
    ] {
        let spent = per_sample(profiler, &target, seconds, profiler::calls);
        let what = |rest| format!("{rest} a sample, {name}");
        rows.push(Row::new(what("system calls"), spent.calls, all));
        rows.push(Row::new(what("process_vm_readv"), spent.reads, reads));
    }
    rows
}

/// Steps a second of the wall clock, as the target itself counts both.
fn speed(target: &mut Target) -> f64 {
    let report = |target: &mut Target| -> HashMap<String, u64> { target.ask("report") };
    let before = report(target);
    thread::sleep(WINDOW);
    let after = report(target);
    let made = |key: &str| Duration::from_nanos(after[key] - before[key]).as_secs_f64();
    made("steps") / made("wall")
}

/// What `watched` is of `alone`, in turns, and what the profiler used of a CPU.
fn turns(
    pairs: usize,
    mut measure: impl FnMut() -> f64,
    watch: impl Fn() -> Running,
) -> (Vec<f64>, Vec<f64>) {
    let (mut left, mut used) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Every other pair begins with the other half.
        let first = (pair % 2 == 0).then(&mut measure);
        let profiler = watch();
        let (cpu, began) = (profiler.cpu(), Instant::now());
        let watched = measure();
        used.push((profiler.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64());
        profiler.finish();
        let alone = first.unwrap_or_else(&mut measure);
        left.push(watched / alone);
    }
    (left, used)
}

/// The thread of a process that has run for longest.
fn busiest(pid: i32) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
    let run = |task: &fs::DirEntry| -> u64 {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap();
        schedstat.split_whitespace().next().unwrap().parse().unwrap()
    };
    let busiest = tasks.max_by_key(run).unwrap();
    busiest.file_name().to_str().unwrap().parse().unwrap()
}

/// What the bare loop leaves of the speed at so many stops a second, and how
/// long each takes, in microseconds.
fn bare_loop(target: &mut Target, rate: u32) -> (Vec<f64>, Vec<f64>) {
    let pid = nix::unistd::Pid::from_raw(busiest(target.pid()));
    let (mut left, mut held) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS / 2 {
        let alone = speed(target);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let stops = scope.spawn(|| {
                let (mut buffer, mut times) = (vec![0; 4096], Vec::new());
                while !done.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_secs(1) / rate);
                    times.push(bare::stop(pid, &mut buffer).unwrap().as_secs_f64() * 1e6);
                }
                times
            });
            left.push(speed(target) / alone);
            done.store(true, Ordering::Relaxed);
            held.extend(stops.join().unwrap());
        });
    }
    (left, held)
}

fn speed_left(version: &str, rate: u32, sleepers: u32) -> Vec<Row> {
    let (program, argument) =
        if sleepers == 0 { ("busy.py", 30) } else { ("sleepers.py", sleepers) };
    let Some(mut target) = start(version, program, argument) else { return Vec::new() };
    speed(&mut target);
    let (speed_bar, cpu_bar) = match sleepers {
        0 => (Bar::AtLeast(0.95), Bar::Shown),
        // 0.15 s in 3 s.
        _ => (Bar::AtLeast(0.97), Bar::AtMost(0.05)),
    };
    let mut rows = Vec::new();
    for (profiler, name, pairs, speed_bar, cpu_bar) in [
        (Profiler::Spy, "spy", PAIRS, speed_bar, cpu_bar),
        (Profiler::PySpy, "py-spy", FEW_PAIRS, Bar::Shown, Bar::Shown),
        (Profiler::PySpyNative, "py-spy -n", FEW_PAIRS, Bar::Shown, Bar::Shown),
    ] {
        let pid = target.pid();
        let watch = || profiler.start(pid, pid, rate, &[]);
        let (mut left, mut used) = turns(pairs, || speed(&mut target), watch);
        rows.push(Row::middle(format!("speed left, {name}"), &mut left, speed_bar));
        rows.push(Row::middle(format!("of a CPU, {name}"), &mut used, cpu_bar));
        if profiler == Profiler::Spy && sleepers == 0 {
            let held = profiler.held();
            let (mut left, mut bare) = bare_loop(&mut target, rate);
            rows.push(Row::middle("speed left, the bare loop", &mut left, Bar::Shown));
            rows.push(Row::new("µs held, spy", held, Bar::Shown));
            rows.push(Row::middle("µs held, the bare loop", &mut bare, Bar::Shown));
            let ratio = held / bare[bare.len() / 2];
            rows.push(Row::new("held: of the bare loop's", ratio, Bar::AtMost(2.0)));
        }
    }
    rows
}

/// Whether what is kept grows with the samples: 66 threads at 1,000 Hz, the
/// idle ones too. The first seconds are for what is kept of each image and of
/// each distinct stack.
fn memory(version: &str) -> Vec<Row> {
    let Some(target) = start(version, "sleepers.py", 64) else { return Vec::new() };
    let (early, late) = (Duration::from_secs(4), Duration::from_secs(20));
    let mut rows = Vec::new();
    for (profiler, name, bar) in
        [(Profiler::Spy, "spy", Bar::AtMost(2.0)), (Profiler::PySpy, "py-spy", Bar::Shown)]
    {
        let running = profiler.start(target.pid(), target.pid(), 1000, &["--idle"]);
        let mut sizes = [early, late].map(|time| {
            thread::sleep(time.saturating_sub(running.began.elapsed()));
            running.memory()
        });
        running.finish();
        sizes[0] = sizes[1] - sizes[0];
        #[expect(clippy::cast_precision_loss, reason = "counts of samples are small")]
        let millions = profiler.samples_of_all() as f64 / 1e6;
        let what = |rest| format!("{rest}, {name}");
        rows.push(Row::new(what("million samples"), millions, Bar::Shown));
        rows.push(Row::new(what("MB held after them"), sizes[1], Bar::Shown));
        rows.push(Row::new(what("MB more than at first"), sizes[0], bar));
    }
    rows
}

/// The wall time of a dump, from the start of the program to its end.
fn dump(version: &str) -> Vec<Row> {
    let Some(target) = start(version, "sleepers.py", 18) else { return Vec::new() };
    let mut rows = Vec::new();
    for (profiler, name, bar) in
        [(Profiler::Spy, "spy", Bar::AtMost(60.0)), (Profiler::PySpy, "py-spy", Bar::Shown)]
    {
        let time = |_| {
            let mut command = profiler.command("dump", target.pid());
            let began = Instant::now();
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            assert!(status.success(), "{name} dump: {status}");
            began.elapsed().as_secs_f64() * 1000.0
        };
        let mut times: Vec<f64> = (0..11).map(time).collect();
        rows.push(Row::middle(format!("ms, {name}"), &mut times, bar));
    }
    rows
}

/// What is left of the requests a second of a worker that has all it can do.
fn gevent_under_load() -> Vec<Row> {
    let (python, _) = environment("3.11").expect("run tests/environment first");
    let portal = Portal::start(&python, "gevent", 1, "");
    let worker = *portal.workers().first().unwrap();
    let answered = || {
        // A server that was just loaded is a while faster or slower.
        let visitors = portal.visit(4, "history,register,history");
        thread::sleep(2 * WINDOW);
        visitors.leave()["requests_per_second"].as_f64().unwrap()
    };
    answered();
    let mut rows = Vec::new();
    for (profiler, name, pairs, bar) in [
        (Profiler::Spy, "spy", PAIRS / 2, Bar::AtLeast(0.97)),
        (Profiler::PySpy, "py-spy", 2, Bar::Shown),
        (Profiler::PySpyNative, "py-spy -n", 2, Bar::Shown),
    ] {
        let watch = || profiler.start(worker, worker, 100, &[]);
        let (mut left, mut used) = turns(pairs, answered, watch);
        rows.push(Row::middle(format!("requests a second left, {name}"), &mut left, bar));
        rows.push(Row::middle(format!("of a CPU, {name}"), &mut used, Bar::Shown));
    }
    assert!(fs::metadata(format!("/proc/{worker}")).is_ok(), "the worker ended");
    rows
}
