//! The terminal: taken, drawn on, and given back as it was.
//!
//! It is given back whatever happens: by whoever took it, when that is dropped,
//! and before a panic says what it has to say.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::AsFd,
    panic,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{SigSet, Signal, raise},
    unistd::isatty,
};
use ratatui::{
    Terminal, TerminalOptions, Viewport,
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

use crate::tui::{
    Screen,
    view::{self, Look},
};

/// The size of a terminal that does not say: that of a serial line, mostly.
const UNSAID: (u16, u16) = (80, 24);

/// More than a screen with its colours: it is written as a whole.
const BUFFER: usize = 64 << 10;

/// So long it is waited for a terminal that may have stalled. Another takes a
/// few dozen bytes within microseconds.
const AT_ONCE: Duration = Duration::from_millis(200);

/// Whether the terminal is taken now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, taken.
pub(super) struct Taken {
    painter: Painter<File>,
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
///
/// Then nothing can be shown any more: `say` so to the thread that shows, for
/// the panic may be another's.
pub(super) fn give_back_before_panics(say: impl Fn() + Send + Sync + 'static) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        give_back();
        before(panic);
        say();
    }));
}

/// Give the terminal back, if it is taken. It may have gone: then there is
/// nobody to miss anything.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // The modes first: they can be had from a terminal that takes no writes.
    let _ = disable_raw_mode();
    let _ = write_back(&mut io::stdout());
}

/// Give the terminal back as far as it can be had at once: one that takes no
/// writes is not waited for.
pub(super) fn give_back_at_once() {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        give_back();
        let _ = done.send(());
    });
    let _ = is_done.recv_timeout(AT_ONCE);
}

fn write_back(out: &mut impl Write) -> io::Result<()> {
    execute!(out, EndSynchronizedUpdate, DisableMouseCapture, LeaveAlternateScreen, Show)
}

impl Taken {
    /// Take the terminal that standard output is.
    pub(super) fn take(look: Look) -> io::Result<Self> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mut taken = Self { painter: Painter::new(out, look, area())? };
        taken.take_again()?;
        Ok(taken)
    }

    /// Take it once more, whatever was done to it meanwhile: all that was on
    /// it is gone.
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        TAKEN.store(true, Ordering::SeqCst);
        // Whoever had it meanwhile may have changed its modes, and these are
        // those that it is to have again.
        disable_raw_mode()?;
        enable_raw_mode()?;
        execute!(self.painter.out(), EnterAlternateScreen, EnableMouseCapture, Hide)?;
        self.painter.clear(area())
    }

    /// The terminal has another size, or what is on it is not known.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.painter.clear(area())
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

    /// Show `screen`, unless the terminal was given back.
    pub(super) fn draw(&mut self, screen: &Screen) -> io::Result<()> {
        if TAKEN.load(Ordering::SeqCst) { self.painter.draw(screen) } else { Ok(()) }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// What draws, and knows what it has drawn.
struct Painter<W: Write> {
    terminal: Terminal<CrosstermBackend<BufWriter<W>>>,
    /// What is on the terminal; `None` when that is not known.
    shown: Option<Buffer>,
    look: Look,
}

impl<W: Write> Painter<W> {
    fn new(out: W, look: Look, area: Rect) -> io::Result<Self> {
        let backend = CrosstermBackend::new(BufWriter::with_capacity(BUFFER, out));
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        Ok(Self { terminal: Terminal::with_options(backend, options)?, shown: None, look })
    }

    const fn out(&mut self) -> &mut CrosstermBackend<BufWriter<W>> {
        self.terminal.backend_mut()
    }

    /// Begin with an empty terminal of that size.
    fn clear(&mut self, area: Rect) -> io::Result<()> {
        self.shown = None;
        self.terminal.resize(area)?;
        self.out().clear_region(ClearType::All)
    }

    /// Show `screen`. Nothing is written where nothing has changed: ratatui
    /// would at least hide the cursor each time.
    fn draw(&mut self, screen: &Screen) -> io::Result<()> {
        view::draw(screen, self.look, &mut self.terminal.get_frame());
        let fresh = self.terminal.current_buffer_mut();
        if self.shown.as_ref() == Some(fresh) {
            fresh.reset();
            return Ok(());
        }
        self.shown = Some(fresh.clone());
        queue!(self.out(), BeginSynchronizedUpdate)?;
        self.terminal.flush()?;
        self.terminal.swap_buffers();
        execute!(self.out(), EndSynchronizedUpdate)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        io::Read as _,
        os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
        process::{Command, Stdio},
        rc::Rc,
    };

    use nix::{
        fcntl::OFlag,
        pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
        sys::termios::tcgetattr,
    };

    use super::*;
    use crate::{
        style::Paint,
        tui::{
            screen::{Body, Gauges, Tabs, Title},
            view::Letters,
        },
    };

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Rc<RefCell<Vec<u8>>>);

    impl Written {
        /// How many bytes were written since this was last asked.
        fn take(&self) -> usize {
            self.0.take().len()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn screen(watched: u64) -> Screen {
        let watched = Duration::from_secs(watched);
        Screen {
            title: Title { command: "hot".to_owned(), watched, ..Title::default() },
            gauges: Gauges::default(),
            evidence: None,
            tabs: Tabs::default(),
            body: Body::Empty("nothing yet".to_owned()),
            path: None,
            keys: Vec::new(),
            overlay: None,
            filter: None,
        }
    }

    /// Run by the test below, on a terminal of its own.
    #[test]
    #[ignore = "it is for a terminal that nobody looks at"]
    fn panic_beside_the_screen() {
        let (told, is_told) = mpsc::channel();
        give_back_before_panics(move || told.send(()).unwrap());
        let look = Look { paint: Paint::Coloured, letters: Letters::Unicode };
        let mut taken = Taken::take(look).unwrap();
        taken.draw(&screen(1)).unwrap();
        assert!(thread::spawn(|| panic!("as it should")).join().is_err());
        is_told.recv().unwrap();
        // What is drawn now would be seen on the terminal of somebody else.
        taken.draw(&screen(2)).unwrap();
        io::stdout().write_all(b"after the panic\n").unwrap();
    }

    #[test]
    fn a_panic_beside_the_screen_gives_the_terminal_back_and_is_read() {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname_r(&master).unwrap();
        let mut options = File::options();
        let options = options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
        let slave = options.open(path).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(std::env::current_exe().unwrap());
        session.args(["--exact", "cli::top::terminal::tests::panic_beside_the_screen"]);
        session.args(["--ignored", "--nocapture", "--test-threads=1"]);
        session.stdin(end()).stdout(end()).stderr(end());
        let mut child = session.spawn().unwrap();
        let mut master = File::from(OwnedFd::from(master));
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        while !seen.contains("test result") {
            let len = master.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
        assert!(child.wait().unwrap().success(), "{seen}");
        assert_eq!(tcgetattr(&slave).unwrap(), before, "the modes of the terminal");
        let at = |text: &str| seen.find(text).unwrap_or_else(|| panic!("no {text} in {seen:?}"));
        let (taken, back) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(taken < back && back < at("as it should"), "{seen:?}");
        // Nothing is drawn on it afterwards.
        let (_, after) = seen.split_at(back);
        assert!(!after.contains("?2026h") && after.contains("after the panic"), "{seen:?}");
    }

    #[test]
    fn all_that_was_taken_is_given_back() {
        let mut written = Vec::new();
        write_back(&mut written).unwrap();
        let text = String::from_utf8(written).unwrap();
        // The other screen, the mouse, the cursor, the update as a whole.
        for mode in ["?1049l", "?1000l", "?1006l", "?25h", "?2026l"] {
            assert!(text.contains(mode), "{mode} in {text:?}");
        }
    }

    #[test]
    fn only_what_has_changed_is_written() {
        let written = Written::default();
        let look = Look { paint: Paint::Coloured, letters: Letters::Unicode };
        let area = Rect::new(0, 0, 80, 24);
        let mut painter = Painter::new(written.clone(), look, area).unwrap();
        painter.clear(area).unwrap();
        painter.draw(&screen(1)).unwrap();
        assert!(written.take() > 50);
        painter.draw(&screen(1)).unwrap();
        assert_eq!(written.take(), 0);
        painter.draw(&screen(2)).unwrap();
        let second = written.take();
        assert!((1..120).contains(&second), "{second} bytes for a second");
        painter.draw(&screen(2)).unwrap();
        assert_eq!(written.take(), 0);
        // Whatever was on it is gone.
        painter.clear(area).unwrap();
        painter.draw(&screen(2)).unwrap();
        assert!(written.take() > 50);
        painter.clear(Rect::new(0, 0, 1, 1)).unwrap();
        painter.draw(&screen(2)).unwrap();
    }
}
