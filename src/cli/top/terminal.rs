//! The terminal: taken, drawn on, and given back as it was.
//!
//! It is given back whatever happens: by whoever took it, when that is dropped,
//! and before a panic says what it has to say.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::AsFd,
    panic,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    sys::signal::{SigSet, Signal, raise},
    unistd::isatty,
};
use ratatui::{
    Terminal,
    backend::{Backend, ClearType, CrosstermBackend},
    buffer::Buffer,
    crossterm::{
        cursor::{Hide, Show},
        event::{DisableMouseCapture, EnableMouseCapture},
        execute, queue,
        terminal::{
            BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen,
            LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
        },
    },
    layout::Rect,
};

use crate::tui::{Screen, view};

/// The size of a terminal that does not say: that of a serial line, mostly.
const UNSAID: (u16, u16) = (80, 24);

/// More than a screen with its colours: it is written as a whole.
const BUFFER: usize = 64 << 10;

/// Whether the terminal is taken now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, taken.
pub(super) struct Taken {
    terminal: Terminal<CrosstermBackend<BufWriter<File>>>,
    /// What is on it; `None` when that is not known.
    shown: Option<Buffer>,
    look: view::Look,
}

/// Whether there is a terminal to draw on, and one to hear keys from.
pub(super) fn is_there() -> bool {
    let keys = || File::options().read(true).write(true).open("/dev/tty").is_ok();
    isatty(io::stdout()).unwrap_or(false) && (isatty(io::stdin()).unwrap_or(false) || keys())
}

/// Whether whoever sat at the terminal has gone: nothing will be heard of it.
pub(super) fn has_hung_up() -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let out = io::stdout();
    let mut asked = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    matches!(poll(&mut asked, PollTimeout::ZERO), Ok(1..))
        && asked.iter().any(|it| it.revents().is_some_and(|events| events.intersects(gone)))
}

/// Columns and rows.
pub(super) fn size() -> (u16, u16) {
    let size = terminal_size::terminal_size_of(io::stdout());
    let size = size.map(|(width, height)| (width.0, height.0));
    size.filter(|&(width, height)| width > 0 && height > 0).unwrap_or(UNSAID)
}

fn area() -> Rect {
    let (width, height) = size();
    Rect::new(0, 0, width, height)
}

/// Before a panic says where it was, give the terminal back: or nobody could
/// read it.
pub(super) fn give_back_before_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        give_back();
        before(panic);
    }));
}

/// Give the terminal back, if it is taken. It may have gone: then there is
/// nobody to miss anything.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    let _ = execute!(out, EndSynchronizedUpdate, DisableMouseCapture, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

impl Taken {
    /// Take the terminal that standard output is.
    pub(super) fn take(look: view::Look) -> io::Result<Self> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let backend = CrosstermBackend::new(BufWriter::with_capacity(BUFFER, out));
        let options = ratatui::TerminalOptions { viewport: ratatui::Viewport::Fixed(area()) };
        let terminal = Terminal::with_options(backend, options)?;
        let mut taken = Self { terminal, shown: None, look };
        taken.take_again()?;
        Ok(taken)
    }

    /// Take it once more, whatever was done to it meanwhile: all that was on
    /// it is gone.
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        TAKEN.store(true, Ordering::SeqCst);
        // What it was before is asked only where that is not known, so that
        // it does not become what this program has made of it.
        enable_raw_mode()?;
        let out = self.terminal.backend_mut();
        execute!(out, EnterAlternateScreen, EnableMouseCapture, Hide)?;
        self.resize()
    }

    /// The terminal has another size, or what is on it is not known.
    pub(super) fn resize(&mut self) -> io::Result<()> {
        self.shown = None;
        self.terminal.resize(area())?;
        self.terminal.backend_mut().clear_region(ClearType::All)
    }

    /// Give it back, stop this program as Ctrl-Z does, and when it goes on take
    /// it again. Where nobody could make it go on (a process group without a
    /// shell) the kernel does not stop it.
    pub(super) fn stop_for_a_while(&mut self) -> io::Result<()> {
        give_back();
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTSTP);
        // For this thread alone: the others have it blocked, and one awaits it.
        stop.thread_unblock()?;
        raise(Signal::SIGTSTP)?;
        stop.thread_block()?;
        self.take_again()
    }

    /// Show `screen`. Nothing is written where nothing has changed, nor after
    /// the terminal was given back.
    pub(super) fn draw(&mut self, screen: &Screen) -> io::Result<()> {
        if !TAKEN.load(Ordering::SeqCst) {
            return Ok(());
        }
        view::draw(screen, self.look, &mut self.terminal.get_frame());
        let fresh = self.terminal.current_buffer_mut();
        if self.shown.as_ref() == Some(fresh) {
            fresh.reset();
            return Ok(());
        }
        self.shown = Some(fresh.clone());
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        self.terminal.flush()?;
        self.terminal.swap_buffers();
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}
