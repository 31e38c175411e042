use super::*;
use crate::{
    task::{Pid, Tid},
    tui::tabs::made,
};

/// Ten seconds of a target, told in pieces.
struct Made {
    seen: Population,
    gauges: Gauges,
    known: Vec<Thread>,
    threads: Vec<ThreadNow>,
    processes: Vec<ProcessNow>,
    before: Vec<ProcessNow>,
    from: Duration,
}

fn process(id: u32, throttled: Option<(u64, u64)>) -> ProcessNow {
    let throttled = throttled.map(|(times, millis)| (times, Duration::from_millis(millis)));
    let pid = Pid(4000 + i32::try_from(id).unwrap());
    ProcessNow { process: ProcessId(id), pid, runtime: None, throttled }
}

impl Made {
    fn new() -> Self {
        let known = ["MainThread", "worker", "aggregator"].map(|name| Thread {
            process: ProcessId(0),
            tid: Tid(1),
            name: name.to_owned(),
        });
        Self {
            seen: Population::default(),
            gauges: Gauges { cores: 0.93, ..Gauges::default() },
            known: known.into(),
            threads: Vec::new(),
            processes: vec![process(0, None)],
            before: vec![process(0, None)],
            from: Duration::from_secs(5),
        }
    }

    /// One that is seen for `ticks` of 1,000.
    fn seen(mut self, thread: u32, state: State, frames: &str, ticks: u64) -> Self {
        made::add(&mut self.seen, thread, state, frames, ticks);
        self
    }

    fn lock(mut self, lock: Lock) -> Self {
        self.seen.stacks.last_mut().unwrap().lock = lock;
        self
    }

    fn found(&self) -> Option<Evidence> {
        of(&Window {
            seen: &self.seen,
            gauges: &self.gauges,
            known: &self.known,
            threads: &self.threads,
            processes: &self.processes,
            before: &self.before,
            from: self.from,
            at: Duration::from_secs(15),
        })
    }

    /// Nothing at all where `expected` is empty; `!` marks what is grave.
    #[track_caller]
    fn check(&self, expected: &str) {
        let text = self.found().map(|it| format!("{}{}", if it.grave { "!" } else { "" }, it.text));
        assert_eq!(text.unwrap_or_default(), expected);
    }
}

const RUN: State = State::Running;
const HUB: &str = "run@/v/site-packages/gevent/hub.py:647";
const ASYNCIO: &str = "main@/srv/app.py:9 run@/usr/lib/python3.11/asyncio/runners.py:190 \
    run_forever@/usr/lib/python3.11/asyncio/base_events.py:607 \
    _run_once@/usr/lib/python3.11/asyncio/base_events.py:1900";

fn polls() -> State {
    made::asleep(libc::SYS_epoll_wait)
}

fn naps() -> State {
    made::asleep(libc::SYS_clock_nanosleep)
}

/// A healthy process that has a little of everything.
fn healthy() -> Made {
    Made::new()
        .seen(0, polls(), &format!("{HUB} !ev_run !epoll_wait"), 950)
        .seen(
            0,
            RUN,
            "handle@/v/site-packages/gunicorn/workers/ggevent.py:3 view@/srv/views.py:8",
            10,
        )
        .seen(
            0,
            RUN,
            "handle@/v/site-packages/gunicorn/workers/ggevent.py:3 other@/srv/views.py:80",
            40,
        )
        .seen(1, made::asleep(libc::SYS_futex), "wait@/usr/lib/python3.11/threading.py:320", 1000)
}

#[test]
fn nothing_is_said_of_nothing_much() {
    Made::new().check("");
    healthy().check("");
    // Whatever 49 samples say.
    let half_a_second = |ticks| {
        let mut made = Made::new().seen(0, RUN, "f", ticks);
        made.from = Duration::from_millis(14_500);
        made
    };
    half_a_second(49).check("");
    half_a_second(50).check("f alone is 100 % of the time on CPU, of 0.93 cores");
    let mut never = half_a_second(900);
    never.from = Duration::from_secs(20);
    never.check("");
    // Most of next to nothing.
    Made::new().seen(0, RUN, "f", 99).check("");
    let odd = Made::new().seen(9, RUN, "", 400).seen(9, naps(), "", 400);
    odd.check("");
}

#[test]
fn a_throttled_group_is_told_first() {
    let mut made = Made::new().seen(0, RUN, "f", 900);
    made.before = vec![process(0, Some((10, 1_000)))];
    made.processes = vec![process(0, Some((97, 5_200)))];
    made.check(
        "!Throttled: kept from running 87 times in 10.0 s by its cgroup's CPU limit, 4.2 s in all",
    );
    // A little, or a number that went back, is nothing.
    made.processes = vec![process(0, Some((97, 1_400)))];
    made.check("f alone is 100 % of the time on CPU, of 0.93 cores");
    made.processes = vec![process(0, Some((1, 9)))];
    made.check("f alone is 100 % of the time on CPU, of 0.93 cores");
    made.processes = vec![process(0, Some((97, 5_200))), process(1, Some((97, 5_300)))];
    made.before.push(process(1, Some((10, 100))));
    made.check(
        "!Throttled process 4001: kept from running 87 times in 10.0 s by its cgroup's CPU limit, 5.2 s in all",
    );
    // A process that was not there before has no beginning to compare with.
    made.before.clear();
    made.check("f alone is 100 % of the time on CPU, of 0.93 cores");
}

#[test]
fn threads_that_queue_for_the_lock_are_told() {
    let futex = made::asleep(libc::SYS_futex);
    let convoy = |wanted| {
        Made::new()
            .seen(2, RUN, "aggregate_forever@/srv/metrics.py:35", 500)
            .lock(Lock::Held)
            .seen(2, RUN, "aggregate_forever@/srv/metrics.py:36", 370)
            .lock(Lock::Held)
            .seen(1, RUN, "query@/srv/db.py:3", 40)
            .lock(Lock::Held)
            .seen(0, futex, "accept@/srv/a.py:1", wanted)
            .lock(Lock::Wanted)
            .seen(1, futex, "query@/srv/db.py:3", wanted)
            .lock(Lock::Wanted)
    };
    convoy(800).check(
        "!GIL-bound: held 91 % of the time, 1.6 threads wait; \
         aggregator holds it 87 %, in aggregate_forever (metrics.py:35)",
    );
    // Nobody to speak of waits.
    convoy(200)
        .check("aggregate_forever (metrics.py) alone is 96 % of the time on CPU, of 0.93 cores");
    // Two processes have a lock each.
    let mut made = convoy(800);
    made.known[1].process = ProcessId(1);
    made.known[2].process = ProcessId(1);
    made.processes.push(process(1, None));
    made.check(
        "!GIL-bound process 4001: held 91 % of the time, 0.8 threads wait; \
         aggregator (4001) holds it 87 %, in aggregate_forever (metrics.py:35)",
    );
}

#[test]
fn a_loop_that_greenlets_keep_is_told() {
    let base = "handle@/v/site-packages/gunicorn/workers/ggevent.py:3";
    let alchemy = "execute@/v/site-packages/sqlalchemy/engine/default.py:900 !sqlite3_step";
    let blocked = |naps_for: u64, polls_for: u64| {
        Made::new()
            .seen(0, naps(), &format!("{base} save_user@/srv/db.py:121 {alchemy}"), naps_for)
            .seen(0, RUN, &format!("{base} derive_key@/srv/security.py:55 !PBKDF2"), 200)
            .seen(0, polls(), &format!("{HUB} !ev_run !epoll_wait"), polls_for)
            .seen(
                1,
                made::asleep(libc::SYS_futex),
                "wait@/usr/lib/python3.11/threading.py:320",
                1000,
            )
    };
    blocked(730, 70).check(
        "!Event loop of MainThread blocked 93 %; 73 % by save_user (db.py:121), \
         asleep in clock_nanosleep",
    );
    // It never came to its hub.
    blocked(800, 0).check(
        "!Event loop of MainThread blocked 100 %; 80 % by save_user (db.py:121), \
         asleep in clock_nanosleep",
    );
    // Of what it does in stacks that are lost nothing is known.
    let lost = |ticks| blocked(280, 520 - ticks).seen(0, naps(), "[lost]", ticks);
    lost(400).check("PBKDF2 alone is 100 % of the time on CPU, of 0.93 cores");
    blocked(280, 520).check("PBKDF2 alone is 100 % of the time on CPU, of 0.93 cores");
}

#[test]
fn turns_of_the_loop_itself_do_not_keep_it() {
    // A greenlet that calls gevent.sleep(0) in a loop: only heat.
    let base = "spawn@/v/site-packages/gevent/baseserver.py:3";
    let spin = Made::new()
        .seen(0, RUN, &format!("{base} flush@/srv/metrics.py:21"), 250)
        .seen(
            0,
            RUN,
            &format!("{base} flush@/srv/metrics.py:21 sleep@/v/site-packages/gevent/hub.py:159"),
            400,
        )
        .seen(0, RUN, &format!("{HUB} !ev_run"), 350);
    spin.check("");
}

#[test]
fn a_loop_of_asyncio_is_told_by_what_is_inside_it() {
    let made = |busy: u64| {
        Made::new()
            .seen(0, polls(), &format!("{ASYNCIO} select@/usr/lib/python3.11/selectors.py:468 !epoll_wait"), 1000 - busy)
            .seen(
                0,
                RUN,
                &format!("{ASYNCIO} _run@/usr/lib/python3.11/asyncio/events.py:80 digest@/srv/a.py:37 !sha1"),
                busy / 2,
            )
            .seen(
                0,
                RUN,
                &format!("{ASYNCIO} _run@/usr/lib/python3.11/asyncio/events.py:80 digest@/srv/a.py:38 !md5"),
                busy / 2,
            )
            // Before the loop began.
            .seen(1, RUN, "main@/srv/app.py:3", 20)
    };
    made(600).check("!Event loop of MainThread busy 60 %; 60 % by digest (a.py:37)");
    made(400).check("");
    // A name server is asked from inside the loop.
    let poll = made::asleep(libc::SYS_poll);
    let mut asks = Made::new()
        .seen(
            0,
            poll,
            &format!(
                "{ASYNCIO} resolve@/srv/n.py:36 getaddrinfo@/usr/lib/python3.11/socket.py:9 !poll"
            ),
            610,
        )
        .seen(
            0,
            polls(),
            &format!("{ASYNCIO} select@/usr/lib/python3.11/selectors.py:468 !epoll_wait"),
            390,
        );
    asks.known.truncate(1);
    asks.check("!Event loop blocked 61 %; 61 % by resolve (n.py:36), asleep in poll");
}

#[test]
fn a_loop_of_machine_code_is_told() {
    let made = |busy: u64| {
        Made::new()
            .seen(
                0,
                made::asleep(libc::SYS_epoll_pwait),
                "main uv_run uv__io_poll epoll_pwait",
                1000 - busy,
            )
            .seen(0, RUN, "main uv_run uv__io_poll render", busy)
    };
    made(700).check("!Event loop of MainThread busy 70 %; 70 % by render");
    made(30).check("");
    // Sources of the C library are known, and are not the program's own.
    let mut sorts = Made::new().seen(
        0,
        RUN,
        "main@/src/a.c uv_run order@/src/a.c:7 qsort@./stdlib/qsort.c:9",
        900,
    );
    sorts.seen.functions[3].module = Some("libc.so.6".to_owned());
    sorts.check("!Event loop of MainThread busy 100 %; 100 % by order (a.c:7)");
    // uvloop: below a language's frames the loop's own are not shown.
    let outer = "main@/srv/u.py:9 run@/v/site-packages/uvloop/__init__.py:92";
    let kept = Made::new()
        .seen(
            0,
            made::asleep(libc::SYS_epoll_pwait),
            &format!("{outer} !uv_run !uv__io_poll !epoll_pwait"),
            360,
        )
        .seen(
            0,
            naps(),
            &format!("{outer} handler@/srv/u.py:3 !time_sleep !__clock_nanosleep"),
            640,
        );
    kept.check(
        "!Event loop of MainThread blocked 64 %; 64 % by handler (u.py:3), \
         asleep in clock_nanosleep",
    );
    let mut nameless = Made::new().seen(
        0,
        made::asleep(libc::SYS_epoll_pwait),
        "main uv_run uv__io_poll libc+0x1",
        1000,
    );
    nameless.seen.functions[3].module = Some("libc.so.6".to_owned());
    nameless.check("");
}

#[test]
fn a_thread_that_asks_without_an_end_spins() {
    let made = |calls: u64, other: u64| {
        Made::new()
            .seen(0, RUN, "turn@/srv/loop.py:3 !__poll", calls)
            .seen(0, RUN, "turn@/srv/loop.py:3", other)
            .seen(0, polls(), "turn@/srv/loop.py:3 !epoll_wait", 1000 - calls - other)
    };
    made(720, 270).check(
        "!MainThread spins: on CPU 99 % of the time, 73 % of that in poll, which returns at once; \
         from turn (loop.py:3)",
    );
    made(400, 590).check("turn (loop.py) alone is 60 % of the time on CPU, of 0.93 cores");
    // It sleeps half of the time.
    made(300, 200).check("__poll alone is 60 % of the time on CPU, of 0.93 cores");
    // A function of a language that has the name of a call.
    Made::new()
        .seen(0, RUN, "poll@/srv/a.py:3", 900)
        .check("poll (a.py) alone is 100 % of the time on CPU, of 0.93 cores");
}

#[test]
fn one_function_is_told_only_beyond_doubt() {
    let made = |own, other| {
        Made::new().seen(0, RUN, "main f@/srv/p.py:118", own).seen(0, RUN, "main g", other)
    };
    made(630, 370).check("f (p.py) alone is 63 % of the time on CPU, of 0.93 cores");
    made(510, 490).check("");
    // What is no function.
    let cut = Made::new().seen(0, RUN, "[lost]", 600).seen(0, RUN, "g", 400);
    cut.check("");
    // Recursion is not more than once.
    Made::new().seen(0, RUN, "f f f g", 100).seen(0, RUN, "f f f", 100).check("");
}

#[test]
fn a_machine_short_of_processors_is_told() {
    let made = |queued| {
        Made::new().seen(0, RUN, "f", 300).seen(1, RUN, "g", 300).seen(
            0,
            State::Queued,
            "f",
            queued,
        )
    };
    made(360).check("!Short of CPUs: threads that could run wait 38 % of the time for one");
    made(100).check("");
}

#[test]
fn one_wait_is_told_of_threads_that_are_not_idle() {
    let flock = made::asleep(libc::SYS_flock);
    let mut made = healthy().seen(2, flock, "append_audit@/srv/audit.py:17 !flock", 970).seen(
        2,
        RUN,
        "append_audit@/srv/audit.py:18",
        30,
    );
    // What runs in the main thread is little, and it is idle.
    made.seen.stacks.retain(|path| path.thread != ThreadId(0) || path.state != RUN);
    made.check("Waiting: 97 % of the time in flock; from append_audit (audit.py:17)");
    made.threads.push(ThreadNow {
        thread: ThreadId(2),
        tid: Tid(3),
        state: flock,
        asleep_since: None,
        wait: Some("flock(17) of run/audit.log, held by PID 20041".to_owned()),
    });
    made.check(
        "Waiting: 97 % of the time in flock(17) of run/audit.log, held by PID 20041; \
         from append_audit (audit.py:17)",
    );
    // All are idle.
    Made::new().seen(0, made::asleep(libc::SYS_accept4), "serve !accept4", 1000).check("");
    Made::new().seen(0, made::asleep(libc::SYS_futex), "get !futex", 1000).check("");
    // None ever runs, and what it waits for is not work.
    Made::new()
        .seen(0, flock, "f !flock", 1000)
        .check("Waiting: 100 % of the time in flock; from f");
}

#[test]
fn what_is_hostile_is_no_trouble() {
    let mut made = Made::new().seen(0, RUN, "f", 500).seen(1, naps(), "g", 500);
    for path in &mut made.seen.stacks {
        path.frames.extend([(usize::MAX, Some(3)), (77, None)]);
        (path.ticks, path.time) = (u64::MAX, Duration::MAX);
    }
    made.processes = vec![process(0, Some((u64::MAX, u64::MAX)))];
    made.before = vec![process(0, Some((0, 0)))];
    assert!(made.found().is_some());
    made.before.clear();
    made.known.clear();
    made.found();
    for (lock, state) in [(Lock::Held, RUN), (Lock::Wanted, polls()), (Lock::Held, State::Halted)] {
        for path in &mut made.seen.stacks {
            (path.lock, path.state) = (lock, state);
        }
        made.found();
    }
    let mut long = Made::new().seen(0, RUN, "f@/srv/x.py:3", 900);
    long.seen.functions[0].name = "é".repeat(1 << 16);
    long.seen.functions[0].file = Some("/".repeat(1 << 16));
    assert!(long.found().unwrap().text.chars().count() < 300);
}

#[test]
fn a_great_many_stacks_and_deep_ones_are_judged() {
    let mut made = Made::new();
    made.seen = made::many(10_000, 30);
    assert_eq!(made.found(), None);
    let deep = "f@/srv/a.py:1 ".repeat(2_000);
    let deep = Made::new().seen(0, RUN, &deep, 500).seen(0, naps(), &deep, 500);
    deep.check("f (a.py) alone is 100 % of the time on CPU, of 0.93 cores");
}
