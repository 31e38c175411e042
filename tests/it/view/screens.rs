//! Screens to be drawn: one server in trouble, as each tab shows it.

use std::time::Duration;

use spy::tui::screen::{
    Body, Evidence, Flame, FlameBox, FunctionRow, Gauges, HotPath, Moment, Overlay, Screen, Source,
    SourceLine, Tab, Table, Tabs, ThreadCounts, ThreadRow, Title, TreeRow, WaitRow,
};

fn table<T>(sorted: &'static str, rows: Vec<T>) -> Table<T> {
    Table { sorted, rows, chosen: 0, top: 0 }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// The screen around a body.
pub(crate) fn screen(chosen: Tab, order: &str, body: Body) -> Screen {
    Screen {
        title: Title {
            command: "/srv/shop/bin/gunicorn: worker [shop]".to_owned(),
            who: "4182".to_owned(),
            runtime: Some("Python 3.12.4".to_owned()),
            watched: Duration::from_secs(42),
            moment: Moment::Live,
            rate: 100.0,
            made: 0.994,
        },
        gauges: Gauges {
            cores: 1.43,
            cores_before: (0..40).map(|at| f64::from(at % 13) / 9.0).collect(),
            lock: Some((0.91, 3.1)),
            threads: ThreadCounts { running: 2, queued: 0, lock: 3, blocked: 9 },
            own: 0.008,
            held: Some(31.2),
            lost: None,
        },
        evidence: Some(Evidence {
            grave: true,
            text: "GIL-bound: held for 91 % of the time by MainThread for the most part; 3 threads queue"
                .to_owned(),
        }),
        tabs: Tabs {
            chosen,
            population: "on-CPU, last 30 s".to_owned(),
            order: order.to_owned(),
        },
        body,
        path: Some(HotPath {
            frames: names(&["tokenize", "parse_body", "upload", "dispatch", "wsgi_app"]),
            share: 0.72,
        }),
        keys: vec![
            ("/", "filter"),
            ("s", "sort"),
            ("t", "thread"),
            ("Enter", "callers"),
            ("Space", "pause"),
            ("[ ]", "time"),
            ("b", "baseline"),
            ("w", "save"),
            ("?", "help"),
            ("q Ctrl-C", "quit"),
        ],
        overlay: None,
        filter: None,
    }
}

fn function(own: f64, total: f64, name: &str, place: &str) -> FunctionRow {
    let trend = (0..20).map(|at| total * (0.4 + f64::from((at * 7) % 5) * 0.15)).collect();
    FunctionRow {
        own,
        total,
        margin: 0.018 * (own / 0.4).sqrt(),
        trend,
        name: name.to_owned(),
        place: place.to_owned(),
        native: !place.contains(".py"),
        faint: own < 0.002,
        ..FunctionRow::default()
    }
}

pub(crate) fn functions() -> Screen {
    let rows = vec![
        function(0.412, 0.63, "tokenize", "shop/parser.py:118"),
        function(0.11, 0.11, "deflate", "libz.so.1"),
        function(0.094, 0.094, "_PyEval_EvalFrameDefault", "python3.12"),
        function(0.071, 0.082, "Model.__init__", "site-packages/django/db/models/base.py:460"),
        function(0.052, 0.052, "sqlite3VdbeExec", "libsqlite3.so.0.8.6"),
        function(0.04, 0.38, "parse_body", "shop/parser.py:64"),
        function(0.031, 0.031, "SHA256_Update", "libcrypto.so.3"),
        function(
            0.02,
            0.05,
            "<std::collections::hash::map::HashMap<K, V, S> as core::iter::FromIterator>::from_iter",
            "/rustc/library/std/src/collections/hash/map.rs:2870",
        ),
        function(0.012, 0.9996, "upload", "shop/views.py:31"),
        function(0.008, 0.01, "größe_東京", "shop/größe.py:3"),
        function(0.001, 1.0, "wsgi_app", "site-packages/flask/app.py:2190"),
        function(0.0, 1.0, "<module>", "gunicorn:8"),
    ];
    screen(Tab::Functions, "self▼", Body::Functions(table("self", rows)))
}

pub(crate) fn baseline() -> Screen {
    let mut screen = functions();
    if let Body::Functions(table) = &mut screen.body {
        for (row, change) in table.rows.iter_mut().zip([0.124, -0.031, 0.0, 0.0004, -0.002]) {
            row.change = Some(change);
        }
    }
    screen
}

fn thread(name: &str, tid: i32, state: &'static str, cpu: f64, frame: &str) -> ThreadRow {
    ThreadRow {
        name: name.to_owned(),
        tid,
        state,
        cpu,
        queued: cpu / 10.0,
        lock: Some((cpu * 0.9, (0.6 - cpu).max(0.0))),
        frame: frame.to_owned(),
        ..ThreadRow::default()
    }
}

pub(crate) fn threads() -> Screen {
    let wait =
        |wait: &str, seconds| Some((wait.to_owned(), Some(Duration::from_secs_f64(seconds))));
    let mut rows = vec![
        thread("MainThread", 4182, "run", 0.64, "tokenize"),
        thread("worker-1", 4190, "lock", 0.11, "parse_body"),
        thread("worker-2", 4191, "lock", 0.104, "render"),
        thread("ThreadPoolExecutor-0_3", 4192, "queue", 0.09, "deflate"),
        thread("db-pool", 4193, "sleep", 0.0, "Connection.execute"),
        thread("metrics", 4194, "sleep", 0.0003, "Event.wait"),
        thread("東京-worker", 4195, "sleep", 0.0, "recv"),
    ];
    rows[1].wait = wait("the interpreter lock, held by MainThread", 0.012);
    rows[4].wait = wait("recvfrom(16) of tcp 10.0.3.7:5432", 41.2);
    rows[5].wait = wait("futex 0x7f31c0a01f40", 725.0);
    rows[6].lock = None;
    screen(Tab::Threads, "cpu▼", Body::Threads(table("cpu", rows)))
}

pub(crate) fn flame() -> Screen {
    let mut boxes = Vec::new();
    let mut put = |name: &str, depth: usize, from: f64, to: f64| {
        let asleep = from >= 0.88;
        let share = to - from;
        boxes.push(FlameBox {
            name: name.to_owned(),
            depth,
            from,
            to,
            share,
            asleep,
            ..FlameBox::default()
        });
    };
    put("all", 0, 0.0, 1.0);
    put("<module>", 1, 0.0, 0.88);
    put("Thread.run", 1, 0.88, 1.0);
    put("wsgi_app", 2, 0.0, 0.86);
    put("Event.wait", 2, 0.88, 0.985);
    put("dispatch", 3, 0.0, 0.855);
    put("upload", 4, 0.0, 0.6);
    put("render", 4, 0.6, 0.8);
    put("log", 4, 0.8, 0.83);
    put("parse_body", 5, 0.0, 0.52);
    put("compress", 5, 0.52, 0.6);
    put("Template.render", 5, 0.62, 0.79);
    put("tokenize", 6, 0.0, 0.41);
    put("Model.__init__", 6, 0.41, 0.5);
    put("deflate", 6, 0.52, 0.6);
    put("isspace", 7, 0.1, 0.14);
    put("thin", 7, 0.141, 0.142);
    let flame = Flame { boxes, chosen: 12, top: 0, ..Flame::default() };
    screen(Tab::Flame, "", Body::Flame(flame))
}

pub(crate) fn zoomed() -> Screen {
    let mut screen = flame();
    if let Body::Flame(flame) = &mut screen.body {
        flame.above = names(&["<module>", "wsgi_app", "dispatch"]);
        flame.top = 2;
        flame.boxes[9].found = true;
    }
    screen
}

pub(crate) fn tree() -> Screen {
    let mut rows = Vec::new();
    let mut put = |depth, open, share, own, name: &str, place: &str| {
        rows.push(TreeRow {
            depth,
            open,
            share,
            own,
            name: name.to_owned(),
            place: place.to_owned(),
            found: false,
        });
    };
    put(0, Some(true), 1.0, 0.0, "<module>", "gunicorn:8");
    put(1, Some(true), 0.98, 0.001, "wsgi_app", "site-packages/flask/app.py:2190");
    put(2, Some(true), 0.97, 0.0, "dispatch", "site-packages/flask/app.py:1799");
    put(3, Some(true), 0.63, 0.012, "upload", "shop/views.py:31");
    put(4, Some(true), 0.52, 0.04, "parse_body", "shop/parser.py:64");
    put(5, Some(false), 0.412, 0.38, "tokenize", "shop/parser.py:118");
    put(
        5,
        Some(false),
        0.082,
        0.071,
        "Model.__init__",
        "site-packages/django/db/models/base.py:460",
    );
    put(4, None, 0.11, 0.11, "deflate", "libz.so.1");
    put(3, Some(false), 0.2, 0.0, "render", "shop/views.py:88");
    put(1, None, 0.0004, 0.0004, "poll", "libc.so.6");
    rows[5].found = true;
    let mut table = table("total", rows);
    table.chosen = 4;
    screen(Tab::Tree, "callees, total▼", Body::Tree(table))
}

pub(crate) fn waits() -> Screen {
    let wait = |share, threads, call: &str, object: &str, stack: &[&str], longest| WaitRow {
        share,
        threads,
        call: call.to_owned(),
        object: object.to_owned(),
        stack: names(stack),
        longest: Some(Duration::from_secs_f64(longest)),
        found: false,
    };
    let rows = vec![
        wait(
            0.451,
            3,
            "recvfrom",
            "tcp 10.0.3.7:5432",
            &["recv", "query", "checkout", "upload"],
            41.2,
        ),
        wait(
            0.22,
            1,
            "fdatasync",
            "/srv/shop/orders.sqlite-wal",
            &["unixSync", "sqlite3PagerSync", "commit"],
            0.31,
        ),
        wait(0.19, 12, "futex", "lock of MainThread", &["acquire", "get", "Thread.run"], 725.0),
        wait(0.08, 1, "epoll_wait", "", &["poll", "run_forever"], 3.0),
    ];
    let mut screen = screen(Tab::Waits, "share▼", Body::Waits(table("share", rows)));
    screen.tabs.population = "wall, last 30 s".to_owned();
    screen
}

pub(crate) fn source() -> Screen {
    let line =
        |number, own, total, text: &str| SourceLine { number, own, total, text: text.to_owned() };
    let lines = vec![
        line(116, 0.0, 0.0, ""),
        line(117, 0.0, 0.0, "@traced"),
        line(118, 0.0, 0.0, "def tokenize(text):"),
        line(119, 0.0, 0.0, "\t\"\"\"Split `text` into words.\"\"\""),
        line(120, 0.001, 0.001, "\twords = []"),
        line(121, 0.102, 0.102, "\tfor letter in text:"),
        line(122, 0.264, 0.431, "\t\tif letter.isspace() or letter in PUNCTUATION:"),
        line(
            123,
            0.0,
            0.061,
            "\t\t\twords.append(Word(text[start:at], at, self.language, self.encoding))",
        ),
        line(124, 0.045, 0.045, "\t\t\tstart = at + 1"),
        line(125, 0.0, 0.0, "\treturn words  # größe 東京"),
    ];
    let source = Source { title: "tokenize  shop/parser.py".to_owned(), lines, chosen: 6, top: 0 };
    screen(Tab::Source, "", Body::Source(source))
}

pub(crate) fn empty() -> Screen {
    let why =
        "Nothing ran in the last 30 s.\nAll 9 threads sleep: 5 shows where, i counts them too.";
    let mut screen = screen(Tab::Functions, "self▼", Body::Empty(why.to_owned()));
    screen.evidence = None;
    screen.path = None;
    screen
}

pub(crate) fn at(moment: Moment) -> Screen {
    let mut screen = functions();
    screen.title.moment = moment;
    screen
}

pub(crate) fn filtered() -> Screen {
    let mut screen = functions();
    screen.filter = Some("pars|tok".to_owned());
    screen.tabs.population = "thread worker-3, on-CPU, last 30 s".to_owned();
    screen.evidence =
        Some(Evidence { grave: false, text: "mostly tokenize: 41 % of all samples".to_owned() });
    screen.gauges.lost = Some("12 samples lost: the target has no memory left to read".to_owned());
    if let Body::Functions(table) = &mut screen.body {
        table.rows.retain(|row| row.name.contains("pars") || row.name.contains("tok"));
        table.rows.iter_mut().for_each(|row| row.found = true);
        table.chosen = 1;
    }
    screen
}

pub(crate) fn help() -> Overlay {
    Overlay::Help(vec![
        (
            "Move",
            vec![
                ("Enter", "Functions: who calls it"),
                ("Enter", "Threads: this one alone"),
                ("Enter", "Flame: zoom to the box"),
                ("Enter", "Tree: open or close"),
                ("1-6", "choose a tab"),
                ("Tab", "the next tab"),
                ("↑ k ↓ j", "choose a row"),
                ("PgUp PgDn", "a page up, a page down"),
                ("g Home G", "the first row, the last"),
                ("← h → l", "Flame: aside; Tree: close, open"),
                ("Esc", "back out: zoom, thread, tab"),
            ],
        ),
        (
            "What is shown",
            vec![
                ("v", "Tree: callers or callees"),
                ("s", "sort by the next column"),
                ("r", "the other way round"),
                ("l", "functions, lines, modules, native frames"),
                ("t", "choose a thread"),
                ("p", "choose a process"),
                ("i", "idle threads too, or not"),
                ("← →", "sort by another column"),
                ("L", "lines, or functions"),
            ],
        ),
        (
            "Time",
            vec![
                ("Space", "pause; recording goes on"),
                ("[ ]", "back and forth in time"),
                ("End", "live again"),
                ("{ }", "a shorter time, a longer one"),
                ("b", "compare with this from now on"),
                ("B", "compare no more"),
                ("z R", "forget what was seen so far"),
            ],
        ),
        (
            "Find",
            vec![
                ("/", "filter by a regular expression"),
                ("n N", "the next, the one before"),
                ("c", "clear the filter"),
            ],
        ),
        ("More", vec![("w", "save what is shown"), ("?", "this help"), ("q Ctrl-C", "leave")]),
    ])
}

pub(crate) fn prompt() -> Overlay {
    Overlay::Prompt { label: "filter", text: "pars(".to_owned(), hint: "unclosed group".to_owned() }
}

pub(crate) fn picker(choices: u32, chosen: usize) -> Overlay {
    Overlay::Picker {
        label: "thread",
        choices: (0..choices)
            .map(|at| format!("{:>5.1}  worker-{at}", 100.0 / f64::from(at + 1)))
            .collect(),
        chosen,
    }
}
