//! Snapshots of live processes, taken as plainly as can be: these tests are
//! about what is made of a snapshot, not about how it is taken.

use std::{fs, io::IoSliceMut, path::Path, thread, time::Instant};

use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        uio::{RemoteIoVec, process_vm_readv},
    },
    unistd::Pid as Number,
};
use spy::{
    memory::{Address, Fault, Memory, Piece},
    snapshot::{
        Architecture, Mapping, Process, Recorded, Register, Registers, Root, Thread, maps,
        without_file,
    },
    task::{Pid, State, Tid},
};

use super::raw::{self, Event};
use crate::target::{PATIENCE, until};

/// The most of one stack that is copied.
const MOST: u64 = 8 << 20;

/// Stop `pid` as an operator would, and wait until all its threads have.
pub(super) fn halt(pid: i32) {
    kill(Number::from_raw(pid), Signal::SIGSTOP).unwrap();
    let halted = || threads(pid).iter().all(|&tid| state(pid, tid) == Some('T'));
    until("every thread is halted", || halted().then_some(()));
}

/// Let `pid` run again, and wait until it has.
pub(super) fn go_on(pid: i32) {
    let before: u64 = threads(pid).iter().map(|&tid| run_time(pid, tid)).sum();
    kill(Number::from_raw(pid), Signal::SIGCONT).unwrap();
    let now = || threads(pid).iter().map(|&tid| run_time(pid, tid)).sum::<u64>();
    until("it runs again", || (now() > before).then_some(()));
}

/// Nanoseconds that a thread has run.
pub(super) fn run_time(pid: i32, tid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat"));
    text.ok().and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or_default()
}

/// The letter of `/proc/PID/task/TID/stat`.
pub(super) fn state(pid: i32, tid: i32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

pub(super) fn threads(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut tids: Vec<i32> =
        tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
    tids.sort_unstable();
    tids
}

/// A thread that we hold. Let go when dropped; one of a halted process stays
/// halted.
pub(super) struct Held(Number);

impl Held {
    /// Hold `tid`; `None` if it is gone, or does not stop.
    pub(super) fn new(tid: i32) -> Option<Self> {
        let number = Number::from_raw(tid);
        ptrace::seize(number, ptrace::Options::empty()).ok()?;
        ptrace::interrupt(number).ok()?;
        let limit = Instant::now() + PATIENCE;
        while Instant::now() < limit {
            match raw::poll(number) {
                Event::Stopped => return Some(Self(number)),
                // A signal came first: hand it on.
                Event::Signal(signal) => raw::go_on(number, signal),
                Event::Nothing => thread::yield_now(),
                Event::Gone => return None,
            }
        }
        None
    }

    pub(super) fn registers(&self) -> Registers {
        let raw = ptrace::getregs(self.0).unwrap();
        let values = [
            raw.rax, raw.rdx, raw.rcx, raw.rbx, raw.rsi, raw.rdi, raw.rbp, raw.rsp, raw.r8, raw.r9,
            raw.r10, raw.r11, raw.r12, raw.r13, raw.r14, raw.r15, raw.rip,
        ];
        let mut registers = Registers::unknown();
        for (number, value) in (0..).zip(values) {
            registers.set(Register(number), value);
        }
        registers
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have died meanwhile; then there is nothing to let go.
        let _ = ptrace::detach(self.0, None);
    }
}

/// The memory of a process as it is now.
#[derive(Clone, Copy)]
pub(crate) struct Live(pub(crate) i32);

impl Memory for Live {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let (fault, len) = (Fault { at, len: into.len() }, into.len());
        let from = RemoteIoVec { base: usize::try_from(at.0).map_err(|_| fault)?, len };
        let got = process_vm_readv(Number::from_raw(self.0), &mut [IoSliceMut::new(into)], &[from]);
        if got == Ok(len) { Ok(()) } else { Err(fault) }
    }
}

/// Recorded memory, and the live one where that ends: a signal handler may
/// have a stack of its own, beside the one that was copied.
pub(super) struct Completed<'a> {
    recorded: Recorded<'a>,
    live: Live,
}

impl<'a> Completed<'a> {
    pub(super) fn new(process: &'a Process, thread: &'a Thread) -> Self {
        let recorded = Recorded::new(process, thread);
        Self { recorded, live: Live(process.pid.0) }
    }
}

impl Memory for Completed<'_> {
    fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        match self.recorded.read(at, into) {
            Ok(()) => Ok(()),
            Err(_) => self.live.read(at, into),
        }
    }
}

/// What is mapped in `pid`.
pub(super) fn mappings(pid: i32) -> Vec<Mapping> {
    maps::parse(&fs::read(format!("/proc/{pid}/maps")).unwrap())
}

/// Where the files of `pid` are.
pub(super) fn root(pid: i32) -> Root {
    let process = Path::new("/proc").join(pid.to_string());
    Root { directory: process.join("root"), map_files: Some(process.join("map_files")) }
}

/// `pid` with its memory that is no thread's, and no threads yet.
pub(super) fn process(pid: i32) -> Process {
    let mappings = mappings(pid);
    let pieces = without_file(&mappings)
        .into_iter()
        .filter_map(|range| copy(pid, range.start.0, range.end.0))
        .collect();
    Process { pid: Pid(pid), mappings, root: root(pid), threads: Vec::new(), pieces }
}

fn copy(pid: i32, start: u64, end: u64) -> Option<Piece> {
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(start).min(MOST)).ok()?];
    Live(pid).read(Address(start), &mut bytes).ok()?;
    Some(Piece { start: Address(start), bytes })
}

/// The registers of a held thread, and its stack from 256 bytes below the
/// stack pointer to the end of the mapping, but not more than `most` bytes.
pub(super) fn thread(process: &Process, tid: i32, held: &Held, most: u64) -> Thread {
    let registers = held.registers();
    let sp = registers.get(Architecture::HOST.sp()).unwrap();
    let mapping = process.mappings.iter().find(|mapping| mapping.range.contains(&Address(sp)));
    let stack = mapping.and_then(|mapping| {
        let start = sp.saturating_sub(256).max(mapping.range.start.0);
        copy(process.pid.0, start, mapping.range.end.0.min(start.saturating_add(most)))
    });
    let name = fs::read_to_string(format!("/proc/{}/task/{tid}/comm", process.pid));
    Thread {
        tid: Tid(tid),
        name: name.unwrap_or_default().trim_end().to_owned(),
        state: State::Halted,
        registers,
        pieces: stack.into_iter().collect(),
    }
}

/// Every thread of a halted process.
pub(super) fn halted(pid: i32) -> Process {
    let mut whole = process(pid);
    for tid in threads(pid) {
        let held = Held::new(tid).expect("the thread can be held");
        whole.threads.push(thread(&whole, tid, &held, MOST));
    }
    whole
}
