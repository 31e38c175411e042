//! How the kernel numbers and describes processes and threads.

use std::fmt;

/// The kernel's number of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

/// The kernel's number of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a thread was doing at an instant, as the kernel had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// On a processor.
    Running,
    /// Ready to run, and waiting for a processor.
    Queued,
    /// Asleep in a system call.
    Blocked(Syscall),
    /// Asleep outside a system call, as in a page fault.
    Faulting,
    /// Stopped by a signal (job control).
    Halted,
}

impl State {
    /// Whether the thread wants a processor: it has one, or waits for one.
    pub const fn is_runnable(self) -> bool {
        matches!(self, Self::Running | Self::Queued)
    }
}

/// What a thread has to do with the lock that lets one thread at a time
/// interpret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lock {
    /// Nothing.
    #[default]
    Without,
    /// It holds it.
    Held,
    /// It waits for it.
    Wanted,
}

/// A system call, by its number on the target's architecture. Its arguments
/// are in the thread's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall(pub u32);

impl Syscall {
    /// The kernel's name of it, such as `epoll_wait`; `None` for a number that
    /// this program does not know.
    pub fn name(self) -> Option<&'static str> {
        Some(syscalls::Sysno::new(usize::try_from(self.0).ok()?)?.name())
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "syscall {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_have_names() {
        let number = u32::try_from(libc::SYS_epoll_wait).unwrap();
        assert_eq!(Syscall(number).to_string(), "epoll_wait");
        assert_eq!(Syscall(99_999).to_string(), "syscall 99999");
    }
}
