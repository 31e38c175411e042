//! The portal of `fixtures/portal`: served, visited, asked what it counted, and
//! ended.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    interpreters::project,
    target::{PATIENCE, until},
};

/// A gunicorn that serves the portal. Dropping it ends it.
pub(crate) struct Portal {
    master: Child,
    port: u16,
    workers: BTreeSet<i32>,
    /// What it says on standard error.
    lines: Receiver<String>,
    _home: tempfile::TempDir,
}

impl Portal {
    /// Serve it by workers of a class that `serve.py` knows, with faults that
    /// the portal knows, and wait until all workers are set up.
    pub(crate) fn start(python: &Path, class: &str, workers: usize, faults: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(python);
        command.arg("-B").arg(project("fixtures/portal/serve.py"));
        command.args([class, &workers.to_string()]);
        command.env("PORTAL_DATABASE", home.path().join("portal.db"));
        command.env("PORTAL_FAULTS", faults);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut master = command.spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(master.stderr.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut portal = Self { master, port: 0, workers: BTreeSet::new(), lines, _home: home };
        portal.port = portal.hear("Listening at: http://127.0.0.1:");
        while portal.workers.len() < workers {
            let worker = portal.hear("Worker ready: ");
            portal.workers.insert(worker);
        }
        portal
    }

    /// The number that follows `words` in what it says next.
    fn hear<T: std::str::FromStr>(&self, words: &str) -> T {
        let began = Instant::now();
        let mut said = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
            if let Some((_, rest)) = line.split_once(words) {
                let end = rest.find(|letter: char| !letter.is_ascii_digit());
                if let Ok(number) = rest[..end.unwrap_or(rest.len())].parse() {
                    return number;
                }
            }
            said.push(line);
        }
        panic!("{words:?} was not said: {said:#?}");
    }

    /// The master's number.
    pub(crate) fn number(&self) -> String {
        self.master.id().to_string()
    }

    /// The numbers of its workers.
    pub(crate) fn workers(&self) -> &BTreeSet<i32> {
        &self.workers
    }

    /// What the worker that answers counted of itself: see `counts.py`.
    pub(crate) fn counts(&self) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Let visitors in, and wait until the first were answered.
    pub(crate) fn visit(&self, visitors: u32, pages: &str) -> Visitors {
        let mut command = Command::new("python3");
        command.arg("-B").arg(project("fixtures/portal/load.py")).arg(self.port.to_string());
        command.args(["--attended", "--visitors", &visitors.to_string(), "--pages", pages]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let visitors = Visitors { child, input };
        until("visitors are answered", || {
            let answered = |span: &Value| span["calls"].as_u64().unwrap_or(0) > 0;
            let spans = self.counts();
            spans["spans"].as_object().unwrap().values().any(answered).then_some(())
        });
        visitors
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(i32::try_from(self.master.id()).unwrap()), Signal::SIGINT);
        let began = Instant::now();
        while matches!(self.master.try_wait(), Ok(None)) {
            if began.elapsed() > PATIENCE {
                let _ = self.master.kill();
            }
            thread::yield_now();
        }
        // A worker of uvicorn's may outlive its master.
        for &worker in &self.workers {
            let _ = kill(Pid::from_raw(worker), Signal::SIGKILL);
        }
    }
}

/// A load generator that runs. Dropping it ends it.
pub(crate) struct Visitors {
    child: Child,
    input: Option<ChildStdin>,
}

impl Visitors {
    /// Let them go, and return what they saw: every request was answered.
    pub(crate) fn leave(mut self) -> Value {
        drop(self.input.take());
        let mut told = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {told}");
        serde_json::from_str(&told).unwrap()
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        // They may have left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
