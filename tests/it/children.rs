//! `-s`: processes that targets start, while they come and go.

use std::{fs, process::Command, time::Duration};

use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
    },
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    observer::{Collapsed, Observer, Outcome, is_function, run, spy},
    target::{Target, build, is_root, together, until},
};

/// A program that has children when it is told to.
fn tree() -> Target {
    Target::start("tree.c", &["-O2"], &[])
}

/// Tell `target` what to make, and say the numbers of the last child and the
/// last grandchild.
fn make(target: &mut Target, what: &str) -> (i32, i32) {
    let told = target.ask(what);
    let number = |name| i32::try_from(told[name]).unwrap();
    (number("last"), number("grandchild"))
}

/// Wait until `pid` has used a little more CPU time.
pub(crate) fn works(pid: i32) {
    works_for(pid, Duration::from_millis(50));
}

/// Wait until `pid` has used so much more CPU time.
pub(crate) fn works_for(pid: i32, time: Duration) {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).unwrap();
    let used = || Duration::from(clock_gettime(clock).unwrap());
    let before = used();
    until("it works", || (used() > before + time).then_some(()));
}

/// A recording of a target and of what descends from it.
struct Recording {
    observer: Observer,
    home: tempfile::TempDir,
}

impl Recording {
    fn start(target: &Target) -> Self {
        Self::of(target, spy(&[]))
    }

    fn of(target: &Target, mut command: Command) -> Self {
        let home = tempfile::tempdir().unwrap();
        command.args(["record", "-s", "-r", "500", "-f", "raw", "-o", "-", "--stats"]);
        command.arg(home.path().join("stats.json")).args(["-p", &target.number()]);
        Self { observer: Observer::start(command).watching(target.pid()), home }
    }

    /// Wait until `pid` is watched, and is seen to work.
    fn sees(mut self, pid: i32) -> Self {
        self.observer = self.observer.watching(pid);
        works(pid);
        self
    }

    /// End it.
    fn finish(self) -> Seen {
        self.observer.signal(Signal::SIGINT);
        self.ended()
    }

    /// It ends by itself.
    fn ended(self) -> Seen {
        let outcome = self.observer.finish().expect(0);
        let stats = fs::read(self.home.path().join("stats.json")).unwrap();
        Seen {
            stacks: Collapsed::read(&outcome.stdout),
            stats: serde_json::from_slice(&stats).unwrap(),
            outcome,
        }
    }
}

/// What a recording has seen.
#[derive(Debug)]
struct Seen {
    stacks: Collapsed,
    stats: Value,
    outcome: Outcome,
}

impl Seen {
    /// Demand that `pid` was seen in `function`, below a root of its own.
    #[track_caller]
    fn has(&self, pid: i32, function: &str) {
        let root = format!("({pid})");
        let fits = |(frames, _): &(Vec<String>, u64)| {
            frames[0].ends_with(&root) && frames.iter().any(|frame| is_function(frame, function))
        };
        assert!(self.stacks.stacks.iter().any(fits), "{pid} in {function}: {self:#?}");
    }

    /// How many processes were `watched`, `missed`, or `refused`.
    fn met(&self, how: &str) -> u64 {
        self.stats["met"][how].as_u64().unwrap()
    }

    fn notes(&self) -> String {
        self.stats["notes"].to_string()
    }
}

#[test]
fn children_and_their_children_are_followed() {
    let _together = together();
    let mut target = tree();
    let (before, _) = make(&mut target, "child");
    let recording = Recording::start(&target).sees(before);
    let (child, grandchild) = make(&mut target, "pair");
    let seen = recording.sees(child).sees(grandchild).finish();
    seen.has(before, "work_of_child");
    seen.has(child, "work_of_child");
    seen.has(grandchild, "work_of_grandchild");
    assert_eq!(seen.met("watched"), 4, "{seen:#?}");
    assert!(seen.outcome.stderr.contains("of 4 processes"), "{seen:#?}");
    target.is_unharmed("steps");
}

#[test]
fn only_those_that_were_named_are_watched_otherwise() {
    let _together = together();
    let mut target = tree();
    let (child, _) = make(&mut target, "child");
    let record = ["record", "-d", "500ms", "--wall", "-f", "raw", "-o", "-", "-p"];
    let told = run(&[&record[..], &[&target.number()]].concat()).expect(0);
    let seen = Collapsed::read(&told.stdout);
    assert!(seen.names("main") && !seen.names("work_of_child"), "{child}: {seen:#?}");
}

/// A master that starts its workers again: none of them lives at the end, and
/// all have their names.
#[test]
fn workers_that_are_started_again_are_followed() {
    let _together = together();
    let mut target = tree();
    let mut recording = Recording::start(&target);
    let mut workers = vec![make(&mut target, "child").0];
    for _ in 0..3 {
        recording = recording.sees(workers[workers.len() - 1]);
        workers.push(make(&mut target, "restart").0);
    }
    let last = workers.pop().unwrap();
    recording = recording.sees(last);
    kill(Pid::from_raw(last), Signal::SIGKILL).unwrap();
    let seen = recording.finish();
    for worker in [&workers[..], &[last]].concat() {
        seen.has(worker, "work_of_child");
    }
    assert_eq!(seen.met("watched"), 5, "{seen:#?}");
    assert_eq!(seen.met("refused"), 0, "{seen:#?}");
}

#[test]
fn a_child_that_executes_another_program_is_seen_in_it() {
    let _together = together();
    let mut target = tree();
    let recording = Recording::start(&target);
    let (child, _) = make(&mut target, "exec");
    let seen = recording.sees(child).finish();
    seen.has(child, "work_of_executed");
}

/// The recording goes on without the process that was named, as long as
/// anything is left that descends from it, and then ends.
#[test]
fn an_orphan_stays_followed_and_its_end_is_the_end() {
    let _together = together();
    let mut target = tree();
    let recording = Recording::start(&target);
    let (child, grandchild) = make(&mut target, "pair");
    let recording = recording.sees(child).sees(grandchild);
    make(&mut target, "release");
    works(grandchild);
    target.tell("exit");
    assert_eq!(target.end().code(), Some(7));
    works(grandchild);
    works(grandchild);
    kill(Pid::from_raw(grandchild), Signal::SIGKILL).unwrap();
    let seen = recording.ended();
    seen.has(grandchild, "work_of_grandchild");
    let processes = seen.stats["processes"].as_array().unwrap();
    let orphan = processes.iter().find(|process| process["pid"] == grandchild).unwrap();
    // Three times what `works` waits for, after its parent had ended.
    assert!(orphan["sampled_cpu_seconds"].as_f64().unwrap() > 0.15, "{seen:#?}");
}

#[test]
fn children_that_end_at_once_do_no_harm_and_take_none() {
    let _together = together();
    let mut target = tree();
    let recording = Recording::start(&target);
    assert_eq!(target.ask("short 300")["well"], 300);
    let (child, _) = make(&mut target, "child");
    let seen = recording.sees(child).finish();
    seen.has(child, "work_of_child");
    assert_eq!(seen.met("refused"), 0, "{seen:#?}");
    let all: u64 = ["watched", "missed"].iter().map(|how| seen.met(how)).sum();
    assert!((2..=302).contains(&all), "{seen:#?}");
    if seen.met("missed") > 0 {
        assert!(seen.notes().contains("before"), "{seen:#?}");
    }
}

/// One that another program traces already is left out, with the reason, and
/// the others are not.
#[test]
fn a_child_that_is_traced_is_told_and_left_out() {
    let _together = together();
    let mut target = tree();
    let (traced, _) = make(&mut target, "child");
    ptrace::seize(Pid::from_raw(traced), ptrace::Options::empty()).unwrap();
    let recording = Recording::start(&target);
    let (child, _) = make(&mut target, "child");
    let seen = recording.sees(child).finish();
    seen.has(child, "work_of_child");
    assert_eq!(seen.met("refused"), 1, "{seen:#?}");
    let notes = seen.notes();
    assert!(notes.contains(&format!("process {traced} may not be watched")), "{notes}");
    assert!(notes.contains("already traced by process"), "{notes}");

    let told = run(&["dump", "-s", "-p", &target.number()]).expect(0);
    assert!(told.stderr.contains("already traced by process"), "{told:#?}");
    assert!(told.stdout.contains(&format!("Process {child}:")), "{told:#?}");
    assert!(!told.stdout.contains(&format!("Process {traced}:")), "{told:#?}");
}

/// Without CAP_SYS_PTRACE, which this program and its target lack here, not
/// even root may watch another user's process.
#[test]
fn a_child_of_another_user_is_told_and_left_out() {
    let _together = together();
    if !is_root() {
        return;
    }
    let without = |program: &std::ffi::OsStr| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_ptrace"]).arg(program);
        command
    };
    let mut target = Target::run(without(build("tree.c", &["-O2"]).as_os_str()));
    let recording = Recording::of(&target, without(spy(&[]).get_program()));
    let (other, _) = make(&mut target, "other");
    let (child, _) = make(&mut target, "child");
    let seen = recording.sees(child).finish();
    seen.has(child, "work_of_child");
    assert_eq!(seen.met("refused"), 1, "{seen:#?}");
    let notes = seen.notes();
    assert!(notes.contains(&format!("process {other} may not be watched")), "{notes}");
    assert!(notes.contains("it runs as user 65534"), "{notes}");
}

#[test]
fn a_command_is_followed() {
    let _together = together();
    let script = "f() { i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; }; f & wait; exit 3";
    let record = ["record", "-s", "-f", "raw", "-o", "-", "--", "/bin/sh", "-c", script];
    let told = run(&record).expect(3);
    let seen = Collapsed::read(&told.stdout);
    assert!(told.stderr.contains("of 2 processes"), "{told:#?}");
    assert!(!seen.stacks.is_empty() && seen.share(|frame| frame.starts_with("/bin/sh")) > 0.99);
}

#[test]
fn a_child_that_is_named_as_well_is_watched_once() {
    let _together = together();
    let mut target = tree();
    let (child, grandchild) = make(&mut target, "pair");
    let (one, other) = (target.number(), child.to_string());
    let record = ["record", "-s", "-d", "500ms", "-f", "raw", "-o", "-", "-p", &other, "-p", &one];
    let told = run(&record).expect(0);
    assert!(told.stderr.contains("of 3 processes"), "{grandchild}: {told:#?}");

    let told = run(&["dump", "-s", "-p", &other, "-p", &one]).expect(0);
    assert_eq!(told.stdout.matches("Process ").count(), 3, "{told:#?}");
}

#[test]
fn a_dump_shows_each_process_before_its_children() {
    let _together = together();
    let mut target = tree();
    let (child, grandchild) = make(&mut target, "pair");
    let (other, _) = make(&mut target, "child");
    let told = run(&["dump", "-s", "-j", "-p", &target.number()]).expect(0);
    let processes: Vec<Value> = serde_json::from_str(&told.stdout).unwrap();
    let pids: Vec<_> = processes.iter().map(|it| it["pid"].as_i64().unwrap()).collect();
    assert_eq!(pids, [target.pid(), child, grandchild, other].map(i64::from), "{told:#?}");
    let text = run(&["dump", "-s", "-p", &target.number()]).expect(0).stdout;
    let place = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name}: {text}"));
    assert!(place("work_of_child") < place("work_of_grandchild"), "{text}");
    let alone = run(&["dump", "-j", "-p", &target.number()]).expect(0);
    let alone: Vec<Value> = serde_json::from_str(&alone.stdout).unwrap();
    assert_eq!(alone.len(), 1);
    target.is_unharmed("steps");
}
