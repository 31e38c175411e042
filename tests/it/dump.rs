//! `spy dump`: every thread, once.

use serde_json::Value;

use crate::{
    observer::run,
    target::{Target, threads, together, until},
};

fn json(target: &Target) -> Value {
    let told = run(&["dump", "-j", "-p", &target.number()]).expect(0);
    serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:#?}"))
}

#[test]
fn every_thread_is_there_with_its_stack() {
    let _together = together();
    let mut target = Target::start("many.c", &["-O2"], &["3", "1"]);
    let pid = target.pid();
    let asleep = || threads(pid).iter().filter(|thread| thread.state == 'S').count() == 4;
    until("all but one sleep", || asleep().then_some(()));
    let told = run(&["dump", "-p", &target.number()]).expect(0);
    for thread in threads(pid) {
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
    let told = json(&target).to_string();
    for thread in threads(target.pid()) {
        assert!(told.contains(&thread.tid.to_string()), "{thread:?}: {told}");
    }
    assert_eq!(told.matches("idle_thread").count(), 3, "{told}");
}

/// Each of the calls is named, and the threads in them are not woken.
#[test]
fn waits_are_named() {
    let _together = together();
    let mut target = Target::start("waits.c", &["-O2"], &[]);
    let pid = target.pid();
    let asleep = || threads(pid).iter().all(|thread| thread.state == 'S');
    until("all sleep", || asleep().then_some(()));
    let told = run(&["dump", "-p", &target.number()]).expect(0).stdout;
    for call in ["epoll_wait", "sem", "rt_sigtimedwait", "io_getevents", "recv", "accept"] {
        assert!(told.contains(call), "{call}: {told}");
    }
    assert_eq!(told.matches("wait_on").count(), 6, "{told}");
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
