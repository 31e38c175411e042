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
use indicatif::{ProgressBar, ProgressDrawTarget};
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
    sampler::{self, Control},
    task::Pid,
};

/// How often the progress line changes, at most.
const BLINK: Duration = Duration::from_millis(100);

/// What the thread that decides is told.
enum Event {
    /// A signal arrived.
    Signal(Signal),
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
    for warning in &job.warnings {
        console.warn(warning);
    }
    let targets = target::processes(&job.targets, console)?;
    let mut destination = Destination::open(&job.place, &default_name(job, targets.as_deref()))?;
    let stats = job.stats.as_ref().map(|place| Destination::open(place, Path::new("")));
    let stats = stats.transpose()?;

    // The command must start with signals as they were, so before they are
    // blocked; and they must be blocked before any other thread starts.
    let child = match &job.targets {
        Targets::Command(command) => Some(Child::start(command)?),
        Targets::Processes(_) | Targets::Unsaid => None,
    };
    let child_pid = child.as_ref().map(Child::pid);
    let targets = targets.unwrap_or_else(|| child_pid.into_iter().collect());
    if job.place == Place::Default {
        destination.rename(&default_name(job, Some(&targets)));
    }
    let prepared = Watch::start(job, targets, child_pid, (&destination, stats.as_ref()));
    let watch = match (prepared, child) {
        (Ok(watch), child) => Listener { child, destination, stats, ..Listener::new(job, watch, console) },
        (Err(error), None) => return Err(error),
        (Err(error), Some(child)) => {
            exit::report(&error, console);
            child.wait()?;
            return Ok(Exit::FailedBesideCommand);
        }
    };
    watch.listen()
}
