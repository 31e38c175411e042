//! `spy top`.
//!
//! One thread samples, one gives names, one waits for signals, one for keys;
//! and this one listens to all of them, and alone shows.

mod follow;
mod live;
mod save;
mod source;
mod table;
mod terminal;
mod waiting;

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use self::follow::{Event, Following};
use super::{
    child::{self, Child, Writes},
    console::Console,
    exit::Exit,
    plan::{Form, Targets, Top},
    signals, target,
};
use crate::{
    sampler::Control,
    task::Pid,
    tui::{State, state::Setup, view::Letters},
};

/// How long it is waited until every thread has been let go. It takes as long
/// as one stop; what takes longer has the kernel end it with this program.
const LETTING_GO: Duration = Duration::from_secs(2);

/// How long a command that was started has time to end.
const ENDING: Duration = Duration::from_secs(5);

/// Watch, and show.
pub(super) fn run(job: &Top, console: &Console) -> anyhow::Result<Exit> {
    let is_screen = job.form == Form::Screen && console.is_clever && terminal::is_there();
    let form = if job.form == Form::Screen && !is_screen { Form::Once } else { job.form };
    let job = Top { form, ..job.clone() };
    let targets = target::processes(&job.targets, console)?;
    // The command must start with signals as they were, so before they are
    // blocked; and they must be blocked before any thread is started.
    signals::hear_children();
    let child = match &job.targets {
        Targets::Command(command) => {
            let writes = if is_screen { Writes::Nowhere } else { Writes::StandardError };
            Some(Child::start_apart(command, writes)?)
        }
        Targets::Processes(_) | Targets::Unsaid => None,
    };
    let (events, inbox) = mpsc::channel();
    let blocked = if is_screen { signals::block_for_a_screen() } else { signals::block() };
    let shown = blocked.and_then(|blocked| {
        let child = child.as_ref().map(Child::pid);
        let targets = targets.unwrap_or_else(|| child.into_iter().collect());
        let (control, let_go) = follow::start(&job, targets, child, &events);
        let watched = Arc::clone(&control);
        blocked.send_once(events.clone(), move || break_off(&watched, &let_go, child));
        let mut following = Following { inbox, events, control, is_let_go: false };
        let letters = letters(&job);
        let shown = if is_screen {
            live::show(&job, state(&job), letters, console.out, &mut following)
        } else {
            table::print(&job, state(&job), letters, &mut following)
        };
        following.leave();
        shown
    });
    if let Some(child) = child {
        child.end(ENDING);
    }
    shown.map(|()| Exit::Done)
}

/// Leave the target as it was, and the terminal, as far as that can be done
/// without the thread that shows: it may wait for a terminal that nobody reads.
fn break_off(control: &Control, let_go: &AtomicBool, child: Option<Pid>) {
    let began = Instant::now();
    control.stop.store(true, Ordering::Relaxed);
    while !let_go.load(Ordering::Acquire) && began.elapsed() < LETTING_GO {
        thread::sleep(Duration::from_millis(1));
    }
    if let Some(child) = child.filter(|&child| !child::has_ended(child)) {
        child::pass_on(Signal::SIGTERM, child);
        child::pass_on(Signal::SIGCONT, child);
    }
    terminal::give_back_at_once();
}

fn state(job: &Top) -> State {
    let setup = Setup { rate: job.rate, mode: job.mode, view: job.view, ..Setup::default() };
    let window = match job.form {
        // All of it is to be in the one table.
        Form::Once => job.duration,
        Form::Screen | Form::Batch(_) => setup.window,
    };
    let history = setup.history.max(window);
    State::new(Setup { window, history, ..setup })
}

/// Which letters may be written: where the locale says so, all.
fn letters(job: &Top) -> Letters {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    // In this order (`man 7 locale`).
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_lowercase();
    let has_all = locale.contains("utf-8") || locale.contains("utf8");
    if has_all && !job.ascii { Letters::Unicode } else { Letters::Ascii }
}

impl Following {
    /// End the recording.
    fn stop(&self) {
        self.control.stop.store(true, Ordering::Relaxed);
    }

    /// An update was taken from the inbox.
    fn has_taken(&self) {
        self.control.untaken.fetch_sub(1, Ordering::AcqRel);
    }

    /// Have every thread of the target let go, and wait until that is so.
    fn rest(&self) {
        let began = Instant::now();
        self.control.pause.store(true, Ordering::Release);
        while !self.control.paused.load(Ordering::Acquire) && began.elapsed() < LETTING_GO {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Look at the target again.
    fn go_on(&self) {
        self.control.pause.store(false, Ordering::Release);
    }

    /// End the recording, and wait until every thread has been let go.
    fn leave(&mut self) {
        self.stop();
        let began = Instant::now();
        while !self.is_let_go {
            let left = LETTING_GO.saturating_sub(began.elapsed());
            match self.inbox.recv_timeout(left) {
                Ok(Event::LetGo) => self.is_let_go = true,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
