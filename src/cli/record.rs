//! `spy record`.
//!
//! One thread samples and then writes, so that a second interrupt is heard
//! whatever the first is doing; one waits for signals; and this one listens to
//! both, and alone decides what becomes of the file.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::sys::signal::Signal;

use super::{
    child::{self, Child},
    console::Console,
    destination::Destination,
    exit::{self, Exit},
    names, naming,
    plan::{Place, Record, Targets},
    refusal, signals, summary, target,
};
use crate::{
    output::{self, Format, Named},
    profile::{Costs, Process, Profile},
    sampler::{self, Control, History},
    stack::Symbol,
    task::Pid,
};

/// How often the progress line changes, at most.
const BLINK: Duration = Duration::from_millis(100);

/// What the thread that decides is told.
enum Event {
    /// A signal arrived.
    Signal(Signal),
    /// Nothing is watched any more.
    Watched,
    /// The recording was written, or failed; with the lines to say.
    Written(anyhow::Result<Vec<String>>),
    /// The command ended.
    Ended(io::Result<Exit>),
}

impl From<Signal> for Event {
    fn from(signal: Signal) -> Self {
        Self::Signal(signal)
    }
}

/// Watch, and write.
pub(super) fn run(job: &Record, console: &Console) -> anyhow::Result<Exit> {
    let done = watch(job, console);
    if !matches!(job.targets, Targets::Command(_)) {
        return done;
    }
    // Whatever goes wrong beside a command must not be taken for its status.
    Ok(done.unwrap_or_else(|error| match exit::report(&error, console) {
        exit @ (Exit::CommandNotRun | Exit::CommandNotFound) => exit,
        _ => Exit::FailedBesideCommand,
    }))
}

fn watch(job: &Record, console: &Console) -> anyhow::Result<Exit> {
    for warning in &job.warnings {
        console.warn(warning);
    }
    let targets = target::processes(&job.targets, console)?;
    let mut files = Files::open(job, targets.as_deref())?;
    // The command must start with signals as they were, so before they are
    // blocked; and they must be blocked before any thread is started.
    signals::hear_children();
    let child = match &job.targets {
        Targets::Command(command) => Some(Child::start(command)?),
        Targets::Processes(_) | Targets::Unsaid => None,
    };
    let child_pid = child.as_ref().map(Child::pid);
    let targets = targets.unwrap_or_else(|| child_pid.into_iter().collect());
    files.name(job, &targets);
    let mut door = Door::open(job, console, child_pid)?;
    door.record(Work::new(job, targets, &files, child_pid)?);

    let Some(lines) = door.written() else { return Ok(Exit::GivenUp) };
    let written = lines.and_then(|lines| files.finish().map(|()| lines));
    let Some(child) = child else {
        written?.iter().for_each(|line| console.say(line));
        return Ok(Exit::Done);
    };
    // What is wrong is said now, and not when the command ends, tomorrow.
    let exit = match written {
        Ok(lines) => {
            lines.iter().for_each(|line| console.say(line));
            Exit::Done
        }
        Err(error) => exit::report(&error, console),
    };
    match (door.ended(child), exit) {
        (None, _) => Ok(Exit::GivenUp),
        (Some(ended), Exit::Done) => Ok(ended?),
        (Some(_), _) => Ok(Exit::FailedBesideCommand),
    }
}

/// Where the recording goes.
struct Files {
    destination: Destination,
    stats: Option<Destination>,
}

impl Files {
    fn open(job: &Record, targets: Option<&[Pid]>) -> anyhow::Result<Self> {
        let destination = Destination::open(&job.place, &default_name(job, targets))?;
        let stats = job.stats.as_ref().map(|place| Destination::open(place, Path::new("")));
        Ok(Self { destination, stats: stats.transpose()? })
    }

    /// Only now the number of a command is known.
    fn name(&mut self, job: &Record, targets: &[Pid]) {
        if job.place == Place::Default {
            self.destination.rename(&default_name(job, Some(targets)));
        }
    }

    /// All was written: put the files in their places.
    fn finish(self) -> anyhow::Result<()> {
        self.destination.finish()?;
        self.stats.map_or(Ok(()), Destination::finish)
    }
}

fn default_name(job: &Record, targets: Option<&[Pid]>) -> PathBuf {
    let extension = match job.format {
        Format::Flamegraph => "svg",
        Format::Collapsed => "folded",
        Format::Speedscope => "speedscope.json",
        Format::ChromeTrace => "trace.json",
    };
    let pid = targets.and_then(|targets| targets.first().copied());
    let name = match &job.targets {
        Targets::Command(command) => {
            let program = command.first().map(Path::new).and_then(Path::file_name);
            program.unwrap_or_default().to_string_lossy().into_owned()
        }
        Targets::Processes(_) | Targets::Unsaid => pid.map(target::name).unwrap_or_default(),
    };
    naming::file(&name, pid, extension).into()
}

/// What the thread that samples and writes is given.
struct Work {
    job: Record,
    targets: Vec<Pid>,
    child: Option<Pid>,
    shown: String,
    file: File,
    stats: Option<File>,
}

impl Work {
    fn new(
        job: &Record,
        targets: Vec<Pid>,
        files: &Files,
        child: Option<Pid>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            job: job.clone(),
            targets,
            child,
            shown: files.destination.path().display().to_string(),
            file: files.destination.writer()?,
            stats: files.stats.as_ref().map(Destination::writer).transpose()?,
        })
    }

    /// Record and write; the lines to say when the files are in their places.
    fn run(self, control: &Control, events: &Sender<Event>) -> anyhow::Result<Vec<String>> {
        let timeline = self.job.format.shows_time();
        let options = sampler::Options {
            rate: self.job.options.rate,
            duration: self.job.duration,
            scope: self.job.scope,
            history: if timeline { History::Timeline } else { History::Totals },
            stopping: self.job.stopping,
        };
        let recorded = sampler::record(&self.targets, &options, control);
        let _ = events.send(Event::Watched);
        let (profile, costs, names) = match recorded {
            Ok(mut recording) => {
                // One of several: what was recorded is of the others alone.
                let left_out = recording.refused.iter().map(|error| format!("left out: {error}"));
                recording.costs.notes.splice(0..0, left_out);
                let names = names::of_recording(&recording);
                (recording.profile, recording.costs, names)
            }
            // The number of a child that was not waited for is of nobody else.
            Err(sampler::Error::NoSuchProcess(_)) if self.child.is_some() => self.too_short(),
            Err(_) if self.child.is_some_and(child::has_ended) => self.too_short(),
            Err(error) => return Err(refusal::explain(&error)),
        };
        let recording = Named { profile: &profile, costs: &costs, names: &names };
        let options = &self.job.options;
        let mut out = BufWriter::new(self.file);
        output::write(self.job.format, recording, options, &mut out)
            .and_then(|()| out.flush())
            .with_context(|| format!("{} cannot be written", self.shown))?;
        if let Some(file) = self.stats {
            let mut out = BufWriter::new(file);
            serde_json::to_writer_pretty(&mut out, &output::stats(&profile, &costs))
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out))
                .and_then(|()| out.flush())
                .context("the statistics cannot be written")?;
        }
        Ok(summary::lines(&self.shown, &profile, &costs, options))
    }

    /// The recording of a command that ended before it could be looked at.
    fn too_short(&self) -> (Profile, Costs, Vec<Vec<Symbol>>) {
        let mut profile = Profile::default();
        let command = match &self.job.targets {
            Targets::Command(words) => words.iter().map(|word| word.to_string_lossy()).collect(),
            Targets::Processes(_) | Targets::Unsaid => Vec::new(),
        };
        let pid = self.child.unwrap_or(Pid(0));
        let command = command.join(" ");
        profile.add_process(Process { pid, command, kernel_cpu: Duration::ZERO });
        let notes = vec!["the command ended before it could be looked at".to_owned()];
        (profile, Costs { notes, ..Costs::default() }, Vec::new())
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The targets are watched.
    Watching,
    /// Names are looked up, and the file is written.
    Writing,
    /// It is only waited for the command.
    Written,
}

/// What the thread that decides hears, and from whom.
struct Door {
    inbox: Receiver<Event>,
    events: Sender<Event>,
    control: Arc<Control>,
    /// The command, to which the signals that end a recording are passed on.
    child: Option<Pid>,
    progress: ProgressBar,
    /// Whether what is written goes to a terminal, where a progress line would
    /// get in its way.
    shares_terminal: bool,
    stage: Stage,
    duration: Option<Duration>,
    began: Instant,
}

impl Door {
    /// Block the signals, and have them sent here.
    fn open(job: &Record, console: &Console, child: Option<Pid>) -> anyhow::Result<Self> {
        let (events, inbox) = mpsc::channel();
        signals::block()?.send(events.clone());
        // A command has the terminal for itself.
        let progress = if console.live && child.is_none() {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let style = ProgressStyle::with_template("{wide_msg}")?;
            ProgressBar::with_draw_target(None, target).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        let (control, began) = (Arc::default(), Instant::now());
        Ok(Self {
            inbox,
            events,
            control,
            child,
            progress,
            shares_terminal: job.place == Place::Standard && console.width.is_some(),
            stage: Stage::Watching,
            duration: job.duration,
            began,
        })
    }

    /// Start a thread on `work`.
    fn record(&self, work: Work) {
        let (control, events) = (Arc::clone(&self.control), self.events.clone());
        thread::spawn(move || {
            let result = panic::catch_unwind(AssertUnwindSafe(|| work.run(&control, &events)));
            // Without this a panic would be waited for forever.
            let result =
                result.unwrap_or_else(|_| Err(anyhow!("the recording broke off: a bug of spy")));
            let _ = events.send(Event::Written(result));
        });
    }

    /// Wait for what was written; `None` when it was given up.
    fn written(&mut self) -> Option<anyhow::Result<Vec<String>>> {
        let written = loop {
            match self.next()? {
                Event::Written(result) => break result,
                // Looking names up in large files takes a while.
                Event::Watched => {
                    self.stage = Stage::Writing;
                    if self.shares_terminal {
                        self.progress.finish_and_clear();
                    }
                }
                Event::Signal(_) | Event::Ended(_) => {}
            }
        };
        self.progress.finish_and_clear();
        self.stage = Stage::Written;
        Some(written)
    }

    /// Wait for the end of the command; `None` when it was given up.
    fn ended(&mut self, child: Child) -> Option<io::Result<Exit>> {
        let events = self.events.clone();
        thread::spawn(move || events.send(Event::Ended(child.wait())));
        loop {
            match self.next()? {
                Event::Ended(exit) => break Some(exit),
                Event::Signal(_) | Event::Watched | Event::Written(_) => {}
            }
        }
    }

    /// The next event, after what every one brings with it; `None` for a second
    /// interrupt.
    fn next(&mut self) -> Option<Event> {
        loop {
            match self.inbox.recv_timeout(BLINK) {
                Ok(Event::Signal(signal)) => {
                    // The terminal has sent its own interrupt to the command.
                    if let Some(child) = self.child.filter(|_| signal != Signal::SIGINT) {
                        child::pass_on(signal, child);
                    }
                    let again = self.control.stop.swap(true, Ordering::Relaxed);
                    if signal == Signal::SIGINT && self.can_be_given_up(again) {
                        self.progress.finish_and_clear();
                        return None;
                    }
                    return Some(Event::Signal(signal));
                }
                Ok(event) => return Some(event),
                Err(RecvTimeoutError::Timeout) => self.show_progress(),
                // This end holds a sender of its own.
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Whether an interrupt ends this program at once; `again`: it was told to
    /// stop before. When all is written, there is nothing left to give up: an
    /// interrupt then is between the terminal and the command.
    fn can_be_given_up(&self, again: bool) -> bool {
        match self.stage {
            Stage::Watching => again,
            Stage::Writing => again || self.child.is_none(),
            Stage::Written => false,
        }
    }

    fn show_progress(&self) {
        if self.progress.is_hidden() || self.progress.is_finished() {
            return;
        }
        self.progress.set_message(if self.stage == Stage::Writing {
            "Looking names up, and writing  (Ctrl-C gives up)".to_owned()
        } else {
            summary::progress(&self.control, self.began.elapsed(), self.duration)
        });
    }
}
