//! `spy dump`: every thread, once.

use serde_json::Value;

use crate::{
    observer::run,
    target::{Target, threads, together, until},
};

/// The threads of `target`, as `dump --json` has them.
fn json(target: &Target) -> Vec<Value> {
    let told = run(&["dump", "-j", "-p", &target.number()]).expect(0);
    let processes: Value =
        serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:#?}"));
    let [process] = &processes.as_array().unwrap()[..] else { panic!("{processes:#}") };
    assert_eq!(process["pid"], target.pid());
    process["threads"].as_array().unwrap().clone()
}

/// The functions on the stack of `thread`.
fn functions(thread: &Value) -> Vec<&str> {
    let frames = thread["frames"].as_array().unwrap();
    frames.iter().map(|frame| frame["function"].as_str().unwrap()).collect()
}

/// Wait until all threads of `target` sleep but `busy` of them.
fn asleep(target: &Target, busy: usize) {
    until("the others sleep", || {
        let awake = threads(target.pid()).iter().filter(|thread| thread.state != 'S').count();
        (awake == busy).then_some(())
    });
}

#[test]
fn every_thread_is_there_with_its_stack() {
    let _together = together();
    let mut target = Target::start("many.c", &["-O2"], &["3", "1"]);
    asleep(&target, 1);
    let told = run(&["dump", "-p", &target.number()]).expect(0);
    for thread in threads(target.pid()) {
        assert!(told.stdout.contains(&thread.tid.to_string()), "{thread:?}: {told:#?}");
    }
    assert_eq!(told.stdout.matches("idle_thread").count(), 3, "{told:#?}");
    assert_eq!(told.stdout.matches("busy_thread").count(), 1, "{told:#?}");
    assert!(told.stdout.matches("futex").count() >= 3, "{told:#?}");
    assert!(told.stdout.contains("main") && told.stdout.contains("read"), "{told:#?}");
    target.is_unharmed("steps");
}

#[test]
fn json_says_the_same() {
    let _together = together();
    let target = Target::start("many.c", &["-O2"], &["3", "1"]);
    asleep(&target, 1);
    let told = json(&target);
    let tids = |tids: &mut Vec<i64>| {
        tids.sort_unstable();
        tids.clone()
    };
    let listed = tids(&mut told.iter().map(|it| it["tid"].as_i64().unwrap()).collect());
    let real = tids(&mut threads(target.pid()).iter().map(|it| it.tid.into()).collect());
    assert_eq!(listed, real);
    for thread in &told {
        let functions = functions(thread);
        let (state, call) = match functions[..] {
            [.., "main", _] | [.., "main", _, _] | [.., "main", _, _, _] => {
                ("blocked", Some("read"))
            }
            _ if functions.contains(&"idle_thread") => ("blocked", Some("futex")),
            _ if functions.contains(&"busy_thread") => ("running", None),
            _ => panic!("{thread:#}"),
        };
        let states = if state == "running" { &["running", "queued"][..] } else { &[state] };
        assert!(states.contains(&thread["state"].as_str().unwrap()), "{thread:#}");
        assert_eq!(thread["syscall"].as_str(), call, "{thread:#}");
        assert_eq!(thread["end"], "root", "{thread:#}");
        assert_eq!(thread["name"], "many-O2", "{thread:#}");
    }
}

/// Each of the calls is named, and the threads in them are not woken.
#[test]
fn waits_are_named() {
    let _together = together();
    let mut target = Target::start("waits.c", &["-O2"], &[]);
    asleep(&target, 0);
    let told = json(&target);
    let waiting = told.iter().filter(|thread| functions(thread).contains(&"wait_on"));
    let mut calls: Vec<_> = waiting.map(|it| it["syscall"].as_str().unwrap()).collect();
    calls.sort_unstable();
    let semop = if calls.contains(&"semop") { "semop" } else { "semtimedop" };
    let expected = ["accept", "epoll_wait", "io_getevents", "recvfrom", "rt_sigtimedwait", semop];
    assert_eq!(calls, expected, "{told:#?}");
    assert_eq!(target.ask("report")["waits"], 0);
}

#[test]
fn a_name_cannot_write_to_the_terminal() {
    let _together = together();
    let mut target = Target::start("name.c", &["-O2"], &[]);
    let told = run(&["dump", "-p", &target.number()]).expect(0);
    let raw = |text: &str| text.chars().any(|letter| letter.is_control() && letter != '\n');
    assert!(!raw(&told.stdout) && !raw(&told.stderr), "{told:#?}");
    assert!(told.stdout.contains("[31m"), "{told:#?}");
    assert!(told.stdout.contains("busy"), "{told:#?}");
    json(&target);
    target.is_unharmed("steps");
}
