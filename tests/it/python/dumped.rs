//! A process as `spy dump -j` has it.

use std::fs;

use serde_json::Value;

use crate::{
    observer::run,
    target::{Target, until},
};

/// The process `pid`, looked at with these arguments besides.
#[track_caller]
pub(super) fn dump(pid: i32, arguments: &[&str]) -> Value {
    let told = run(&[&["dump", "-j", "-p", &pid.to_string()], arguments].concat()).expect(0);
    let processes: Value =
        serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:#?}"));
    let [process] = &processes.as_array().unwrap()[..] else { panic!("{processes:#}") };
    assert_eq!(process["pid"], pid);
    process.clone()
}

/// Its threads.
pub(super) fn threads(process: &Value) -> &[Value] {
    process["threads"].as_array().unwrap()
}

/// The frames of a thread, innermost first.
pub(super) fn frames(thread: &Value) -> &[Value] {
    thread["frames"].as_array().unwrap()
}

/// The function of a frame.
pub(super) fn function(frame: &Value) -> &str {
    frame["function"].as_str().unwrap()
}

/// Whether a frame is one of Python's.
pub(super) fn is_managed(frame: &Value) -> bool {
    frame["module"].is_null() && frame["file"].is_string()
}

/// The functions of Python on the stack of a thread.
pub(super) fn managed(thread: &Value) -> Vec<&str> {
    frames(thread).iter().filter(|frame| is_managed(frame)).map(function).collect()
}

/// The thread that has a frame of a function of Python's.
#[track_caller]
pub(super) fn with_function<'a>(process: &'a Value, wanted: &str) -> &'a Value {
    let mut all = threads(process).iter();
    all.find(|thread| managed(thread).contains(&wanted))
        .unwrap_or_else(|| panic!("nothing runs {wanted}: {process:#}"))
}

/// Wait until the first thread of `target` waits for its input.
pub(super) fn waits_for_input(target: &Target) {
    until("the target waits", || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", target.pid())).unwrap();
        call.starts_with(&format!("{} 0x0 ", libc::SYS_read)).then_some(())
    });
}
