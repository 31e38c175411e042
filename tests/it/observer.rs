//! The program under test, run as its users run it, and what it says.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::{self, JoinHandle},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::target::until;

/// The command `spy` with `arguments`.
pub(crate) fn spy(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spy"));
    command.args(arguments);
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Demand an exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }
}

/// Run `spy` to its end.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    Observer::start(spy(arguments)).finish()
}

/// A `spy` that runs. Dropping it ends it.
pub(crate) struct Observer {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Observer {
    /// Start `command`, and keep what it says.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, stdout: Some(collect(stdout)), stderr: Some(collect(stderr)) }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Whether it keeps a descriptor of the schedule of a thread of `target`:
    /// from then on it takes samples.
    fn watches(&self, target: i32) -> bool {
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", self.pid())) else { return false };
        let tasks = format!("/proc/{target}/task/");
        let numbered = format!("/{target}/task/");
        open.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).any(|file| {
            let file = file.to_string_lossy();
            file.ends_with("/schedstat") && (file.starts_with(&tasks) || file.contains(&numbered))
        })
    }

    /// Wait until it takes samples of `target`.
    pub(crate) fn watching(mut self, target: i32) -> Self {
        until("spy watches", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{status}: {:#?}", self.collected());
            }
            self.watches(target).then_some(())
        });
        self
    }

    /// Send it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Wait for its end.
    pub(crate) fn finish(mut self) -> Outcome {
        let status = until("spy ends", || self.child.try_wait().unwrap());
        let (stdout, stderr) = self.collected();
        Outcome { status, stdout, stderr }
    }

    fn collected(&mut self) -> (String, String) {
        let text = |reader: Option<JoinHandle<Vec<u8>>>| {
            String::from_utf8_lossy(&reader.unwrap().join().unwrap()).into_owned()
        };
        (text(self.stdout.take()), text(self.stderr.take()))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was said before a failure to read is still worth showing.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// Stacks with their counts, as `--format collapsed` writes them.
#[derive(Debug, Default)]
pub(crate) struct Collapsed {
    /// Outermost frame first.
    pub(crate) stacks: Vec<(Vec<String>, u64)>,
}

impl Collapsed {
    /// Read all of `text`, every line of which must be a stack.
    #[track_caller]
    pub(crate) fn read(text: &str) -> Self {
        let line = |line: &str| {
            let (frames, count) = line.rsplit_once(' ')?;
            Some((frames.split(';').map(str::to_owned).collect(), count.parse().ok()?))
        };
        let stacks = text.lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}")));
        Self { stacks: stacks.collect() }
    }

    /// All samples.
    pub(crate) fn total(&self) -> u64 {
        self.stacks.iter().map(|(_, count)| count).sum()
    }

    /// The share of the samples that have a frame that `wanted` accepts.
    pub(crate) fn share(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        self.share_of(|frames| frames.iter().any(|frame| wanted(frame)))
    }

    /// The share of the samples with a stack that `wanted` accepts.
    #[expect(clippy::cast_precision_loss, reason = "counts of samples are small")]
    pub(crate) fn share_of(&self, wanted: impl Fn(&[String]) -> bool) -> f64 {
        let has = |(frames, _): &&(Vec<String>, u64)| wanted(frames);
        let found: u64 = self.stacks.iter().filter(has).map(|(_, count)| count).sum();
        found as f64 / self.total().max(1) as f64
    }

    /// Whether any stack has a frame of the function `name`.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.share(|frame| is_function(frame, name)) > 0.0
    }
}

/// Whether `frame` is of the function `name`: alone, or followed by its place.
pub(crate) fn is_function(frame: &str, name: &str) -> bool {
    frame.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Demand that `text` is a well-formed SVG, as a strict parser of XML sees it,
/// and return the text in it.
#[track_caller]
pub(crate) fn svg_text(text: &str) -> String {
    let parse = "import sys, xml.etree.ElementTree as tree\n\
        root = tree.fromstring(sys.stdin.buffer.read())\n\
        assert root.tag == '{http://www.w3.org/2000/svg}svg', root.tag\n\
        print(*(e.text for e in root.iter() if e.text and e.text.strip()), sep='\\n')";
    let mut python = Command::new("python3");
    python.args(["-c", parse]).env("PYTHONIOENCODING", "utf-8");
    python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().unwrap();
    // A parser that gives up early says why on its standard error.
    let _ = python.stdin.take().unwrap().write_all(text.as_bytes());
    let Output { status, stdout, stderr } = python.wait_with_output().unwrap();
    assert!(status.success(), "{}\n{text}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The same for a file.
#[track_caller]
pub(crate) fn svg_file(path: &Path) -> String {
    svg_text(&fs::read_to_string(path).unwrap())
}
