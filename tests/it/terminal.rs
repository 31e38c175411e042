//! A terminal for the program to draw on, and somebody who looks at it.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, poll},
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::{
        signal::{Signal, kill},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};

use crate::target::{PATIENCE, until};

/// What a terminal has been told.
#[derive(Default)]
struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

fn cells(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

/// The kernel tells whoever runs on it.
fn set_size(terminal: &Path, (columns, rows): (u16, u16)) {
    let mut stty = Command::new("stty");
    stty.arg("-F").arg(terminal);
    stty.args(["rows", &rows.to_string(), "cols", &columns.to_string()]);
    assert!(stty.status().unwrap().success());
}

/// A terminal with a program that has it for itself. Dropping it hangs up.
pub(crate) struct Terminal {
    child: Child,
    keyboard: Option<File>,
    path: PathBuf,
    slave: File,
    before: Termios,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    closed: Arc<AtomicBool>,
    stalled: Arc<AtomicBool>,
}

impl Terminal {
    /// Start `command` in a session of its own, on a terminal of that size.
    pub(crate) fn start(command: &Command, (columns, rows): (u16, u16)) -> Self {
        // Who else is started meanwhile must not have it, or nobody could hang
        // up.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname_r(&master).unwrap());
        let mut options = File::options();
        options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
        let slave = options.open(&path).unwrap();
        set_size(&path, (columns, rows));
        let before = tcgetattr(&slave).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        // What the tests run under is of no concern.
        for name in ["NO_COLOR", "LC_ALL", "LC_CTYPE", "COLUMNS", "LINES"] {
            session.env_remove(name);
        }
        session.env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        let child = session.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let parser = vt100::Parser::new(cells(rows), cells(columns), 0);
        let seen = Arc::new((Mutex::new(Seen { parser, bytes: Vec::new() }), Condvar::new()));
        let keyboard = File::from(OwnedFd::from(master));
        let mut master = keyboard.try_clone().unwrap();
        let writes = Arc::clone(&seen);
        let closed = Arc::new(AtomicBool::new(false));
        let hung_up = Arc::clone(&closed);
        let stalled = Arc::<AtomicBool>::default();
        let is_stalled = Arc::clone(&stalled);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !hung_up.load(Ordering::SeqCst) {
                if is_stalled.load(Ordering::SeqCst) {
                    poll(&mut [], 20_u8).unwrap();
                    continue;
                }
                let mut ready = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
                if poll(&mut ready, 20_u8).unwrap() == 0 {
                    continue;
                }
                let Ok(len @ 1..) = master.read(&mut buffer) else { break };
                let mut seen = writes.0.lock().unwrap_or_else(PoisonError::into_inner);
                seen.parser.process(&buffer[..len]);
                seen.bytes.extend_from_slice(&buffer[..len]);
                writes.1.notify_all();
            }
        });
        Self { child, keyboard: Some(keyboard), path, slave, before, seen, closed, stalled }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Look at the screen until `ask` has an answer.
    pub(crate) fn see<T>(&self, what: &str, mut ask: impl FnMut(&vt100::Screen) -> Option<T>) -> T {
        let began = Instant::now();
        let mut seen = self.seen();
        loop {
            if let Some(answer) = ask(seen.parser.screen()) {
                return answer;
            }
            let screen = seen.parser.screen().contents();
            assert!(began.elapsed() < PATIENCE, "waited in vain to see {what} on\n{screen}");
            let waited = self.seen.1.wait_timeout(seen, Duration::from_millis(100));
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Look at the screen until `text` is on it.
    pub(crate) fn shows(&self, text: &str) {
        self.see(text, |screen| screen.contents().contains(text).then_some(()));
    }

    /// Look at the screen until `text` is no more on it.
    pub(crate) fn hides(&self, text: &str) {
        self.see(&format!("no {text}"), |screen| (!screen.contents().contains(text)).then_some(()));
    }

    /// Everything that was written to it so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.seen().bytes.clone()
    }

    /// Type `keys`.
    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Send `signal` to the program.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// The program's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Take nothing any more that is written to it.
    pub(crate) fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    /// Make it another size.
    pub(crate) fn resize(&self, (columns, rows): (u16, u16)) {
        self.seen().parser.screen_mut().set_size(cells(rows), cells(columns));
        set_size(&self.path, (columns, rows));
    }

    /// Nobody sits at it any more. Wait for the end of the program.
    pub(crate) fn hang_up(&mut self) -> ExitStatus {
        self.keyboard = None;
        self.closed.store(true, Ordering::SeqCst);
        until("the program ends", || self.child.try_wait().unwrap())
    }

    /// The modes that it has now.
    fn modes(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    /// Wait for the end of the program, and look whether the modes of the
    /// terminal are as they were.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let status = until("the program ends", || self.child.try_wait().unwrap());
        assert_eq!(self.modes(), self.before, "the modes of the terminal");
        status
    }

    /// Wait for the end of the program, and look whether the terminal is as it
    /// was.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let status = self.ended();
        self.see("the terminal as it was", |screen| {
            let mouse = screen.mouse_protocol_mode();
            let same = !screen.alternate_screen()
                && !screen.hide_cursor()
                && mouse == vt100::MouseProtocolMode::None;
            same.then_some(())
        });
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
