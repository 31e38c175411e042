//! `spy record`: how a recording begins and ends, and what is left behind.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    observer::{Collapsed, Observer, Outcome, is_function, run, spy, svg_file},
    target::{Target, alone, build, first, together},
};

/// A directory for a recording, and the name of a file in it.
fn place(name: &str) -> (tempfile::TempDir, PathBuf, String) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(name);
    let text = file.to_str().unwrap().to_owned();
    (home, file, text)
}

/// Start a recording without an end, and let `finish` bring it about.
fn ended_by(finish: impl FnOnce(&Observer, &mut Target)) -> (Outcome, String) {
    let _together = together();
    let mut target = Target::start("family.c", &["-O2"], &[]);
    let (_home, file, name) = place("flame.svg");
    let number = target.number();
    let observer = Observer::start(spy(&["record", "-r", "500", "-o", &name, "-p", &number]));
    let observer = observer.watching(target.pid());
    finish(&observer, &mut target);
    let outcome = observer.finish();
    assert!(file.exists(), "{outcome:#?}");
    (outcome, svg_file(&file))
}

fn a_signal_writes_it(signal: Signal) {
    let (outcome, text) = ended_by(|observer, target| {
        // Enough for samples to be there.
        for _ in 0..3 {
            target.advances("steps");
        }
        observer.signal(signal);
    });
    outcome.expect(0);
    assert!(text.contains("family"), "{text}");
}

#[test]
fn sigint_writes_it() {
    a_signal_writes_it(Signal::SIGINT);
}

#[test]
fn sigterm_writes_it() {
    a_signal_writes_it(Signal::SIGTERM);
}

#[test]
fn sighup_writes_it() {
    a_signal_writes_it(Signal::SIGHUP);
}

#[test]
fn the_end_of_the_target_writes_it() {
    let (outcome, text) = ended_by(|_, target| {
        target.tell("exit");
        assert_eq!(target.end().code(), Some(7));
    });
    outcome.expect(0);
    assert!(text.contains("family"), "{text}");
}

#[test]
fn a_target_that_is_killed_writes_it() {
    let (outcome, text) = ended_by(|_, target| {
        let pid = nix::unistd::Pid::from_raw(target.pid());
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    });
    outcome.expect(0);
    assert!(text.contains("family"), "{text}");
}

#[test]
fn a_flame_graph_names_what_ran() {
    let _together = together();
    let target = Target::start("hot.c", &["-O2"], &["1"]);
    let (_home, file, name) = place("flame.svg");
    run(&["record", "-d", "1", "-r", "500", "-o", &name, "-p", &target.number()]).expect(0);
    let text = svg_file(&file);
    for word in ["hot_add", "hot_divide", "hot_walk", "hot_outer", &target.number()] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_recording_in_which_nothing_ran_says_so() {
    let _together = together();
    let target = Target::start("many.c", &["-O2"], &["4", "0"]);
    let (_home, file, name) = place("flame.svg");
    run(&["record", "-d", "1", "-o", &name, "-p", &target.number()]).expect(0);
    let text = svg_file(&file).to_lowercase();
    assert!(text.contains("nothing ran") || text.contains("no thread ran"), "{text}");
}

#[test]
fn idle_threads_are_there_when_asked_for() {
    let _together = together();
    let target = Target::start("many.c", &["-O2"], &["4", "1"]);
    let record = ["record", "-d", "1", "-f", "collapsed", "-o", "-", "-p"];
    let told = |more: &[&str]| {
        let told = run(&[&record[..], &[&target.number()], more].concat()).expect(0);
        Collapsed::read(&told.stdout)
    };
    let (running, all) = (told(&[]), told(&["--idle"]));
    assert!(running.names("busy_thread") && !running.names("idle_thread"), "{running:#?}");
    assert!(all.names("busy_thread") && all.names("idle_thread"), "{all:#?}");
    assert!(all.share(|frame| frame == "[futex]") > 0.5, "{all:#?}");
}

/// A stop would make its wait fail, and without one its frame pointer is not
/// known, by which its compiler finds its frames.
#[test]
fn a_sleeper_with_frame_pointers_is_read_whole_without_a_stop() {
    let _together = together();
    let mut target = Target::start("events.c", &["-O0", "-fno-omit-frame-pointer"], &[]);
    let (_home, file, name) = place("stats.json");
    let record = ["record", "--idle", "-d", "2", "-r", "200", "-f", "collapsed", "-o", "-"];
    let told = run(&[&record[..], &["--stats", &name, "-p", &target.number()]].concat());
    let (stats, seen) = (json(&file), Collapsed::read(&told.expect(0).stdout));
    assert!(number(&stats, "/samples/still") > 10.0, "{stats:#}");
    let ends = stats["stacks"]["ends"].as_object().unwrap();
    let whole = |end: &String| ["root", "not_caught"].contains(&&**end);
    assert!(ends.iter().all(|(end, count)| whole(end) || count == 0), "{stats:#}");
    let waits = |frames: &[String]| frames.iter().any(|frame| frame == "[epoll_wait]");
    let waiting: Vec<_> = seen.stacks.iter().filter(|(frames, _)| waits(frames)).collect();
    assert!(!waiting.is_empty() && seen.names("compute"), "{seen:#?}");
    for (frames, _) in waiting {
        let through = ["_start", "main", "serve", "wait_for_events"];
        let has = |name: &&str| frames.iter().any(|frame| is_function(frame, name));
        assert!(through.iter().all(has), "{frames:?}");
    }
    assert_eq!(target.ask("report")["eintr"], 0);
}

#[test]
fn threads_are_told_apart_when_asked_for() {
    let _together = together();
    let target = Target::start("hot.c", &["-O2"], &["2"]);
    let record = ["record", "-t", "-d", "1", "-f", "collapsed", "-o", "-", "-p"];
    let told = run(&[&record[..], &[&target.number()]].concat()).expect(0);
    let seen = Collapsed::read(&told.stdout);
    let roots: HashSet<_> = seen.stacks.iter().map(|(frames, _)| frames[..2].to_vec()).collect();
    assert!(roots.len() >= 2, "{roots:?}");
}

#[test]
fn several_targets_are_recorded_at_once() {
    let _together = together();
    let one = Target::start("hot.c", &["-O2"], &["1"]);
    let other = Target::start("many.c", &["-O2"], &["1", "1"]);
    let record = ["record", "-d", "1", "-f", "collapsed", "-o", "-", "-p"];
    let told = run(&[&record[..], &[&one.number(), "-p", &other.number()]].concat()).expect(0);
    let seen = Collapsed::read(&told.stdout);
    assert!(seen.names("hot_add") && seen.names("busy_thread"), "{seen:#?}");
}

#[test]
fn a_command_is_recorded_and_its_status_passed_on() {
    let _together = together();
    let (_home, file, name) = place("command.svg");
    let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; exit 3";
    let told = run(&["record", "-o", &name, "--", "/bin/sh", "-c", script]).expect(3);
    assert_eq!(told.stdout, "done\n");
    svg_file(&file);

    let killed = run(&["record", "-o", &name, "--", "/bin/sh", "-c", "kill -TERM $$"]);
    killed.expect(128 + 15);
    run(&["record", "-o", &name, "--", "/nonexistent/program"]).expect(127);
    run(&["record", "-o", &name, "--", "/etc/passwd"]).expect(126);
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn number(stats: &Value, path: &str) -> f64 {
    stats.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {stats:#}"))
}

#[test]
fn statistics_say_what_it_cost() {
    let _alone = alone();
    let target = Target::run(first(1, Command::new(build("hot.c", &["-O2"]))));
    let (_home, file, name) = place("stats.json");
    let pid = target.number();
    let record = ["record", "-d", "2", "-r", "1000", "-f", "raw", "-o", "-", "--stats", &name];
    let command = first(2, spy(&[&record[..], &["-p", &pid]].concat()));
    Observer::start(command).finish().expect(0);
    let stats = json(&file);
    let number = |path: &str| number(&stats, path);

    // One thread runs and one is blocked, at every tick.
    let got = ["stopped", "still", "unchanged", "missed"];
    let samples: f64 = got.iter().map(|how| number(&format!("/samples/{how}"))).sum();
    assert!(number("/ticks/made") <= number("/ticks/wanted") + 1.0, "{stats:#}");
    assert!((samples - 2.0 * number("/ticks/made")).abs() <= 4.0, "{stats:#}");
    assert!(number("/samples/unchanged") > 0.4 * samples, "{stats:#}");
    let stops = number("/held_microseconds/stops");
    assert!(stops > 0.0 && stops <= number("/samples/stopped") + 1.0, "{stats:#}");

    // A thread that the kernel puts to sleep for reasons of its own, and that
    // may not be stopped then, is followed as far as can be.
    let ends = stats["stacks"]["ends"].as_object().unwrap();
    let all: f64 = ends.values().map(|count| count.as_f64().unwrap()).sum();
    let asleep = number("/samples/missed") + number("/stacks/ends/unknown_register");
    assert!(number("/stacks/ends/root") >= 0.995 * (all - asleep), "{stats:#}");
    assert!(asleep < 0.1 * all, "{stats:#}");

    let (kernel, sampled) = (number("/cpu_seconds/kernel"), number("/cpu_seconds/sampled"));
    assert!(kernel > 0.5 && (sampled / kernel - 1.0).abs() < 0.1, "{stats:#}");
    let spent = |what| spent(&stats, what);
    let parts = spent("cpu_seconds") + spent("queued_seconds") + spent("blocked_seconds");
    assert!((parts / spent("wall_seconds") - 1.0).abs() < 0.02, "{stats:#}");
    assert!((spent("cpu_seconds") / kernel - 1.0).abs() < 0.1, "{stats:#}");
    assert!(spent("blocked_seconds") > 0.4 * spent("wall_seconds"), "{stats:#}");
    for cost in ["/own/cpu_seconds", "/own/memory_bytes", "/first_sample_seconds"] {
        assert!(number(cost) > 0.0, "{cost}: {stats:#}");
    }
}

/// Four threads that share one processor use no more than one, however many of
/// them are seen that want it.
#[test]
fn waiting_for_a_processor_is_not_using_it() {
    let _alone = alone();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let one = allowed.trim().split([',', '-']).next().unwrap();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", one]).arg(build("hot.c", &["-O2"])).arg("4");
    let target = Target::run(command);
    let (stats, seen) = watched(&target, &["-d", "3", "-r", "200", "--wall"]);
    agrees(&stats);
    assert!(seen.share(|frame| frame == "[waiting for a CPU]") > 0.5, "{seen:#?}");
    // Four of its five threads want the processor.
    let queued = spent(&stats, "queued_seconds") / spent(&stats, "wall_seconds");
    assert!(queued > 0.5 && queued < 0.8, "{stats:#}");
}

/// Threads that sleep and work in turns shorter than a look takes use no more
/// than they do, however often they are met awake because the timer that wakes
/// them wakes the profiler too.
#[test]
fn short_sleepers_count_for_what_they_use() {
    let _alone = alone();
    let target = Target::start("nap.c", &["-O2"], &["20"]);
    let (stats, _) = watched(&target, &["-d", "3"]);
    agrees(&stats);
    assert!(
        number(&stats, "/samples/missed") < 0.1 * number(&stats, "/samples/still"),
        "{stats:#}"
    );
}

/// What the threads of all processes did, in seconds.
fn spent(stats: &Value, what: &str) -> f64 {
    let processes = stats["processes"].as_array().unwrap().iter();
    let threads = processes.flat_map(|process| process["threads"].as_array().unwrap());
    threads.map(|thread| thread[what].as_f64().unwrap()).sum()
}

/// What a recording of `target` with these options says: its statistics, and
/// its stacks.
fn watched(target: &Target, options: &[&str]) -> (Value, Collapsed) {
    let (_home, file, name) = place("stats.json");
    let pid = target.number();
    let record = ["record", "-p", &pid, "-f", "raw", "-o", "-", "--stats", &name];
    let told = run(&[&record[..], options].concat()).expect(0);
    (json(&file), Collapsed::read(&told.stdout))
}

/// The samples stand for the CPU time that the kernel has counted, but for
/// what was used since each thread was last seen to run.
fn agrees(stats: &Value) {
    let (kernel, sampled) =
        (number(stats, "/cpu_seconds/kernel"), number(stats, "/cpu_seconds/sampled"));
    assert!(sampled > 0.85 * kernel && sampled < 1.02 * kernel, "{stats:#}");
}
