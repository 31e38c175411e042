//! Who holds the lock of the interpreter, who waits for it, and what sleeps.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::dumped::{dump, threads};
use crate::{
    children::works,
    interpreters::{interpreters, versions},
    observer::{Collapsed, Observer, is_function, spy},
    target::{self, Target, alone, together, until},
};

/// Threads that all want to run, seen again and again: one at most has the
/// lock, and one that has it while another waits is soon seen.
#[test]
fn one_thread_holds_the_lock_and_others_want_it() {
    let _together = together();
    for interpreter in interpreters() {
        let name = &interpreter.name;
        let target = Target::run(interpreter.command("spinners.py"));
        until("one waits for another", || {
            let process = dump(target.pid(), &["--no-native"]);
            let is = |what: &str| threads(&process).iter().filter(|it| it["gil"] == what).count();
            assert_eq!(threads(&process).len(), 3, "{name}: {process:#}");
            assert!(is("held") <= 1, "{name}: {process:#}");
            (is("held") == 1 && is("wanted") >= 1).then_some(())
        });
    }
}

/// Record with these arguments until the threads of `target` have used some CPU
/// time: what was shown, and for how many microseconds it was recorded.
fn record(target: &Target, arguments: &[&str]) -> (Collapsed, f64) {
    let stats = tempfile::NamedTempFile::new().unwrap();
    let path = stats.path().to_str().unwrap();
    let fixed = ["record", "-f", "raw", "-o", "-", "--no-native", "--stats", path, "-p"];
    let command = spy(&[&fixed[..], &[&target.number()], arguments].concat());
    let observer = Observer::start(command).watching(target.pid());
    (0..8).for_each(|_| works(target.pid()));
    observer.signal(Signal::SIGINT);
    let seen = Collapsed::read(&observer.finish().expect(0).stdout);
    let stats: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    (seen, stats["duration_seconds"].as_f64().unwrap() * 1e6)
}

/// With `--gil`, each moment has one thread at most: who holds the lock. All
/// of them want it, and stand for three times as long.
#[test]
fn with_gil_only_the_holder_is_shown() {
    let _together = together();
    for interpreter in versions() {
        let name = &interpreter.name;
        let target = Target::run(interpreter.command("spinners.py"));
        let (seen, whole) = record(&target, &["--idle", "--gil"]);
        #[expect(clippy::cast_precision_loss, reason = "microseconds of some seconds")]
        let held = seen.total() as f64;
        assert!(held > 0.0 && held < 1.2 * whole, "{name}: {held} of {whole}: {seen:#?}");
        let spins = |stack: &[String]| {
            let mut functions = stack.iter().filter(|frame| !frame.starts_with('['));
            functions
                .next_back()
                .is_some_and(|frame| is_function(frame, "spin") || is_function(frame, "<module>"))
        };
        assert!(seen.stacks.iter().all(|(stack, _)| spins(stack)), "{name}: {seen:#?}");
    }
}

/// What `record -t` shows of each thread, by its root frame.
fn by_thread(target: &Target, arguments: &[&str]) -> BTreeMap<String, u64> {
    let (seen, _) = record(target, &[&["-t"], arguments].concat());
    let mut threads = BTreeMap::new();
    for (frames, count) in seen.stacks {
        *threads.entry(frames[0].clone()).or_default() += count;
    }
    threads
}

#[test]
fn of_many_threads_only_the_busy_one_is_shown_and_all_of_them_if_wanted() {
    let _alone = alone();
    for interpreter in versions() {
        let name = &interpreter.name;
        let target = Target::run(interpreter.run("sleepers.py", &["64"]));
        until("the others sleep", || {
            let all = target::threads(target.pid());
            (all.iter().filter(|thread| thread.state != 'S').count() <= 1).then_some(())
        });
        let busy = by_thread(&target, &[]);
        let called = |thread: &String| thread.split(" (").next().unwrap().to_owned();
        let names: Vec<_> = busy.keys().map(called).collect();
        assert_eq!(names, ["busy"], "{name}");

        let all = by_thread(&target, &["--idle"]);
        let names: BTreeSet<_> = all.keys().map(called).collect();
        let sleepers = (0..64).map(|number| format!("sleeper-{number}"));
        let others = ["busy", "MainThread"].map(str::to_owned);
        assert_eq!(names, sleepers.chain(others).collect(), "{name}");
        let (least, most) = (all.values().min().unwrap(), all.values().max().unwrap());
        assert!((most - least) * 50 <= *most, "{name}: {all:#?}");
    }
}
