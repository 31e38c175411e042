//! The program as people meet it: its help, what it refuses and how, and how
//! it ends.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use crate::golden;

const SPY: &str = env!("CARGO_BIN_EXE_spy");

fn spy(arguments: &[&str]) -> Command {
    let mut command = Command::new(SPY);
    command.args(arguments).env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    spy(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A process that sleeps until it is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        let mut child = Command::new("sh")
            .args(["-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn help() {
    for (name, arguments) in [
        ("help-short.txt", &["-h"][..]),
        ("help-long.txt", &["--help"]),
        ("help-top-short.txt", &["top", "-h"]),
        ("help-top-long.txt", &["top", "--help"]),
        ("help-record-short.txt", &["record", "-h"]),
        ("help-record-long.txt", &["record", "--help"]),
        ("help-dump-short.txt", &["dump", "-h"]),
        ("help-dump-long.txt", &["dump", "--help"]),
    ] {
        // Wider than the text may become.
        let output = spy(arguments).env("COLUMNS", "120").output().unwrap();
        assert_eq!(code(&output), 0);
        golden::check(name, &String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn what_is_typed_wrong_is_refused_with_2() {
    let sleeper = Sleeper::start();
    let pid = sleeper.pid();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let check = |arguments: &[&str], said: &str| {
        let output = run(arguments);
        let text = stderr(&output);
        assert_eq!(code(&output), 2, "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?} should say `{said}`:\n{text}");
        assert!(!text.contains("panicked"), "{text}");
        assert!(output.stdout.is_empty());
    };
    for wrong in ["0", "-1", "nginx", "", "1.5", "4294967297"] {
        check(&["dump", "-p", wrong], "a process number");
        check(&["record", "-p", wrong], "a process number");
    }
    for rate in ["0", "-1", "nan", "inf", "1e308", "1e-308", "", "fast", "100mhz"] {
        check(&["record", "-p", &pid, "-r", rate], "a rate is");
    }
    for time in ["0", "-1", "nan", "inf", "1e308", "1e-308", "", "soon", "10y", "9999999h"] {
        check(&["record", "-p", &pid, "-d", time], "a time is");
    }
    check(&["record", "-p", &pid, "-f", "png"], "flamegraph, raw, speedscope, chrometrace]");
    check(&["record", "-p", &pid, "-o", &path("a.json")], "several formats are JSON");
    check(&["record", "-p", &pid, "-o", &path("a.html")], ".html");
    check(&["record", "-p", &pid, "-o", &path("a.html")], "-o NAME.svg");
    check(&["record", "-p", &pid, "-o", &path("missing/a.svg")], "mkdir -p");
    check(&["record", "-p", &pid, "-f", "raw", "-o", &path("")], "directory");
    check(&["record", "-p", &pid, "-o", "/proc/a.svg"], "/proc/a.svg cannot be written");
    check(&["record", "-p", &pid, "--stats", &path("missing/a.json")], "mkdir -p");
    check(&["record", "-p", &pid, "-o", &path("a.svg"), "--stats", &path("a.svg")], "same place");
    check(&["record", "-p", &pid, "-o", "-", "--stats", "-"], "same place");
    check(&["record", "-p", &pid, "-o", &path("")], "it is a directory");
    check(&["record", "-p", &pid, "--", "true"], "cannot be used with");
    for (one, other) in [("-n", "--no-native"), ("-n", "--nonblocking"), ("-F", "--nolineno")] {
        check(&["record", "-p", &pid, one, other], "cannot be used with");
    }
    check(&["dump", "-p", &pid, "-n", "--no-native"], "cannot be used with");
    check(&["dump", "-p", &pid, "-n", "-b"], "cannot be used with");
    check(&["top", "-p", &pid, "-n", "-b"], "cannot be used with");
    check(&["top", "-p", &pid, "-n", "5"], "goes with --batch");
    check(&["top", "-p", &pid, "--once", "--batch"], "cannot be used with");
    check(&["top", "-p", &pid, "-d", "50ms"], "between 100ms and");
    check(&["top", "-p", &pid, "--batch", "-n", "0"], "invalid value");
    check(&["record", "-p", &pid, "--colour", "x"], "--color");
    for command in ["record", "dump"] {
        check(&[command, &pid], &format!("to watch process {pid}, type `-p {pid}`"));
    }
    check(&["frobnicate"], "frobnicate");
    check(&[], "Usage: spy");
    // Nothing was left behind.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let refused = |arguments: &[&str]| {
        let output = run(arguments);
        (code(&output), stderr(&output))
    };
    // The kernel numbers no process so high.
    let (exit, text) = refused(&["dump", "-p", "2147483647"]);
    assert_eq!((exit, text.as_str()), (1, "error: no process has the number 2147483647\n"));

    if let Ok(kernel) = fs::read_to_string("/proc/2/comm")
        && kernel == "kthreadd\n"
    {
        let (exit, text) = refused(&["record", "-p", "2"]);
        assert_eq!(exit, 2);
        assert!(text.contains("process 2 (kthreadd)") && text.contains("of the kernel"), "{text}");
    }
}

#[test]
fn one_process_that_is_gone_does_not_hide_the_others() {
    let sleeper = Sleeper::start();
    let output = run(&["dump", "-j", "-p", "2147483647", "-p", &sleeper.pid()]);
    assert_eq!(code(&output), 1);
    assert_eq!(stderr(&output), "error: no process has the number 2147483647\n");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["pid"].to_string(), sleeper.pid());
    assert_eq!(json.as_array().unwrap().len(), 1);
}

/// The shell becomes the program, so that its number is known beforehand.
#[test]
fn it_does_not_watch_itself() {
    let line = format!("exec {SPY} dump -p $$");
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("is this spy"), "{}", stderr(&output));
}

#[test]
fn a_zombie_is_told() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
    nix::sys::wait::waitid(nix::sys::wait::Id::Pid(pid), flags).unwrap();
    let output = run(&["record", "-p", &pid.to_string()]);
    child.wait().unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("it has ended"), "{}", stderr(&output));
}

#[test]
fn a_thread_is_told_from_a_process() {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (end, may_end) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        ready.send(nix::unistd::gettid()).unwrap();
        let _ = may_end.recv();
    });
    let tid = is_ready.recv().unwrap();
    let pid = std::process::id();
    for arguments in [["-p".to_owned(), tid.to_string()].as_slice(), &[format!("--pid={tid}")]] {
        let output = spy(&["dump", "-j"]).args(arguments).output().unwrap();
        let text = stderr(&output);
        assert_eq!(code(&output), 2, "{text}");
        assert!(text.contains(&format!("{tid} is no process, but a thread of process {pid}")));
        let again = arguments.join(" ").replace(&tid.to_string(), &pid.to_string());
        assert!(text.contains(&format!("  fix: {SPY} dump -j {again}\n")), "{text}");
    }
    drop(end);
    thread.join().unwrap();
}

#[test]
fn without_a_target_and_a_terminal_the_candidates_are_listed() {
    let sleeper = Sleeper::start();
    let output = run(&["record", "-d", "1"]);
    let text = stderr(&output);
    assert_eq!(code(&output), 2, "{text}");
    assert!(text.contains("which process?"), "{text}");
    // At most so many are listed; which ones depends on who is busy.
    assert!(text.contains("COMMAND"), "{text}");
    assert!(text.contains(&format!("  fix: {SPY} record -d 1 -p ")), "{text}");
    drop(sleeper);
}

#[test]
fn colours_follow_the_flag_then_the_environment_then_the_terminal() {
    let coloured = |arguments: &[&str], no_color: Option<&str>| {
        let mut command = spy(arguments);
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        stderr(&command.output().unwrap()).contains('\x1b')
    };
    let dump = ["dump", "-p", "2147483647"];
    let with = |flag| [&dump[..], &["--color", flag]].concat();
    assert!(!coloured(&dump, None), "not a terminal");
    assert!(coloured(&with("always"), None));
    assert!(coloured(&with("always"), Some("1")));
    assert!(!coloured(&with("never"), None));
    assert!(!coloured(&with("auto"), Some("1")));
}

/// The status that `record -- command` ends with.
fn status_of(command: &[&str]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let output = spy(&["record", "-d", "100ms", "-o", "a.svg", "--"])
        .args(command)
        .current_dir(directory.path())
        .output()
        .unwrap();
    (code(&output), stderr(&output))
}

#[test]
fn the_status_of_a_command_is_passed_on() {
    assert_eq!(status_of(&["true"]).0, 0);
    assert_eq!(status_of(&["sh", "-c", "exit 42"]).0, 42);
    assert_eq!(status_of(&["sh", "-c", "kill -9 $$"]).0, 137);
    let (exit, text) = status_of(&["/nonexistent/program"]);
    assert_eq!(exit, 127);
    assert!(text.contains("/nonexistent/program cannot be run"), "{text}");
    assert_eq!(status_of(&["/dev/null"]).0, 126);
}

#[test]
fn what_goes_wrong_beside_a_command_is_not_its_status() {
    let output = run(&["record", "-o", "/nonexistent/a.svg", "--", "true"]);
    assert_eq!(code(&output), 125, "{}", stderr(&output));
    let output = run(&["record", "-o", "/dev/full", "--", "true"]);
    let text = stderr(&output);
    assert_eq!(code(&output), 125, "{text}");
    assert!(text.contains("No space left on device (os error 28)"), "{text}");
}

/// A command that ends at once is recorded all the same: so the file's way
/// can be tested where nothing may be traced.
fn record_to(output: &str, directory: &Path) -> Output {
    let mut command = spy(&["record", "-f", "flamegraph", "-o", output, "--", "true"]);
    command.current_dir(directory).output().unwrap()
}

#[test]
fn a_file_is_replaced_as_a_whole_with_the_permissions_of_any_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.svg");
    let other = directory.path().join("other");
    fs::write(&other, "").unwrap();
    let output = record_to("a.svg", directory.path());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(fs::read_to_string(&path).unwrap().ends_with("</svg>\n"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&other));

    // What a link leads to is replaced, and not the link.
    let link = directory.path().join("link.svg");
    fs::write(&path, "old").unwrap();
    symlink(&path, &link).unwrap();
    assert_eq!(code(&record_to("link.svg", directory.path())), 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().ends_with("</svg>\n"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "nothing else is left");
}

#[test]
fn standard_output_is_an_output() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["-", "/dev/stdout"] {
        let output = record_to(name, directory.path());
        let svg = String::from_utf8(output.stdout).unwrap();
        assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n"), "{svg}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_pipe_with_a_name_is_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::thread::spawn(move || fs::read_to_string(path).unwrap());
    let output = record_to("pipe", directory.path());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(reader.join().unwrap().ends_with("</svg>\n"));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = spy(&["record", "-o", "-", "--", "true"]).stdout(writer).output().unwrap();
    assert_eq!(code(&output), 0);
    assert_eq!(stderr(&output), "");
}

#[test]
fn statistics_are_json() {
    let directory = tempfile::tempdir().unwrap();
    let output = spy(&["record", "-o", "a.svg", "--stats", "a.json", "--", "true"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = fs::read_to_string(directory.path().join("a.json")).unwrap();
    let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(stats["held_microseconds"]["p99"].is_number(), "{stats}");
}

#[test]
fn a_file_without_a_name_is_named_after_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let output = spy(&["record", "--", "true"]).current_dir(directory.path()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let entry = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap();
    let name = entry.file_name().into_string().unwrap();
    assert!(name.starts_with("spy-true-") && name.ends_with("Z.svg"), "{name}");
    assert!(stderr(&output).contains(&name));
    assert!(stderr(&output).lines().count() <= 5);
}

/// The command reads what it is to do from its terminal, so standard input and
/// output are its own.
#[test]
fn a_command_keeps_its_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = spy(&["record", "-o", "a.svg", "--", "sh", "-c", "read word; echo got $word"])
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"it\n").unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "got it\n");
    assert!(child.wait().unwrap().success());
}

/// `spy record -- cat`, once it listens to signals; what it waits for is its
/// standard input, which this end holds.
struct Recording {
    spy: Child,
    directory: tempfile::TempDir,
}

impl Recording {
    fn start(output: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The command lets go of standard error, so that its end is spy's.
        let spy = spy(&[
            "record",
            "--wall",
            "-f",
            "flamegraph",
            "-o",
            output,
            "--",
            "sh",
            "-c",
            "exec cat 2>/dev/null",
        ])
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        let mut recording = Self { spy, directory };
        while !recording.listens() {
            assert!(recording.spy.try_wait().unwrap().is_none(), "it ended too early");
            std::thread::yield_now();
        }
        recording
    }

    /// The signals are blocked before the thread that waits for them is
    /// started. While a process is started, all signals are.
    fn listens(&self) -> bool {
        let mask = self.mask("SigBlk:");
        let blocked = |signal: i32| mask >> (signal - 1) & 1 == 1;
        blocked(libc::SIGTERM) && !blocked(libc::SIGUSR1)
    }

    fn mask(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.spy.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.spy.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Interrupt it, and wait until the thread that waits for signals has taken
    /// the interrupt: two that wait are one.
    fn interrupt(&self) {
        self.signal(nix::sys::signal::Signal::SIGINT);
        while self.mask("ShdPnd:") >> (libc::SIGINT - 1) & 1 == 1 {
            std::thread::yield_now();
        }
    }

    /// The first line that is said, which says that the file is written.
    fn written(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.spy.stderr.take().unwrap()).read_line(&mut line).unwrap();
        line
    }

    fn end(mut self) -> i32 {
        drop(self.spy.stdin.take());
        let exit = self.spy.wait().unwrap().code().unwrap();
        let svg = fs::read_to_string(self.directory.path().join("a.svg")).unwrap();
        assert!(svg.ends_with("</svg>") || svg.ends_with("</svg>\n"), "{svg}");
        exit
    }
}

#[test]
fn an_interrupt_ends_the_recording_and_not_the_command() {
    let mut recording = Recording::start("a.svg");
    recording.interrupt();
    let line = recording.written();
    assert!(line.starts_with("Wrote a.svg: "), "{line}");
    assert_eq!(recording.end(), 0);
}

#[test]
fn when_all_is_written_interrupts_are_the_command_s() {
    let mut recording = Recording::start("a.svg");
    recording.interrupt();
    assert!(recording.written().starts_with("Wrote a.svg: "));
    recording.interrupt();
    recording.interrupt();
    assert_eq!(recording.end(), 0);
}

/// The file is a pipe that nobody reads, and that is full: so the second
/// interrupt comes before anything is written.
#[test]
fn a_second_interrupt_gives_up() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut full = fs::File::options();
    let mut full = full.write(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
    while full.write(&[0; 4096]).is_ok() {}
    while full.write(&[0]).is_ok() {}
    let mut recording = Recording::start(pipe.to_str().unwrap());
    recording.interrupt();
    recording.interrupt();
    assert_eq!(recording.spy.wait().unwrap().code(), Some(130));
    assert_eq!(recording.written(), "", "nothing is said to be written");
}

#[test]
fn other_signals_are_passed_on_to_the_command() {
    for (signal, status) in
        [(nix::sys::signal::Signal::SIGTERM, 143), (nix::sys::signal::Signal::SIGHUP, 129)]
    {
        let mut recording = Recording::start("a.svg");
        recording.signal(signal);
        let line = recording.written();
        assert!(line.starts_with("Wrote a.svg: "), "{line}");
        assert_eq!(recording.end(), status);
    }
}
