//! What watching costs the target, and what it costs here. Each number is
//! taken beside its yardstick in one run: the target's speed in turns alone
//! and watched, so that whatever else the machine does falls on both.
//!
//! `cargo bench --bench disturb [-- NAME...]` prints a row a case, with the
//! bar that it has to clear, and fails when one does not. On a machine that
//! does much else, `--first` gives both a priority before all that has none.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it fails loudly, and is read"
)]

use std::{
    fs,
    io::IoSliceMut,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        uio::{RemoteIoVec, process_vm_readv},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;

#[path = "rows/mod.rs"]
mod rows;
#[allow(dead_code, reason = "tests need more of it")]
#[path = "../tests/it/target.rs"]
mod target;

use rows::{Bar, Case, Row};
use target::{Target, build, first, until};

/// How long the target is watched, and left alone, at a time.
const WINDOW: Duration = Duration::from_millis(800);
/// How often each. The programs end after two minutes.
const PAIRS: usize = 24;

fn main() -> ExitCode {
    if rows::run(CASES) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the machine does much else.
fn come_first() -> bool {
    std::env::args().any(|argument| argument == "--first")
}

/// Start a target.
fn target(source: &str, arguments: &[&str]) -> Target {
    let mut command = Command::new(build(source, &["-O2"]));
    command.args(arguments);
    Target::run(if come_first() { first(1, command) } else { command })
}

const CASES: &[Case] = &[
    ("151 threads, 1 busy, 100 Hz", || disturb(149, 100, 0.98, Some(0.05))),
    ("1,000 threads, 1 busy, 100 Hz", || disturb(998, 100, 0.98, Some(0.15))),
    ("1 busy thread, 1,000 Hz", || {
        let mut rows = disturb(0, 1000, 0.96, None);
        rows.push(bare(1000));
        rows
    }),
    ("1 busy thread, 10,000 Hz", keep_the_rate),
    ("100 libraries", first_sample),
    ("a million samples", memory),
];

/// A recording that runs until it is told to stop.
struct Observer {
    child: Child,
    stats: tempfile::NamedTempFile,
    began: Instant,
}

impl Observer {
    fn start(target: &Target, rate: u32) -> Self {
        let stats = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_spy"));
        command.args(["record", "--format", "collapsed", "--output", "/dev/null"]);
        command.args(["--rate", &rate.to_string(), "--pid", &target.number(), "--stats"]);
        command.arg(stats.path());
        let mut command = if come_first() { first(2, command) } else { command };
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let open = format!("/proc/{}/fd", child.id());
        let task = format!("/{}/task/", target.pid());
        until("spy watches", || {
            assert!(child.try_wait().unwrap().is_none(), "spy ended");
            let mut files =
                fs::read_dir(&open).ok()?.filter_map(|it| fs::read_link(it.ok()?.path()).ok());
            files.any(|file| file.to_string_lossy().contains(&task)).then_some(())
        });
        Self { child, stats, began: Instant::now() }
    }

    /// The CPU time that its threads used until now.
    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let used = tasks.filter_map(|task| {
            let schedstat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            schedstat.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(used.sum())
    }

    /// Memory of its own, without mapped files, in megabytes.
    fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Let it write, and say what it cost.
    fn finish(mut self) -> Value {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_slice(&fs::read(self.stats.path()).unwrap()).unwrap()
    }
}

fn number(stats: &Value, path: &str) -> f64 {
    stats.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {stats:#}"))
}

/// Steps a second of the wall clock, as the target itself counts both.
fn speed(target: &mut Target) -> f64 {
    let before = target.ask("report");
    thread::sleep(WINDOW);
    let after = target.ask("report");
    let made = |key: &str| f64::from(u32::try_from((after[key] - before[key]) / 1000).unwrap());
    // Steps are counted in thousands here, and the wall in microseconds.
    made("steps") / made("wall")
}

/// How much of its speed a target with `idle` sleeping threads and a busy one
/// keeps, and what the observer uses of a CPU, startup and output aside.
fn disturb(idle: u32, rate: u32, speed_bar: f64, cpu_bar: Option<f64>) -> Vec<Row> {
    let mut target = target("many.c", &[&idle.to_string(), "1"]);
    speed(&mut target);
    let (mut ratios, mut used, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Every other pair begins with the other half.
        let first = (pair % 2 == 0).then(|| speed(&mut target));
        let observer = Observer::start(&target, rate);
        let (cpu, began) = (observer.cpu(), Instant::now());
        let watched = speed(&mut target);
        used.push((observer.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64());
        held.push(number(&observer.finish(), "/held_microseconds/p50"));
        let alone = first.unwrap_or_else(|| speed(&mut target));
        ratios.push(watched / alone);
    }
    let used_bar = cpu_bar.map_or(Bar::Shown, Bar::AtMost);
    vec![
        Row::middle("speed left to the target", &mut ratios, Bar::AtLeast(speed_bar)),
        Row::middle("of a CPU used by spy", &mut used, used_bar),
        Row::middle("microseconds held, p50", &mut held, Bar::Shown),
    ]
}

/// What the shortest loop leaves that stops a thread and copies 16 KiB of its
/// stack: what no use of ptrace can better on the machine that this runs on.
fn bare(rate: u32) -> Row {
    let mut target = target("many.c", &["0", "1"]);
    let tid = busiest(&target);
    speed(&mut target);
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        let first = (pair % 2 == 0).then(|| speed(&mut target));
        let stop = AtomicBool::new(false);
        let watched = thread::scope(|scope| {
            scope.spawn(|| stop_again_and_again(tid, Duration::from_secs(1) / rate, &stop));
            let watched = speed(&mut target);
            stop.store(true, Ordering::Relaxed);
            watched
        });
        let alone = first.unwrap_or_else(|| speed(&mut target));
        ratios.push(watched / alone);
    }
    Row::middle("speed that a bare loop leaves", &mut ratios, Bar::Shown)
}

/// The thread that has used the most CPU time.
fn busiest(target: &Target) -> Pid {
    let used = |task: fs::DirEntry| {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap();
        let run: u64 = schedstat.split_whitespace().next().unwrap().parse().unwrap();
        (run, task.file_name().to_string_lossy().parse::<i32>().unwrap())
    };
    let busiest = until("a thread is busy", || {
        tasks_of(target).map(used).max().filter(|(run, _)| *run > 10_000_000)
    });
    Pid::from_raw(busiest.1)
}

fn tasks_of(target: &Target) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap().map(Result::unwrap)
}

fn stop_again_and_again(tid: Pid, period: Duration, stop: &AtomicBool) {
    let mut buffer = vec![0; 16 << 10];
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        ptrace::seize(tid, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(tid).unwrap();
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        while waitpid(tid, Some(flags)).unwrap() == WaitStatus::StillAlive {}
        let registers = ptrace::getregs(tid).unwrap();
        let base = usize::try_from(registers.rsp).unwrap();
        let remote = [RemoteIoVec { base, len: buffer.len() }];
        // It may be less than is left of the stack.
        let _ = process_vm_readv(tid, &mut [IoSliceMut::new(&mut buffer)], &remote);
        ptrace::detach(tid, None).unwrap();
        next += period;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Whether the rate is kept that was asked for.
fn keep_the_rate() -> Vec<Row> {
    let target = target("many.c", &["0", "1"]);
    let observer = Observer::start(&target, 10_000);
    thread::sleep(Duration::from_secs(10));
    let stats = observer.finish();
    let made = number(&stats, "/ticks/made");
    vec![
        Row::new("of the ticks made", made / number(&stats, "/ticks/wanted"), Bar::AtLeast(0.98)),
        Row::new("of them late", number(&stats, "/ticks/late") / made, Bar::Shown),
        Row::new("microseconds held, p50", number(&stats, "/held_microseconds/p50"), Bar::Shown),
        Row::new("microseconds held, p99", number(&stats, "/held_microseconds/p99"), Bar::Shown),
    ]
}

/// How long it takes from the first sight of a target to its first sample.
fn first_sample() -> Vec<Row> {
    let libraries = Path::new("/usr/lib/x86_64-linux-gnu");
    let target = target("libraries.c", &[libraries.to_str().unwrap(), "100"]);
    let mut times = Vec::new();
    for _ in 0..10 {
        let observer = Observer::start(&target, 100);
        thread::sleep(WINDOW);
        let time = number(&observer.finish(), "/first_sample_seconds");
        assert!(time > 0.0, "no sample was taken");
        times.push(time * 1000.0);
    }
    vec![Row::middle("ms from attach to first sample", &mut times, Bar::AtMost(30.0))]
}

/// Whether what is kept grows with the samples. The first seconds are for what
/// is kept of each image and of each distinct stack.
fn memory() -> Vec<Row> {
    let target = target("hot.c", &["8"]);
    let observer = Observer::start(&target, 10_000);
    thread::sleep(Duration::from_secs(5));
    let early = observer.memory();
    while observer.began.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_secs(1));
    }
    let late = observer.memory();
    let stats = observer.finish();
    let got = ["stopped", "still", "unchanged"];
    let samples: f64 = got.iter().map(|how| number(&stats, &format!("/samples/{how}"))).sum();
    vec![
        Row::new("million samples", samples / 1e6, Bar::AtLeast(1.0)),
        Row::new("MB held after them", late, Bar::AtMost(20.0)),
        Row::new("MB more than after 5 seconds", late - early, Bar::AtMost(2.0)),
    ]
}
