//! The profilers that are compared, and what a run of one cost.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
        time::TimeValLike,
    },
    unistd::Pid,
};

use crate::{interpreters::environment, target::until};

/// What `spy` is asked for: all frames.
const SPY: &[&str] = &["--native"];

/// A profiler, and what it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profiler {
    /// With native frames.
    Spy,
    /// Without.
    PySpy,
    /// With them.
    PySpyNative,
}

impl Profiler {
    /// A verb, of a process.
    pub(crate) fn command(self, verb: &str, pid: i32) -> Command {
        let program = match self {
            Self::Spy => PathBuf::from(env!("CARGO_BIN_EXE_spy")),
            Self::PySpy | Self::PySpyNative => {
                let (_, programs) = environment("3.11").expect("run tests/environment first");
                programs.join("py-spy")
            }
        };
        let mut command = Command::new(program);
        command.args([verb, "--pid", &pid.to_string()]);
        command.args(match (self, verb) {
            (Self::Spy, "record") => SPY,
            (Self::PySpyNative, _) => &["--native"],
            _ => &[],
        });
        command
    }

    /// Where it writes stacks, and, for `spy`, its statistics.
    fn output(self) -> [PathBuf; 2] {
        ["raw", "json"].map(|ending| {
            env::temp_dir().join(format!("spy-bench-{}.{ending}", std::process::id()))
        })
    }

    /// A recording for some seconds, or until it is told to end.
    pub(crate) fn record(self, pid: i32, rate: u32, seconds: Option<u32>) -> Command {
        let mut command = self.command("record", pid);
        let [stacks, stats] = self.output();
        command.args(["--format", "raw", "--rate", &rate.to_string(), "--output"]).arg(stacks);
        if let Some(seconds) = seconds {
            command.args(["--duration", &seconds.to_string()]);
        }
        if self == Self::Spy {
            command.arg("--stats").arg(stats);
        }
        command
    }

    /// How many samples the last recording took of a thread that always runs,
    /// where only one does. That `spy` looked at the others, too, is not counted
    /// in its favour.
    pub(crate) fn samples(self) -> u64 {
        if self == Self::Spy { self.stat("/ticks/made") } else { self.samples_of_all() }
    }

    /// How many samples of threads the last recording took, where it was asked
    /// for all of them.
    pub(crate) fn samples_of_all(self) -> u64 {
        if self == Self::Spy {
            let got = ["stopped", "still", "unchanged"];
            return got.iter().map(|how| self.stat(&format!("/samples/{how}"))).sum();
        }
        let text = fs::read_to_string(&self.output()[0]).unwrap();
        let counts = text.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        counts.sum()
    }

    /// How long the last recording held a thread, in the middle, in
    /// microseconds.
    pub(crate) fn held(self) -> f64 {
        let stats = self.stats();
        let number = stats.pointer("/held_microseconds/p50").and_then(serde_json::Value::as_f64);
        number.unwrap_or_else(|| panic!("{stats:#}"))
    }

    /// A number of the last recording's statistics.
    fn stat(self, path: &str) -> u64 {
        let stats = self.stats();
        let number = stats.pointer(path).and_then(serde_json::Value::as_u64);
        number.unwrap_or_else(|| panic!("{path}: {stats:#}"))
    }

    fn stats(self) -> serde_json::Value {
        let text = fs::read(&self.output()[1]).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// A recording until it is told to end, which takes samples already.
    /// `watched` is the process that it was asked for, or one of its children.
    pub(crate) fn start(self, pid: i32, watched: i32, rate: u32, options: &[&str]) -> Running {
        let mut command = self.record(pid, rate, None);
        command.args(options).stderr(Stdio::null());
        if self == Self::Spy {
            let child = command.stdout(Stdio::null()).spawn().unwrap();
            let mut running = Running { child, began: Instant::now(), _output: None };
            running.await_schedule_of(watched);
            running.began = Instant::now();
            return running;
        }
        // It ends at once when it cannot make sense of its first look.
        let started = (0..10).find_map(|_| {
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            // It says this after it has looked at its target for the first time.
            while !line.contains("Sampling process") {
                line.clear();
                if output.read_line(&mut line).unwrap() == 0 {
                    child.wait().unwrap();
                    return None;
                }
            }
            Some(Running { child, began: Instant::now(), _output: Some(output) })
        });
        started.expect("py-spy ended, ten times")
    }
}

/// A profiler that runs.
pub(crate) struct Running {
    child: Child,
    pub(crate) began: Instant,
    /// Kept open for what it may still say.
    _output: Option<BufReader<std::process::ChildStdout>>,
}

impl Running {
    /// `spy` keeps descriptors of the schedules of threads once it samples.
    fn await_schedule_of(&mut self, pid: i32) {
        let open = format!("/proc/{}/fd", self.child.id());
        let task = format!("/{pid}/task/");
        until("spy watches", || {
            assert!(self.child.try_wait().unwrap().is_none(), "spy ended");
            let mut files =
                fs::read_dir(&open).ok()?.filter_map(|it| fs::read_link(it.ok()?.path()).ok());
            files.any(|file| file.to_string_lossy().contains(&task)).then_some(())
        });
    }

    /// The CPU time that its threads used until now.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let used = tasks.filter_map(|task| {
            let schedstat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            schedstat.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(used.sum())
    }

    /// Memory of its own, without mapped files, in megabytes.
    pub(crate) fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Let it write, and wait for its end.
    pub(crate) fn finish(mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// What a recording cost.
#[derive(Default)]
pub(crate) struct Spent {
    /// Seconds of CPU.
    pub(crate) cpu: f64,
    /// System calls, and those of them that read the target's memory.
    pub(crate) calls: f64,
    pub(crate) reads: f64,
    pub(crate) samples: u64,
}

impl Spent {
    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self {
            cpu: self.cpu - other.cpu,
            calls: self.calls - other.calls,
            reads: self.reads - other.reads,
            samples: self.samples.saturating_sub(other.samples),
        }
    }

    pub(crate) fn over_samples(mut self) -> Self {
        assert!(self.samples > 0, "no samples were taken");
        #[expect(clippy::cast_precision_loss, reason = "counts of samples are small")]
        let samples = self.samples as f64;
        for cost in [&mut self.cpu, &mut self.calls, &mut self.reads] {
            *cost /= samples;
        }
        self
    }
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// Run a profiler to its end, and say what CPU time it used.
pub(crate) fn cpu(mut command: Command) -> Spent {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let micros = (usage.user_time() + usage.system_time()).num_microseconds();
        Duration::from_micros(micros.unsigned_abs()).as_secs_f64()
    };
    let before = used();
    run(&mut command);
    Spent { cpu: used() - before, ..Spent::default() }
}

/// Run a profiler to its end, and say what it asked of the kernel.
pub(crate) fn calls(command: Command) -> Spent {
    let table = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(table.path());
    strace.arg(command.get_program()).args(command.get_args());
    run(&mut strace);
    let text = fs::read_to_string(table.path()).unwrap();
    // % time, seconds, usecs/call, calls, and errors where there were any.
    let row = |name: &str| {
        let mut lines = text.lines().filter(|line| line.split_whitespace().last() == Some(name));
        let calls = lines.next()?.split_whitespace().nth(3)?;
        calls.parse::<f64>().ok()
    };
    Spent {
        calls: row("total").unwrap_or_else(|| panic!("{text}")),
        reads: row("process_vm_readv").unwrap_or(0.0),
        ..Spent::default()
    }
}
