//! What goes on behind the screen.
//!
//! ```text
//! sampler ──Live──► namer ──Update──► the screen ◄── keys, signals
//! ```
//!
//! Each is a thread of its own, and none waits for the next: names may take
//! long to look up, and a terminal may be slow, and neither delays a sample.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::anyhow;
use nix::sys::signal::Signal;
use ratatui::crossterm::event;
use rustc_hash::FxHashMap;

use super::{
    super::{child, names::Names, plan, refusal},
    waiting::Waiting,
};
use crate::{
    process::ending::Witness,
    profile::{ProcessId, Throttled},
    sampler::{self, Control, History, Live, Now, Origin, Recording, Watched},
    sys::clock,
    task::Pid,
    tui::{
        Update,
        update::{Ending, ProcessNow, ThreadNow},
    },
};

/// What the thread that shows is told.
pub(super) enum Event {
    /// A signal arrived.
    Signal(Signal),
    /// Of the keyboard, the mouse, or the size of the terminal.
    Input(event::Event),
    /// Nothing more will be heard of the terminal.
    Deaf,
    /// Something was seen; and where the files of new processes are.
    Update(Box<Update>, Vec<Origin>),
    /// Nothing is watched any more, and every thread has been let go.
    LetGo,
    /// All updates have been sent.
    Over(anyhow::Result<Over>),
    /// A thread panicked, and the terminal was given back.
    Panicked,
    /// A source file was read, or could not be.
    Source(super::source::Read),
    /// A file was written, or could not be: in a sentence.
    Saved(String),
}

impl From<Signal> for Event {
    fn from(signal: Signal) -> Self {
        Self::Signal(signal)
    }
}

/// How it came to its end.
pub(super) struct Over {
    /// How the targets ended; `None` where they go on without us.
    pub(super) ending: Option<Ending>,
    /// Kept, for it holds the files of the targets within reach.
    #[expect(dead_code, reason = "it is to be dropped later")]
    pub(super) recording: Option<Box<Recording>>,
}

/// What the thread that shows hears, and what it may say.
pub(super) struct Following {
    pub(super) inbox: Receiver<Event>,
    pub(super) events: Sender<Event>,
    pub(super) control: Arc<Control>,
    /// Whether every thread has been let go.
    pub(super) is_let_go: bool,
}

/// What the sampler sends.
enum Message {
    Live(Box<Live>),
    Over(Result<Box<Recording>, sampler::Error>),
    /// It broke off.
    Broken,
}

/// Begin to watch `targets`, of which `child` was started for it. It is also
/// told whether every thread has been let go.
pub(super) fn start(
    job: &plan::Top,
    targets: Vec<Pid>,
    child: Option<Pid>,
    events: &Sender<Event>,
) -> (Arc<Control>, Arc<AtomicBool>) {
    let (lives, inbox) = mpsc::channel();
    let control = Arc::<Control>::default();
    let is_let_go = Arc::<AtomicBool>::default();
    // Taken hold of before they can end.
    let witnesses = targets.iter().filter_map(|&pid| Some((pid, Witness::of(pid).ok()?))).collect();
    let namer = Namer { witnesses, child, ..Namer::default() };
    let (options, delay) = (options(job), job.delay);
    let (watched, let_go) = (Arc::clone(&control), events.clone());
    let has_let_go = Arc::clone(&is_let_go);
    thread::spawn(move || {
        let tell = |live| {
            let _ = lives.send(Message::Live(Box::new(live)));
        };
        let watch = || sampler::watch(&targets, &options, &watched, delay, Box::new(tell));
        let result = panic::catch_unwind(AssertUnwindSafe(watch));
        has_let_go.store(true, Ordering::Release);
        let _ =
            lives.send(result.map_or(Message::Broken, |done| Message::Over(done.map(Box::new))));
        let _ = let_go.send(Event::LetGo);
    });
    let events = events.clone();
    thread::spawn(move || {
        let over = panic::catch_unwind(AssertUnwindSafe(|| namer.run(&inbox, &events)));
        // Without this a panic would be waited for forever.
        let over = over.unwrap_or_else(|_| Err(broken()));
        let _ = events.send(Event::Over(over));
    });
    (control, is_let_go)
}

pub(super) fn broken() -> anyhow::Error {
    anyhow!("the recording broke off: a bug of spy")
}

fn options(job: &plan::Top) -> sampler::Options {
    sampler::Options {
        rate: job.rate,
        duration: (job.form == plan::Form::Once).then_some(job.duration),
        scope: job.scope,
        history: History::Totals,
        stopping: job.stopping,
    }
}

/// Have what is typed and clicked sent, until nobody listens. It waits in a
/// read that nothing ends but a key: it is left behind when the program ends.
pub(super) fn listen(events: &Sender<Event>) {
    let events = events.clone();
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if events.send(Event::Input(event)).is_err() {
                return;
            }
        }
        let _ = events.send(Event::Deaf);
    });
}

/// What gives frames their names, and says what sleeping threads wait for.
#[derive(Default)]
struct Namer {
    names: Names,
    waiting: Waiting,
    /// How the control groups of processes were throttled.
    throttled: FxHashMap<ProcessId, Throttled>,
    /// Of the processes that were named.
    witnesses: Vec<(Pid, Witness)>,
    child: Option<Pid>,
}

impl Namer {
    fn run(mut self, inbox: &Receiver<Message>, events: &Sender<Event>) -> anyhow::Result<Over> {
        for message in inbox {
            match message {
                Message::Live(live) => {
                    let (update, origins) = self.update(*live);
                    let _ = events.send(Event::Update(Box::new(update), origins));
                }
                Message::Over(result) => return self.over(result),
                Message::Broken => break,
            }
        }
        Err(broken())
    }

    fn update(&mut self, live: Live) -> (Update, Vec<Origin>) {
        let Live { at, part, costs, now, processes, modules, origins } = live;
        self.names.know(modules, &origins);
        let frames = part.frames().iter();
        let names = frames.map(|placed| self.names.of(&placed.frame, placed.process)).collect();
        self.waiting.begin(&processes);
        let waits = self.waiting.of(&now, &part);
        let threads = now.into_iter().zip(waits).map(thread_now).collect();
        self.throttled.extend(part.throttled().iter().copied());
        let processes = processes.into_iter().map(|it| self.process_now(it)).collect();
        (Update { at, part, names, costs, threads, processes }, origins)
    }

    fn process_now(&self, watched: Watched) -> ProcessNow {
        let Watched { process, pid, runtime } = watched;
        let throttled = self.throttled.get(&process).map(|it| (it.times, it.time));
        ProcessNow { process, pid, runtime, throttled }
    }

    fn over(&self, result: Result<Box<Recording>, sampler::Error>) -> anyhow::Result<Over> {
        match result {
            Ok(recording) => {
                let ending = recording.targets_ended.then(|| self.ending());
                Ok(Over { ending, recording: Some(recording) })
            }
            // The number of a child that was not waited for is of nobody else.
            Err(_) if self.child.is_some_and(child::has_ended) => {
                Ok(Over { ending: Some(self.ending()), recording: None })
            }
            Err(error) => Err(refusal::explain(&error)),
        }
    }

    fn ending(&self) -> Ending {
        let how = |witness: &Witness| witness.ending().map(|ending| ending.to_string());
        let mut endings = self.witnesses.iter().map(|(pid, witness)| (pid, how(witness)));
        let how = match (endings.next(), endings.next_back()) {
            (Some((_, how)), None) => how,
            // The last to be named is the last of what was wanted to be known.
            (_, Some((pid, how))) => {
                let how = how.unwrap_or_else(|| "ended".to_owned());
                Some(format!("{} processes ended; {pid} {how}", self.witnesses.len()))
            }
            (None, None) => None,
        };
        Ending { how: how.unwrap_or_else(|| "ended".to_owned()), clock: time_of_day() }
    }
}

fn thread_now((now, wait): (Now, Option<String>)) -> ThreadNow {
    let Now { thread, tid, state, asleep_since, .. } = now;
    ThreadNow { thread, tid, state, asleep_since, wait }
}

/// The time of day here, or, where that is not known, in Greenwich.
fn time_of_day() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = |[hour, minute, second]: [u8; 3]| format!("{hour:02}:{minute:02}:{second:02}");
    match i64::try_from(now).ok().and_then(clock::local) {
        Some(parts) => text(parts),
        None => {
            let part = |seconds: u64, most: u64| u8::try_from(seconds % most).unwrap_or_default();
            text([part(now / 3600, 24), part(now / 60, 60), part(now, 60)]) + " UTC"
        }
    }
}
