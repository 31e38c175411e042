//! Servers and runtimes that other people wrote: how each is started, made to
//! work, and known to be up.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::chown, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::target::{PATIENCE, until};

/// A running program, ended with all its descendants when dropped.
pub(super) struct Server {
    /// The process to look at.
    pub(super) pid: i32,
    children: Vec<Child>,
    // Last, so that it goes when nobody uses it any more.
    scratch: TempDir,
}

impl Server {
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
        if nix::unistd::geteuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        path
    }
}

impl Drop for Server {
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

/// Postgres refuses to be root.
fn nobody() -> Vec<&'static str> {
    let root = nix::unistd::geteuid().is_root();
    let other = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    if root { other.to_vec() } else { Vec::new() }
}

/// A program of Postgres: on the path, or where Debian puts it.
fn of_postgres(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    places.extend(versions.map(|version| version.path().join("bin")));
    let mut programs = places.into_iter().map(|place| place.join(name));
    programs.find(|program| program.exists()).expect("Postgres is installed")
}

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
    line.recv_timeout(PATIENCE).expect("the server comes up")
}

/// A script of `fixtures/programs`, run by the interpreter at the start of
/// `command`.
pub(super) fn script(command: &[&str], name: &str) -> Server {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/programs").join(name);
    Server::new().spawn_ready(command.iter().map(OsStr::new).chain([path.as_os_str()]))
}

/// `openssl speed`, which says on its standard error what it does.
pub(super) fn openssl(algorithm: &[&str]) -> Server {
    let mut server = Server::new();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "openssl", "speed", "-seconds", "120"]).args(algorithm);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap();
    server.pid = i32::try_from(child.id()).unwrap();
    let mut output = child.stderr.take().unwrap();
    server.children.push(child);
    // The line has no end before the work has.
    let (found, doing) = mpsc::channel();
    thread::spawn(move || {
        let mut start = [0; 5];
        let _ = found.send(output.read_exact(&mut start).is_ok() && start == *b"Doing");
    });
    assert_eq!(doing.recv_timeout(PATIENCE), Ok(true));
    server
}

/// A Redis that `redis-benchmark` keeps busy.
pub(super) fn redis() -> Server {
    let mut server = Server::new();
    let socket = server.path("socket");
    let mut arguments = vec!["redis-server", "--port", "0", "--save", "", "--daemonize", "no"];
    arguments.extend(["--unixsocket", socket.to_str().unwrap()]);
    server.pid = i32::try_from(server.spawn(arguments).id()).unwrap();
    until("Redis answers", || {
        let mut stream = UnixStream::connect(&socket).ok()?;
        stream.write_all(b"PING\r\n").ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).ok()?;
        (answer == *b"+PONG\r\n").then_some(())
    });
    let load = ["-n", "100000000", "-q", "-t", "set,get,lrange_100,zadd,mset"];
    let head = ["redis-benchmark", "-s", socket.to_str().unwrap()];
    server.spawn(head.into_iter().chain(load));
    server
}

/// An nginx of one process that compresses a page over and over.
pub(super) fn nginx() -> Server {
    let mut server = Server::new();
    let (socket, page) = (server.path("socket"), server.path("page.html"));
    fs::write(&page, "some text to be packed ".repeat(2000)).unwrap();
    let directory = server.scratch.path().display();
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let configuration = format!(
        "daemon off; master_process off; {user} pid {directory}/pid;
         error_log {directory}/errors; events {{ }}
         http {{ access_log {directory}/access; gzip on; gzip_types *; gzip_min_length 1;
                 client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
                 fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
                 scgi_temp_path {directory}/scgi;
                 server {{ listen unix:{directory}/socket; root {directory}; }} }}"
    );
    let file = server.path("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let arguments = ["nginx".as_ref(), "-c".as_ref(), file.as_os_str()];
    server.pid = i32::try_from(server.spawn(arguments).id()).unwrap();
    let ask = move || {
        let mut stream = UnixStream::connect(&socket).ok()?;
        let request = "GET /page.html HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\
                       Connection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        answer.starts_with(b"HTTP/1.1 200").then_some(())
    };
    until("nginx answers", &ask);
    // Ends with nginx, whose socket then refuses.
    thread::spawn(move || while ask().is_some() {});
    server
}

/// A backend of a Postgres that computes for one client.
pub(super) fn postgres() -> Server {
    let mut server = Server::new();
    let (data, sockets) = (server.for_nobody("data"), server.for_nobody("sockets"));
    let nobody = nobody();
    let made = Command::new("setpriv")
        .args(&nobody)
        .arg(of_postgres("initdb"))
        .args(["-U", "nobody", "-A", "trust", "--no-sync", "-D"])
        .arg(&data)
        .current_dir(&data)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (data, sockets) = (data.to_str().unwrap(), sockets.to_str().unwrap());
    let options = ["-c", "listen_addresses=", "-c", "fsync=off"];
    let program = of_postgres("postgres");
    let arguments = [program.to_str().unwrap(), "-D", data, "-k", sockets];
    server.spawn(nobody.into_iter().chain(arguments).chain(options));
    let psql = of_postgres("psql");
    let client = [psql.to_str().unwrap(), "-h", sockets, "-U", "nobody", "-d", "postgres", "-qAt"];
    until("Postgres answers", || {
        let ask = Command::new(client[0]).args(&client[1..]).args(["-c", "select 1"]).output();
        ask.unwrap().status.success().then_some(())
    });
    // `\watch` repeats what stands before it, and is understood in a file only.
    let work = "select 'pid ' || pg_backend_pid();
        select sum(length(md5(g::text || 'x')) + ln(g + 1)::int)
        from (select g from generate_series(1, 100000) g order by g % 1009) x \\watch 0.001";
    let file = server.path("work.sql");
    fs::write(&file, work).unwrap();
    let arguments = client.into_iter().chain(["-f", file.to_str().unwrap()]);
    let output = server.spawn(arguments).stdout.take().unwrap();
    let line = wait_for_line(output, |line| line.starts_with("pid "));
    server.pid = line[4..].parse().unwrap();
    server
}
