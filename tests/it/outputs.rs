//! What recordings and dumps are written as, on made-up ones.

use std::{sync::Arc, time::Duration};

use spy::{
    memory::Address,
    output::{self, Format, Lines, Locks, Mode, Named, Options, Paths, Threads, View, dump},
    profile::{Costs, Key, Process, Profile, Thread, ThreadId, Weight},
    stack::{
        CodeAddress, End, Frame, ManagedFrame, ModuleId, NativeFrame, Parked, ParkedKind,
        ParkedState, Stack, Symbol, Variable,
    },
    style::Paint,
    task::{Lock, Pid, State, Syscall, Tid},
    wait::{Count, Descriptor, Futex, Object, RuntimeLock, Subject, Timeout, Wait},
};

use crate::golden;

pub(crate) const OPTIONS: Options = Options {
    mode: Mode::OnCpu,
    locks: Locks::Any,
    view: View::Default,
    lines: Lines::Apart,
    paths: Paths::Short,
    threads: Threads::Merged,
    rate: 100.0,
};

pub(crate) fn call(number: libc::c_long) -> State {
    State::Blocked(Syscall(u32::try_from(number).unwrap()))
}

/// Functions without a file lie in `libc.so.6`.
fn symbol(managed: &ManagedFrame) -> Symbol {
    let known = !managed.file.is_empty();
    Symbol {
        function: managed.function.clone(),
        file: known.then(|| managed.file.clone()),
        line: managed.line,
        module: (!known).then(|| "libc.so.6".to_owned()),
        inlined: false,
        compiled: false,
    }
}

pub(crate) struct Made {
    pub(crate) profile: Profile,
    costs: Costs,
    /// The native frames' names, by their addresses.
    natives: Vec<String>,
}

/// Each tick stands for 10 ms.
fn weight(state: State, ticks: u64) -> Weight {
    let wall = Duration::from_millis(10 * ticks);
    let cpu = if state.is_runnable() { wall } else { Duration::ZERO };
    Weight { ticks, wall, cpu, queued: Duration::ZERO }
}

impl Made {
    pub(crate) fn new() -> Self {
        let costs = Costs {
            duration: Duration::from_secs(10),
            sampled_cpu: Duration::from_millis(6_940),
            kernel_cpu: Duration::from_millis(7_020),
            ..Costs::default()
        };
        Self { profile: Profile::default(), costs, natives: Vec::new() }
    }

    pub(crate) fn process(&mut self, pid: i32, command: &str) {
        let process =
            Process { pid: Pid(pid), command: command.to_owned(), kernel_cpu: Duration::ZERO };
        self.profile.add_process(process);
    }

    pub(crate) fn thread(&mut self, process: u32, tid: i32, name: &str) -> ThreadId {
        let process = spy::profile::ProcessId(process);
        self.profile.add_thread(Thread { process, tid: Tid(tid), name: name.to_owned() })
    }

    /// `frames`: outermost first, separated by spaces.
    pub(crate) fn count(&mut self, thread: ThreadId, state: State, frames: &str, ticks: u64) {
        self.count_cut(thread, state, (frames, End::Root), ticks);
    }

    fn count_cut(&mut self, thread: ThreadId, state: State, stack: (&str, End), ticks: u64) {
        let key = self.key(thread, (state, Lock::Without), stack);
        self.profile.count(key, weight(state, ticks));
    }

    /// `frames`: outermost first, separated by spaces.
    pub(crate) fn key(
        &mut self,
        thread: ThreadId,
        (state, lock): (State, Lock),
        (frames, end): (&str, End),
    ) -> Key {
        let process = self.profile.threads()[thread.0 as usize].process;
        let frames = frames.split_whitespace().rev().map(|text| self.frame(text)).collect();
        let stack = self.profile.intern(process, &Stack { frames, end });
        Key { thread, state, lock, stack }
    }

    /// A frame as `function@file:line/first line`, or, native, as `~function`.
    fn frame(&mut self, text: &str) -> Frame {
        if let Some(native) = text.strip_prefix('~') {
            let known = self.natives.iter().position(|name| name == native);
            let at = known.unwrap_or_else(|| {
                self.natives.push(native.to_owned());
                self.natives.len() - 1
            });
            let code = CodeAddress::Instruction(Address(at as u64));
            return Frame::Native(NativeFrame { module: Some(ModuleId(0)), code });
        }
        let (function, place) = text.split_once('@').unwrap_or((text, ""));
        let (file, lines) = place.split_once(':').unwrap_or((place, ""));
        let (line, first) = lines.split_once('/').unwrap_or((lines, ""));
        let managed = ManagedFrame {
            function: function.to_owned(),
            file: file.to_owned(),
            line: line.parse().ok(),
            columns: None,
            first_line: first.parse().ok(),
        };
        Frame::Managed(Arc::new(managed))
    }

    fn names(&self) -> Vec<Vec<Symbol>> {
        let name = |frame: &Frame| match frame {
            Frame::Managed(managed) => symbol(managed),
            Frame::Native(native) => Symbol {
                function: self.natives[usize::try_from(native.code.address().0).unwrap()].clone(),
                module: Some("libpython3.so".to_owned()),
                ..Symbol::default()
            },
        };
        self.profile.frames().iter().map(|placed| vec![name(&placed.frame)]).collect()
    }

    pub(crate) fn write(&self, format: Format, options: &Options) -> String {
        let names = self.names();
        let recording = Named { profile: &self.profile, costs: &self.costs, names: &names };
        let mut text = Vec::new();
        output::write(format, recording, options, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }
}

pub(crate) fn server() -> Made {
    let mut made = Made::new();
    made.process(4711, "/srv/app/bin/portal --workers=2 --bind \"<0.0.0.0:80>\" & x");
    let main = made.thread(0, 4711, "portal");
    let worker = made.thread(0, 4712, "worker; 1\x1b[2J");
    let base = "_start __libc_start_main main@src/main.c:31";
    let handle = "start_thread worker@src/pool.c:88 handle@src/http.c:140";
    let mut run = |frames: &str, ticks| made.count(worker, State::Running, frames, ticks);
    run(&format!("{handle} render@src/page.c:210 escape_html@src/page.c:52"), 210);
    run(&format!("{handle} render@src/page.c:211 append@src/buffer.c:19 realloc"), 80);
    run(&format!("{handle} render@src/page.c:211 append@src/buffer.c:23 memcpy"), 60);
    run(&format!("{handle} query@src/db.c:77 sqlite3_step@sqlite3.c:9100 btree@sqlite3.c:70"), 190);
    run(&format!("{handle} query@src/db.c:77 sqlite3_step@sqlite3.c:9100"), 40);
    run(&format!("{handle} query@src/db.c:79 decode@src/db.c:12 malloc"), 30);
    made.count(worker, State::Queued, &format!("{handle} render@src/page.c:210"), 25);
    made.count(
        worker,
        call(libc::SYS_pread64),
        &format!("{handle} query@src/db.c:77 sqlite3_step@sqlite3.c:9100 pread"),
        120,
    );
    made.count(
        worker,
        call(libc::SYS_futex),
        &format!("{handle} lock@src/lock.c:9 pthread_mutex_lock"),
        165,
    );
    made.count(worker, State::Faulting, &format!("{handle} render@src/page.c:211"), 3);
    made.count(
        main,
        call(libc::SYS_epoll_wait),
        &format!("{base} accept_loop@src/main.c:90 epoll_wait"),
        960,
    );
    made.count(
        main,
        State::Running,
        &format!("{base} accept_loop@src/main.c:95 accept@src/net.c:14"),
        38,
    );
    made.count_cut(main, State::Running, ("_ZN4jit@:1 hash[;]", End::NoUnwindInfo), 9);
    made.costs.ends = [1890, 9, 0, 0, 0, 0, 0, 4, 0];
    made.costs.caught.unchanged = 1899;
    made.costs.caught.missed = 4;
    made
}

#[test]
fn collapsed_stacks() {
    let made = server();
    let on_cpu = made.write(Format::Collapsed, &OPTIONS);
    golden::check("collapsed.txt", &on_cpu);
    assert!(on_cpu.lines().is_sorted());
    assert!(!on_cpu.contains("epoll_wait"), "blocked stacks are not on the CPU");
    let wall =
        Options { mode: Mode::Wall, threads: Threads::Apart, lines: Lines::Together, ..OPTIONS };
    golden::check("collapsed-wall.txt", &made.write(Format::Collapsed, &wall));
}

/// The frames of an SVG: text and colour.
fn frames(svg: &str) -> Vec<(String, [u8; 3])> {
    let mut frames = Vec::new();
    for part in svg.split("<title>").skip(1) {
        let (title, rest) = part.split_once("</title>").unwrap();
        let (_, rest) = rest.split_once("fill=\"rgb(").unwrap();
        let (colour, _) = rest.split_once(')').unwrap();
        let colour: Vec<u8> = colour.split(',').map(|part| part.parse().unwrap()).collect();
        frames.push((title.to_owned(), colour.try_into().unwrap()));
    }
    frames
}

fn is_warm([red, _, blue]: [u8; 3]) -> bool {
    red > blue
}

#[test]
fn a_flame_graph_of_running_threads_is_warm() {
    let svg = server().write(Format::Flamegraph, &OPTIONS);
    let frames = frames(&svg);
    assert!(frames.iter().all(|&(_, [red, _, blue])| red >= blue), "{frames:?}");
    assert!(
        frames.iter().any(|(title, _)| title.starts_with("handle (http.c:140) (6,350,000 µs,"))
    );
    assert!(
        svg.contains("portal --workers=2 --bind &quot;&lt;0.0.0.0:80&gt;&quot; &amp; x (4711)")
    );
    assert!(svg.contains(
        "on-CPU, 10.0 s at 100 Hz: 682 samples, 0.2 % lost, 1.3 % cut; \
         CPU 6.9 s sampled, 7.0 s by the kernel"
    ));
}

#[test]
fn what_waits_is_cool_and_apart() {
    let options = Options { mode: Mode::Wall, threads: Threads::Apart, ..OPTIONS };
    let svg = server().write(Format::Flamegraph, &options);
    let frames = frames(&svg);
    let find = |start: &str| -> Vec<[u8; 3]> {
        let found = frames.iter().filter(|(title, _)| title.starts_with(start));
        found.map(|&(_, colour)| colour).collect()
    };
    assert_eq!(find("[epoll_wait] (9,600,000 µs").len(), 1);
    assert!(!is_warm(find("[epoll_wait]")[0]));
    // Of two threads, each ran and waited.
    assert_eq!(find("running (").iter().filter(|&&colour| is_warm(colour)).count(), 2);
    assert_eq!(find("waiting (").iter().filter(|&&colour| !is_warm(colour)).count(), 2);
    // One function on both sides has the colour of its side.
    let both = find("query (db.c:77)");
    assert_eq!(both.iter().map(|&colour| is_warm(colour)).collect::<Vec<_>>(), [true, false]);
    assert!(!svg.contains('\x1b'), "what the target wrote is escaped");
    assert!(svg.contains("worker: 1\\x1b[2J (4712)"));
}

#[test]
fn several_processes_are_told_apart() {
    let mut made = Made::new();
    made.process(1, "one");
    made.process(2, "two");
    for process in [0, 1] {
        let thread = made.thread(process, 10, "t");
        made.count(thread, State::Running, "main@a.c:1", 5);
    }
    let text = made.write(Format::Collapsed, &OPTIONS);
    assert_eq!(text, "one (1);main (a.c:1) 50000\ntwo (2);main (a.c:1) 50000\n");
    let svg = made.write(Format::Flamegraph, &OPTIONS);
    assert!(svg.contains("2 processes: 1, 2"));
}

/// Inferno's own order would make two frames of one.
#[test]
fn a_leaf_and_a_caller_of_one_name_are_one_frame() {
    let mut made = Made::new();
    made.process(1, "one");
    let thread = made.thread(0, 1, "t");
    made.count(thread, State::Running, "main", 5);
    made.count(thread, State::Running, "main!", 5);
    made.count(thread, State::Running, "main work", 5);
    let svg = made.write(Format::Flamegraph, &OPTIONS);
    let titles: Vec<_> = frames(&svg).into_iter().map(|(title, _)| title).collect();
    assert!(titles.contains(&"main (libc.so.6) (100,000 µs, 66.67%)".to_owned()), "{titles:?}");
}

#[test]
fn a_recording_in_which_nothing_ran_says_so() {
    let mut made = Made::new();
    made.process(7, "sleep & <wait>");
    golden::check("nothing.svg", &made.write(Format::Flamegraph, &OPTIONS));
    assert_eq!(made.write(Format::Collapsed, &OPTIONS), "");
    let thread = made.thread(0, 7, "sleep");
    made.count(thread, call(libc::SYS_clock_nanosleep), "main@a.c:1", 1000);
    let svg = made.write(Format::Flamegraph, &OPTIONS);
    assert!(svg.contains("100 % of the time in [clock_nanosleep]"), "{svg}");
}

#[test]
fn statistics() {
    let made = server();
    let stats = output::stats(&made.profile, &made.costs);
    golden::check("stats.json", &(serde_json::to_string_pretty(&stats).unwrap() + "\n"));
}

/// What a thread waits for that is in this state.
fn waits(state: State) -> Option<Wait> {
    let State::Blocked(call) = state else { return None };
    let bare = Wait::bare(call);
    Some(if state == self::call(libc::SYS_epoll_wait) {
        let object = Object::Epoll(Count { number: 12, more: false });
        let timeout = Some(Timeout::After(Duration::from_millis(100)));
        Wait { descriptor: Some(Descriptor { fd: 5, object }), timeout, ..bare }
    } else {
        let lock = RuntimeLock { name: "the GIL".to_owned(), owner: None };
        Wait { subject: Subject::Futex(Futex::Plain), ..bare }.for_runtime(lock)
    })
}

fn dumped() -> dump::Process {
    let symbol = |function: &str, file: Option<&str>, line, inlined| Symbol {
        function: function.to_owned(),
        file: file.map(str::to_owned),
        line,
        module: Some("libfoo.so.1".to_owned()),
        inlined,
        compiled: false,
    };
    let long = "std::vector<std::basic_string<char>, std::allocator<std::basic_string<char> > >::push_back(std::basic_string<char> const&)";
    let bare = |symbol| dump::Frame { symbol, columns: None, locals: None };
    let thread = |tid, name: &str, state, frames: Vec<Symbol>, end| dump::Thread {
        tid: Tid(tid),
        name: name.to_owned(),
        given_name: None,
        state,
        wait: waits(state),
        lock: Lock::Without,
        collecting: false,
        greenlet: None,
        frames: frames.into_iter().map(bare).collect(),
        end,
    };
    dump::Process {
        pid: Pid(4711),
        command: "/srv/app/bin/portal --workers=2\x1b[2J".to_owned(),
        runtime: None,
        threads: vec![
            thread(
                4711,
                "portal",
                call(libc::SYS_epoll_wait),
                vec![
                    symbol("epoll_wait", None, None, false),
                    symbol("next_event", Some("/build/src/loop.c"), Some(12), true),
                    symbol("main", Some("/build/src/main.c"), Some(31), false),
                ],
                End::Root,
            ),
            thread(
                4712,
                "evil\x1b]0;x\x07",
                State::Running,
                vec![symbol(
                    long,
                    Some("/usr/include/c++/12/bits/stl_vector.h"),
                    Some(1287),
                    false,
                )],
                End::NoUnwindInfo,
            ),
            thread(4713, "gone", State::Halted, vec![], End::NotCaught),
        ],
        parked: vec![],
        notes: vec!["the kernel does not count: schedstat says nothing but zeros".to_owned()],
    }
}

/// What a process with a language runtime is besides.
fn interpreted() -> dump::Process {
    let variable = |name: &str, value: &str, is_argument| Variable {
        name: name.to_owned(),
        value: value.to_owned(),
        is_argument,
    };
    let frame = |function: &str, line, columns, locals| dump::Frame {
        symbol: Symbol {
            function: function.to_owned(),
            file: Some("/srv/app/portal/views.py".to_owned()),
            line: Some(line),
            ..Symbol::default()
        },
        columns,
        locals: Some(locals),
    };
    let long = format!("[{}...", "'member of a list', ".repeat(6));
    let handler = vec![
        variable("self", "<Handler at 0x7f3c5d0c1e50>", true),
        variable("naïve\u{202e}", "'東京'", true),
        variable("members", &long, false),
        variable("total", "-7.5", false),
    ];
    let thread = |tid, given: Option<&str>, lock, collecting, frames| dump::Thread {
        tid: Tid(tid),
        name: "python3".to_owned(),
        given_name: given.map(str::to_owned),
        state: if lock == Lock::Wanted { call(libc::SYS_futex) } else { State::Running },
        wait: (lock == Lock::Wanted).then(|| waits(call(libc::SYS_futex))).flatten(),
        lock,
        collecting,
        greenlet: given.is_none().then(|| "serve".to_owned()),
        frames,
        end: End::Root,
    };
    let counted = vec![variable("count", "3", false)];
    dump::Process {
        pid: Pid(4720),
        command: "python3 -m portal".to_owned(),
        runtime: Some("CPython 3.12.1".to_owned()),
        threads: vec![
            thread(
                4720,
                Some("MainThread"),
                Lock::Held,
                true,
                vec![
                    frame("Handler.get.<locals>.total", 12, Some((9, 31)), handler),
                    frame("<module>", 40, None, vec![]),
                ],
            ),
            thread(
                4721,
                Some("evil\x1b[2J"),
                Lock::Wanted,
                false,
                vec![frame("work", 3, None, counted)],
            ),
            thread(4722, Some("python3"), Lock::Without, false, vec![]),
            thread(4723, None, Lock::Without, false, vec![]),
        ],
        parked: vec![],
        notes: vec![],
    }
}

#[test]
fn dumps_of_interpreters() {
    let write = |paint, width| {
        let mut text = Vec::new();
        let look = dump::Look { paint, paths: Paths::Short, width };
        dump::write(&interpreted(), look, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let text = write(Paint::Plain, Some(80));
    golden::check("dump-python.txt", &text);
    assert!(text.lines().all(|line| line.chars().count() <= 80));
    assert!(!text.contains(['\x1b', '\u{202e}']), "what the target wrote is escaped");
    let whole = write(Paint::Plain, None);
    assert!(whole.contains(&"'member of a list', ".repeat(6)), "{whole}");
    // However narrow it is, nothing of a value is lost.
    let narrow = write(Paint::Plain, Some(10)).replace(['\n', ' '], "");
    assert!(narrow.contains(&"'memberofalist',".repeat(6)), "{narrow}");
    golden::check("dump-python-coloured.txt", &write(Paint::Coloured, Some(80)));
    let json = serde_json::to_string_pretty(&dump::json(&[interpreted()])).unwrap();
    golden::check("dump-python.json", &(json + "\n"));
}

/// What no thread is on.
fn parked() -> Vec<Parked> {
    let mut all: Vec<Parked> = Vec::new();
    let mut add = |kind, name: Option<&str>, state, functions: &[(&str, u32)]| {
        let frame = |(function, line): &(&str, u32)| {
            Arc::new(ManagedFrame {
                function: (*function).to_owned(),
                file: "/srv/app/portal/db.py".to_owned(),
                line: Some(*line),
                columns: Some((5, 17)),
                first_line: Some(1),
            })
        };
        let at = Address(0x7f00_0000_1000 + 0x100 * all.len() as u64);
        let class = match kind {
            ParkedKind::Hub => "Hub",
            ParkedKind::Task => "_asyncio.Task",
            _ if name.is_some() => "Worker\x1b[2J",
            _ => "gevent._gevent_cgreenlet.Greenlet",
        };
        all.push(Parked {
            kind,
            at,
            class: class.to_owned(),
            name: name.map(str::to_owned),
            state,
            frames: functions.iter().map(frame).collect(),
            is_cut: functions.len() == 1,
            waits_for: vec![],
        });
    };
    let waits = ParkedState::Waiting;
    add(ParkedKind::Greenlet, Some("first\x1b[2J"), waits, &[("get", 110), ("save", 90)]);
    for _ in 0..4 {
        add(ParkedKind::Greenlet, None, waits, &[("acquire", 31), ("get", 110), ("load", 8)]);
    }
    for number in 0..5 {
        let name = format!("worker-{number}");
        add(ParkedKind::Greenlet, Some(&name), waits, &[("get", 110), ("save", 90)]);
    }
    add(ParkedKind::Greenlet, None, ParkedState::New, &[]);
    add(ParkedKind::Greenlet, None, ParkedState::Running, &[]);
    add(ParkedKind::Main, None, waits, &[("<module>", 3)]);
    add(ParkedKind::Hub, None, waits, &[("Hub.run", 647), ("Hub.go", 1)]);
    add(ParkedKind::Task, Some("Task-1"), waits, &[("gather", 7), ("all", 8)]);
    add(ParkedKind::Task, Some("Task-2"), waits, &[("get", 110), ("save", 90)]);
    let [.., waiting, other] = &mut all[..] else { panic!("two tasks") };
    waiting.waits_for.push(other.at);
    all
}

#[test]
fn what_is_parked_is_shown_in_groups() {
    let process = dump::Process { threads: vec![], parked: parked(), ..interpreted() };
    let mut text = Vec::new();
    let look = dump::Look { paint: Paint::Plain, paths: Paths::Short, width: Some(80) };
    dump::write(&process, look, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    golden::check("dump-parked.txt", &text);
    assert!(!text.contains('\x1b'), "what the target wrote is escaped");
    let json = serde_json::to_string_pretty(&dump::json(&[process])).unwrap();
    golden::check("dump-parked.json", &(json + "\n"));
}

#[test]
fn groups_are_no_more_than_a_reader_reads() {
    let [one, ..] = &parked()[..] else { panic!("one at least") };
    let at_line = |line| {
        let [frame, ..] = &one.frames[..] else { panic!("one at least") };
        let frame = ManagedFrame { line: Some(line), ..ManagedFrame::clone(frame) };
        Parked { frames: vec![Arc::new(frame)], ..one.clone() }
    };
    let process = dump::Process { parked: (0..52).map(at_line).collect(), ..interpreted() };
    let mut text = Vec::new();
    let look = dump::Look { paint: Paint::Plain, paths: Paths::Short, width: None };
    dump::write(&process, look, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("and 2 more in 2 other stacks, which -j shows"), "{text}");
    assert_eq!(text.matches("1 greenlet ").count(), 50, "{text}");
}

#[test]
fn dumps() {
    let write = |paint, width| {
        let mut text = Vec::new();
        let look = dump::Look { paint, paths: Paths::Short, width };
        dump::write(&dumped(), look, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let text = write(Paint::Plain, Some(80));
    golden::check("dump.txt", &text);
    assert!(text.lines().all(|line| line.chars().count() <= 80));
    assert!(!text.contains('\x1b'), "what the target wrote is escaped");
    assert!(write(Paint::Plain, None).contains("push_back(std::basic_string<char> const&)"));
    golden::check("dump-coloured.txt", &write(Paint::Coloured, Some(80)));
    let json = serde_json::to_string_pretty(&dump::json(&[dumped()])).unwrap();
    golden::check("dump.json", &(json + "\n"));
}

/// Panic if tags do not close in the order in which they open, or if anything
/// is in the text that XML does not allow there.
fn check_xml(text: &str) {
    let mut open = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"];
        let mut bare = before.replace('"', "");
        entities.iter().for_each(|entity| bare = bare.replace(entity, ""));
        assert!(!bare.contains('&') && !bare.chars().any(|it| it.is_control() && it != '\n'));
        let (tag, close) = match after {
            _ if after.starts_with("![CDATA[") => ("", "]]>"),
            _ if after.starts_with("!--") => ("", "-->"),
            _ => (after, ">"),
        };
        let (inside, after) = after.split_once(close).unwrap();
        rest = after;
        let name = |tag: &str| tag.split([' ', '>', '/']).next().unwrap().to_owned();
        match tag.chars().next() {
            Some('/') => assert_eq!(open.pop(), Some(name(&tag[1..]))),
            Some('?' | '!') | None => {
                assert!(!inside[1..].trim_start_matches("--").contains("--") || close == "]]>")
            }
            Some(_) if inside.ends_with('/') => {}
            Some(_) => open.push(name(tag)),
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?}");
}

/// Set `SPY_SHOW` to a directory to have the graphs written there for your eyes.
#[test]
fn graphs_are_well_formed() {
    let wall = Options { mode: Mode::Wall, ..OPTIONS };
    let threads = Options { mode: Mode::Wall, threads: Threads::Apart, ..OPTIONS };
    for (name, options) in [("on-cpu", OPTIONS), ("wall", wall), ("threads", threads)] {
        let svg = server().write(Format::Flamegraph, &options);
        check_xml(&svg);
        if let Some(directory) = std::env::var_os("SPY_SHOW") {
            let path = std::path::Path::new(&directory).join(name).with_extension("svg");
            std::fs::write(path, svg).unwrap();
        }
    }
    let mut made = Made::new();
    made.process(7, "sleep & <wait> --]]>");
    check_xml(&made.write(Format::Flamegraph, &OPTIONS));
}
