//! The programs of `fixtures/programs`: built, started, talked to, and ended.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::wait::{WaitPidFlag, waitpid};

/// What never takes this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

static MACHINE: RwLock<()> = RwLock::new(());

/// Held by a test whose numbers suffer from others.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a test that runs targets, and may do so beside others.
pub(crate) fn together() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Ask until there is an answer, for as long as is patient. For states of the
/// kernel's that nobody announces.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether tests that need root can run. They fail without it, unless it is
/// said aloud that they shall not.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let skip = std::env::var_os("SPY_TEST_WITHOUT_ROOT").is_some();
        assert!(skip, "needs root; set SPY_TEST_WITHOUT_ROOT=1 to go without this test");
        eprintln!("skipped: needs root");
    }
    root
}

/// `command`, which comes before all that has no `priority`, where that is
/// allowed: what else the machine does is then not measured.
pub(crate) fn first(priority: u32, command: Command) -> Command {
    let chrt = |program: &OsStr| {
        let mut chrt = Command::new("chrt");
        chrt.args(["--rr", &priority.to_string()]).arg(program);
        chrt
    };
    if !chrt("true".as_ref()).status().is_ok_and(|status| status.success()) {
        return command;
    }
    let mut first = chrt(command.get_program());
    first.args(command.get_args());
    first
}

fn fixtures(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(below)
}

/// Build a program of `fixtures/programs` and say where it is. What is newer
/// than its sources is not built again.
pub(crate) fn build(source: &str, flags: &[&str]) -> PathBuf {
    let home = fixtures("build");
    fs::create_dir_all(&home).unwrap();
    let (stem, language) = source.split_once('.').unwrap();
    let language = if language == "c" { String::new() } else { format!("-{language}") };
    let program = home.join(format!("{stem}{language}{}", flags.concat().replace('=', "-")));
    let sources = [fixtures("programs").join(source), fixtures("programs/target.h")];

    // Other tests, of this process and of others, may want the same.
    let lock = File::create(program.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let age = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    let newest = sources.iter().map(|path| age(path).unwrap()).max().unwrap();
    if age(&program).is_ok_and(|built| built > newest) {
        return program;
    }
    // A program that runs cannot be written to, but it can be replaced.
    let fresh = program.with_extension("new");
    let made = compiler(&sources[0]).args(flags).arg("-o").args([&fresh, &sources[0]]).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{source}: {}", String::from_utf8_lossy(&made.stderr));
    fs::rename(&fresh, &program).unwrap();
    program
}

fn compiler(source: &Path) -> Command {
    let (name, flags): (_, &[&str]) = match source.extension().unwrap().to_str().unwrap() {
        "c" => ("cc", &["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-pthread"]),
        "cpp" => ("c++", &["-std=c++17", "-Wall", "-Wextra", "-Werror", "-g", "-pthread"]),
        "rs" => ("rustc", &["--edition=2024", "-g"]),
        "go" => ("go", &["build"]),
        other => panic!("who compiles .{other}?"),
    };
    let mut command = Command::new(name);
    command.args(flags);
    command
}

/// A thread, as the kernel shows it.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) tid: i32,
    /// `R`, `S`, `D`, `T` (stopped by a signal), `t` (by a tracer), `Z`.
    pub(crate) state: char,
    /// The process that traces it; 0 is nobody.
    pub(crate) tracer: i32,
}

/// The threads of a process; none once it has ended.
pub(crate) fn threads(pid: i32) -> Vec<Thread> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .filter_map(|task| {
            let task = task.ok()?.path();
            let status = fs::read_to_string(task.join("status")).ok()?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next().map(str::to_owned)
            };
            Some(Thread {
                tid: task.file_name()?.to_str()?.parse().ok()?,
                state: field("State:")?.chars().next()?,
                tracer: field("TracerPid:")?.parse().ok()?,
            })
        })
        .collect()
}

/// A target that runs. Dropping it ends it.
pub(crate) struct Target {
    child: Child,
    pid: i32,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Target {
    /// Build and start a program, and wait until it is ready.
    pub(crate) fn start(source: &str, flags: &[&str], arguments: &[&str]) -> Self {
        let mut command = Command::new(build(source, flags));
        command.args(arguments);
        Self::run(command)
    }

    /// Start a program that is built already, and wait until it is ready.
    pub(crate) fn run(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let target = Self { child, pid, input, lines };
        assert_eq!(target.hear(), "ready");
        target
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// The same as it is written.
    pub(crate) fn number(&self) -> String {
        self.pid.to_string()
    }

    /// The target is what the started program (`unshare`) runs as its child.
    pub(crate) fn inside(mut self) -> Self {
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        let children = fs::read_to_string(children).unwrap();
        self.pid = children.split_whitespace().next().unwrap().parse().unwrap();
        self
    }

    /// Write a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line of its standard output.
    pub(crate) fn hear(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.unwrap_or_else(|_| panic!("{} says no more: {:?}", self.pid, threads(self.pid)))
    }

    /// The `name=number` words of its answer to `line`.
    pub(crate) fn ask(&mut self, line: &str) -> HashMap<String, u64> {
        self.tell(line);
        words(&self.hear())
    }

    /// Wait until it has done more of what it counts as `key`.
    pub(crate) fn advances(&mut self, key: &str) {
        let before = self.ask("report")[key];
        until("the target does something", || (self.ask("report")[key] > before).then_some(()));
    }

    /// Wait until all of its threads are as they would be if nobody had looked:
    /// neither stopped nor traced. Then it goes on.
    pub(crate) fn is_unharmed(&mut self, key: &str) {
        let pid = self.pid;
        until("every thread is let go", || {
            let free = |thread: &Thread| thread.tracer == 0 && !"Tt".contains(thread.state);
            let threads = threads(pid);
            (!threads.is_empty() && threads.iter().all(free)).then_some(())
        });
        self.advances(key);
    }

    /// Wait for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        until("the target ends", || self.child.try_wait().unwrap())
    }
}

impl Target {
    /// A thread that died while this one traced it is waited for before its
    /// process is.
    fn let_threads_go(&self) {
        let pid = self.child.id();
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
        let numbers = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
        for tid in numbers.filter(|&tid: &i32| u32::try_from(tid) != Ok(pid)) {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
            let _ = waitpid(nix::unistd::Pid::from_raw(tid), Some(flags));
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.child.kill();
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < PATIENCE {
            self.let_threads_go();
            thread::yield_now();
        }
    }
}

/// Read a line of `name=number` words.
pub(crate) fn words(line: &str) -> HashMap<String, u64> {
    let word = |word: &str| {
        let (name, number) = word.split_once('=')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    let words = line.split_whitespace().map(word).collect::<Option<_>>();
    words.unwrap_or_else(|| panic!("no numbers: {line}"))
}

/// The programs that converse as `target.h` says.
const PROGRAMS: &[&str] = &[
    "churn.c",
    "events.c",
    "family.c",
    "hot.c",
    "hot.cpp",
    "hot.go",
    "hot.rs",
    "leader.c",
    "libraries.c",
    "many.c",
    "name.c",
    "seccomp.c",
    "signals.c",
    "tree.c",
    "vfork.c",
    "waits.c",
];

/// The programs themselves: a test of `spy` with a broken one tells nothing.
#[test]
fn every_program_answers() {
    let _together = together();
    for source in PROGRAMS {
        let mut target = Target::start(source, &[], &[]);
        let answer = target.ask("report");
        assert!(!answer.is_empty(), "{source}");
        target.input = None;
        let status = target.end();
        assert!(status.success(), "{source}: {status}");
    }
}
