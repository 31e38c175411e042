//! What blocked threads wait for: each of the objects, exactly.

use std::process::Command;

use serde_json::Value;

use crate::{
    observer::run,
    target::{Target, build, is_root, together, until},
};

/// The threads of `target`, as `dump --json` has them.
fn threads(target: &Target) -> Vec<Value> {
    let told = run(&["dump", "-j", "-p", &target.number()]).expect(0);
    let processes: Value = serde_json::from_str(&told.stdout).unwrap();
    processes[0]["threads"].as_array().unwrap().clone()
}

/// What the program calls its threads, and the call that each is to be in.
const CALLS: [(&str, &str); 25] = [
    ("owner", "pause"),
    ("pipe_in", "read"),
    ("pipe_out", "write"),
    ("tcp", "recvfrom"),
    ("queued", "recvfrom"),
    ("full", "connect"),
    ("unix", "recvfrom"),
    ("accept", "accept4"),
    ("crowded", "poll"),
    ("flock", "flock"),
    ("fcntl", "fcntl"),
    ("eventfd", "read"),
    ("timerfd", "read"),
    ("signalfd", "read"),
    ("inotify", "read"),
    ("epoll", "epoll_wait"),
    ("poll", "poll"),
    ("select", "pselect6"),
    ("sleep", "nanosleep"),
    ("until", "clock_nanosleep"),
    ("child", "wait4"),
    ("pidfd", "waitid"),
    ("mutex", "futex"),
    ("lent", "futex"),
    ("join", "futex"),
];

/// The same once each of them waits as it is to.
fn waiting(target: &Target) -> Vec<Value> {
    until("each waits as it should", || {
        let threads = threads(target);
        let is_there = |&(name, call): &(&str, &str)| {
            let mut named = threads.iter().filter(|thread| thread["name"] == name);
            // Before that a thread waits for the others to have begun.
            named.any(|it| {
                it["syscall"] == call
                    && (call != "futex" || it["wait"]["futex"]["thread"] != Value::Null)
            })
        };
        CALLS.iter().all(is_there).then_some(threads)
    })
}

/// What one wait is said to be, without the times in it.
fn text<'a>(threads: &'a [Value], name: &str) -> &'a str {
    let thread = threads.iter().find(|thread| thread["name"] == name);
    let text = thread.and_then(|thread| thread["wait"]["text"].as_str());
    text.unwrap_or_else(|| panic!("{name}: {thread:#?}"))
}

#[test]
fn each_wait_says_for_what() {
    let _together = together();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("lock");
    let file = file.to_str().unwrap();
    let mut target = Target::start("blocked.c", &["-O2"], &[file]);
    let known = target.ask("report");
    let threads = waiting(&target);
    let check = |name: &str, expected: &str| {
        // `{word}` is what the program says of it.
        let mut expected = expected.to_owned();
        for (word, value) in &known {
            expected = expected.replace(&format!("{{{word}}}"), &value.to_string());
        }
        assert!(!expected.contains('{'), "{expected} of {known:?}");
        assert_eq!(text(&threads, name), expected, "{name}");
    };
    check("owner", "pause");
    check("pipe_in", "read({pipe_in}) of pipe [{pipe_in_inode}] from PID {writer} blocked-O2");
    check("pipe_out", "write({pipe_out}) of pipe [{pipe_out_inode}] to PID {reader} blocked-O2");
    check(
        "tcp",
        "recvfrom({tcp}) of tcp 127.0.0.1:{tcp_own} -> 127.0.0.1:{tcp_other} established, PID {server} blocked-O2",
    );
    check(
        "queued",
        "recvfrom({queued}) of tcp 127.0.0.1:{queued_own} -> 127.0.0.1:{full_other} established, PID {server} blocked-O2, not accepted yet",
    );
    check(
        "unix",
        &format!(
            "recvfrom({{unix}}) of unix stream -> @blocked {}, PID {{unix_server}} blocked-O2",
            target.pid()
        ),
    );
    check("accept", "accept4({listener}) of tcp 127.0.0.1:{listener_port} listening, 0 of 2 wait");
    check(
        "crowded",
        "poll of 1: tcp 127.0.0.1:{crowded_port} listening, 2 of 2 wait (fd {crowded})",
    );
    check(
        "flock",
        &format!("flock({{lock}}, exclusive) of {file}, held by PID {{holder}} blocked-O2"),
    );
    check(
        "fcntl",
        &format!(
            "fcntl({{record}}, exclusive, byte 120) of {file}, held by PID {{holder}} blocked-O2"
        ),
    );
    check("eventfd", "read({eventfd}) of eventfd");
    check("signalfd", "read({signalfd}) of signalfd for SIGUSR1, SIGUSR2");
    check("inotify", "read({inotify}) of inotify with 1 watch");
    check("epoll", "epoll_wait({epoll}) on 3 descriptors, 100.0 s");
    check(
        "poll",
        "poll of 2: eventfd (fd {polled}); udp 127.0.0.1:{udp_own} -> 127.0.0.1:{udp_other}, PID {server} blocked-O2 (fd {udp})",
    );
    check("select", "pselect6 of 2: eventfd (fd {selected}); eventfd (fd {selected_too})");
    check("sleep", "nanosleep 100.0 s");
    check("child", "wait4 for child {waited} blocked-O2");
    check("pidfd", "waitid({pidfd}) of pidfd of PID {waited} blocked-O2");
    check("mutex", "futex: pthread mutex owned by thread {owner}");
    check("lent", "futex: priority-inheriting lock owned by thread {owner}");
    check("join", "futex: the end of thread {owner}");

    // What depends on when it is looked at.
    let full = text(&threads, "full");
    let (start, end) = full.split_once(" -> ").unwrap();
    assert!(start.starts_with(&format!("connect({}) of tcp 127.0.0.1:", known["full"])), "{full}");
    let rest =
        format!("127.0.0.1:{} syn sent, PID {} blocked-O2", known["full_other"], known["server"]);
    assert_eq!(end, rest);
    let start = format!("read({}) of timerfd, due in ", known["timerfd"]);
    let timer = text(&threads, "timerfd");
    assert!(timer.starts_with(&start), "{timer}");
    let left = |name: &str, place: &str| {
        let thread = threads.iter().find(|thread| thread["name"] == name).unwrap();
        thread["wait"].pointer(place).and_then(Value::as_f64).unwrap()
    };
    for left in [left("timerfd", "/object/due_seconds"), left("until", "/timeout_seconds")] {
        assert!((1.0..=100.0).contains(&left), "{left}");
    }
}

/// In a namespace of their own threads and processes have other numbers there
/// than here.
#[test]
fn numbers_are_ours_whatever_the_target_calls_them() {
    if !is_root() {
        return;
    }
    let _together = together();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("lock");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork"]).arg(build("blocked.c", &["-O2"])).arg(&file);
    let mut target = Target::run(command).inside();
    let known = target.ask("report");
    let threads = waiting(&target);
    let owner = threads.iter().find(|thread| thread["name"] == "owner").unwrap();
    let owner = owner["tid"].as_u64().unwrap();
    assert_ne!(owner, known["owner"]);
    let mutex = format!("futex: pthread mutex owned by thread {owner}");
    assert_eq!(text(&threads, "mutex"), mutex);
    assert_eq!(text(&threads, "join"), format!("futex: the end of thread {owner}"));

    // The child, as its number there says.
    let there = |pid: u64| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        numbers.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    let of = |name: &str, place: &str| {
        let thread = threads.iter().find(|thread| thread["name"] == name).unwrap();
        thread["wait"].pointer(place).and_then(Value::as_u64).unwrap()
    };
    assert_eq!(of("child", "/child/number"), known["waited"]);
    for (name, place, word) in [
        ("child", "/child/process/pid", "waited"),
        ("pidfd", "/object/process/pid", "waited"),
        ("tcp", "/object/peers/others/0/pid", "server"),
        ("flock", "/lock/holder/pid", "holder"),
        ("pipe_in", "/object/peers/others/0/pid", "writer"),
    ] {
        assert_eq!(there(of(name, place)), known[word], "{name}");
    }
}
