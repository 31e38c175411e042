//! Programs to look at: how each is started, and how it says that it is up.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::chown, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// How long a program may take to come up, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program, ended with all its descendants when dropped.
pub(super) struct Target {
    /// The process to look at.
    pub(super) pid: i32,
    children: Vec<Child>,
    // Last, so that it goes when nobody uses it any more.
    scratch: TempDir,
}

impl Target {
    fn new() -> Self {
        let scratch = TempDir::new().unwrap();
        Self { pid: 0, children: Vec::new(), scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Start `command`, which dies with us, whatever becomes of us.
    fn spawn<S: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = S>) -> &mut Child {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        self.children.push(command.spawn().unwrap());
        self.children.last_mut().unwrap()
    }

    /// Start `arguments`, and wait for the line `ready`.
    fn spawn_ready<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        let child = self.spawn(arguments);
        let (pid, output) = (child.id(), child.stdout.take().unwrap());
        self.pid = i32::try_from(pid).unwrap();
        wait_for_line(output, |line| line == "ready");
        self
    }

    /// A directory that the user `nobody` may write to.
    fn for_nobody(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.scratch.path(), mode).unwrap();
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        path
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for child in &mut self.children {
            let mut doomed = vec![i32::try_from(child.id()).unwrap()];
            let mut at = 0;
            while let Some(&pid) = doomed.get(at) {
                doomed.extend(children(pid));
                at += 1;
            }
            for pid in doomed {
                // It may have ended meanwhile.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = child.wait();
        }
    }
}

const NOBODY: u32 = 65534;

fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

/// Read `output` until a line is as `wanted`; what comes later is thrown away.
fn wait_for_line(output: impl Read + Send + 'static, wanted: fn(&str) -> bool) -> String {
    let (found, line) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if wanted(&line) {
                // Nobody waits any more for the lines after the first.
                let _ = found.send(line);
            }
        }
    });
    line.recv_timeout(PATIENCE).expect("the target does not come up")
}

/// Ask again until there is an answer.
fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < limit, "{what}");
        thread::yield_now();
    }
}

/// The path of a file in `tests/targets`.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets").join(name)
}

/// `tests/targets/shapes.c`, compiled with `flags`.
pub(super) fn shapes(flags: &[&str]) -> Target {
    let target = Target::new();
    let program = target.path("shapes");
    let mut compiler = Command::new("cc");
    compiler.args(["-g", "-pthread", "-w"]).args(flags).arg("-o").arg(&program);
    assert!(compiler.arg(source("shapes.c")).status().unwrap().success());
    target.spawn_ready([program])
}

/// A script of `tests/targets`, run by the interpreter at the start of
/// `command`.
pub(super) fn script(command: &[&str], name: &str) -> Target {
    let path = source(name);
    Target::new().spawn_ready(command.iter().map(OsStr::new).chain([path.as_os_str()]))
}

/// `openssl speed`, which says on its standard error what it does.
pub(super) fn openssl(algorithm: &[&str]) -> Target {
    let mut target = Target::new();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "openssl", "speed", "-seconds", "120"]).args(algorithm);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap();
    target.pid = i32::try_from(child.id()).unwrap();
    let mut output = child.stderr.take().unwrap();
    target.children.push(child);
    // The line has no end before the work has.
    let (found, doing) = mpsc::channel();
    thread::spawn(move || {
        let mut start = [0; 5];
        let _ = found.send(output.read_exact(&mut start).is_ok() && start == *b"Doing");
    });
    assert_eq!(doing.recv_timeout(PATIENCE), Ok(true));
    target
}

/// A Redis that `redis-benchmark` keeps busy.
pub(super) fn redis() -> Target {
    let mut target = Target::new();
    let socket = target.path("socket");
    let mut arguments = vec!["redis-server", "--port", "0", "--save", "", "--daemonize", "no"];
    arguments.extend(["--unixsocket", socket.to_str().unwrap()]);
    target.pid = i32::try_from(target.spawn(arguments).id()).unwrap();
    wait_until("Redis does not answer", || {
        let mut stream = UnixStream::connect(&socket).ok()?;
        stream.write_all(b"PING\r\n").ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).ok()?;
        (answer == *b"+PONG\r\n").then_some(())
    });
    let load = ["-n", "100000000", "-q", "-t", "set,get,lrange_100,zadd,mset"];
    let head = ["redis-benchmark", "-s", socket.to_str().unwrap()];
    target.spawn(head.into_iter().chain(load));
    target
}

/// An nginx of one process that compresses a page over and over.
pub(super) fn nginx() -> Target {
    let mut target = Target::new();
    let (socket, page) = (target.path("socket"), target.path("page.html"));
    fs::write(&page, "some text to be packed ".repeat(2000)).unwrap();
    let directory = target.scratch.path().display();
    let configuration = format!(
        "daemon off; master_process off; user root; pid {directory}/pid;
         error_log {directory}/errors; events {{ }}
         http {{ access_log {directory}/access; gzip on; gzip_types *; gzip_min_length 1;
                 client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
                 fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
                 scgi_temp_path {directory}/scgi;
                 server {{ listen unix:{directory}/socket; root {directory}; }} }}"
    );
    let file = target.path("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let arguments = ["nginx".as_ref(), "-c".as_ref(), file.as_os_str()];
    target.pid = i32::try_from(target.spawn(arguments).id()).unwrap();
    let ask = move || {
        let mut stream = UnixStream::connect(&socket).ok()?;
        let request = "GET /page.html HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\
                       Connection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        answer.starts_with(b"HTTP/1.1 200").then_some(())
    };
    wait_until("nginx does not answer", &ask);
    // Ends with nginx, whose socket then refuses.
    thread::spawn(move || while ask().is_some() {});
    target
}

/// A backend of a Postgres that computes for one client.
pub(super) fn postgres() -> Target {
    let mut target = Target::new();
    let (data, sockets) = (target.for_nobody("data"), target.for_nobody("sockets"));
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let made = Command::new("setpriv")
        .args(nobody)
        .args(["initdb", "-U", "nobody", "-A", "trust", "--no-sync", "-D"])
        .arg(&data)
        .current_dir(&data)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (data, sockets) = (data.to_str().unwrap(), sockets.to_str().unwrap());
    let options = ["-c", "listen_addresses=", "-c", "fsync=off"];
    let server = nobody.into_iter().chain(["postgres", "-D", data, "-k", sockets]).chain(options);
    target.spawn(server);
    let client = ["psql", "-h", sockets, "-U", "nobody", "-d", "postgres", "-qAt"];
    wait_until("Postgres does not answer", || {
        let ask = Command::new("psql").args(&client[1..]).args(["-c", "select 1"]).output();
        ask.unwrap().status.success().then_some(())
    });
    let work = "select sum(length(md5(g::text || 'x')) + ln(g + 1)::int) from \
                (select g from generate_series(1, 100000) g order by g % 1009) x \\watch 0.001";
    let commands = ["-c", "select 'pid ' || pg_backend_pid()", "-c", work];
    // `\watch` must be a command of its own input, not of `-c`.
    let file = target.path("work.sql");
    fs::write(&file, format!("{};\n{work}\n", commands[1])).unwrap();
    let arguments = client.into_iter().chain(["-f", file.to_str().unwrap()]);
    let output = target.spawn(arguments).stdout.take().unwrap();
    let line = wait_for_line(output, |line| line.starts_with("pid "));
    target.pid = line[4..].parse().unwrap();
    target
}
