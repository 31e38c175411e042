//! The live view in a terminal, and without one: each promise that
//! `docs/top.md` makes, once.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    observer::{Collapsed, is_function},
    target::{Target, alone, build, together, until},
    terminal::Terminal,
};

const SPY: &str = env!("CARGO_BIN_EXE_spy");

/// The size of a terminal that nobody has made larger.
const USUAL: (u16, u16) = (80, 24);

/// What the function is called that all the time is spent in of [`hot`]. It makes
/// no system call: a thread that does is often stopped as it comes back from one,
/// so that other functions are as hot as it in a second or two.
const HOT: &str = "busy_thread";

/// `many.c` with `number` threads that run.
fn hot(number: u32) -> Target {
    Target::start("many.c", &[], &["0", &number.to_string()])
}

fn top(target: &Target, more: &[&str]) -> Command {
    let mut command = Command::new(SPY);
    command.args(["top", "-p", &target.number()]).args(more);
    command
}

/// A target, and a terminal that shows its hot function.
fn watched(more: &[&str], size: (u16, u16)) -> (Target, Terminal) {
    let target = hot(1);
    let terminal = Terminal::start(&top(&target, more), size);
    terminal.shows(HOT);
    (target, terminal)
}

fn leaves(mut terminal: Terminal) {
    terminal.types("q");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn it_opens_on_the_target_and_its_hot_function_and_leaves_no_trace() {
    let _together = together();
    let (mut target, mut terminal) = watched(&[], USUAL);
    terminal.see("a screen of its own", |screen| screen.alternate_screen().then_some(()));
    terminal.shows(&target.number());
    terminal.shows("on-CPU");
    terminal.types("q");
    assert_eq!(terminal.end().code(), Some(0));
    target.is_unharmed("steps");
}

#[test]
fn every_way_to_leave_gives_the_terminal_back() {
    let _together = together();
    let others = [Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGALRM, Signal::SIGXCPU];
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT].into_iter().chain(others) {
        let (_target, mut terminal) = watched(&[], USUAL);
        terminal.signal(signal);
        assert_eq!(terminal.end().code(), Some(0), "{signal}");
    }
    let (_target, mut terminal) = watched(&[], USUAL);
    terminal.types("\x03");
    assert_eq!(terminal.end().code(), Some(0), "Ctrl-C");
}

#[test]
fn when_the_terminal_goes_it_goes_too() {
    let _together = together();
    let (mut target, mut terminal) = watched(&[], USUAL);
    assert_eq!(terminal.hang_up().code(), Some(0));
    target.is_unharmed("steps");
}

/// Nobody sends the signal of a hangup to who was started to outlive it.
#[test]
fn when_the_terminal_goes_it_goes_too_though_it_ignores_the_signal() {
    let _together = together();
    let target = hot(1);
    let mut command = Command::new("sh");
    let line = format!("trap '' HUP; exec {SPY} top -p {}", target.number());
    command.args(["-c", &line]);
    let mut terminal = Terminal::start(&command, USUAL);
    terminal.shows(HOT);
    terminal.hang_up();
}

/// Whether the first thread of a program sleeps in a write.
fn is_stuck(pid: u32) -> Option<()> {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    call.starts_with(&format!("{} ", nix::libc::SYS_write)).then_some(())
}

#[test]
fn a_terminal_that_takes_nothing_does_not_keep_it() {
    let _together = together();
    let (mut target, mut terminal) = watched(&[], USUAL);
    terminal.stall();
    let mut rows = [40, 60].into_iter().cycle();
    until("it waits for the terminal", || {
        // It draws all of it anew.
        terminal.resize((200, rows.next()?));
        is_stuck(terminal.pid())
    });
    // Two that differ are never taken for one.
    terminal.signal(Signal::SIGTERM);
    terminal.signal(Signal::SIGINT);
    let by = terminal.ended().signal();
    assert!([Signal::SIGINT, Signal::SIGTERM].map(|it| Some(it as i32)).contains(&by), "{by:?}");
    target.is_unharmed("steps");
}

#[test]
fn a_pipe_that_nobody_reads_does_not_keep_it() {
    let _together = together();
    let mut target = hot(1);
    let mut command = top(&target, &["--json", "-d", "100ms"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    // The least that a pipe holds.
    fcntl(child.stdout.as_ref().unwrap(), FcntlArg::F_SETPIPE_SZ(1)).unwrap();
    until("it waits for the pipe", || is_stuck(child.id()));
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    kill(pid, Signal::SIGINT).unwrap();
    let by = until("it ends", || child.try_wait().unwrap()).signal();
    assert!([Signal::SIGINT, Signal::SIGTERM].map(|it| Some(it as i32)).contains(&by), "{by:?}");
    target.is_unharmed("steps");
}

#[test]
fn it_is_drawn_anew_for_another_size() {
    let _together = together();
    let (_target, terminal) = watched(&[], USUAL);
    for size in [(120, 40), (40, 10), (30, 5), (1, 1), (200, 60)] {
        terminal.resize(size);
        if size > (1, 1) {
            terminal.see("it at another size", |screen| {
                let rows: Vec<String> = screen.rows(0, size.0).collect();
                let is_drawn =
                    rows.len() == usize::from(size.1) && rows.iter().any(|row| row.contains(HOT));
                is_drawn.then_some(())
            });
        }
    }
    terminal.resize(USUAL);
    terminal.shows(HOT);
    leaves(terminal);
}

#[test]
fn even_on_one_cell_it_can_be_left() {
    let _together = together();
    let target = hot(1);
    let terminal = Terminal::start(&top(&target, &[]), (1, 1));
    terminal.see("a screen of its own", |screen| screen.alternate_screen().then_some(()));
    leaves(terminal);
}

/// Wait until the clock of the first row has come to so many seconds. Gives
/// what it shows then: a loaded machine may leave a second out.
fn runs_for(terminal: &Terminal, seconds: u64) -> u64 {
    let clock = regex::Regex::new(r"\b(\d\d):(\d\d)\b").unwrap();
    terminal.see(&format!("{seconds} s"), |screen| {
        let contents = screen.contents();
        let (_, clock) = clock.captures(contents.lines().next()?)?.extract();
        let [minutes, rest] = clock.map(|number| number.parse::<u64>().unwrap());
        let shown = 60 * minutes + rest;
        (shown >= seconds).then_some(shown)
    })
}

/// What changes on a screen of 80x24 at two a second is a few hundred bytes.
#[test]
fn little_is_written() {
    let _together = together();
    let (_target, terminal) = watched(&[], USUAL);
    let since = runs_for(&terminal, 2);
    let before = terminal.bytes().len();
    let until = runs_for(&terminal, since + 3);
    let written = terminal.bytes().len() - before;
    // A tick more or less of its clock.
    let most = 3000 * (usize::try_from(until - since).unwrap() + 1);
    assert!(written <= most, "{written} bytes from {since} s to {until} s");
    leaves(terminal);
}

/// How often the first thread of a program has gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn nothing_is_written_in_a_pause() {
    let _together = together();
    let (_target, mut terminal) = watched(&["-d", "1s"], USUAL);
    terminal.types(" ");
    terminal.shows("PAUSED");
    // The end of what is drawn at once.
    until("all of it is there", || terminal.bytes().ends_with(b"\x1b[?2026l").then_some(()));
    let (before, slept) = (terminal.bytes().len(), sleeps(terminal.pid()));
    // With each update it wakes, and has slept when the next one comes: also
    // once in between, to see whether the terminal is still there.
    until("two updates have come", || (sleeps(terminal.pid()) >= slept + 5).then_some(()));
    // What it had written before was seen before this.
    assert_eq!(terminal.bytes().len(), before);
    leaves(terminal);
}

#[test]
fn without_colours_there_are_none_and_without_unicode_ascii() {
    let _together = together();
    let target = hot(1);
    let mut command = top(&target, &[]);
    command.env("NO_COLOR", "1").env("LANG", "C");
    let terminal = Terminal::start(&command, USUAL);
    terminal.shows(HOT);
    runs_for(&terminal, 2);
    let written = terminal.bytes();
    leaves(terminal);
    assert!(written.is_ascii(), "{}", String::from_utf8_lossy(&written));
    let text = String::from_utf8(written).unwrap();
    let colours = regex::Regex::new(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)[;m]").unwrap();
    assert_eq!(colours.find(&text).map(|found| found.as_str().to_owned()), None);

    let terminal = Terminal::start(&top(&target, &["--ascii"]), USUAL);
    terminal.shows(HOT);
    let written = terminal.bytes();
    leaves(terminal);
    assert!(written.is_ascii());
    assert!(colours.is_match(&String::from_utf8(written).unwrap()), "colours are told apart");
}

#[test]
fn keys_and_the_mouse_do_what_they_say() {
    let _together = together();
    let (_target, mut terminal) = watched(&[], USUAL);
    terminal.types("?");
    terminal.shows("choose a tab");
    terminal.types("\x1b");
    terminal.hides("choose a tab");
    terminal.types("2");
    terminal.shows("of one CPU");
    // The name of a tab, where it stands.
    let column = terminal.see("the tabs", |screen| {
        let row = screen.rows(0, 80).nth(3)?;
        row.find("1Functions").filter(|_| row.is_ascii() || row.contains("2Threads"))
    });
    terminal.types(&format!("\x1b[<0;{};4M\x1b[<0;{};4m", column + 2, column + 2));
    terminal.shows("on-CPU");
    terminal.types(" ");
    terminal.shows("PAUSED");
    terminal.types(" ");
    terminal.shows("LIVE");
    leaves(terminal);
}

#[test]
fn it_gives_way_to_the_shell_and_comes_back() {
    let _together = together();
    let target = hot(8);
    let mut shell = Command::new("sh");
    shell.arg("-i").env("PS1", "your turn> ").env("ENV", "/dev/null");
    let mut terminal = Terminal::start(&shell, USUAL);
    terminal.shows("your turn>");
    terminal.types(&format!("{SPY} top -r 1000 -p {}\n", target.number()));
    terminal.shows(HOT);
    for _ in 0..4 {
        terminal.types("\x1a");
        terminal.see("the shell", |screen| {
            let is_back = !screen.alternate_screen() && !screen.hide_cursor();
            (is_back && screen.contents().contains("Stopped")).then_some(())
        });
        // Nobody holds a thread of the target meanwhile.
        for task in std::fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap() {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            assert!(status.contains("TracerPid:\t0\n"), "{status}");
        }
        terminal.types("fg\n");
        terminal.see("it again", |screen| {
            let is_back = screen.alternate_screen() && screen.contents().contains(HOT);
            is_back.then_some(())
        });
    }
    terminal.types("q");
    terminal.see("the shell", |screen| {
        let last = screen.contents().lines().last().map(str::to_owned);
        last.filter(|last| !screen.alternate_screen() && last.trim() == "your turn>")
    });
    terminal.types("exit\n");
    terminal.end();
}

#[test]
fn when_the_target_ends_it_says_how_and_stays() {
    let _together = together();
    let (mut target, mut terminal) = watched(&[], USUAL);
    kill(Pid::from_raw(target.pid()), Signal::SIGKILL).unwrap();
    terminal.shows("was killed by SIGKILL");
    target.end();
    terminal.shows("ENDED");
    // The message goes with a key, and what was seen is still there.
    terminal.types("\x1b");
    terminal.shows(HOT);
    leaves(terminal);

    let (target, mut terminal) = watched(&["--exit-on-end"], USUAL);
    drop(target);
    assert_eq!(terminal.end().code(), Some(0));
}

/// Save what is shown, and go on.
fn save(terminal: &mut Terminal, path: &Path) {
    terminal.types("w");
    terminal.shows("save as");
    // What is proposed is not wanted.
    for _ in 0..100 {
        terminal.types("\x7f");
    }
    terminal.types(&format!("{}\r", path.display()));
    terminal.shows("was written");
    terminal.types("\x1b");
}

#[test]
fn what_is_shown_is_saved() {
    let _together = together();
    let (_target, mut terminal) = watched(&[], USUAL);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.folded");
    save(&mut terminal, &path);
    assert!(fs::read_to_string(&path).unwrap().contains(HOT));
    leaves(terminal);
}

/// The rows of the tab Functions: what each is called, its own share, how far
/// that may be off, and its share in all.
fn rows(screen: &str) -> Vec<(String, [f64; 3])> {
    let row = |line: &str| {
        let mut words = line.trim_start_matches('>').split_whitespace();
        let numbers: [Option<f64>; 3] = std::array::from_fn(|_| words.next()?.parse().ok());
        let [Some(own), Some(margin), Some(total)] = numbers else { return None };
        let name = words.find(|word| word.starts_with(|letter: char| letter.is_ascii_lowercase()));
        Some((name?.to_owned(), [own, margin, total]))
    };
    screen.lines().filter_map(row).collect()
}

#[test]
fn shares_are_those_of_a_recording_of_the_same_seconds() {
    let _together = together();
    let target = Target::start("hot.c", &[], &[]);
    let mut terminal = Terminal::start(&top(&target, &[]), (120, 40));
    runs_for(&terminal, 5);
    let functions = ["hot_add", "hot_outer", "hot_divide", "descend"];
    let is_named = |rows: &[(String, _)], name| rows.iter().any(|(shown, _)| shown == name);
    let named = |screen: &vt100::Screen| {
        let rows = rows(&screen.contents());
        functions.iter().all(|name| is_named(&rows, *name)).then_some(rows)
    };
    terminal.see("the functions", named);
    terminal.types(" ");
    terminal.shows("PAUSED");
    let shown = terminal.see("the functions", named);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.folded");
    save(&mut terminal, &path);
    let saved = Collapsed::read(&fs::read_to_string(&path).unwrap());
    for function in functions {
        let row = shown.iter().find(|(name, _)| name == function);
        let [own, margin, total] = row.unwrap().1;
        let is_it = |frame: &String| is_function(frame, function);
        let saved_own = 100.0 * saved.share_of(|stack| stack.last().is_some_and(is_it));
        let saved_total = 100.0 * saved.share_of(|stack| stack.iter().any(is_it));
        let is_near = |one: f64, other: f64| (one - other).abs() <= margin.max(0.1);
        assert!(is_near(own, saved_own), "{function}: {own} of {saved_own}");
        assert!(is_near(total, saved_total), "{function}: {total} of {saved_total}");
    }
    leaves(terminal);
}

#[test]
fn the_source_of_the_hot_function_is_read() {
    let _together = together();
    let target = Target::start("hot.c", &[], &[]);
    let mut terminal = Terminal::start(&top(&target, &[]), USUAL);
    terminal.shows("hot_add");
    terminal.types("/hot_add\r");
    terminal.hides("hot_outer");
    terminal.types("g6");
    terminal.shows("sum += i * i;");
    leaves(terminal);
}

#[test]
fn a_program_that_becomes_another_is_followed() {
    let _together = together();
    let mut command = Command::new("sh");
    let program = build("many.c", &[]);
    command.args(["-c", "echo ready; read line; exec \"$0\" 0 1"]).arg(program);
    let mut target = Target::run(command);
    let terminal = Terminal::start(&top(&target, &[]), USUAL);
    terminal.see("a screen of its own", |screen| screen.alternate_screen().then_some(()));
    runs_for(&terminal, 1);
    target.tell("go on");
    terminal.shows(HOT);
    leaves(terminal);
}

#[test]
fn a_command_is_started_watched_and_ended() {
    let _together = together();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let mut command = Command::new(SPY);
    command.args(["top", "--", "sh", "-c", "echo $$ >\"$0\"; while :; do :; done"]).arg(&file);
    let terminal = Terminal::start(&command, USUAL);
    terminal.shows("sh -c");
    let started = until("it is started", || fs::read_to_string(&file).ok()?.trim().parse().ok());
    leaves(terminal);
    assert_eq!(kill(Pid::from_raw(started), None), Err(Errno::ESRCH), "it was ended");

    let mut command = Command::new(SPY);
    command.args(["top", "--", "sh", "-c", "exit 3"]);
    let terminal = Terminal::start(&command, USUAL);
    terminal.shows("exited with status 3");
    leaves(terminal);

    let mut command = Command::new(SPY);
    command.args(["top", "--", "/nowhere/to/be/found"]);
    let mut terminal = Terminal::start(&command, USUAL);
    assert_eq!(terminal.end().code(), Some(127));
    terminal.shows("cannot be run");
}

#[test]
fn a_process_that_is_not_there_is_said_in_lines() {
    let mut command = Command::new(SPY);
    command.args(["top", "-p", "4194304"]);
    let mut terminal = Terminal::start(&command, USUAL);
    assert_eq!(terminal.end().code(), Some(1));
    terminal.shows("no process has the number 4194304");
    let written = String::from_utf8(terminal.bytes()).unwrap();
    assert!(!written.contains("\x1b[?1049h"), "no screen for it");
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).env("LANG", "C.UTF-8").env_remove("LC_ALL").output().unwrap()
}

/// Whether `text` is a table that tells of [`hot`].
fn is_table(text: &str, target: &Target) {
    assert!(text.starts_with(&target.number()), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    let number = |word: &str| word.parse::<f64>().ok();
    let numbers = |row: &str| row.split_whitespace().map_while(number).collect::<Vec<_>>();
    let is_row = |line: &&str| line.contains("many.c") && numbers(line).len() == 3;
    let row = text.lines().find(|line| line.contains(HOT) && is_row(line));
    let row = row.unwrap_or_else(|| panic!("no {HOT} in\n{text}"));
    let [own, margin, total] = numbers(row)[..] else { panic!("{row}") };
    assert!(own > 0.0 && own <= total + 0.1 && total <= 100.0 && margin > 0.0, "{row}");
    assert!(text.contains("hottest path"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn without_a_terminal_there_is_a_table() {
    let _alone = alone();
    let target = hot(1);
    for more in [&["--duration", "1500ms"][..], &["--once", "--duration", "1500ms"]] {
        let output = run(&mut top(&target, more));
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        is_table(&String::from_utf8(output.stdout).unwrap(), &target);
    }
    // And on one that cannot show a screen.
    let mut command = top(&target, &["--duration", "1500ms"]);
    command.env("TERM", "dumb");
    let mut terminal = Terminal::start(&command, USUAL);
    assert_eq!(terminal.end().code(), Some(0));
    terminal.shows("hottest path");
}

#[test]
fn tables_come_one_after_the_other() {
    let _together = together();
    let target = hot(1);
    let output = run(&mut top(&target, &["--batch", "-n", "3", "-d", "600ms"]));
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let head = format!("{} ", target.number());
    assert_eq!(text.lines().filter(|line| line.starts_with(&head)).count(), 3, "{text}");
}

#[test]
fn each_line_of_json_is_an_object() {
    let _alone = alone();
    let target = hot(1);
    let output = run(&mut top(&target, &["--json", "-n", "3", "-d", "600ms"]));
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let last = &lines[2];
    let functions = last["functions"].as_array().unwrap();
    let hot = functions.iter().find(|it| it["function"] == HOT).unwrap();
    let share = |key: &str| hot[key].as_f64().unwrap();
    assert!(share("total") > 0.0 && share("self") <= share("total") + 0.001, "{hot}");
    assert!(share("total") <= 1.0, "{hot}");
    let own: f64 = functions.iter().map(|it| it["self"].as_f64().unwrap()).sum();
    assert!((own - 1.0).abs() < 0.001, "{functions:#?}");
    assert!(last["watched_seconds"].as_f64() > lines[0]["watched_seconds"].as_f64());
    assert_eq!((&last["ended"], &last["gil"]), (&Value::Null, &Value::Null));
    assert_eq!(last["who"], target.number());

    let output = run(&mut top(&target, &["--json", "--once", "--duration", "1s"]));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(object["cpu_cores"].as_f64().unwrap() > 0.1);
}

#[test]
fn tables_end_with_the_target_and_with_a_signal() {
    let _together = together();
    let target = hot(1);
    let start = || {
        let mut command = top(&target, &["--json", "-d", "200ms"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.starts_with('{'), "{line}");
        (child, lines)
    };
    let (mut child, mut lines) = start();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    lines.read_to_string(&mut String::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));

    // Who reads no more is no error.
    let (mut child, lines) = start();
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let (mut child, mut lines) = start();
    drop(target);
    let mut text = String::new();
    lines.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        last["ended"].as_str().map(|it| it.starts_with("was killed by SIGKILL")),
        Some(true)
    );
}
