//! Where recordings go: standard output, pipes that close, disks that are full.

use std::{
    io::Read,
    process::{Command, Stdio},
};

use crate::{
    observer::{Collapsed, Observer, run, spy, svg_text},
    target::{Target, is_root, together},
};

fn busy() -> Target {
    Target::start("hot.c", &["-O2"], &["1"])
}

#[test]
fn standard_output_holds_the_recording_and_nothing_else() {
    let _together = together();
    let target = busy();
    let record = ["record", "-d", "1", "-p", &target.number(), "-o", "-"];
    let svg = run(&record).expect(0);
    assert!(svg_text(&svg.stdout).contains("hot_add"), "{svg:#?}");
    let collapsed = run(&[&record[..], &["-f", "collapsed"]].concat()).expect(0);
    assert!(Collapsed::read(&collapsed.stdout).names("hot_add"), "{collapsed:#?}");
}

/// As `spy record … -o - | head -c 10` does.
#[test]
fn a_pipe_that_closes_is_no_failure() {
    let _together = together();
    let target = busy();
    for format in ["flamegraph", "collapsed", "speedscope", "chrometrace"] {
        let mut command = spy(&["record", "-d", "1", "-p", &target.number(), "-o", "-"]);
        command.args(["-f", format]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{format}: {said}");
    }
}

#[test]
fn a_full_device_is_a_failure_that_is_named() {
    let _together = together();
    let target = busy();
    for format in ["flamegraph", "collapsed", "speedscope", "chrometrace"] {
        let record = ["record", "-d", "1", "-p", &target.number(), "-o", "/dev/full"];
        let told = run(&[&record[..], &["-f", format]].concat()).expect(1);
        assert!(told.stderr.contains("/dev/full"), "{told:#?}");
        assert!(told.stderr.contains("No space left"), "{told:#?}");
    }
}

#[test]
fn a_full_disk_is_a_failure_that_is_named() {
    if !is_root() {
        return;
    }
    let _together = together();
    let mut target = busy();
    let disk = tempfile::tempdir().unwrap();
    // In a mount namespace of its own, which ends with it.
    let script = "mount -t tmpfs -o size=4k none \"$1\" && exec \"$2\" record -d 1 -p \"$3\" -o \"$1/flame.svg\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(disk.path());
    command.args([env!("CARGO_BIN_EXE_spy"), &target.number()]);
    let told = Observer::start(command).finish().expect(1);
    assert!(told.stderr.contains("No space left"), "{told:#?}");
    target.is_unharmed("hot_add");
}

#[test]
fn standard_output_that_is_full_is_a_failure() {
    let _together = together();
    let target = busy();
    let script = "exec \"$1\" record -d 1 -p \"$2\" -o - > /dev/full";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_spy"), &target.number()]);
    let told = Observer::start(command).finish().expect(1);
    assert!(told.stderr.contains("No space left"), "{told:#?}");
}

/// A browser parses the picture, runs its script, and finds no fault with it.
#[test]
fn a_browser_shows_it() {
    let _together = together();
    let target = busy();
    let home = tempfile::tempdir().unwrap();
    let (file, profile) = (home.path().join("flame.svg"), home.path().join("profile"));
    let name = file.to_str().unwrap();
    run(&["record", "-d", "1", "-p", &target.number(), "-o", name]).expect(0);
    let mut browser = Command::new("chromium");
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    browser.arg(format!("--user-data-dir={}", profile.display()));
    browser.args(["--enable-logging=stderr", &format!("file://{name}")]);
    let told = Observer::start(browser).finish().expect(0);
    assert!(told.stdout.contains("hot_add") && told.stdout.contains("<svg"), "{told:#?}");
    assert!(!told.stdout.contains("parsererror"), "{told:#?}");
    assert!(!told.stderr.contains("CONSOLE"), "{told:#?}");
}
