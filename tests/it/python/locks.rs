//! Who holds the lock of the interpreter, who waits for it, and what sleeps.

use std::collections::{BTreeMap, BTreeSet};

use super::dumped::{dump, threads};
use crate::{
    interpreters::{interpreters, versions},
    observer::{Collapsed, run},
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

/// With `--gil`, each moment has one thread at most: nobody but the holder.
#[test]
fn with_gil_only_the_holder_is_shown() {
    let _together = together();
    for interpreter in versions() {
        let name = &interpreter.name;
        let target = Target::run(interpreter.command("spinners.py"));
        let number = target.number();
        let record = |mode: &[&str]| {
            let fixed = ["record", "-f", "raw", "-d", "400ms", "--no-native", "-o", "-", "-p"];
            let told = run(&[&fixed[..], &[&number], mode].concat()).expect(0);
            Collapsed::read(&told.stdout)
        };
        let (all, held) = (record(&["-i"]), record(&["-i", "-g"]));
        assert!(held.total() > 0, "{name}");
        // All threads want the lock all the time, and all of them are seen: the
        // holder is a third of that, or less where a switch was met.
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a second")]
        let share = held.total() as f64 / all.total() as f64;
        assert!(share < 0.45, "{name}: {share}: {held:#?}");
        let spins = |stack: &[String]| {
            stack.last().is_some_and(|it| it.starts_with("spin") || it.starts_with("<module>"))
        };
        assert!(held.stacks.iter().all(|(stack, _)| spins(stack)), "{name}: {held:#?}");
    }
}

/// What `record -t` shows of each thread, by its root frame.
fn by_thread(target: &Target, arguments: &[&str]) -> BTreeMap<String, u64> {
    let number = target.number();
    let fixed = ["record", "-t", "-f", "raw", "-d", "500ms", "-o", "-", "--no-native", "-p"];
    let told = run(&[&fixed[..], &[&number], arguments].concat()).expect(0);
    let mut threads = BTreeMap::new();
    for (frames, count) in Collapsed::read(&told.stdout).stacks {
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
