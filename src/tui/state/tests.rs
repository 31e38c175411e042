//! What is seen after what was sampled and pressed, with samples made up here.

use std::sync::Arc;

use super::*;
use crate::{
    memory::Address,
    profile::{Key as SampleKey, Process, Thread, Weight},
    stack::{CodeAddress, End, Frame, ManagedFrame, NativeFrame, Stack},
    task::{Lock, Pid, State as Doing, Syscall, Tid},
    tui::{
        Target,
        keys::Key,
        screen::{Body, FunctionRow, Overlay, Table, ThreadRow},
        update::{ProcessNow, ThreadNow},
    },
};

mod journey;

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(10);

/// A made-up recording.
struct Maker {
    profile: Profile,
    names: Vec<Vec<Symbol>>,
    at: Duration,
    costs: Costs,
    now: Vec<ThreadNow>,
}

impl Maker {
    /// One process and as many threads, `t0` and so on.
    fn new(threads: u32) -> Self {
        let mut profile = Profile::default();
        profile.keep_parts();
        let (pid, command) = (Pid(7), "shop serve".to_owned());
        let process = profile.add_process(Process { pid, command, kernel_cpu: Duration::ZERO });
        let (names, at, costs) = (Vec::new(), Duration::ZERO, Costs::default());
        let mut made = Self { profile, names, at, costs, now: Vec::new() };
        for _ in 0..threads {
            made.thread(process);
        }
        made
    }

    fn thread(&mut self, process: ProcessId) -> ThreadId {
        let number = i32::try_from(self.now.len()).unwrap();
        let (tid, name) = (Tid(100 + number), format!("t{number}"));
        let thread = self.profile.add_thread(Thread { process, tid, name });
        let state = Doing::Running;
        self.now.push(ThreadNow { thread, tid, state, asleep_since: None, wait: None });
        thread
    }

    /// A stack of functions of a file of their own, the outermost first, each
    /// `name` or `name:line`; `!` before one of machine code in `libz.so.1`.
    fn stack(&mut self, functions: &str) -> Stack {
        let mut frames = Vec::new();
        for text in functions.split_whitespace().rev() {
            let (name, line) = text.split_once(':').unwrap_or((text, "1"));
            let line: u32 = line.parse().unwrap();
            frames.push(match name.strip_prefix('!') {
                None => Frame::Managed(Arc::new(ManagedFrame {
                    function: name.to_owned(),
                    file: format!("/srv/{name}.py"),
                    line: Some(line),
                    columns: None,
                    first_line: Some(1),
                })),
                Some(name) => {
                    let at = name.bytes().fold(0, |sum, byte| sum * 256 + u64::from(byte));
                    let code = CodeAddress::Return(Address(at));
                    Frame::Native(NativeFrame { module: None, code })
                }
            });
        }
        Stack { frames, end: End::Root }
    }

    /// `thread` was `ticks` times there, from now on.
    fn see(&mut self, thread: u32, (doing, lock): (Doing, Lock), functions: &str, ticks: u32) {
        let stack = self.stack(functions);
        let stack = self.profile.intern(ProcessId(0), &stack);
        let key = SampleKey { thread: ThreadId(thread), state: doing, lock, stack };
        let wall = TICK * ticks;
        let cpu = if doing == Doing::Running { wall } else { Duration::ZERO };
        let weight = Weight { ticks: ticks.into(), wall, cpu, queued: Duration::ZERO };
        self.profile.count_since(key, weight, self.at);
    }

    fn run(&mut self, thread: u32, functions: &str, ticks: u32) -> &mut Self {
        self.see(thread, (Doing::Running, Lock::Without), functions, ticks);
        self
    }

    fn sleep(&mut self, thread: u32, functions: &str, ticks: u32) -> &mut Self {
        self.see(thread, (asleep(), Lock::Without), functions, ticks);
        self
    }

    /// What was seen in the second that ends now.
    fn update(&mut self) -> Update {
        self.at += SECOND;
        self.costs.ticks_wanted += 100;
        self.costs.ticks += 100;
        self.costs.own_cpu += TICK;
        let part = self.profile.take_part();
        let name = |frame: &Frame| match frame {
            Frame::Managed(frame) => Symbol {
                function: frame.function.clone(),
                file: Some(frame.file.clone()),
                line: frame.line,
                ..Symbol::default()
            },
            Frame::Native(frame) => {
                let bytes = frame.code.address().0.to_be_bytes();
                let function = bytes.iter().filter(|&&it| it > 0).map(|&it| char::from(it));
                let module = Some("libz.so.1".to_owned());
                Symbol { function: function.collect(), module, ..Symbol::default() }
            }
        };
        let names: Vec<_> = part.frames().iter().map(|it| vec![name(&it.frame)]).collect();
        self.names.extend(names.clone());
        let process = ProcessId(0);
        let runtime = Some("CPython 3.12.1".to_owned());
        let now = ProcessNow { process, pid: Pid(7), runtime, throttled: None };
        let (costs, threads) = (self.costs.clone(), self.now.clone());
        Update { at: self.at, part, names, costs, threads, processes: vec![now] }
    }

    /// Have `state` told of the second that ends now.
    fn tell(&mut self, state: &mut State) {
        let update = self.update();
        state.update(update);
    }
}

fn asleep() -> Doing {
    Doing::Blocked(Syscall(u32::try_from(libc::SYS_epoll_wait).unwrap()))
}

fn press(state: &mut State, keys: &str) {
    for letter in keys.chars() {
        assert_eq!(state.press(Key::Char(letter)), None, "{letter}");
    }
}

#[track_caller]
fn functions(state: &mut State) -> Table<FunctionRow> {
    match state.screen().body {
        Body::Functions(table) => table,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn threads(state: &mut State) -> Table<ThreadRow> {
    match state.screen().body {
        Body::Threads(table) => table,
        other => panic!("{other:?}"),
    }
}

/// Rows as `name own/total`, in percent, `>` before the chosen one.
#[track_caller]
fn check(state: &mut State, expected: &[&str]) {
    let table = functions(state);
    let rows = table.rows.iter().enumerate().map(|(at, row)| {
        let mark = if at == table.chosen { ">" } else { "" };
        format!("{mark}{} {:.0}/{:.0}", row.name, row.own * 100.0, row.total * 100.0)
    });
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

#[test]
fn shares_are_of_what_ran_and_add_up() {
    let (mut maker, mut state) = (Maker::new(2), State::new(Setup::default()));
    maker.run(0, "main parse", 60).run(0, "main", 20).run(1, "work", 20);
    maker.sleep(1, "work poll", 80);
    maker.tell(&mut state);
    check(&mut state, &[">parse 60/60", "main 20/80", "work 20/20"]);
    let sum: f64 = functions(&mut state).rows.iter().map(|row| row.own).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    press(&mut state, "i");
    check(&mut state, &[">poll 44/44", "parse 33/33", "work 11/56", "main 11/44"]);
    assert_eq!(state.screen().tabs.population, "wall, last 1 s");
}

#[test]
fn one_that_calls_itself_counts_once() {
    let (mut maker, mut state) = (Maker::new(1), State::new(Setup::default()));
    maker.run(0, "fib fib:2 fib:2", 30).run(0, "fib leaf", 10);
    maker.tell(&mut state);
    check(&mut state, &[">fib 75/100", "leaf 25/25"]);
    press(&mut state, "s");
    assert_eq!(state.screen().tabs.order, "total▼");
    check(&mut state, &[">fib 75/100", "leaf 25/25"]);
}

#[test]
fn margins_are_of_what_rows_are_ordered_by() {
    let (mut maker, mut state) = (Maker::new(1), State::new(Setup::default()));
    maker.run(0, "main parse", 41).run(0, "main", 59);
    maker.tell(&mut state);
    let margin = crate::tui::population::margin;
    let own = functions(&mut state).rows.iter().map(|row| row.margin).collect::<Vec<_>>();
    assert_eq!(own, [margin(0.59, 100), margin(0.41, 100)]);
    press(&mut state, "s");
    assert!((functions(&mut state).rows[0].margin - margin(1.0, 100)).abs() < 1e-12);
    assert!(!functions(&mut state).rows[0].faint);
}

/// Nine threads that wait for the one CPU make the shares of those that had it
/// no surer.
#[test]
fn margins_are_of_what_had_a_processor() {
    let margin = |queued: u32| {
        let (mut maker, mut state) = (Maker::new(10), State::new(Setup::default()));
        maker.run(0, "one", 50).run(0, "two", 50);
        for thread in 1..=queued {
            maker.see(thread, (Doing::Queued, Lock::Without), "one", 100);
        }
        maker.tell(&mut state);
        functions(&mut state).rows[0].margin
    };
    assert!((margin(0) - 0.096).abs() < 0.001, "{}", margin(0));
    assert!((margin(9) - margin(0)).abs() < f64::EPSILON);
}

#[test]
fn several_cores_are_cores_and_shares_stay_below_all() {
    let (mut maker, mut state) = (Maker::new(2), State::new(Setup::default()));
    maker.run(0, "main", 100).run(1, "main", 43);
    maker.tell(&mut state);
    let screen = state.screen();
    assert!((screen.gauges.cores - 1.43).abs() < 1e-9);
    check(&mut state, &[">main 100/100"]);
    press(&mut state, "2");
    let rows = threads(&mut state).rows;
    assert_eq!(rows.iter().map(|row| row.tid).collect::<Vec<_>>(), [100, 101]);
    assert!((rows[1].cpu - 0.43).abs() < 1e-9);
}

#[test]
fn only_the_window_is_shown_and_its_past_is_kept() {
    let setup = Setup { window: Duration::from_secs(5), ..Setup::default() };
    let (mut maker, mut state) = (Maker::new(1), State::new(setup));
    for _ in 0..10 {
        maker.run(0, "old", 100).tell(&mut state);
    }
    for _ in 0..5 {
        maker.run(0, "new", 100).tell(&mut state);
    }
    check(&mut state, &[">new 100/100"]);
    assert_eq!(state.screen().tabs.population, "on-CPU, last 5 s");
    // A step of a second, of five that are shown.
    press(&mut state, "[[");
    check(&mut state, &[">new 60/60", "old 40/40"]);
    let screen = state.screen();
    assert_eq!(screen.title.moment, Moment::Past(13 * SECOND));
    assert_eq!(screen.tabs.population, "on-CPU, 5 s");
    assert_eq!(screen.keys[0], ("End", "live again"));
    // Recording goes on meanwhile, and is not seen.
    maker.run(0, "newest", 100).tell(&mut state);
    check(&mut state, &[">new 60/60", "old 40/40"]);
    assert_eq!(state.screen().title.moment, Moment::Past(13 * SECOND));
    press(&mut state, "]");
    check(&mut state, &[">new 80/80", "old 20/20"]);
    state.press(Key::End);
    check(&mut state, &[">new 80/80", "newest 20/20"]);
    assert_eq!(state.screen().title.moment, Moment::Live);
    press(&mut state, "}");
    check(&mut state, &[">new 50/50", "old 40/40", "newest 10/10"]);
    press(&mut state, "{[[[[[[[[[[[[[[[[[[[[[[");
    check(&mut state, &[">old 100/100"]);
    assert_eq!(state.screen().title.moment, Moment::Past(SECOND));
    press(&mut state, "]]]]]]]]]]]]]]]]]]]]]]");
    assert_eq!(state.screen().title.moment, Moment::Live);
}

/// Updates may be rarer than what is shown of them is long.
#[test]
fn a_time_that_is_longer_than_wanted_is_told_as_it_is() {
    let setup = Setup { window: SECOND * 5, ..Setup::default() };
    let (mut maker, mut state) = (Maker::new(1), State::new(setup));
    for _ in 0..2 {
        maker.at += SECOND * 19;
        maker.run(0, "main", 100).tell(&mut state);
    }
    assert_eq!(state.screen().tabs.population, "on-CPU, last 20 s");
}

/// The sums that are kept from one update to the next are those of the slices.
#[test]
fn sums_that_follow_are_those_made_anew() {
    let setup = Setup { window: Duration::from_secs(5), ..Setup::default() };
    let (mut maker, mut state) = (Maker::new(3), State::new(setup));
    for at in 0..40_u32 {
        for thread in 0..3 {
            let names = ["main a", "main b", "main a b", "main c c"];
            maker.run(thread, names[((at * 7 + thread * 3) % 4) as usize], at % 5 + 1);
        }
        maker.tell(&mut state);
        let mut anew = Sums::default();
        anew.set(state.sums.slices.clone());
        assert_eq!(anew.by_key, state.sums.by_key);
        assert_eq!(state.sums.slices.len(), (at as usize + 1).min(5));
    }
}

#[test]
fn a_pause_holds_what_is_seen_while_recording_goes_on() {
    let setup = Setup { window: SECOND * 5, history: SECOND * 10, ..Setup::default() };
    let (mut maker, mut state) = (Maker::new(1), State::new(setup));
    maker.run(0, "old", 100).tell(&mut state);
    press(&mut state, " ");
    let _ = state.screen();
    // The history drops what is paused; the pause does not.
    for _ in 0..30 {
        maker.run(0, "new", 100).tell(&mut state);
    }
    check(&mut state, &[">old 100/100"]);
    assert_eq!(state.screen().title.moment, Moment::Paused(SECOND));
    press(&mut state, " ");
    check(&mut state, &[">new 100/100"]);
}

#[test]
fn nothing_is_drawn_when_nothing_changed() {
    let (mut maker, mut state) = (Maker::new(1), State::new(Setup::default()));
    assert!(state.is_changed());
    maker.run(0, "main", 100).tell(&mut state);
    let _ = state.screen();
    assert!(!state.is_changed());
    // A key without a meaning.
    assert_eq!(state.press(Key::Char('X')), None);
    assert!(!state.is_changed());
    press(&mut state, " ");
    assert!(state.is_changed());
    let paused = state.screen();
    assert!(!state.is_changed());
    // An update while paused.
    let mut update = maker.update();
    update.at = SECOND * 70;
    state.update(update);
    assert!(!state.is_changed());
    assert_eq!(state.screen(), paused);
    state.resize(120, 40);
    assert!(state.is_changed());
}

#[test]
fn the_history_is_bounded_in_bytes_and_says_so() {
    let setup = Setup { memory: 64 << 10, ..Setup::default() };
    let (mut maker, mut state) = (Maker::new(1), State::new(setup));
    for at in 0..200 {
        for sample in 0..50 {
            maker.run(0, &format!("main f{}", (at * 50 + sample) % 97), 2);
        }
        maker.tell(&mut state);
        assert!(state.history.bytes() <= 64 << 10 || at == 0);
    }
    let population = state.screen().tabs.population;
    assert!(population.contains("only") && population.ends_with("kept"), "{population}");
    // What is shown is no more than what is kept.
    press(&mut state, "}}}}");
    assert!(state.sums.length() < 30 * SECOND);
    let cut = state.screen();
    assert!(cut.tabs.population.contains(&format!("{} s kept", state.sums.length().as_secs())));
}

#[test]
fn lines_modules_and_native_frames_are_rows_too() {
    let (mut maker, mut state) = (Maker::new(1), State::new(Setup::default()));
    maker.run(0, "!start main:3 !loop parse:7 !deflate", 60).run(0, "!start main:4", 40);
    maker.tell(&mut state);
    // The loop that runs managed frames is not theirs to see.
    check(&mut state, &[">deflate 60/60", "main 40/100", "parse 0/60"]);
    assert!(functions(&mut state).rows[0].native);
    assert_eq!(functions(&mut state).rows[0].place, "libz.so.1");
    press(&mut state, "l");
    check(&mut state, &[">deflate 60/60", "main 40/40", "main 0/60", "parse 0/60"]);
    assert_eq!(functions(&mut state).rows[1].place, "main.py:4");
    assert_eq!(state.screen().tabs.population, "on-CPU, by line, last 1 s");
    press(&mut state, "l");
    check(&mut state, &[">libz.so.1 60/60", "main.py 40/100", "parse.py 0/60"]);
    press(&mut state, "l");
    check(&mut state, &[">deflate 60/60", "main 40/100", "start 0/100", "loop 0/60", "parse 0/60"]);
    assert_eq!(state.options().view, View::Native);
    press(&mut state, "lL");
    assert_eq!(state.screen().tabs.population, "on-CPU, by line, last 1 s");
    assert_eq!(state.options().lines, Lines::Apart);
}

#[test]
fn the_hottest_way_to_what_is_chosen_is_told() {
    let (mut maker, mut state) = (Maker::new(1), State::new(Setup::default()));
    maker.run(0, "main serve parse", 72).run(0, "main boot parse", 28);
    maker.tell(&mut state);
    let path = state.screen().path.unwrap();
    assert_eq!(path.frames, ["parse", "serve", "main"]);
    assert!((path.share - 0.72).abs() < 1e-9);
}

#[test]
fn trends_are_of_the_time_that_is_shown() {
    let setup = Setup { window: SECOND * 7, ..Setup::default() };
    let (mut maker, mut state) = (Maker::new(1), State::new(setup));
    for at in 0..7 {
        maker.run(0, if at < 3 { "a" } else { "a b" }, 50).tell(&mut state);
    }
    let rows = functions(&mut state).rows;
    assert_eq!(
        (rows[0].name.as_str(), &*rows[0].trend),
        ("b", &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0][..])
    );
    assert_eq!(rows[1].trend, [1.0; 7]);
    let before = state.screen().gauges.cores_before;
    assert_eq!(before.len(), 7);
    assert!(before.iter().all(|&cores| (cores - 0.5).abs() < 1e-9));
}

#[test]
fn a_thread_that_ended_is_still_told() {
    let (mut maker, mut state) = (Maker::new(3), State::new(Setup::default()));
    maker.run(0, "main", 100).run(1, "work", 50).sleep(2, "poll", 100);
    maker.now[2].state = asleep();
    maker.now[2].asleep_since = Some(Duration::ZERO);
    maker.now[2].wait = Some("epoll_wait(4)".to_owned());
    maker.tell(&mut state);
    maker.now.remove(1);
    maker.run(0, "main", 100).sleep(2, "poll", 100).tell(&mut state);
    press(&mut state, "2");
    let screen = state.screen();
    assert_eq!(screen.gauges.threads.running, 1);
    assert_eq!(screen.gauges.threads.blocked, 1);
    let rows = threads(&mut state).rows;
    let told: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.state)).collect();
    assert_eq!(told, [("t0", "run"), ("t1", "end"), ("t2", "sleep")]);
    assert_eq!(rows[0].frame, "main (main.py:1)");
    assert_eq!(rows[2].wait, Some(("epoll_wait(4)".to_owned(), Some(2 * SECOND))));
    assert_eq!(rows[1].wait, None);
}

#[test]
fn the_interpreter_lock_is_told_where_there_is_one() {
    let (mut maker, mut state) = (Maker::new(3), State::new(Setup::default()));
    maker.see(0, (Doing::Running, Lock::Held), "main", 90);
    for thread in 1..3 {
        maker.see(thread, (asleep(), Lock::Wanted), "work", 100);
        maker.now[thread as usize].state = asleep();
    }
    maker.tell(&mut state);
    let gauges = state.screen().gauges;
    let (held, wanted) = gauges.lock.unwrap();
    assert!((held - 0.9).abs() < 1e-9 && (wanted - 2.0).abs() < 1e-9);
    assert_eq!((gauges.threads.lock, gauges.threads.blocked), (2, 0));
    press(&mut state, "2");
    let rows = threads(&mut state).rows;
    assert_eq!(rows[1].state, "lock");
    assert_eq!(rows[0].lock, Some((0.9, 0.0)));
}

#[test]
fn what_it_cost_is_of_the_window() {
    let setup = Setup { window: SECOND * 5, ..Setup::default() };
    let (mut maker, mut state) = (Maker::new(1), State::new(setup));
    maker.costs.ticks_wanted = 1000;
    maker.costs.held.add(31_000);
    for _ in 0..8 {
        maker.run(0, "main", 100).tell(&mut state);
    }
    let screen = state.screen();
    assert!((screen.gauges.own - 0.01).abs() < 1e-9);
    assert!((screen.title.made - 1.0).abs() < 1e-9, "the lost ticks were before");
    assert_eq!((screen.gauges.held, screen.gauges.lost), (Some(31.0), None));
    assert_eq!(screen.title.who, "7");
    assert_eq!(screen.title.runtime.as_deref(), Some("CPython 3.12.1"));
    maker.costs.ticks_wanted += 100;
    maker.tell(&mut state);
    let screen = state.screen();
    assert_eq!(screen.gauges.lost.as_deref(), Some("17 % of ticks not made"));
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let mut state = State::new(Setup::default());
    for tab in ['1', '2', '3', '4', '5', '6'] {
        press(&mut state, &tab.to_string());
        assert!(matches!(state.screen().body, Body::Empty(_)));
    }
    press(&mut state, "1jkGgnNcsrbBiztp");
    let mut maker = Maker::new(1);
    maker.sleep(0, "main poll", 100).tell(&mut state);
    let mut state = State::new(Setup::default());
    let mut maker = Maker::new(1);
    maker.sleep(0, "main poll", 100).tell(&mut state);
    assert!(matches!(state.screen().body, Body::Empty(why) if why.contains("nothing ran")));
}
