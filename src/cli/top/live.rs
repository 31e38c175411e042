//! The live view on a terminal.

use std::{sync::mpsc::RecvTimeoutError, thread, time::Duration};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use ratatui::crossterm::event::{
    Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent,
    MouseEventKind,
};

use super::{
    follow::{self, Event, Following, Over},
    save,
    source::{self, Place},
    terminal::{self, Taken},
};
use crate::{
    cli::plan::Top,
    profile::ProcessId,
    sampler::Origin,
    style::Paint,
    tui::{
        Screen, State,
        keys::Key,
        state::Request,
        update::Update,
        view::{self, Letters, Look},
    },
};

/// So long it is waited for a refusal, which is better read in lines than on a
/// screen that comes and goes. It comes within a few milliseconds.
const REFUSAL: Duration = Duration::from_millis(60);

/// How often it is looked whether the terminal is still there, when nothing
/// else happens.
const STILL_THERE: Duration = Duration::from_secs(1);

/// Rows that the wheel moves by.
const WHEEL: usize = 3;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Leave,
}

/// Show what comes, until told to leave.
pub(super) fn show(
    job: &Top,
    state: State,
    letters: Letters,
    paint: Paint,
    following: &mut Following,
) -> anyhow::Result<()> {
    let mut first = following.inbox.recv_timeout(REFUSAL);
    if let Ok(Event::LetGo) = first {
        // It has ended already: why, is said next.
        following.is_let_go = true;
        first = following.inbox.recv_timeout(REFUSAL);
    }
    if let Ok(Event::Over(Err(error))) = first {
        return Err(error);
    }
    let events = following.events.clone();
    terminal::give_back_before_panics(move || {
        let _ = events.send(Event::Panicked);
    });
    let taken = Taken::take(Look { paint, letters }).context("the terminal cannot be drawn on")?;
    follow::listen(&following.events);
    let mut live = Live {
        state,
        taken,
        shown: None,
        following,
        origins: Vec::new(),
        places: Vec::new(),
        over: None,
        saving: Vec::new(),
        exit_on_end: job.exit_on_end,
    };
    live.resize();
    let done = live.run(first);
    // The thread that listens for keys does so to the end: what is typed from
    // now on is for whoever has the terminal next, so that is soon.
    live.following.leave();
    let Live { taken, saving, .. } = live;
    drop(taken);
    for file in saving {
        let _ = file.join();
    }
    done
}

struct Live<'a> {
    state: State,
    taken: Taken,
    /// What is on the terminal.
    shown: Option<Screen>,
    following: &'a mut Following,
    /// Where the files of the processes are, by their numbers in the profile.
    origins: Vec<Origin>,
    /// The same of those that are watched.
    places: Vec<(ProcessId, Place)>,
    /// Held for the files that it keeps within reach.
    over: Option<Over>,
    /// What writes files: they are whole before this program ends.
    saving: Vec<thread::JoinHandle<()>>,
    exit_on_end: bool,
}

impl Live<'_> {
    fn run(&mut self, first: Result<Event, RecvTimeoutError>) -> anyhow::Result<()> {
        let mut next = first;
        loop {
            match next {
                Ok(event) => {
                    // All that has come is taken in before it is drawn once: a
                    // slow terminal is not sent what nobody would see.
                    let more = std::iter::from_fn(|| self.following.inbox.try_recv().ok());
                    let all: Vec<Event> = std::iter::once(event).chain(more).collect();
                    for event in all {
                        if self.take(event)? == Next::Leave {
                            return Ok(());
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) if terminal::has_hung_up() => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                // This end holds a sender of its own.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            match self.draw() {
                Err(_) if terminal::has_hung_up() => return Ok(()),
                drawn => drawn.context("the terminal cannot be drawn on")?,
            }
            next = self.following.inbox.recv_timeout(STILL_THERE);
        }
    }

    fn draw(&mut self) -> std::io::Result<()> {
        if self.shown.is_none() || self.state.is_changed() {
            let screen = self.state.screen();
            self.taken.draw(&screen)?;
            self.shown = Some(screen);
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> anyhow::Result<Next> {
        match event {
            Event::Signal(Signal::SIGTSTP) => {
                // Nothing of the target may be held while this program is.
                if self.over.is_none() {
                    self.following.rest();
                }
                let stopped = self.taken.stop_for_a_while();
                self.following.go_on();
                stopped?;
            }
            // Somebody else has stopped this program, and may have used the
            // terminal meanwhile.
            Event::Signal(Signal::SIGCONT) => self.taken.take_again()?,
            Event::Signal(_) | Event::Deaf => return Ok(Next::Leave),
            Event::Input(input) => return self.input(&input),
            Event::Update(update, origins) => {
                self.following.has_taken();
                self.update(*update, origins);
                if terminal::has_hung_up() {
                    return Ok(Next::Leave);
                }
                let request = self.state.wanted();
                return Ok(request.map_or(Next::Stay, |request| self.obey(request)));
            }
            Event::Source(read) => {
                self.state.source(&read.file, read.process, read.text.ok());
                return Ok(Next::Stay);
            }
            Event::Saved(text) => {
                self.state.tell(text);
                return Ok(Next::Stay);
            }
            Event::LetGo => {
                self.following.is_let_go = true;
                return Ok(Next::Stay);
            }
            Event::Panicked => return Err(follow::broken()),
            Event::Over(over) => return self.end(over?),
        }
        self.resize();
        Ok(Next::Stay)
    }

    fn end(&mut self, over: Over) -> anyhow::Result<Next> {
        if let Some(ending) = over.ending.clone() {
            if self.exit_on_end {
                return Ok(Next::Leave);
            }
            self.state.end(ending);
        }
        self.over = Some(over);
        Ok(Next::Stay)
    }

    fn update(&mut self, update: Update, origins: Vec<Origin>) {
        self.origins.extend(origins);
        for it in &update.processes {
            let known = self.places.iter().any(|(process, _)| *process == it.process);
            let origin = self.origins.get(it.process.0 as usize);
            if let Some(origin) = origin.filter(|_| !known) {
                let place = Place { pid: it.pid, root: origin.root.clone() };
                self.places.push((it.process, place));
            }
        }
        self.state.update(update);
    }

    /// The terminal is of another size, or what is on it is not known.
    fn resize(&mut self) {
        let (width, height) = terminal::size();
        self.state.resize(width.into(), height.into());
        self.shown = None;
    }

    fn input(&mut self, input: &Input) -> anyhow::Result<Next> {
        match input {
            Input::Resize(..) => {
                self.taken.clear()?;
                self.resize();
            }
            Input::Key(key) if key.kind != KeyEventKind::Release => return self.key(*key),
            Input::Mouse(mouse) => return Ok(self.mouse(*mouse)),
            _ => {}
        }
        Ok(Next::Stay)
    }

    fn key(&mut self, key: KeyEvent) -> anyhow::Result<Next> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                // As the terminal would have, had its keys a meaning now: all
                // that was started together with this program stops. Of us it
                // is heard as a signal.
                KeyCode::Char('z') => kill(nix::unistd::Pid::from_raw(0), Signal::SIGTSTP)?,
                KeyCode::Char('l') => {
                    self.taken.clear()?;
                    self.shown = None;
                }
                KeyCode::Char('c') => return Ok(self.press(Key::CtrlC)),
                _ => {}
            }
            return Ok(Next::Stay);
        }
        Ok(meaning(key.code).map_or(Next::Stay, |key| self.press(key)))
    }

    fn mouse(&mut self, mouse: MouseEvent) -> Next {
        let times = |live: &mut Self, key| {
            (0..WHEEL).fold(Next::Stay, |next, _| match next {
                Next::Stay => live.press(key),
                Next::Leave => Next::Leave,
            })
        };
        match mouse.kind {
            MouseEventKind::ScrollUp => times(self, Key::Up),
            MouseEventKind::ScrollDown => times(self, Key::Down),
            MouseEventKind::Down(MouseButton::Left) => {
                let (width, height) = terminal::size();
                let at = (mouse.column.into(), mouse.row.into());
                let size = (width.into(), height.into());
                let hit = self.shown.as_ref().and_then(|shown| view::hit(shown, size, at));
                let request = hit.and_then(|target| self.state.click(target));
                request.map_or(Next::Stay, |request| self.obey(request))
            }
            _ => Next::Stay,
        }
    }

    fn press(&mut self, key: Key) -> Next {
        let request = self.state.press(key);
        request.map_or(Next::Stay, |request| self.obey(request))
    }

    fn obey(&mut self, request: Request) -> Next {
        match request {
            Request::Quit => return Next::Leave,
            Request::Save { path, format } => {
                let (shown, options) = (self.state.shown(), self.state.options());
                let events = self.following.events.clone();
                // A large one takes a while to write, and a disk may be slow.
                self.saving.push(thread::spawn(move || {
                    let text = save::save(&path, format, &shown, &options);
                    let _ = events.send(Event::Saved(text));
                }));
            }
            Request::Source { file, process } => {
                let place = self.places.iter().find(|(id, _)| *id == process);
                let place = place.map(|(_, place)| place.clone());
                let events = self.following.events.clone();
                thread::spawn(move || {
                    let text = source::read(place.as_ref(), &file);
                    events.send(Event::Source(source::Read { file, process, text }))
                });
            }
        }
        Next::Stay
    }
}

/// What a key is called that has a meaning here.
fn meaning(code: KeyCode) -> Option<Key> {
    Some(match code {
        KeyCode::Char(letter) => Key::Char(letter),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}
