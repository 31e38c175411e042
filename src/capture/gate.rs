//! The gate: has a thread run since it was last looked at, and what is it
//! doing? Answered by two files of `/proc` that are kept open, without
//! touching the thread.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

use crate::{
    snapshot::{Architecture, Register, Registers},
    task::{Pid, State, Syscall, Tid},
};

/// What `/proc/PID/task/TID/schedstat` counts of a thread, in nanoseconds and
/// turns on a processor. While a thread is blocked none of it moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Time on a processor. Of a thread that runs on and on it may lag by up
    /// to a tick of the kernel's.
    pub run: u64,
    /// Time ready to run, waiting for a processor.
    pub wait: u64,
    /// Turns on a processor.
    pub slices: u64,
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time, and not for long")]
pub enum Look {
    /// It runs, or waits for a processor.
    Runnable,
    /// It sleeps, and these of its registers are known: stack pointer, program
    /// counter and, in a system call, the arguments.
    Asleep(State, Registers),
    /// It sleeps, and the kernel does not say where.
    Unknown,
    /// It has ended.
    Ended,
}

/// The files of one thread.
#[derive(Debug)]
pub struct Gate {
    pid: Pid,
    tid: Tid,
    schedstat: Option<File>,
    syscall: Option<File>,
}

impl Gate {
    /// Open them.
    ///
    /// # Errors
    /// When the thread is gone, or this program may open no more files.
    pub fn open(pid: Pid, tid: Tid) -> io::Result<Self> {
        let path = |name: &str| format!("/proc/{pid}/task/{tid}/{name}");
        let open = |name| match File::open(path(name)) {
            Ok(file) => Ok(Some(file)),
            // The thread is there, this file is not, or not for us: another
            // kernel.
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                    fs::metadata(path("stat")).map(|_| None)
                }
                _ => Err(error),
            },
        };
        Ok(Self { pid, tid, schedstat: open("schedstat")?, syscall: open("syscall")? })
    }

    /// The thread's schedule; `None` where the kernel does not count.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn schedule(&self) -> io::Result<Option<Schedule>> {
        let Some(file) = &self.schedstat else { return Ok(None) };
        let mut bytes = [0; 80];
        let len = file.read_at(&mut bytes, 0)?;
        Ok(parse_schedule(bytes.get(..len).unwrap_or_default()))
    }

    /// What the thread is doing.
    pub fn look(&self) -> Look {
        let Some(file) = &self.syscall else { return self.look_at_state() };
        let mut bytes = [0; 192];
        match file.read_at(&mut bytes, 0) {
            Ok(len) => match parse_syscall(bytes.get(..len).unwrap_or_default()) {
                Look::Unknown => self.look_at_state(),
                look => look,
            },
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Look::Ended,
            Err(_) => self.look_at_state(),
        }
    }

    /// What every kernel says: whether it sleeps, but not where.
    fn look_at_state(&self) -> Look {
        let path = format!("/proc/{}/task/{}/stat", self.pid, self.tid);
        match fs::read(path).ok().and_then(|line| state(&line)) {
            Some(b'R') => Look::Runnable,
            Some(b'Z' | b'X') | None => Look::Ended,
            Some(_) => Look::Unknown,
        }
    }
}

/// The state in a line of `stat`. The name before it may itself hold anything,
/// `)` too.
fn state(line: &[u8]) -> Option<u8> {
    match line.rsplit(|&byte| byte == b')').next() {
        Some([b' ', state, ..]) => Some(*state),
        _ => None,
    }
}

/// `run wait slices`. All zeros are what a kernel says that does not count:
/// a thread that was never on a processor has nothing to show either.
fn parse_schedule(line: &[u8]) -> Option<Schedule> {
    let mut numbers = line
        .split(u8::is_ascii_whitespace)
        .filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok());
    let schedule =
        Schedule { run: numbers.next()?, wait: numbers.next()?, slices: numbers.next()? };
    (schedule != Schedule::default()).then_some(schedule)
}

/// `running`, `number a0 a1 a2 a3 a4 a5 sp pc`, or `-1 sp pc` for a thread
/// that is blocked outside a system call (`man 5 proc_pid_syscall`).
fn parse_syscall(line: &[u8]) -> Look {
    if line.starts_with(b"running") {
        return Look::Runnable;
    }
    let Ok(line) = std::str::from_utf8(line) else { return Look::Unknown };
    let mut words = line.split_ascii_whitespace();
    let Some(number) = words.next().and_then(|word| word.parse::<i64>().ok()) else {
        return Look::Unknown;
    };
    let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let values: Vec<u64> = words.map_while(hex).collect();
    let (arguments, [sp, pc]) = match (values.as_slice(), u32::try_from(number)) {
        ([arguments @ .., sp, pc], Ok(_)) if arguments.len() == 6 => (arguments, [*sp, *pc]),
        ([sp, pc], Err(_)) => (&[][..], [*sp, *pc]),
        _ => return Look::Unknown,
    };
    if pc == 0 {
        // A thread that is about to be gone has no user registers any more.
        return Look::Ended;
    }
    let mut registers = Registers::unknown();
    registers.set(Architecture::HOST.sp(), sp);
    registers.set(Architecture::HOST.pc(), pc);
    for (register, &value) in ARGUMENTS.iter().zip(arguments) {
        registers.set(*register, value);
    }
    let state = match u32::try_from(number) {
        Ok(number) => State::Blocked(Syscall(number)),
        Err(_) => State::Faulting,
    };
    Look::Asleep(state, registers)
}

/// The registers that hold a system call's arguments: `man 2 syscall`.
pub const ARGUMENTS: [Register; 6] = match Architecture::HOST {
    // rdi rsi rdx r10 r8 r9
    Architecture::X86_64 => {
        [Register(5), Register(4), Register(1), Register(10), Register(8), Register(9)]
    }
    Architecture::Aarch64 => {
        [Register(0), Register(1), Register(2), Register(3), Register(4), Register(5)]
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_syscall_are_read() {
        assert_eq!(parse_syscall(b"running\n"), Look::Runnable);
        let line = b"232 0x4 0x7f01 0x40 0xffffffffffffffff 0x0 0x8 0x7ffc10 0x7f9a20\n";
        let Look::Asleep(State::Blocked(Syscall(232)), registers) = parse_syscall(line) else {
            panic!("{:?}", parse_syscall(line));
        };
        assert_eq!(registers.get(Architecture::HOST.sp()), Some(0x7ffc10));
        assert_eq!(registers.get(Architecture::HOST.pc()), Some(0x7f9a20));
        assert_eq!(registers.get(ARGUMENTS[3]), Some(u64::MAX));
        let Look::Asleep(State::Faulting, registers) = parse_syscall(b"-1 0x10 0x20\n") else {
            panic!();
        };
        assert_eq!(registers.iter().count(), 2);
        assert_eq!(parse_syscall(b"-1 0x0 0x0\n"), Look::Ended);
        for odd in [&b""[..], b"\xff", b"7", b"7 0x1 0x2", b"x 0x1 0x2", b"-1 1 2"] {
            assert_eq!(parse_syscall(odd), Look::Unknown, "{odd:?}");
        }
    }

    #[test]
    fn a_state_is_found_behind_any_name() {
        assert_eq!(state(b"7 (a) R (b)) S 1 7"), Some(b'S'));
        assert_eq!(state(b"7 (a) T 1"), Some(b'T'));
        assert_eq!(state(b"7 (a)"), None);
        assert_eq!(state(b""), None);
    }

    #[test]
    fn a_kernel_that_does_not_count_is_not_believed() {
        let schedule = Schedule { run: 12, wait: 3, slices: 4 };
        assert_eq!(parse_schedule(b"12 3 4\n"), Some(schedule));
        for odd in [&b"0 0 0\n"[..], b"", b"1 2", b"a b c"] {
            assert_eq!(parse_schedule(odd), None, "{odd:?}");
        }
    }
}
