//! Targets in trouble, and `spy` in trouble: the target is never harmed, and
//! what can be said of it is said.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    observer::{Collapsed, Observer, Outcome, run, spy, svg_file, svg_text},
    target::{Target, build, is_root, threads, together, until},
};

/// Record for a second at a high rate, with everything that may be asked for.
fn record(target: &Target) -> Collapsed {
    let record = ["record", "--idle", "-d", "1", "-r", "500", "-f", "collapsed", "-o", "-", "-p"];
    let told = run(&[&record[..], &[&target.number()]].concat()).expect(0);
    Collapsed::read(&told.stdout)
}

fn dump(target: &Target) -> String {
    run(&["dump", "-p", &target.number()]).expect(0).stdout
}

fn signal(target: &Target, signal: Signal) {
    kill(Pid::from_raw(target.pid()), signal).unwrap();
}

/// End recordings of `target` by SIGKILL, each at another moment: before the
/// first sample, among them, or whenever it happens to be.
fn kill_recordings_of(target: &Target, trials: u32) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (number, name) = (target.number(), file.path().to_str().unwrap().to_owned());
    for trial in 0..trials {
        let record = ["record", "--idle", "-r", "2000", "-f", "raw", "-o", &name, "-p", &number];
        let mut observer = Observer::start(spy(&record));
        if trial % 2 == 0 {
            observer = observer.watching(target.pid());
        }
        // This waits for nothing: it picks the moment.
        thread::sleep(Duration::from_micros(fastrand::u64(..40_000)));
        observer.signal(Signal::SIGKILL);
        assert_eq!(observer.finish().status.code(), None);
    }
}

#[test]
fn sigkill_leaves_every_thread_running() {
    let _together = together();
    let mut target = Target::start("many.c", &["-O2"], &["20", "2"]);
    for _ in 0..5 {
        kill_recordings_of(&target, 8);
        target.is_unharmed("steps");
    }
    let running = |state| threads(target.pid()).iter().filter(|it| it.state == state).count();
    until("the others sleep", || (running('S') >= 21).then_some(()));
}

#[test]
fn sigkill_loses_no_signal() {
    let _together = together();
    let mut target = Target::start("signals.c", &["-O2"], &[]);
    kill_recordings_of(&target, 20);
    no_signal_is_lost(&mut target);
}

#[test]
fn a_signal_every_millisecond_arrives() {
    let _together = together();
    let mut target = Target::start("signals.c", &["-O2"], &[]);
    assert!(record(&target).names("receive"));
    dump(&target);
    no_signal_is_lost(&mut target);
}

#[track_caller]
fn no_signal_is_lost(target: &mut Target) {
    let counts = target.ask("report");
    assert!(counts["ticks"] > 100 && counts["queued_sent"] > 100, "{counts:?}");
    assert_eq!(counts["ticks"], counts["ticks_expected"], "{counts:?}");
    assert_eq!(counts["queued_got"], counts["queued_sent"], "{counts:?}");
    assert_eq!(counts["plain_got"], counts["plain_sent"], "{counts:?}");
    assert_eq!(counts["unanswered"], 0, "{counts:?}");
}

/// Start a recording of `family.c`, tell it `line` while it runs, end it.
fn told_while_recorded(target: &mut Target, line: &str, answer: &str) -> Outcome {
    let (number, pid) = (target.number(), target.pid());
    let record = ["record", "-d", "2", "-r", "500", "-o", "-", "-p", &number];
    let observer = Observer::start(spy(&record)).watching(pid);
    target.tell(line);
    let said = target.hear();
    assert!(said.starts_with(answer), "{said}");
    let outcome = observer.finish().expect(0);
    assert!(svg_text(&outcome.stdout).contains("family"), "{outcome:#?}");
    outcome
}

#[test]
fn a_target_that_executes_goes_on() {
    let _together = together();
    let mut target = Target::start("family.c", &["-O2"], &[]);
    told_while_recorded(&mut target, "exec", "ready");
    target.is_unharmed("steps");
    assert!(record(&target).names("busy"));
}

#[test]
fn a_target_that_forks_goes_on_and_so_does_its_child() {
    let _together = together();
    let mut target = Target::start("family.c", &["-O2"], &[]);
    told_while_recorded(&mut target, "fork", "steps=");
    target.is_unharmed("steps");
    let made = target.ask("fork")["child"];
    // It ends by itself when it has counted: it is not held.
    until("the child ends", || (!Path::new(&format!("/proc/{made}")).exists()).then_some(()));
}

#[test]
fn a_stopped_target_is_seen_and_stays_stopped() {
    let _together = together();
    let mut target = Target::start("many.c", &["-O2"], &["2", "1"]);
    signal(&target, Signal::SIGSTOP);
    let stopped = || threads(target.pid()).iter().all(|thread| thread.state == 'T');
    until("it is stopped", || stopped().then_some(()));
    let told = dump(&target);
    assert!(told.contains("busy_thread") && told.contains("idle_thread"), "{told}");
    assert!(stopped(), "{:?}", threads(target.pid()));
    let seen = record(&target);
    assert!(seen.names("busy_thread") && seen.names("idle_thread"), "{seen:#?}");
    assert!(stopped(), "{:?}", threads(target.pid()));
    signal(&target, Signal::SIGCONT);
    target.is_unharmed("steps");
}

/// The answer to `SIGSTOP` while threads are looked at all the time is that
/// they stop, and to `SIGCONT` that they go on.
#[test]
fn a_target_that_is_stopped_while_recorded_stops() {
    let _together = together();
    let mut target = Target::start("many.c", &["-O2"], &["2", "2"]);
    let number = target.number();
    let record = ["record", "--idle", "-d", "2", "-r", "1000", "-o", "-", "-p", &number];
    let observer = Observer::start(spy(&record)).watching(target.pid());
    for _ in 0..10 {
        signal(&target, Signal::SIGSTOP);
        let stopped = || threads(target.pid()).iter().all(|thread| thread.state == 'T');
        until("it is stopped", || stopped().then_some(()));
        signal(&target, Signal::SIGCONT);
        target.advances("steps");
    }
    observer.finish().expect(0);
    target.is_unharmed("steps");
}

#[test]
fn uninterruptible_sleep_holds_nobody_up() {
    let _together = together();
    let mut target = Target::start("vfork.c", &["-O2"], &[]);
    let main = |target: &Target| {
        let threads = threads(target.pid());
        threads.iter().find(|thread| thread.tid == target.pid()).unwrap().state
    };
    target.tell("go");
    until("it sleeps", || (main(&target) == 'D').then_some(()));
    let told = dump(&target);
    assert!(told.contains("wait_in_vfork") && told.contains("busy"), "{told}");
    let seen = record(&target);
    assert!(seen.names("wait_in_vfork") && seen.names("busy"), "{seen:#?}");
    target.hear();
    target.is_unharmed("steps");
}

#[test]
fn a_zombie_leader_has_threads_that_live() {
    let _together = together();
    let mut target = Target::start("leader.c", &["-O2"], &[]);
    let zombies = threads(target.pid()).iter().filter(|thread| thread.state == 'Z').count();
    assert_eq!(zombies, 1);
    let seen = record(&target);
    assert!(seen.names("busy") && seen.names("listen"), "{seen:#?}");
    let told = dump(&target);
    assert!(told.contains("busy") && told.contains("listen"), "{told}");
    target.is_unharmed("steps");
}

#[test]
fn threads_may_come_and_go() {
    let _together = together();
    let mut target = Target::start("churn.c", &["-O2"], &[]);
    let seen = record(&target);
    assert!(seen.names("short_life"), "{seen:#?}");
    dump(&target);
    target.is_unharmed("made");
    until("none is left behind", || {
        let counts = target.ask("report");
        (counts["made"] - counts["ended"] <= 1).then_some(())
    });
}

/// A tracer of `target`, and the name by which `spy` has to call it.
fn traced_by(mut tracer: Command, name: &str) {
    let _together = together();
    let mut target = Target::start("many.c", &["-O2"], &["1", "1"]);
    tracer.arg(target.number());
    tracer.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut tracer = tracer.spawn().unwrap();
    let traced = || threads(target.pid()).iter().all(|thread| thread.tracer != 0);
    until("it is traced", || traced().then_some(()));
    for command in [&["dump"][..], &["record", "-d", "1", "-o", "/dev/null"]] {
        let told = run(&[command, &["-p", &target.number()]].concat()).expect(1);
        assert!(told.stderr.contains(name), "{told:#?}");
        assert!(told.stderr.contains(&tracer.id().to_string()), "{told:#?}");
    }
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    // What gdb does to attach leaves threads stopped if it is killed.
    signal(&target, Signal::SIGCONT);
    target.is_unharmed("steps");
}

#[test]
fn strace_is_named_when_it_traces_the_target() {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-p"]);
    traced_by(strace, "strace");
}

#[test]
fn gdb_is_named_when_it_traces_the_target() {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-q", "-iex", "set debuginfod enabled off", "-p"]);
    traced_by(gdb, "gdb");
}

/// A stop of a thread in any of these calls would kill the process.
#[test]
fn a_filter_of_system_calls_is_not_tripped() {
    let _together = together();
    let mut target = Target::start("seccomp.c", &["-O2"], &[]);
    let pid = target.pid();
    let asleep = || threads(pid).iter().filter(|thread| thread.state == 'S').count() == 4;
    until("all but one sleep", || asleep().then_some(()));
    let seen = record(&target);
    for name in ["in_nanosleep", "in_poll", "in_futex", "busy"] {
        assert!(seen.names(name), "{name}: {seen:#?}");
    }
    let told = dump(&target);
    assert!(told.contains("in_poll") && told.contains("busy"), "{told}");
    kill_recordings_of(&target, 5);
    target.is_unharmed("steps");
}

fn nobody_is_interrupted(arguments: &[&str]) {
    let _together = together();
    let mut target = Target::start("waits.c", &["-O2"], arguments);
    for _ in 0..3 {
        assert!(record(&target).names("wait_on"));
        dump(&target);
    }
    let mut counts = target.ask("report");
    counts.remove("waits");
    assert!(counts.values().all(|&interrupted| interrupted == 0), "{counts:?}");
}

#[test]
fn endless_waits_are_not_interrupted() {
    nobody_is_interrupted(&[]);
}

#[test]
fn short_waits_are_not_interrupted() {
    nobody_is_interrupted(&["3000"]);
}

#[test]
fn a_thousand_threads_are_all_there() {
    let _together = together();
    let mut target = Target::start("many.c", &["-O2"], &["1000", "1"]);
    let seen = record(&target);
    assert!(seen.names("busy_thread") && seen.names("idle_thread"), "{seen:#?}");
    assert!(seen.share(|frame| frame == "[futex]") > 0.98, "{seen:#?}");
    let told = dump(&target);
    assert_eq!(told.matches("idle_thread").count(), 1000);
    target.is_unharmed("steps");
}

/// Run a copy of `hot`, do `harm` to the file, and demand the right names.
fn without_its_file(harm: impl FnOnce(&Path)) {
    if !is_root() {
        return;
    }
    let _together = together();
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("hot");
    copy(&build("hot.c", &["-O2"]), &program);
    let mut target = Target::run(Command::new(&program));
    harm(&program);
    let seen = record(&target);
    for name in ["hot_add", "hot_divide", "hot_walk", "hot_outer", "work"] {
        assert!(seen.names(name), "{name}: {seen:#?}");
    }
    assert!(!seen.names("busy_thread"), "{seen:#?}");
    let told = dump(&target);
    assert!(told.contains("work"), "{told}");
    target.is_unharmed("hot_add");
}

/// By another process: a program that this one has open for writing when some
/// other test forks cannot be run.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

#[test]
fn a_deleted_program_keeps_its_names() {
    without_its_file(|program| fs::remove_file(program).unwrap());
}

#[test]
fn a_replaced_program_keeps_its_names() {
    without_its_file(|program| {
        let other = program.with_extension("new");
        copy(&build("many.c", &["-O2"]), &other);
        fs::rename(other, program).unwrap();
    });
}

#[test]
fn a_name_cannot_break_a_recording() {
    let _together = together();
    let mut target = Target::start("name.c", &["-O2"], &[]);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("flame.svg");
    let (number, name) = (target.number(), file.to_str().unwrap().to_owned());
    run(&["record", "-t", "-d", "1", "-r", "500", "-o", &name, "-p", &number]).expect(0);
    assert!(svg_file(&file).contains("busy"));
    let record = ["record", "-t", "-d", "1", "-f", "collapsed", "-o", "-", "-p", &number];
    let told = run(&record).expect(0);
    assert!(!told.stdout.contains(['\x1b', '\r']), "{told:#?}");
    assert!(Collapsed::read(&told.stdout).names("busy"), "{told:#?}");
    target.is_unharmed("steps");
}

/// The program lies where only the target's own mounts show it, and its number
/// is another one there.
#[test]
fn a_target_in_other_namespaces_is_named() {
    if !is_root() {
        return;
    }
    let _together = together();
    let script = "mount -t tmpfs none /mnt && cp \"$1\" /mnt/inside && exec /mnt/inside 1";
    let mut command = Command::new("unshare");
    command.args(["--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]);
    command.args(["sh", "-c", script, "sh"]).arg(build("hot.c", &["-O2"]));
    let mut target = Target::run(command).inside();
    let seen = record(&target);
    for name in ["hot_add", "hot_divide", "hot_walk", "hot_outer", "work"] {
        assert!(seen.names(name), "{name}: {seen:#?}");
    }
    assert!(dump(&target).contains("work"));
    target.is_unharmed("hot_add");
}

/// Another kernel, or a sandbox in its place, does not have every file: hide
/// `file` of every thread of `target` from a recording, and give what it says.
fn without(file: &str, target: &Target) -> Value {
    let home = tempfile::tempdir().unwrap();
    let stats = home.path().join("stats.json");
    let hide = "for thread in /proc/$1/task/*; do \
                mount --bind /dev/null $thread/$2 || exit 99; done; \
                exec \"$3\" record --pid $1 -d 1 --wall -f raw -o - --stats \"$4\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide, "sh", &target.number(), file]);
    command.arg(env!("CARGO_BIN_EXE_spy")).arg(&stats);
    let told = Observer::start(command).finish().expect(0);
    let seen = Collapsed::read(&told.stdout);
    assert!(seen.names("busy_thread") && seen.names("idle_thread"), "{seen:#?}");
    serde_json::from_str(&fs::read_to_string(stats).unwrap()).unwrap()
}

#[test]
fn a_kernel_that_says_less_is_made_do_with() {
    if !is_root() {
        return;
    }
    let _together = together();
    let mut target = Target::start("many.c", &["-O2"], &["3", "1"]);
    let count = |stats: &Value, key: &str| stats.pointer(key).unwrap().as_u64().unwrap();

    let stats = without("syscall", &target);
    // Each sleeps for good, so once is enough; their first thread reads.
    assert!((3..=8).contains(&count(&stats, "/samples/blind")), "{stats:#}");
    assert!(stats["notes"][0].as_str().unwrap().contains("system call"), "{stats:#}");

    let stats = without("schedstat", &target);
    assert_eq!(count(&stats, "/samples/blind"), 0, "{stats:#}");
    assert!(count(&stats, "/samples/still") > 100, "{stats:#}");
    assert!(stats["notes"][0].as_str().unwrap().contains("does not count"), "{stats:#}");
    target.is_unharmed("steps");
}
